"""What the commands of performance analysis print: evaluate, verify, diagnose, compare, runs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.advice import Direction
from lenet_mnist.analysis.intervals import SURE, Estimate, Interval, Method
from lenet_mnist.analysis.metrics import Evaluation, Scored
from lenet_mnist.errors import one_line
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.text import Result, aligned, counted
from lenet_mnist.runs.run import Run
from lenet_mnist.study.comparison import Comparison, Contrast, Group, Pair, SpeedRatio
from lenet_mnist.study.diagnosis import Diagnosis, TrialAdvice
from lenet_mnist.study.evaluation import EvaluatedEnsemble, EvaluatedRun
from lenet_mnist.study.verification import Check

_BY = {Method.PAIRED: "Student's t, seed by seed", Method.WELCH: "Welch's t over seeds"}


def evaluation_result(seen: EvaluatedRun | EvaluatedEnsemble) -> Result:
    """Return what one evaluation found, of a run or of an ensemble, and where its files are."""
    evaluation, split = seen.evaluation, seen.split.value
    low, high = evaluation.accuracy_interval
    files, notes = sorted(seen.directory.iterdir()), []
    if isinstance(seen, EvaluatedRun):
        lines = evaluation_lines(evaluation, split)
        files += [*sorted(seen.run.plots_path.glob("*.png")), seen.run.report_path]
    else:
        found = [*((member.run.id, member.evaluation) for member in seen.members), ("ensemble", evaluation)]
        rows = [(name, f"{each.accuracy:.2%}", f"{each.mean_loss:.4f}") for name, each in found]
        lines = [
            aligned(("run", f"{split} accuracy", f"{split} loss"), rows, right=(1, 2)),
            f"ensemble: {evaluation.num_correct:,} of {len(evaluation):,} right; 95 % interval {low:.2%} to {high:.2%}",
        ]
        notes = [] if seen.note is None else [f"note: {seen.note}"]
    notes += test_note([member.metrics["num_test_looks"] for member in seen.members])
    text = "\n".join([*lines, *written_to(files), *notes])
    return Result({**seen.metrics, "directory": seen.directory}, text)


def evaluation_lines(evaluation: Evaluation, split: str) -> list[str]:
    """Return the figures of one network on one split."""
    low, high = evaluation.accuracy_interval
    return [
        f"{split} accuracy  {evaluation.accuracy:.2%}  ({evaluation.num_correct:,} of {len(evaluation):,}; "
        f"95 % interval {low:.2%} to {high:.2%})",
        f"{split} loss      {evaluation.mean_loss:.4f} nats per image",
        f"calibration    expected calibration error {evaluation.expected_calibration_error:.2%}",
        hardest_class(evaluation),
    ]


def hardest_class(scored: Scored) -> str:
    """Return the line of the class with the lowest F1, of those that have images."""
    worst = min((row for row in scored.per_class if row.num_images), key=lambda row: row.f1)
    return f"hardest class  {worst.name}: precision {worst.precision:.2%}, recall {worst.recall:.2%}"


def written_to(files: Sequence[Path]) -> list[str]:
    """Return where results were written, one file per line."""
    return ["written to", *(f"  {path}" for path in files)]


def test_note(numbers: Sequence[int | None]) -> list[str]:
    """Return a warning if a run has had more than one test evaluation."""
    most = max((number for number in numbers if number is not None), default=0)
    if most < 2:
        return []
    of_run = "this run" if len(numbers) == 1 else "one of these runs"
    return [
        f"note: test evaluation no. {most} of {of_run}. If earlier ones influenced your choices, this accuracy is "
        "biased upwards; choose on the validation set (--split val)."
    ]


def verification_result(run: Run, checks: Sequence[Check]) -> Result:
    """Return what `lenet verify` found, one line per check."""
    rows = [("ok" if check.holds else "FAILED", check.what, check.seen) for check in checks]
    return Result({"run": run.path, "checks": checks}, aligned(("", str(run.path), "seen"), rows))


def diagnosis_result(found: Diagnosis) -> Result:
    """Return what is wrong with a training, why, and what to do; or that nothing was found."""
    lines, advice = findings_lines(found), found.advice
    if not lines:
        lines = ["nothing wrong found", *(f"  {each}" for each in advice.evidence)]
        if advice.direction is Direction.UNKNOWN:
            config = typed(found.run.config_path)
            lines.append(f"  to judge the learning rate {found.lr:.3g}: lenet lr-sweep --config {config}")
    if found.unfinished is not None:
        lines = [f"unfinished: {found.unfinished}", "so far:", *lines]
    return Result({"run": found.run.path, **diagnosis_values(found)}, "\n".join(lines))


def diagnosis_values(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis for JSON, without its run."""
    return {
        "unfinished": found.unfinished,
        "findings": [asdict(each) | {"next_command": found.next_command(each)} for each in found.findings],
        "caveat": found.caveat,
        "advice": found.advice,
    }


def findings_lines(found: Diagnosis) -> list[str]:
    """Return all findings, line by line."""
    lines = []
    for finding in found.findings:
        lines += [f"{finding.cause}: {finding.headline}", *(f"  because {each}" for each in finding.evidence)]
        lines.append(f"  what to do: {finding.remedy}")
        if (command := found.next_command(finding)) is not None:
            lines.append(f"  next: {command}")
    return lines if found.caveat is None else [*lines, found.caveat]


def sweep_advice(trainings: Sequence[TrialAdvice]) -> Result:
    """Return what the loss curve of each training of a sweep looks like, and what it says of the learning rate."""
    rows = [
        (each.activation.value, f"{each.lr:.3g}", str(each.seed), each.advice.verdict, each.advice.direction)
        for each in trainings
    ]
    text = aligned(("activation", "learning rate", "seed", "the loss", "advice"), rows, right=(1, 2))
    return Result({"trainings": trainings}, text)


def runs_result(rows: Sequence[dict[str, Any]], runs_dir: Path) -> Result:
    """Return the list of runs, newest first."""
    text = f"no runs in {runs_dir}. `lenet train` makes one"
    if rows:
        columns = ["run", "kind", "status", "best_epoch", "val_accuracy"]
        columns += ["test_accuracy"] if any("test_accuracy" in row for row in rows) else []
        columns += ["lr"] if any(row.get("lr") for row in rows) else []
        table = [[_cell(row.get(column), column) for column in columns] for row in rows]
        headers = [{"best_epoch": "kept epoch"}.get(column, column.replace("_", " ")) for column in columns]
        text = aligned(headers, table, right=range(3, len(columns)))
    return Result({"runs": rows}, text)


def _cell(value: Any, column: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if "accuracy" in column else str(value)


def comparison_result(compared: Comparison, directory: Path) -> Result:
    """Return what was found, as in comparison.json, and the directory of the files."""
    groups = compared.groups
    names = [f"{group.letter}  {', '.join(one_line(run.id) for run in group.runs)}" for group in groups]
    blocks = [[_table(compared)], names, _sentences(compared), written_to(sorted(directory.iterdir()))]
    text = "\n\n".join("\n".join(lines) for lines in map(list, blocks) if lines)
    return Result({**vars(compared), "directory": directory}, text)


def _table(compared: Comparison) -> str:
    """Return one row per group. An accuracy ends at 0 and 100 %, whatever Student's t says."""
    split = compared.split.value
    header = ["", "settings", "seeds", f"{split} accuracy", "95 % interval", "over", f"{split} loss"]
    header += [f"steps to loss {steps.loss:g}" for steps in compared.groups[0].steps]
    rows = []
    for group in compared.groups:
        figures = ["-", "", "", "-"]
        if group.accuracy is not None and group.loss is not None:
            low, high = group.accuracy.interval_95 or (0.0, 1.0)
            answers = list(group.answers.values())
            is_single = group.accuracy.method is Method.WILSON
            over = counted(len(answers[0].evaluation), "image") if is_single else f"{len(answers)} seeds"
            ends = f"{max(low, 0.0):.2%} to {min(high, 1.0):.2%}"
            figures = [f"{group.accuracy.value:.2%}", ends, over, f"{group.loss.value:.4f}"]
        steps = [steps_text(list(each.by_seed.values())) for each in group.steps]
        rows.append([group.letter, group.name, seeds_text([run.config.seed for run in group.runs]), *figures, *steps])
    return aligned(header, rows, right=(3, *range(6, len(header))))


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
            yield f"{first} and {other}: a single run does not show how much seeds scatter; train more."
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
        return f"{text}: of a single run there is no interval."
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
        manifest, status = run.manifest, run.status
        what = "is still training" if status == "running" else f"was {status}"
        what += f" after {counted(manifest.epochs, 'epoch')}"
        if status == "diverged":
            what = f"diverged ({one_line(manifest.message or 'without a message')})"
        if status != "finished":
            kept = f"the weights of epoch {manifest.best_epoch} count" if manifest.best_epoch else "it kept no weights"
            yield f"note: {one_line(run.id)} {what}: {kept}."
    yield from test_note([each.num_test_looks for group in compared.groups for each in group.answers.values()])
    if has_levels and len({run.config.training.batch_size for run in runs}) > 1:
        yield "note: the batch sizes differ, so equal steps are not equally many images."
    if has_levels and len({run.config.augmentation for run in runs}) > 1:
        yield "note: the augmentation differs, so the training losses are of different images."
    if len({(run.manifest.machine, run.manifest.device, run.manifest.threads) for run in runs}) > 1:
        yield "note: not all were trained on the same machine, device and threads: seconds do not compare the settings."
