"""What a report says of a run besides its results: how it ended, curves, learning rate, environment, commands."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config
from lenet_mnist.config_file import value_text
from lenet_mnist.errors import DataError
from lenet_mnist.files.locks import is_locked
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.evaluation_plots import draw_calibration
from lenet_mnist.reporting.plots import draw_accuracy, draw_loss, draw_rate, layer_panels
from lenet_mnist.reporting.style import chart, description_of, inline_svg
from lenet_mnist.reporting.text import counted, plain_number
from lenet_mnist.reporting.training_results import STOP_REASONS
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.results import SavedEvaluation
from lenet_mnist.runs.run import Run
from lenet_mnist.sections import flat_values
from lenet_mnist.training.rows import EpochRow

_MOST_ROWS = 40  # of a table whose length a file decides
_MOST_EPOCHS = 60  # of the table of epochs


@dataclass(frozen=True)
class Standing:
    """How far a run has come. `is_final` is False where a later report will say more."""

    word: str
    sentence: str
    is_final: bool


@dataclass(frozen=True)
class Chart:
    """A figure of matplotlib's as SVG."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True)
class Curves:
    """Loss and accuracy, and the numbers behind them; of very many epochs some."""

    charts: tuple[Chart, ...]
    rows: tuple[EpochRow, ...]
    num_epochs: int
    best_epoch: int | None


def standing_of(run: Run, manifest: Manifest) -> Standing:
    """Say how a run stands, in a word and in a sentence."""
    done, resume = f"{manifest.epochs:,} epochs are done", f"lenet train --resume {typed(Path(place_of(run)))}"
    status, message = manifest.status, manifest.message or "the reason was not recorded"
    match status:
        case "finished":
            reason = STOP_REASONS.get(manifest.stop_reason or "", "training has ended")
            return Standing(status, f"{reason[:1].upper()}{reason[1:]}.", True)
        case "diverged":
            kept = f"the weights of epoch {manifest.best_epoch} were kept"
            kept = kept if manifest.best_epoch else "no epoch was completed"
            return Standing(status, f"Training diverged: {message}; {kept}.", True)
        case "failed":
            return Standing(status, f"Training failed: {message}.", True)
        case "running" if is_locked(run.path):
            return Standing("still training", f"This run is still training: {done}. Its results so far:", False)
    word = "killed" if status == "running" else "interrupted"
    return Standing(word, f"This run was {word}: {done}. To resume it: {resume}", False)


def curves_of(record: TrainingRecord, best_epoch: int | None) -> Curves:
    """Return the curves of a training. Raises: DataError if there are none."""
    history = record.history
    if not history and not record.steps:
        raise DataError("No update has been recorded, so there is nothing to draw.")
    every = max(1, -(-len(history) // _MOST_EPOCHS))
    rows = [row for k, row in enumerate(history) if k % every == 0 or k == len(history) - 1]
    charts = (
        _chart("Loss", lambda axes: draw_loss(axes, record, best_epoch)),
        _chart("Accuracy", lambda axes: draw_accuracy(axes, record, best_epoch)),
    )
    is_known = any(row.epoch == best_epoch for row in history)
    return Curves(charts, tuple(rows), len(history), best_epoch if is_known else None)


def layer_charts(record: TrainingRecord) -> list[Chart]:
    """Return gradients, updates, saturated and dead units by epoch."""
    return [_chart(title, draw) for title, draw in layer_panels(record).items()]


def rate_chart(record: TrainingRecord) -> Chart:
    """Return the learning rate by update. Raises: DataError if no update was recorded."""
    if not record.steps:
        raise DataError("No update has been recorded.")
    return _chart("Learning rate", lambda axes: draw_rate(axes, record))


def calibration_chart(evaluation: SavedEvaluation) -> Chart:
    """Return accuracy against confidence."""
    return _chart("Calibration", lambda axes: draw_calibration(axes, evaluation))


def _chart(title: str, draw: Callable[[Axes], None]) -> Chart:
    """Draw one pair of axes. Raises: DataError if damaged figures cannot be drawn: the rest of the report can."""
    name, _, note = title.partition("\n")
    try:
        figure = chart(draw)
        svg = inline_svg(figure, name, description_of(figure.axes[0]))
    except (ArithmeticError, ValueError) as error:
        raise DataError(f"{name}: the figures cannot be drawn: {error}") from None
    return Chart(name[:1].upper() + name[1:], note.replace("\n", "; "), svg)


def settings_of(config: Config) -> list[tuple[str, str, str]]:
    """Return key, value and default of every setting; the default is empty where it is the value."""
    defaults = flat_values(Config())
    return [
        (key, _word(value), _word(defaults[key]) if value != defaults[key] else "")
        for key, value in flat_values(config).items()
    ]


def rate_facts(config: Config, manifest: Manifest) -> list[tuple[str, str]]:
    """Return where the learning rate came from, and how it moved, as names and values."""
    training = config.training
    lr = training.learning_rate
    return [
        ("peak rate", plain_number(lr) if isinstance(lr, float) else "auto"),
        ("chosen", _origin(manifest)),
        ("optimizer", f"{training.optimizer}, momentum {training.momentum:g}, weight decay {training.weight_decay:g}"),
        ("schedule", f"{training.schedule}, after a warm-up of {training.warmup:.0%} of all updates"),
    ]


def _origin(manifest: Manifest) -> str:
    """Say where the learning rate came from. What a search has written is not trusted."""
    try:
        tuning = manifest.tuning or {}
        lr, low, high, cost = (float(tuning[name]) for name in ("lr", "low", "high", "cost_epochs"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return "in the configuration"
    sure = "with about 95% confidence" if tuning.get("is_fitted") is True else "as far as it could tell"
    between = f"between {plain_number(low)} and {plain_number(high)}"
    return f"by a search of {cost:.1f} epochs: {plain_number(lr)}, {between} {sure}"


def environment_of(manifest: Manifest) -> list[tuple[str, str]]:
    """Return with what a run was made, as names and values."""
    git = manifest.git or {}
    dirty = ", with changes that were not committed" if git.get("dirty") else ""
    teachers = [
        f"{record.run}, trained in {record.seconds:,.1f} s; weights {record.weights_sha256[:12]}..."
        for record in manifest.teachers
    ]
    rows = [
        ("machine", manifest.machine),
        ("device", f"{manifest.device}, {counted(manifest.threads, 'thread')}"),
        ("engine", f"{manifest.engine}: {manifest.engine_reason}"),
        *_few(manifest.versions.items()),
        ("git commit", f"{git['commit']}{dirty}" if "commit" in git else "not from a checkout"),
        ("started", _time(manifest.created)),
        ("training took", f"{manifest.seconds:,.1f} s in {manifest.epochs:,} epochs"),
        ("data", manifest.data_source),
        *(("note on the data", note) for note in manifest.data_notes[:_MOST_ROWS]),
        *_few((f"teacher {number}", words) for number, words in enumerate(teachers, start=1)),
        *_few((f"SHA-256 of {name}", digest) for name, digest in manifest.data_files.items()),
        ("SHA-256 of the split", manifest.split_sha256),
        ("SHA-256 of the weights", manifest.weights_sha256 or "no weights yet"),
    ]
    for resume in manifest.resumes[:_MOST_ROWS]:
        accepted = "; ".join(resume.differences) or "everything as before"
        rows.append(("resumed", f"{_time(resume.time)}, after update {resume.step:,}: {accepted}"))
    return rows


def commands_of(run: Run, manifest: Manifest) -> list[tuple[str, str]]:
    """Return the commands that do this again, and what each does."""
    place = typed(Path(place_of(run)))
    verify = (f"lenet verify {place}", "recomputes the figures, and compares every file")
    if manifest.num_ranks == 1 and not manifest.accepted_differences:
        verify = (f"{verify[0]} --retrain", "trains again in memory, and compares every row")
    return [
        (f"lenet train --config {place}/config.yaml", "trains again, with every setting of this run"),
        (f"lenet evaluate {place}", "evaluates it on the test set, and writes this report again"),
        verify,
        (manifest.command, "is the command that started this run"),
    ]


def place_of(run: Run) -> str:
    """Return where a run is, without the directories of this machine."""
    return f"runs/{run.id}"


def _few(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Cut off a long table, and say how much is missing."""
    shown = list(rows)
    left_out = len(shown) - _MOST_ROWS
    return [*shown[:_MOST_ROWS], ("and", f"{left_out:,} more")] if left_out > 0 else shown


def _time(text: str) -> str:
    """Write a moment for people; what is not a moment stays as it is."""
    try:
        return f"{datetime.fromisoformat(text):%d %B %Y, %H:%M} UTC".lstrip("0")
    except ValueError:
        return text


def _word(value: object) -> str:
    """Write a value as the configuration file does, but data and teachers without their directories."""
    if isinstance(value, tuple):
        return value_text(tuple(map(_last_part, value)))
    return value_text(_last_part(value) if isinstance(value, str) else value)


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name
