"""Is a run still what it says it is? Recomputes digests and metrics, and if asked to, the whole training.

Nothing is written into it. Recounting an evaluation that was made is not a new test evaluation.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lenet_mnist.config import Engine, Split
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError, InterruptedBySignal
from lenet_mnist.files.storage import read_bounded
from lenet_mnist.files.tables import MAX_TEXT_BYTES, read_json
from lenet_mnist.provenance import typed
from lenet_mnist.runs.listing import comes_with_lenet
from lenet_mnist.runs.recording import Checkpoint, list_checkpoints
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import Evaluator
from lenet_mnist.study.resume import differences_of_data, differences_of_machine
from lenet_mnist.study.teachers import find_teachers_again
from lenet_mnist.study.train import train_run
from lenet_mnist.tally import count
from lenet_mnist.training.checkpoint import parse_state, read_network, weights_digest
from lenet_mnist.training.context import Context, Session
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


def verify_run(run: Run, retrain: bool, session: Session) -> list[Check]:
    """Check everything in a training that can be computed again; with `retrain` train it again, too.

    Raises: ConfigError if `run` is not a training, or cannot be trained again; DataError if not even its manifest can
    be read.
    """
    run.require("train", "only trainings are verified")
    manifest = run.manifest
    if retrain and manifest.browser is not None:
        raise ConfigError(f"{run.path}: was trained in a browser, which rounds otherwise: --retrain cannot compare it")
    try:
        config = run.config
    except DataError as error:
        return [Check("config.yaml", False, str(error))]
    decided = manifest.decided
    if not retrain and manifest.engine == "native":
        decided["training.engine"] = Engine.AUTO  # only the same engine trains to the same bits; to count, any will do
    context = session.context(config.replace(decided))
    if retrain and (found := differences_of_machine(manifest, context)):
        raise ConfigError(f"{run.path}: cannot be reproduced exactly here: {'; '.join(found)}")
    state, checkpoints = TrainState.start(config, context), list_checkpoints(run.checkpoints_path)
    checks = [Check("manifest.json", True, "its SHA-256"), Check("config.yaml", True, "its SHA-256")]
    differences = differences_of_data(manifest, context.data.fingerprint)
    checks.append(Check("data and split", not differences, "; ".join(differences) or "the SHA-256 of each"))
    has_none = manifest.browser is not None or comes_with_lenet(run.id)
    if not checkpoints and manifest.epochs > 0 and not has_none:
        checks.append(Check("checkpoints", False, "there is none"))
    for checkpoint in checkpoints:
        checks.append(_checked(f"checkpoint of step {checkpoint.step}", partial(_checkpoint, run, checkpoint, state)))
    if manifest.best_epoch is not None:  # else it has kept no weights yet: it ended within its first epoch
        checks.append(_checked(run.model_path.name, partial(_weights, run)))
        checks.append(_checked("validation loss and accuracy", partial(_validation, run, context)))
    for split in Split:
        if (run.evaluation_path(split.value) / "metrics.json").exists():
            checks.append(_checked(f"evaluation/{split}", partial(_evaluation, run, split, Evaluator(session.access))))
    if retrain:
        session.progress.note(f"training again: {config.training.max_epochs} epochs at most")
        checks += _retraining_checks(run, context)
    return checks


def require_all_hold(run: Run, checks: Sequence[Check]) -> None:
    """Raise CheckFailedError if something does not hold."""
    failed = [check.what for check in checks if not check.holds]
    if failed:
        raise CheckFailedError(f"{run.path}: does not hold: {', '.join(failed)}")


def _checked(what: str, look: Callable[[], tuple[bool, str]]) -> Check:
    """Look, and take what is damaged, or not as lenet writes it, for a check that does not hold."""
    try:
        return Check(what, *look())
    except (DataError, KeyError, TypeError) as error:
        return Check(what, False, str(error))


def _checkpoint(run: Run, checkpoint: Checkpoint, state: TrainState) -> tuple[bool, str]:
    """Compare its digest, and the rows of the histories that belong to it."""
    lost = []
    for name, rows in parse_state(checkpoint.read(), checkpoint.path, state).histories.by_name().items():
        content = b""
        with suppress(DataError):
            content = read_bounded(run.path / f"{name}.csv", max_bytes=MAX_TEXT_BYTES, error=DataError)
        if not content.startswith(rows.header + rows.lines):
            lost.append(f"{name}.csv")
    if lost:
        return False, f"{' and '.join(lost)} no longer hold the rows that belong to it"
    return True, "its SHA-256; every row of the histories up to it"


def _weights(run: Run) -> tuple[bool, str]:
    digest = weights_digest(read_network(run.model_path).network.state_dict())
    return digest == run.manifest.weights_sha256, f"SHA-256 {digest[:12]}..."


def _validation(run: Run, context: Context) -> tuple[bool, str]:
    """Validate the kept weights again."""
    trained = read_network(run.model_path)
    if trained.epoch > len(run.history):
        raise DataError(f"{run.history_path}: has no epoch {trained.epoch}, of which {run.model_path.name} is")
    row = run.history[trained.epoch - 1]
    batches = evaluation_batches(context.data.val, trained.normalization, context.device)
    val = count(trained.on(context.device, context.engine).network, batches)
    was = {"val_loss": row.val_loss, "val_accuracy": row.val_accuracy}
    return _same_figures(was, {"val_loss": val.mean_loss, "val_accuracy": val.accuracy})


def _evaluation(run: Run, split: Split, evaluator: Evaluator) -> tuple[bool, str]:
    """Count an evaluation again, if it was made of the weights that are kept now."""
    was = read_json(run.evaluation_path(split.value) / "metrics.json")
    if was["weights_sha256"] != run.manifest.weights_sha256:
        return True, f"of the weights of epoch {was['best_epoch']}, which are no longer kept: not counted again"
    now = evaluator.count_again(run, split)
    return _same_figures({key: was[key] for key in now}, now)


def _same_figures(was: dict[str, Any], now: dict[str, Any]) -> tuple[bool, str]:
    """Compare figures: counts exactly, all others up to rounding."""
    if was == now:
        return True, _SAME_TO_THE_BIT
    for key, value in now.items():
        if not _agree(was[key], value):
            return False, f"{key} was {was[key]}, and is {value}"
    return True, "the same up to rounding"


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
        again = train_run(config, context, Path(directory), teachers)
        if again.interrupted_by is not None:
            raise InterruptedBySignal("interrupted: nothing is kept", again.interrupted_by)
        for name in ("history", "steps", "probe"):
            was, now = (_rows_without_times(getattr(each, name)) for each in (run, again))
            if comes_with_lenet(run.id):  # of which only some rows travel
                there = {row["step"] for row in was}
                now = [row for row in now if row["step"] in there]
            first = next((k for k, (a, b) in enumerate(zip(was, now, strict=False), start=1) if a != b), None)
            seen = _SAME_TO_THE_BIT if was == now else f"row {first or min(len(was), len(now)) + 1} differs"
            yield Check(f"{name}.csv, trained again", was == now, seen)
        digest = again.manifest.weights_sha256
    is_same = digest == manifest.weights_sha256
    yield Check("kept weights, trained again", is_same, _SAME_TO_THE_BIT if is_same else f"SHA-256 {digest}")


def _rows_without_times(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [{**asdict(row), "seconds": None} for row in rows]
