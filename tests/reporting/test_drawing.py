"""A training ends with its pictures, however it ended; and nothing that goes wrong with them ends it otherwise."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from lenet_mnist.reporting.drawing import draw_training
from lenet_mnist.runs.run import Run

Lenet = Callable[..., Any]
QUICK = ("--limit-train", 300, "--epochs", 1, "--set", "data.val_size=500", "--threads", 1)
PICTURES = {"accuracy.png", "layers.png", "loss.png"}


def drawn(run: Run) -> set[str]:
    return {path.name for path in run.plots_path.glob("*")}


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--lr", 1e6), 4), (("--seeds", "0,1"), 0)])
def test_every_training_ends_with_its_pictures(
    lenet: Lenet, tmp_path: Path, options: tuple[Any, ...], code: int
) -> None:
    answer = lenet("train", *QUICK, *options)
    assert answer.code == code
    runs = [Run(path) for path in (tmp_path / "runs").iterdir()]
    assert len(runs) == (2 if "--seeds" in options else 1)
    for run in runs:
        assert drawn(run) == PICTURES
        assert "--seeds" in options or f"{Path('runs') / run.id}/plots/loss.png" in answer.out


@pytest.mark.usefixtures("drawn_roughly")
def test_an_interrupted_training_has_pictures_and_what_goes_on_is_drawn_anew(run: Run) -> None:
    for path in (run.history_path, run.probe_path):
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    notes: list[str] = []
    draw_training(run, notes.append)
    assert (drawn(run), notes) == (PICTURES, [])
    first = (run.plots_path / "loss.png").stat().st_mtime_ns
    draw_training(run, notes.append)
    assert (run.plots_path / "loss.png").stat().st_mtime_ns == first  # nothing new, nothing drawn
    os.utime(run.steps_path, ns=(first + 1, first + 1))
    draw_training(run, notes.append)
    assert (run.plots_path / "loss.png").stat().st_mtime_ns > first


def test_a_picture_that_cannot_be_drawn_is_a_line_on_stderr(
    lenet: Lenet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("latex could not\nbe found")

    monkeypatch.setattr(Figure, "savefig", fail)
    answer = lenet("train", *QUICK)
    assert answer.code == 0
    (note,) = [line for line in answer.err.splitlines() if "plots" in line]
    assert "latex could not" in note
    assert "Traceback" not in answer.err
    (run,) = [Run(path) for path in (tmp_path / "runs").iterdir()]
    assert run.manifest.status == "finished"
