"""One run in one file: report.html, which opens offline and shows all that the run's files tell.

It is made from the run directory alone, and trusts none of it. A section is either its contents or the sentence that
says why there are none; report_pictures.py makes those that are pictures.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lenet_mnist import __version__
from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config
from lenet_mnist.config_file import value_text
from lenet_mnist.errors import LenetError, one_line
from lenet_mnist.files.pages import policy_source
from lenet_mnist.files.storage import prepare_to_write, write_text
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.evaluation_plots import draw_calibration
from lenet_mnist.reporting.plots import draw_rate, layer_panels
from lenet_mnist.reporting.report_pictures import (
    activation_name,
    curves_of,
    network_pictures,
    results_of,
    svg_chart,
)
from lenet_mnist.reporting.text import counted, plain_number
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.results import SavedEvaluation, read_evaluation, read_examples
from lenet_mnist.runs.run import Run
from lenet_mnist.sections import flat_values
from lenet_mnist.study.diagnosis import diagnose_training
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork

_LONGEST_TEXT = 2000  # of a run's own words: a file may hold megabytes
_MOST_ROWS = 40  # of a table whose length a file decides
_Contents = TypeVar("_Contents")


def write_report(run: Run) -> Path:
    """Write report.html into a training's directory, whatever state it is in, and return its path.

    Raises: ConfigError if `run` is not a training; DataError if its manifest cannot be read; StorageError.
    """
    prepare_to_write(run.path)
    write_text(run.report_path, report_of(run))
    return run.report_path


def report_of(run: Run) -> str:
    """Return all that is known of a training as one HTML document, which loads nothing and runs no script.

    Every text of a run is escaped by the template, and made printable; the Content-Security-Policy names the SHA-256
    of the one style sheet and allows no script, so that even a text that got through could do nothing.

    Raises: ConfigError, DataError as `write_report`.
    """
    run.require("train", "reports are made of trainings")
    manifest, place = run.manifest, f"runs/{run.id}"

    def part(read: Callable[..., _Contents], *needed: Any) -> _Contents | str:
        """Return what is made of the parts it needs, or why there is none; no directory of this machine is named."""
        if missing := [each for each in needed if isinstance(each, str)]:
            return missing[0]
        try:
            return read(*needed)
        except LenetError as error:
            return str(error).replace(str(run.path), place)

    config, history = part(lambda: run.config), part(lambda: run.history)
    steps, probe = part(lambda: run.steps), part(lambda: run.probe)
    split = next((name for name in ("test", "val") if run.evaluation_path(name).is_dir()), None)
    evaluation: SavedEvaluation | str = "Nothing has been evaluated yet."
    if split is not None:
        evaluation = part(lambda: read_evaluation(run, split))
    examples = part(lambda known: read_examples(run, known), evaluation)
    results = part(lambda known: results_of(known, examples), evaluation)
    network: TrainedNetwork | str = "No epoch has been completed, so there are no weights to look at."
    if manifest.best_epoch is not None or run.model_path.exists():
        network = part(lambda: read_kept_network(run))
    known_config = Config() if isinstance(config, str) else config
    sizes = (manifest.num_train, manifest.num_val, manifest.guessing_loss, manifest.stop_reason)
    known_steps, known_probe = [] if isinstance(steps, str) else steps, [] if isinstance(probe, str) else probe
    record = part(lambda rows: TrainingRecord(known_config, *sizes, rows, known_steps, known_probe), history)
    seen, updates = probe or "Nothing was recorded of what goes on inside.", steps or "No update has been recorded."
    layers = part(lambda of, *_: [svg_chart(*panel) for panel in layer_panels(of).items()], record, config, seen)
    rate = part(lambda of, _: svg_chart("Learning rate", lambda axes: draw_rate(axes, of)), record, updates)
    style = (resources.files("lenet_mnist.reporting") / "templates" / "report.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src {policy_source(style)}; base-uri 'none'; form-action 'none'"
    page = _pages().get_template("report.html.jinja")
    return page.render(
        policy=policy,
        style=Markup(style),
        run_id=run.id,
        place=typed(Path(place)),
        title="LeNet" if isinstance(config, str) else f"LeNet with {activation_name(config.model.activation)}",
        manifest=manifest,
        standing=_standing(run, typed(Path(place))),
        is_thinned=any(after.step - before.step > 20 for before, after in pairwise(known_steps)),
        is_augmented=known_config.augmentation.is_on,
        settings=part(_settings, config),
        results=results,
        calibration=part(lambda of: svg_chart("Calibration", lambda axes: draw_calibration(axes, of)), evaluation),
        curves=part(lambda known: curves_of(known, manifest.best_epoch), record),
        diagnosis=part(lambda: replace(diagnose_training(run), run=Run(Path(place)))),
        layers=layers,
        rate=rate,
        rate_facts=part(lambda known: _rate_facts(known, manifest), config),
        network=part(lambda trained: network_pictures(trained, results, examples), network),
        environment=_surroundings(manifest),
        can_retrain=manifest.num_ranks == 1 and not manifest.accepted_differences,
        lenet_version=__version__,
    ).lstrip()


@cache
def _pages() -> Environment:
    """Return what renders the template; one for all reports of a process, which compiles it once."""
    options: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(
        loader=PackageLoader("lenet_mnist.reporting"), undefined=StrictUndefined, finalize=_inert, **options
    )


def _inert(value: Any) -> Any:
    """Make a text that goes into the page printable, and no longer than people read; the page's own parts stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = one_line(value[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."


# Sections in words


def _standing(run: Run, place: str) -> dict[str, Any]:
    """Say how far a run has come, in a word, and in a sentence unless it is finished.

    It is not final where a later report will say more.
    """
    status, manifest = run.status, run.manifest
    message, done = manifest.message or "the reason was not recorded", f"{manifest.epochs:,} epochs are done"
    word, sentence = status, f"This run was {status}: {done}. To resume it: lenet train --resume {place}"
    match status:
        case "diverged":
            kept = f"the weights of epoch {manifest.best_epoch} were kept"
            sentence = f"Training diverged: {message}; {kept if manifest.best_epoch else 'no epoch was completed'}."
        case "failed":
            sentence = f"Training failed: {message}."
        case "running":
            word, sentence = "still training", f"This run is still training: {done}. Its results so far:"
    return {"word": word, "sentence": sentence, "is_final": status in ("finished", "diverged", "failed")}


def _settings(config: Config) -> list[tuple[str, str, str]]:
    """Return key, value and default of every setting; the default is empty where it is the value."""
    defaults = flat_values(Config())
    return [
        (key, _word(value), _word(defaults[key]) if value != defaults[key] else "")
        for key, value in flat_values(config).items()
    ]


def _word(value: object) -> str:
    """Write a value as the configuration file does, but data and teachers without their directories."""
    if isinstance(value, tuple):
        return value_text(tuple(map(_last_part, value)))
    return value_text(_last_part(value) if isinstance(value, str) else value)


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _rate_facts(config: Config, manifest: Manifest) -> list[tuple[str, str]]:
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


def _surroundings(manifest: Manifest) -> list[tuple[str, str]]:
    """Return with what a run was made, as names and values."""
    git = manifest.git or {}
    dirty = ", with changes that were not committed" if git.get("dirty") else ""
    teachers = [
        f"{record.run}, trained in {record.seconds:,.1f} s; weights {record.weights_sha256[:12]}..."
        for record in manifest.teachers
    ]
    resumes = [
        f"{_time(each.time)}, after update {each.step:,}: {'; '.join(each.differences) or 'everything as before'}"
        for each in manifest.resumes[:_MOST_ROWS]
    ]
    return [
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
        *(("resumed", resumed) for resumed in resumes),
    ]


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
