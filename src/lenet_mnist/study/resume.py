"""Which settings may change on resume without changing the result. (The newest checkpoint: runs/recording.py.)

- `training.checkpoint_every_steps` changes no result.
- `training.patience` may be raised: the epochs counted so far do not depend on it.
- `training.max_epochs` may be raised where no learning rate depends on it: with schedule constant or plateau, and no
  warm-up, which is a share of all updates.
- `training.teachers` may name the same networks in another way (study/teachers.py compares them).

Everything else is a difference: another configuration, other data, another torch.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import AUTO, Config, Engine, Schedule, TrainingConfig
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.data.sets import Fingerprint
from lenet_mnist.distributed import Ranks
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.sections import flat_values
from lenet_mnist.training.context import Context

# A state fits one value of each only.
_FIXED = ("model.activation", "training.optimizer", "training.batch_size", "training.keep")


def changes_of(run: Run, wanted: ResolvedConfig) -> tuple[dict[str, Any], list[str]]:
    """Return which values a resume changes, by key, and which of these change the result, one line each.

    What `wanted` does not name stays as it was.

    Raises: ConfigError for what cannot be changed at all.
    """
    decided, now = run.manifest.decided, flat_values(wanted.config)
    there = flat_values(run.config) | decided
    changed = {
        key: now[key]
        for key in wanted.origins
        if now[key] != there[key] and not (now[key] == AUTO or (key in decided and now[key] is None))
    }
    for key in changed:
        if key in _FIXED or (key == "training.momentum" and 0 in (there[key], changed[key])):
            raise ConfigError(f"{key} cannot change on resume (it was {there[key]}); start a new run", key=key)
    objections = {key: _objection(run.config.training, key, value) for key, value in changed.items()}
    return changed, [
        f"{key} was {_shown(there[key])}, and is now {_shown(changed[key])}{objection}"
        for key, objection in objections.items()
        if objection is not None
    ]


def differences_of_data(manifest: Manifest, now: Fingerprint) -> list[str]:
    """Return how the data and their split differ from those that the run was trained on."""
    files = differences_of_files(manifest, now)
    found = [f"the data files have changed: {files}"] if files else []
    return [*found, "the split of the data differs"] if now.split != manifest.split_sha256 else found


def differences_of_files(manifest: Manifest, now: Fingerprint) -> str:
    """Return the names of the files that changed, are missing or are new."""
    names = manifest.data_files.keys() | now.files.keys()
    return ", ".join(sorted(name for name in names if now.files.get(name) != manifest.data_files.get(name)))


def differences_of_machine(manifest: Manifest, context: Context) -> list[str]:
    """Return what else may give other last bits: the number of processes, torch, the build of the native engine."""
    engine, ranks = context.engine, context.ranks
    found, torch_now, was = [], provenance.versions()["torch"], manifest.num_ranks
    if was != ranks.num_ranks:
        found.append(f"{was} {'process' if was == 1 else 'processes'} trained it, and now {ranks.num_ranks}")
    if (torch_was := manifest.versions.get("torch")) != torch_now:
        found.append(f"torch was {torch_was}, and is now {torch_now}")
    if manifest.engine == engine.name == Engine.NATIVE and manifest.engine_library != engine.library:
        found.append(f"the native engine was {manifest.engine_reason}, and is now {engine.reason}: another build of it")
    return found


def require_same(run: Run, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming the keys, if what is asked for now is not what `run` was begun with."""
    different = [
        f"{key} is {_shown(there[key])} there, {_shown(now[key])} now" for key in now if there[key] != now[key]
    ]
    if different:
        raise ConfigError(f"{run.path}: was begun with other settings: {'; '.join(different)}")


def runs_of_job(config: Config, ranks: Ranks, runs_dir: Path) -> dict[int, Run]:
    """Return, by seed, the runs of `config` that these ranks began before torchrun restarted them.

    An earlier job may have had the same name: the newest run counts. A run has decided what `config` leaves open: a
    learning rate of `auto`, and which runs the teachers' names mean, as `latest` is another run by now.
    """
    found: dict[int, Run] = {}
    for run in list_runs(runs_dir) if ranks.restarts > 0 else ():
        with suppress(DataError):  # a damaged run, whose ever, is none of these
            if run.manifest.job == ranks.job:
                seed, training = run.config.seed, run.config.training
                decided: dict[str, Any] = {"seed": seed}
                if config.training.learning_rate == AUTO:
                    decided["training.learning_rate"] = training.learning_rate
                if len(config.training.teachers) == len(training.teachers):
                    decided["training.teachers"] = training.teachers
                if run.config == config.replace(decided):
                    found.setdefault(seed, run)
    return found


def _objection(training: TrainingConfig, key: str, value: Any) -> str | None:
    """Return why the result would differ, as the end of a sentence, or None if it would not."""
    match key:
        case "training.checkpoint_every_steps" | "training.teachers":
            return None
        case "training.patience":
            is_raised = training.patience is not None and (value is None or value > training.patience)
            return None if is_raised else " (it may only be raised)"
        case "training.max_epochs" if training.schedule not in (Schedule.CONSTANT, Schedule.PLATEAU):
            return (
                f" (with schedule {training.schedule}, the learning rates until now have followed from the old number)"
            )
        case "training.max_epochs" if training.warmup > 0:
            return " (the warm-up was a share of the old number)"
        case "training.max_epochs":
            return None if value > training.max_epochs else " (it may only be raised)"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "null" if value is None else str(value)
