"""Several runs evaluated together."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.own import write_idx

from lenet_mnist.analysis.metrics import Evaluation, mean_prediction
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.files.tables import read_csv
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import read_network, write_network

QUICK = ["--limit-train", "500", "--epochs", "1", "--batch-size", "20", "--threads", "1", "--engine", "torch"]
QUICK += ["--set", "data.val_size=500"]


def evaluation_of(probabilities: list[list[float]], labels: list[int]) -> Evaluation:
    rows = np.array(probabilities)
    of_label = rows[np.arange(len(labels)), labels]
    return Evaluation(
        class_names=("a", "b"),
        indices=np.arange(len(labels)) + 7,
        labels=np.array(labels),
        predictions=rows.argmax(axis=1),
        probabilities=rows,
        loss_sum=float(-np.log(of_label).sum()),
    )


def test_the_mean_is_that_of_the_probabilities() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6], [0.55, 0.45]], [0, 0, 1])
    other = evaluation_of([[0.7, 0.3], [0.8, 0.2], [0.15, 0.85]], [0, 0, 1])
    together = mean_prediction([one, other])
    np.testing.assert_allclose(together.probabilities, [[0.8, 0.2], [0.6, 0.4], [0.35, 0.65]])
    assert together.predictions.tolist() == [0, 0, 1]
    assert (one.num_correct, other.num_correct, together.num_correct) == (1, 3, 3)
    assert together.loss_sum == pytest.approx(-np.log([0.8, 0.6, 0.65]).sum())
    assert together.indices.tolist() == [7, 8, 9]


def test_one_alone_is_itself() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    assert mean_prediction([one]).probabilities.tolist() == one.probabilities.tolist()


def test_a_network_that_is_sure_of_nothing_right_has_a_finite_loss() -> None:
    wrong = replace(evaluation_of([[0.5, 0.5]], [0]), probabilities=np.array([[0.0, 1.0]]))
    assert np.isfinite(mean_prediction([wrong, wrong]).loss_sum)


def test_those_that_answered_for_other_images_are_no_ensemble() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    for other in (replace(one, indices=one.indices + 1), replace(one, labels=1 - one.labels)):
        with pytest.raises(DataError, match="different images"):
            mean_prediction([one, other])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Path:
    """Three finished runs: two of one split, one of another."""
    import subprocess
    import sys

    directory = tmp_path_factory.mktemp("ensemble")
    command = [sys.executable, "-m", "lenet_mnist", "train", *QUICK, "--data-dir", str(mnist_dir)]
    for options in (["--seeds", "1-2", "--name", "member"], ["--set", "data.split_seed=5", "--name", "stranger"]):
        subprocess.run([*command, *options], cwd=directory, check=True, capture_output=True)
    return directory / "runs"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> dict[str, Run]:
    shutil.copytree(trained, tmp_path / "runs")
    stranger, second, first = list_runs(tmp_path / "runs")
    return {"first": first, "second": second, "stranger": stranger}


def test_several_runs_are_evaluated_each_and_together(
    lenet: Callable[..., Any], runs: dict[str, Run], tmp_path: Path
) -> None:
    answer = lenet("evaluate", runs["first"].path, runs["second"].id, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    directory = Path(document["directory"])
    assert (tmp_path / directory).parent == tmp_path / "runs"
    assert [row["run"] for row in document["runs"]] == [runs["first"].id, runs["second"].id]
    singly = [read_csv(runs[name].evaluation_path("test") / "predictions.csv") for name in ("first", "second")]
    together = read_csv(tmp_path / directory / "predictions.csv")
    assert [row["index"] for row in together] == [row["index"] for row in singly[0]]
    right = sum(row["label"] == row["prediction"] for row in together)
    assert right / 10_000 == document["accuracy"]
    swung = [0, 0]
    for *each, both in zip(*singly, together, strict=True):
        if each[0]["prediction"] == each[1]["prediction"]:
            assert both["prediction"] == each[0]["prediction"]
            mean = sum(float(row["probability"]) for row in each) / 2
            assert float(both["probability"]) == pytest.approx(mean, abs=2e-6)
        else:
            swung = [n + (row["prediction"] != both["prediction"]) for n, row in zip(swung, each, strict=True)]
    assert min(swung) > 0  # each has been talked out of some answers by the other, which was surer
    assert document["accuracy"] > min(row["accuracy"] for row in document["runs"])
    for name in ("confusion_matrix.png", "misclassified.png", "calibration.png", "metrics.json"):
        assert (tmp_path / directory / name).is_file()
    for name in ("first", "second"):
        assert (runs[name].evaluation_path("test") / "looks.csv").read_text().count("\n") == 2
        assert runs[name].report_path.is_file()
    assert len(json.loads(lenet("runs", "--json").out)["runs"]) == 3  # the ensemble is no run

    words = lenet("evaluate", runs["first"].path, runs["second"].path, "--split", "val")
    assert words.code == 0
    assert "ensemble: " in words.out
    assert lenet("evaluate", runs["first"].path, runs["second"].path, "--min-accuracy", 1, "--split", "val").code == 5


def test_runs_of_other_splits_are_refused_on_val_and_noted_on_test(
    lenet: Callable[..., Any], runs: dict[str, Run]
) -> None:
    both = runs["first"].path, runs["stranger"].path
    refused = lenet("evaluate", *both, "--split", "val")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "what validates for one may have trained another" in refused.err
    allowed = lenet("evaluate", *both)
    assert allowed.code == 0
    assert "note: the runs were trained on different splits" in allowed.out


def test_what_is_no_ensemble_is_refused_before_the_first_look(
    lenet: Callable[..., Any], runs: dict[str, Run], tmp_path: Path
) -> None:
    first, second = runs["first"], runs["second"]
    twice = lenet("evaluate", first.path, second.path, first.id)
    assert (twice.code, "is named twice" in twice.err) == (2, True)
    second.model_path.write_bytes(second.model_path.read_bytes()[:-1] + b"x")
    damaged = lenet("evaluate", first.path, second.path)
    assert (damaged.code, damaged.err.count("\n")) == (3, 1)
    stranger = runs["stranger"]
    manifest = stranger.manifest
    stranger.write_manifest(manifest.model_copy(update={"data_files": {"other": "0"}}))
    other_data = lenet("evaluate", first.path, stranger.path)
    assert (other_data.code, "was trained on other data" in other_data.err) == (2, True)
    sweep = manifest.model_copy(update={"kind": "sweep"})
    stranger.write_manifest(sweep)
    no_network = lenet("evaluate", first.path, stranger.path)
    assert (no_network.code, "has no network" in no_network.err) == (2, True)
    for run in runs.values():
        assert not run.evaluation_path("test").exists()
    assert not list((tmp_path / "runs").glob("ensemble-*"))


@pytest.mark.parametrize("damage", ["config", "probe", "history", "link", "classes", "copy"])
def test_whatever_is_wrong_with_one_is_said_before_the_first_look_at_any(
    lenet: Callable[..., Any], runs: dict[str, Run], tmp_path: Path, damage: str
) -> None:
    second = runs["second"]
    match damage:
        case "config":
            second.config_path.write_text(second.config_path.read_text() + "# changed\n")
        case "probe":
            second.probe_path.unlink()
        case "history":
            second.history_path.write_text("garbage\n")
        case "link":
            (second.path / "link").symlink_to(second.config_path)
        case "classes":
            trained = read_network(second.model_path)
            write_network(second.model_path, replace(trained, class_names=tuple("abcdefghij")))
        case "copy":
            shutil.rmtree(second.path)
            shutil.copytree(runs["first"].path, second.path)
    answer = lenet("evaluate", runs["first"].path, second.path)
    assert answer.code in (2, 3, 6), answer.err
    assert answer.err.count("\n") == 1
    assert not runs["first"].evaluation_path("test").exists()
    assert not list((tmp_path / "runs").glob("ensemble-*"))


def test_a_directory_that_cannot_be_made_is_said_before_the_first_look(
    lenet: Callable[..., Any], runs: dict[str, Run]
) -> None:
    answer = lenet("evaluate", runs["first"].path, runs["second"].path, "--runs-dir", "/proc/nope")
    assert (answer.code, answer.err.count("\n")) == (6, 1)
    assert not runs["first"].evaluation_path("test").exists()


def test_other_test_images_are_no_common_ground(lenet: Callable[..., Any], small: TrainVal, tmp_path: Path) -> None:
    """Two directories with the same training files, and others to test with."""
    pixels, labels = small.train.images[:600].numpy(), small.train.labels[:600].numpy()
    for name, tested in {"one": slice(500, 600), "other": slice(450, 550)}.items():
        write_idx(tmp_path / name, "train", pixels[:500], labels[:500])
        write_idx(tmp_path / name, "t10k", pixels[tested], labels[tested])
        options = ("--set", f"data.source=./{name}", "--seed", len(name), "--name", f"of-{name}")
        trained = lenet("train", *options, "--epochs", 1, "--threads", 1)
        assert trained.code == 0, trained.err
    answer = lenet("evaluate", "of-one", "of-other")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "does not answer for the same classes and images" in answer.err
    for run in list_runs(tmp_path / "runs"):
        assert not run.evaluation_path("test").exists()
