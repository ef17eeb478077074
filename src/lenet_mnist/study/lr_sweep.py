"""One sweep on disk, begun or resumed: what `lenet lr-sweep` does; and the search of `learning_rate: auto`.

configuration -> range tests -> plan -> trials, each into journal.jsonl as it ends -> tables and best.yaml in runs/<id>
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from lenet_mnist.config import Activation, Config, Engine
from lenet_mnist.config_file import ResolvedConfig, to_yaml
from lenet_mnist.errors import ConfigError, DivergedError
from lenet_mnist.files.storage import write_text
from lenet_mnist.files.tables import write_csv
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.study.study import Study, StudyKind, begun_study, resumed_study
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.best_rate import choose, exponent_of
from lenet_mnist.tuning.plan import CostModel, Plan, SweepRequest, Task, make_plan, plan_text
from lenet_mnist.tuning.range_test import Bracket, RangeTest, find_bracket, run_range_test
from lenet_mnist.tuning.ranking import Answer, Extension, extension_of, rank, trials_of
from lenet_mnist.tuning.trial import Trial, TrialResult, compared_schedule, train_trial, with_rate

RANGE_SEEDS = (0, 1, 2)
_WORKER_START_SECONDS = 5.0
_MAX_EXTENSIONS = 2  # of each activation
_RANGE_TEST_SHARE = 0.25  # of a budget
_RANGE_COLUMNS = ("activation", "seed", "lr", "train_loss")
_SWEEP_COLUMNS = ("activation", "lr", "seed", "epochs", "epoch", "train_loss", "val_loss", "val_accuracy", "diverged")


@dataclass(frozen=True)
class Finished:
    """Nothing is missing any more."""


SWEEP = StudyKind(
    "sweep",
    {
        "request": SweepRequest,
        "range_test": RangeTest,
        "plan": Plan,
        "trial": TrialResult,
        "extension": Extension,
        "finished": Finished,
    },
    trial="trial",
)


@dataclass(frozen=True)
class SweptRun:
    """A finished sweep."""

    directory: Run
    answers: dict[Activation, Answer]

    @property
    def manifest(self) -> Manifest:
        return self.directory.manifest

    @property
    def config(self) -> Config:
        return self.directory.config


def new_sweep(config: Config, request: SweepRequest, session: Session, runs_dir: Path) -> SweptRun:
    """Sweep into a new directory in `runs_dir`.

    Raises: ConfigError if the plan does not fit the budget; InterruptedBySignal, with what is finished kept.
    """
    started = time.monotonic()
    if config.training.teachers:
        raise ConfigError("a sweep trains without teachers: leave them out", key="training.teachers")
    activations = request.activations or (config.model.activation,)
    contexts = [session.context(config.replace({"model.activation": each})) for each in activations]
    context = next((each for each in contexts if each.engine.name is Engine.TORCH), contexts[0])  # one for all
    for line in context.data.notes:
        session.progress.note(f"data: {line}")
    schedule = compared_schedule(config)
    if schedule is not config.training.schedule:
        session.progress.note(
            f"rates are compared with schedule {schedule}, in best.yaml too: {config.training.schedule} does not fall "
            "by itself, and may want another rate"
        )
    with (
        begun_study(SWEEP, replace(request, activations=activations), config, context, runs_dir) as study,
        study.under_way(),
    ):
        return _Sweep(study, context, session, started).go()


def resumed_sweep(run: Run, wanted: ResolvedConfig, request: SweepRequest, session: Session) -> SweptRun:
    """Resume an interrupted sweep. What is asked for now must not contradict what it was begun with.

    Raises: ConfigError if `run` is not a sweep, or of another configuration or request; DataError if its files are
    damaged or the data differ; StorageError if another process has its lock.
    """
    started = time.monotonic()
    with resumed_study(SWEEP, run, wanted, asdict(request), session) as study:
        decided = study.run.manifest.decided | {"model.activation": study.journal.request.activations[0]}
        context = session.context(study.config.replace(decided))
        study.require_same_data(context.data.fingerprint)
        with study.under_way():
            return _Sweep(study, context, session, started).go()


def require_answers(swept: SweptRun) -> None:
    """Raise DivergedError if some activation diverged at every rate, ConfigError if none learned anything at any."""
    for activation, answer in swept.answers.items():
        if answer.ranking.best is None:
            raise DivergedError(
                f"{swept.directory.path}: {activation}: training diverged at every rate: try smaller ones (--max-lr)"
            )
    if all(answer.choice is None for answer in swept.answers.values()):
        raise ConfigError(
            f"{swept.directory.path}: no rate learned anything: give more --epochs or higher rates (--min-lr)"
        )


class _Sweep:
    """A sweep under way. What the journal holds is not done again, and comes to the same answer."""

    def __init__(self, study: Study, context: Context, session: Session, started: float) -> None:
        self._study = study
        self._journal = study.journal
        self._request: SweepRequest = study.journal.request
        self._activations: tuple[Activation, ...] = study.journal.request.activations
        self._config = study.config
        self._context = context
        self._data_dir = session.access.directory
        self._started = started

    def go(self) -> SweptRun:
        """Do what is not done yet, and write what it says."""
        plan = self._plan()
        config = self._config.replace({"model.activation": self._activations[0]})
        with TrialPool(config, self._context, self._data_dir, self._pool_size(plan)) as pool:
            self._train(pool, plan)
        return self._finish()

    def _test_ranges(self) -> None:
        """Run the range tests; of a small budget they take a quarter at most, but one is run."""
        done = {(test.activation, test.seed) for test in self._journal.of(RangeTest)}
        for seed in RANGE_SEEDS:
            for activation in self._activations:
                if (activation, seed) not in done:
                    self._journal.add(run_range_test(self._config, self._context, activation, seed))
            budget, spent = self._request.budget_seconds, time.monotonic() - self._started
            if budget is not None and spent * (seed + 2) / (seed + 1) > _RANGE_TEST_SHARE * budget:
                return

    def _range_tests(self, activation: Activation) -> list[RangeTest]:
        tests = sorted(self._journal.of(RangeTest), key=lambda test: test.seed)
        return [test for test in tests if test.activation is activation]

    def _bracket(self, activation: Activation) -> Bracket:
        return find_bracket(self._range_tests(activation), self._context.guessing_loss)

    def _task(self, activation: Activation) -> Task:
        bracket, request = self._bracket(activation), self._request
        low, high = request.min_lr or bracket.low, request.max_lr or bracket.high
        if low >= high:
            raise ConfigError(
                f"the range test of {activation} puts the useful rates between {bracket.low:.2g} and "
                f"{bracket.high:.2g}: give both --min-lr and --max-lr to search elsewhere"
            )
        return Task(activation, low, high, not bracket.has_learned)

    def _plan(self) -> Plan:
        """Return the plan, which is made once and kept in the journal."""
        if plans := self._journal.of(Plan):
            return plans[0]
        self._test_ranges()
        training, data, tests = self._config.training, self._context.data, self._journal.of(RangeTest)
        num_images = sum(len(test.points) for test in tests) * training.batch_size
        cost = CostModel(
            num_train=len(data.train),
            num_val=len(data.val),
            batch_size=training.batch_size,
            max_epochs=training.max_epochs,
            seconds_per_image=sum(test.seconds for test in tests) / num_images / self._context.ranks.num_ranks,
            start_seconds=0.0,
        )
        tasks = [self._task(activation) for activation in self._activations]
        plan = make_plan(self._request, tasks, cost, self._seconds_left())
        if self._pool_size(plan).num_workers > 1:
            plan = make_plan(
                self._request, tasks, replace(cost, start_seconds=_WORKER_START_SECONDS), self._seconds_left()
            )
        self._journal.add(plan)
        self._study.progress.note(plan_text(plan))
        return plan

    def _pool_size(self, plan: Plan) -> PoolSize:
        return PoolSize.of(self._context, plan.num_trials, plan.num_epochs * len(self._context.data.train))

    def _seconds_left(self) -> float | None:
        budget = self._request.budget_seconds
        return None if budget is None else budget - (time.monotonic() - self._started)

    def _train(self, pool: TrialPool, plan: Plan) -> None:
        """Train the plan, then what it turns out to lack, round by round; a round that was begun is ended first."""
        self._run(pool, [t for a in plan.lrs for t in trials_of(a, plan.lrs[a], plan.seeds, plan.epochs[a])])
        for begun in self._journal.of(Extension):
            self._run(pool, begun.trials)
        while not self._journal.of(Finished):
            missing = [extension for each in self._activations if (extension := self._extension(each, plan))]
            left = self._seconds_left()
            num_workers = self._pool_size(plan).num_workers * self._context.ranks.num_ranks
            seconds = mean(result.seconds for result in self._journal.of(TrialResult)) / num_workers
            if not missing or (left is not None and seconds * sum(len(each.trials) for each in missing) > left):
                self._journal.add(Finished())
                return
            for extension in missing:
                self._journal.add(extension)
                self._study.progress.note(extension.reason)
            for extension in missing:
                self._run(pool, extension.trials)

    def _run(self, pool: TrialPool, trials: Sequence[Trial]) -> None:
        self._study.run_trials(pool, train_trial, trials, _trial_line)

    def _extension(self, activation: Activation, plan: Plan) -> Extension | None:
        begun = [each for each in self._journal.of(Extension) if each.trials[0].activation is activation]
        if len(begun) >= _MAX_EXTENSIONS:
            return None
        return extension_of(self._answer(activation).ranking, self._request, plan.seeds)

    def _answer(self, activation: Activation) -> Answer:
        results = sorted(
            (result for result in self._journal.of(TrialResult) if result.trial.activation is activation),
            key=lambda result: (result.trial.lr, result.trial.seed),
        )
        tests = self._range_tests(activation)
        guessing_loss = self._context.guessing_loss
        exponent = exponent_of(self._config, activation)
        choice = choose(results, self._config.training.max_epochs, exponent, guessing_loss)
        return Answer(self._bracket(activation), tests, results, rank(results, guessing_loss), choice)

    def _finish(self) -> SweptRun:
        """Write tables, the best configurations and the manifest."""
        path, answers = self._study.run.path, {activation: self._answer(activation) for activation in self._activations}
        write_csv(path / "range_test.csv", _RANGE_COLUMNS, list(_range_rows(answers.values())))
        write_csv(path / "sweep.csv", _SWEEP_COLUMNS, list(_sweep_rows(answers.values())))
        chosen = {each: answer.choice for each, answer in answers.items() if answer.choice is not None}
        for activation, choice in chosen.items():
            best = with_rate(self._config, activation, float(f"{choice.lr:.3g}"))
            write_text(path / best_name(activation, len(answers)), to_yaml(best))
        tuning = {activation.value: asdict(choice) for activation, choice in chosen.items()}
        self._study.note(status="finished", message=None, tuning=tuning)
        return SweptRun(self._study.run, answers)


def best_name(activation: Activation, num_activations: int) -> str:
    """Return the name of the configuration with the best rate."""
    return "best.yaml" if num_activations == 1 else f"best-{activation}.yaml"


def _trial_line(result: TrialResult) -> str:
    trial = result.trial
    ended = "diverged"
    if result.val_loss is not None:
        ended = f"val loss {result.val_loss:.4f}  val accuracy {result.val_accuracy:.2%}"
    return f"{trial.activation}  lr {trial.lr:<8.3g}  seed {trial.seed}  {ended}  {result.seconds:.1f} s"


def _range_rows(answers: Iterable[Answer]) -> Iterator[tuple[Any, ...]]:
    return (astuple(point) for answer in answers for test in answer.range_tests for point in test.points)


def _sweep_rows(answers: Iterable[Answer]) -> Iterator[tuple[Any, ...]]:
    """Yield every rate, seed and epoch; where training diverged, a row without losses."""
    for answer in answers:
        for result in answer.results:
            trial = result.trial
            head = (trial.activation.value, trial.lr, trial.seed, trial.epochs)
            for row in result.history:
                yield (*head, row.epoch, row.train_loss, row.val_loss, row.val_accuracy, 0)
            if result.val_loss is None:
                yield (*head, len(result.history) + 1, "", "", "", 1)
