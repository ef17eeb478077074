"""What a comparison of trainings says, in words and in JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lenet_mnist.analysis.compare import Estimate, Method
from lenet_mnist.analysis.intervals import Interval
from lenet_mnist.analysis.speed import Ratio
from lenet_mnist.errors import one_line
from lenet_mnist.experiments.comparison import ComparedRun, Comparison, Contrast, Group, Pair
from lenet_mnist.experiments.comparison_tables import as_values
from lenet_mnist.files.locks import is_locked
from lenet_mnist.reporting.text import aligned, to_json

_BY = {
    Method.PAIRED: "Student's t, seed by seed",
    Method.WELCH: "Welch's t over seeds",
}


def comparison_text(compared: Comparison, directory: Path) -> str:
    """Say in a table and in sentences what was found, and where its files are."""
    blocks = [
        _table(compared),
        "\n".join(f"{group.letter}  {_run_names(group)}" for group in compared.groups),
        "\n".join(_sentences(compared)),
        "\n".join(["written to", *(f"  {path}" for path in sorted(directory.iterdir()))]),
    ]
    return "\n\n".join(block for block in blocks if block)


def comparison_json(compared: Comparison, directory: Path) -> str:
    """Return the same as JSON: comparison.json, and the directory of the files."""
    return to_json({**as_values(compared), "directory": str(directory)})


def _table(compared: Comparison) -> str:
    split = compared.split.value
    header = ["", "settings", "seeds", f"{split} accuracy", "95 % interval", "over", f"{split} loss"]
    header += [f"steps to loss {level:g}" for level in compared.levels]
    rows = [
        [
            group.letter,
            group.name,
            _seeds([run.config.seed for run in group.runs]),
            *_accuracy(group),
            f"{group.loss.value:.4f}" if group.loss else "-",
            *(_steps(list(group.steps_to(level).values())) for level in compared.levels),
        ]
        for group in compared.groups
    ]
    return aligned(header, rows, right=(3, *range(6, len(header))))


def _accuracy(group: Group) -> tuple[str, str, str]:
    accuracy = group.accuracy
    if accuracy is None:
        return "-", "", ""
    answers = [run.answers for run in group.runs if run.answers]
    over = f"{len(answers[0].evaluation):,} images" if accuracy.method is Method.WILSON else f"{len(answers)} seeds"
    return f"{accuracy.value:.2%}", _span(accuracy), over


def _span(accuracy: Estimate) -> str:
    """Write an interval of an accuracy, which ends at 0 and 100 % whatever Student's t says."""
    if accuracy.interval is None:
        return ""
    low, high = max(accuracy.interval.low, 0.0), min(accuracy.interval.high, 1.0)
    return f"{low:.2%} to {high:.2%}"


def _steps(steps: Sequence[float | None]) -> str:
    reached = sorted(step for step in steps if step is not None)
    if not reached:
        return "never"
    span = f"{reached[0]:,.0f}" if len(reached) == 1 else f"{reached[0]:,.0f} to {reached[-1]:,.0f}"
    return span if len(reached) == len(steps) else f"{span}; {len(steps) - len(reached)} never"


def _seeds(seeds: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as "0-2, 5"."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def _run_names(group: Group) -> str:
    return ", ".join(one_line(run.directory.id) for run in group.runs)


def _sentences(compared: Comparison) -> Iterator[str]:
    for contrast in compared.contrasts:
        yield from _accuracy_sentence(contrast, compared.split.value)
    if compared.pair is not None:
        yield _pair_sentence(compared.pair)
    for contrast in compared.contrasts:
        for level, ratio in contrast.ratios.items():
            yield _ratio_sentence(contrast, level, ratio)
    yield from _notes(compared)


def _accuracy_sentence(contrast: Contrast, split: str) -> Iterator[str]:
    first, other, difference = contrast.first.letter, contrast.other.letter, contrast.accuracy
    if difference is None:
        lost = [group.letter for group in (contrast.first, contrast.other) if group.accuracy is None]
        yield f"{' and '.join(lost)} kept no weights: there is no accuracy to compare."
        return
    if difference.interval is None:
        if len(contrast.first.runs) + len(contrast.other.runs) > 2:
            yield f"{first} and {other}: one training on a side does not tell how far seeds scatter; train more."
        return
    ends = f"95 % interval {_points(difference.interval)} points; {_BY[difference.method]}"
    if difference.is_sure:
        more = "more" if difference.value > 0 else "less"
        points = f"{100 * abs(difference.value):.2f} points"
        yield f"{first} is {more} accurate on the {split} images than {other}, by {points} ({ends})."
    else:
        points = f"{100 * difference.value:+.2f} points"
        yield f"{first} and {other} cannot be told apart by their {split} accuracy: {points} ({ends})."


def _points(interval: Interval) -> str:
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"


def _pair_sentence(pair: Pair) -> str:
    first, second = pair.names
    paired = pair.paired
    counts = f"{first} fixes {len(paired.fixed)}, breaks {len(paired.broken)} of {second}'s answers"
    test = f"McNemar's exact p = {paired.p_value:.2g}"
    if not paired.is_sure:
        return f"{counts}: on these images the two cannot be told apart ({test})."
    better = first if len(paired.fixed) > len(paired.broken) else second
    return f"{counts}: on these images {better} is better ({test}); other seeds may say otherwise."


def _ratio_sentence(contrast: Contrast, level: float, ratio: Ratio) -> str:
    first, other = contrast.first, contrast.other
    if ratio.value is None:
        return f"No ratio of steps to a training loss of {level:g}: {_never(contrast, level)}."
    faster, slower, times, interval = first.letter, other.letter, ratio.value, ratio.interval
    if times < 1:
        faster, slower, times = slower, faster, 1 / times
        interval = interval and Interval(1 / interval.high, 1 / interval.low)
    text = f"To a training loss of {level:g}, {faster} needs {times:.2f} times fewer steps than {slower}"
    if interval is None:
        return f"{text}: a single training on a side, so no interval."
    ends = f"95 % interval {interval.low:.2f} to {interval.high:.2f}; {_BY[ratio.method]}"
    return f"{text} ({ends})." if ratio.is_sure else f"{text}, but the two cannot be told apart ({ends})."


def _never(contrast: Contrast, level: float) -> str:
    """Say who has not come there, and how far it has gone."""
    lost = []
    for group in (contrast.first, contrast.other):
        missing = [run for run in group.runs if group.steps_to(level)[run.config.seed] is None]
        if missing:
            most = max(run.steps[-1].step if run.steps else 0 for run in missing)
            lost.append(f"{len(missing)} of {len(group.runs)} of {group.letter} never reached it, in {most:,} steps")
    return " and ".join(lost)


def _notes(compared: Comparison) -> Iterator[str]:
    """Say what else must be known to read the figures."""
    for run in compared.runs:
        if note := _state(run):
            yield f"note: {one_line(run.directory.id)} {note}"
    looks = [run.answers.num_test_looks for run in compared.runs if run.answers and run.answers.num_test_looks]
    if looks and max(looks) > 1:
        yield (
            f"note: look number {max(looks)} at the test set through one of these runs. Choices that follow from the "
            "earlier looks make its figure too good; choose on the validation set."
        )
    if len({run.config.training.batch_size for run in compared.runs}) > 1 and compared.levels:
        yield "note: the batch sizes differ, so the steps do not show the same number of images."
    if len({run.config.augmentation for run in compared.runs}) > 1 and compared.levels:
        yield (
            "note: not all see their training images distorted in the same way: the training losses are of different "
            "images, and the steps to a level of them compare two different things."
        )
    if len({(run.manifest.machine, run.manifest.device, run.manifest.threads) for run in compared.runs}) > 1:
        yield "note: not all were trained on the same machine, device and threads: seconds do not compare the settings."


def _state(run: ComparedRun) -> str:
    """Say what hinders a training from being a whole one, or nothing."""
    manifest = run.manifest
    kept = (
        f"epoch {manifest.best_epoch}, whose weights it kept, counts" if manifest.best_epoch else "it kept no weights"
    )
    match manifest.status:
        case "diverged":
            return f"diverged ({one_line(manifest.message or 'without a message')}): {kept}."
        case "interrupted" | "failed":
            return f"was {manifest.status} after {manifest.epochs} epochs: {kept}."
        case "running":
            state = "is still training" if is_locked(run.directory.path) else "was killed"
            return f"{state}, after {manifest.epochs} epochs: {kept}."
    return ""
