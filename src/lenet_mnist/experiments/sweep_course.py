"""The course of one sweep, from its range tests to its answer.

range tests -> plan -> trials, each into journal.jsonl as it ends -> tables and best.yaml in the run directory
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Protocol

from lenet_mnist.config import Activation, Config, Engine
from lenet_mnist.config_file import to_yaml
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError, InterruptedBySignal, LenetError
from lenet_mnist.experiments.sweep_journal import Finished, RangeTestResult, SweepJournal
from lenet_mnist.experiments.sweep_tables import RANGE_COLUMNS, SWEEP_COLUMNS, range_rows, sweep_rows
from lenet_mnist.files.storage import write_text
from lenet_mnist.files.tables import write_csv
from lenet_mnist.provenance import typed
from lenet_mnist.ranks import Ranks
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.manifest import Manifest, Status
from lenet_mnist.tuning.choice import choose
from lenet_mnist.tuning.plan import Circumstances, Plan, Task, make_plan, plan_text
from lenet_mnist.tuning.range_test import Bracket, RangePoint, RangeTest, find_bracket, run_range_test
from lenet_mnist.tuning.sweep import Answer, Extension, extension_of, rank, trials_of
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, train_trial, with_rate
from lenet_mnist.tuning.workers import Crew, Staff

RANGE_SEEDS = (0, 1, 2)
_WORKER_START_SECONDS = 5.0
_MAX_EXTENSIONS = 2  # of each activation
_RANGE_TEST_SHARE = 0.25  # of a budget


class SweepSpectator(Protocol):
    """Whoever wants to see a sweep go on. Nothing it does changes a result."""

    def note(self, text: str) -> None:
        """Take one line that the user should know."""

    def begin(self, num_trials: int) -> None:
        """Take the number of trainings that begin."""

    def add_trial(self, result: TrialResult) -> None:
        """Take one training."""

    def end(self) -> None:
        """The trainings have ended, however they did."""


@dataclass(frozen=True)
class SweptRun:
    """A finished sweep."""

    directory: RunDirectory
    manifest: Manifest
    config: Config
    answers: dict[Activation, Answer]


class SweepCourse:
    """A sweep under way. What the journal holds is not done again, and comes to the same answer."""

    def __init__(
        self,
        run: RunDirectory,
        manifest: Manifest,
        journal: SweepJournal,
        bench: Workbench,
        engine: Engine,
        access: DataAccess,
        spectator: SweepSpectator,
        ranks: Ranks,
    ) -> None:
        assert journal.request is not None
        assert journal.request.activations is not None
        self._run = run
        self._manifest = manifest
        self._journal = journal
        self._request = journal.request
        self._activations = journal.request.activations
        self._bench = bench
        self._engine = engine
        self._access = access
        self._spectator = spectator
        self._ranks = ranks

    def go(self, started: float) -> SweptRun:
        """Do what is not done yet, and write what it says."""
        try:
            plan = self._plan(started)
            with Crew(self._bench, self._engine, self._access.directory, self._staff(plan), self._ranks) as crew:
                self._train(crew, plan, started)
            return self._finish()
        except InterruptedBySignal as signal:
            self._note_end("interrupted", "interrupted")
            raise InterruptedBySignal(
                f"interrupted; {len(self._journal.results)} trainings are kept. To go on: "
                f"lenet lr-sweep --resume {typed(self._run.path)}",
                signal.exit_code - 128,
            ) from None
        except BaseException as error:
            self._note_end("failed", (str(error) or type(error).__name__).replace(str(self._run.path), self._run.id))
            raise

    def _test_ranges(self, started: float) -> None:
        """Make the range tests; of a small budget they take a quarter at most, but one is made."""
        for seed in RANGE_SEEDS:
            for activation in self._activations:
                if (activation, seed) not in self._journal.ranges:
                    began = time.monotonic()
                    points = run_range_test(self._bench, RangeTest(activation, seed))
                    self._journal.add(RangeTestResult(activation, seed, time.monotonic() - began, tuple(points)))
            budget = self._request.budget_seconds
            if (
                budget is not None
                and (time.monotonic() - started) * (seed + 2) / (seed + 1) > _RANGE_TEST_SHARE * budget
            ):
                return

    def _range_tests(self, activation: Activation) -> list[tuple[RangePoint, ...]]:
        return [test.points for (of, _), test in sorted(self._journal.ranges.items()) if of is activation]

    def _bracket(self, activation: Activation) -> Bracket:
        return find_bracket(self._range_tests(activation), self._bench.guessing_loss)

    def _task(self, activation: Activation) -> Task:
        """Return the region of the rates to begin with."""
        bracket, request = self._bracket(activation), self._request
        low, high = request.min_lr or bracket.low, request.max_lr or bracket.high
        if low >= high:
            raise ConfigError(
                f"the range test of {activation} puts the useful rates between {bracket.low:.2g} and "
                f"{bracket.high:.2g}: give both --min-lr and --max-lr to look elsewhere"
            )
        return Task(activation, low, high, not bracket.has_learned)

    def _plan(self, started: float) -> Plan:
        """Return the plan, which is made once and kept in the journal."""
        if self._journal.plan is not None:
            return self._journal.plan
        self._test_ranges(started)
        training, data, ranges = self._bench.config.training, self._bench.data, self._journal.ranges.values()
        num_images = sum(len(test.points) for test in ranges) * training.batch_size
        here = Circumstances(
            num_train=len(data.train),
            num_val=len(data.val),
            batch_size=training.batch_size,
            max_epochs=training.max_epochs,
            seconds_an_image=sum(test.seconds for test in ranges) / num_images / self._ranks.num_ranks,
            start_seconds=0.0,
        )
        tasks = [self._task(activation) for activation in self._activations]
        plan = make_plan(self._request, tasks, here, self._seconds_left(started))
        if self._staff(plan).num_workers > 1:
            here = replace(here, start_seconds=_WORKER_START_SECONDS)
            plan = make_plan(self._request, tasks, here, self._seconds_left(started))
        self._journal.add(plan)
        self._spectator.note(plan_text(plan))
        return plan

    def _staff(self, plan: Plan) -> Staff:
        num_images = plan.num_epochs * len(self._bench.data.train)
        return Staff.of(self._manifest.threads, plan.num_trials, num_images, self._bench.device, self._ranks)

    def _seconds_left(self, started: float) -> float | None:
        budget = self._request.budget_seconds
        return None if budget is None else budget - (time.monotonic() - started)

    def _train(self, crew: Crew, plan: Plan, started: float) -> None:
        """Train the plan, then what it turns out to lack, round by round; a round that was begun is ended first."""
        trials = [t for each in plan.lrs for t in trials_of(each, plan.lrs[each], plan.seeds, plan.epochs[each])]
        self._run_trials(crew, trials)
        for begun in self._journal.extensions:
            self._run_trials(crew, begun.trials)
        while not self._journal.is_finished:
            lacking = [extension for each in self._activations if (extension := self._lacking(each)) is not None]
            left = self._seconds_left(started)
            seconds = self._seconds_of(sum(len(extension.trials) for extension in lacking), plan)
            if not lacking or (left is not None and seconds > left):
                self._journal.add(Finished())
                return
            for extension in lacking:
                self._journal.add(extension)
                self._spectator.note(extension.reason)
            for extension in lacking:
                self._run_trials(crew, extension.trials)

    def _seconds_of(self, num_trials: int, plan: Plan) -> float:
        """Return how long so many trials will take, by what the journal says of those that are done."""
        seconds_a_trial = mean(result.seconds for result in self._journal.results.values())
        return num_trials * seconds_a_trial / (self._staff(plan).num_workers * self._ranks.num_ranks)

    def _run_trials(self, crew: Crew, trials: Sequence[Trial]) -> None:
        """Train those that are not in the journal."""
        missing = [trial for trial in trials if trial not in self._journal.results]
        self._spectator.begin(len(missing))
        try:
            for result in crew.run(train_trial, missing):
                self._journal.add(result)
                self._spectator.add_trial(result)
        finally:
            self._spectator.end()

    def _lacking(self, activation: Activation) -> Extension | None:
        plan, extensions = self._journal.plan, self._journal.extensions
        assert plan is not None
        if sum(extension.trials[0].activation is activation for extension in extensions) >= _MAX_EXTENSIONS:
            return None
        return extension_of(self._answer(activation).ranking, self._request, plan.seeds)

    def _answer(self, activation: Activation) -> Answer:
        results = sorted(
            (result for trial, result in self._journal.results.items() if trial.activation is activation),
            key=lambda result: (result.trial.lr, result.trial.seed),
        )
        points = [point for points in self._range_tests(activation) for point in points]
        guessing_loss = self._bench.guessing_loss
        exponent = self._bench.exponent(activation)
        choice = choose(results, self._bench.config.training.max_epochs, exponent, guessing_loss)
        return Answer(self._bracket(activation), points, results, rank(results, guessing_loss), choice)

    def _finish(self) -> SweptRun:
        """Write tables, the best configurations and the manifest."""
        run, answers = self._run, {activation: self._answer(activation) for activation in self._activations}
        write_csv(run.path / "range_test.csv", RANGE_COLUMNS, list(range_rows(answers.values())))
        write_csv(run.path / "sweep.csv", SWEEP_COLUMNS, list(sweep_rows(answers.values())))
        chosen = {each: answer.choice for each, answer in answers.items() if answer.choice is not None}
        for activation, choice in chosen.items():
            best = with_rate(self._bench.config, activation, float(f"{choice.lr:.3g}"))
            write_text(run.path / best_name(activation, len(answers)), to_yaml(best))
        tuning = {activation.value: asdict(choice) for activation, choice in chosen.items()}
        self._manifest = self._manifest.model_copy(update={"status": "finished", "message": None, "tuning": tuning})
        run.write_manifest(self._manifest)
        return SweptRun(run, self._manifest, self._bench.config, answers)

    def _note_end(self, status: Status, message: str) -> None:
        """Note, where the disk still allows it, that the sweep came to no end."""
        with suppress(LenetError):  # the first error is the one to report
            self._journal.require_lock()
            self._run.write_manifest(self._manifest.model_copy(update={"status": status, "message": message}))


def best_name(activation: Activation, num_activations: int) -> str:
    """Return the name of the configuration with the best rate."""
    return "best.yaml" if num_activations == 1 else f"best-{activation}.yaml"
