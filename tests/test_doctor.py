"""`lenet doctor`, where all is well and where something is broken."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import copy_training_files

from lenet_mnist import doctor

Lenet = Callable[..., Any]


def examined(lenet: Lenet, *options: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the exit code, and by what they are about: the findings that are not well, and all."""
    answer = lenet("doctor", "--json", *options)
    assert answer.err == ""
    result = json.loads(answer.out)
    assert result["exit_code"] == answer.code
    findings = {each["about"]: each for each in result["findings"]}
    return answer.code, {about: each for about, each in findings.items() if each["exit_code"]}, findings


def test_where_a_training_can_run_all_is_shown_on_one_screen(
    lenet: Lenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, bad, findings = examined(lenet)
    assert (code, bad) == (0, {})
    assert {"lenet", "threads", "optional", "torch", "devices", "engine", "data", "disk", "cache"} == {*findings}
    assert "4 of 4" in findings["data"]["found"]
    shown = lenet("doctor").out.splitlines()
    assert len(shown) < 24
    assert all(len(line) <= 80 for line in shown if "/" not in line)  # a path stays whole
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_missing_can_be_downloaded_damaged_ones_are_named(
    lenet: Lenet, mnist_dir: Path, tmp_path: Path
) -> None:
    copy_training_files(mnist_dir, tmp_path / "data")
    code, _, findings = examined(lenet, "--data-dir", "data")
    assert (code, "2 of 4" in findings["data"]["found"]) == (0, True)
    assert "lenet data fetch" in findings["data"]["advice"]
    damaged = next((tmp_path / "data").glob("*labels*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    answer = lenet("doctor", "--data-dir", "data")
    assert (answer.code, damaged.name in answer.out) == (3, True)


def test_a_place_that_cannot_be_written_is_bad(lenet: Lenet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, bad, _ = examined(lenet, "--runs-dir", "file/runs", "--data-dir", "file")
    assert (code, {*bad}) == (6, {"disk", "data"})


def test_a_package_older_than_lenet_requires_is_bad(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "2.9.1" if name == "torch" else installed(name))
    code, bad, _ = examined(lenet)
    assert (code, {*bad}) == (6, {"packages"})
    assert bad["packages"]["advice"] == "pip install 'torch>=2.10'"


def test_broken_packages_are_bad_and_the_rest_is_looked_at(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, bad, findings = examined(lenet)
    assert (code, "torch" in bad) == (6, True)
    assert findings["disk"]["exit_code"] == 0
