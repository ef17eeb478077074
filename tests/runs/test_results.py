"""An evaluation comes back from the disk as it was, and a damaged one is named."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from lenet_mnist.config import Split
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import DataError
from lenet_mnist.runs.results import read_evaluation, read_examples
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import EvaluatedRun, Evaluator, evaluate_runs

Damage = Callable[[Run], object]


@pytest.fixture
def seen(run: Run, access: DataAccess) -> EvaluatedRun:
    return evaluate_runs([run], Split.VAL, Evaluator(access))[0]


def test_an_evaluation_comes_back_as_it_was(seen: EvaluatedRun) -> None:
    saved, evaluation = read_evaluation(seen.run, "val"), seen.evaluation
    assert saved.class_names == evaluation.class_names
    assert (saved.confusion_matrix == evaluation.confusion_matrix).all()
    assert saved.accuracy == evaluation.accuracy
    assert saved.accuracy_interval == evaluation.accuracy_interval
    assert saved.mean_loss == evaluation.mean_loss
    assert saved.per_class == evaluation.per_class
    assert list(saved.calibration) == evaluation.calibration
    assert saved.num_test_looks is None


def test_each_kept_image_is_the_one_that_it_says(seen: EvaluatedRun) -> None:
    saved, evaluation = read_evaluation(seen.run, "val"), seen.evaluation
    examples = read_examples(seen.run, saved)
    assert len(examples) > 100
    position_of = {int(index): position for position, index in enumerate(evaluation.indices)}
    for k in range(len(examples)):
        position = position_of[int(examples.indices[k])]
        assert np.array_equal(examples.images[k], seen.images.images[position])
        assert examples.labels[k] == evaluation.labels[position]
        assert examples.predictions[k] == evaluation.predictions[position]
        assert examples.confidences[k] == evaluation.confidences[position]
    for true, predicted in np.argwhere(evaluation.confusion_matrix):
        shown = examples.of_cell(int(true), int(predicted))
        assert len(shown) == min(12, evaluation.confusion_matrix[true, predicted])
        assert (np.diff(examples.confidences[shown]) <= 0).all()


def changed(run: Run, **tensors: torch.Tensor | None) -> None:
    """Change what examples.safetensors holds, as an attacker can."""
    path = run.evaluation_path("val") / "examples.safetensors"
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    mixed = {**load(content), **tensors}
    path.write_bytes(save({name: value for name, value in mixed.items() if value is not None}, metadata=header))


def metrics_with(run: Run, **changes: object) -> None:
    path = run.evaluation_path("val") / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def matrix_with(run: Run, old: str, new: str) -> None:
    path = run.evaluation_path("val") / "confusion_matrix.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


FIGURES: list[tuple[Damage, str]] = [
    (lambda run: (run.evaluation_path("val") / "metrics.json").unlink(), "metrics.json: no such file"),
    (lambda run: (run.evaluation_path("val") / "metrics.json").write_text('{"num_im'), "metrics.json"),
    (lambda run: metrics_with(run, num_correct=-1), "metrics.json: num_correct"),
    (lambda run: metrics_with(run, loss=float("inf")), "metrics.json: loss"),
    (lambda run: metrics_with(run, per_class=[]), "metrics.json: per_class"),
    (lambda run: (run.evaluation_path("val") / "confusion_matrix.csv").unlink(), "matrix.csv: no such file"),
    (lambda run: metrics_with(run, per_class=[{"class": "a"}, {"class": "b"}]), "expected 2 rows of 2 counts"),
    (lambda run: matrix_with(run, "\n9,", "\n9,x,"), "10 rows of 10 counts"),
    (lambda run: metrics_with(run, num_correct=1), "are not of one evaluation"),
    (lambda run: first_count(run, "-1"), "10 rows of 10 counts"),
    (lambda run: first_count(run, "1e3"), "10 rows of 10 counts"),
    (lambda run: first_count(run, "9" * 20), "10 rows of 10 counts"),
    (lambda run: first_count(run, ""), "10 rows of 10 counts"),
]


def first_count(run: Run, count: str) -> None:
    path = run.evaluation_path("val") / "confusion_matrix.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    path.write_text("\n".join([lines[0], ",".join([cells[0], count, *cells[2:]]), *lines[2:]]) + "\n")


PICTURES: list[tuple[Damage, str]] = [
    (lambda run: (run.evaluation_path("val") / "examples.safetensors").unlink(), "no such file"),
    (
        lambda run: (run.evaluation_path("val") / "examples.safetensors").write_bytes(b"\x80\x04N."),
        "not a safetensors file",
    ),
    (lambda run: changed(run, images=None), "evaluate again"),
    (lambda run: changed(run, images=torch.tensor(1, dtype=torch.uint8)), "evaluate again"),
    (lambda run: changed(run, images=torch.zeros(3, 4, 5, dtype=torch.uint8)), "evaluate again"),
    (lambda run: changed(run, images=torch.zeros(3, 4, 4)), "evaluate again"),
    (lambda run: changed(run, labels=torch.zeros(1, dtype=torch.int64)), "evaluate again"),
    (lambda run: changed(run, confidences=None), "evaluate again"),
    (
        lambda run: changed(run, images=torch.zeros(1000, 256, 256, dtype=torch.uint8)),
        "larger than .* 1,500,000 bytes",
    ),
    (lambda run: metrics_with(run, weights_sha256="0" * 64), "evaluate again"),
    (lambda run: first_value(run, "labels", 10), "evaluate again"),
    (lambda run: first_value(run, "predictions", -1), "evaluate again"),
    (lambda run: first_value(run, "confidences", -0.1), "evaluate again"),
    (lambda run: first_value(run, "confidences", 1.1), "evaluate again"),
    (lambda run: first_value(run, "confidences", float("nan")), "evaluate again"),
]


def first_value(run: Run, name: str, value: float) -> None:
    values = load((run.evaluation_path("val") / "examples.safetensors").read_bytes())[name]
    values[0] = value
    changed(run, **{name: values})


def test_damaged_files_are_named(seen: EvaluatedRun) -> None:
    run, whole = seen.run, {path: path.read_bytes() for path in seen.directory.iterdir()}
    for damage, complaint in (*FIGURES, *PICTURES):
        damage(run)
        with pytest.raises(DataError, match=complaint):
            read_examples(run, read_evaluation(run, "val"))
        for path, content in whole.items():
            path.write_bytes(content)
