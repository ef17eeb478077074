"""From a picture file to grey pixels. No file is trusted: what is too large is refused before it is decoded."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lenet_mnist.data.scaling import Grey
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors

_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".bmp", ".dib")
_FORMATS = ("PNG", "JPEG", "BMP")
_BEGINNINGS = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0\0\0\0", re.DOTALL)
_MAX_BYTES = 64 * 1024 * 1024
_MAX_SIDE = 20_000
_MAX_PIXELS = 64_000_000
_TOO_LARGE = f"is too large: at most {_MAX_SIDE:,} pixels a side and {_MAX_PIXELS:,} in all. Make it smaller first"
_LEAST_SIDE = 8
_WORKING_SIDE = 256  # pixels that the longer side is shrunk to: nine times what is left in the end, or more
_MOST_AT_ONCE = 1 << 19  # pixels that are converted before they are shrunk: a large picture goes strip by strip


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, decoded. Shapes: grey H W, 0 .. 255, the longer side at most 256; width and height are the file's."""

    path: Path
    width: int
    height: int
    grey: Grey


def is_picture(path: Path) -> bool:
    """Whether a file is a picture that is read, by its name, or where that does not say so by its first bytes.

    What is called a picture is one, whatever it holds: whoever reads it says what is wrong with it.

    Raises: StorageError if it cannot be read.
    """
    if path.suffix.lower() in _SUFFIXES:
        return True
    with storage_errors(path, "read"):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _BEGINNINGS.match(file.read(10)) is not None


def picture_paths(argument: Path) -> tuple[list[Path], int]:
    """Return the files that are meant, the one named or the pictures in the folder named, and how many are not.

    Raises: DataError if a folder holds none; StorageError if it cannot be listed.
    """
    try:
        is_folder = argument.is_dir()
    except OSError:  # a name too long; whoever reads it says so
        is_folder = False
    if not is_folder:
        return [argument], 0
    with storage_errors(argument, "list"):
        visible = sorted(path for path in argument.iterdir() if not path.name.startswith("."))
        inside = [path for path in visible if not path.is_dir() and is_picture(path)]
    if not inside:
        raise DataError(f"{argument}: holds no picture: no file in it is a PNG, JPEG or BMP")
    return inside, len(visible) - len(inside)


def read_picture(path: Path) -> Picture:
    """Return the picture in `path`, turned as its camera was held, laid on plain ground where it is transparent.

    Raises: DataError if it is missing, not a PNG, JPEG or BMP picture, damaged, animated, too large or too small.
    """
    return decode_picture(read_picture_bytes(path), path)


def read_picture_bytes(path: Path) -> bytes:
    """Return the content of a picture's file. Raises: DataError if it is missing or larger than pictures are."""
    return read_bounded(path, max_bytes=_MAX_BYTES, error=DataError)


def decode_picture(content: bytes, path: Path) -> Picture:
    """Return the picture in `content`, that of `path`. Raises: DataError as `read_picture`."""
    if not content:
        raise DataError(f"{path}: is empty")
    with _decoding_errors(path), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        width, height = image.size
        _require_bearable(image, path)
        # JPEG alone can be decoded at a fraction of its size.
        image.draft("L" if image.mode == "RGB" else image.mode, (2 * _WORKING_SIDE, 2 * _WORKING_SIDE))
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in (5, 6, 7, 8):  # lying on its side
            width, height = height, width
        return Picture(path, width, height, _upright(_grey(image), orientation))


@contextmanager
def _decoding_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder says of a damaged file into one line. Its warnings are of no use to a user."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path}: is no picture that lenet reads: PNG, JPEG or BMP") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: {_TOO_LARGE}") from None
    except Exception as error:  # decoders of untrusted bytes: struct.error, SyntaxError, EOFError, ValueError, ...
        raise DataError(f"{path}: is damaged: {error}") from None


def _require_bearable(image: Image.Image, path: Path) -> None:
    """Raise DataError if the picture, of which only the header has been read, is not one to decode."""
    width, height = image.size
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise DataError(f"{path}: {width:,} x {height:,} pixels: {_TOO_LARGE}")
    if min(width, height) < max(_LEAST_SIDE, max(width, height) * _LEAST_SIDE / _WORKING_SIDE):
        raise DataError(f"{path}: {width:,} x {height:,} pixels: too small, or too narrow, to be read")
    # A JPEG of several pictures is no animation: cameras add previews.
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise DataError(f"{path}: is animated: save the one picture that is meant")


def _grey(image: Image.Image) -> Grey:
    """Return the grey pixels, 0 .. 255, at working size."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut them off at 255
        return _shrunk(image, lambda part: Image.fromarray(np.asarray(part, dtype=np.float32) / 257))
    if image.has_transparency_data:
        return _laid_on_plain_ground(_shrunk(image, lambda part: part.convert("RGBA")))
    return _shrunk(image, lambda part: part.convert("L"))


def _upright(grey: Grey, orientation: int) -> Grey:
    """Return the pixels as they are seen. Source: Exif 2.3, 4.6.4, tag Orientation."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    return np.ascontiguousarray(grey)


def _laid_on_plain_ground(pixels: Grey) -> Grey:
    """Put white behind dark ink, and black behind light ink: white ink on white would be gone. Shapes: H W 4; H W."""
    grey = np.asarray(Image.fromarray(pixels[..., :3].astype(np.uint8)).convert("L"), dtype=np.float64)
    opacity = pixels[..., 3] / 255
    if opacity.min() == 1 or opacity.max() == 0:
        return np.where(opacity == 0, 255.0, grey)
    ground = 255.0 if (grey * opacity).sum() / opacity.sum() < 128 else 0.0
    return grey * opacity + ground * (1 - opacity)


def _shrunk(image: Image.Image, converted: Callable[[Image.Image], Image.Image]) -> Grey:
    """Return the picture, converted, with its longer side at working size at most.

    Each pixel is the mean of those it covers. Strip by strip, so that of a large picture never two copies are there.
    """
    image.load()
    width, height = image.size
    scale = min(1.0, _WORKING_SIDE / max(image.size))
    new_width, new_height = (max(1, round(side * scale)) for side in image.size)
    step = max(1, _MOST_AT_ONCE * new_height // (width * height))
    strips = []
    for first in range(0, new_height, step):
        last = min(first + step, new_height)
        top, bottom = first * height / new_height, last * height / new_height
        part = converted(image.crop((0, math.floor(top), width, math.ceil(bottom))))
        box = (0, top - math.floor(top), width, bottom - math.floor(top))
        strips.append(np.asarray(part.resize((new_width, last - first), Image.Resampling.BOX, box), dtype=np.float64))
    return np.concatenate(strips)
