"""The commands, as a user types them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from tests.conftest import copy_training_files
from tests.faults import full_disk
from tests.once import draw_roughly
from tests.processes import lenet as command_line
from tests.processes import start, wait_for
from tests.tables import read_csv

from lenet_mnist.cli.app import app
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run, sha256_of

Lenet = Callable[..., Any]
QUICK = ("--limit-train", 1000, "--epochs", 1, "--set", "data.val_size=500", "--threads", 1)
ENDLESS = ("--epochs", 10_000, "--engine", "torch")
SNAPSHOT = Path(__file__).parent / "cli_options.txt"


def only_run(runs_dir: Path) -> Run:
    (path,) = runs_dir.iterdir()
    return Run(path)


def as_if_trained_with(run: Run, old: str, new: str) -> None:
    """Change a finished run's configuration, and sign it as the run's own: as it comes from another machine."""
    text = run.config_path.read_text()
    assert old in text
    run.config_path.write_text(text.replace(old, new))
    run.write_manifest(run.manifest.model_copy(update={"config_sha256": sha256_of(run.config_path)}))


# Options and their help.


def commands(command: Any, name: str) -> list[tuple[str, Any]]:
    """Return every command that can be typed."""
    if hasattr(command, "commands"):
        return [
            found for each in sorted(command.commands) for found in commands(command.commands[each], f"{name} {each}")
        ]
    return [(name, command)]


ALL_COMMANDS = commands(typer.main.get_command(app), "lenet")


def test_the_options_are_those_of_the_snapshot() -> None:
    """A changed option is a change for users: it shows in the diff of tests/cli_options.txt."""
    lines = [
        f"{name}: {' '.join(parameter.opts[0] for parameter in command.params)}\n" for name, command in ALL_COMMANDS
    ]
    assert "".join(lines) == SNAPSHOT.read_text()


def test_every_help_is_complete_within_80_columns(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert all(parameter.help for _, command in ALL_COMMANDS for parameter in command.params)
    for name in ["lenet", "lenet data", "lenet config", *(name for name, _ in ALL_COMMANDS)]:
        shown = lenet(*name.split()[1:], "--help")
        assert shown.code == 0
        assert all(len(line) <= 80 and not line.endswith("...") for line in shown.out.splitlines()[1:]), name


def test_help_stands_under_the_lecture_s_steps_and_its_examples_are_commands(lenet: Lenet) -> None:
    headings = re.findall(r"^(\S.*):$", lenet("--help").out, re.MULTILINE)
    assert [heading[:2] for heading in headings if heading[0].isdigit()] == ["1.", "2.", "3.", "4."]
    known = {name: {o for each in command.params for o in each.opts} for name, command in ALL_COMMANDS}
    examples = [line for _, command in ALL_COMMANDS for line in (command.epilog or "").splitlines()[2:]]
    assert len(examples) > 15
    for words in (line.partition("#")[0].split() for line in examples):
        assert known[" ".join(words[:2])] >= {word for word in words if word.startswith("--")}, words


def test_a_shell_completes_commands_words_recipes_and_runs(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        monkeypatch.setenv("_LENET_COMPLETE", "complete_bash")
        return lenet().out.split()

    assert completed("lenet tr") == ["train"]
    assert completed("lenet train --activation ") == ["sigmoid", "tanh", "relu"]
    assert completed("lenet evaluate latest --split ") == ["test", "val"]
    assert {"fast", "relu"} <= {*completed("lenet train --config ")}
    assert {"latest", "relu", run.id} <= {*completed("lenet evaluate ")}
    assert completed("lenet train --resume la") == ["latest"]
    assert run.id not in completed("lenet evaluate --runs-dir nowhere ")


def test_quiet_and_verbose(lenet: Lenet, run: Run) -> None:
    usual, quiet, verbose = (lenet("evaluate", "latest", "--split", "val", *flag) for flag in ((), ("-q",), ("-v",)))
    assert (quiet.out, quiet.err) == (usual.out, "")
    assert usual.err != ""
    assert all(said in verbose.err for said in ("threads: 1", f"reads runs/{run.id}/config.yaml"))
    assert lenet("evaluate", "nope", "-q").err.startswith("error: ")
    assert lenet("runs", "-q", "-v").code == 2


def test_config_show_check_and_schema(lenet: Lenet, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("training:\n  max_epochs: 3\n")
    lines = lenet("config", "show", "my.yaml", "--set", "seed=4").out.splitlines()
    for setting, origin in (("max_epochs: 3", "my.yaml"), ("seed: 4", "--set seed=4"), ("batch_size: 64", "default")):
        assert any(setting in line and line.endswith(f"# {origin}") for line in lines)
    assert lenet("config", "check", "my.yaml").out == "ok  my.yaml\n"
    training = json.loads(lenet("config", "schema").out)["$defs"]["TrainingConfig"]
    assert (training["properties"]["momentum"]["minimum"], training["properties"]["max_epochs"]["maximum"]) == (
        0,
        100_000,
    )
    assert all(field["description"] for field in training["properties"].values())
    assert training["additionalProperties"] is False


ABSENT_DEVICE = "mps" if torch.cuda.is_available() else "cuda"  # no machine has both
BAD_INPUT = [
    ("train --set training.learning_rat=1", 2, "Did you mean training.learning_rate?"),
    ("train --lr=-0.1", 2, "--lr: training.learning_rate"),
    ("train --epochs 1.5", 2, "--epochs: training.max_epochs"),
    ("train --limit-train 55001", 2, "--limit-train: data.limit_train"),
    (f"train --device {ABSENT_DEVICE}", 2, "--device: training.device"),
    ("train --seeds 4-0", 2, "--seeds 4-0"),
    ("train --seed 1 --seeds 0-4", 2, "--seeds"),
    ("train --resume latest --seeds 0-4", 2, "--seeds"),
    ("train --accept-differences", 2, "--resume"),
    ("train --name ../../etc", 2, "--name: name"),
    ("train --offline --data-dir nowhere", 3, "--offline forbids"),
    ("evaluate nope", 2, "no such run"),
    ("evaluate latest", 2, "no such runs here yet"),
    ("data check --data-dir nowhere", 3, "no such file"),
    ("data show --output sheet.jpg", 2, "--output sheet.jpg"),
    ("evaluate a\x1b[2Jb", 2, "a\\x1b[2Jb: no such run"),
    # what typer itself refuses
    ("evaluate latest --split Test", 2, "--split"),
    ("evaluate latest --device gpu", 2, "--device"),
    ("data show --num 0", 2, "--num"),
    ("data show --epoch 0", 2, "--epoch"),
    ("data where --data-dir=", 2, "--data-dir"),
    ("frobnicate", 2, "frobnicate"),
    ("train --frobnicate", 2, "lenet train --help"),
]


def test_bad_input_gets_one_line_and_the_right_exit_code(lenet: Lenet, tmp_path: Path) -> None:
    for typed, code, problem in BAD_INPUT:
        answer = lenet(*typed.split(" "))
        assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1), answer
        assert answer.err.startswith("error: ")
        assert problem in answer.err
    assert "train" in lenet().err  # the help
    assert list(tmp_path.iterdir()) == []


# Train, evaluate, list.


def test_train_without_the_test_files_evaluate_and_list(lenet: Lenet, tmp_path: Path, mnist_dir: Path) -> None:
    copy_training_files(mnist_dir, tmp_path / "data")
    without = ("--data-dir", tmp_path / "data", "--offline")
    trained = lenet("train", *QUICK, "--name", "first", *without)
    assert trained.code == 0
    run = only_run(tmp_path / "runs")
    assert f"lenet evaluate {Path('runs') / run.id}" in trained.out
    assert "epoch 1/1" in trained.err
    assert "epoch 1/1" not in trained.out
    refused = lenet("evaluate", "latest", *without)
    assert refused.code == 3
    assert "t10k-images" in refused.err
    assert not run.evaluation_path("test").exists()  # no test evaluation was counted

    metrics = json.loads(lenet("evaluate", f"runs/{run.id}", "--json").out)
    assert metrics["num_images"] == 10_000
    assert metrics["accuracy"] > 0.6
    assert metrics["accuracy_interval_95"]["low"] < metrics["accuracy"] < metrics["accuracy_interval_95"]["high"]
    again = json.loads(lenet("evaluate", "latest", "--batch-size", 999, "--json").out)
    assert (again["num_test_looks"], again["num_correct"]) == (metrics["num_test_looks"] + 1, metrics["num_correct"])

    (row,) = json.loads(lenet("runs", "--test", "--json").out)["runs"]
    assert (row["run"], row["status"], row["test_accuracy"]) == (run.id, "finished", metrics["accuracy"])
    assert "test_accuracy" not in json.loads(lenet("runs", "--json").out)["runs"][0]


def test_an_evaluation_leaves_every_file(lenet: Lenet, run: Run) -> None:
    answer = lenet("evaluate", "latest", "--split", "val")
    directory = run.evaluation_path("val")
    tables = {"metrics.json", "per_class.csv", "confusion_matrix.csv", "predictions.csv", "examples.safetensors"}
    pictures = {"confusion_matrix.png", "misclassified.png", "calibration.png"}
    assert {path.name for path in directory.iterdir()} == tables | pictures
    assert {path.name for path in run.plots_path.iterdir()} == {"loss.png", "accuracy.png", "layers.png"}
    assert run.report_path.read_text().startswith("<!doctype html>")
    assert f"  {Path('runs') / run.id / 'report.html'}\n" in answer.out
    predictions = read_csv(directory / "predictions.csv")
    metrics = json.loads((directory / "metrics.json").read_text())
    assert len(predictions) == 500
    assert sum(row["label"] == row["prediction"] for row in predictions) == metrics["num_correct"]
    assert metrics["accuracy"] == run.manifest.best_val_accuracy
    assert metrics["loss"] == pytest.approx(run.manifest.best_val_loss, rel=1e-5)
    assert not run.evaluation_path("test").exists()
    for accuracy, code in ((0.1, 0), (1, 5)):
        assert lenet("evaluate", "latest", "--split", "val", "--min-accuracy", accuracy).code == code


def test_where_the_last_weights_are_kept_the_epoch_of_the_lowest_loss_is_named(lenet: Lenet, tmp_path: Path) -> None:
    settings = ("keep=last", "schedule=constant", "warmup=0", "engine=torch", "batch_size=16", "learning_rate=0.02")
    changes = [word for setting in settings for word in ("--set", f"training.{setting}")]
    trained = lenet("train", *QUICK, *changes, "--limit-train", 200, "--epochs", 6, "--set", "data.val_size=50")
    assert trained.code == 0
    losses = [row.val_loss for row in only_run(tmp_path / "runs").history]
    lowest = losses.index(min(losses)) + 1
    assert lowest < 6  # else this would show nothing
    assert re.search(rf"^kept +epoch 6: .*{losses[-1]:.4f}", trained.out, re.MULTILINE)
    assert re.search(rf"^not kept +epoch {lowest}: .*{min(losses):.4f}", trained.out, re.MULTILINE)


def test_the_same_seed_gives_the_same_weights_wherever_it_runs(
    lenet: Lenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(*arguments: object) -> tuple[str, Path]:
        (run,) = json.loads(lenet("train", *arguments, "--json").out)["runs"]
        return run["weights_sha256"], Path.cwd() / run["run"]

    first, path = weights(*QUICK, "--activation", "tanh")
    assert weights("--config", path / "config.yaml")[0] == first
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then believes that it writes to a terminal, and shows its bar
    assert weights(*QUICK, "--activation", "tanh", "--name", "other")[0] == first
    assert weights(*QUICK, "--activation", "tanh", "--seed", 1)[0] != first


def test_seeds_give_one_run_each_and_lr_auto_one_search_for_all(lenet: Lenet, tmp_path: Path) -> None:
    constant = ("--set", "training.schedule=constant")
    answer = lenet("train", *QUICK, "--epochs", 4, "--batch-size", 20, "--lr", "auto", "--seeds", "3,4", *constant)
    assert answer.code == 0, answer.err
    assert "not sure: searched with schedule linear, not constant" in answer.err
    runs = [Run(path) for path in (tmp_path / "runs").iterdir()]
    (rate,) = {run.config.training.peak_learning_rate for run in runs}
    tuning = runs[0].manifest.tuning
    assert tuning is not None
    assert rate == pytest.approx(tuning["lr"], rel=0.01)
    assert tuning["cost_epochs"] <= tuning["budget_epochs"] == 8
    assert len(tuning["tried"]) >= 3
    assert f"{rate:.3g} (auto, " in lenet("runs").out
    assert "standard deviation over 2 seeds" in answer.out
    assert {run.config.seed for run in runs} == {3, 4}


def test_a_run_names_no_place_and_can_be_moved(lenet: Lenet, tmp_path: Path, mnist_dir: Path) -> None:
    lenet("train", *QUICK, f"--data-dir={mnist_dir}", "--runs-dir", tmp_path / "runs")
    lenet("evaluate", "latest", "--split", "val")
    run = only_run(tmp_path / "runs")
    for path in run.path.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
            assert str(mnist_dir).encode() not in path.read_bytes()
    moved = run.path.rename(tmp_path / "elsewhere")
    assert lenet("evaluate", moved, "--split", "val").code == 0


def test_without_a_compiler_training_is_slower_and_says_why(
    lenet: Lenet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lenet_mnist.model import engines

    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    reason = "native is not available: there is no C compiler"
    answer = lenet("train", *QUICK, "--runs-dir", "new")
    assert answer.code == 0
    assert reason in answer.err
    manifest = only_run(tmp_path / "new").manifest
    assert (manifest.engine, manifest.engine_reason) == ("torch", reason)
    assert reason not in lenet("train", *QUICK, "--engine", "torch").err
    refused = lenet("train", *QUICK, "--engine", "native")
    assert (refused.code, refused.err) == (2, f"error: --engine: training.engine: {reason}\n")
    as_if_trained_with(run, "engine: auto", "engine: native")
    assert lenet("evaluate", run.path, "--split", "val").code == 0


def test_a_divergence_is_reported_with_where_and_what_to_do(lenet: Lenet, tmp_path: Path) -> None:
    answer = lenet("train", *QUICK, "--lr", 1e6)
    assert answer.code == 4
    assert "epoch 1, step" in answer.err
    assert only_run(tmp_path / "runs").manifest.status == "diverged"


# Damaged runs, other machines, full disks.


def test_a_damaged_or_missing_file_is_named_and_costs_no_test_evaluation(lenet: Lenet, run: Run) -> None:
    weights = run.model_path.read_bytes()
    flipped = weights[:-100] + bytes([weights[-100] ^ 1]) + weights[-99:]
    other = next(run.checkpoints_path.glob("step-*")).read_bytes()
    for name in ("checkpoints/model.safetensors", "history.csv", "config.yaml", "manifest.json"):
        path = run.path / name
        content = path.read_bytes()
        for damaged in (None, weights[:1000], other, flipped) if content == weights else (None,):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            answer = lenet("evaluate", run.path)
            assert answer.code == (2 if name == "manifest.json" else 3)
            assert name in answer.err
            path.write_bytes(content)
    looks = run.evaluation_path("test") / "looks.csv"
    assert not looks.exists()
    looks.parent.mkdir(parents=True)
    looks.write_bytes(b"time\n\xff\xfe\n")  # damaged, they are counted all the same
    assert json.loads(lenet("evaluate", "latest", "--json").out)["num_test_looks"] == 2


def test_a_run_of_another_split_or_device_is_refused(lenet: Lenet, run: Run) -> None:
    as_if_trained_with(run, "device: auto", f"device: {ABSENT_DEVICE}")
    answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 2
    assert f"{run.id}/config.yaml: training.device: {ABSENT_DEVICE}" in answer.err
    assert lenet("evaluate", "latest", "--split", "val", "--device", "cpu").code == 0
    as_if_trained_with(run, "split_seed: 0", "split_seed: 1")
    answer = lenet("evaluate", "latest", "--split", "val", "--device", "cpu")
    assert answer.code == 3
    assert "split" in answer.err


def test_a_full_disk_is_named_loses_nothing_and_marks_the_run(lenet: Lenet, run: Run, tmp_path: Path) -> None:
    lenet("evaluate", "latest", "--split", "val")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with full_disk(20_000):
        evaluated = lenet("evaluate", "latest", "--split", "val")
        trained = lenet("train", *QUICK, "--engine", "torch", "--runs-dir", "new")
    for answer, name in ((evaluated, r"examples\.safetensors"), (trained, r"checkpoints/step-\S+\.safetensors")):
        assert answer.code == 6, answer.err
        assert re.search(rf"{name}: cannot write", answer.err)
        assert answer.err.count("\n") == 1
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in before if path.suffix in (".png", ".safetensors", ".html"))
    assert only_run(tmp_path / "new").manifest.status == "failed"


# Data and architecture.


def test_describe_and_data_commands(lenet: Lenet, tmp_path: Path, mnist_dir: Path, monkeypatch: Any) -> None:
    table = lenet("describe", "--activation", "sigmoid").out
    assert all(number in table for number in ("156", "2,416", "48,120", "10,164", "850", "61,706", "416,520"))
    assert json.loads(lenet("describe", "--json").out)["num_parameters"] == 61_706
    assert lenet("data", "check").out.count("ok  ") == 4
    assert lenet("data", "where").out.splitlines()[0] == str(mnist_dir)
    assert lenet("data", "fetch", "--offline").out.count("was there") == 4
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert lenet("data", "where", "--data-dir=~/mnist").out.splitlines()[0] == str(tmp_path / "home" / "mnist")
    assert lenet("data", "where", "--data-dir", ".").out.splitlines()[0] == "."


def test_data_show_draws_training_images_and_opens_no_others(
    lenet: Lenet, tmp_path: Path, mnist_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_roughly(monkeypatch)
    copy_training_files(mnist_dir, tmp_path)
    monkeypatch.setenv("LENET_DATA_DIR", str(tmp_path))
    (tmp_path / "my.yaml").write_text("augmentation:\n  rotation: 30\n  elastic: 1\n")
    mine = ("--augment", "--config", "my.yaml")
    pictures = []
    for arguments in ((), ("--augment",), mine, (*mine, "--seed", 1), (*mine, "--epoch", 2), mine):
        shown = lenet("data", "show", "--offline", "--num", 2, "--output", "sheet.png", *arguments)
        assert (shown.code, shown.out) == (0, "sheet.png\n")
        assert ("docs/augmentation.md" in shown.err) == (arguments == ("--augment",))  # the example shown there
        pictures.append((tmp_path / "sheet.png").read_bytes())
    assert pictures[-1] == pictures[2]
    assert len(set(pictures)) == len(pictures) - 1


# What needs a process of its own.


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (signal.SIGUSR1, 138)])
def test_a_signal_saves_and_exits_with_its_code(tmp_path: Path, mnist_dir: Path, number: int, code: int) -> None:
    words = ("train", *QUICK, *ENDLESS)
    running = start(command_line, *words, directory=tmp_path, LENET_DATA_DIR=str(mnist_dir))
    wait_for(lambda: "epoch" in running.err.read_text())  # the first epoch is done, the second has begun
    running.send(number)
    ended = running.end()
    assert ended.code == code, ended.err
    run = only_run(tmp_path / "runs")
    assert run.manifest.status == "interrupted"
    assert "Traceback" not in ended.err
    newest = list_checkpoints(run.checkpoints_path)[0]
    assert newest.is_intact
    assert newest.step > run.history[-1].step
    assert f"lenet train --resume runs/{run.id}" in ended.out


# The first process of a session gets the terminal that it opens, and its group is the one in front.
IN_FRONT = (
    "tty = os.open(sys.argv[1], os.O_RDWR); [os.dup2(tty, n) for n in (0, 1, 2)]; os.execv(sys.argv[2], sys.argv[2:])"
)
BEHIND = """
tty = os.open(sys.argv[1], os.O_RDWR)
job = subprocess.Popen(sys.argv[2:], stdin=tty, stdout=tty, stderr=tty, process_group=0)
sys.stdin.read()
job.kill()
"""


@pytest.mark.parametrize("started", [IN_FRONT, BEHIND], ids=["in front", "behind"])
def test_on_a_terminal_that_is_closed_or_where_others_are_in_front(
    tmp_path: Path, mnist_dir: Path, started: str
) -> None:
    """Closed, the training saves and ends. From behind it draws nothing over what is typed in front."""
    ours, theirs = pty.openpty()
    places = ("--runs-dir", tmp_path, "--data-dir", mnist_dir)
    arguments = [os.ttyname(theirs), sys.executable, "-m", "lenet_mnist", "train", *QUICK, *ENDLESS, *places]
    command = [sys.executable, "-c", f"import os, subprocess, sys\n{started}", *map(str, arguments)]
    screen = b""
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as running:
        while b"epoch     2/" not in screen:
            screen += os.read(ours, 1000)
        os.close(ours)
        os.close(theirs)
    assert b"\x1b[?25l" not in screen  # the cursor: hidden, it would stay so after a SIGKILL
    assert (b"\x1b[2K" in screen) == (started == IN_FRONT)
    if started == IN_FRONT:
        assert running.returncode == 129
        assert only_run(tmp_path).manifest.status == "interrupted"


def lenet_watched_by_nobody(handle: int, device: str, *words: object) -> None:
    """Run the command line with a stream that cannot be written to: nobody reads it, or the disk is full."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer if device == "a closed pipe" else os.open(device, os.O_WRONLY), handle)
    command_line(*words)


def test_two_trainings_that_start_together_get_a_run_each_whoever_watches_them(tmp_path: Path, mnist_dir: Path) -> None:
    """`lenet train 2>&1 | head -1` and `2>/dev/full`: the progress is lost, the training is not."""
    places: dict[str, Any] = {"directory": tmp_path, "LENET_DATA_DIR": str(mnist_dir)}
    shown = start(lenet_watched_by_nobody, 1, "a closed pipe", "config", "show", **places).end()
    assert (shown.code, shown.err) == (0, "")
    words = ("train", *QUICK, "--epochs", 4)
    both = [start(lenet_watched_by_nobody, 2, device, *words, **places) for device in ("a closed pipe", "/dev/full")]
    assert [training.end().code for training in both] == [0, 0]
    assert [Run(path).manifest.epochs for path in (tmp_path / "runs").iterdir()] == [4, 4]
