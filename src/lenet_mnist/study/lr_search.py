"""The search of `learning_rate: auto`, before a training: its trials in a pool, its course in words."""

from collections.abc import Iterator, Sequence

from lenet_mnist.config import Config
from lenet_mnist.study.workers import PoolSize, TrialPool
from lenet_mnist.training.context import Context, Session
from lenet_mnist.tuning.auto import Decision, Search, decide_rate
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.trial import Trial, TrialResult, compared_schedule, train_trial


def search_rate(config: Config, context: Context, session: Session) -> Decision:
    """Search for the learning rate of a configuration that leaves it open, and report what is found on the way."""
    training, num_images, note = config.training, len(context.data.train), context.progress.note
    budget = Search.of(training, num_images).budget
    note(f"learning_rate auto: a search of at most {epochs_text(budget)}, by the validation loss")
    size = PoolSize.of(context, num_items=3, num_images=budget * num_images)
    with TrialPool(config, context, session.access.directory, size) as pool:

        def run_trials(trials: Sequence[Trial]) -> Iterator[TrialResult]:
            for result in pool.run(train_trial, trials):
                ended = "diverged" if result.val_loss is None else f"val loss {result.val_loss:.4f}"
                note(f"  lr {result.trial.lr:<8.3g}  {epochs_text(result.trial.epochs)}  {ended}")
                yield result

        decision = decide_rate(config, context, run_trials)
    sure = f"about 95 % sure: {decision.low:.2g} to {decision.high:.2g}" if decision.is_fitted else "not sure"
    if compared_schedule(config) is not training.schedule:
        sure = f"not sure: searched with schedule {compared_schedule(config)}, not {training.schedule}"
    note(
        f"learning_rate auto: {decision.lr:.3g} for {epochs_text(training.max_epochs)} ({sure}), found in "
        f"{decision.cost_epochs:.1f}, and scaled to that length (docs/learning-rate.md)"
    )
    return decision
