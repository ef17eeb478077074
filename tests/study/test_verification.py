"""`lenet verify`: what was changed is noticed, and what was not holds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenet_mnist.model import engines
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run

Lenet = Callable[..., Any]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_run_holds_also_when_it_is_trained_again(lenet: Lenet, run: Run) -> None:
    lenet("evaluate", "latest", "--split", "val")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    answer = lenet("verify", "latest", "--retrain")
    assert answer.code == 0, answer
    assert "FAILED" not in answer.out
    assert answer.out.count("identical") == 6
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_flipped_bit_is_found(lenet: Lenet, run: Run) -> None:
    paths = [run.config_path, run.history_path, run.steps_path, run.probe_path, run.model_path]
    for path in (*paths, list_checkpoints(run.checkpoints_path)[0].path):
        flip(path, path.stat().st_size // 2)
        answer = lenet("verify", "latest")
        assert answer.code == 5
        name = "checkpoint" if path.name.startswith("step-") else path.name
        assert any("FAILED" in line and name in line for line in answer.out.splitlines()), name
        flip(path, path.stat().st_size // 2)
    assert lenet("verify", "latest").code == 0


def test_an_evaluation_that_was_changed_is_found_and_costs_no_look(lenet: Lenet, run: Run) -> None:
    lenet("evaluate", "latest")
    metrics = run.evaluation_path("test") / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"num_correct": 8', '"num_correct": 9', 1))
    answer = lenet("verify", "latest")
    assert answer.code == 5
    assert "evaluation/test" in answer.err
    assert (run.evaluation_path("test") / "looks.csv").read_text().count("\n") == 2


def test_confidences_of_an_evaluation_are_compared_up_to_rounding(lenet: Lenet, run: Run) -> None:
    """Another engine, or a GPU, gives them other last bits."""
    lenet("evaluate", "latest", "--split", "val")
    path = run.evaluation_path("val") / "metrics.json"
    for factor, code in ((1 + 1e-7, 0), (1 + 1e-3, 5)):
        metrics = json.loads(path.read_text())
        metrics["expected_calibration_error"] *= factor
        for row in metrics["calibration"]:
            row["mean_confidence"] *= factor
        path.write_text(json.dumps(metrics))
        answer = lenet("verify", "latest")
        assert answer.code == code, answer
        assert code == 5 or "the same up to rounding" in answer.out


def test_an_evaluation_of_earlier_weights_is_not_taken_for_one_of_those_that_are_kept(lenet: Lenet) -> None:
    steady = ("--set", "training.schedule=constant", "--set", "training.warmup=0", "--set", "training.keep=last")
    small = ("--limit-train", 200, "--batch-size", 16, "--set", "data.val_size=50", "--threads", 1)
    assert lenet("train", *steady, *small, "--epochs", 1, "--name", "grows").code == 0
    assert lenet("evaluate", "grows", "--split", "val").code == 0
    assert lenet("train", "--resume", "grows", "--epochs", 2).code == 0
    answer = lenet("verify", "grows")
    assert answer.code == 0, answer
    assert "of the weights of epoch 1, which are no longer kept" in answer.out


def test_a_run_that_diverged_in_its_first_epoch_holds(lenet: Lenet) -> None:
    options = ("--epochs", 1, "--limit-train", 200, "--set", "data.val_size=50", "--threads", 1)
    assert lenet("train", *options, "--lr", "1e6", "--name", "lost").code == 4
    answer = lenet("verify", "lost", "--retrain")
    assert answer.code == 0, answer
    assert "kept weights, trained again" in answer.out


def test_a_copy_elsewhere_holds(lenet: Lenet, run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    assert lenet("verify", "copy").code == 0


def test_what_native_trained_is_verified_without_a_compiler_but_not_trained_again(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if run.manifest.engine != "native":
        run.write_manifest(run.manifest.model_copy(update={"engine": "native"}))
    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    assert lenet("verify", "latest").code == 0
    again = lenet("verify", "latest", "--retrain")
    assert again.code == 2
    assert "there is no C compiler" in again.err
