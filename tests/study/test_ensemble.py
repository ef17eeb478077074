"""Several runs evaluated together."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.data.own import write_idx
from tests.tables import read_csv

from lenet_mnist.config import Config
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import train_seeds
from lenet_mnist.training.checkpoint import read_network, write_network
from lenet_mnist.training.context import Session


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """Three finished runs: two of one split, one of another."""
    runs_dir = tmp_path_factory.mktemp("ensemble")
    config = Config.model_validate(
        {
            "data": {"limit_train": 500, "val_size": 500},
            "training": {"max_epochs": 1, "batch_size": 20, "threads": 1, "engine": "torch"},
        }
    )
    train_seeds(config.replace({"name": "member"}), "1-2", Session(access), runs_dir)
    train_seeds(config.replace({"name": "stranger", "data.split_seed": 5}), None, Session(access), runs_dir)
    return runs_dir


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


def test_whatever_is_wrong_with_one_is_said_before_the_first_look_at_any(
    lenet: Callable[..., Any], runs: dict[str, Run], tmp_path: Path
) -> None:
    first, second = runs["first"], runs["second"]
    whole = shutil.copytree(second.path, tmp_path / "whole")

    def other_classes() -> None:
        trained = read_network(second.model_path)
        write_network(second.model_path, replace(trained, class_names=tuple("abcdefghij")))

    def copy() -> None:
        shutil.rmtree(second.path)
        shutil.copytree(first.path, second.path)

    for damage in (
        lambda: second.config_path.write_text(second.config_path.read_text() + "# changed\n"),
        lambda: second.probe_path.unlink(),
        lambda: second.history_path.write_text("garbage\n"),
        lambda: (second.path / "link").symlink_to(second.config_path),
        other_classes,
        copy,
    ):
        damage()
        answer = lenet("evaluate", first.path, second.path)
        assert answer.code in (2, 3, 6), answer.err
        assert answer.err.count("\n") == 1
        assert not first.evaluation_path("test").exists()
        assert not list((tmp_path / "runs").glob("ensemble-*"))
        shutil.rmtree(second.path)
        shutil.copytree(whole, second.path)


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
