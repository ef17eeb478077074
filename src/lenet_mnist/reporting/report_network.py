"""The network itself, as a report shows it: the filters of C1, and what the two convolutions make of one digit."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from lenet_mnist.config import Activation
from lenet_mnist.errors import DataError
from lenet_mnist.reporting import pixels
from lenet_mnist.reporting.report_results import Digit, Results, digits_of
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.results import Examples
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork


@dataclass(frozen=True)
class Picture:
    """A filter or a feature map."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True)
class NetworkPictures:
    """What can be seen of the network. Without an evaluation there is no digit, and so no feature maps."""

    epoch: int
    activation: str
    filters: tuple[Picture, ...]
    digit: Digit | None = None
    s2: tuple[Picture, ...] = ()
    s4: tuple[Picture, ...] = ()


def network_pictures(run: Run, manifest: Manifest, results: Results | None) -> NetworkPictures:
    """Return pictures of the kept weights so far. Raises: DataError if there are none, or they are not the run's."""
    if manifest.best_epoch is None and not run.model_path.exists():
        raise DataError("No epoch has been completed, so there are no weights to look at.")
    trained = read_kept_network(run)
    seen = NetworkPictures(trained.epoch, activation_name(trained.network.activation), _filters(trained))
    examples = None if results is None else results.examples
    if results is None or examples is None or not _fit(examples, trained):
        return seen
    position = _typical(examples)
    (digit,) = digits_of(results.evaluation, examples, [position])
    s2, s4 = _feature_maps(trained, examples.images[position])
    return replace(seen, digit=digit, s2=s2, s4=s4)


def activation_name(activation: Activation) -> str:
    """Return how an activation is written in a text."""
    return "ReLU" if activation is Activation.RELU else activation.value


def _fit(examples: Examples, trained: TrainedNetwork) -> bool:
    """Whether there is a picture, of the network's size."""
    return len(examples) > 0 and examples.images.shape[1] == trained.network.image_size


def _typical(examples: Examples) -> int:
    """Return the digit to look at: the surest that was read right, or else the first."""
    is_hit = examples.labels == examples.predictions
    return int(np.where(is_hit, examples.confidences, -1.0).argmax())


def _filters(trained: TrainedNetwork) -> tuple[Picture, ...]:
    """Draw the kernels of C1 on one scale. Shapes: 6 1 5 5."""
    kernels = trained.network.c1.weight.detach().numpy()[:, 0]
    largest = float(np.abs(kernels).max())
    pictures = []
    for k, kernel in enumerate(kernels):
        row, column = divmod(int(kernel.argmax()), kernel.shape[1])
        alt = (
            f"C1 filter {k}: 5 by 5 weights from {kernel.min():.2f} to {kernel.max():.2f}, "
            f"the largest in row {row + 1}, column {column + 1}"
        )
        pictures.append(Picture(pixels.signed(kernel, largest), alt, f"{kernel.min():.2f} to {kernel.max():.2f}"))
    return tuple(pictures)


def _feature_maps(
    trained: TrainedNetwork, image: npt.NDArray[np.uint8]
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Draw S2 and S4 for one image, each layer on one scale. Shapes: image H W."""
    with torch.inference_mode():
        outputs = trained.network.layer_outputs(trained.normalization.apply(torch.from_numpy(image.copy())[None]))
    return _maps("S2", outputs.s2[0].numpy()), _maps("S4", outputs.s4[0].numpy())


def _maps(layer: str, maps: npt.NDArray[np.floating]) -> tuple[Picture, ...]:
    low, high = float(maps.min()), float(maps.max())
    pictures = []
    for k, values in enumerate(maps):
        height, width = values.shape
        spread = f"from {values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}"
        alt = f"{layer} map {k}, {height} by {width}: {spread}"
        pictures.append(Picture(pixels.ink(values, low, high), alt, f"map {k}"))
    return tuple(pictures)
