"""`lenet compare`, on real trainings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.tables import read_csv

from lenet_mnist.config import Config, Split
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.files.tables import header_line
from lenet_mnist.runs.manifest import Resume
from lenet_mnist.runs.run import Run, sha256_of
from lenet_mnist.study.comparison import Comparison, compare_runs
from lenet_mnist.study.evaluation import Evaluator
from lenet_mnist.study.train import train_seeds
from lenet_mnist.training.context import Session
from lenet_mnist.training.rows import EpochRow, StepRow

Lenet = Callable[..., Any]


def config(activation: str, **training: Any) -> Config:
    values = {"max_epochs": 2, "batch_size": 32, "threads": 1, **training}
    data = {"limit_train": 1000, "val_size": 500}
    return Config.model_validate({"model": {"activation": activation}, "data": data, "training": values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """Runs on 1,000 images: relu and tanh with seeds 0 and 1, one that diverged."""
    runs_dir = tmp_path_factory.mktemp("compare")
    train_seeds(config("relu"), "0-1", Session(access), runs_dir)
    train_seeds(config("tanh"), "0-1", Session(access), runs_dir)
    train_seeds(config("relu", learning_rate=1e6), None, Session(access), runs_dir)
    return runs_dir


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> dict[str, Run]:
    """Copies of them in runs/, by activation and seed."""
    shutil.copytree(trained, tmp_path / "runs")
    found = {}
    for path in sorted((tmp_path / "runs").iterdir()):
        run = Run(path)
        seen = run.config
        is_lost = run.manifest.status == "diverged"
        found["lost" if is_lost else f"{seen.model.activation}{seen.seed}"] = run
    assert set(found) == {"relu0", "relu1", "tanh0", "tanh1", "lost"}
    return found


def signed(run: Run, **changes: Any) -> None:
    """Change a run's manifest, and sign it again."""
    run.write_manifest(run.manifest.model_copy(update=changes))


def changed(run: Run, old: str, new: str, **manifest: Any) -> None:
    """Change a run's configuration, and sign it as its own."""
    text = run.config_path.read_text()
    assert old in text
    run.config_path.write_text(text.replace(old, new))
    signed(run, config_sha256=sha256_of(run.config_path), **manifest)


def compared(runs: list[Run], access: DataAccess, *levels: float) -> Comparison:
    return compare_runs(runs, Split.VAL, levels, Evaluator(access))


def test_seeds_are_grouped_and_groups_named_by_what_differs(runs: dict[str, Run], access: DataAccess) -> None:
    found = compared([runs[name] for name in ("relu0", "tanh1", "relu1", "tanh0")], access, 2.0)
    assert [(group.letter, group.name) for group in found.groups] == [("A", "relu"), ("B", "tanh")]
    assert [[run.config.seed for run in group.runs] for group in found.groups] == [[0, 1], [1, 0]]
    for group in found.groups:
        accuracies = {run.config.seed: run.manifest.best_val_accuracy for run in group.runs}
        assert group.accuracies() == pytest.approx(accuracies, abs=1e-12)
        assert group.accuracy is not None
        assert (group.accuracy.method, group.accuracy.value) == ("student-t", pytest.approx(fmean(accuracies.values())))
    (contrast,) = found.contrasts
    assert contrast.accuracy is not None
    assert contrast.accuracy.method == "paired-t"
    assert contrast.speed_ratios[0].ratio is not None
    assert found.pair is None


def test_a_run_that_changed_on_resume_is_no_further_seed_of_the_others(
    runs: dict[str, Run], access: DataAccess
) -> None:
    difference = "training.learning_rate was 0.1, and is now 0.04"
    resume = Resume(time="", step=9, config_sha256="", differences=(difference,), versions={}, machine="")
    signed(runs["relu1"], resumes=(resume,))
    found = compared([runs["relu0"], runs["relu1"]], access)
    assert len(found.groups) == 2
    assert difference in found.groups[1].name


def test_two_runs_are_compared_image_by_image(lenet: Lenet, runs: dict[str, Run], tmp_path: Path) -> None:
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--output", "found", "--speed-ratio", "loss=2")
    assert answer.code == 0, answer.err
    pair = json.loads((tmp_path / "found" / "comparison.json").read_text())["pair"]
    assert list(pair) == [*("names", "num_fixed", "num_broken", "num_both_right", "num_both_wrong", "mcnemar_p_value")]
    for name in ("relu0", "tanh0"):
        lenet("evaluate", runs[name].path, "--split", "val")
    tables = [read_csv(runs[name].evaluation_path("val") / "predictions.csv") for name in ("relu0", "tanh0")]
    right = [[row["label"] == row["prediction"] for row in table] for table in tables]
    fixed = [row["index"] for row, a, b in zip(tables[0], *right, strict=True) if a and not b]
    broken = [row["index"] for row, a, b in zip(tables[0], *right, strict=True) if b and not a]
    assert (pair["num_fixed"], pair["num_broken"]) == (len(fixed), len(broken))
    assert f"A fixes {len(fixed)}, breaks {len(broken)} of B's answers" in answer.out
    rows = read_csv(tmp_path / "found" / "differing.csv")
    assert sorted(row["index"] for row in rows) == sorted([*fixed, *broken])
    assert {row["index"] for row in rows if row["label"] == row["prediction of A"]} == set(fixed)
    assert {path.name for path in (tmp_path / "found").iterdir()} == {
        *("comparison.json", "differing.csv", "loss.png", "accuracy.png", "fixed.png", "broken.png")
    }


def test_two_seeds_are_one_group_and_a_pair(lenet: Lenet, runs: dict[str, Run]) -> None:
    answer = lenet("compare", runs["relu0"].path, runs["relu1"].path)
    assert answer.code == 0
    for words in ("relu, lr 0.04  0-1", "2 seeds", "seed 0 fixes "):
        assert words in answer.out


def test_a_comparison_has_a_directory_of_its_own_and_writes_nothing_into_the_runs(
    lenet: Lenet, runs: dict[str, Run], tmp_path: Path
) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for run in runs.values() for path in run.path.rglob("*") if path.is_file()}

    before, listed = content(), lenet("runs", "--json").out
    answer = lenet("compare", *(run.path for run in runs.values()), "--json")
    (made,) = (tmp_path / "runs").glob("compare-*")
    values = json.loads(answer.out)
    assert Path(values.pop("directory")) == Path("runs") / made.name
    assert values == json.loads((made / "comparison.json").read_text())
    assert str(tmp_path) not in json.dumps(values)
    assert (content(), lenet("runs", "--json").out) == (before, listed)
    assert lenet("diagnose", f"runs/{made.name}").code == 2


def test_every_test_evaluation_is_counted_in_each_run(lenet: Lenet, runs: dict[str, Run]) -> None:
    command = ("compare", runs["relu0"].path, runs["tanh0"].path, "--split", "test")
    first = lenet(*command, "--json")
    (a, b) = (group["runs"][0] for group in json.loads(first.out)["groups"])
    assert (a["num_images"], a["num_test_looks"], b["num_test_looks"]) == (10_000, 1, 1)
    assert "test evaluation no. 2" in lenet(*command).out
    for name in ("relu0", "tanh0"):
        looks = runs[name].evaluation_path("test")
        assert [path.name for path in looks.iterdir()] == ["looks.csv"]  # no evaluation is written
        assert len((looks / "looks.csv").read_text().splitlines()) == 3
    assert json.loads(lenet("evaluate", runs["relu0"].path, "--json").out)["num_correct"] == a["num_correct"]


def test_none_is_counted_where_one_run_is_refused(lenet: Lenet, runs: dict[str, Run]) -> None:
    runs["tanh1"].model_path.write_bytes(b"nonsense")
    answer = lenet("compare", *(runs[name].path for name in ("relu0", "tanh0", "tanh1")), "--split", "test")
    assert (answer.code, "model.safetensors" in answer.err) == (3, True)
    assert not any(run.evaluation_path("test").exists() for run in runs.values())


def test_runs_that_diverged_or_are_not_finished_are_shown(lenet: Lenet, runs: dict[str, Run]) -> None:
    signed(runs["relu1"], status="running", epochs=1)
    answer = lenet("compare", *(runs[name].path for name in ("relu0", "relu1", "lost")), "--speed-ratio", "loss=2")
    assert answer.code == 0, answer.err
    assert "lr 1000000" in answer.out
    assert f"note: {runs['lost'].id} diverged (the " in answer.out
    assert "1 of 1 of B never reached it" in answer.out
    assert f"note: {runs['relu1'].id} was killed after 1 epoch: the weights of epoch" in answer.out


def test_steps_that_do_not_show_the_same_are_noted(lenet: Lenet, runs: dict[str, Run]) -> None:
    changed(runs["relu1"], "batch_size: 32", "batch_size: 16")
    changed(runs["tanh1"], "rotation: 0.0", "rotation: 10.0")
    for name, note in (("relu1", "the batch sizes differ"), ("tanh1", "the augmentation differs")):
        both = [runs["relu0"].path, runs[name].path]
        assert note in lenet("compare", *both, "--speed-ratio", "loss=1").out
        assert note not in lenet("compare", *both).out


def test_a_run_without_any_row_is_shown(lenet: Lenet, runs: dict[str, Run]) -> None:
    run = runs["relu1"]
    run.history_path.write_text(header_line(EpochRow))
    run.steps_path.write_text(header_line(StepRow))
    signed(run, status="interrupted", best_epoch=None, weights_sha256=None, epochs=0)
    run.model_path.unlink()
    for others in (["relu0"], ["relu0", "tanh0"], ["lost"]):
        answer = lenet("compare", run.path, *(runs[name].path for name in others), "--speed-ratio", "loss=1")
        assert answer.code == 0, answer.err
        assert f"{run.id} was interrupted after 0 epochs: it kept no weights." in answer.out


def test_runs_whose_figures_do_not_compare_are_refused(lenet: Lenet, runs: dict[str, Run]) -> None:
    manifest = runs["tanh0"].manifest
    files = dict.fromkeys(manifest.data_files, "0" * 64)
    for changes, words in (
        ({"data_files": files}, "different data"),
        ({"split_sha256": "0" * 64}, "its split is different"),
    ):
        runs["tanh0"].write_manifest(manifest.model_copy(update=changes))
        for split in ("val", "test"):
            answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--split", split)
            assert (answer.code, words in answer.err) == (2, True)
    for name, old, new in (("tanh0", "split_seed: 0", "split_seed: 1"), ("tanh1", "val_size: 500", "val_size: 600")):
        changed(runs[name], old, new, split_sha256="0" * 64)
        answer = lenet("compare", runs["relu0"].path, runs[name].path)
        assert (answer.code, f"data.{new.replace(': ', ' ')}, not {old.split()[1]}" in answer.err) == (2, True)


def test_what_is_no_comparison_is_refused(lenet: Lenet, runs: dict[str, Run], tmp_path: Path) -> None:
    one, other = runs["relu0"].path, runs["tanh0"].path
    copy = shutil.copytree(one, tmp_path / "runs" / "20260101-000000-copy-0000")
    signed(runs["relu1"], kind="sweep")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    for words, complaint in (
        ((one,), "is the only run"),
        ((one, other, one), "is the same training as"),
        ((one, f"runs/{one.name}"), "is the same training as"),
        ((one, copy), "is the same training as"),
        ((one, runs["relu1"].path), "is a sweep run"),
        ((one, "runs/nothing"), "no such run"),
        ((one, other, "--split", "train"), "--split"),
        ((one, other, "--output", "full"), "--output full: is not empty"),
        ((one, other, "--output", "full/thesis.tex"), "is a file"),
        *(
            ((one, other, "--speed-ratio", level), f"--speed-ratio {level}: expected")
            for level in ("loss", "0.1", "loss=", "loss=0", "loss=-1", "loss=nan", "loss=inf", "accuracy=0.9")
        ),
    ):
        answer = lenet("compare", *words)
        assert (answer.code, complaint in answer.err) == (2, True), (words, answer)
    assert not list((tmp_path / "runs").glob("compare-*"))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_damaged_run_is_named(lenet: Lenet, runs: dict[str, Run]) -> None:
    run, good = runs["tanh0"], runs["relu0"].path

    def refused(words: str) -> None:
        answer = lenet("compare", good, run.path, "--speed-ratio", "loss=1")
        assert (answer.code, words in answer.err) == (3, True), answer

    for row in ("3,1,0.1,nan,1,1", "3,1,0.1,-1.0,1,1", "3,1,0.1,1e300,1,1", "2,1,0.1,1,1,1", f"1{'0' * 400},1,1,1,1,1"):
        run.steps_path.write_text(header_line(StepRow) + f"1,1,0.1,2.3,1.0,1.0\n2,1,0.1,2.3,1.0,1.0\n{row}\n")
        refused("steps.csv")
    shutil.copy(runs["tanh1"].model_path, run.model_path)
    run.steps_path.write_text(header_line(StepRow))
    refused("not the weights that manifest.json records")
    for name in ("checkpoints/model.safetensors", "config.yaml", "steps.csv", "history.csv"):
        (run.path / name).unlink()
        refused(f"{name}: no such file")
