"""What an evaluation writes: figures and tables, for the directory of a run or of an ensemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.errors import one_line
from lenet_mnist.files.tables import write_csv, write_json


def write_tables(directory: Path, evaluation: Evaluation, metrics: dict[str, Any], image_names: Sequence[str]) -> None:
    """Write metrics.json, per_class.csv, confusion_matrix.csv and predictions.csv, with the images' files if known."""
    names = evaluation.class_names
    write_json(directory / "metrics.json", metrics)
    header = list(metrics["per_class"][0])
    write_csv(directory / "per_class.csv", header, [list(row.values()) for row in metrics["per_class"]])
    write_csv(
        directory / "confusion_matrix.csv",
        ["true \\ predicted", *names],
        [[name, *row] for name, row in zip(names, evaluation.confusion_matrix.tolist(), strict=True)],
    )
    write_csv(
        directory / "predictions.csv",
        ["index", "label", "prediction", "probability", *(["file"] if image_names else [])],
        list(
            zip(
                evaluation.indices.tolist(),
                [names[label] for label in evaluation.labels],
                [names[label] for label in evaluation.predictions],
                evaluation.confidences.tolist(),
                *([list(map(one_line, image_names))] if image_names else []),
                strict=True,
            )
        ),
    )
