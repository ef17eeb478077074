"""Data sets of one's own, small and real: digits of MNIST's validation part, in the forms that people have."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.sets import ImageSet

Array = np.ndarray


def chosen(images: ImageSet, *counts: int) -> tuple[Array, Array]:
    """Return that many images of each class, 0 first, and their labels."""
    labels = images.labels.numpy()
    positions = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)])
    return images.images.numpy()[positions], labels[positions]


def write_idx(directory: Path, name: str, images: Array, labels: Array, is_packed: bool = False) -> Path:
    """Write images and labels as train-... or t10k-...; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, array in (
        (directory / f"{name}-images-idx3-ubyte", images),
        (directory / f"{name}-labels-idx1-ubyte", labels.astype(np.uint8)),
    ):
        content = encode_idx(array)
        if is_packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            path.write_bytes(content)
    return directory


def write_pictures(directory: Path, images: Array, labels: Array, names: tuple[str, ...]) -> Path:
    """Write a PNG for each image into the folder of its class; return the directory."""
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = directory / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k:04}.png")
    return directory
