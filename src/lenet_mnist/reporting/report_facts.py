"""What a report says of a run beside its results: how it stands, with what it was made, how to do it again."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lenet_mnist.config import Config
from lenet_mnist.config_file import flat_values, value_text
from lenet_mnist.files.locks import is_locked
from lenet_mnist.provenance import typed
from lenet_mnist.runs.manifest import Manifest, TeacherRecord
from lenet_mnist.runs.run import Run
from lenet_mnist.study.diagnosis import Diagnosis, diagnose_training

_MOST_ROWS = 40  # of a table whose length a file decides
_REASONS = {"max-epochs": "All epochs are done.", "no-improvement": "The validation loss improved no more."}


@dataclass(frozen=True)
class Standing:
    """How far a run has come. `is_final` is False where a report that is made later will say more."""

    word: str
    sentence: str
    is_final: bool


@dataclass(frozen=True)
class Setting:
    """One value of the configuration."""

    key: str
    value: str
    default: str
    is_changed: bool


@dataclass(frozen=True)
class Command:
    """A command, and what it does."""

    text: str
    purpose: str


def standing_of(run: Run, manifest: Manifest) -> Standing:
    """Say how a run stands, in a word and in a sentence."""
    done, place = f"{manifest.epochs:,} epochs are done", place_of(run)
    match manifest.status:
        case "running" if is_locked(run.path):
            return Standing(
                "still training", f"This run is still training: {done}. This is what there is so far.", False
            )
        case "running":
            go_on = f"lenet train --resume {typed(Path(place))}"
            return Standing("killed", f"This run was killed: {done}. It can go on: {go_on}", False)
        case "interrupted":
            go_on = f"lenet train --resume {typed(Path(place))}"
            return Standing("interrupted", f"This run was interrupted: {done}. It can go on: {go_on}", False)
        case "diverged":
            kept = (
                f"the weights of epoch {manifest.best_epoch} were kept"
                if manifest.best_epoch
                else "no epoch was completed"
            )
            return Standing("diverged", f"Training diverged: {manifest.message or 'no more is known'}; {kept}.", True)
        case "failed":
            return Standing("failed", f"Training came to no end: {manifest.message or 'no more is known'}.", True)
        case "finished":
            return Standing("finished", _REASONS.get(manifest.stop_reason or "", "Training has ended."), True)


def diagnosis_of(run: Run) -> Diagnosis:
    """Return what `lenet diagnose` says; its commands name the run without directories. Raises: DataError."""
    return replace(diagnose_training(run), run=Run(Path(place_of(run))))


def settings_of(config: Config) -> list[Setting]:
    """Return every value of the configuration, those first that are not the default."""
    defaults = flat_values(Config())
    rows = [
        Setting(key, _word(value), _word(defaults[key]), value != defaults[key])
        for key, value in flat_values(config).items()
    ]
    return sorted(rows, key=lambda row: not row.is_changed)


def environment_of(manifest: Manifest) -> list[tuple[str, str]]:
    """Return with what a run was made, as names and values."""
    git = manifest.git or {}
    dirty = ", with changes that were not committed" if git.get("dirty") else ""
    rows = [
        ("machine", manifest.machine),
        ("device", f"{manifest.device}, {manifest.threads} {'thread' if manifest.threads == 1 else 'threads'}"),
        ("engine", f"{manifest.engine}: {manifest.engine_reason}"),
        *_few(manifest.versions.items()),
        ("git commit", f"{git['commit']}{dirty}" if "commit" in git else "not from a checkout"),
        ("began", _time(manifest.created)),
        ("training took", f"{manifest.seconds:,.1f} s in {manifest.epochs:,} epochs"),
        ("data", manifest.data_source),
        *(("of the data", note) for note in manifest.data_notes[:_MOST_ROWS]),
        *_few((f"teacher {place + 1}", _teacher(record)) for place, record in enumerate(manifest.teachers)),
        *_few((f"SHA-256 of {name}", digest) for name, digest in manifest.data_files.items()),
        ("SHA-256 of the split", manifest.split_sha256),
        ("SHA-256 of the weights", manifest.weights_sha256 or "no weights yet"),
    ]
    for resume in manifest.resumes[:_MOST_ROWS]:
        accepted = "; ".join(resume.differences) or "everything as before"
        rows.append(("gone on with", f"{_time(resume.time)}, after update {resume.step:,}: {accepted}"))
    return rows


def _teacher(record: TeacherRecord) -> str:
    return f"{record.run}, trained in {record.seconds:,.1f} s; weights {record.weights_sha256[:12]}..."


def commands_of(run: Run, manifest: Manifest) -> list[Command]:
    """Return how to do this again."""
    place = typed(Path(place_of(run)))
    return [
        Command(f"lenet train --config {place}/config.yaml", "trains again, with every value of this run"),
        Command(f"lenet evaluate {place}", "measures it on the test set, and writes this report again"),
        Command(f"lenet verify {place} --retrain", "trains again in memory, and says whether every row is the same")
        if manifest.num_ranks == 1 and not manifest.accepted_differences
        else Command(f"lenet verify {place}", "counts again, and says whether every file is still the same"),
        Command(manifest.command, "is the command that this run was started with"),
    ]


def place_of(run: Run) -> str:
    """Return where a run lies, without the directories of this machine."""
    return f"runs/{run.id}"


def without_directories(text: str, run: Run) -> str:
    """Let a message about a file of a run name it by the run alone: a report names no directory of this machine."""
    return text.replace(str(run.path), place_of(run))


def _few(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what is beyond a table's length, and say how much it is."""
    shown = list(rows)
    left_out = len(shown) - _MOST_ROWS
    return [*shown[:_MOST_ROWS], ("and", f"{left_out:,} more")] if left_out > 0 else shown


def _time(text: str) -> str:
    """Write a moment for people; what is none is left as it is."""
    try:
        return f"{datetime.fromisoformat(text):%d %B %Y, %H:%M} UTC".lstrip("0")
    except ValueError:
        return text


def _word(value: object) -> str:
    """Write a value as the configuration file does, but where data and teachers lie without its directory."""
    if isinstance(value, tuple):
        return value_text(tuple(map(_last_part, value)))
    return value_text(_last_part(value) if isinstance(value, str) else value)


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name
