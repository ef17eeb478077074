"""The journal: what is in it is whole, whatever happened."""

from pathlib import Path

import pytest

from lenet_mnist.errors import DataError, StorageError
from lenet_mnist.files.tables import Journal


def test_documents_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for document in ({"a": 1}, [1, 2], "text with\nline ends"):
        journal.add(document)
    assert list(Journal(path).documents()) == list(journal.documents()) == [{"a": 1}, [1, 2], "text with\nline ends"]


def test_a_line_without_its_end_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = b'{"a": 1}\n{"b": 22}\n'
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = Journal(path)
        before = list(journal.documents())
        assert len(before) == whole[:length].count(b"\n")
        journal.add({"c": 3})
        assert list(Journal(path).documents()) == [*before, {"c": 3}]


def test_who_only_reads_leaves_a_line_that_another_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": 2')
    assert list(Journal(path).documents()) == [{"a": 1}]
    assert path.read_bytes() == b'{"a": 1}\n{"b": 2'


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"b": 2}\n')
    with pytest.raises(DataError, match=r"journal\.jsonl: line 2: not JSON"):
        list(Journal(path).documents())


def test_what_is_not_finite_never_gets_in(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.add({"loss": float("nan")})
    assert list(Journal(tmp_path / "journal.jsonl").documents()) == []


def test_a_journal_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot append"):
        Journal(tmp_path / "nowhere" / "journal.jsonl").add(1)
