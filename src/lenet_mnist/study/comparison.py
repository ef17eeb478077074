"""`lenet compare`: several trainings read, grouped by their settings, and tested for differences.

The fields of these dataclasses are the keys of comparison.json, unless they have a `plain` of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.groups import groups_of, letter_of, names_of, speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import Estimate, Interval, Method, difference_of, mean_of
from lenet_mnist.analysis.metrics import PairedAnswers, pair_answers
from lenet_mnist.config import Split
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.files.storage import storage_errors
from lenet_mnist.files.tables import plain, write_csv, write_json
from lenet_mnist.runs.run import Run, create_beside_runs
from lenet_mnist.sections import flat_values
from lenet_mnist.study.evaluation import EvaluatedRun, Evaluator

_NOT_OF_THE_RESULT = ("name", "seed", "training.learning_rate_budget", "training.checkpoint_every_steps")
_BEYOND_FLOAT32 = 1e39


@dataclass(frozen=True)
class StepsToLevel:
    """The steps to a training loss of `loss` nats by seed, None for a training that never reached it."""

    loss: float
    by_seed: dict[int, float | None]


@dataclass(frozen=True)
class Group:
    """Trainings that differ only in their seed. `name` says how they differ from the other groups.

    `accuracy` and `loss` are those of the kept weights on the split, None if no training kept any. `answers` are by
    seed; one that ended within its first epoch kept no weights, and has none.
    """

    letter: str
    name: str
    accuracy: Estimate | None
    loss: Estimate | None
    steps: tuple[StepsToLevel, ...]
    runs: tuple[Run, ...]
    answers: dict[int, EvaluatedRun]

    def accuracies(self) -> dict[int, float]:
        """Return the accuracy by seed, of the runs that kept weights."""
        return {seed: each.evaluation.accuracy for seed, each in self.answers.items()}

    def plain(self) -> dict[str, Any]:
        values = {**vars(self), "runs": [_values_of(run, self.answers.get(run.config.seed)) for run in self.runs]}
        return {name: plain(value) for name, value in values.items() if name != "answers"}


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
    answers: tuple[EvaluatedRun, EvaluatedRun]
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
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]


def compare_runs(runs: Sequence[Run], split: Split, levels: Sequence[float], evaluator: Evaluator) -> Comparison:
    """Compare trainings by their histories and by what their kept weights answer for a split.

    Nothing is written, but a test evaluation is recorded in each run.

    Raises: ConfigError if they cannot be compared; DataError if a run is damaged.
    """
    if len(runs) < 2:
        raise ConfigError(f"{runs[0].path}: is the only run; name two or more to compare")
    for run in runs:
        _require_sound(run)
        _require_same_data(runs[0], run)
    settings = [_settings_of(run) for run in runs]
    parts = groups_of(settings)
    for part in parts:
        by_seed: dict[int, Run] = {}
        for run in [runs[k] for k in part]:
            twin = by_seed.setdefault(run.config.seed, run)
            if twin is not run:  # they would count as two
                raise ConfigError(f"{run.path}: is the same training as {twin.path}: leave one of them out")
    able = [run for run in runs if run.manifest.best_epoch is not None]
    seen = {each.run.path: each for each in evaluator.answers_of(able, split)}
    names = names_of([settings[part[0]] for part in parts])
    groups = []
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        members = tuple(runs[k] for k in part)
        answers = {run.config.seed: seen[run.path] for run in members if run.path in seen}
        groups.append(_group((letter_of(number), name), members, answers, levels))
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


def write_comparison(compared: Comparison, runs_dir: Path, output: Path | None) -> Path:
    """Write comparison.json and differing.csv into `output` or a new directory in `runs_dir`, and return which.

    Raises: StorageError.
    """
    directory = output or create_beside_runs(runs_dir, "compare", datetime.now(UTC))
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


def _settings_of(run: Run) -> dict[str, Any]:
    """Return everything, by dotted key, that a training's result and its speed depend on, except the seed."""
    used = {f"training.{name}": getattr(run.manifest, name) for name in ("device", "engine", "threads")}
    on_the_way = "; ".join(run.manifest.accepted_differences) or "nothing changed"
    values = flat_values(run.config) | used | {"on the way": on_the_way}
    return {key: value for key, value in values.items() if key not in _NOT_OF_THE_RESULT}


def _values_of(run: Run, answers: EvaluatedRun | None) -> dict[str, Any]:
    manifest, seen = run.manifest, answers and answers.evaluation
    return {
        "run": run.id,
        "seed": run.config.seed,
        "status": manifest.status,
        "best_epoch": manifest.best_epoch,
        "weights_sha256": manifest.weights_sha256,
        "num_images": seen and len(seen),
        "num_correct": seen and seen.num_correct,
        "loss": seen and seen.mean_loss,
        "num_test_looks": answers and answers.num_test_looks,
    }


def _require_sound(run: Run) -> None:
    """Raise ConfigError if `run` is not a training; DataError if its figures cannot be those of one."""
    run.require("train", "only trainings are compared")
    for path, rows in ((run.history_path, run.history), (run.steps_path, run.steps)):
        for row in rows:
            if not all(0 <= value < _BEYOND_FLOAT32 for value in astuple(row)):
                raise DataError(f"{path}: damaged: the row of step {row.step} has figures that no training has")


def _require_same_data(first: Run, other: Run) -> None:
    """Raise ConfigError unless both were validated on the same images: otherwise their figures do not compare.

    They may have been trained on more or fewer of the other images: the validation part is drawn first.
    """
    where = f"{other.path}: cannot be compared with {first.path}"
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


def _group(
    name: tuple[str, str], runs: tuple[Run, ...], answers: dict[int, EvaluatedRun], levels: Sequence[float]
) -> Group:
    seen = [each.evaluation for each in answers.values()]
    accuracy = mean_of([each.accuracy for each in seen]) if seen else None
    if len(seen) == 1:  # over images, where there are no seeds to compare
        accuracy = Estimate(seen[0].accuracy, seen[0].accuracy_interval, Method.WILSON)
    loss = mean_of([each.mean_loss for each in seen]) if seen else None
    by_seed = [{run.config.seed: steps_to_level(run.steps, level) for run in runs} for level in levels]
    return Group(*name, accuracy, loss, tuple(map(StepsToLevel, levels, by_seed)), runs, answers)


def _contrast(first: Group, other: Group) -> Contrast:
    ratios = []
    for one, two in zip(first.steps, other.steps, strict=True):
        found = speed_ratio(one.by_seed, two.by_seed)
        ratios.append(SpeedRatio(one.loss, *(vars(found).values() if found else (None, None, Method.NONE))))
    accuracies = first.accuracies(), other.accuracies()
    difference = difference_of(*accuracies) if all(accuracies) else None
    return Contrast((first.letter, other.letter), difference, tuple(ratios))


def _pair(groups: Sequence[Group]) -> Pair | None:
    """Return two runs image by image, if there are just two, and both have kept weights."""
    runs = [run for group in groups for run in group.runs]
    answers = [each for group in groups for each in group.answers.values()]
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
