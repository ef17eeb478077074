"""One sweep on disk, begun or resumed: what `lenet lr-sweep` does. (`learning_rate: auto` is tuning/auto.py.)

configuration -> range tests -> plan -> trials, each into journal.jsonl as it ends -> tables and best.yaml in runs/<id>
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from lenet_mnist.config import Activation, Config, Engine
from lenet_mnist.config_file import ResolvedConfig, to_yaml
from lenet_mnist.errors import ConfigError, DivergedError
from lenet_mnist.files.storage import write_text
from lenet_mnist.files.tables import write_csv
from lenet_mnist.runs.run import Run
from lenet_mnist.study.study import Study, StudyKind, study_under_way
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.workers import PoolSize
from lenet_mnist.tuning.best_rate import Choice, Ranking, choose, exponent_of, rank
from lenet_mnist.tuning.plan import CostModel, Extension, Plan, SweepRequest, extension_of, make_plan
from lenet_mnist.tuning.trial import Bracket, RangeTest, TrialResult, compared_schedule, train_trial, with_rate

RANGE_SEEDS = (0, 1, 2)
_WORKER_START_SECONDS = 5.0
_MAX_EXTENSIONS = 2  # of each activation
_RANGE_TEST_SHARE = 0.25  # of a budget
_RANGE_COLUMNS = ("activation", "seed", "lr", "train_loss")
_SWEEP_COLUMNS = ("activation", "lr", "seed", "epochs", "epoch", "train_loss", "val_loss", "val_accuracy", "diverged")


@dataclass(frozen=True)
class Finished:
    """Nothing is missing any more."""


@dataclass(frozen=True)
class Answer:
    """What a sweep says of one activation. `choice` is the rate for the whole training, None if nothing has learned."""

    bracket: Bracket
    range_tests: list[RangeTest]
    results: list[TrialResult]
    ranking: Ranking
    choice: Choice | None


@dataclass(frozen=True)
class SweptRun:
    """A finished sweep."""

    directory: Run
    answers: dict[Activation, Answer]


def sweep(place: Path | Run, wanted: ResolvedConfig, request: SweepRequest, session: Session) -> SweptRun:
    """Sweep into a new directory in `place`, or resume the sweep that `place` is.

    Raises: as `study_under_way`; ConfigError if the plan does not fit the budget.
    """
    started = time.monotonic()
    with study_under_way(SWEEP, place, wanted, vars(request), session) as study:
        journal = study.journal
        if not journal.of(Plan):
            _test_ranges(study, started)
            journal.add(_make_plan(study, started))
            session.progress.note(str(journal.of(Plan)[0]))
        (plan,) = journal.of(Plan)
        size = _pool_size(study, plan)
        with study.pool(study.config.replace({"model.activation": journal.request.activations[0]}), size) as pool:
            while True:
                trials = [*plan.trials, *(trial for begun in journal.of(Extension) for trial in begun.trials)]
                study.run_trials(pool, train_trial, trials, _trial_line)
                if journal.of(Finished):
                    break
                extensions = _extensions(study, plan)
                num_more = sum(len(extension.trials) for extension in extensions)
                num_workers = size.num_workers * study.context.ranks.num_ranks
                seconds = mean(each.seconds for each in journal.of(TrialResult)) * num_more / num_workers
                if num_more == 0 or seconds > _seconds_left(study, started):
                    journal.add(Finished())
                    break
                for extension in extensions:
                    journal.add(extension)
                    session.progress.note(extension.reason)
        return _finish(study)


def require_answers(swept: SweptRun) -> None:
    """Raise DivergedError if some activation diverged at every rate, ConfigError if none learned anything at any."""
    path = swept.directory.path
    for activation, answer in swept.answers.items():
        if answer.ranking.best is None:
            hint = "try smaller ones (--max-lr or --lrs)"
            raise DivergedError(f"{path}: {activation}: training diverged at every rate: {hint}")
    if all(answer.choice is None for answer in swept.answers.values()):
        raise ConfigError(f"{path}: no rate learned anything: give more --epochs or higher rates (--min-lr or --lrs)")


def _contexts(config: Config, request: SweepRequest, session: Session) -> tuple[Context, Context]:
    """Return the context of all trials, twice; it takes torch's engine if one of the activations needs it."""
    if config.training.teachers:
        raise ConfigError("a sweep trains without teachers: leave them out", key="training.teachers")
    schedule = compared_schedule(config)
    if schedule is not config.training.schedule:
        session.progress.note(
            f"rates are compared with schedule {schedule}, in best.yaml too: {config.training.schedule} does not fall "
            "by itself, and may want another rate"
        )
    contexts = [session.context(config.replace({"model.activation": each})) for each in request.activations or ()]
    context = next((each for each in contexts if each.engine.name is Engine.TORCH), contexts[0])
    return context, context


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
    defaults=lambda config: {"activations": (config.model.activation,)},
    contexts=_contexts,
)


def _test_ranges(study: Study, started: float) -> None:
    """Run the range tests; of a small budget they take a quarter at most, but one is run."""
    request, journal = study.journal.request, study.journal
    done = {(test.activation, test.seed) for test in journal.of(RangeTest)}
    for seed in RANGE_SEEDS:
        for activation in request.activations:
            if (activation, seed) not in done:
                journal.add(RangeTest.run(study.config, study.context, activation, seed))
        spent = time.monotonic() - started
        if spent * (seed + 2) / (seed + 1) > _RANGE_TEST_SHARE * (request.budget_seconds or math.inf):
            return


def _make_plan(study: Study, started: float) -> Plan:
    request, training, context = study.journal.request, study.config.training, study.context
    tests = study.journal.of(RangeTest)
    num_images = sum(len(test.points) for test in tests) * training.batch_size
    cost = CostModel(
        num_train=len(context.data.train),
        num_val=len(context.data.val),
        batch_size=training.batch_size,
        max_epochs=training.max_epochs,
        seconds_per_image=sum(test.seconds for test in tests) / num_images / context.ranks.num_ranks,
    )
    brackets = {each: Bracket.of(_range_tests(study, each), context.guessing_loss) for each in request.activations}
    plan = make_plan(request, brackets, cost, _seconds_left(study, started))
    if _pool_size(study, plan).num_workers > 1:
        cost = replace(cost, start_seconds=_WORKER_START_SECONDS)
        plan = make_plan(request, brackets, cost, _seconds_left(study, started))
    return plan


def _pool_size(study: Study, plan: Plan) -> PoolSize:
    num_epochs = sum(trial.epochs for trial in plan.trials)
    return PoolSize.of(study.context, len(plan.trials), num_epochs * len(study.context.data.train))


def _seconds_left(study: Study, started: float) -> float:
    """Return what remains of the budget, which is infinite if there is none."""
    return (study.journal.request.budget_seconds or math.inf) - (time.monotonic() - started)


def _range_tests(study: Study, activation: Activation) -> list[RangeTest]:
    return [test for test in study.journal.of(RangeTest) if test.activation is activation]


def _extensions(study: Study, plan: Plan) -> list[Extension]:
    """Return what the sweep lacks: for each activation at most twice."""
    journal = study.journal
    begun = [extension.trials[0].activation for extension in journal.of(Extension)]
    open_ones = [each for each in journal.request.activations if begun.count(each) < _MAX_EXTENSIONS]
    found = [extension_of(_answer(study, each).ranking, journal.request, plan.seeds) for each in open_ones]
    return [extension for extension in found if extension is not None]


def _answer(study: Study, activation: Activation) -> Answer:
    results = [result for trial, result in study.journal.results.items() if trial.activation is activation]
    results.sort(key=lambda result: (result.trial.lr, result.trial.seed))
    guessing_loss = study.context.guessing_loss
    choice = choose(results, study.config.training.max_epochs, exponent_of(study.config, activation), guessing_loss)
    tests = _range_tests(study, activation)
    return Answer(Bracket.of(tests, guessing_loss), tests, results, rank(results, guessing_loss), choice)


def _finish(study: Study) -> SweptRun:
    """Write tables, the best configurations and the manifest."""
    path, answers = study.run.path, {each: _answer(study, each) for each in study.journal.request.activations}
    points = [point for answer in answers.values() for test in answer.range_tests for point in test.points]
    write_csv(path / "range_test.csv", _RANGE_COLUMNS, list(map(astuple, points)))
    write_csv(path / "sweep.csv", _SWEEP_COLUMNS, list(_sweep_rows(answers)))
    chosen = {each: answer.choice for each, answer in answers.items() if answer.choice is not None}
    for activation, choice in chosen.items():
        best = with_rate(study.config, activation, float(f"{choice.lr:.3g}"))
        write_text(path / best_name(activation, len(answers)), to_yaml(best))
    tuning = {activation.value: asdict(choice) for activation, choice in chosen.items()}
    study.run.note(status="finished", message=None, tuning=tuning)
    return SweptRun(study.run, answers)


def best_name(activation: Activation, num_activations: int) -> str:
    """Return the name of the configuration with the best rate."""
    return "best.yaml" if num_activations == 1 else f"best-{activation}.yaml"


def _trial_line(result: TrialResult) -> str:
    trial = result.trial
    ended = "diverged"
    if result.val_loss is not None:
        ended = f"val loss {result.val_loss:.4f}  val accuracy {result.val_accuracy:.2%}"
    return f"{trial.activation}  lr {trial.lr:<8.3g}  seed {trial.seed}  {ended}  {result.seconds:.1f} s"


def _sweep_rows(answers: Mapping[Activation, Answer]) -> Iterator[tuple[Any, ...]]:
    """Yield every rate, seed and epoch; where training diverged, a row without losses."""
    for answer in answers.values():
        for result in answer.results:
            trial = result.trial
            head = (trial.activation.value, trial.lr, trial.seed, trial.epochs)
            for row in result.history:
                yield (*head, row.epoch, row.train_loss, row.val_loss, row.val_accuracy, 0)
            if result.val_loss is None:
                yield (*head, len(result.history) + 1, "", "", "", 1)
