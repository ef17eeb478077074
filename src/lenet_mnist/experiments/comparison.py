"""Several trainings on disk, side by side: from run directories to groups, their figures and what tells them apart.

runs/<id>, ... -> same data? -> groups of seeds -> answers of the kept weights -> estimates, differences, speed ratios
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from lenet_mnist.analysis.compare import (
    Difference,
    Estimate,
    PairedAnswers,
    accuracy_of_one,
    difference_of,
    groups_of,
    mean_of,
    names_of,
    pair_answers,
)
from lenet_mnist.analysis.speed import Ratio, speed_ratio, steps_to_level
from lenet_mnist.config import Config, Split
from lenet_mnist.config_file import flat_values
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.experiments.evaluation import Answers, answers_of, member_of
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.updates import StepRow

_NOT_OF_THE_RESULT = ("name", "seed", "training.learning_rate_budget", "training.checkpoint_every_steps")
_BEYOND_FLOAT32 = 1e39


@dataclass(frozen=True)
class ComparedRun:
    """One training, read. `answers` is None if it has never kept weights: it was left within its first epoch."""

    directory: RunDirectory
    config: Config
    manifest: Manifest
    history: list[EpochRow]
    steps: list[StepRow]
    answers: Answers | None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything by dotted key that its result and its speed depend on, except the seed."""
        manifest = self.manifest
        used = {"device": manifest.device, "engine": manifest.engine, "threads": manifest.threads}
        values = flat_values(self.config) | {f"training.{name}": value for name, value in used.items()}
        values["on the way"] = "; ".join(manifest.accepted_differences) or "nothing changed"
        return {key: value for key, value in values.items() if key not in _NOT_OF_THE_RESULT}


@dataclass(frozen=True)
class Group:
    """Trainings that differ only in their seed. `letter` stands for it in sentences, `name` says what is its own.

    `accuracy` and `loss` are those of the kept weights on the split, None if no training has kept any.
    """

    letter: str
    name: str
    runs: tuple[ComparedRun, ...]
    accuracy: Estimate | None
    loss: Estimate | None

    def accuracies(self) -> dict[int, float]:
        """Return the accuracy by seed, of those that have kept weights."""
        return {run.config.seed: run.answers.evaluation.accuracy for run in self.runs if run.answers}

    def steps_to(self, level: float) -> dict[int, float | None]:
        """Return the steps to a training loss of `level` by seed, None for those that never reached it."""
        return {run.config.seed: steps_to_level(run.steps, level) for run in self.runs}


@dataclass(frozen=True)
class Contrast:
    """The first group against another: how much more accurate it is, and by level, how many times fewer steps it needs.

    `accuracy` is None if one of them has kept no weights.
    """

    first: Group
    other: Group
    accuracy: Difference | None
    ratios: dict[float, Ratio]


@dataclass(frozen=True)
class Pair:
    """Two runs, and their answers image by image: what each is called, and what that stands for."""

    names: tuple[str, str]
    descriptions: tuple[str, str]
    answers: tuple[Answers, Answers]
    paired: PairedAnswers


@dataclass(frozen=True)
class Comparison:
    """What `lenet compare` found. `pair` is there if two runs were given, and both have kept weights."""

    split: Split
    levels: tuple[float, ...]
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]
    pair: Pair | None

    @property
    def runs(self) -> list[ComparedRun]:
        """All runs, group by group."""
        return [run for group in self.groups for run in group.runs]


def compare_runs(
    directories: Sequence[RunDirectory],
    split_name: str,
    levels: Sequence[float],
    access: DataAccess,
    device_name: str | None,
) -> Comparison:
    """Compare trainings by their histories and by what their kept weights answer for a split.

    Nothing is written, except that a look at the test set is noted in each run.

    Raises: ConfigError if they cannot be compared; DataError if a run is damaged.
    """
    split = member_of(Split, split_name, "--split")
    _require_several(directories)
    runs = [_read_run(directory) for directory in directories]
    for run in runs[1:]:
        _require_same_data(runs[0], run)
    parts = groups_of([run.settings for run in runs])
    for part in parts:
        _require_different_seeds([runs[k] for k in part])
    runs = _with_answers(runs, split, access, device_name)
    names = names_of([runs[part[0]].settings for part in parts])
    groups = tuple(
        _group(k, name, [runs[n] for n in part]) for k, (name, part) in enumerate(zip(names, parts, strict=True))
    )
    contrasts = tuple(_contrast(groups[0], other, levels) for other in groups[1:])
    return Comparison(split, tuple(levels), groups, contrasts, _pair(groups))


def parse_level(text: str) -> float:
    """Return the loss in "loss=0.1". Raises: ConfigError."""
    name, _, value = text.partition("=")
    try:
        level = float(value)
    except ValueError:
        level = math.nan
    if name.strip() != "loss" or not 0 < level < math.inf:
        raise ConfigError(f"--speed-ratio {text}: expected a level of the training loss in nats, as in loss=0.1")
    return level


def _require_several(directories: Sequence[RunDirectory]) -> None:
    """Raise ConfigError unless there are two runs at least, each once."""
    if len(directories) < 2:
        raise ConfigError(f"{directories[0].path}: is the only run that was given; to compare, give two or more")
    seen: set[Path] = set()
    for directory in directories:
        if (place := directory.path.resolve()) in seen:
            raise ConfigError(f"{directory.path}: was given twice; there is nothing to compare in that")
        seen.add(place)


def _read_run(directory: RunDirectory) -> ComparedRun:
    """Return a training without its answers. Raises: ConfigError if it is none; DataError."""
    manifest = directory.read_manifest()
    if manifest.kind != "train":
        raise ConfigError(f"{directory.path}: is a {manifest.kind}, not a training: only trainings are compared")
    config, history, steps = directory.read_config(), directory.read_history(), directory.read_steps()
    _require_orderly(directory.history_path, history)
    _require_orderly(directory.steps_path, steps)
    return ComparedRun(directory, config, manifest, history, steps, None)


def _require_orderly(path: Path, rows: Sequence[EpochRow] | Sequence[StepRow]) -> None:
    """Raise DataError unless the steps rise, and each figure is one that a training can have."""
    for before, after in pairwise([0, *(row.step for row in rows)]):
        if after <= before:
            raise DataError(f"{path}: damaged: step {after} comes after step {before}")
    for row in rows:
        if not all(0 <= value < _BEYOND_FLOAT32 for value in astuple(row)):
            raise DataError(f"{path}: damaged: no training has the figures of the row of step {row.step}")


def _require_same_data(first: ComparedRun, other: ComparedRun) -> None:
    """Raise ConfigError unless both were validated on the same images: only then are their figures comparable.

    How many of the other images they were trained on may differ: the validation part is drawn first.
    """
    where = f"{other.directory.path}: cannot be compared with {first.directory.path}"
    if (first.manifest.data_source, first.manifest.data_files) != (
        other.manifest.data_source,
        other.manifest.data_files,
    ):
        raise ConfigError(f"{where}: it was trained on other data (the SHA-256 of their files differ)")
    if first.manifest.split_sha256 == other.manifest.split_sha256:
        return
    for key in ("data.split_seed", "data.val_size"):
        was, now = (flat_values(run.config)[key] for run in (first, other))
        if was != now:
            raise ConfigError(f"{where}: it has another split, and so other validation images ({key} {now}, not {was})")
    if first.config.data == other.config.data:
        raise ConfigError(f"{where}: it has another split (another SHA-256, though the settings are the same)")


def _require_different_seeds(runs: Sequence[ComparedRun]) -> None:
    """Raise ConfigError if two runs of a group have the same seed, which would count as two draws of it."""
    by_seed: dict[int, ComparedRun] = {}
    for run in runs:
        twin = by_seed.setdefault(run.config.seed, run)
        if twin is not run:
            raise ConfigError(
                f"{run.directory.path}: is the same training as {twin.directory.path}, with the same settings and "
                "seed; leave one of them out"
            )


def _with_answers(
    runs: Sequence[ComparedRun], split: Split, access: DataAccess, device_name: str | None
) -> list[ComparedRun]:
    """Let those answer that have kept weights. Raises: ConfigError if their classes differ; DataError."""
    able = [run.directory for run in runs if run.manifest.best_epoch is not None]
    answers = dict(zip(able, answers_of(able, split, access, device_name), strict=True))
    return [replace(run, answers=answers.get(run.directory)) for run in runs]


def _group(number: int, name: str, runs: Sequence[ComparedRun]) -> Group:
    evaluations = [run.answers.evaluation for run in runs if run.answers]
    accuracy = loss = None
    if evaluations:
        loss = mean_of([seen.mean_loss for seen in evaluations])
        several = [seen.accuracy for seen in evaluations]
        accuracy = mean_of(several) if len(several) > 1 else accuracy_of_one(evaluations[0])
    return Group(_letter(number), name, tuple(runs), accuracy, loss)


def _letter(number: int) -> str:
    """Return A, B, ... Z, A2, B2, ..."""
    again, place = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[place] + (str(again + 1) if again else "")


def _contrast(first: Group, other: Group, levels: Sequence[float]) -> Contrast:
    accuracies = first.accuracies(), other.accuracies()
    accuracy = difference_of(*accuracies) if all(accuracies) else None
    return Contrast(
        first, other, accuracy, {level: speed_ratio(first.steps_to(level), other.steps_to(level)) for level in levels}
    )


def _pair(groups: Sequence[Group]) -> Pair | None:
    """Return the answers of two runs beside each other, if there are just two, and both have kept weights."""
    runs = [run for group in groups for run in group.runs]
    answers = [run.answers for run in runs if run.answers]
    if len(runs) != 2 or len(answers) != 2:
        return None
    first, second = answers
    if len(groups) > 1:
        names = groups[0].letter, groups[1].letter
        descriptions = f"{names[0]}: {groups[0].name}", f"{names[1]}: {groups[1].name}"
    else:
        names = f"seed {runs[0].config.seed}", f"seed {runs[1].config.seed}"
        descriptions = f"both: {groups[0].name}", "they differ in the seed"
    return Pair(names, descriptions, (first, second), pair_answers(first.evaluation, second.evaluation))
