"""`lenet diagnose`, and the advice at the end of `lenet train`."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenet_mnist.files.tables import header_line
from lenet_mnist.runs.run import Run
from lenet_mnist.training.rows import EpochRow

SMALL = ("--limit-train", 1000, "--epochs", 3, "--batch-size", 20, "--set", "data.val_size=500", "--threads", 1)


def test_a_rate_that_is_too_low_is_told_at_the_end_and_at_any_time(lenet: Callable[..., Any]) -> None:
    trained = lenet("train", *SMALL, "--lr", "1e-6")
    assert "too low" in trained.out
    later = lenet("diagnose", "latest")
    assert later.code == 0
    assert later.out in trained.out + "\n"
    assert "because the loss ended at" in later.out
    assert "stuck at guessing" in later.out


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--set", "training.weight_decay=1", "--lr", 0.05), "weight decay"),
        (("--set", "training.momentum=0.999", "--lr", 0.5), "momentum"),
        (("--lr", 2), "learning rate"),  # the layers die, and decay shrinks their weights
    ],
)
def test_the_cause_is_named_in_a_real_training(
    lenet: Callable[..., Any], options: tuple[object, ...], cause: str
) -> None:
    lenet("train", *SMALL, *options)
    first = json.loads(lenet("diagnose", "latest", "--json").out)["findings"][0]
    assert first["cause"] == cause


def test_the_command_that_it_names_can_be_typed(lenet: Callable[..., Any], tmp_path: Path) -> None:
    lenet("train", *SMALL, "--lr", "1e-6")
    for finding in json.loads(lenet("diagnose", "latest", "--json").out)["findings"]:
        command = shlex.split(finding["next_command"])
        assert {"run", "{run}", "{config}", "RUN"}.isdisjoint(command)
        assert any(Path(word).exists() for word in command)
    moved = tmp_path / "a place with spaces"
    Path("runs").rename(moved)
    finding = json.loads(lenet("diagnose", "latest", "--runs-dir", moved, "--json").out)["findings"][0]
    command = shlex.split(finding["next_command"])
    assert command[:3] == ["lenet", "train", "--config"]
    assert float(command[-1]) == 1e-5
    assert lenet(*command[1:]).code == 0


def test_the_next_step_is_never_the_test_set(lenet: Callable[..., Any]) -> None:
    for rate, code, next_step, begins in (
        ("0.02", 0, ["evaluate", "--split", "val"], "nothing wrong found\n"),
        ("1e-6", 0, ["diagnose"], "learning rate: "),
        ("1e6", 4, ["diagnose"], "diverged: "),
    ):
        trained = lenet("train", *SMALL, "--lr", rate, "--runs-dir", "a place")
        assert trained.code == code
        line = next(line for line in trained.out.splitlines() if line.startswith("next "))
        _, program, command, run, *options = shlex.split(line)
        assert (program, [command, *options]) == ("lenet", next_step)
        assert lenet(command, run, *options).code == 0
        assert lenet("diagnose", run).out.startswith(begins)
        assert ("because" in trained.out) == (rate != "0.02")


def test_each_training_of_a_sweep_has_a_line(lenet: Callable[..., Any]) -> None:
    options = ("--limit-train", 1000, "--batch-size", 20, "--set", "data.val_size=500", "--threads", 1, "--epochs", 2)
    lenet("lr-sweep", *options, "--lrs", "1e-6,0.05,1e6", "--seeds", "0", "--name", "s")
    lines = lenet("diagnose", next(iter(json.loads(lenet("runs", "--json").out)["runs"]))["run"]).out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["1e-06", "0.05", "1e+06"]
    assert lines[1].endswith("raise it")
    assert lines[3].endswith("lower it")


def test_a_damaged_run_is_named(lenet: Callable[..., Any], run: Run) -> None:
    run.steps_path.write_text("nonsense\n1\n")
    answer = lenet("diagnose", run.path)
    assert answer.code == 3
    assert "steps.csv" in answer.err
    run.history_path.write_text(header_line(EpochRow))
    run.steps_path.write_text("step,epoch,lr,train_loss,gradient_norm,c1_gradient_norm\n")
    assert lenet("diagnose", run.path).out.startswith("nothing wrong found")


def test_a_training_that_did_not_end_says_so(lenet: Callable[..., Any], run: Run) -> None:
    """A crash is not called healthy; what there is of the training is read all the same."""
    manifest = run.manifest
    for status, has_ended in (("failed", False), ("running", False), ("interrupted", False), ("finished", True)):
        run.write_manifest(manifest.model_copy(update={"status": status, "message": "the disk was full"}))
        assert (json.loads(lenet("diagnose", run.path, "--json").out)["unfinished"] is None) == has_ended
        answer = lenet("diagnose", run.path)
        assert answer.code == 0
        assert answer.out.startswith("unfinished: ") != has_ended
        assert ("the disk was full" in answer.out) == (status == "failed")
