"""One run in one file: report.html, which opens without a network and shows all that the run's files tell.

It is made from the run directory alone. A section for which the run has nothing says so instead: each is either its
contents or the sentence that says why there are none.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lenet_mnist import __version__
from lenet_mnist.config import Config
from lenet_mnist.errors import ConfigError, LenetError, one_line
from lenet_mnist.files.storage import prepare_to_write, write_text
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.charts import Chart
from lenet_mnist.reporting.report_facts import (
    Command,
    Setting,
    Standing,
    commands_of,
    diagnosis_of,
    environment_of,
    place_of,
    settings_of,
    standing_of,
    without_directories,
)
from lenet_mnist.reporting.report_network import NetworkPictures, activation_name, network_pictures
from lenet_mnist.reporting.report_results import Results, results_of
from lenet_mnist.reporting.report_training import Curves, Rates, curves_of, probe_charts, rates_of
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.study.diagnosis import Diagnosis

_LONGEST_TEXT = 2000  # of a run's own words: a file may hold megabytes
_Contents = TypeVar("_Contents")


@dataclass(frozen=True)
class Report:
    """All that a report shows. Where a section is a string, it says why there is nothing."""

    run_id: str
    place: str
    manifest: Manifest
    standing: Standing
    config: Config | str
    settings: list[Setting] | str
    results: Results | str
    curves: Curves | str
    diagnosis: Diagnosis | str
    probe: list[Chart] | str
    rates: Rates | str
    network: NetworkPictures | str
    environment: list[tuple[str, str]]
    commands: list[Command]
    lenet_version: str = __version__

    @property
    def title(self) -> str:
        """Say what was trained."""
        if isinstance(self.config, str):
            return "LeNet"
        return f"LeNet with {activation_name(self.config.model.activation)}"


def write_report(run: Run) -> Path:
    """Write report.html into a training's directory, whatever state it is in, and return its path.

    Raises: ConfigError if `run` is no training; DataError if not even its manifest can be read; StorageError.
    """
    prepare_to_write(run.path)
    write_text(run.report_path, to_html(report_of(run)))
    return run.report_path


def report_of(run: Run) -> Report:
    """Gather what a report shows from the files of a run. Raises: ConfigError, DataError as `write_report`."""
    manifest = run.manifest
    if manifest.kind != "train":
        raise ConfigError(f"{run.path}: is a {manifest.kind}: reports are made of trainings")

    def section(contents: Callable[[], _Contents]) -> _Contents | str:
        """Return the contents, or why there are none."""
        try:
            return contents()
        except LenetError as error:
            return without_directories(str(error), run)

    config = section(lambda: run.config)
    results = section(lambda: results_of(run))

    def with_config(contents: Callable[[Config], _Contents]) -> _Contents | str:
        return config if isinstance(config, str) else section(lambda: contents(config))

    return Report(
        run_id=run.id,
        place=typed(Path(place_of(run))),
        manifest=manifest,
        standing=standing_of(run, manifest),
        config=config,
        settings=with_config(settings_of),
        results=results,
        curves=section(lambda: curves_of(run, manifest)),
        diagnosis=section(lambda: diagnosis_of(run)),
        probe=with_config(lambda known: probe_charts(run, known.model.activation)),
        rates=with_config(lambda known: rates_of(run, known, manifest)),
        network=section(lambda: network_pictures(run, manifest, None if isinstance(results, str) else results)),
        environment=environment_of(manifest),
        commands=commands_of(run, manifest),
    )


def to_html(report: Report) -> str:
    """Return a report as one HTML document, which asks for nothing and runs no script but its own.

    Every text of a run is escaped by the template, and made printable; the Content-Security-Policy names the SHA-256
    of the one style sheet and the one script, so that even a text that got through could do nothing.
    """
    style, script = (_packaged(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("report.html.jinja")
    return template.render(report=report, policy=policy, style=Markup(style), script=Markup(script))


@cache
def _environment() -> Environment:
    """Return what renders the templates. One for all reports of a process: it compiles each template once."""
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
    """Return a text that lies beside the template."""
    return resources.files("lenet_mnist.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    """Return what a Content-Security-Policy calls an inline style sheet or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
