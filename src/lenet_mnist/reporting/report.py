"""One run in one file: report.html, which opens offline and shows all that the run's files tell.

It is made from the run directory alone, and trusts none of it. A section is either its contents or the sentence that
says why there are none.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lenet_mnist import __version__
from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config
from lenet_mnist.errors import DataError, LenetError, one_line
from lenet_mnist.files.storage import prepare_to_write, write_text
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.report_results import (
    activation_name,
    network_pictures,
    results_of,
)
from lenet_mnist.reporting.report_sections import (
    calibration_chart,
    commands_of,
    curves_of,
    environment_of,
    layer_charts,
    place_of,
    rate_chart,
    rate_facts,
    settings_of,
    standing_of,
)
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.results import SavedEvaluation, read_evaluation, read_examples
from lenet_mnist.runs.run import Run
from lenet_mnist.study.diagnosis import diagnose_training
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork

_LONGEST_TEXT = 2000  # of a run's own words: a file may hold megabytes
_Value = TypeVar("_Value")
_Contents = TypeVar("_Contents")


def write_report(run: Run) -> Path:
    """Write report.html into a training's directory, whatever state it is in, and return its path.

    Raises: ConfigError if `run` is not a training; DataError if its manifest cannot be read; StorageError.
    """
    prepare_to_write(run.path)
    write_text(run.report_path, to_html(report_of(run)))
    return run.report_path


def report_of(run: Run) -> dict[str, Any]:
    """Read all that a report shows, by the names of the template. A string in place of a section says why it is empty.

    Raises: ConfigError, DataError as `write_report`.
    """
    manifest = run.manifest
    run.require("train", "reports are made of trainings")

    def part(read: Callable[[], _Contents]) -> _Contents | str:
        """Read a part, or say why it cannot be read; a report names no directory of this machine."""
        try:
            return read()
        except LenetError as error:
            return str(error).replace(str(run.path), place_of(run))

    config, history = part(lambda: run.config), part(lambda: run.history)
    steps, probe = part(lambda: run.steps), part(lambda: run.probe)
    split = next((name for name in ("test", "val") if run.evaluation_path(name).is_dir()), None)
    evaluation: SavedEvaluation | str = "Nothing has been evaluated yet."
    if split is not None:
        evaluation = part(lambda: read_evaluation(run, split))
    examples = _then(evaluation, lambda known: part(lambda: read_examples(run, known)))
    results = _then(evaluation, lambda known: results_of(known, examples))
    network: TrainedNetwork | str = "No epoch has been completed, so there are no weights to look at."
    if manifest.best_epoch is not None or run.model_path.exists():
        network = part(lambda: read_kept_network(run))
    record = _then(history, lambda rows: _record(manifest, config, (rows, steps, probe)))
    has_probe = probe if isinstance(probe, str) else probe or "Nothing was recorded of what goes on inside."
    return {
        "run_id": run.id,
        "place": typed(Path(place_of(run))),
        "title": "LeNet" if isinstance(config, str) else f"LeNet with {activation_name(config.model.activation)}",
        "manifest": manifest,
        "standing": standing_of(run, manifest),
        "is_augmented": not isinstance(config, str) and config.augmentation.is_on,
        "settings": _then(config, settings_of),
        "results": results,
        "calibration": _then(evaluation, calibration_chart),
        "curves": _then(record, lambda known: curves_of(known, manifest.best_epoch)),
        "diagnosis": part(lambda: replace(diagnose_training(run), run=Run(Path(place_of(run))))),
        "layers": _then(config, lambda _: _then(has_probe, lambda _: _then(record, layer_charts))),
        "rate": _then(record, rate_chart),
        "rate_facts": _then(config, lambda known: rate_facts(known, manifest)),
        "network": _then(network, lambda trained: network_pictures(trained, results, examples)),
        "environment": environment_of(manifest),
        "commands": commands_of(run, manifest),
        "lenet_version": __version__,
    }


def _record(manifest: Manifest, config: Config | str, rows: tuple[Any, Any, Any]) -> TrainingRecord:
    """Return what is known of a training. Steps and probe may be the reason why they are not."""
    history, steps, probe = (() if isinstance(each, str) else each for each in rows)
    return TrainingRecord(
        config=Config() if isinstance(config, str) else config,
        num_train=manifest.num_train,
        num_val=manifest.num_val,
        guessing_loss=manifest.guessing_loss,
        stop_reason=manifest.stop_reason,
        history=history,
        steps=steps,
        probe=probe,
    )


def _then(value: _Value | str, contents: Callable[[_Value], _Contents | str]) -> _Contents | str:
    """Return the contents that follow from a value, or why there is none."""
    if isinstance(value, str):
        return value
    try:
        return contents(value)
    except DataError as error:
        return str(error)


def to_html(report: dict[str, Any]) -> str:
    """Return a report as one HTML document, which loads nothing and runs no script but its own.

    Every text of a run is escaped by the template, and made printable; the Content-Security-Policy names the SHA-256
    of the one style sheet and the one script, so that even a text that got through could do nothing.
    """
    style, script = (_packaged(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("report.html.jinja")
    return template.render(report=report, policy=policy, style=Markup(style), script=Markup(script)).lstrip()


@cache
def _environment() -> Environment:
    """Return what renders the template; one for all reports of a process, which compiles it once."""
    return Environment(
        loader=PackageLoader("lenet_mnist.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_inert,
    )


def _inert(value: Any) -> Any:
    """Make a text that goes into the page printable, and no longer than people read; the page's own parts stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = one_line(value[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."


def _packaged(name: str) -> str:
    return resources.files("lenet_mnist.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    """Return how a Content-Security-Policy names an inline style sheet or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
