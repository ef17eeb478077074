"""The ONNX file: what it says of itself, that two runtimes compute the network from it, and how that is checked."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from tests.inference.networks import network_of

from lenet_mnist.config import Activation
from lenet_mnist.data.decoding import Pixels
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.errors import CheckFailedError, DataError
from lenet_mnist.inference.onnx_file import BATCH_SIZES, TOLERANCE, Runtime, compare, onnx_content, open_onnx
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest

Logits = npt.NDArray[np.float32]
NUM_IMAGES = 51  # in sevens, the last batch has 2
SWAPPED = [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]


@pytest.fixture
def images(small: TrainVal) -> Pixels:
    return small.val.images[:NUM_IMAGES].numpy()


@pytest.fixture
def trained(small: TrainVal) -> TrainedNetwork:
    return network_of(Activation.TANH, small)


def opened(trained: TrainedNetwork) -> Runtime:
    return open_onnx(onnx_content(trained, is_of_mnist=True))


@pytest.mark.parametrize("activation", Activation)
def test_onnx_runtime_and_the_reference_of_onnx_give_torchs_answers(small: TrainVal, activation: Activation) -> None:
    trained, images = network_of(activation, small), small.train.images.numpy()
    found = compare(trained, opened(trained), images)
    assert found.holds
    assert found.num_same == found.num_images == 2000
    assert found.largest_logit_difference < 2e-5
    assert found.largest_logit > 1
    evaluator = ReferenceEvaluator(onnx_content(trained, is_of_mnist=True))
    assert compare(trained, lambda pixels: tuple(evaluator.run(None, {"images": pixels})), images[:9]).holds


def test_different_sizes_and_classes() -> None:
    network = LeNet(Activation.RELU, num_classes=3, image_size=17)
    trained = TrainedNetwork(network, Normalization(0.5, 0.3), ("a", "b", 'c"<é'), epoch=1)
    with torch.no_grad():
        for parameter in network.parameters_in_order:
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (40, 17, 17), dtype=np.uint8)
    assert compare(trained, opened(trained), images).holds


def test_the_same_weights_give_the_same_bytes(small: TrainVal, trained: TrainedNetwork) -> None:
    content = onnx_content(trained, is_of_mnist=True)
    assert onnx_content(network_of(Activation.TANH, small), is_of_mnist=True) == content
    with torch.no_grad():
        trained.network.output.bias[0] += 1
    changed = onnx_content(trained, is_of_mnist=True)
    assert changed != content
    assert onnx_content(replace(trained, class_names=tuple("abcdefghij")), is_of_mnist=True) != changed


def test_the_file_says_what_it_is(small: TrainVal) -> None:
    trained = network_of(Activation.RELU, small)
    model = onnx.load_from_string(onnx_content(trained, is_of_mnist=True))
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    assert model.ir_version == 7
    signature = [
        (
            each.name,
            each.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim],
        )
        for each in (*model.graph.input, *model.graph.output)
    ]
    assert signature == [
        ("images", onnx.TensorProto.UINT8, ["N", 28, 28]),
        ("logits", onnx.TensorProto.FLOAT, ["N", 10]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 10]),
    ]
    about = {each.key: each.value for each in model.metadata_props}
    assert json.loads(about["class_names"]) == list("0123456789")
    assert (about["activation"], about["epoch"]) == ("relu", "3")
    assert (float(about["mean"]), float(about["std"])) == (small.normalization.mean, small.normalization.std)
    assert about["weights_sha256"] == weights_digest(trained.network.state_dict())
    assert {"input", "output", "lenet_mnist_version"} <= set(about)
    assert "white on black" in about["input"]
    not_of_mnist = onnx.load_from_string(onnx_content(trained, is_of_mnist=False))
    assert "white on black" not in str(not_of_mnist.metadata_props) + not_of_mnist.doc_string
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, value in trained.network.state_dict().items():
        assert np.array_equal(weights[name], value.numpy())


def test_onnx_runtime_reports_nothing(run: Run, mnist_dir: Path, tmp_path: Path) -> None:
    """From 1.29 on it leaves an identifier and a database of events in the cache, unless it is told not to."""
    home = tmp_path / "home"
    home.mkdir()
    # Nothing else of this environment: on CI it reports nothing anyway.
    environment = {"HOME": str(home), "LENET_DATA_DIR": str(mnist_dir), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "lenet_mnist", "export", str(run.path), "--format", "onnx", "--offline"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "checked with ONNX Runtime" in finished.stdout
    assert finished.stderr == ""
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


# What the comparison of two runtimes lets pass, and what it does not.


def runtime(trained: TrainedNetwork, change: Callable[[Logits], Logits], only_batches_of: int | None = None) -> Runtime:
    """Torch itself, its logits changed."""

    @torch.inference_mode()
    def answer(pixels: Pixels) -> tuple[Logits, Logits]:
        logits = trained.network(trained.normalization.apply(torch.from_numpy(pixels))).numpy()
        changed = change(logits.copy()) if only_batches_of in (None, len(pixels)) else logits
        return changed, torch.from_numpy(changed).softmax(dim=1).numpy()

    return answer


def times(trained: TrainedNetwork, factor: float) -> TrainedNetwork:
    """The same network with logits so many times as large."""
    with torch.no_grad():
        trained.network.output.weight.mul_(factor)
        trained.network.output.bias.mul_(factor)
    return trained


def test_one_logit_is_enough_at_any_batch_size(trained: TrainedNetwork, images: Pixels) -> None:
    assert BATCH_SIZES == (1, 7, 1000)
    for only_batches_of in (None, 1, 7, NUM_IMAGES % 7, NUM_IMAGES):
        for difference, holds in ((0.0, True), (0.5e-4, True), (2e-4, False), (-2e-4, False)):

            def change(logits: Logits, difference: float = difference) -> Logits:
                logits[-1, 3] += difference
                return logits

            found = compare(trained, runtime(trained, change, only_batches_of), images)
            assert found.holds == holds
            assert found.largest_logit_difference == pytest.approx(abs(difference), rel=0.1, abs=1e-5)
            assert (found.num_images, found.num_same, found.num_ties) == (NUM_IMAGES, NUM_IMAGES, 0)
    assert found.tolerance == TOLERANCE == 1e-4


def test_large_logits_may_differ_by_their_rounding_and_no_more(trained: TrainedNetwork, images: Pixels) -> None:
    large = times(trained, 1000)
    most = compare(large, runtime(large, lambda logits: logits), images)
    assert most.tolerance == pytest.approx(2e-6 * most.largest_logit)
    assert most.tolerance > 10 * TOLERANCE
    for share, holds in ((0.5, True), (2.0, False)):
        changed = runtime(large, lambda logits, share=share: logits + np.float32(share * most.tolerance))  # type: ignore[misc]
        assert compare(large, changed, images).holds == holds


def test_a_different_answer_is_a_tie_only_within_rounding(trained: TrainedNetwork, images: Pixels) -> None:
    """A network that answers 3, and 4 by `margin` less, whatever it sees; and a runtime that swaps the two."""
    for margin, batch_size, num_ties in (
        (1e-6, None, 51),
        (1e-6, 1, 51),
        (1e-6, 7, 49),
        (1e-6, 2, 2),
        (0.9e-4, None, 0),
    ):
        with torch.no_grad():
            trained.network.output.weight.zero_()
            trained.network.output.bias.zero_()
            trained.network.output.bias[3], trained.network.output.bias[4] = 10, 10 - margin
        found = compare(trained, runtime(trained, lambda logits: logits[:, SWAPPED], batch_size), images)
        assert found.largest_logit_difference <= found.tolerance
        assert (found.num_same, found.num_ties) == (NUM_IMAGES - num_ties if num_ties else 0, num_ties)
        assert found.holds == bool(num_ties)


def test_different_probabilities_are_noticed(trained: TrainedNetwork, images: Pixels) -> None:
    same = runtime(trained, lambda logits: logits)
    found = compare(trained, lambda pixels: (same(pixels)[0], np.full((len(pixels), 10), 0.1, np.float32)), images)
    assert found.largest_logit_difference < 1e-5
    assert found.largest_probability_difference > 0.1
    assert not found.holds


def test_what_cannot_be_compared_is_refused(trained: TrainedNetwork, images: Pixels) -> None:
    same = runtime(trained, lambda logits: logits)
    for value in (np.nan, np.inf):
        with pytest.raises(CheckFailedError, match="not finite"):
            compare(trained, runtime(trained, lambda logits, value=value: logits * value), images)  # type: ignore[misc]
    with pytest.raises(DataError, match="not finite"):
        compare(times(trained, np.inf), same, images)
