"""A study: trials whose results go into the journal of a run directory as they end, and are never run twice.

Sweeps and cross-validations are studies. A command begins one or resumes one, runs the trials that the journal lacks,
and reads the results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from lenet_mnist.config import Config
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.errors import DataError, InterruptedBySignal
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.files.tables import Journal
from lenet_mnist.provenance import typed
from lenet_mnist.runs.manifest import COMMANDS, Kind
from lenet_mnist.runs.run import Run, begin_run
from lenet_mnist.sections import flat_values
from lenet_mnist.study.resume import differences_of_data, require_same
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.workers import PoolSize, Task, TrialPool

_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class StudyKind:
    """A kind of study: what its runs are called, and what its journal holds, by name.

    The first of `entries` is the request; that called `trial` is the result of a trial, which it holds under that name.
    `defaults` says, by the fields of the request, what is done where nothing else is asked for. `contexts` gives the
    context of all trials, and that of the first one, which the manifest describes.
    """

    kind: Kind
    entries: Mapping[str, type[Any]]
    trial: str
    defaults: Callable[[Config], dict[str, Any]]
    contexts: Callable[[Config, Any, Session], tuple[Context, Context]]

    @property
    def request(self) -> type[Any]:
        return next(iter(self.entries.values()))


class StudyJournal:
    """The entries of a study's journal, in their order: the request first. Raises: DataError if one is damaged."""

    def __init__(self, kind: StudyKind, run: Run) -> None:
        self._kind, self._path = kind, run.journal_path
        self._journal = Journal(run.journal_path, run.require_lock)
        self.entries: list[Any] = []
        adapters = {name: TypeAdapter(entry) for name, entry in kind.entries.items()}
        for number, document in enumerate(self._journal.documents(), start=1):
            try:
                ((name, value),) = document.items()
                self.entries.append(adapters[name].validate_python(value))
            except (AttributeError, KeyError, ValueError):
                raise DataError(f"{self._path}: line {number}: not an entry of a {kind.kind}") from None

    @property
    def request(self) -> Any:
        if not self.entries or not isinstance(self.entries[0], self._kind.request):
            raise DataError(f"{self._path}: does not begin with what was requested")
        return self.entries[0]

    @property
    def results(self) -> dict[Any, Any]:
        """By trial."""
        trial = self._kind.trial
        return {getattr(result, trial): result for result in self.of(self._kind.entries[trial])}

    def of(self, kind: type[_Entry]) -> list[_Entry]:
        return [entry for entry in self.entries if isinstance(entry, kind)]

    def add(self, entry: Any) -> None:
        """Keep `entry`; when this returns, it is on the disk. Raises: StorageError."""
        (name,) = (name for name, kind in self._kind.entries.items() if isinstance(entry, kind))
        self._journal.add({name: to_jsonable_python(entry)})
        self.entries.append(entry)


@dataclass(frozen=True, eq=False)
class Study:
    """A study under way, whose run directory is locked. `context` is that of all trials."""

    run: Run
    config: Config
    context: Context
    journal: StudyJournal
    session: Session

    def pool(self, config: Config, size: PoolSize) -> TrialPool:
        return TrialPool(config, self.context, self.session.access.directory, size)

    def run_trials(
        self, pool: TrialPool, task: Task[Any, Any], trials: Sequence[Any], line: Callable[[Any], str]
    ) -> None:
        """Run the trials that the journal lacks, and keep each result; `line` shows one."""
        known, progress = self.journal.results, self.session.progress
        missing = [trial for trial in trials if trial not in known]
        progress.begin("trainings", len(missing))
        try:
            for result in pool.run(task, missing):
                self.journal.add(result)
                progress.note(line(result))
                progress.advance(1)
        finally:
            progress.end()


@contextmanager
def study_under_way(
    kind: StudyKind, place: Path | Run, wanted: ResolvedConfig, asked: Mapping[str, Any], session: Session
) -> Iterator[Study]:
    """Begin a study in a new run directory of `place`, or resume that of the run `place`; note how it ends.

    `asked` holds fields of the request; None is not asked for. What a resume names must be what the study was begun
    with.

    Raises: ConfigError if it is not; DataError if a file is damaged or the data differ; StorageError if another process
    has the lock; InterruptedBySignal, which names the command that resumes.
    """
    asked = {key: value for key, value in asked.items() if value is not None}
    if isinstance(place, Run):
        run = place
        run.require(kind.kind, f"lenet {COMMANDS[kind.kind]} cannot resume it")
        prepare_to_write(run.path)
    else:
        request = kind.request(**{**kind.defaults(wanted.config), **asked})
        context, first = kind.contexts(wanted.config, request, session)
        for line in context.data.notes:
            session.progress.note(f"data: {line}")
        run = begin_run(place, wanted.config, first, kind.kind)
    with run.locked(session.progress.note) as run:
        journal = StudyJournal(kind, run)
        if isinstance(place, Run):
            named = {key: value for key, value in flat_values(wanted.config).items() if key in wanted.origins}
            require_same(run, flat_values(run.config) | asdict(journal.request), named | asked)
            context, first = kind.contexts(run.config.replace(run.manifest.decided), journal.request, session)
            if differences := differences_of_data(run.manifest, first.data.fingerprint):
                raise DataError(f"{run.path}: was begun on other data: {'; '.join(differences)}")
        else:
            journal.add(request)
        study = Study(run, run.config, context, journal, session)
        try:
            run.note(status="running", message=None)
            yield study
        except BaseException as error:
            run.note_failure(error)
            if isinstance(error, InterruptedBySignal):
                kept = f"interrupted; {len(journal.results)} trainings are kept"
                again = f"lenet {COMMANDS[kind.kind]} --resume {typed(run.path)}"
                raise InterruptedBySignal(f"{kept}. To resume: {again}", error.exit_code - 128) from None
            raise
