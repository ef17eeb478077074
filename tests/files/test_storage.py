"""Files written whole or not at all, and read only up to a limit."""

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults import full_disk

from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.files import storage
from lenet_mnist.files.storage import (
    append_line,
    make_directory,
    prepare_to_write,
    read_bounded,
    tidy_up,
    write_bytes,
    write_text,
)

NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """Let file modes count, for root as well."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    """A directory that everybody reaches, with the file `old` in it; tmp_path is root's alone."""
    directory = Path(tempfile.mkdtemp(prefix="lenet-test-"))
    directory.chmod(0o755)
    (directory / "old").write_bytes(b"old")
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# Writing.


def test_a_file_is_written_whole_in_utf_8_and_replaces_an_old_one(tmp_path: Path) -> None:
    for text in ("ä\nb\r\n", "shorter"):
        write_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_bytes() == text.encode()
        assert names_in(tmp_path) == ["file"]
    with (tmp_path / "file").open("rb") as reader:
        write_bytes(tmp_path / "file", b"new")
        assert reader.read() == b"shorter", "a reader of the old file keeps it"


def test_a_write_that_is_broken_off_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for failure in (RuntimeError, KeyboardInterrupt, SystemExit):

        def fail(_handle: int, failure: type[BaseException] = failure) -> None:
            raise failure

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(failure):
            write_bytes(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert names_in(tmp_path) == ["file"]


def test_all_is_written_where_the_system_takes_it_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:3]))
    write_bytes(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "file").symlink_to("precious")
    write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "precious").read_bytes() == b"old"
    assert not (tmp_path / "file").is_symlink()


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(4096), pytest.raises(StorageError) as caught:
        write_bytes(path, bytes(10_000))
    assert str(caught.value).startswith(f"{path}: cannot write: File too large")
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_the_content_is_synced_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    sync, rename = os.fsync, Path.replace

    def record_sync(handle: int) -> None:
        events.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        sync(handle)

    def record_rename(source: Path, target: Path) -> Path:
        events.append("name")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    write_text(tmp_path / "file", "new")
    assert events == ["content", "name", "directory"]


def test_on_windows_a_file_that_another_program_has_open_is_replaced_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner or an editor: opening it again is refused for as long as that takes."""
    path, replace, seconds = tmp_path / "file", os.replace, []
    path.write_bytes(b"old")

    def refused(source: Path, target: Path) -> None:
        if len(seconds) < 3:
            raise PermissionError(errno.EACCES, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(time, "sleep", seconds.append)
    write_bytes(path, b"new")
    assert (path.read_bytes(), len(seconds)) == (b"new", 3)

    def always_refused(_source: Path, _target: Path) -> None:
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(os, "replace", always_refused)
    with pytest.raises(StorageError, match="in use"):
        write_bytes(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_is_written_first_is_no_longer_than_the_name_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows allows 260 characters for a path: a run takes 174 of them, its checkpoints most."""
    written: list[str] = []
    monkeypatch.setattr(Path, "replace", lambda path, _target: written.append(path.name))
    checkpoint = tmp_path / f"step-000000000001-{'0' * 64}.safetensors"

    write_bytes(checkpoint, b"")

    assert len(written[0]) <= len(checkpoint.name)


def test_on_windows_no_process_is_asked_whether_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question would be a Ctrl-C."""
    left_over = tmp_path / f".file.{storage._this_machine()}-{os.getpid()}-{'0' * 8}.part"
    left_over.write_bytes(b"")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("interrupted"))
    tidy_up(tmp_path)
    assert left_over.exists()
    os.utime(left_over, (0, 0))
    tidy_up(tmp_path)
    assert not left_over.exists()


def test_on_macos_the_disk_itself_has_what_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    fake = types.SimpleNamespace(F_FULLFSYNC=51, fcntl=lambda _handle, what: asked.append(what))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(storage, "fcntl", fake, raising=False)
    write_bytes(tmp_path / "file", b"new")
    assert asked == [51]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, is_first = os.fsync, [True]

    def write_another_first(handle: int) -> None:
        if is_first.pop() if is_first else False:
            write_bytes(tmp_path / "file", b"other")
            assert (tmp_path / "file").read_bytes() == b"other"
        sync(handle)

    monkeypatch.setattr(os, "fsync", write_another_first)
    write_bytes(tmp_path / "file", b"one")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert names_in(tmp_path) == ["file"]


def test_what_a_living_process_writes_stays_and_what_dead_ones_left_goes_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evaluation" / "test").mkdir(parents=True)
    for name in (".lock", "a.part", "file.txt"):
        (tmp_path / name).touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda unfinished, _target: leave_copies(unfinished, tmp_path))
        write_bytes(tmp_path / "file", b"new")
    assert len([*tmp_path.rglob(".file*.part")]) == 4
    prepare_to_write(tmp_path)
    assert sorted(path.parent.name for path in tmp_path.rglob(".file*.part")) == ["living", "moment"]
    assert [name for name in names_in(tmp_path) if "." in name] == [".lock", "a.part", "file.txt"]


def leave_copies(unfinished: Path, directory: Path) -> None:
    """Lay down what others would have left: a dead process, a living one, and another machine's."""
    name, machine, process = unfinished.name, *unfinished.name.split(".")[-2].split("-")[:2]
    dead = max(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()) + 100_000
    for place, text in (
        ("evaluation/test", name.replace(f"-{process}-", f"-{dead}-")),
        ("living", name.replace(f"-{process}-", f"-{os.getppid()}-")),
        ("moment", name.replace(machine, "01234567").replace(f"-{process}-", f"-{dead}-")),
    ):
        (directory / place).mkdir(exist_ok=True)
        (directory / place / text).touch()


def test_nothing_but_a_file_of_ones_own_is_written_in_place(tmp_path: Path) -> None:
    path, precious = tmp_path / "looks.csv", tmp_path / "precious"
    kinds: dict[str, Callable[[], object]] = {
        "a link": lambda: path.symlink_to(precious),
        "a dead link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "a hard link": lambda: path.hardlink_to(precious),
        "a pipe": lambda: os.mkfifo(path),
        "a directory": path.mkdir,
        "a device": lambda: path.symlink_to("/dev/null"),
    }
    for kind, make in kinds.items():
        precious.write_bytes(b"old")
        make()
        with pytest.raises(StorageError) as caught:
            append_line(path, b"line\n")
        assert str(path) in str(caught.value), kind
        assert precious.read_bytes() == b"old", kind
        assert not (tmp_path / "nowhere").exists()
        path.rmdir() if kind == "a directory" else path.unlink()
    append_line(path, b"1\n")
    append_line(path, b"2\n")
    assert path.read_bytes() == b"1\n2\n"


def test_what_is_made_or_appended_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    make_directory(tmp_path / "runs" / "one")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "runs").stat().st_ino]
    synced.clear()
    append_line(tmp_path / "runs" / "file", b"line\n")
    assert synced == [(tmp_path / "runs" / "file").stat().st_ino, (tmp_path / "runs").stat().st_ino]


def test_a_file_system_that_cannot_sync_directories_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_directories(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse_directories)
    write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_directories_may_lie_deeper_than_calls_can(tmp_path: Path) -> None:
    made = [tmp_path]
    for _ in range(1200):
        made.append(made[-1] / "d")
        made[-1].mkdir()
    prepare_to_write(tmp_path)
    (made[-1] / "link").symlink_to("/etc")
    with pytest.raises(StorageError, match="is a symbolic link"):
        prepare_to_write(tmp_path)
    (made[-1] / "link").unlink()
    for directory in reversed(made[1:]):  # whatever tidies up after tests could not
        directory.rmdir()


def test_a_link_in_a_directory_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "inside" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("run")  # the directory itself may be reached by one
    for place in ("link", "inside/link", "inside/deep/link"):
        for target in ("/etc", "/etc/passwd", "nowhere"):
            prepare_to_write(tmp_path / "link")
            path = tmp_path / "link" / place
            path.symlink_to(target)
            with pytest.raises(StorageError, match=f"^{path}: is a symbolic link"):
                prepare_to_write(tmp_path / "link")
            path.unlink()


def test_a_place_that_cannot_be_written_is_named_and_left_as_it_is(shared_dir: Path) -> None:
    (shared_dir / "directory").mkdir()
    places = ["none/file", "old/file", "directory", "n" * 256]
    for mode, more in ((0o755, []), (0o555, ["old"])):
        shared_dir.chmod(mode)
        with without_privileges():
            for place in [*places, *more]:
                with pytest.raises(StorageError) as caught:
                    write_text(shared_dir / place, "new")
                assert str(caught.value).startswith(f"{shared_dir / place}: cannot write: ")
    assert names_in(shared_dir) == ["directory", "old"]
    assert (shared_dir / "old").read_bytes() == b"old"


def test_a_refused_write_leaves_the_file_as_it_was(shared_dir: Path) -> None:
    shared_dir.chmod(0o333)  # may be written, but not opened, and so not synced
    with without_privileges():
        try:
            write_text(shared_dir / "new", "new")
        except StorageError:
            expected = ["old"]
        else:
            expected = ["new", "old"]
    shared_dir.chmod(0o755)
    assert names_in(shared_dir) == expected


def test_directories_are_made_with_their_parents_or_named(shared_dir: Path) -> None:
    for _ in range(2):
        make_directory(shared_dir / "a" / "b")
    assert (shared_dir / "a" / "b").is_dir()
    with pytest.raises(StorageError, match=f"^{shared_dir}/old: is not a directory"):
        make_directory(shared_dir / "old")
    shared_dir.chmod(0o555)
    with without_privileges(), pytest.raises(StorageError, match=f"^{shared_dir}/c/d: .*Permission denied"):
        make_directory(shared_dir / "c" / "d")


# Reading.


def test_a_file_is_read_up_to_the_limit_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for num_bytes in (0, 1, 9, 10):
        (tmp_path / "file").write_bytes(b"x" * num_bytes)
        assert read_bounded(tmp_path / "link", max_bytes=10, error=DataError) == b"x" * num_bytes
    (tmp_path / "file").write_bytes(b"x" * 11)
    for error in (DataError, ConfigError, StorageError):
        with pytest.raises(error, match=f"^{tmp_path}/file: larger than the limit of 10 bytes"):
            read_bounded(tmp_path / "file", max_bytes=10, error=error)


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(200_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="larger than"):
            read_bounded(tmp_path / "file", max_bytes=10, error=DataError)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_what_is_not_a_readable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "to_nowhere").symlink_to(tmp_path / "none")
    (tmp_path / "to_itself").symlink_to(tmp_path / "to_itself")
    for name, said in (
        ("none", "no such file"),
        (".", "is a directory"),
        ("file/in_a_file", "cannot be read: Not a directory"),
        ("n" * 300, "cannot be read: File name too long"),
        ("to_nowhere", "no such file"),
        ("to_itself", "cannot be read: "),
        ("null\0character", "cannot be read: embedded null byte"),
    ):
        with pytest.raises(DataError) as caught:
            read_bounded(tmp_path / name, max_bytes=10, error=DataError)
        assert str(caught.value).startswith(f"{tmp_path / name}: {said}")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe that would give ten bytes to whoever reads it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR)
    os.write(handle, b"x" * 10)
    yield path
    os.close(handle)


@pytest.mark.parametrize("place", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_opened(pipe: Path, place: str) -> None:
    path = {"pipe": pipe, "device": Path("/dev/zero")}[place]
    with pytest.raises(DataError, match=f"^{path}: is not a regular file"):
        read_bounded(path, max_bytes=9, error=DataError)


def test_a_file_that_may_not_be_read_is_named(shared_dir: Path) -> None:
    (shared_dir / "old").chmod(0o000)
    with without_privileges(), pytest.raises(DataError, match=f"^{shared_dir}/old: cannot be read: Permission denied"):
        read_bounded(shared_dir / "old", max_bytes=10, error=DataError)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a file that is longer than it says")
def test_a_file_that_has_grown_since_it_was_looked_at_is_read_whole_or_refused() -> None:
    path = Path("/proc/self/status")  # of length 0, until it is read
    content = read_bounded(path, max_bytes=100_000, error=DataError)
    assert content.startswith(b"Name:")
    assert content.endswith(b"\n")
    with pytest.raises(DataError, match="larger than the limit of 10 bytes"):
        read_bounded(path, max_bytes=10, error=DataError)
