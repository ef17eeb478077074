"""Is a run still what it says it is? Recomputes digests and metrics, and if asked to, the whole training.

Nothing is written into it. Recounting an evaluation that was made is not a new test evaluation.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lenet_mnist.config import Engine, Split
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError, InterruptedBySignal
from lenet_mnist.files.storage import read_bounded
from lenet_mnist.files.tables import MAX_TEXT_BYTES, read_json
from lenet_mnist.provenance import typed
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import count_again
from lenet_mnist.study.resume import differences_of_data
from lenet_mnist.study.teachers import find_teachers_again
from lenet_mnist.study.train import train_run
from lenet_mnist.tally import count
from lenet_mnist.training.checkpoint import parse_state, read_network, weights_digest
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

# Other processors and engines round otherwise. One image more or less shows: its share of up to 100,000 is larger.
_TOLERANCE = 1e-5
_SAME_TO_THE_BIT = "identical"


@dataclass(frozen=True)
class Check:
    """One thing that was checked: whether it holds, and what was found."""

    what: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Verified:
    """All checks of a run."""

    run: Run
    checks: tuple[Check, ...]


def verify_run(run: Run, retrain: bool, session: Session) -> Verified:
    """Check everything in a training that can be computed again; with `retrain` train it again, too.

    Raises: ConfigError if `run` is not a training, or cannot be trained again; DataError if not even its manifest can
    be read.
    """
    run.require("train", "only trainings are verified")
    manifest = run.manifest
    if retrain and manifest.num_ranks > 1:
        raise ConfigError(
            f"{run.path}: {manifest.num_ranks} processes trained it together: alone, this one would come to other last "
            "bits, and --retrain could not tell"
        )
    try:
        config = run.config
    except DataError as error:
        return Verified(run, (Check("config.yaml", False, str(error)),))
    decided = manifest.decided
    if not retrain and manifest.engine == "native":
        decided["training.engine"] = Engine.AUTO  # only the same engine trains to the same bits; to count, any will do
    context = session.context(config.replace(decided))
    checks = [Check("manifest.json", True, "its SHA-256"), Check("config.yaml", True, "its SHA-256")]
    differences = differences_of_data(manifest, context.data.fingerprint)
    checks.append(Check("data and split", not differences, "; ".join(differences) or "the SHA-256 of each"))
    checks += _checkpoint_checks(run, TrainState.start(config, context))
    if manifest.best_epoch is not None:  # else it has kept no weights yet: it ended within its first epoch
        checks += _weights_checks(run, context)
    checks += _evaluation_checks(run, session.access)
    if retrain:
        session.progress.note(f"training again: {config.training.max_epochs} epochs at most")
        checks += _retraining_checks(run, context)
    return Verified(run, tuple(checks))


def require_all_hold(verified: Verified) -> None:
    """Raise CheckFailedError if something does not hold."""
    failed = [check.what for check in verified.checks if not check.holds]
    if failed:
        raise CheckFailedError(f"{verified.run.path}: does not hold: {', '.join(failed)}")


def _checkpoint_checks(run: Run, state: TrainState) -> Iterator[Check]:
    """Check every checkpoint, and the rows of the histories that belong to it."""
    checkpoints = list_checkpoints(run.checkpoints_path)
    if not checkpoints and run.manifest.epochs > 0:
        yield Check("checkpoints", False, "there is none")
    for checkpoint in checkpoints:
        what = f"checkpoint of step {checkpoint.step}"
        try:
            histories = parse_state(checkpoint.read(), checkpoint.path, state).histories.by_name()
        except DataError as error:
            yield Check(what, False, str(error))
            continue
        lost = [
            f"{name}.csv"
            for name, rows in histories.items()
            if not _begins_with(run.path / f"{name}.csv", rows.header + rows.lines)
        ]
        seen = f"{' and '.join(lost)} no longer hold the rows that belong to it"
        yield Check(what, not lost, seen if lost else "its SHA-256; every row of the histories up to it")


def _begins_with(path: Path, rows: bytes) -> bool:
    try:
        return read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError).startswith(rows)
    except DataError:
        return False


def _weights_checks(run: Run, context: Context) -> Iterator[Check]:
    name = run.model_path.name
    try:
        trained, history = read_network(run.model_path), run.history
    except DataError as error:
        yield Check(name, False, str(error))
        return
    digest = weights_digest(trained.network.state_dict())
    yield Check(name, digest == run.manifest.weights_sha256, f"SHA-256 {digest[:12]}...")
    row = next((row for row in history if row.epoch == trained.epoch), None)
    if row is None:
        yield Check("history.csv", False, f"has no epoch {trained.epoch}, of which {name} is")
        return
    batches = evaluation_batches(context.data.val, trained.normalization, context.device)
    val = count(trained.on(context.device, context.engine).network, batches)
    yield _same_figures(
        "validation loss and accuracy",
        {"val_loss": row.val_loss, "val_accuracy": row.val_accuracy},
        {"val_loss": val.mean_loss, "val_accuracy": val.accuracy},
    )


def _evaluation_checks(run: Run, access: DataAccess) -> Iterator[Check]:
    """Count every evaluation again that was made of the weights that are kept now."""
    for split in Split:
        path = run.evaluation_path(split.value) / "metrics.json"
        if path.exists():
            try:
                was = read_json(path)
                if was["weights_sha256"] != run.manifest.weights_sha256:
                    seen = f"of the weights of epoch {was['best_epoch']}, which are no longer kept: not counted again"
                    yield Check(f"evaluation/{split}", True, seen)
                    continue
                now = count_again(run, split, access)
                yield _same_figures(f"evaluation/{split}", {key: was[key] for key in now}, now)
            except (DataError, KeyError, TypeError) as error:
                yield Check(f"evaluation/{split}", False, str(error))


def _same_figures(what: str, was: dict[str, Any], now: dict[str, Any]) -> Check:
    """Compare figures: counts exactly, all others up to rounding."""
    if was == now:
        return Check(what, True, _SAME_TO_THE_BIT)
    for key, value in now.items():
        if not _agree(was[key], value):
            return Check(what, False, f"{key} was {was[key]}, and is {value}")
    return Check(what, True, "the same up to rounding")


def _agree(was: Any, now: Any) -> bool:
    """Whether two figures, or all those in two lists or tables of them, are the same up to rounding."""
    if type(was) is not type(now):
        return False
    match now:
        case float():
            return math.isclose(was, now, rel_tol=_TOLERANCE)
        case dict():
            return was.keys() == now.keys() and all(_agree(was[key], value) for key, value in now.items())
        case list():
            return len(was) == len(now) and all(_agree(*pair) for pair in zip(was, now, strict=True))
    return bool(was == now)


def _retraining_checks(run: Run, context: Context) -> Iterator[Check]:
    """Train it again, into a directory that is then removed, and compare every row and the kept weights."""
    config, manifest = run.config, run.manifest
    if manifest.status not in ("finished", "diverged"):
        raise ConfigError(f"{run.path}: has not come to its end yet: lenet train --resume {typed(run.path)}")
    if accepted := manifest.accepted_differences:
        raise ConfigError(f"{run.path}: cannot be trained again as it was: on the way {'; '.join(accepted)}")
    teachers = find_teachers_again(config, run, context.data)
    with TemporaryDirectory() as directory:
        trained = train_run(config, context, Path(directory), teachers)
        if trained.signal_number is not None:
            raise InterruptedBySignal("interrupted: nothing is kept", trained.signal_number)
        again = trained.directory
        for name, was, now in (
            ("history.csv", _without_times(run.history), _without_times(again.history)),
            ("steps.csv", run.steps, again.steps),
            ("probe.csv", run.probe, again.probe),
        ):
            first = next((k for k, (a, b) in enumerate(zip(was, now, strict=False), start=1) if a != b), None)
            seen = _SAME_TO_THE_BIT if was == now else f"row {first or min(len(was), len(now)) + 1} differs"
            yield Check(f"{name}, trained again", was == now, seen)
        digest = again.manifest.weights_sha256
    is_same = digest == manifest.weights_sha256
    yield Check("kept weights, trained again", is_same, _SAME_TO_THE_BIT if is_same else f"SHA-256 {digest}")


def _without_times(rows: Iterable[EpochRow]) -> list[EpochRow]:
    return [replace(row, seconds=0.0) for row in rows]
