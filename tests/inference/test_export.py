"""`lenet export`: what is written where, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenet_mnist.runs.directory import RunDirectory

Lenet = Callable[..., Any]


def test_a_page_is_written_into_the_run(lenet: Lenet, run: RunDirectory) -> None:
    said = lenet("export", "latest", "--format", "html")
    path = run.export_path / "lenet.html"
    assert (said.code, said.out) == (0, f"runs/{run.id}/export/lenet.html\n")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert 300_000 < len(text) < 500_000
    assert run.id in text
    assert "{{" not in text
    assert "http" not in text.replace("http-equiv", "")
    lenet("export", "latest", "--format", "html")
    assert path.read_text(encoding="utf-8") == text
    assert [each.name for each in run.export_path.iterdir()] == ["lenet.html"]


def test_two_runs_in_one_page(lenet: Lenet, run: RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "20200101-000000-other-abcd"
    shutil.copytree(run.path, other)
    said = lenet("export", run.id, "--compare", other.name, "--format", "html", "--output", "both.html")
    assert (said.code, said.out) == (0, "both.html\n")
    text = Path("both.html").read_text(encoding="utf-8")
    assert run.id in text
    assert other.name in text
    assert lenet("export", run.id, "--compare", other.name, "--format", "html").out.endswith("/export/compared.html\n")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--format", "onnx"), 2, "--format onnx: expected one of html"),
        (("--format", "html", "--output", "model.safetensors"), 2, "expected a name that ends in .html"),
        (("--format", "html", "--compare", "nothing"), 2, "no such run"),
        (("--format", "html", "--output", "missing/page.html"), 6, "cannot write"),
        ((), 2, "--format"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_cannot_be_is_one_line(lenet: Lenet, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    said = lenet("export", "latest", *arguments)
    assert said.code == code
    assert complaint in said.err
    assert said.out == ""


def test_nothing_is_written_through_a_link(lenet: Lenet, run: RunDirectory, outside: Path) -> None:
    run.export_path.symlink_to(outside)
    said = lenet("export", "latest", "--format", "html")
    assert said.code == 6
    assert "is a symbolic link" in said.err


def test_damaged_weights_are_refused(lenet: Lenet, run: RunDirectory) -> None:
    content = bytearray(run.model_path.read_bytes())
    content[-5] ^= 1
    run.model_path.write_bytes(content)
    said = lenet("export", "latest", "--format", "html")
    assert said.code == 3
    assert "damaged" in said.err
    assert not run.export_path.exists()
