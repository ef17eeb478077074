"""`lenet compare`, on real trainings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Nobody

from lenet_mnist.config import Config
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.experiments.comparison import Comparison, compare_runs
from lenet_mnist.experiments.training_series import train_seeds
from lenet_mnist.files.tables import header_line, read_csv
from lenet_mnist.runs.directory import RunDirectory, sha256_of
from lenet_mnist.runs.manifest import Resume
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.updates import StepRow

Lenet = Callable[..., Any]


def config(activation: str, **training: Any) -> Config:
    values = {"max_epochs": 2, "batch_size": 32, "threads": 1, **training}
    data = {"limit_train": 1000, "val_size": 500}
    return Config.model_validate({"model": {"activation": activation}, "data": data, "training": values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """Runs on 1,000 images: relu and tanh with seeds 0 and 1, one that diverged."""
    runs_dir = tmp_path_factory.mktemp("compare")
    train_seeds(config("relu"), "0-1", runs_dir, access, Nobody())
    train_seeds(config("tanh"), "0-1", runs_dir, access, Nobody())
    train_seeds(config("relu", learning_rate=1e6), None, runs_dir, access, Nobody())
    return runs_dir


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> dict[str, RunDirectory]:
    """Copies of them in runs/, by activation and seed."""
    shutil.copytree(trained, tmp_path / "runs")
    found = {}
    for path in sorted((tmp_path / "runs").iterdir()):
        run = RunDirectory(path)
        seen = run.read_config()
        is_lost = run.read_manifest().status == "diverged"
        found["lost" if is_lost else f"{seen.model.activation}{seen.seed}"] = run
    assert set(found) == {"relu0", "relu1", "tanh0", "tanh1", "lost"}
    return found


def changed(run: RunDirectory, old: str, new: str, **manifest: Any) -> None:
    """Change a run's configuration, and sign it as its own."""
    text = run.config_path.read_text()
    assert old in text
    run.config_path.write_text(text.replace(old, new))
    changes = {"config_sha256": sha256_of(run.config_path), **manifest}
    run.write_manifest(run.read_manifest().model_copy(update=changes))


def compared(runs: list[RunDirectory], access: DataAccess, *levels: float) -> Comparison:
    return compare_runs(runs, "val", levels, access, None)


def test_seeds_are_grouped_and_groups_named_by_what_differs(runs: dict[str, RunDirectory], access: DataAccess) -> None:
    found = compared([runs[name] for name in ("relu0", "tanh1", "relu1", "tanh0")], access, 2.0)
    assert [(group.letter, group.name) for group in found.groups] == [("A", "relu"), ("B", "tanh")]
    assert [[run.config.seed for run in group.runs] for group in found.groups] == [[0, 1], [1, 0]]
    for group in found.groups:
        manifests = [run.manifest for run in group.runs]
        assert group.accuracies() == {
            run.config.seed: pytest.approx(run.manifest.best_val_accuracy, abs=1e-12) for run in group.runs
        }
        assert group.accuracy is not None
        assert group.accuracy.method == "student-t"
        assert group.accuracy.value == pytest.approx(sum(m.best_val_accuracy or 0 for m in manifests) / 2)
    (contrast,) = found.contrasts
    assert contrast.accuracy is not None
    assert contrast.accuracy.method == "paired-t"
    assert contrast.ratios[2.0].value is not None
    assert found.pair is None


def test_a_run_that_was_changed_on_the_way_is_no_further_seed_of_the_others(
    runs: dict[str, RunDirectory], access: DataAccess
) -> None:
    manifest = runs["relu1"].read_manifest()
    difference = "training.learning_rate was 0.1, and is now 0.04"
    resume = Resume(time="", step=9, config_sha256="", differences=(difference,), versions={}, machine="")
    runs["relu1"].write_manifest(manifest.model_copy(update={"resumes": (resume,)}))
    found = compared([runs["relu0"], runs["relu1"]], access)
    assert len(found.groups) == 2
    assert difference in found.groups[1].name


def test_two_runs_are_compared_image_by_image(lenet: Lenet, runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--output", "found", "--speed-ratio", "loss=2")
    assert answer.code == 0, answer.err
    pair = json.loads((tmp_path / "found" / "comparison.json").read_text())["pair"]
    for name in ("relu0", "tanh0"):
        lenet("evaluate", runs[name].path, "--split", "val")
    tables = [read_csv(runs[name].evaluation_path("val") / "predictions.csv") for name in ("relu0", "tanh0")]
    right = [[row["label"] == row["prediction"] for row in table] for table in tables]
    fixed = [row["index"] for row, a, b in zip(tables[0], *right, strict=True) if a and not b]
    broken = [row["index"] for row, a, b in zip(tables[0], *right, strict=True) if b and not a]
    assert (pair["num_fixed"], pair["num_broken"]) == (len(fixed), len(broken))
    assert f"A fixes {len(fixed)}, breaks {len(broken)} of B's answers" in answer.out
    assert "McNemar's exact p = " in answer.out
    assert "a single training on a side, so no interval" in answer.out
    rows = read_csv(tmp_path / "found" / "differing.csv")
    assert sorted(row["index"] for row in rows) == sorted([*fixed, *broken])
    assert {row["index"] for row in rows if row["label"] == row["prediction of A"]} == set(fixed)
    assert {path.name for path in (tmp_path / "found").iterdir()} == {
        *("comparison.json", "differing.csv", "loss.png", "accuracy.png", "fixed.png", "broken.png")
    }


def test_two_seeds_are_one_group_and_a_pair(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    answer = lenet("compare", runs["relu0"].path, runs["relu1"].path)
    assert answer.code == 0
    assert "relu, lr 0.04  0-1" in answer.out
    assert "2 seeds" in answer.out
    assert "seed 0 fixes " in answer.out


def test_it_has_a_place_of_its_own_that_the_list_of_runs_passes_over(
    lenet: Lenet, runs: dict[str, RunDirectory], tmp_path: Path
) -> None:
    before = lenet("runs", "--json").out
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--json")
    (made,) = (tmp_path / "runs").glob("compare-*")
    values = json.loads(answer.out)
    assert Path(values.pop("directory")) == Path("runs") / made.name
    assert values == json.loads((made / "comparison.json").read_text())
    assert str(tmp_path) not in json.dumps(values)
    assert lenet("runs", "--json").out == before
    assert lenet("evaluate", "latest", "--split", "val").code == 3  # the newest run, which diverged and has no weights
    assert lenet("diagnose", f"runs/{made.name}").code == 2


def test_nothing_is_written_into_the_runs(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    def content() -> dict[Path, bytes]:
        paths = [path for run in runs.values() for path in run.path.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in paths}

    before = content()
    assert lenet("compare", *(run.path for run in runs.values())).code == 0
    assert content() == before


def test_the_test_set_counts_a_look_in_each_run(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    command = ("compare", runs["relu0"].path, runs["tanh0"].path, "--split", "test")
    first = lenet(*command, "--json")
    (a, b) = (group["runs"][0] for group in json.loads(first.out)["groups"])
    assert (a["num_images"], a["num_test_looks"], b["num_test_looks"]) == (10_000, 1, 1)
    assert "look number 2" in lenet(*command).out
    for name in ("relu0", "tanh0"):
        looks = runs[name].evaluation_path("test")
        assert [path.name for path in looks.iterdir()] == ["looks.csv"]  # no evaluation is written
        assert len((looks / "looks.csv").read_text().splitlines()) == 3
    assert json.loads(lenet("evaluate", runs["relu0"].path, "--json").out)["num_correct"] == a["num_correct"]


def test_no_look_is_counted_where_one_run_is_refused(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    runs["tanh1"].model_path.write_bytes(b"nonsense")
    answer = lenet("compare", *(runs[name].path for name in ("relu0", "tanh0", "tanh1")), "--split", "test")
    assert answer.code == 3
    assert "model.safetensors" in answer.err
    assert not any(run.evaluation_path("test").exists() for run in runs.values())


def test_a_run_that_diverged_is_shown(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    answer = lenet("compare", *(runs[name].path for name in ("relu0", "relu1", "lost")), "--speed-ratio", "loss=2")
    assert answer.code == 0, answer.err
    assert "B  relu" not in answer.out
    assert "lr 1000000" in answer.out
    assert f"note: {runs['lost'].id} diverged (the " in answer.out
    assert "1 of 1 of B never reached it" in answer.out


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("batch_size: 32", "batch_size: 16", "note: the batch sizes differ"),
        ("rotation: 0.0", "rotation: 10.0", "note: not all see their training images distorted in the same way"),
    ],
)
def test_steps_that_do_not_show_the_same_are_noted(
    lenet: Lenet, runs: dict[str, RunDirectory], old: str, new: str, note: str
) -> None:
    changed(runs["relu1"], old, new)
    both = [runs[name].path for name in ("relu0", "relu1")]
    assert note in lenet("compare", *both, "--speed-ratio", "loss=1").out
    assert note not in lenet("compare", *both).out
    assert "note" not in lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--speed-ratio", "loss=1").out


def test_a_run_that_is_not_over_is_shown(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    run = runs["relu1"]
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"status": "running", "epochs": 1}))
    answer = lenet("compare", runs["relu0"].path, run.path)
    assert answer.code == 0
    assert (
        f"note: {run.id} was killed, after 1 epochs: epoch {manifest.best_epoch}, whose weights it kept, counts."
    ) in answer.out


def test_a_run_without_any_row_is_shown(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    run = runs["relu1"]
    run.history_path.write_text(header_line(EpochRow))
    run.steps_path.write_text(header_line(StepRow))
    gone = {"status": "interrupted", "best_epoch": None, "weights_sha256": None, "epochs": 0}
    run.write_manifest(run.read_manifest().model_copy(update=gone))
    run.model_path.unlink()
    for others in (["relu0"], ["tanh0"], ["relu0", "tanh0"], ["lost"]):
        answer = lenet("compare", run.path, *(runs[name].path for name in others), "--speed-ratio", "loss=1")
        assert answer.code == 0, answer.err
        assert f"{run.id} was interrupted after 0 epochs: it kept no weights." in answer.out


def test_fewer_training_images_are_a_difference_like_others(
    lenet: Lenet, runs: dict[str, RunDirectory], tmp_path: Path
) -> None:
    quick = ("--epochs", 1, "--set", "data.val_size=500", "--threads", 1, "--batch-size", 32)
    lenet("train", *quick, "--limit-train", 500, "--runs-dir", tmp_path / "small")
    (small,) = (tmp_path / "small").iterdir()
    answer = lenet("compare", runs["relu0"].path, small)
    assert answer.code == 0, answer.err
    assert "limit_train 1,000, 2 epochs" in answer.out
    assert "limit_train 500, 1 epoch" in answer.out


@pytest.mark.parametrize(("old", "new"), [("split_seed: 0", "split_seed: 1"), ("val_size: 500", "val_size: 600")])
def test_another_split_is_refused_with_the_reason(
    lenet: Lenet, runs: dict[str, RunDirectory], old: str, new: str
) -> None:
    changed(runs["tanh0"], old, new, split_sha256="0" * 64)
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path)
    assert answer.code == 2
    assert "cannot be compared with" in answer.err
    assert f"other validation images (data.{new.replace(': ', ' ')}, not {old.split()[1]})" in answer.err


def test_another_split_from_the_same_settings_is_refused(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    manifest = runs["tanh0"].read_manifest()
    runs["tanh0"].write_manifest(manifest.model_copy(update={"split_sha256": "0" * 64}))
    for split in ("val", "test"):
        answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path, "--split", split)
        assert answer.code == 2
        assert "it has another split (another SHA-256, though the settings are the same)" in answer.err


def test_other_data_are_refused(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    manifest = runs["tanh0"].read_manifest()
    files = dict.fromkeys(manifest.data_files, "0" * 64)
    runs["tanh0"].write_manifest(manifest.model_copy(update={"data_files": files}))
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path)
    assert answer.code == 2
    assert "it was trained on other data" in answer.err


def test_what_is_no_comparison_is_refused(lenet: Lenet, runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    one, other = runs["relu0"].path, runs["tanh0"].path
    copy = shutil.copytree(one, tmp_path / "runs" / "20260101-000000-copy-0000")
    runs["relu1"].write_manifest(runs["relu1"].read_manifest().model_copy(update={"kind": "sweep"}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    for words, complaint in (
        ((one,), "is the only run that was given"),
        ((one, other, one), "was given twice"),
        ((one, f"runs/{one.name}"), "was given twice"),
        ((one, copy), "is the same training as"),
        ((one, runs["relu1"].path), "is a sweep, not a training"),
        ((one, "runs/nothing"), "no such run"),
        ((one, other, "--split", "train"), "--split train: expected one of test, val"),
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


@pytest.mark.parametrize("name", ["history.csv", "steps.csv", "config.yaml", "checkpoints/model.safetensors"])
def test_a_run_that_lacks_a_file_is_named(lenet: Lenet, runs: dict[str, RunDirectory], name: str) -> None:
    (runs["tanh0"].path / name).unlink()
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path)
    assert answer.code == 3
    assert f"{name}: no such file" in answer.err


def test_foreign_weights_are_refused(lenet: Lenet, runs: dict[str, RunDirectory]) -> None:
    shutil.copy(runs["tanh1"].model_path, runs["tanh0"].model_path)
    answer = lenet("compare", runs["relu0"].path, runs["tanh0"].path)
    assert answer.code == 3
    assert "not the weights that manifest.json records" in answer.err


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("3,1,0.1,nan,1.0,1.0", "row of step 3"),
        ("3,1,0.1,-1.0,1.0,1.0", "row of step 3"),
        ("3,1,0.1,1e300,1.0,1.0", "row of step 3"),
        ("2,1,0.1,1.0,1.0,1.0", "steps.csv"),  # twice
        ("-3,1,0.1,1.0,1.0,1.0", "steps.csv"),
        (f"1{'0' * 400},1,0.1,1.0,1.0,1.0", "no training has the figures"),
    ],
)
def test_figures_that_no_training_has_are_refused(
    lenet: Lenet, runs: dict[str, RunDirectory], row: str, complaint: str
) -> None:
    run = runs["tanh0"]
    run.steps_path.write_text(header_line(StepRow) + f"1,1,0.1,2.3,1.0,1.0\n2,1,0.1,2.3,1.0,1.0\n{row}\n")
    answer = lenet("compare", runs["relu0"].path, run.path, "--speed-ratio", "loss=1")
    assert answer.code == 3
    assert complaint in answer.err
