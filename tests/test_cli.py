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

from lenet_mnist.cli.app import app
from lenet_mnist.files.tables import read_csv
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run, sha256_of

Lenet = Callable[..., Any]
QUICK = ("--limit-train", 1000, "--epochs", 1, "--set", "data.val_size=500", "--threads", 1)
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


def options(command: Any, name: str) -> list[str]:
    """Return a line for each command: its arguments and options."""
    if hasattr(command, "commands"):
        return [line for each in sorted(command.commands) for line in options(command.commands[each], f"{name} {each}")]
    return [f"{name}: {' '.join(parameter.opts[0] for parameter in command.params)}"]


def test_the_options_are_those_of_the_snapshot() -> None:
    """A changed option is a change for users: it shows in the diff of tests/cli_options.txt."""
    assert "\n".join(options(typer.main.get_command(app), "lenet")) + "\n" == SNAPSHOT.read_text()


def test_where_the_last_weights_are_kept_the_epoch_of_the_lowest_loss_is_named(lenet: Lenet, tmp_path: Path) -> None:
    settings = ("training.keep=last", "training.schedule=constant", "training.warmup=0", "training.engine=torch")
    changes = [word for setting in settings for word in ("--set", setting)]
    small = ("--limit-train", 200, "--batch-size", 16, "--set", "data.val_size=50", "--threads", 1)
    trained = lenet("train", *small, "--lr", 0.02, "--epochs", 6, *changes)
    assert trained.code == 0
    run = only_run(tmp_path / "runs")
    losses = [row.val_loss for row in run.history]
    lowest = losses.index(min(losses)) + 1
    assert lowest < 6  # else this would show nothing
    assert f"kept        epoch 6: validation loss {losses[-1]:.4f}" in trained.out
    assert f"not kept    epoch {lowest}: validation loss {min(losses):.4f}" in trained.out
    page = lenet("report", "latest")
    assert page.code == 0
    assert "After epoch 6, whose weights are kept. Not evaluated yet" in run.report_path.read_text()
    finished = run.manifest
    run.write_manifest(finished.model_copy(update={"status": "interrupted"}))
    assert lenet("report", "latest").code == 0
    assert "After epoch 6, whose weights are kept so far. Not evaluated yet" in run.report_path.read_text()


def test_train_evaluate_and_list(lenet: Lenet, tmp_path: Path) -> None:
    trained = lenet("train", *QUICK, "--name", "first")
    assert trained.code == 0
    run = only_run(tmp_path / "runs")
    assert f"lenet evaluate {Path('runs') / run.id}" in trained.out
    assert "epoch 1/1" in trained.err
    assert "epoch 1/1" not in trained.out

    seen = lenet("evaluate", f"runs/{run.id}", "--json")
    metrics = json.loads(seen.out)
    assert metrics["num_images"] == 10_000
    assert metrics["accuracy"] > 0.6
    assert metrics["accuracy_interval_95"]["low"] < metrics["accuracy"] < metrics["accuracy_interval_95"]["high"]

    listed = lenet("runs", "--test", "--json")
    (row,) = json.loads(listed.out)["runs"]
    assert row["run"] == run.id
    assert row["status"] == "finished"
    assert row["test_accuracy"] == metrics["accuracy"]
    assert "test_accuracy" not in json.loads(lenet("runs", "--json").out)["runs"][0]


def test_an_evaluation_leaves_every_file(lenet: Lenet, run: Run) -> None:
    answer = lenet("evaluate", "latest", "--split", "val")
    names = {path.name for path in run.evaluation_path("val").iterdir()}
    assert names == {
        "metrics.json",
        "per_class.csv",
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "predictions.csv",
        "misclassified.png",
        "calibration.png",
        "examples.safetensors",
    }
    assert {path.name for path in run.plots_path.iterdir()} == {"loss.png", "accuracy.png", "layers.png"}
    assert run.report_path.read_text().startswith("<!doctype html>")
    assert f"  {Path('runs') / run.id / 'report.html'}\n" in answer.out
    predictions = read_csv(run.evaluation_path("val") / "predictions.csv")
    metrics = json.loads((run.evaluation_path("val") / "metrics.json").read_text())
    assert len(predictions) == 500
    assert sum(row["label"] == row["prediction"] for row in predictions) == metrics["num_correct"]
    assert metrics["accuracy"] == run.manifest.best_val_accuracy
    assert metrics["loss"] == pytest.approx(run.manifest.best_val_loss, rel=1e-5)


@pytest.mark.usefixtures("run")
def test_the_second_look_at_the_test_set_says_so(lenet: Lenet) -> None:
    assert "test evaluation no." not in lenet("evaluate", "latest").out
    assert "test evaluation no. 2" in lenet("evaluate", "latest").out
    assert "test evaluation no." not in lenet("evaluate", "latest", "--split", "val").out


@pytest.mark.usefixtures("run")
def test_the_batch_size_of_an_evaluation_changes_no_count(lenet: Lenet) -> None:
    seen = [json.loads(lenet("evaluate", "latest", "--batch-size", size, "--json").out) for size in (999, 10_000)]
    assert seen[0]["num_correct"] == seen[1]["num_correct"]
    assert seen[0]["num_images"] == seen[1]["num_images"] == 10_000


@pytest.mark.usefixtures("run")
def test_min_accuracy_decides_the_exit_code(lenet: Lenet) -> None:
    assert lenet("evaluate", "latest", "--split", "val", "--min-accuracy", 0.1).code == 0
    missed = lenet("evaluate", "latest", "--split", "val", "--min-accuracy", 1)
    assert missed.code == 5
    assert "is below the 1.0000 asked for" in missed.err


def test_the_same_seed_gives_the_same_weights_wherever_it_runs(
    lenet: Lenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(lenet("train", *QUICK, "--json").out)["runs"][0]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then believes that it writes to a terminal, and shows its bar
    second = json.loads(lenet("train", *QUICK, "--name", "other", "--json").out)["runs"][0]
    third = json.loads(lenet("train", *QUICK, "--seed", 1, "--json").out)["runs"][0]
    assert first["weights_sha256"] == second["weights_sha256"] != third["weights_sha256"]


def test_the_configuration_of_a_run_does_the_run_again(lenet: Lenet, tmp_path: Path) -> None:
    first = json.loads(lenet("train", *QUICK, "--activation", "tanh", "--json").out)["runs"][0]
    again = json.loads(lenet("train", "--config", tmp_path / first["run"] / "config.yaml", "--json").out)["runs"][0]
    assert again["weights_sha256"] == first["weights_sha256"]


def test_lr_auto_searches_trains_and_tells_what_it_decided(lenet: Lenet, tmp_path: Path) -> None:
    answer = lenet("train", *QUICK, "--epochs", 4, "--batch-size", 20, "--lr", "auto", "--seeds", "3,4")
    assert answer.code == 0, answer.err
    assert "learning_rate auto: a search of at most 8 epochs, by the validation loss" in answer.err
    runs = [Run(path) for path in (tmp_path / "runs").iterdir()]
    (rate,) = {run.config.training.peak_learning_rate for run in runs}  # one search for all seeds
    tuning = runs[0].manifest.tuning
    assert tuning is not None
    assert rate == pytest.approx(tuning["lr"], rel=0.01)
    assert tuning["cost_epochs"] <= tuning["budget_epochs"] == 8
    assert len(tuning["tried"]) >= 3
    assert f"{rate:.3g} (auto, " in lenet("runs").out


def test_a_search_for_a_schedule_that_does_not_fall_is_not_sure(lenet: Lenet) -> None:
    schedule = ("--set", "training.schedule=constant")
    answer = lenet("train", *QUICK, "--epochs", 4, "--batch-size", 20, "--lr", "auto", *schedule)
    assert answer.code == 0, answer.err
    assert "(not sure: searched with schedule linear, not constant)" in answer.err


def test_a_rate_that_is_neither_number_nor_auto_is_refused(lenet: Lenet) -> None:
    for rate in ("fast", "nan", "0", "-1", "inf"):
        answer = lenet("train", "--lr", rate)
        assert answer.code == 2
        assert "--lr: training.learning_rate: must be a number above 0 and at most 1,000,000, or auto" in answer.err


def test_seeds_give_one_run_each_with_mean_and_spread(lenet: Lenet, tmp_path: Path) -> None:
    answer = lenet("train", *QUICK, "--seeds", "0-1,5")
    assert answer.code == 0
    assert "standard deviation over 3 seeds" in answer.out
    assert {Run(path).config.seed for path in (tmp_path / "runs").iterdir()} == {0, 1, 5}


def test_nothing_of_a_run_names_the_place_where_it_was_made(lenet: Lenet, tmp_path: Path, mnist_dir: Path) -> None:
    lenet("train", *QUICK, f"--data-dir={mnist_dir}", "--runs-dir", tmp_path / "runs")
    lenet("evaluate", "latest", "--split", "val")
    for path in only_run(tmp_path / "runs").path.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
            assert str(mnist_dir).encode() not in path.read_bytes()


def test_a_run_can_be_moved(lenet: Lenet, run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "somewhere" / "else"
    moved.parent.mkdir()
    run.path.rename(moved)
    assert lenet("evaluate", moved, "--split", "val").code == 0


def test_training_works_without_the_test_files(lenet: Lenet, tmp_path: Path, mnist_dir: Path) -> None:
    data = tmp_path / "data"
    copy_training_files(mnist_dir, data)
    assert lenet("train", *QUICK, "--data-dir", data, "--offline").code == 0
    refused = lenet("evaluate", "latest", "--data-dir", data, "--offline")
    assert refused.code == 3
    assert "t10k-images-idx3-ubyte" in refused.err
    assert not only_run(tmp_path / "runs").evaluation_path("test").exists()  # no look was counted


def test_without_a_compiler_training_goes_on_and_says_why_it_is_slower(
    lenet: Lenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lenet_mnist.model import engines

    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    answer = lenet("train", *QUICK)
    assert answer.code == 0
    assert "the slower one: native is not available: there is no C compiler\n" in answer.err
    manifest = only_run(tmp_path / "runs").manifest
    assert (manifest.engine, manifest.engine_reason) == ("torch", "native is not available: there is no C compiler")
    assert "slower" not in lenet("train", *QUICK, "--engine", "torch").err
    refused = lenet("train", *QUICK, "--engine", "native")
    assert refused.code == 2
    assert refused.err == "error: --engine: training.engine: native is not available: there is no C compiler\n"


def test_a_divergence_is_reported_with_where_and_what_to_do(lenet: Lenet, tmp_path: Path) -> None:
    answer = lenet("train", *QUICK, "--lr", 1e6)
    assert answer.code == 4
    assert "epoch 1, step" in answer.err
    assert "Lower the learning rate" in answer.err
    manifest = only_run(tmp_path / "runs").manifest
    assert manifest.status == "diverged"


ABSENT_DEVICE = "mps" if torch.cuda.is_available() else "cuda"  # on no machine are there both
BAD_INPUT = [
    (("train", "--config", "missing.yaml"), 2, "missing.yaml: no such file"),
    (("train", "--set", "training.learning_rat=1"), 2, "Did you mean training.learning_rate?"),
    (("train", "--set", "training.learning_rate"), 2, "expected key=value"),
    (("train", "--lr", "nan"), 2, "--lr: training.learning_rate"),
    (("train", "--lr=-0.1"), 2, "--lr: training.learning_rate"),
    (("train", "--lr", "fast"), 2, "--lr"),
    (("train", "--batch-size", 0), 2, "--batch-size: training.batch_size"),
    (("train", "--set", "training.patience=-1"), 2, "training.patience"),
    (("train", "--activation", "softplus"), 2, "'sigmoid', 'tanh' or 'relu'"),
    (("train", "--set", "data.train_size=59000"), 2, "59,000 training and 5,000 validation images"),
    (("train", "--limit-train", 55_001), 2, "--limit-train: data.limit_train"),
    (("train", "--device", ABSENT_DEVICE), 2, f"training.device: {ABSENT_DEVICE}"),
    (("train", "--seeds", "4-0"), 2, "--seeds 4-0"),
    (("train", "--name", "../../etc"), 2, "--name: name"),
    (("train", "--offline", "--data-dir", "nowhere"), 3, "--offline forbids"),
    (("evaluate", "nope"), 2, "no such run"),
    (("evaluate", "../nope"), 2, "'..' is not allowed"),
    (("evaluate", "latest"), 2, "no such runs here yet"),
    (("config", "check", "missing.yaml"), 2, "no such file"),
    (("data", "check", "--data-dir", "nowhere"), 3, "no such file"),
    (("frobnicate",), 2, "frobnicate"),
]


@pytest.mark.parametrize(("arguments", "code", "complaint"), BAD_INPUT, ids=lambda value: str(value)[:60])
def test_bad_input_gets_one_line_and_the_right_exit_code(
    lenet: Lenet, tmp_path: Path, arguments: tuple[object, ...], code: int, complaint: str
) -> None:
    answer = lenet(*arguments)
    assert answer.code == code
    assert complaint in " ".join(answer.err.split()).replace(" │", "")
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert list(tmp_path.glob("runs/*")) == []


def test_a_control_character_in_a_name_does_not_reach_the_terminal(lenet: Lenet) -> None:
    answer = lenet("evaluate", "a\x1b[2Jb\nc")
    assert answer.err == "error: a\\x1b[2Jb\\nc: no such run. `lenet runs` lists those in runs\n"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("split", ["train", "", "Test"])
def test_a_split_that_does_not_exist_is_refused(lenet: Lenet, split: str) -> None:
    answer = lenet("evaluate", "latest", "--split", split)
    assert answer.code == 2
    assert "--split" in answer.err


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "one bit"])
def test_damaged_weights_are_named(lenet: Lenet, run: Run, damage: str) -> None:
    path = run.model_path
    match damage:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(path.read_bytes()[:1000])
        case "other":
            path.write_bytes(next(run.checkpoints_path.glob("step-*")).read_bytes())
        case "one bit":
            content = bytearray(path.read_bytes())
            content[-100] ^= 1
            path.write_bytes(content)
    answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 3
    assert "model.safetensors" in answer.err


def test_a_run_whose_split_was_changed_is_refused(lenet: Lenet, run: Run) -> None:
    run.config_path.write_text(run.config_path.read_text().replace("split_seed: 0", "split_seed: 1"))
    answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 3
    assert "config.yaml: is not the one of this run" in answer.err


def test_a_run_that_was_trained_on_another_split_is_refused(lenet: Lenet, run: Run) -> None:
    as_if_trained_with(run, "split_seed: 0", "split_seed: 1")
    answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 3
    assert "another split" in answer.err


@pytest.mark.parametrize("name", ["history.csv", "config.yaml", "manifest.json"])
def test_a_run_with_a_file_missing_costs_no_look_at_the_test_set(lenet: Lenet, run: Run, name: str) -> None:
    (run.path / name).unlink()
    answer = lenet("evaluate", run.path)
    assert answer.code == (2 if name == "manifest.json" else 3)
    assert name in answer.err
    assert not run.evaluation_path("test").exists()


def test_what_native_trained_is_evaluated_without_a_compiler(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lenet_mnist.model import engines

    as_if_trained_with(run, "engine: auto", "engine: native")
    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    assert lenet("evaluate", "latest", "--split", "val").code == 0


def test_a_device_that_is_not_here_is_named_with_its_file(lenet: Lenet, run: Run) -> None:
    as_if_trained_with(run, "device: auto", f"device: {ABSENT_DEVICE}")
    answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 2
    assert f"{run.id}/config.yaml: training.device: {ABSENT_DEVICE}" in answer.err
    assert lenet("evaluate", "latest", "--split", "val", "--device", "cpu").code == 0


@pytest.mark.usefixtures("run")
def test_damaged_looks_are_counted_all_the_same(lenet: Lenet, run: Run) -> None:
    looks = run.evaluation_path("test") / "looks.csv"
    looks.parent.mkdir(parents=True)
    looks.write_bytes(b"time\n\xff\xfe\n")
    assert "test evaluation no. 2" in lenet("evaluate", "latest").out


def test_the_home_directory_is_meant_by_a_tilde(lenet: Lenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert lenet("data", "where", "--data-dir=~/mnist").out.splitlines()[0] == str(tmp_path / "home" / "mnist")
    assert lenet("data", "where", "--data-dir", "").code == 2
    assert lenet("data", "where", "--data-dir", ".").out.splitlines()[0] == "."


def test_seed_and_seeds_exclude_each_other(lenet: Lenet) -> None:
    assert lenet("train", "--seed", 1, "--seeds", "0-4").code == 2


def test_config_show_names_the_origin_of_each_value(lenet: Lenet, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("training:\n  max_epochs: 3\n")
    shown = lenet("config", "show", "my.yaml", "--set", "seed=4").out
    assert "max_epochs: 3" in next(line for line in shown.splitlines() if line.endswith("# my.yaml"))
    assert "seed: 4" in next(line for line in shown.splitlines() if line.endswith("# --set seed=4"))
    assert "batch_size: 64" in next(line for line in shown.splitlines() if "batch_size" in line)


def test_data_check_and_where(lenet: Lenet, mnist_dir: Path) -> None:
    assert lenet("data", "check").out.count("ok  ") == 4
    assert lenet("data", "where").out.splitlines()[0] == str(mnist_dir)
    assert lenet("data", "fetch", "--offline").out.count("was there") == 4


def test_data_show_draws_training_images_and_opens_no_others(
    lenet: Lenet, tmp_path: Path, mnist_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_training_files(mnist_dir, tmp_path)
    monkeypatch.setenv("LENET_DATA_DIR", str(tmp_path))
    (tmp_path / "my.yaml").write_text("augmentation:\n  rotation: 30\n  elastic: 1\n")
    pictures = {}
    for name, arguments in {
        "plain": (),
        "example": ("--augment",),
        "mine": ("--augment", "--config", "my.yaml"),
        "mine again": ("--augment", "--config", "my.yaml"),
        "another seed": ("--augment", "--config", "my.yaml", "--seed", 1),
        "another epoch": ("--augment", "--config", "my.yaml", "--epoch", 2),
    }.items():
        shown = lenet("data", "show", "--offline", "--num", 2, "--output", f"{name}.png", *arguments)
        assert (shown.code, shown.out) == (0, f"{name}.png\n")
        assert ("example of docs/augmentation.md" in shown.err) == (name == "example")
        pictures[name] = (tmp_path / f"{name}.png").read_bytes()
    assert pictures["mine"] == pictures["mine again"]
    assert len(set(pictures.values())) == len(pictures) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "augmentation.rotation=181"), "augmentation.rotation: should be less than or equal to 180"),
        (("--set", "augmentation.elastic=-1"), "augmentation.elastic: should be greater than or equal to 0"),
        (("--set", "augmentation.elastic_sigma=0"), "augmentation.elastic_sigma: should be greater than or equal to 2"),
        (("--set", "augmentation.rotate=1"), "unknown key. Did you mean augmentation.rotation?"),
        (("--output", "sheet.jpg"), "--output sheet.jpg: expected a name that ends in .png"),
        (("--num", 0), "--num"),
        (("--epoch", 0), "--epoch"),
    ],
    ids=str,
)
def test_data_show_refuses_what_makes_no_sense(
    lenet: Lenet, tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    refused = lenet("data", "show", "--augment", *arguments)
    assert refused.code == 2
    assert message in refused.err
    assert not list(tmp_path.iterdir())


def test_describe_prints_the_lectures_numbers(lenet: Lenet) -> None:
    table = lenet("describe", "--activation", "sigmoid").out
    for number in ("156", "2,416", "48,120", "10,164", "850", "61,706", "416,520"):
        assert number in table
    assert json.loads(lenet("describe", "--json").out)["num_parameters"] == 61_706


def test_a_full_disk_while_evaluating_is_named_and_loses_nothing(lenet: Lenet, run: Run) -> None:
    lenet("evaluate", "latest", "--split", "val")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with full_disk(20_000):
        answer = lenet("evaluate", "latest", "--split", "val")
    assert answer.code == 6, answer.err
    assert "examples.safetensors: cannot write" in answer.err
    assert "Traceback" not in answer.err
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in before if path.suffix in (".png", ".safetensors", ".html"))


def test_a_full_disk_while_training_is_named_and_marks_the_run(lenet: Lenet, tmp_path: Path) -> None:
    with full_disk(20_000):
        answer = lenet("train", *QUICK, "--engine", "torch")
    assert answer.code == 6, answer.err
    assert re.search(r"checkpoints/step-\S+\.safetensors: cannot write: File too large", answer.err)
    assert only_run(tmp_path / "runs").manifest.status == "failed"
    assert len(answer.err.strip().splitlines()) == 1


# What needs a process of its own.


def process(*arguments: object, mnist_dir: Path, cwd: Path, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    environment = {**os.environ, "LENET_DATA_DIR": str(mnist_dir)}
    environment.pop("LENET_RUNS_DIR", None)
    command = [sys.executable, "-m", "lenet_mnist", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=stderr)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_saves_and_exits_with_its_code(tmp_path: Path, mnist_dir: Path, number: int, code: int) -> None:
    endless = ("--epochs", 10_000, "--engine", "torch")
    running = process("train", *QUICK, *endless, mnist_dir=mnist_dir, cwd=tmp_path)
    assert running.stderr is not None
    assert "epoch" in running.stderr.readline()  # the first epoch is done, the second under way
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    run = only_run(tmp_path / "runs")
    manifest = run.manifest
    assert manifest.status == "interrupted"
    assert "Traceback" not in err
    newest = list_checkpoints(run.checkpoints_path)[0]
    assert newest.is_intact
    assert newest.step > run.history[-1].step
    assert f"lenet train --resume runs/{run.id}" in out


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
    endless = ("--epochs", 10_000, "--engine", "torch", "--runs-dir", tmp_path, "--data-dir", mnist_dir)
    arguments = [os.ttyname(theirs), sys.executable, "-m", "lenet_mnist", "train", *QUICK, *endless]
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


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path, mnist_dir: Path) -> None:
    running = process("config", "show", mnist_dir=mnist_dir, cwd=tmp_path)
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    with running.stderr:
        assert running.stderr.read() == ""
    assert running.wait(60) == 0


def test_two_trainings_that_start_together_get_a_run_each_whoever_watches_them(tmp_path: Path, mnist_dir: Path) -> None:
    """`lenet train 2>&1 | head -1` and `2>/dev/full`: the progress is lost, the training is not."""
    reader, closed = os.pipe()
    os.close(reader)
    streams = {"closed": closed, "full": os.open("/dev/full", os.O_WRONLY)}
    both = {
        name: process("train", *QUICK, "--epochs", 4, mnist_dir=mnist_dir, cwd=tmp_path, stderr=stream)
        for name, stream in streams.items()
    }
    for name, running in both.items():
        running.communicate(timeout=120)
        os.close(streams[name])
        assert running.returncode == 0, name
    assert [Run(path).manifest.epochs for path in (tmp_path / "runs").iterdir()] == [4, 4]
