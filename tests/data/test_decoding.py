"""Files of all kinds, good, bad and hostile."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import register_heif_opener

from lenet_mnist.data.decoding import is_picture, read_picture, visible
from lenet_mnist.errors import DataError, LenetError

WIDTH, HEIGHT = 90, 60
register_heif_opener()  # to write HEIC: the decoder does it by itself (see the last test)


def drawing() -> Image.Image:
    """White paper, with a dark bar in the upper left quarter."""
    pixels = np.full((HEIGHT, WIDTH), 250, np.uint8)
    pixels[5:25, 10:16] = 20
    return Image.fromarray(pixels)


def expected() -> np.ndarray:
    return np.asarray(drawing()).astype(float)


def saved(directory: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = directory / name
    image.save(path, **options)
    return path


LATER: dict[str, Any] = {"save_all": True, "append_images": [Image.new("L", (WIDTH, HEIGHT))]}  # a frame, or a page
GOOD: dict[str, Callable[[Path], Path]] = {
    "grey PNG": lambda d: saved(d, drawing(), "a.png"),
    "RGB BMP": lambda d: saved(d, drawing().convert("RGB"), "a.bmp"),
    "JPEG": lambda d: saved(d, drawing().convert("RGB"), "a.jpg", quality=95),
    "CMYK JPEG": lambda d: saved(d, drawing().convert("CMYK"), "a.jpeg", quality=95),
    "palette": lambda d: saved(d, drawing().convert("P"), "a.png"),
    "16 bits": lambda d: saved(d, Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257), "a.png"),
    "opaque RGBA": lambda d: saved(d, drawing().convert("RGBA"), "a.png"),
    "of another name": lambda d: saved(d, drawing(), "a", format="PNG"),
    "HEIC": lambda d: saved(d, drawing().convert("RGB"), "a.heic", quality=90),
    "HEIC of another name": lambda d: saved(d, drawing(), "a.jpg", format="HEIF", quality=90),
    "WEBP": lambda d: saved(d, drawing().convert("RGB"), "a.webp", quality=95),
    "animated WEBP": lambda d: saved(d, drawing(), "a.webp", lossless=True, **LATER),
    "GIF": lambda d: saved(d, drawing(), "a.gif"),
    "animated GIF": lambda d: saved(d, drawing(), "a.gif", **LATER),
    "animated PNG": lambda d: saved(d, drawing(), "a.png", **LATER),
    "TIFF": lambda d: saved(d, drawing().convert("RGB"), "a.tif", compression="tiff_lzw"),
    "TIFF of two pages": lambda d: saved(d, drawing(), "a.tiff", **LATER),
    "CMYK TIFF": lambda d: saved(d, drawing().convert("CMYK"), "a.tiff"),
    "16-bit TIFF": lambda d: saved(d, Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257), "a.tif"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_all_kinds_give_the_same_grey(tmp_path: Path, kind: str) -> None:
    picture = read_picture(GOOD[kind](tmp_path))
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    assert picture.grey.shape == (HEIGHT, WIDTH)
    assert np.abs(picture.grey - expected()).mean() < 3
    assert np.abs(picture.grey - expected())[8:22, 12:14].max() < 12


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_ground_contrasts_with_the_ink(tmp_path: Path, mode: str, ink: int, ground: int) -> None:
    opacity = Image.fromarray(255 - np.asarray(drawing()).astype(np.uint8)).point(lambda p: 255 * (p > 128))
    image = Image.new("RGBA", (WIDTH, HEIGHT), (ink, ink, ink, 0))
    image.putalpha(opacity)
    grey = read_picture(saved(tmp_path, image.convert(mode), "a.png")).grey
    assert grey[10, 12] == ink
    assert grey[50, 80] == ground


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "heic"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_the_camera_was_held(tmp_path: Path, orientation: int, kind: str) -> None:
    """Each of the eight ways to hold a camera: the stored pixels are turned, the tag turns them back."""
    stored = {
        1: drawing(),
        2: drawing().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: drawing().transpose(Image.Transpose.ROTATE_180),
        4: drawing().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: drawing().transpose(Image.Transpose.TRANSPOSE),
        6: drawing().transpose(Image.Transpose.ROTATE_90),
        7: drawing().transpose(Image.Transpose.TRANSVERSE),
        8: drawing().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(saved(tmp_path, stored.convert("RGB"), f"a.{kind}", exif=exif.tobytes(), quality=95))
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    assert np.abs(picture.grey - expected()).mean() < 3


def test_a_large_photo_is_shrunk_and_keeps_its_size_in_the_answer(tmp_path: Path) -> None:
    path = saved(tmp_path, drawing().resize((6000, 4000)).convert("RGB"), "a.jpg")
    picture = read_picture(path)
    assert (picture.width, picture.height) == (6000, 4000)
    assert picture.grey.shape == (171, 256)
    small = np.asarray(drawing().resize((256, 171), Image.Resampling.BOX)).astype(float)
    assert np.abs(picture.grey - small).mean() < 3


def test_a_camera_s_preview_is_no_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    drawing().convert("RGB").save(path, format="MPO", save_all=True, append_images=[drawing().convert("RGB")])
    assert np.abs(read_picture(path).grey - expected()).mean() < 3


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, kind: int = 0) -> bytes:
    """A PNG file that announces a size, with these chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (header, *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(image: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind)
    return content.getvalue()


GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 9, 9, 0) + b"\x08\x00;"


def large_tiff(side: int) -> bytes:
    """A TIFF file without pixels that announces side x side of them."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, side**2)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is not a picture that lenet reads"),
    "text": (lambda: b"hello, world", "is not a picture that lenet reads"),
    "a PPM": (lambda: encoded(drawing(), "PPM"), "is not a picture that lenet reads: PNG, JPEG, HEIC"),
    "a TIFF of numbers": (lambda: encoded(drawing().convert("F"), "TIFF"), "has 32 bits a pixel"),
    "a cut HEIC": (lambda: encoded(drawing(), "HEIF")[:440], "cannot be decoded"),
    "a cut WEBP": (lambda: encoded(drawing(), "WEBP")[:60], "cannot be decoded"),
    "a cut TIFF": (lambda: encoded(drawing(), "TIFF")[:2000], "cannot be decoded"),
    "a cut GIF": (lambda: encoded(drawing(), "GIF")[:90], "cannot be decoded"),
    "a large GIF": (lambda: b"GIF89a" + struct.pack("<HHBBB", 9000, 9000, 0, 0, 0) + GIF_FRAME, "is too large"),
    "a large WEBP": (
        lambda: encoded(Image.new("1", (4_100, 4_100)), "WEBP"),
        "and 16,000,000 in total",
    ),
    "a large TIFF": (lambda: large_tiff(12_000), "12,000 x 12,000 pixels: is too large"),
    "a script": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture that lenet reads"),
    "cut off": (lambda: encoded(drawing(), "JPEG")[:400], "cannot be decoded"),
    "a cut PNG": (lambda: encoded(drawing(), "PNG")[:60], "cannot be decoded"),
    "too wide": (lambda: png(30_000, 100), "30,000 x 100 pixels: is too large"),
    "a bomb": (lambda: png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(10**6)))), "cannot be decoded: Image size"),
    "half a bomb": (lambda: png(12_000, 12_000, (b"IDAT", zlib.compress(bytes(10**6)))), "is too large"),
    "no pixels": (lambda: png(0, 0), "is "),
    "too small": (lambda: encoded(drawing().resize((7, 30)), "PNG"), "too small"),
    "too narrow": (lambda: encoded(drawing().resize((2_000, 20)), "PNG"), "too narrow"),
    "other pixels than announced": (lambda: png(100, 100, (b"IDAT", zlib.compress(b"1"))), "cannot be decoded"),
    "a text bomb": (
        lambda: png(
            50, 50, (b"zTXt", b"k\x00\x00" + zlib.compress(bytes(10**8))), (b"IDAT", zlib.compress(bytes(51 * 50)))
        ),
        "",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_get_one_line(tmp_path: Path, kind: str) -> None:
    make, complaint = BAD[kind]
    path = tmp_path / "a.png"
    path.write_bytes(make())
    with pytest.raises(DataError) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


@settings(max_examples=200)
@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "HEIF"]), st.integers(0, 2**31), st.integers(1, 20)
)
def test_damaged_bytes_raise_nothing_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, num_bytes: int
) -> None:
    content = bytearray(encoded(drawing(), kind))
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(content), num_bytes):
        content[place] = random.integers(0, 256)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        picture = read_picture(path)
    except LenetError:
        return
    assert np.isfinite(picture.grey).all()


def test_pictures_are_known_by_name_or_content_and_folders_without_what_systems_leave(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.jpeg", "d.bmp", "notes.txt", ".hidden.png", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    saved(tmp_path, drawing(), "e", format="PNG")
    saved(tmp_path, drawing(), "f", format="HEIF")
    saved(tmp_path, drawing(), "g", format="WEBP")
    names = [path.name for path in visible(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.jpeg", "d.bmp", "e", "f", "g", "inner", "notes.txt"]
    assert [name for name in names if is_picture(tmp_path / name)] == names[:7]


def test_without_its_package_a_heic_picture_gets_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, drawing(), "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match="pip install pillow-heif"):
        read_picture(path)


def test_the_decoder_of_heic_is_there_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, drawing(), "a.heic")
    monkeypatch.delitem(Image.OPEN, "HEIF")
    assert read_picture(path).width == WIDTH


@pytest.mark.skipif(sys.platform != "linux", reason="reads the most memory that a process had from /proc")
@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_a_large_picture_is_never_there_twice(tmp_path: Path, mode: str) -> None:
    """Pillow decodes a PNG whole, in up to 4 bytes a pixel; what comes then goes strip by strip."""
    side = 6000
    path = tmp_path / "a.png"
    content = zlib.compress(bytes(side * (1 + side * {"L": 1, "RGBA": 4, "I;16": 2}[mode])), 1)
    depth, kind = {"L": (8, 0), "RGBA": (8, 6), "I;16": (16, 0)}[mode]
    path.write_bytes(png(side, side, (b"IDAT", content), depth=depth, kind=kind))
    code = (
        "import re, pathlib\n"
        "from lenet_mnist.data.decoding import read_picture\n"
        "def most(): return int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
        f"before = most(); read_picture(pathlib.Path({str(path)!r})); print(most() - before)"
    )
    used = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) * 1024
    assert used < {"L": 1, "RGBA": 4, "I;16": 2}[mode] * side**2 + 40_000_000
