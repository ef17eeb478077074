"""A trained network on arrays of pixels: digits that are 28 x 28 already, and light on dark, as MNIST's are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lenet_mnist.data.sets import IMAGE_SIZE
from lenet_mnist.errors import DataError
from lenet_mnist.training.checkpoint import TrainedNetwork


class RawNetwork(nn.Module):
    """A trained LeNet that takes raw pixels, 0 (black) to 255 (white), and normalises them itself. In eval mode."""

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.lenet = trained.network
        self.normalization = trained.normalization
        self.class_names = trained.class_names
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shapes: images N 28 28 or N 1 28 28, of any type; result N K float32."""
        pixels = images.unsqueeze(1) if images.dim() == 3 else images
        logits: Tensor = self.lenet((pixels.float() / 255 - self.normalization.mean) / self.normalization.std)
        return logits


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network reads in arrays. Shapes: labels N int64, places in `class_names`; probabilities N K float64."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    class_names: tuple[str, ...]


def predict_arrays(network: RawNetwork, images: Any) -> Predictions:
    """Return what `network` reads in images. Shapes: 28 28, N 28 28 or N 1 28 28, integers or floats, 0..255.

    Raises: DataError if these are not such images.
    Source: lecture point 8, softmax.
    """
    with torch.inference_mode():
        logits = network(pixels_of(images)).double()
    probabilities = logits.softmax(dim=1)
    return Predictions(probabilities.argmax(dim=1).numpy(), probabilities.numpy(), network.class_names)


def pixels_of(images: Any) -> Tensor:
    """Return images as pixels. Shapes: as above; result N 28 28 float32. Raises: DataError."""
    try:
        found = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    except ValueError as error:  # lists of unequal lengths
        raise DataError(f"the images make no array: {error}") from None
    if found.dtype.kind not in "uif":
        raise DataError(f"the images have type {found.dtype}, expected uint8 or floats")
    side = (IMAGE_SIZE, IMAGE_SIZE)
    if found.shape[-2:] != side or found.shape[:-2] not in ((), found.shape[:1], (*found.shape[:1], 1)):
        raise DataError(f"the images have shape {found.shape}, expected (28, 28), (N, 28, 28) or (N, 1, 28, 28)")
    if found.size == 0:
        raise DataError("there are no images to predict")
    low, high = found.min(), found.max()
    if not (low >= 0 and high <= 255):  # also if one is not a number
        raise DataError(f"the pixels go from {low:g} to {high:g}, expected 0 (black) to 255 (white)")
    if 0 < high <= 1:
        raise DataError(f"the pixels go from {low:g} to {high:g}: multiply them by 255, as the network expects 0..255")
    return torch.from_numpy(found.reshape(-1, *side).astype(np.float32))
