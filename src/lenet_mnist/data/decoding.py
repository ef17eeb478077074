"""From a picture file to grey pixels. No file is trusted: what is too large is refused before it is decoded."""

import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from lenet_mnist.data.sets import IMAGE_SIZE
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors

KINDS = "PNG, JPEG, HEIC, WEBP, TIFF, GIF or BMP"
_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".bmp", ".dib"),
    *(".heic", ".heif", ".webp", ".tif", ".tiff", ".gif"),
)
_SYSTEM = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_HEIC = re.compile(rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)
# Not TIFF's, which are those of many cameras' raw files, too.
_FIRST_BYTES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0\0\0\0|GIF8[79]a|RIFF.{4}WEBP|" + _HEIC.pattern, re.DOTALL
)
MAX_PICTURE_BYTES = 64 * 1024 * 1024
_MAX_SIDE = 20_000
_MAX_PIXELS = 64_000_000
_MIN_SIDE = 8
_WORKING_SIDE = 256  # pixels that the longer side is shrunk to: nine times the network's, or more
_STRIP_PIXELS = 1 << 19  # converted at a time: a large picture is shrunk strip by strip
_REACH = 0.75  # of the distance between two new pixels: how far each averages over old ones

Grey = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture. Shapes: grey H W, 0 .. 255, the longer side at most 256; width and height are the file's."""

    width: int
    height: int
    grey: Grey


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture, or else the first bytes of one.

    A file that is only named like one counts: reading it says what is wrong.

    Raises: StorageError if it cannot be read.
    """
    if path.suffix.lower() in _SUFFIXES:
        return True
    with storage_errors(path, "read"):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _FIRST_BYTES.match(file.read(12)) is not None


def visible(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted by name, without hidden files and the system's. Raises: StorageError."""
    with storage_errors(directory, "list"):
        paths = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return sorted((path for path in paths if path.name.lower() not in _SYSTEM), key=lambda path: path.name)


def read_picture(path: Path) -> Picture:
    """Return the picture in `path`, upright as its EXIF data say, on a plain background where it is transparent.

    Of several frames or pages it is the first.

    Raises: DataError if it is missing, of another kind, damaged, too large or too small.
    """
    return decode_picture(read_bounded(path, max_bytes=MAX_PICTURE_BYTES, error=DataError), path)


def decode_picture(content: bytes, path: Path) -> Picture:
    """Return the picture in `content`, that of `path`. Raises: DataError as `read_picture`."""
    try:
        # A decoder's warnings do not help a user.
        formats = ("HEIF",) if _is_heic(content, path) else _FORMATS
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=formats) as image:
            width, height = image.size
            _require_bounded(image, path)
            if formats is _FORMATS:  # JPEG can be decoded at a fraction of its size; HEIC would give its preview
                image.draft("L" if image.mode == "RGB" else image.mode, (2 * _WORKING_SIDE, 2 * _WORKING_SIDE))
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # 1 where Pillow has turned it: TIFF, HEIC
            if orientation in (5, 6, 7, 8):  # transposed
                width, height = height, width
            return Picture(width, height, _upright(_grey(image), orientation))
    except DataError:
        raise
    except UnidentifiedImageError:
        what = "is a damaged HEIC picture" if _HEIC.match(content) else f"is not a picture that lenet reads: {KINDS}"
        raise DataError(f"{path}: {what}") from None
    except Exception as error:  # decoders of untrusted bytes: struct.error, SyntaxError, EOFError, ValueError, ...
        raise DataError(f"{path}: cannot be decoded: {str(error).strip()}") from None


def _is_heic(content: bytes, path: Path) -> bool:
    """Whether the picture is HEIC; Pillow can then open it. Raises: DataError if the package for that is missing."""
    if not _HEIC.match(content):
        return False
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError(f"{path}: is a HEIC picture: to read it, pip install pillow-heif; or save it as JPEG") from None
    register_heif_opener()
    return True


def pixels_of(picture: Picture, resize: bool) -> Pixels | None:
    """Return a picture as a network sees it, 28 x 28; or None if it is of a different size, and `resize` is off."""
    if (picture.width, picture.height) == (IMAGE_SIZE, IMAGE_SIZE):
        return to_pixels(picture.grey)
    return squared(picture.grey, IMAGE_SIZE) if resize else None


def resampling(size: int, new_size: int) -> Grey:
    """Return the matrix that turns `size` pixels into `new_size`, by triangular averages. Shapes: new_size size."""
    step = size / new_size
    reach = max(_REACH * step, 1)
    middles = (np.arange(new_size) + 0.5) * step - 0.5
    weights: Grey = np.maximum(0, 1 - np.abs(np.arange(size) - middles[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def squared(grey: Grey, size: int) -> Pixels:
    """Return the picture fitted into a square, with its proportions kept; the rest is the median of its border.

    Shapes: grey H W, 0 .. 255; result size size.
    """
    height, width = grey.shape
    new_height, new_width = (max(1, round(side * size / max(height, width))) for side in (height, width))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    whole = np.full((size, size), np.median(border))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    small = resampling(height, new_height) @ grey @ resampling(width, new_width).T
    whole[top : top + new_height, left : left + new_width] = small
    return to_pixels(whole)


def to_pixels(grey: Grey) -> Pixels:
    """Round to integer grey levels, 0 .. 255."""
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)


def _require_bounded(image: Image.Image, path: Path) -> None:
    """Raise DataError if the picture, of which only the header has been read, should not be decoded."""
    width, height = image.size
    most = _MAX_PIXELS // 4 if image.format == "WEBP" else _MAX_PIXELS  # decoding it takes four times PNG's memory
    if max(width, height) > _MAX_SIDE or width * height > most:
        limits = f"at most {_MAX_SIDE:,} pixels per side and {most:,} in total"
        raise DataError(f"{path}: {width:,} x {height:,} pixels: is too large: {limits}. Shrink it first")
    if min(width, height) < max(_MIN_SIDE, max(width, height) * _MIN_SIDE / _WORKING_SIDE):
        raise DataError(f"{path}: {width:,} x {height:,} pixels: too small, or too narrow, to be read")
    if image.mode in ("I", "F") and image.format != "PNG":  # no grey levels with a known white
        raise DataError(f"{path}: has 32 bits a pixel: save it with 8 or 16")


def _grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip them at 255
        return _shrunk(image, lambda part: Image.fromarray(np.asarray(part, dtype=np.float32) / 257))
    if image.has_transparency_data:
        return _on_plain_background(_shrunk(image, lambda part: part.convert("RGBA")))
    return _shrunk(image, lambda part: part.convert("L"))


def _upright(grey: Grey, orientation: int) -> Grey:
    """Source: Exif 2.3, 4.6.4, tag Orientation."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    return np.ascontiguousarray(grey)


def _on_plain_background(pixels: Grey) -> Grey:
    """Put white behind dark ink, and black behind light ink, which white would hide. Shapes: H W 4; H W."""
    grey = np.asarray(Image.fromarray(pixels[..., :3].astype(np.uint8)).convert("L"), dtype=np.float64)
    opacity = pixels[..., 3] / 255
    if opacity.min() == 1 or opacity.max() == 0:
        return np.where(opacity == 0, 255.0, grey)
    background = 255.0 if (grey * opacity).sum() / opacity.sum() < 128 else 0.0
    return grey * opacity + background * (1 - opacity)


def _shrunk(image: Image.Image, converted: Callable[[Image.Image], Image.Image]) -> Grey:
    """Return the picture, converted, with its longer side at most the working size.

    Each pixel is the mean of those it covers. Strip by strip, so that a large picture is never in memory twice.
    """
    width, height = image.size
    scale = min(1.0, _WORKING_SIDE / max(image.size))
    new_width, new_height = (max(1, round(side * scale)) for side in image.size)
    step = max(1, _STRIP_PIXELS * new_height // (width * height))
    strips = []
    for first in range(0, new_height, step):
        last = min(first + step, new_height)
        top, bottom = first * height / new_height, last * height / new_height
        part = converted(image.crop((0, math.floor(top), width, math.ceil(bottom))))
        box = (0, top - math.floor(top), width, bottom - math.floor(top))
        strips.append(np.asarray(part.resize((new_width, last - first), Image.Resampling.BOX, box), dtype=np.float64))
    return np.concatenate(strips)
