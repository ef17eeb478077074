"""From a picture file to grey pixels. No file is trusted: what is too large is refused before it is decoded."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet_mnist.data.scaling import Grey
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_FORMATS = ("PNG", "JPEG", "BMP")
_MAX_BYTES = 64 * 1024 * 1024
_MAX_SIDE = 20_000
_MAX_PIXELS = 64_000_000
_TOO_LARGE = f"is too large: at most {_MAX_SIDE:,} pixels a side and {_MAX_PIXELS:,} in all. Make it smaller first"
_LEAST_SIDE = 8
_WORKING_SIDE = 256  # pixels that the longer side is shrunk to: nine times what is left in the end, or more


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, decoded. Shapes: grey H W, 0 .. 255, the longer side at most 256; width and height are the file's."""

    path: Path
    width: int
    height: int
    grey: Grey


def picture_paths(argument: Path) -> list[Path]:
    """Return the files that are meant: the one named, or those in the folder named whose names end as pictures' do.

    Raises: DataError if a folder holds none; StorageError if it cannot be listed.
    """
    try:
        is_folder = argument.is_dir()
    except OSError:  # a name too long; whoever reads it says so
        is_folder = False
    if not is_folder:
        return [argument]
    with storage_errors(argument, "list"):
        inside = sorted(path for path in argument.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not inside:
        raise DataError(f"{argument}: holds no picture: nothing in it ends in {', '.join(SUFFIXES)}")
    return inside


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
        upright = ImageOps.exif_transpose(image)
        if upright.size == image.size[::-1]:  # lying on its side, or square
            width, height = height, width
        return Picture(path, width, height, _grey(upright))


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
        image = Image.fromarray(np.asarray(image, dtype=np.float32) / 257)
    elif image.has_transparency_data:
        return _laid_on_plain_ground(_shrunk(image.convert("RGBA")))
    else:
        image = image.convert("L")
    return np.asarray(_shrunk(image), dtype=np.float64)


def _laid_on_plain_ground(image: Image.Image) -> Grey:
    """Put white behind dark ink, and black behind light ink: white ink on white would be gone."""
    grey = np.asarray(image.convert("RGB").convert("L"), dtype=np.float64)
    opacity = np.asarray(image.getchannel("A"), dtype=np.float64) / 255
    if opacity.min() == 1 or opacity.max() == 0:
        return np.where(opacity == 0, 255.0, grey)
    ground = 255.0 if (grey * opacity).sum() / opacity.sum() < 128 else 0.0
    return grey * opacity + ground * (1 - opacity)


def _shrunk(image: Image.Image) -> Image.Image:
    """Return the picture with its longer side at working size at most; each pixel is the mean of those it covers."""
    scale = _WORKING_SIDE / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)
