"""What `lenet compare` prints: a table of the groups, and what can and cannot be told apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.intervals import SURE, Estimate, Interval, Method
from lenet_mnist.errors import one_line
from lenet_mnist.files.locks import is_locked
from lenet_mnist.files.tables import plain
from lenet_mnist.reporting.analysis_results import test_note
from lenet_mnist.reporting.text import aligned
from lenet_mnist.study.comparison import ComparedRun, Comparison, Contrast, Group, Pair, SpeedRatio

_BY = {Method.PAIRED: "Student's t, seed by seed", Method.WELCH: "Welch's t over seeds"}


@dataclass(frozen=True)
class ComparisonResult:
    """What was found, and the directory of its files."""

    compared: Comparison
    directory: Path

    def plain(self) -> dict[str, Any]:
        """Return comparison.json, and the directory of the files."""
        return {**plain(vars(self.compared)), "directory": str(self.directory)}

    def __str__(self) -> str:
        groups = self.compared.groups
        names = [f"{group.letter}  {', '.join(one_line(run.directory.id) for run in group.runs)}" for group in groups]
        files = ["written to", *(f"  {path}" for path in sorted(self.directory.iterdir()))]
        blocks = [_table(self.compared), *("\n".join(lines) for lines in (names, _sentences(self.compared), files))]
        return "\n\n".join(filter(None, blocks))


def _table(compared: Comparison) -> str:
    split = compared.split.value
    header = ["", "settings", "seeds", f"{split} accuracy", "95 % interval", "over", f"{split} loss"]
    header += [f"steps to loss {steps.loss:g}" for steps in compared.groups[0].steps]
    rows = [
        [
            group.letter,
            group.name,
            seeds_text([run.config.seed for run in group.runs]),
            *_accuracy(group),
            f"{group.loss.value:.4f}" if group.loss else "-",
            *(steps_text(list(steps.by_seed.values())) for steps in group.steps),
        ]
        for group in compared.groups
    ]
    return aligned(header, rows, right=(3, *range(6, len(header))))


def _accuracy(group: Group) -> tuple[str, str, str]:
    """Write accuracy, interval and what it is over. An accuracy ends at 0 and 100 %, whatever Student's t says."""
    accuracy = group.accuracy
    if accuracy is None:
        return "-", "", ""
    answers = [run.answers for run in group.runs if run.answers]
    over = f"{len(answers[0].evaluation):,} images" if accuracy.method is Method.WILSON else f"{len(answers)} seeds"
    low, high = accuracy.interval_95 or (0.0, 1.0)
    return f"{accuracy.value:.2%}", f"{max(low, 0.0):.2%} to {min(high, 1.0):.2%}", over


def steps_text(steps: Sequence[float | None]) -> str:
    """Write the steps of all seeds, and how many never got there."""
    reached = sorted(step for step in steps if step is not None)
    if not reached:
        return "never"
    span = f"{reached[0]:,.0f}" if len(reached) == 1 else f"{reached[0]:,.0f} to {reached[-1]:,.0f}"
    return span if len(reached) == len(steps) else f"{span}; {len(steps) - len(reached)} never"


def seeds_text(seeds: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as "0-2, 5"."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def _sentences(compared: Comparison) -> Iterator[str]:
    groups = {group.letter: group for group in compared.groups}
    for contrast in compared.contrasts:
        pair = [groups[letter] for letter in contrast.groups]
        if contrast.accuracy is not None:
            yield from accuracy_sentence(contrast, contrast.accuracy, compared.split.value, len(compared.runs) > 2)
        else:
            lost = [group.letter for group in pair if group.accuracy is None]
            yield f"{' and '.join(lost)} kept no weights: there is no accuracy to compare."
    if compared.pair is not None:
        yield pair_sentence(compared.pair)
    for contrast in compared.contrasts:
        for ratio in contrast.speed_ratios:
            yield ratio_sentence(contrast.groups, ratio) or _never([groups[each] for each in contrast.groups], ratio)
    yield from _notes(compared)


def accuracy_sentence(contrast: Contrast, difference: Estimate, split: str, has_seeds: bool) -> Iterator[str]:
    """Say which of two groups is more accurate, if that can be told."""
    first, other = contrast.groups
    if difference.interval_95 is None:
        if has_seeds:
            yield f"{first} and {other}: one run per side does not show how much seeds scatter; train more."
        return
    low, high = (100 * end for end in difference.interval_95)
    ends = f"95 % interval {low:+.2f} to {high:+.2f} points; {_BY[difference.method]}"
    points = 100 * difference.value
    if difference.excludes(0):
        more = "more" if points > 0 else "less"
        yield f"{first} is {more} accurate on the {split} images than {other}, by {abs(points):.2f} points ({ends})."
    else:
        yield f"{first} and {other} cannot be told apart by their {split} accuracy: {points:+.2f} points ({ends})."


def pair_sentence(pair: Pair) -> str:
    """Say which of two networks is better on these images, if that can be told."""
    first, second = pair.names
    found = pair.paired.plain()
    counts = f"{first} fixes {found['num_fixed']}, breaks {found['num_broken']} of {second}'s answers"
    test = f"McNemar's exact p = {found['mcnemar_p_value']:.2g}"
    if found["mcnemar_p_value"] >= SURE:
        return f"{counts}: on these images the two cannot be told apart ({test})."
    better = first if found["num_fixed"] > found["num_broken"] else second
    return f"{counts}: on these images {better} is better ({test}); other seeds may say otherwise."


def ratio_sentence(groups: tuple[str, str], ratio: SpeedRatio) -> str:
    """Say how many times fewer steps the faster group needs; nothing if there is no ratio."""
    if ratio.ratio is None:
        return ""
    (faster, slower), times, interval = groups, ratio.ratio, ratio.interval_95
    if times < 1:
        faster, slower, times = slower, faster, 1 / times
        interval = interval and Interval(1 / interval.high, 1 / interval.low)
    text = f"To a training loss of {ratio.loss:g}, {faster} needs {times:.2f} times fewer steps than {slower}"
    if interval is None:
        return f"{text}: one run per side, so no interval."
    ends = f"95 % interval {interval.low:.2f} to {interval.high:.2f}; {_BY[ratio.method]}"
    return f"{text}{', but the two cannot be told apart' * (interval.low <= 1)} ({ends})."


def _never(groups: Sequence[Group], ratio: SpeedRatio) -> str:
    """Say who never reached the loss, and how far it was trained."""
    lost = []
    for group in groups:
        (steps,) = (steps for steps in group.steps if steps.loss == ratio.loss)
        missing = [run for run in group.runs if steps.by_seed[run.config.seed] is None]
        if missing:
            most = max(run.steps[-1].step if run.steps else 0 for run in missing)
            lost.append(f"{len(missing)} of {len(group.runs)} of {group.letter} never reached it, in {most:,} steps")
    return f"No ratio of steps to a training loss of {ratio.loss:g}: {' and '.join(lost)}."


def _notes(compared: Comparison) -> Iterator[str]:
    """Say what else must be known to read the figures."""
    runs, has_levels = compared.runs, bool(compared.groups[0].steps)
    for run in runs:
        if note := _state(run):
            yield f"note: {one_line(run.directory.id)} {note}"
    yield from test_note([run.answers.num_test_looks if run.answers else None for run in runs])
    if has_levels and len({run.config.training.batch_size for run in runs}) > 1:
        yield "note: the batch sizes differ, so equal steps are not equally many images."
    if has_levels and len({run.config.augmentation for run in runs}) > 1:
        yield "note: the augmentation differs, so the training losses are of different images."
    if len({(run.manifest.machine, run.manifest.device, run.manifest.threads) for run in runs}) > 1:
        yield "note: not all were trained on the same machine, device and threads: seconds do not compare the settings."


def _state(run: ComparedRun) -> str:
    """Say what keeps a training from being a complete one, or nothing."""
    manifest = run.manifest
    kept = f"the weights of epoch {manifest.best_epoch} count" if manifest.best_epoch else "it kept no weights"
    match manifest.status:
        case "finished":
            return ""
        case "diverged":
            return f"diverged ({one_line(manifest.message or 'without a message')}): {kept}."
        case "running":
            state = "is still training" if is_locked(run.directory.path) else "was killed"
            return f"{state}, after {manifest.epochs} epochs: {kept}."
    return f"was {manifest.status} after {manifest.epochs} epochs: {kept}."
