"""Networks and states as files: they come back whole, and what is damaged or not ours is refused by name."""

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
from safetensors.torch import load, save
from tests.tiny import config_of, restored, saved_and_restored, start, trained
from torch import Tensor

from lenet_mnist.config import Activation, Config
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.model.lenet import LeNet, initialise
from lenet_mnist.training.checkpoint import (
    TrainedNetwork,
    network_bytes,
    parse_network,
    read_network,
    state_bytes,
    weights_digest,
    write_network,
)
from lenet_mnist.training.state import TrainState

CONFIGS: dict[str, Config] = {
    "momentum": config_of(optimizer="sgd"),
    "plain": config_of(optimizer="sgd", momentum=0.0),
    "adam": config_of(optimizer="adam", learning_rate=1e-3),
    "adamw": config_of(optimizer="adamw", learning_rate=1e-3),
    "muon": config_of(optimizer="muon"),
}
PATH = Path("model.safetensors")
DIGITS = tuple(string.digits)
Edit = Callable[[dict[str, Tensor]], object]


def make_network(activation: Activation = Activation.RELU, num_classes: int = 10, image_size: int = 28) -> LeNet:
    return initialise(LeNet(activation, num_classes, image_size), torch.Generator().manual_seed(0))


def trained_state(config: Config, data: TrainVal, num_steps: int = 10) -> TrainState:
    """A state in the middle of the second epoch."""
    return trained(config, data, stop=lambda row: row.step == num_steps).state


NETWORK = network_bytes(TrainedNetwork(make_network(), Normalization(0.1, 0.3), DIGITS, 1))


@pytest.fixture(scope="module")
def state_file(tiny: TrainVal) -> bytes:
    return state_bytes(trained_state(CONFIGS["adam"], tiny))


def edited(
    content: bytes,
    edit: Edit = lambda _tensors: None,
    header: Callable[[dict[str, Any]], dict[str, Any]] = lambda text: text,
    is_signed: bool = False,
) -> bytes:
    """Return `content` with other tensors or another header, as a valid safetensors file; signed as networks are."""
    tensors = load(content)
    length = int.from_bytes(content[:8], "little")
    text = header(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["lenet_mnist"]))
    edit(tensors)
    if is_signed:
        rest = json.dumps({key: text[key] for key in text if key != "sha256"}, separators=(",", ":"))
        text["sha256"] = hashlib.sha256(f"{rest}\n{weights_digest(tensors)}".encode()).hexdigest()
    return save(tensors, metadata={"lenet_mnist": json.dumps(text)})


def set_to(name: str, value: Tensor) -> Edit:
    return lambda tensors: tensors.__setitem__(name, value)


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda header: {other: header[other] for other in header if other != key}


def assert_refused(content: bytes, names: str = "") -> None:
    with pytest.raises(DataError) as refusal:
        parse_network(content, PATH)
    assert str(PATH) in str(refusal.value)
    assert names in str(refusal.value)


# Networks


@pytest.mark.parametrize("activation", Activation)
def test_a_network_comes_back_with_all_that_belongs_to_it(tmp_path: Path, activation: Activation) -> None:
    for num_classes, image_size in ((10, 28), (2, 12), (26, 32)):
        network = make_network(activation, num_classes, image_size)
        names = tuple(f"class {k} ·é中" for k in range(num_classes))
        normalization = Normalization(0.1306604762738429, 0.30810780385646264)
        for name in ("one", "other"):
            write_network(tmp_path / name, TrainedNetwork(network, normalization, names, 7))
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
        read = read_network(tmp_path / "one")
        assert weights_digest(read.network.state_dict()) == weights_digest(network.state_dict())
        assert (read.normalization, read.class_names, read.epoch) == (normalization, names, 7)
        found = (read.network.activation, read.network.num_classes, read.network.image_size)
        assert found == (activation, num_classes, image_size)
        images = torch.randn(5, 1, image_size, image_size)
        assert torch.equal(read.network(images), network(images))


def test_what_is_no_file_of_ours_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**10)
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe", tmp_path / "huge"):
        with pytest.raises(DataError, match=path.name):
            read_network(path)


def test_a_truncated_file_and_one_with_something_behind_it_are_refused(tiny: TrainVal, state_file: bytes) -> None:
    for num_bytes in (0, 1, 7, 8, 9, 500, 100_000, -1):
        assert_refused(NETWORK[:num_bytes], "damaged")
        assert_refused_state(state_file[:num_bytes], tiny)
    assert_refused(NETWORK + b"\0")


@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    assert_refused(content)


@given(data=st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    end_of_header = 8 + int.from_bytes(NETWORK[:8], "little")
    place = data.draw(st.integers(0, end_of_header - 1) | st.integers(0, len(NETWORK) - 1))
    damaged = bytearray(NETWORK)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    assert_refused(bytes(damaged))


def test_tensors_that_are_not_those_of_a_lenet_are_refused_by_name() -> None:
    edits: list[tuple[Edit, str]] = [
        (lambda tensors: tensors.pop("f6.bias"), "f6.bias"),
        (set_to("c2.weight", torch.zeros(2)), "c2.weight"),
        (set_to("c1.weight", torch.zeros(6, 1, 3, 3)), "c1.weight is torch.float32 (6, 1, 3, 3)"),
        (set_to("output.bias", torch.zeros(9)), "(9,), expected torch.float32 (10,)"),
        (set_to("output.bias", torch.zeros(10, dtype=torch.float64)), "torch.float64"),
        (set_to("output.bias", torch.zeros(10, dtype=torch.float16)), "torch.float16"),
        (set_to("c5.bias", torch.full((120,), math.nan)), "c5.bias"),
        (set_to("c5.bias", torch.tensor([0.0] * 119 + [math.inf])), "c5.bias"),
        (lambda tensors: tensors.clear(), "c1.bias"),
    ]
    for edit, names in edits:
        assert_refused(edited(NETWORK, edit, is_signed=True), names)


def test_a_header_that_is_not_ours_is_refused(state_file: bytes) -> None:
    fields = ("activation", "image_size", "class_names", "mean", "std", "epoch", "sha256")
    changes: list[dict[str, Any]] = [
        {"schema_version": 1},
        {"epoch": 0},
        *({"class_names": [*"012345678", name]} for name in ("\x1b[2J", "", "9" * 65)),
        *({"class_names": names} for names in (["0"], "0123456789", ["a", "b"])),
        *({"image_size": size} for size in (11, 10**9, 64)),
        *({"mean": mean} for mean in ("x", math.nan)),
        *({"std": std} for std in (0.0, -1.0, math.inf)),
        {"activation": "softplus"},
        {"unknown": 1},
    ]
    for change in changes:
        assert_refused(edited(NETWORK, header=lambda header, change=change: header | change, is_signed=True))
    for field in fields:
        assert_refused(edited(NETWORK, header=without(field), is_signed=field != "sha256"))
    for metadata in (None, {"format": "pt"}, {"lenet_mnist": ""}, {"lenet_mnist": "[]"}):
        assert_refused(save(make_network().state_dict(), metadata=metadata))
    assert_refused(state_file)


def test_another_header_or_other_weights_are_taken_only_with_their_own_digest() -> None:
    weights = set_to("output.bias", torch.arange(10.0))
    for change in ({"mean": 0.5}, {"epoch": 2}, {"class_names": list("abcdefghij")}, weights):
        options = {"header": lambda header, change=change: header | change} if change != weights else {"edit": weights}
        assert_refused(edited(NETWORK, **options), "SHA-256")
        read = parse_network(edited(NETWORK, **options, is_signed=True), PATH)
    assert read.network.state_dict()["output.bias"].tolist() == list(range(10))


def test_a_digest_is_that_of_names_shapes_types_and_values() -> None:
    weights = make_network().state_dict()
    before = weights_digest(weights)
    assert weights_digest(dict(reversed(weights.items()))) == before  # whatever their order
    matrix = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"w": matrix.t().contiguous().t()}) == weights_digest({"w": matrix})  # or layout in memory
    for name in ("c1.weight", "c5.weight", "output.bias"):
        weights[name].view(torch.int32).flatten()[-1] ^= 1
        assert weights_digest(weights) != before
        weights[name].view(torch.int32).flatten()[-1] ^= 1
    digests = [
        weights_digest({"a": torch.zeros(4)}),
        weights_digest({"b": torch.zeros(4)}),
        weights_digest({"a": torch.zeros(2, 2)}),
        weights_digest({"a": torch.zeros(2, dtype=torch.float64)}),
        weights_digest({"a": torch.zeros(2), "b": torch.zeros(2)}),
        weights_digest({}),
    ]
    assert len(set(digests)) == len(digests)


# States


def assert_refused_state(content: bytes, data: TrainVal, names: str = "") -> None:
    with pytest.raises(DataError) as refusal:
        restored(content, CONFIGS["adam"], data)
    assert "the state" in str(refusal.value)
    assert names in str(refusal.value)


@pytest.mark.parametrize("optimizer", CONFIGS)
def test_a_state_comes_back_whole(tiny: TrainVal, optimizer: str) -> None:
    config = CONFIGS[optimizer]
    for num_steps in (0, 2, 10):
        state = trained_state(config, tiny, num_steps) if num_steps else start(config, tiny)
        again = saved_and_restored(state, config.model_copy(update={"seed": 99}), tiny)
        assert again.scalars() == state.scalars()
        assert weights_digest(again.tensors()) == weights_digest(state.tensors())
        assert state_bytes(again) == state_bytes(state)
        assert (again.kept_network() is None) == (num_steps < 7)


def test_the_state_of_another_optimizer_or_network_is_refused(tiny: TrainVal) -> None:
    for name in CONFIGS.keys() - {"adam"}:
        assert_refused_state(state_bytes(start(CONFIGS[name], tiny)), tiny)
    more_classes = start(CONFIGS["adam"], replace(tiny, class_names=tuple(string.ascii_lowercase)))
    assert_refused_state(state_bytes(more_classes), tiny, "output.")


def test_damaged_tensors_of_a_state_are_refused(tiny: TrainVal, state_file: bytes) -> None:
    for part in ("network.c5.weight", "best.c5.weight", "optimizer.exp_avg"):
        edits: tuple[Edit, ...] = (
            lambda tensors, part=part: tensors.pop(part),
            set_to(part, torch.zeros(3, 3)),
            lambda tensors, part=part: tensors[part].view(-1)[0].fill_(math.nan),
            set_to(f"{part}.more", torch.zeros(1)),
        )
        for edit in edits:
            assert_refused_state(edited(state_file, edit), tiny, part)
    for name in ("something", "other.c1.weight", "optimizer.x.step", "optimizer.99.step"):
        assert_refused_state(edited(state_file, set_to(name, torch.zeros(1))), tiny, name)
    for name in ("rows.history", "rows.steps", "rows.probe"):
        assert_refused_state(edited(state_file, lambda tensors, name=name: tensors.pop(name)), tiny)
        assert_refused_state(edited(state_file, set_to(name, torch.full((5,), 255, dtype=torch.uint8))), tiny)


def test_a_state_with_a_value_that_is_missing_or_impossible_is_refused(tiny: TrainVal, state_file: bytes) -> None:
    for field in ("epoch", "batches_done", "step", "lr", "seconds", "tally", "stopping", "plateau"):
        assert_refused_state(edited(state_file, header=without(field)), tiny, field)
    changes: list[dict[str, Any]] = [
        *({"epoch": epoch} for epoch in ("two", 0)),
        *({"batches_done": number} for number in (-1, 1.5)),
        *({"tally": tally} for tally in ([], {"num_images": "many"})),
        *({"step": None}, {"lr": "fast"}, {"stopping": {}}, {"plateau": {"unknown": 1}}),
    ]
    for change in changes:
        content = edited(state_file, header=lambda header, change=change: header | change)
        assert_refused_state(content, tiny, next(iter(change)))
    assert_refused_state(NETWORK, tiny)
