"""The lock of a run: one writer, and what happens where there can be no lock."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_mnist.errors import StorageError
from lenet_mnist.files.locks import exclusive_lock, is_locked


def test_a_lock_holds_until_its_file_is_removed_or_replaced(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, pytest.fail) as require_held:
        require_held()
        assert is_locked(tmp_path)
        (tmp_path / ".lock").unlink()
        with pytest.raises(StorageError, match="was removed"):
            require_held()
        with exclusive_lock(tmp_path, pytest.fail) as another:
            another()
            with pytest.raises(StorageError, match="was removed"):
                require_held()
    assert not is_locked(tmp_path)


def test_a_second_writer_is_told_who_holds_the_lock_which_ends_with_its_process(tmp_path: Path) -> None:
    hold = "with exclusive_lock(pathlib.Path(sys.argv[1]), print): print('held', flush=True); time.sleep(60)"
    code = f"import pathlib, sys, time; from lenet_mnist.files.locks import exclusive_lock\n{hold}"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            for _ in range(2):  # being refused leaves the holder's name as it is
                assert is_locked(tmp_path)
                with pytest.raises(StorageError, match=f"locked by process {holder.pid} on "):
                    exclusive_lock(tmp_path, pytest.fail).__enter__()
        finally:
            holder.kill()
    assert not is_locked(tmp_path)
    with exclusive_lock(tmp_path, pytest.fail) as require_held:
        require_held()


def test_without_locks_one_goes_on_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):

        def refuse(_handle: int, _operation: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        notes: list[str] = []
        with exclusive_lock(tmp_path, notes.append) as require_held:
            require_held()
            assert is_locked(tmp_path)  # nobody knows
        assert len(notes) == 1
        assert str(tmp_path) in notes[0]


def test_what_is_no_lock_is_not_waited_for_and_not_written_to(tmp_path: Path) -> None:
    path, precious = tmp_path / ".lock", tmp_path / "precious"
    precious.write_text("old")
    for make in (lambda: os.mkfifo(path), lambda: path.hardlink_to(precious), lambda: path.symlink_to(precious)):
        make()
        assert not is_locked(tmp_path)
        with pytest.raises(StorageError), exclusive_lock(tmp_path, pytest.fail):
            pass
        assert precious.read_text() == "old"
        path.unlink()
