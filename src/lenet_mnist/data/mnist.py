"""The data sets that have a name: MNIST, Fashion-MNIST and KMNIST, and scikit-learn's digits. Every byte is verified.

The first three are four files each, two of them with the 10,000 test images (lecture points 1, 9 and 10). The digits:
Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import Source
from lenet_mnist.data.decoding import Pixels, resampling, to_pixels
from lenet_mnist.data.idx import unpacked
from lenet_mnist.data.sets import IMAGE_SIZE, LoadedPart, Part
from lenet_mnist.data.split import cut_off_test
from lenet_mnist.errors import DataError, InstallationError
from lenet_mnist.files.storage import read_bounded, storage_errors
from lenet_mnist.progress import Progress

DIGIT_SIZE = 20  # pixels: the box that MNIST's digits were fitted into
# torchvision's name of each set, and of the directory that it keeps it in.
_COLLECTIONS = {Source.MNIST: "MNIST", Source.FASHION_MNIST: "FashionMNIST", Source.KMNIST: "KMNIST"}
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts its files
_DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_FULL_INK = 16  # of scikit-learn's digits


@dataclass(frozen=True)
class DataAccess:
    """Where the data are, and whether missing files may be downloaded. Not a part of an experiment."""

    directory: Path
    offline: bool
    progress: Progress


@dataclass(frozen=True)
class IdxFile:
    """One of a set's four files: the shape of its array, and the SHA-256 of its uncompressed bytes.

    `compressed`: the SHA-256 is that of the compressed file as it was published.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    source: Source = Source.MNIST
    compressed: bool = False

    @property
    def collection(self) -> str:
        """torchvision's name of the set."""
        return _COLLECTIONS[self.source]

    @property
    def kept_name(self) -> str:
        """The name that a downloaded file gets."""
        return f"{self.name}.gz" if self.compressed else self.name

    @property
    def num_bytes(self) -> int:
        """The exact size of the uncompressed file: header and values."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


CLASS_NAMES = {
    Source.MNIST: tuple("0123456789"),
    Source.FASHION_MNIST: (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    Source.KMNIST: ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    Source.DIGITS: tuple("0123456789"),
}
_NAMES_AND_SHAPES = (
    ("train-images-idx3-ubyte", (60_000, 28, 28)),
    ("train-labels-idx1-ubyte", (60_000,)),
    ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    ("t10k-labels-idx1-ubyte", (10_000,)),
)
_SHA256 = {
    Source.MNIST: (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    # Of Debian's package, whose compressed files have the MD5 sums that torchvision lists once the name and the time
    # are put back into their headers.
    Source.FASHION_MNIST: (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    # TensorFlow Datasets lists these, of the compressed files (url_checksums/kmnist.txt).
    Source.KMNIST: (
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}
FILES = {
    source: tuple(
        IdxFile(name, shape, sha256, source, compressed=source is Source.KMNIST)
        for (name, shape), sha256 in zip(_NAMES_AND_SHAPES, digests, strict=True)
    )
    for source, digests in _SHA256.items()
}


def load(source: Source, part: Part, directory: Path) -> LoadedPart:
    """Return one part of a set of four files; the other part's are not opened. Raises: DataError."""
    files = files_of(source, part)
    images, labels = (read_verified(file, directory)[1] for file in files)
    return LoadedPart(
        source=source.value,
        images=images,
        labels=labels.astype(np.int64),
        indices=np.arange(len(labels)),
        class_names=CLASS_NAMES[source],
        files={file.name: file.sha256 for file in files},
    )


def files_of(source: Source, part: Part) -> tuple[IdxFile, ...]:
    """Return the two files of a part: images and labels."""
    return FILES[source][2:] if part is Part.TEST else FILES[source][:2]


def find(file: IdxFile, directory: Path) -> Path | None:
    """Return where `file` is, in torchvision's layout or directly in `directory`; or None. Raises: StorageError."""
    debian = [_DEBIAN] if file.source is Source.FASHION_MNIST else []
    suffixes = (".gz",) if file.compressed else ("", ".gz")
    parents = (raw_directory(directory, file.source), *debian, directory)
    paths = (parent / f"{file.name}{suffix}" for parent in parents for suffix in suffixes)
    with storage_errors(directory, "open"):
        return next((path for path in paths if path.exists()), None)


def raw_directory(directory: Path, source: Source = Source.MNIST) -> Path:
    """Return where torchvision, given the data directory, puts the files of a set; downloaded files go there."""
    return directory / _COLLECTIONS[source] / "raw"


def fetch_command(file: IdxFile) -> str:
    """Return the command that downloads a file."""
    return "lenet data fetch" + ("" if file.source is Source.MNIST else f" --source {file.source}")


def read_verified(file: IdxFile, directory: Path) -> tuple[Path, npt.NDArray[np.uint8]]:
    """Return the path and the array, read-only, of `file`. Raises: DataError if it is missing, or any byte differs."""
    path = find(file, directory)
    if path is None:
        raise DataError(f"{directory}: {file.name}: no such file. Run `{fetch_command(file)}`, or name --data-dir")
    try:
        content = verified(file, read_bounded(path, max_bytes=2 * file.num_bytes, error=DataError), path)
    except DataError as error:
        raise DataError(f"{error}. Delete it or move it away, then run `{fetch_command(file)}`") from None
    values = np.frombuffer(content, dtype=np.uint8, offset=file.num_bytes - math.prod(file.shape))
    return path, values.reshape(file.shape)


def verified(file: IdxFile, kept: bytes, where: Path | str) -> bytes:
    """Return the uncompressed content of `file`. Raises: DataError, which names `where`, if any byte differs."""
    content = unpacked(kept, file.num_bytes, where)
    if hashlib.sha256(kept if file.compressed else content).hexdigest() != file.sha256:
        raise DataError(f"{where}: is damaged, or a different file: its SHA-256 is not {file.sha256}")
    return content


def load_digits(part: Part) -> LoadedPart:
    """Return one part of scikit-learn's 1,797 digits, enlarged. Raises: InstallationError, DataError."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InstallationError(f"digits need scikit-learn ({error}): pip install scikit-learn") from error
    digits = datasets.load_digits()
    small, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    found = hashlib.sha256(small.tobytes() + labels.tobytes()).hexdigest()
    if found != _DIGITS_SHA256:
        raise DataError(f"scikit-learn's digits have changed: their SHA-256 is {found} instead of {_DIGITS_SHA256}")
    rest, test = cut_off_test(labels)
    indices = test if part is Part.TEST else rest
    return LoadedPart(
        source=Source.DIGITS.value,
        images=enlarged(small[indices]),
        labels=labels[indices].astype(np.int64),
        indices=indices,
        class_names=CLASS_NAMES[Source.DIGITS],
        files={"digits": found},
    )


def enlarged(small: npt.NDArray[np.uint8]) -> Pixels:
    """Return the digits in the box of 20 x 20 pixels that MNIST's were fitted into, in images of 28 x 28.

    Shapes: small N 8 8, 0 (paper) .. 16; result N 28 28, 0 .. 255.
    """
    matrix = resampling(small.shape[1], DIGIT_SIZE)
    margin = (IMAGE_SIZE - DIGIT_SIZE) // 2
    fitted = to_pixels(matrix @ (small * (255 / _FULL_INK)) @ matrix.T)
    return np.pad(fitted, ((0, 0), (margin, margin), (margin, margin)))
