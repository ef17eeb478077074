import hashlib
import json
import math
import os
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lenet_mnist.config import Activation, Config, ModelConfig, TrainingConfig
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.errors import DataError
from lenet_mnist.model.lenet import LeNet, initialise
from lenet_mnist.training.checkpoint import (
    TrainedNetwork,
    parse_state,
    read_network,
    state_bytes,
    weights_digest,
    write_network,
)
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.state import TrainState

CPU = torch.device("cpu")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": "sgd"},
    "plain": {"optimizer": "sgd", "momentum": 0.0},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "adamw": {"optimizer": "adamw", "learning_rate": 1e-3},
}
Edit = Callable[[dict[str, Tensor]], object]


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    """96 training images and 50 for validation: 3 updates an epoch."""
    train_set, val_set = small.train, small.val
    return TrainVal(
        TrainSet(train_set.images[:96], train_set.labels[:96], train_set.indices[:96]),
        ValSet(val_set.images[:50], val_set.labels[:50], val_set.indices[:50]),
        small.class_names,
        small.normalization,
        small.fingerprint,
    )


def config_of(optimizer: str, activation: Activation = Activation.TANH) -> Config:
    training = TrainingConfig(max_epochs=2, batch_size=32, **OPTIMIZERS[optimizer])
    return Config(model=ModelConfig(activation=activation), training=training)


def trained_state(config: Config, data: TrainVal, num_steps: int = 5) -> TrainState:
    """A state in the middle of the second epoch."""
    state = TrainState.start(config, Context(data))
    train(config, Context(data), state, lambda row: row.step == num_steps)
    return state


def write_state(path: Path, state: TrainState) -> None:
    path.write_bytes(state_bytes(state))


def read_state(path: Path, state: TrainState) -> None:
    saved = parse_state(path.read_bytes(), path, state)
    state.restore(saved.tensors, saved.scalars, saved.histories)


def make_network(activation: Activation = Activation.RELU, num_classes: int = 10, image_size: int = 28) -> LeNet:
    return initialise(LeNet(activation, num_classes, image_size), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def network_file(directory: Path) -> bytes:
    path = directory / "whole.safetensors"
    names = tuple(str(digit) for digit in range(10))
    write_network(path, TrainedNetwork(make_network(), Normalization(0.1, 0.3), names, 1))
    return path.read_bytes()


@pytest.fixture(scope="module")
def state_file(directory: Path, tiny: TrainVal) -> bytes:
    path = directory / "state.safetensors"
    write_state(path, trained_state(config_of("adam"), tiny))
    return path.read_bytes()


def rewrite(
    path: Path,
    content: bytes,
    edit: Edit = lambda _tensors: None,
    header: Callable[[Any], Any] = lambda text: text,
    is_signed: bool = False,
) -> None:
    """Write `content` with other tensors or another header, as a valid safetensors file; signed as networks are."""
    path.write_bytes(content)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = json.loads(file.metadata()["lenet_mnist"])
    edit(tensors)
    text = header(text)
    if is_signed:
        rest = json.dumps({key: text[key] for key in text if key != "sha256"}, separators=(",", ":"))
        text["sha256"] = hashlib.sha256(f"{rest}\n{weights_digest(tensors)}".encode()).hexdigest()
    save_file(tensors, path, metadata={"lenet_mnist": json.dumps(text)})


def assert_refused(path: Path) -> str:
    """Ask for the network, and return what the error says beside the path."""
    with pytest.raises(DataError) as refusal:
        read_network(path)
    assert str(path) in str(refusal.value)
    return str(refusal.value).replace(str(path), "")


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize(("num_classes", "image_size"), [(10, 28), (2, 12), (26, 32)])
def test_a_network_comes_back_with_all_that_belongs_to_it(
    tmp_path: Path, activation: Activation, num_classes: int, image_size: int
) -> None:
    network = make_network(activation, num_classes, image_size)
    names = tuple(f"class {k} ·é中" for k in range(num_classes))
    path = tmp_path / "model.safetensors"
    write_network(path, TrainedNetwork(network, Normalization(0.1306604762738429, 0.30810780385646264), names, 7))
    read = read_network(path)
    assert weights_digest(read.network.state_dict()) == weights_digest(network.state_dict())
    assert read.normalization == Normalization(0.1306604762738429, 0.30810780385646264)
    assert read.class_names == names
    assert read.epoch == 7
    assert (read.network.activation, read.network.num_classes, read.network.image_size) == (
        activation,
        num_classes,
        image_size,
    )


def test_a_network_that_was_read_answers_the_same(tmp_path: Path, small: TrainVal) -> None:
    network = make_network(Activation.TANH)
    write_network(tmp_path / "n", TrainedNetwork(network, small.normalization, small.class_names, 1))
    images = small.normalization.apply(small.val.images[:50])
    assert torch.equal(read_network(tmp_path / "n").network(images), network(images))


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    trained = TrainedNetwork(make_network(), Normalization(0.1, 0.3), tuple("0123456789"), 1)
    write_network(tmp_path / "a", trained)
    write_network(tmp_path / "b", trained)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in assert_refused(tmp_path / "absent.safetensors")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in assert_refused(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in assert_refused(tmp_path / "pipe")


def test_a_file_larger_than_any_of_ours_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(10**10)
    assert "67,108,864" in assert_refused(path)


@pytest.mark.parametrize("num_bytes", [0, 1, 7, 8, 9, 500, 100_000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, network_file: bytes, num_bytes: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(network_file[:num_bytes])
    assert "damaged" in assert_refused(path)


def test_a_file_with_something_behind_it_is_refused(tmp_path: Path, network_file: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(network_file + b"\0")
    assert_refused(path)


@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(directory: Path, content: bytes) -> None:
    path = directory / "random"
    path.write_bytes(content)
    assert_refused(path)


@given(data=st.data())
def test_a_flipped_bit_is_noticed(directory: Path, network_file: bytes, data: st.DataObject) -> None:
    end_of_header = 8 + int.from_bytes(network_file[:8], "little")
    place = data.draw(st.integers(0, end_of_header - 1) | st.integers(0, len(network_file) - 1))
    damaged = bytearray(network_file)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    path = directory / "flipped"
    path.write_bytes(damaged)
    assert_refused(path)


def set_to(name: str, value: Tensor) -> Edit:
    return lambda tensors: tensors.__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda tensors: tensors.pop("f6.bias"), "the tensor f6.bias is missing"),
        (set_to("c2.weight", torch.zeros(2)), "c2.weight"),
        (set_to("c1.weight", torch.zeros(6, 1, 3, 3)), r"c1.weight is torch.float32 (6, 1, 3, 3), expected"),
        (set_to("output.bias", torch.zeros(9)), r"(9,), expected torch.float32 (10,)"),
        (set_to("output.bias", torch.zeros(10, dtype=torch.float64)), "torch.float64"),
        (set_to("output.bias", torch.zeros(10, dtype=torch.float16)), "torch.float16"),
        (set_to("c5.bias", torch.full((120,), math.nan)), "c5.bias holds a value that is not finite"),
        (set_to("c5.bias", torch.tensor([0.0] * 119 + [math.inf])), "c5.bias holds a value that is not finite"),
        (lambda tensors: tensors.clear(), "missing"),
    ],
    ids=["missing", "extra", "kernel", "units", "double", "half", "nan", "one infinity", "empty"],
)
def test_tensors_that_are_not_those_of_a_lenet_are_refused(
    tmp_path: Path, network_file: bytes, edit: Edit, says: str
) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(path, network_file, edit)
    assert says in assert_refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 1},
        {"epoch": 0},
        {"class_names": [*"012345678", "\x1b[2J"]},
        {"class_names": [*"012345678", ""]},
        {"class_names": [*"012345678", "9" * 65]},
        {"activation": "softplus"},
        {"class_names": ["0"]},
        {"class_names": "0123456789"},
        {"class_names": ["a", "b"]},
        {"image_size": 11},
        {"image_size": 10**9},
        {"image_size": 64},
        {"mean": "x"},
        {"mean": math.nan},
        {"std": 0.0},
        {"std": -1.0},
        {"std": math.inf},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, network_file: bytes, change: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(path, network_file, header=lambda header: header | change, is_signed=True)
    assert_refused(path)


@pytest.mark.parametrize("change", [{"mean": 0.5}, {"epoch": 2}, {"class_names": list("abcdefghij")}], ids=str)
def test_another_header_is_taken_only_with_its_own_digest(
    tmp_path: Path, network_file: bytes, change: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(path, network_file, header=lambda header: header | change)
    assert "SHA-256" in assert_refused(path)
    rewrite(path, network_file, header=lambda header: header | change, is_signed=True)
    read_network(path)


def test_other_weights_are_taken_only_with_their_own_digest(tmp_path: Path, network_file: bytes) -> None:
    path = tmp_path / "model.safetensors"
    edit = set_to("output.bias", torch.arange(10.0))
    rewrite(path, network_file, edit)
    assert "SHA-256" in assert_refused(path)
    rewrite(path, network_file, edit, is_signed=True)
    assert read_network(path).network.state_dict()["output.bias"].tolist() == list(range(10))


@pytest.mark.parametrize("field", ["activation", "image_size", "class_names", "mean", "std", "epoch", "sha256"])
def test_a_header_without_one_of_its_fields_is_refused(tmp_path: Path, network_file: bytes, field: str) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(path, network_file, header=lambda header: {key: header[key] for key in header if key != field})
    assert_refused(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"lenet_mnist": ""}, {"lenet_mnist": "[]"}])
def test_weights_without_our_header_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file(make_network().state_dict(), path, metadata=metadata)
    assert_refused(path)


def test_a_state_is_not_taken_for_a_network(tmp_path: Path, state_file: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(state_file)
    assert_refused(path)


def test_a_digest_does_not_depend_on_the_order_of_the_names() -> None:
    weights = make_network().state_dict()
    assert weights_digest(dict(reversed(weights.items()))) == weights_digest(weights)


def test_a_digest_does_not_depend_on_the_layout_in_memory() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"w": matrix.t().contiguous().t()}) == weights_digest({"w": matrix})


@pytest.mark.parametrize("name", ["c1.weight", "c5.weight", "output.bias"])
def test_a_digest_changes_with_one_bit(name: str) -> None:
    weights = make_network().state_dict()
    before = weights_digest(weights)
    weights[name].view(torch.int32).flatten()[-1] ^= 1
    assert weights_digest(weights) != before


def test_a_digest_changes_with_names_shapes_and_types() -> None:
    digests = [
        weights_digest({"a": torch.zeros(4)}),
        weights_digest({"b": torch.zeros(4)}),
        weights_digest({"a": torch.zeros(2, 2)}),
        weights_digest({"a": torch.zeros(2, dtype=torch.float64)}),
        weights_digest({"a": torch.zeros(2), "b": torch.zeros(2)}),
        weights_digest({}),
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("num_steps", [0, 2, 5])
def test_a_state_comes_back_whole(tmp_path: Path, tiny: TrainVal, optimizer: str, num_steps: int) -> None:
    config = config_of(optimizer)
    state = trained_state(config, tiny, num_steps) if num_steps else TrainState.start(config, Context(tiny))
    write_state(tmp_path / "state", state)
    restored = TrainState.start(config.model_copy(update={"seed": 99}), Context(tiny))
    read_state(tmp_path / "state", restored)
    assert restored.scalars() == state.scalars()
    assert weights_digest(restored.tensors()) == weights_digest(state.tensors())
    write_state(tmp_path / "again", restored)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "state").read_bytes()


def test_a_state_before_the_first_epoch_has_no_best_network(tmp_path: Path, tiny: TrainVal) -> None:
    config = config_of("momentum")
    write_state(tmp_path / "state", trained_state(config, tiny, 2))
    restored = TrainState.start(config, Context(tiny))
    read_state(tmp_path / "state", restored)
    assert restored.kept_network() is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [(a, b) for a in OPTIMIZERS for b in OPTIMIZERS if OPTIMIZERS[a]["optimizer"] != OPTIMIZERS[b]["optimizer"]],
)
def test_the_state_of_another_optimizer_is_refused(tmp_path: Path, tiny: TrainVal, written: str, expected: str) -> None:
    path = tmp_path / "state"
    write_state(path, trained_state(config_of(written), tiny))
    with pytest.raises(DataError, match="state"):
        read_state(path, TrainState.start(config_of(expected), Context(tiny)))


def test_the_state_of_another_network_is_refused(tmp_path: Path, tiny: TrainVal) -> None:
    path = tmp_path / "state"
    other = TrainState.start(config_of("adam"), Context(replace(tiny, class_names=tuple(string.ascii_lowercase))))
    write_state(path, other)
    with pytest.raises(DataError, match=r"output\.(bias|weight)"):
        read_state(path, TrainState.start(config_of("adam"), Context(tiny)))


def refused_state(path: Path, tiny: TrainVal) -> None:
    with pytest.raises(DataError) as refusal:
        read_state(path, TrainState.start(config_of("adam"), Context(tiny)))
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("part", ["network.c5.weight", "best.c5.weight", "optimizer.exp_avg"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.__setitem__(name, torch.zeros(3, 3)),
        lambda tensors, name: tensors[name].view(-1)[0].fill_(math.nan),
        lambda tensors, name: tensors.__setitem__(f"{name}.more", torch.zeros(1)),
    ],
    ids=["missing", "shape", "nan", "extra"],
)
def test_damaged_tensors_of_a_state_are_refused(
    tmp_path: Path, tiny: TrainVal, state_file: bytes, part: str, damage: Callable[[dict[str, Tensor], str], object]
) -> None:
    path = tmp_path / "state"
    rewrite(path, state_file, lambda tensors: damage(tensors, part))
    refused_state(path, tiny)


@pytest.mark.parametrize("name", ["something", "other.c1.weight", "optimizer.x.step", "optimizer.99.step"])
def test_tensors_that_no_state_has_are_refused(tmp_path: Path, tiny: TrainVal, state_file: bytes, name: str) -> None:
    path = tmp_path / "state"
    rewrite(path, state_file, set_to(name, torch.zeros(1)))
    refused_state(path, tiny)


@pytest.mark.parametrize("field", ["epoch", "batches_done", "step", "lr", "seconds", "tally", "stopping", "plateau"])
def test_a_state_without_one_of_its_values_is_refused(
    tmp_path: Path, tiny: TrainVal, state_file: bytes, field: str
) -> None:
    path = tmp_path / "state"
    rewrite(path, state_file, header=lambda scalars: {key: scalars[key] for key in scalars if key != field})
    refused_state(path, tiny)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "two"},
        {"epoch": 0},
        {"batches_done": -1},
        {"batches_done": 1.5},
        {"step": None},
        {"lr": "fast"},
        {"tally": []},
        {"tally": {"num_images": "many"}},
        {"stopping": {}},
        {"plateau": {"unknown": 1}},
    ],
    ids=str,
)
def test_a_state_with_an_impossible_value_is_refused(
    tmp_path: Path, tiny: TrainVal, state_file: bytes, change: dict[str, Any]
) -> None:
    path = tmp_path / "state"
    rewrite(path, state_file, header=lambda scalars: scalars | change)
    refused_state(path, tiny)


@pytest.mark.parametrize("num_bytes", [0, 8, 1000, 300_000, -1])
def test_a_truncated_state_is_refused(tmp_path: Path, tiny: TrainVal, state_file: bytes, num_bytes: int) -> None:
    path = tmp_path / "state"
    path.write_bytes(state_file[:num_bytes])
    refused_state(path, tiny)


def test_a_network_is_not_taken_for_a_state(tmp_path: Path, tiny: TrainVal, network_file: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(network_file)
    refused_state(path, tiny)
