"""`lenet cross-validate`: folds divided fairly, trained without a look at what is left out, interrupted, resumed."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import copy_training_files
from tests.faults import Counter
from tests.tables import read_csv

from lenet_mnist.analysis.metrics import evaluate
from lenet_mnist.config import Config
from lenet_mnist.config_file import ResolvedConfig, load_config
from lenet_mnist.data.batches import CPU
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.data.split import stratified_folds
from lenet_mnist.errors import ConfigError, InterruptedBySignal
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.study.cross_validation import (
    CrossValidation,
    Fold,
    FoldResult,
    Folds,
    cross_validate,
    fold_of,
    train_fold,
)
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.loop import train
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize

CONFIG = Config.model_validate(
    {
        "data": {"train_size": 500, "val_size": 100, "limit_train": 200},
        "training": {"max_epochs": 2, "batch_size": 20, "threads": 1, "engine": "torch", "patience": 1},
    }
)
OF_CONFIG = ResolvedConfig(CONFIG, {})
OPTIONS = ["--limit-train", "200", "--epochs", "2", "--batch-size", "20", "--threads", "1", "--engine", "torch"]


# How the images are divided


@given(
    class_sizes=st.lists(st.integers(7, 40), min_size=2, max_size=6),
    num_folds=st.integers(2, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_fold_has_two_images_more_than_another(class_sizes: list[int], num_folds: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
    folds = stratified_folds(labels, num_folds, generator.integers(0, 2**63, len(labels)).astype(np.uint64))
    assert set(folds.tolist()) == set(range(num_folds))
    for members in (folds, *(folds[labels == k] for k in range(len(class_sizes)))):
        sizes = np.bincount(members, minlength=num_folds)
        assert sizes.max() - sizes.min() <= 1


def test_keys_decide_the_folds() -> None:
    labels = np.repeat(np.arange(10), 30)
    one, other = (np.random.default_rng(seed).permutation(300).astype(np.uint64) for seed in (1, 2))
    assert (stratified_folds(labels, 5, one) == stratified_folds(labels, 5, one)).all()
    assert (stratified_folds(labels, 5, one) != stratified_folds(labels, 5, other)).any()


@pytest.mark.parametrize(
    ("num_folds", "complaint"), [(1, "at least 2"), (0, "at least 2"), (6, "class 1 has 5 images")]
)
def test_folds_that_cannot_be_made(num_folds: int, complaint: str) -> None:
    labels = np.repeat([0, 1, 2], [9, 5, 7])
    with pytest.raises(ConfigError, match=complaint):
        stratified_folds(labels, num_folds, np.arange(21).astype(np.uint64))


@pytest.mark.parametrize("num_images", [None, 300])
def test_each_image_is_left_out_once(small: TrainVal, num_images: int | None) -> None:
    divided = [fold_of(small, Fold(Folds(4, 1, num_images), 1, number), 0) for number in (1, 2, 3, 4)]
    left_out = torch.cat([data.val.indices for data in divided])
    everything = torch.cat([small.train.indices, small.val.indices])
    assert len(left_out) == len(left_out.unique()) == (num_images or len(everything))
    assert set(left_out.tolist()) <= set(everything.tolist())
    for data in divided:
        seen, unseen = set(data.train.indices.tolist()), set(data.val.indices.tolist())
        assert not seen & unseen
        assert seen | unseen == set(left_out.tolist())
        assert data.normalization == Normalization.of(data.train)  # and not of what is tested on
        assert len({each.fingerprint.split for each in divided}) == 4


def test_every_image_keeps_its_label_in_a_fold(small: TrainVal) -> None:
    data = fold_of(small, Fold(Folds(3, 1, None), 1, 2), 0)
    known = {
        int(index): (int(label), image)
        for part in (small.train, small.val)
        for index, label, image in zip(part.indices, part.labels, part.images, strict=True)
    }
    for part in (data.train, data.val):
        for index, label, image in list(zip(part.indices, part.labels, part.images, strict=True))[::97]:
            assert known[int(index)][0] == int(label)
            assert torch.equal(known[int(index)][1], image)


@pytest.fixture(scope="module")
def whole_data(access: DataAccess) -> TrainVal:
    return load_train_val(CONFIG.replace({"data.limit_train": None}).data, access)


def test_how_the_images_were_divided_before_does_not_matter(access: DataAccess) -> None:
    one, other = (
        load_train_val(
            CONFIG.data.model_copy(update={"train_size": 60_000 - val, "val_size": val, "limit_train": None}), access
        )
        for val in (5_000, 9_000)
    )
    fold, again = Fold(Folds(5, 2, 400), 2, 3), Fold(Folds(5, 2, 400), 1, 3)

    def digest(data: TrainVal, fold: Fold, seed: int = 0) -> str:
        return fold_of(data, fold, seed).fingerprint.split

    assert digest(one, fold) == digest(other, fold)
    assert len({digest(one, fold), digest(one, fold, 1), digest(one, again)}) == 3


# One fold


def test_a_fold_is_answered_by_the_last_weights_of_the_whole_schedule(whole_data: TrainVal) -> None:
    """Early stopping after one epoch would choose by the fold that is tested on: it does not happen."""
    config = CONFIG.replace({"training.max_epochs": 6, "training.learning_rate": 0.2, "training.patience": 1})
    fold = Fold(Folds(3, 2, 200), 2, 1)
    result = train_fold(config, Context(whole_data), fold)
    losses = [row.val_loss for row in result.history]
    assert len(losses) == 6
    assert any(later > earlier for earlier, later in itertools.pairwise(losses))
    assert result.mean_loss == pytest.approx(losses[-1], rel=1e-6)
    assert result.accuracy == result.history[-1].val_accuracy

    context = Context(fold_of(whole_data, fold, 0))
    whole = config.replace({"seed": 1, "training.patience": None})
    state = TrainState.start(whole, context)
    train(whole, context, state)
    data = context.data
    seen = evaluate(TrainedNetwork(state.network, data.normalization, data.class_names, 6), data.val, CPU)
    assert result.predictions == tuple(seen.predictions.tolist())
    assert result.indices == tuple(data.val.indices.tolist())
    assert result.labels == tuple(data.val.labels.tolist())
    assert (result.num_train, len(result.labels)) == (len(data.train), len(data.val))


def test_a_fold_whose_training_diverges_says_so(whole_data: TrainVal) -> None:
    config = CONFIG.replace({"training.learning_rate": 1e6})
    result = train_fold(config, Context(whole_data), Fold(Folds(2, 1, 100), 1, 1))
    assert (result.has_diverged, result.labels) == (True, ())


# On disk

TABLES = ("metrics.json", "predictions.csv", "confusion_matrix.csv", "per_class.csv")


def assert_same(one: Run, other: Run) -> None:
    for name in TABLES:
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()


def test_the_tables_agree_with_each_other_and_an_interrupted_one_comes_to_the_same(
    tmp_path: Path, access: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cross_validate(tmp_path / "whole", OF_CONFIG, 3, 2, Session(access))
    path, manifest = whole.run.path, whole.run.manifest
    answers, folds = read_csv(path / "predictions.csv"), read_csv(path / "folds.csv")
    metrics = json.loads((path / "metrics.json").read_text())
    assert len(answers) == 2 * 200
    assert sum(row["label"] == row["prediction"] for row in answers) / 400 == metrics["accuracy"]
    assert [(row["repeat"], row["fold"]) for row in folds] == [(r, f) for r in "12" for f in "123"]
    matrix = read_csv(path / "confusion_matrix.csv")
    assert sum(int(row[name]) for row in matrix for name in "0123456789") == 400
    assert len(read_csv(path / "fold_history.csv")) == 6 * 2
    assert manifest.status == "finished"
    assert (str(manifest.num_train), str(manifest.num_val)) == (folds[0]["num_train"], folds[0]["num_images"])

    with pytest.raises(InterruptedBySignal, match=r"2 trainings are kept.*cross-validate --resume"):
        cross_validate(tmp_path / "stopped", OF_CONFIG, 3, 2, Session(access, Counter(stop_after=2)))
    (run,) = list_runs(tmp_path / "stopped")
    assert run.manifest.status == "interrupted"
    for asked, complaint in (((10, None), "num_folds is 3 there, 10 now"), ((3, 5), "num_repeats is 2 there, 5")):
        with pytest.raises(ConfigError, match=complaint):
            cross_validate(run, load_config(), *asked, Session(access))
    counter, shared_out, of = Counter(), [], PoolSize.of
    monkeypatch.setattr(PoolSize, "of", lambda *given: shared_out.append(given[1:]) or of(*given))
    resumed = cross_validate(run, load_config(), None, 2, Session(access, counter))
    assert counter.num_done == 4
    assert shared_out == [(6, 6 * 200 * CONFIG.training.max_epochs)]  # as at first: the last bits depend on it
    assert_same(resumed.run, whole.run)
    assert resumed.run.manifest.status == "finished"


def test_workers_come_to_the_same(tmp_path: Path, access: DataAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = cross_validate(tmp_path / "alone", OF_CONFIG, 3, 1, Session(access))
    monkeypatch.setattr(PoolSize, "of", lambda *_: PoolSize(2, 1))
    several = cross_validate(tmp_path / "several", OF_CONFIG, 3, 1, Session(access))
    assert_same(several.run, alone.run)


def test_the_command_never_opens_the_test_files(lenet: Callable[..., Any], mnist_dir: Path, tmp_path: Path) -> None:
    copy_training_files(mnist_dir, tmp_path / "data")
    answer = lenet("cross-validate", *OPTIONS, "--folds", 2, "--data-dir", tmp_path / "data", "--offline")
    assert answer.code == 0, answer.err
    (run,) = list_runs(tmp_path / "runs")
    assert (run.path / "plots" / "cross_validation.png").read_bytes().startswith(b"\x89PNG")
    for words in ("200", "each image was tested", "95 % interval", "Nadeau and Bengio"):
        assert words in answer.out
    assert "cross-validation" in lenet("runs").out
    document = json.loads(lenet("cross-validate", *OPTIONS, "--resume", run.path, "--json").out)
    assert [(row["repeat"], row["fold"]) for row in document["folds"]] == [(1, 1), (1, 2)]
    assert sum(row["num_images"] for row in document["folds"]) == document["num_images"] == 200
    assert document["status"] == "finished"


def test_what_cannot_be_done_is_said_in_one_line(lenet: Callable[..., Any]) -> None:
    for options, code, complaint in (
        (["--folds", "25"], 2, "25 folds, but class"),
        (["--folds", "1"], 2, "--folds"),
        (["--lr", "auto"], 2, "lr-sweep"),
        (["--set", "training.schedule=plateau"], 2, "training.schedule"),
        (["--limit-train", "70000"], 2, "70,000 images"),
        (["--lr", "1e6"], 4, "2 of 2 trainings diverged"),
        (["--resume", "nothing"], 2, "no such run"),
    ):
        answer = lenet("cross-validate", "--folds", 2, *OPTIONS, *options)
        assert (answer.code, complaint in answer.err, answer.out) == (code, True, "")
        assert "Traceback" not in answer.err


def test_only_the_same_cross_validation_is_resumed(lenet: Callable[..., Any], run: Any, tmp_path: Path) -> None:
    other_kind = lenet("cross-validate", "--resume", run.path)
    assert (other_kind.code, "is a train" in other_kind.err) == (2, True)
    assert lenet("cross-validate", *OPTIONS, "--folds", 2, "--runs-dir", "folds").code == 0
    (mine,) = list_runs(tmp_path / "folds")
    differing = lenet("cross-validate", "--resume", mine.path, "--batch-size", 7)
    assert (differing.code, "training.batch_size is 20 there, 7 now" in differing.err) == (2, True)
    for command in ("evaluate", "report", "diagnose", "verify"):
        refused = lenet(command, mine.path)
        assert (refused.code, "is a cross-validation" in refused.err) == (2, True), command
    (mine.path / "journal.jsonl").write_text('{"folds": 3}\n')
    damaged = lenet("cross-validate", "--resume", mine.path)
    assert (damaged.code, damaged.err.count("\n")) == (3, 1)


def result_of(number: int, labels: list[int], predictions: list[int]) -> FoldResult:
    fold = Fold(Folds(2, 1, None), 1, number)
    indices = tuple(range(100 * number, 100 * number + len(labels)))
    return FoldResult(fold, 7, indices, tuple(labels), tuple(predictions), float(number), (), 1.0)


def test_what_is_pooled_is_counted_by_hand() -> None:
    results = [result_of(1, [0, 0, 1, 1, 1], [0, 1, 0, 1, 1]), result_of(2, [0, 1, 1, 0], [1, 1, 1, 0])]
    pooled = CrossValidation(Run(Path("run")), Folds(2, 1, None), ("a", "b"), tuple(results))
    assert pooled.num_images == 9
    assert pooled.accuracies == [3 / 5, 3 / 4]
    assert pooled.accuracy == 6 / 9
    assert pooled.mean_loss == 3 / 9
    assert pooled.confusion_matrix.tolist() == [[2, 2], [1, 4]]  # rows are true
    assert [(row.name, row.num_images, row.num_correct) for row in pooled.per_class] == [("a", 4, 2), ("b", 5, 4)]
    assert tuple(pooled.accuracy_interval) == (0.0, 1.0)
