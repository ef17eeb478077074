"""Which runs there are, which one a user means, and those that come with lenet."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lenet_mnist.errors import ConfigError, DataError, LenetError, StorageError
from lenet_mnist.files.storage import make_directory, require_directory, storage_errors, synced_entries, write_bytes
from lenet_mnist.files.tables import read_json
from lenet_mnist.runs.manifest import COMMANDS, Kind, Manifest
from lenet_mnist.runs.run import RUN_ID, Run

LATEST = "latest"
NETWORKS = Path(__file__).resolve().parents[1] / "networks"
"""Runs that travel in the wheel, without the checkpoints that a resume needs. Nothing is written there."""


def find_run(argument: str, runs_dir: Path, kinds: Sequence[Kind] = ("train",)) -> Run:
    """Return the run that a user means by a path, an id or a name in `runs_dir`, or "latest".

    Several runs may have one name, as that of `lenet train --name`: the newest of them is meant, if one of `kinds` has
    it, of those. "latest" is the newest of all of `kinds`. A training that is not in `runs_dir` may be one of NETWORKS.

    Raises: ConfigError if there is no such run.
    """
    if argument == LATEST:
        newest = newest_run(runs_dir, kinds)
        if newest is None:
            raise ConfigError(f"{runs_dir}: there are no such runs here yet. `lenet {COMMANDS[kinds[0]]}` makes one")
        return newest
    if not argument:
        raise ConfigError(f"a run's name is empty. `lenet runs` lists those in {runs_dir}")
    complaint = "no such run"
    for path in (Path(argument), *([] if ".." in Path(argument).parts else [runs_dir / argument])):
        try:
            if (path / "manifest.json").is_file():
                return Run(path)
            if path.is_dir():  # a run of that name may be meant all the same
                complaint = "is a directory, but no run: it has no manifest.json"
            elif path.is_file():
                complaint = f"is a file; a run is a directory: try {path.parent}"
        except PermissionError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
        except (OSError, ValueError):  # a name too long for the file system, or with a null character
            raise ConfigError(f"{argument[:80]!r}: cannot be the name of a run") from None
    shipped = list_runs(NETWORKS) if "train" in kinds else []
    named = [run for run in list_runs(runs_dir) if run.name == argument]
    named += [run for run in shipped if argument in (run.name, run.id)]
    if not named:
        brought = f"; lenet brings {', '.join(run.name for run in shipped)}" if shipped else ""
        raise ConfigError(f"{argument}: {complaint}. `lenet runs` lists those in {runs_dir}{brought}")
    return next((run for run in named if _may_be(run, kinds)), named[0])


def newest_run(runs_dir: Path, kinds: Sequence[Kind] = ("train",)) -> Run | None:
    """Return the newest run of some kinds, or None if there is none."""
    return next((run for run in list_runs(runs_dir) if _may_be(run, kinds)), None)


def comes_with_lenet(run_id: str) -> bool:
    """Whether a run is one of NETWORKS, or a copy of one."""
    return (NETWORKS / run_id / "manifest.json").is_file()


def own_run(run: Run, runs_dir: Path) -> Run:
    """Return the run to write into: the same, or of one of NETWORKS its copy in `runs_dir`, made where there is none.

    The copy keeps the id, and with it the test evaluation that was made of it; it is there whole or not at all.

    Raises: StorageError.
    """
    if run.path.resolve().parent != NETWORKS:
        return run
    copy = Run(runs_dir / run.id)
    if copy.manifest_path.is_file():
        return copy
    make_directory(runs_dir)
    with storage_errors(copy.path, "make this copy"), tempfile.TemporaryDirectory(prefix=".", dir=runs_dir) as place:
        for file in [file for file in run.path.rglob("*") if file.is_file()]:
            target = Path(place) / run.id / file.relative_to(run.path)
            make_directory(target.parent)
            write_bytes(target, file.read_bytes())
        with synced_entries(runs_dir):
            try:
                (Path(place) / run.id).rename(copy.path)
            except OSError:
                if not copy.manifest_path.is_file():  # else another process was faster
                    raise
    return copy


def list_runs(runs_dir: Path) -> list[Run]:
    """Return the runs in `runs_dir`, newest first, and copies of NETWORKS last. Everything else there is skipped.

    What is dated after tomorrow comes last: a clock was wrong, and "latest" must not mean it for ever.

    Raises: StorageError if `runs_dir` is something else than a directory, or cannot be listed.
    """
    require_directory(runs_dir)
    with storage_errors(runs_dir, "list"):
        if not runs_dir.is_dir():
            return []
        names = [path for path in runs_dir.iterdir() if RUN_ID.fullmatch(path.name)]
    found = [Run(path) for path in names if _has_manifest(path)]
    found.sort(key=_time_of_creation, reverse=True)
    return sorted(found, key=lambda run: comes_with_lenet(run.id))


def row_of(run: Run, with_test: bool) -> dict[str, Any]:
    """Return what the list of runs says of one run. One that cannot be read is listed as damaged."""
    row: dict[str, Any] = {"run": run.id}
    try:
        manifest = run.manifest
        row |= {
            "kind": manifest.kind,
            "status": run.status,
            "best_epoch": manifest.best_epoch,
            "val_accuracy": manifest.best_val_accuracy,
            "lr": _tuned_rate(manifest),
        }
        metrics = run.evaluation_path("test") / "metrics.json"
        if with_test:
            accuracy = float(read_json(metrics)["accuracy"]) if metrics.is_file() else None
            if accuracy is not None and not 0 <= accuracy <= 1:
                raise ValueError(f"{accuracy} is not a fraction")
            row["test_accuracy"] = accuracy
    except (LenetError, KeyError, TypeError, ValueError):
        row["status"] = "damaged"
    return row


def _tuned_rate(manifest: Manifest) -> str | None:
    tuning = manifest.tuning
    if not tuning:
        return None
    if manifest.kind == "train":
        return f"{float(tuning['lr']):.3g} (auto, {float(tuning['cost_epochs']):.1f} epochs)"
    return ", ".join(f"{float(choice['lr']):.3g}" for choice in tuning.values())


def _may_be(run: Run, kinds: Sequence[Kind]) -> bool:
    """Whether a run is of one of these kinds, or damaged, so that whoever opens it says so."""
    try:
        return run.manifest.kind in kinds
    except DataError:
        return True


def _has_manifest(path: Path) -> bool:
    """Whether a directory is a run; one that may not be entered counts as one, so that it is listed."""
    try:
        return (path / "manifest.json").is_file()
    except OSError:
        return True


def _time_of_creation(run: Run) -> tuple[bool, str, str]:
    """Return whether that can be, the second in the run's name, and the finer time in its manifest where it is read."""
    second = run.path.name[:15]
    can_be = second <= f"{datetime.now(UTC) + timedelta(days=1):%Y%m%d-%H%M%S}"
    try:
        return can_be, second, run.manifest.created
    except DataError:
        return can_be, second, ""
