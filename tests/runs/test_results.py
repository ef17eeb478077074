"""An evaluation comes back from the disk as it was, and a damaged one is named."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def file_of(run: Run, name: str) -> Path:
    return run.evaluation_path("val") / name


def pictures(run: Run, **tensors: torch.Tensor | None) -> None:
    """Change what examples.safetensors holds, as an attacker can."""
    content = file_of(run, "examples.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    mixed = {name: value for name, value in {**load(content), **tensors}.items() if value is not None}
    file_of(run, "examples.safetensors").write_bytes(save(mixed, metadata=header))


def first_value(run: Run, name: str, value: float) -> None:
    values = load(file_of(run, "examples.safetensors").read_bytes())[name]
    values[0] = value
    pictures(run, **{name: values})


def metrics(run: Run, **changes: object) -> None:
    path = file_of(run, "metrics.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def first_count(run: Run, count: str) -> None:
    path = file_of(run, "confusion_matrix.csv")
    header, row, *rest = path.read_text().splitlines()
    name, _, *counts = row.split(",")
    path.write_text("\n".join([header, ",".join([name, count, *counts]), *rest]) + "\n")


DAMAGES: dict[str, list[Damage]] = {
    "metrics.json: no such file": [lambda run: file_of(run, "metrics.json").unlink()],
    "metrics.json": [lambda run: file_of(run, "metrics.json").write_text('{"num_im')],
    "metrics.json: num_correct": [lambda run: metrics(run, num_correct=-1)],
    "metrics.json: loss": [lambda run: metrics(run, loss=float("inf"))],
    "metrics.json: per_class": [lambda run: metrics(run, per_class=[])],
    "matrix.csv: no such file": [lambda run: file_of(run, "confusion_matrix.csv").unlink()],
    "2 rows of 2 counts": [lambda run: metrics(run, per_class=[{"class": "a"}, {"class": "b"}])],
    "10 rows of 10 counts": [partial(first_count, count=count) for count in ("-1", "1e3", "9" * 20, "", "1,1")],
    "are not of one evaluation": [lambda run: metrics(run, num_correct=1)],
    "examples.safetensors: no such file": [lambda run: file_of(run, "examples.safetensors").unlink()],
    "not a safetensors file": [lambda run: file_of(run, "examples.safetensors").write_bytes(b"\x80\x04N.")],
    "larger than .* 1,500,000 bytes": [partial(pictures, images=torch.zeros(1000, 256, 256, dtype=torch.uint8))],
    "evaluate again": [
        lambda run: metrics(run, weights_sha256="0" * 64),
        *(partial(pictures, images=images) for images in (None, torch.tensor(1).byte(), torch.zeros(3, 4, 4))),
        partial(pictures, images=torch.zeros(3, 4, 5, dtype=torch.uint8)),
        partial(pictures, labels=torch.zeros(1, dtype=torch.int64)),
        partial(pictures, confidences=None),
        partial(first_value, name="labels", value=10),
        partial(first_value, name="predictions", value=-1),
        *(partial(first_value, name="confidences", value=value) for value in (-0.1, 1.1, float("nan"))),
    ],
}


def test_damaged_files_are_named(seen: EvaluatedRun) -> None:
    run, whole = seen.run, {path: path.read_bytes() for path in seen.directory.iterdir()}
    for complaint, damages in DAMAGES.items():
        for damage in damages:
            damage(run)
            with pytest.raises(DataError, match=complaint):
                read_examples(run, read_evaluation(run, "val"))
            for path, content in whole.items():
                path.write_bytes(content)
