"""A run in Python: what was recorded, its network, its pictures, and how it goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from lenet_mnist.analysis.metrics import Counts, Evaluation
from lenet_mnist.config import Config, Device, Split
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.devices import settings_kept
from lenet_mnist.errors import LenetError
from lenet_mnist.inference import predict as prediction
from lenet_mnist.options import NotebookProgress, Places, one_of, progress_of, resolved_options, session_of
from lenet_mnist.provenance import require_packages
from lenet_mnist.reporting import analysis_results, evaluation_plots
from lenet_mnist.reporting.plots import draw_training, training_figure
from lenet_mnist.reporting.report import write_report
from lenet_mnist.reporting.style import Figure
from lenet_mnist.reporting.text import Result, counted, html_of
from lenet_mnist.runs import results
from lenet_mnist.runs.listing import comes_with_lenet, own_run
from lenet_mnist.runs.run import Run as RunDirectory
from lenet_mnist.study.diagnosis import advise_sweep, diagnose_training
from lenet_mnist.study.evaluation import Evaluator, evaluate_runs
from lenet_mnist.study.train import resume_run
from lenet_mnist.training.context import Log, Session
from lenet_mnist.training.rows import EpochRow, Histories, ProbeRow, Rows, StepRow

OnEpoch: TypeAlias = Callable[[EpochRow], object] | None
OnStep: TypeAlias = Callable[[StepRow], object] | None
Told: TypeAlias = tuple[OnEpoch, OnStep, bool]  # who is told of a training's rows, and whether its progress is shown


@dataclass(frozen=True, repr=False, kw_only=True)
class Scores(Result):
    """An evaluation: `values` as in metrics.json, and in `evaluation` labels, predictions, probabilities as arrays."""

    evaluation: Evaluation

    @property
    def accuracy(self) -> float:
        return self.evaluation.accuracy

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats per image."""
        return self.evaluation.mean_loss

    @property
    def confusion_matrix(self) -> Counts:
        """Numbers of images. Shape: K K; rows are true, columns predicted classes."""
        return self.evaluation.confusion_matrix


class Answers(list[prediction.Answer | prediction.Refusal]):
    """What was read in each picture."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


class Columns(dict[str, npt.NDArray[Any]]):
    """Rows of a run, column by column."""

    @classmethod
    def of(cls, kind: type[Any], rows: Sequence[Any]) -> "Columns":
        return cls({each.name: np.array([getattr(row, each.name) for row in rows]) for each in fields(kind)})

    @property
    def frame(self) -> Any:
        """The same as a pandas DataFrame. Raises: InstallationError where pandas is not installed."""
        require_packages("frame", "pandas")
        return import_module("pandas").DataFrame(self)


@dataclass(frozen=True)
class Run:
    """A run on disk. What it is asked for is read at that moment. Raises: DataError if that is not there."""

    path: Path
    _places: Places = field(repr=False, compare=False)

    @property
    def _directory(self) -> RunDirectory:
        copy = self._places.runs_dir / self.path.name
        return RunDirectory(copy if comes_with_lenet(copy.name) and copy.is_dir() else self.path)

    @property
    def status(self) -> str:
        """Running, finished, interrupted, diverged, failed, or killed."""
        return self._directory.status

    @property
    def config(self) -> Config:
        return self._directory.config

    @property
    def history(self) -> Columns:
        """One row per epoch."""
        return Columns.of(EpochRow, self._directory.history)

    @property
    def steps(self) -> Columns:
        """One row per update: the first 200, then every 20th."""
        return Columns.of(StepRow, self._directory.steps)

    @property
    def probe(self) -> Columns:
        """One row per epoch and layer: gradients, updates, saturated and dead units."""
        return Columns.of(ProbeRow, self._directory.probe)

    @property
    def network(self) -> prediction.RawNetwork:
        """The kept network, loaded from the run. Shapes: takes raw pixels N 28 28 or N 1 28 28, returns logits N K."""
        return prediction.RawNetwork(prediction.kept_network(self._directory))

    def evaluate(self, split: str = "test", device: str | None = None) -> Scores:
        """Evaluate the kept network on "test" or "val". Each test evaluation is counted in the run."""
        access = self._places.access()
        evaluator = Evaluator(access, None if device is None else one_of(Device, device))
        with settings_kept():
            own = own_run(self._directory, self._places.runs_dir)
            (seen,) = evaluate_runs([own], one_of(Split, split), evaluator)
        figures = evaluation_plots.draw_evaluation(seen)
        draw_training(seen.run, access.progress.note)
        write_report(seen.run)
        found = analysis_results.evaluation_result(seen)
        return Scores(values=found.values, text=found.text, figures=figures, evaluation=seen.evaluation)

    @overload
    def predict(self, images: str | Path | Sequence[str | Path]) -> Answers: ...
    @overload
    def predict(self, images: Any) -> prediction.Predictions: ...
    def predict(self, images: Any) -> Answers | prediction.Predictions:
        """Read digits: in picture files and folders, or in arrays of raw pixels, 28 28 or N 28 28 or N 1 28 28.

        Raises: DataError if the arrays are something else, or not one picture can be read.
        """
        paths = images if isinstance(images, list | tuple) else [images]
        if not paths or not all(isinstance(path, str | Path) for path in paths):
            return prediction.predict_arrays(self.network, images)
        reading = prediction.read_pictures(self._directory, [Path(path).expanduser() for path in paths])
        answers = Answers(reading)
        if reading.num_answered == 0:
            reading.require_all_answered()
        for note in reading.notes:
            progress_of(True).note(f"warning: {note}")
        return answers

    def plot_loss(self) -> Figure:
        return self._figure("loss")

    def plot_accuracy(self) -> Figure:
        return self._figure("accuracy")

    def plot_layers(self) -> Figure:
        return self._figure("layers")

    def plot_confusion(self, split: str = "test") -> Figure:
        """Return the confusion matrix of the newest evaluation."""
        saved = results.read_evaluation(self._directory, one_of(Split, split))
        return evaluation_plots.saved_figure(saved, None)

    def plot_mistakes(self, split: str = "test") -> Figure:
        """Return the most confident mistakes of the newest evaluation."""
        saved = results.read_evaluation(self._directory, one_of(Split, split))
        return evaluation_plots.saved_figure(saved, results.read_examples(self._directory, saved))

    def diagnose(self) -> Result:
        """Say what went wrong, and what to do; of a sweep, read each loss curve."""
        directory = self._directory
        if directory.manifest.kind == "sweep":
            return analysis_results.sweep_advice(advise_sweep(directory))
        return analysis_results.diagnosis_result(diagnose_training(directory))

    def resume(
        self, *, on_epoch: OnEpoch = None, on_step: OnStep = None, progress: bool = True, **options: Any
    ) -> "Run":
        """Train on after an interrupt, to the same weights as without it; `accept_differences` as the flag."""
        accepts, resolved = options.pop("accept_differences", False), resolved_options(None, options)
        told = on_epoch, on_step, progress
        return watched(lambda s: [resume_run(self._directory, resolved, accepts, s)], told, self._places, resolved)

    def __str__(self) -> str:
        manifest = self._directory.manifest
        epochs = f" after {counted(manifest.epochs, 'epoch')}" if manifest.kind == "train" else ""
        message = f": {manifest.message}" if manifest.message else ""
        lines = [f"run     {self.path.name}", f"status  {self.status}{epochs}{message}"]
        if manifest.best_epoch is not None:
            kept = f"validation loss {manifest.best_val_loss:.4f}, validation accuracy {manifest.best_val_accuracy:.2%}"
            lines.append(f"kept    epoch {manifest.best_epoch}: {kept}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        try:
            return html_of(str(self), [self.plot_loss()] if self._directory.manifest.kind == "train" else [])
        except LenetError as error:
            return html_of(str(error))

    def _figure(self, name: str) -> Figure:
        directory = self._directory
        return training_figure(directory.record, directory.manifest.best_epoch, name)


class RowLog:
    """Hands on rows, each to its function, once they are there (a log of training/context.py)."""

    def __init__(self, *told: tuple[Rows[Any], Callable[[Any], object] | None]) -> None:
        self._told = [(rows, tell) for rows, tell in told if tell is not None]
        self._num_told = [len(rows) for rows, _ in self._told]

    def write(self) -> None:
        for k, (rows, tell) in enumerate(self._told):
            for row in rows[self._num_told[k] :]:
                self._num_told[k] += 1
                tell(row)

    def close(self) -> None:
        """Nothing is open."""


def watched(
    train: Callable[[Session], Sequence[RunDirectory]], told: Told, places: Places, resolved: ResolvedConfig
) -> Run:
    """Train one run, draw plots/, and say how to go on after an interrupt."""
    on_epoch, on_step, is_shown = told
    with session_of("train", places, is_shown, resolved) as session:
        shown = session.progress

        def draw(path: Path, is_last: bool = False) -> None:
            if isinstance(shown, NotebookProgress):
                shown.show(Run(path, places), is_last)

        def open_log(path: Path, histories: Histories, _note: Callable[[str], None]) -> Log:
            epochs = histories.history
            return RowLog((histories.steps, on_step), (epochs, on_epoch), (epochs, lambda _row: draw(path)))

        (trained,) = train(replace(session, open_log=open_log))
    path = trained.path
    draw_training(trained, shown.note)
    draw(path, is_last=True)
    if trained.manifest.status == "interrupted":
        print(f"interrupted; {path} is kept: run.resume() goes on")
    return Run(path, places)
