"""What a comparison writes: a directory of its own, comparison.json in it, and differing.csv for two runs."""

from datetime import datetime
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.compare import Difference, Estimate
from lenet_mnist.analysis.intervals import Interval
from lenet_mnist.errors import ConfigError
from lenet_mnist.experiments.comparison import ComparedRun, Comparison, Contrast, Group, Pair
from lenet_mnist.files.storage import storage_errors
from lenet_mnist.files.tables import write_csv, write_json
from lenet_mnist.runs.directory import create_beside_runs


def require_free(output: Path | None) -> None:
    """Raise ConfigError if something lies in the directory that was asked for: nothing is written over."""
    if output is None:
        return
    with storage_errors(output, "look into it"):
        if output.exists() and not output.is_dir():
            raise ConfigError(f"--output {output}: is a file; name a new directory")
        if output.is_dir() and any(output.iterdir()):
            raise ConfigError(f"--output {output}: is not empty; name a new directory")


def write_comparison(compared: Comparison, runs_dir: Path, output: Path | None, now: datetime) -> Path:
    """Write comparison.json and differing.csv, into `output` or a new directory in `runs_dir`; return which it is.

    Raises: StorageError.
    """
    directory = output or create_beside_runs(runs_dir, "compare", now)
    with storage_errors(directory, "make this directory"):
        directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "comparison.json", as_values(compared))
    if compared.pair is not None:
        _write_differing(compared.pair, directory / "differing.csv")
    return directory


def as_values(compared: Comparison) -> dict[str, Any]:
    """Return everything that was found as plain values for JSON."""
    return {
        "split": compared.split.value,
        "groups": [_group(group, compared.levels) for group in compared.groups],
        "contrasts": [_contrast(contrast) for contrast in compared.contrasts],
        "pair": compared.pair and _pair(compared.pair),
    }


def _group(group: Group, levels: tuple[float, ...]) -> dict[str, Any]:
    return {
        "letter": group.letter,
        "name": group.name,
        "accuracy": _estimate(group.accuracy),
        "loss": _estimate(group.loss),
        "steps": [{"loss": level, "by_seed": group.steps_to(level)} for level in levels],
        "runs": [_run(run) for run in group.runs],
    }


def _run(run: ComparedRun) -> dict[str, Any]:
    evaluation = run.answers and run.answers.evaluation
    return {
        "run": run.directory.id,
        "seed": run.config.seed,
        "status": run.manifest.status,
        "best_epoch": run.manifest.best_epoch,
        "weights_sha256": run.manifest.weights_sha256,
        "num_images": evaluation and len(evaluation),
        "num_correct": evaluation and evaluation.num_correct,
        "loss": evaluation and evaluation.mean_loss,
        "num_test_looks": run.answers and run.answers.num_test_looks,
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "groups": [contrast.first.letter, contrast.other.letter],
        "accuracy": _estimate(contrast.accuracy),
        "speed_ratios": [
            {
                "loss": level,
                "ratio": ratio.value,
                "interval_95": _interval(ratio.interval),
                "method": ratio.method.value,
            }
            for level, ratio in contrast.ratios.items()
        ],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    paired = pair.paired
    return {
        "names": list(pair.names),
        "num_fixed": len(paired.fixed),
        "num_broken": len(paired.broken),
        "num_both_right": paired.num_both_right,
        "num_both_wrong": paired.num_both_wrong,
        "mcnemar_p_value": paired.p_value,
    }


def _estimate(estimate: Estimate | Difference | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"value": estimate.value, "interval_95": _interval(estimate.interval), "method": estimate.method.value}


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return interval and interval._asdict()


def _write_differing(pair: Pair, path: Path) -> None:
    """Write a row for each image that one of the two has right and the other wrong."""
    first, second = (answers.evaluation for answers in pair.answers)
    names = first.class_names
    rows = [
        (int(first.indices[k]), names[first.labels[k]], names[first.predictions[k]], names[second.predictions[k]])
        for k in sorted([*pair.paired.fixed.tolist(), *pair.paired.broken.tolist()])
    ]
    write_csv(path, ["index", "label", *(f"prediction of {name}" for name in pair.names)], rows)
