"""`lenet compare`: several trainings read, grouped by their settings, and tested for differences.

The fields of these dataclasses are the keys of comparison.json, unless they have a `plain` of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.groups import groups_of, letter_of, names_of, speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import Estimate, Interval, Method, difference_of, mean_of
from lenet_mnist.analysis.metrics import PairedAnswers, pair_answers
from lenet_mnist.config import Config, Device, Split
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.files.storage import storage_errors
from lenet_mnist.files.tables import plain, write_csv, write_json
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run, create_beside_runs
from lenet_mnist.sections import flat_values
from lenet_mnist.study.evaluation import Answers, answers_of
from lenet_mnist.training.rows import EpochRow, StepRow

_NOT_OF_THE_RESULT = ("name", "seed", "training.learning_rate_budget", "training.checkpoint_every_steps")
_BEYOND_FLOAT32 = 1e39


@dataclass(frozen=True)
class ComparedRun:
    """One training, read. `answers` is None if it kept no weights: it ended within its first epoch."""

    directory: Run
    config: Config
    manifest: Manifest
    history: list[EpochRow]
    steps: list[StepRow]
    answers: Answers | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything, by dotted key, that its result and its speed depend on, except the seed."""
        used = {f"training.{name}": getattr(self.manifest, name) for name in ("device", "engine", "threads")}
        values = flat_values(self.config) | used
        values["on the way"] = "; ".join(self.manifest.accepted_differences) or "nothing changed"
        return {key: value for key, value in values.items() if key not in _NOT_OF_THE_RESULT}

    def plain(self) -> dict[str, Any]:
        manifest, seen = self.manifest, self.answers and self.answers.evaluation
        return {
            "run": self.directory.id,
            "seed": self.config.seed,
            "status": manifest.status,
            "best_epoch": manifest.best_epoch,
            "weights_sha256": manifest.weights_sha256,
            "num_images": seen and len(seen),
            "num_correct": seen and seen.num_correct,
            "loss": seen and seen.mean_loss,
            "num_test_looks": self.answers and self.answers.num_test_looks,
        }


@dataclass(frozen=True)
class StepsToLevel:
    """The steps to a training loss of `loss` nats by seed, None for a training that never reached it."""

    loss: float
    by_seed: dict[int, float | None]


@dataclass(frozen=True)
class Group:
    """Trainings that differ only in their seed. `name` says how they differ from the other groups.

    `accuracy` and `loss` are those of the kept weights on the split, None if no training kept any.
    """

    letter: str
    name: str
    accuracy: Estimate | None
    loss: Estimate | None
    steps: tuple[StepsToLevel, ...]
    runs: tuple[ComparedRun, ...]

    def accuracies(self) -> dict[int, float]:
        """Return the accuracy by seed, of the runs that kept weights."""
        return {run.config.seed: run.answers.evaluation.accuracy for run in self.runs if run.answers}


@dataclass(frozen=True)
class SpeedRatio:
    """How many times fewer steps to a training loss the first group needs. No ratio if a training never got there."""

    loss: float
    ratio: float | None
    interval_95: Interval | None
    method: Method


@dataclass(frozen=True)
class Contrast:
    """The first group against another. `accuracy` is the difference, None if one of them kept no weights."""

    groups: tuple[str, str]
    accuracy: Estimate | None
    speed_ratios: tuple[SpeedRatio, ...]


@dataclass(frozen=True)
class Pair:
    """Two runs, image by image. `descriptions` say what the names stand for."""

    names: tuple[str, str]
    descriptions: tuple[str, str]
    answers: tuple[Answers, Answers]
    paired: PairedAnswers

    def plain(self) -> dict[str, Any]:
        return {"names": list(self.names), **self.paired.plain()}


@dataclass(frozen=True)
class Comparison:
    """What `lenet compare` found. There is a pair if just two runs were given, and both have kept weights."""

    split: Split
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]
    pair: Pair | None

    @property
    def runs(self) -> list[ComparedRun]:
        return [run for group in self.groups for run in group.runs]


def compare_runs(
    directories: Sequence[Run],
    split: Split,
    levels: Sequence[float],
    access: DataAccess,
    device: Device | None = None,
) -> Comparison:
    """Compare trainings by their histories and by what their kept weights answer for a split.

    Nothing is written, but a test evaluation is recorded in each run.

    Raises: ConfigError if they cannot be compared; DataError if a run is damaged.
    """
    _require_several(directories)
    runs = [_read_run(directory) for directory in directories]
    for run in runs[1:]:
        _require_same_data(runs[0], run)
    parts = groups_of([run.settings for run in runs])
    for part in parts:
        _require_different_seeds([runs[k] for k in part])
    able = [run.directory for run in runs if run.manifest.best_epoch is not None]
    answers = dict(zip(able, answers_of(able, split, access, device), strict=True))
    runs = [replace(run, answers=answers.get(run.directory)) for run in runs]
    names = names_of([runs[part[0]].settings for part in parts])
    groups = [_group(letter_of(k), names[k], [runs[n] for n in part], levels) for k, part in enumerate(parts)]
    contrasts = tuple(_contrast(groups[0], other) for other in groups[1:])
    return Comparison(split, tuple(groups), contrasts, _pair(groups))


def parse_level(text: str) -> float:
    """Return the loss in "loss=0.1". Raises: ConfigError."""
    name, _, value = text.partition("=")
    try:
        level = float(value)
    except ValueError:
        level = math.nan
    if name.strip() != "loss" or not 0 < level < math.inf:
        raise ConfigError(f"--speed-ratio {text}: expected a training loss in nats, as in loss=0.1")
    return level


def require_free(output: Path | None) -> None:
    """Raise ConfigError if there is something at `output`: no file is overwritten."""
    if output is None:
        return
    with storage_errors(output, "look into it"):
        if output.exists() and not output.is_dir():
            raise ConfigError(f"--output {output}: is a file; name a new directory")
        if output.is_dir() and any(output.iterdir()):
            raise ConfigError(f"--output {output}: is not empty; name a new directory")


def write_comparison(compared: Comparison, runs_dir: Path, output: Path | None, now: datetime) -> Path:
    """Write comparison.json and differing.csv into `output` or a new directory in `runs_dir`, and return which.

    Raises: StorageError.
    """
    directory = output or create_beside_runs(runs_dir, "compare", now)
    with storage_errors(directory, "make this directory"):
        directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "comparison.json", plain(compared))
    if (pair := compared.pair) is not None:
        first, second = (answers.evaluation for answers in pair.answers)
        names = first.class_names
        rows = [
            (int(first.indices[k]), names[first.labels[k]], names[first.predictions[k]], names[second.predictions[k]])
            for k in sorted([*pair.paired.fixed.tolist(), *pair.paired.broken.tolist()])
        ]
        write_csv(directory / "differing.csv", ["index", "label", *(f"prediction of {n}" for n in pair.names)], rows)
    return directory


def _require_several(directories: Sequence[Run]) -> None:
    places = [directory.path.resolve() for directory in directories]
    if len(places) < 2:
        raise ConfigError(f"{directories[0].path}: is the only run; name two or more to compare")
    for directory, place in zip(directories, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{directory.path}: is named twice")


def _read_run(directory: Run) -> ComparedRun:
    """Return a training without its answers. Raises: ConfigError if it is not one; DataError."""
    directory.require("train", "only trainings are compared")
    history, steps = directory.history, directory.steps
    for path, rows in ((directory.history_path, history), (directory.steps_path, steps)):
        for before, after in pairwise([0, *(row.step for row in rows)]):
            if after <= before:
                raise DataError(f"{path}: damaged: step {after} comes after step {before}")
        for row in rows:
            if not all(0 <= value < _BEYOND_FLOAT32 for value in astuple(row)):
                raise DataError(f"{path}: damaged: the row of step {row.step} has figures that no training has")
    return ComparedRun(directory, directory.config, directory.manifest, history, steps)


def _require_same_data(first: ComparedRun, other: ComparedRun) -> None:
    """Raise ConfigError unless both were validated on the same images: otherwise their figures do not compare.

    They may have been trained on more or fewer of the other images: the validation part is drawn first.
    """
    where = f"{other.directory.path}: cannot be compared with {first.directory.path}"
    sources = [(run.manifest.data_source, run.manifest.data_files) for run in (first, other)]
    if sources[0] != sources[1]:
        raise ConfigError(f"{where}: it was trained on different data (the SHA-256 of the files differ)")
    if first.manifest.split_sha256 == other.manifest.split_sha256:
        return
    for key in ("data.split_seed", "data.val_size"):
        was, now = (flat_values(run.config)[key] for run in (first, other))
        if was != now:
            raise ConfigError(f"{where}: its validation images are different ({key} {now}, not {was})")
    if first.config.data == other.config.data:
        raise ConfigError(f"{where}: its split is different (another SHA-256, although the settings are the same)")


def _require_different_seeds(runs: Sequence[ComparedRun]) -> None:
    """Raise ConfigError if two runs of a group have the same seed: they would count as two."""
    by_seed: dict[int, ComparedRun] = {}
    for run in runs:
        twin = by_seed.setdefault(run.config.seed, run)
        if twin is not run:
            raise ConfigError(
                f"{run.directory.path}: is the same training as {twin.directory.path} (same settings, same seed); "
                "leave one of them out"
            )


def _group(letter: str, name: str, runs: Sequence[ComparedRun], levels: Sequence[float]) -> Group:
    seen = [run.answers.evaluation for run in runs if run.answers]
    accuracy = mean_of([each.accuracy for each in seen]) if seen else None
    if len(seen) == 1:  # over images, where there are no seeds to compare
        accuracy = Estimate(seen[0].accuracy, seen[0].accuracy_interval, Method.WILSON)
    loss = mean_of([each.mean_loss for each in seen]) if seen else None
    by_seed = [{run.config.seed: steps_to_level(run.steps, level) for run in runs} for level in levels]
    return Group(letter, name, accuracy, loss, tuple(map(StepsToLevel, levels, by_seed)), tuple(runs))


def _contrast(first: Group, other: Group) -> Contrast:
    accuracies = first.accuracies(), other.accuracies()
    ratios = []
    for one, two in zip(first.steps, other.steps, strict=True):
        found = speed_ratio(one.by_seed, two.by_seed)
        ratios.append(SpeedRatio(one.loss, *(vars(found).values() if found else (None, None, Method.NONE))))
    difference = difference_of(*accuracies) if all(accuracies) else None
    return Contrast((first.letter, other.letter), difference, tuple(ratios))


def _pair(groups: Sequence[Group]) -> Pair | None:
    """Return two runs image by image, if there are just two, and both have kept weights."""
    runs = [run for group in groups for run in group.runs]
    answers = [run.answers for run in runs if run.answers]
    if not len(runs) == len(answers) == 2:
        return None
    if len(groups) == 2:
        names = groups[0].letter, groups[1].letter
        descriptions = f"{names[0]}: {groups[0].name}", f"{names[1]}: {groups[1].name}"
    else:
        names = f"seed {runs[0].config.seed}", f"seed {runs[1].config.seed}"
        descriptions = f"both: {groups[0].name}", "they differ in the seed"
    first, second = answers
    return Pair(names, descriptions, (first, second), pair_answers(first.evaluation, second.evaluation))
