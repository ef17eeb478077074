"""An evaluation comes back from the disk as it was, and a damaged one is named."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import DataError
from lenet_mnist.runs.results import read_evaluation, read_examples
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import EvaluatedRun, evaluate_runs

Damage = Callable[[Run], object]


@pytest.fixture
def seen(run: Run, access: DataAccess) -> EvaluatedRun:
    return evaluate_runs([run], "val", access, None, None)[0]


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


FIGURES: dict[str, tuple[Damage, str]] = {
    "no metrics": (lambda run: (run.evaluation_path("val") / "metrics.json").unlink(), "metrics.json: no such file"),
    "half": (lambda run: (run.evaluation_path("val") / "metrics.json").write_text('{"num_im'), "metrics.json"),
    "counts": (lambda run: metrics_with(run, num_correct=-1), "metrics.json: num_correct"),
    "infinite": (lambda run: metrics_with(run, loss=float("inf")), "metrics.json: loss"),
    "no class": (lambda run: metrics_with(run, per_class=[]), "metrics.json: per_class"),
    "no matrix": (
        lambda run: (run.evaluation_path("val") / "confusion_matrix.csv").unlink(),
        "matrix.csv: no such file",
    ),
    "one row less": (
        lambda run: metrics_with(run, per_class=[{"class": "a"}, {"class": "b"}]),
        "expected 2 rows of 2 counts",
    ),
    "words": (lambda run: matrix_with(run, "\n9,", "\n9,x,"), "expected 10 rows of 10 counts"),
    "of another evaluation": (lambda run: metrics_with(run, num_correct=1), "are not of one evaluation"),
}


@pytest.mark.parametrize("damage", FIGURES)
def test_damaged_figures_are_named(seen: EvaluatedRun, damage: str) -> None:
    do, complaint = FIGURES[damage]
    do(seen.run)
    with pytest.raises(DataError, match=complaint):
        read_evaluation(seen.run, "val")


@pytest.mark.parametrize("count", ["-1", "1e3", "99999999999999999999", ""])
def test_a_cell_that_is_no_count_is_refused(seen: EvaluatedRun, count: str) -> None:
    path = seen.run.evaluation_path("val") / "confusion_matrix.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    path.write_text("\n".join([lines[0], ",".join([cells[0], count, *cells[2:]]), *lines[2:]]) + "\n")
    with pytest.raises(DataError, match="holds something that is no count"):
        read_evaluation(seen.run, "val")


PICTURES: dict[str, tuple[Damage, str]] = {
    "none": (lambda run: (run.evaluation_path("val") / "examples.safetensors").unlink(), "no such file"),
    "a pickle": (
        lambda run: (run.evaluation_path("val") / "examples.safetensors").write_bytes(b"\x80\x04N."),
        "not a safetensors file",
    ),
    "no images": (lambda run: changed(run, images=None), "no square grey pictures"),
    "a number for images": (lambda run: changed(run, images=torch.tensor(1, dtype=torch.uint8)), "no square grey"),
    "images that are not square": (
        lambda run: changed(run, images=torch.zeros(3, 4, 5, dtype=torch.uint8)),
        "no square grey",
    ),
    "images of floats": (lambda run: changed(run, images=torch.zeros(3, 4, 4)), "no square grey"),
    "labels too few": (lambda run: changed(run, labels=torch.zeros(1, dtype=torch.int64)), "labels is not"),
    "no confidences": (lambda run: changed(run, confidences=None), "confidences is not"),
    "too large": (
        lambda run: changed(run, images=torch.zeros(1000, 256, 256, dtype=torch.uint8)),
        "larger than the 1,500,000 bytes",
    ),
    "of another evaluation": (
        lambda run: metrics_with(run, weights_sha256="0" * 64),
        "is not of the evaluation beside it",
    ),
}


@pytest.mark.parametrize("damage", PICTURES)
def test_damaged_pictures_are_named(seen: EvaluatedRun, damage: str) -> None:
    do, complaint = PICTURES[damage]
    do(seen.run)
    with pytest.raises(DataError, match=complaint):
        read_examples(seen.run, read_evaluation(seen.run, "val"))


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [("labels", 10, "a class that there is not"), ("predictions", -1, "a class that there is not")]
    + [("confidences", value, "no probability") for value in (-0.1, 1.1, float("nan"))],
)
def test_what_a_picture_says_is_checked(seen: EvaluatedRun, name: str, value: float, complaint: str) -> None:
    values = load((seen.run.evaluation_path("val") / "examples.safetensors").read_bytes())[name]
    values[0] = value
    changed(seen.run, **{name: values})
    with pytest.raises(DataError, match=complaint):
        read_examples(seen.run, read_evaluation(seen.run, "val"))
