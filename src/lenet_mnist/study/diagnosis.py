"""One run, diagnosed: what went wrong in a training, or what each loss curve of a sweep says.

What can go wrong, and by what it is found: analysis/faults.py.
"""

from dataclasses import dataclass

from lenet_mnist.analysis.advice import Advice, advise, advise_trial
from lenet_mnist.analysis.faults import diagnose
from lenet_mnist.analysis.findings import Finding
from lenet_mnist.config import Activation, Source
from lenet_mnist.provenance import typed
from lenet_mnist.runs.run import Run
from lenet_mnist.study.lr_sweep import SWEEP
from lenet_mnist.study.study import StudyJournal


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one training; `advice` is what its loss curve alone says of the learning rate.

    `unfinished` says why the training did not come to its end, if it did not.
    """

    run: Run
    lr: float
    findings: tuple[Finding, ...]
    advice: Advice
    unfinished: str | None = None
    data_source: str = Source.MNIST.value

    @property
    def caveat(self) -> str | None:
        """Say how far the findings may be trusted, where the data are others than those of docs/diagnosis.md."""
        if not self.findings or self.data_source == Source.MNIST:
            return None
        return "the thresholds were measured on MNIST; on other data this is a hint"

    def next_command(self, finding: Finding) -> str | None:
        """Return the command that tries the finding's remedy, if one can."""
        if finding.next_command is None:
            return None
        run, config = (typed(path) for path in (self.run.path, self.run.config_path))
        return finding.next_command.format(run=run, config=config)


def diagnose_training(run: Run) -> Diagnosis:
    """Return what is found in a training. Raises: ConfigError if `run` is not one; DataError."""
    run.require("train", "trainings and sweeps are diagnosed")
    manifest, record = run.manifest, run.record
    findings = tuple(diagnose(record))
    return Diagnosis(run, record.peak_lr, findings, advise(record), _unfinished(run), manifest.data_source)


def _unfinished(run: Run) -> str | None:
    status = run.status
    if status in ("finished", "diverged"):
        return None
    if status == "running":
        return "the training is still running"
    what = f"failed: {run.manifest.message or 'no reason was recorded'}" if status == "failed" else f"was {status}"
    return f"the training {what}. `lenet train --resume {typed(run.path)}` continues it"


@dataclass(frozen=True)
class TrialAdvice:
    """What the loss curve of one training of a sweep says of its learning rate."""

    activation: Activation
    lr: float
    seed: int
    advice: Advice


def advise_sweep(run: Run) -> list[TrialAdvice]:
    """Return the advice on each training of a sweep. Raises: DataError."""
    advised = []
    for trial, result in StudyJournal(SWEEP, run).results.items():
        advice = advise_trial(run.config, result, run.manifest.guessing_loss)
        advised.append(TrialAdvice(trial.activation, trial.lr, trial.seed, advice))
    return sorted(advised, key=lambda each: (each.activation, each.lr, each.seed))
