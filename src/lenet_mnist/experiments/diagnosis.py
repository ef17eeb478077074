"""One run on disk, read: what its loss curve says of the learning rate, and the command that follows."""

from dataclasses import dataclass

from lenet_mnist.config import Activation, Config
from lenet_mnist.errors import DataError
from lenet_mnist.experiments.sweep_journal import SweepJournal
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.tuning.advice import Advice, Direction, LossCurve, advise
from lenet_mnist.tuning.trial import curve_of


@dataclass(frozen=True)
class Diagnosis:
    """The advice on one training, and the command that follows from it, if there is one."""

    activation: Activation
    lr: float
    advice: Advice
    next_command: str | None


def diagnose_run(run: RunDirectory) -> list[Diagnosis]:
    """Return the diagnosis of a training, or of each training of a sweep. Raises: DataError."""
    config, manifest = run.read_config(), run.read_manifest()
    if manifest.kind == "sweep":
        journal = SweepJournal(run.journal_path)
        results = sorted(journal.results.values(), key=lambda r: (r.trial.activation, r.trial.lr, r.trial.seed))
        curves = [curve_of(result, manifest.guessing_loss) for result in results]
    else:
        curves = [_curve_of_run(run, config)]
    return [_diagnosis(run, curve) for curve in curves]


def _curve_of_run(run: RunDirectory, config: Config) -> LossCurve:
    manifest, history, steps = run.read_manifest(), run.read_history(), run.read_steps()
    if not isinstance(config.training.learning_rate, float):
        raise DataError(f"{run.config_path}: training.learning_rate is no number: this is no run's configuration")
    batches = history[0].step if history else steps[-1].step if steps else 0
    return LossCurve(
        activation=config.model.activation,
        guessing_loss=manifest.guessing_loss,
        peak_lr=config.training.learning_rate,
        num_steps=batches * config.training.max_epochs,
        has_diverged=manifest.status == "diverged",
        steps=steps,
        history=history,
    )


def _diagnosis(run: RunDirectory, curve: LossCurve) -> Diagnosis:
    advice = advise(curve)
    command = f"lenet train --config {run.config_path}"
    match advice.direction:
        case Direction.RAISE:
            command = f"{command} --lr {curve.peak_lr * advice.factor:.2g}"
        case Direction.LOWER:
            command = f"{command} --lr {curve.peak_lr / advice.factor:.2g}"
        case Direction.UNKNOWN:
            command = f"lenet lr-sweep --config {run.config_path}"
        case Direction.KEEP:
            return Diagnosis(curve.activation, curve.peak_lr, advice, None)
    return Diagnosis(curve.activation, curve.peak_lr, advice, command)
