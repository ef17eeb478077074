"""What `import lenet_mnist` offers: each function does what the command does, on disk too (docs/python.md).

Options are keywords with the names of the flags: every value of docs/options.md has one, such as `lr` or `batch_size`.
`set={"training.schedule": "cosine"}` gives values by their keys; `data_dir`, `runs_dir`, `offline` say where.
What is wrong raises a LenetError of one line.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from lenet_mnist.config import Config as Config
from lenet_mnist.config import Split
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import settings_kept
from lenet_mnist.errors import LenetError as LenetError
from lenet_mnist.options import AnyConfig, Places, one_of, plain_value, resolved_options, session_of
from lenet_mnist.reporting import analysis_results, evaluation_plots, study_plots, training_results
from lenet_mnist.reporting.text import Result
from lenet_mnist.runs.listing import LATEST, find_run, own_run
from lenet_mnist.runs.manifest import Kind
from lenet_mnist.runs.run import Run as RunDirectory
from lenet_mnist.study import comparison, cross_validation, lr_sweep
from lenet_mnist.study.evaluation import Evaluator, evaluate_module
from lenet_mnist.study.train import train_seeds
from lenet_mnist.trained import OnEpoch, OnStep, Scores, watched
from lenet_mnist.trained import Run as Run
from lenet_mnist.tuning.plan import SWEEP_OPTIONS, sweep_request

AnyRun: TypeAlias = str | Path | Run


class Images(NamedTuple):
    """Shapes: images N 28 28 uint8, 0 (black) to 255 (white); labels N int64."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


class Data(NamedTuple):
    """All that a training may see."""

    train: Images
    val: Images
    class_names: tuple[str, ...]


def train(
    config: AnyConfig = None, *, on_epoch: OnEpoch = None, on_step: OnStep = None, progress: bool = True, **options: Any
) -> Run:
    """Train a network, and return its run however that ended: an interrupt keeps it, a divergence is a result.

    `on_epoch` is given the row of each epoch, `on_step` that of each update that `run.steps` keeps.

        run = lenet_mnist.train("relu", lr=0.02, epochs=2, set={"training.schedule": "cosine"})
    """
    places, resolved = Places.taken_from(options), resolved_options(config, options)
    told = on_epoch, on_step, progress
    return watched(lambda session: train_seeds(resolved.config, None, session, places.runs_dir), told, places, resolved)


def load(run: AnyRun = LATEST, **options: Any) -> Run:
    """Return the run of this path, id or name, or the newest one.

    Raises: ConfigError if there is none; DataError if it cannot be read.

        print(lenet_mnist.load("relu").history["val_loss"])
    """
    places = Places.taken_from(options, only=True)
    found = Run(_directory(run, places).path.absolute(), places)
    _ = found.status  # a run that cannot be read is refused here
    return found


def sweep(config: AnyConfig = None, *, resume: AnyRun | None = None, progress: bool = True, **options: Any) -> Result:
    """Find the learning rate, as `lenet lr-sweep`; `values["best"]` has the paths for `train`, by activation.

    Options of its own: activation, lrs, min_lr, max_lr, num, seeds, epochs, budget.

        print(lenet_mnist.sweep(activation="relu", lrs=[0.01, 0.04], seeds=[0]))
    """
    places = Places.taken_from(options)
    asked = {name: plain_value(options.pop(name)) for name in SWEEP_OPTIONS if name in options}
    request, resolved = sweep_request(asked), resolved_options(config, options)
    if request.activations is not None and len(request.activations) == 1:
        resolved = resolved.with_flag("model.activation", request.activations[0])
    with session_of("sweep", places, progress, resolved) as session:
        place = places.runs_dir if resume is None else _directory(resume, places, ("sweep",))
        swept = lr_sweep.sweep(place, resolved, request, session)
    figures = {"sweep": study_plots.draw_swept_run(swept)}
    return replace(training_results.sweep_result(swept), figures=figures)


def compare(*runs: AnyRun, split: str = "val", speed_ratio: Sequence[float] = (), **options: Any) -> Result:
    """Compare runs, as `lenet compare`.

    Options of its own: `speed_ratio` are training losses in nats, `output` is a new directory.

        print(lenet_mnist.compare("relu", lenet_mnist.train("tanh", epochs=2)))
    """
    output = None if (given := options.pop("output", None)) is None else Path(given)
    places, part = Places.taken_from(options, only=True), one_of(Split, split)
    comparison.require_free(output)
    levels = [comparison.parse_level(f"loss={level}") for level in speed_ratio]
    directories = [_directory(run, places) for run in runs]
    if part is Split.TEST:
        directories = [own_run(run, places.runs_dir) for run in directories]
    with settings_kept():
        compared = comparison.compare_runs(directories, part, levels, Evaluator(places.access()))
    directory = comparison.write_comparison(compared, places.runs_dir, output)
    figures = study_plots.draw_comparison(compared, directory)
    return replace(analysis_results.comparison_result(compared, directory), figures=figures)


def cross_validate(
    config: AnyConfig = None,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Result:
    """Train on all folds but one and test on that one, in turn, as `lenet cross-validate`.

    Options of its own: folds, repeats, and resume, which names a run.

        print(lenet_mnist.cross_validate(folds=3, epochs=2, limit_train=1000))
    """
    places, resume = Places.taken_from(options), options.pop("resume", None)
    resolved = resolved_options(config, options)
    with session_of("cross_validate", places, progress, resolved) as session:
        place = places.runs_dir if resume is None else _directory(resume, places, ("cross-validation",))
        pooled = cross_validation.cross_validate(place, resolved, folds, repeats, session)
    figures = {"cross_validation": evaluation_plots.draw_cross_validation(pooled)}
    return replace(training_results.cross_validation_result(pooled), figures=figures)


def load_data(config: AnyConfig = None, **options: Any) -> Data:
    """Return the training and the validation images of a configuration, for a training of one's own.

    Raises: ConfigError; DataError if data are missing or damaged.

        images, labels = lenet_mnist.load_data(limit_train=1000).train
    """
    places, resolved = Places.taken_from(options), resolved_options(config, options)
    with resolved.naming_origins():
        data = load_train_val(resolved.config.data, places.access())
    train, val = (Images(part.images.numpy(), part.labels.numpy()) for part in (data.train, data.val))
    return Data(train, val, data.class_names)


def evaluate(module: nn.Module, split: str = "val", config: AnyConfig = None, **options: Any) -> Scores:
    """Evaluate a network of one's own on the data of a configuration. Nothing is written, and no look is counted.

    Shapes: the module is given raw pixels N 1 28 28 float32, 0..255, and returns logits N K.

        print(lenet_mnist.evaluate(lenet_mnist.load("relu").network, "val"))
    """
    places, resolved, part = Places.taken_from(options), resolved_options(config, options), one_of(Split, split)
    with resolved.naming_origins():
        evaluation, images = evaluate_module(module, part, resolved.config.data, places.access())
    text = "\n".join(analysis_results.evaluation_lines(evaluation, part.value))
    figures = evaluation_plots.evaluation_figures(evaluation, images, part)
    return Scores(values=evaluation.metrics(), text=text, figures=figures, evaluation=evaluation)


def _directory(run: AnyRun, places: Places, kinds: Sequence[Kind] = ("train",)) -> RunDirectory:
    return RunDirectory(run.path) if isinstance(run, Run) else find_run(str(run), places.runs_dir, kinds)
