"""What a sweep of learning rates says, in words and in JSON."""

from dataclasses import asdict

from lenet_mnist.config import Activation
from lenet_mnist.experiments.sweep_course import SweptRun, best_name
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.text import aligned, to_json
from lenet_mnist.tuning.horizon import exponent_of, rate_for
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.sweep import Answer, Ranking, RateSummary


def sweep_text(swept: SweptRun) -> str:
    """Say which rates were tried, which is best, how sure that is, and what to do next."""
    blocks = [f"run  {swept.directory.path}"]
    for activation, answer in swept.answers.items():
        blocks += [_table(answer.ranking), "\n".join(_words(swept, activation, answer))]
    return "\n\n".join(blocks)


def sweep_json(swept: SweptRun) -> str:
    """Return the same as JSON."""
    answers = {
        activation.value: {
            "bracket": asdict(answer.bracket),
            "ranking": asdict(answer.ranking),
            "choice": asdict(answer.choice) if answer.choice else None,
            "next": _next_command(swept, activation) if answer.choice else None,
        }
        for activation, answer in swept.answers.items()
    }
    return to_json({"run": str(swept.directory.path), "status": swept.manifest.status, "activations": answers})


def _table(ranking: Ranking) -> str:
    seeds = max(rate.num_trials for rate in ranking.rates)
    header = (f"{ranking.activation}: learning rate", "validation loss", "range of the seeds", "")
    rows = [(f"{rate.lr:.3g}", *_losses(rate), _mark(ranking, rate)) for rate in ranking.rates]
    footer = (
        f"mean over {seeds} {'seed' if seeds == 1 else 'seeds'}, {epochs_text(ranking.epochs)} each, annealed to zero"
    )
    return aligned(header, rows, right=(0, 1, 2)) + "\n" + footer


def _losses(rate: RateSummary) -> tuple[str, str]:
    if rate.low is None or rate.high is None:
        return "diverged", ""
    mean_loss = f"{rate.num_diverged} diverged" if rate.mean_loss is None else f"{rate.mean_loss:.4f}"
    return mean_loss, f"{rate.low:.4f} to {rate.high:.4f}"


def _mark(ranking: Ranking, rate: RateSummary) -> str:
    if rate == ranking.best:
        return "best"
    return "cannot be told from it" if rate.lr in ranking.equals else ""


def _words(swept: SweptRun, activation: Activation, answer: Answer) -> list[str]:
    ranking, choice, max_epochs = answer.ranking, answer.choice, swept.config.training.max_epochs
    if ranking.best is None:
        return ["at every rate a training diverged: look lower, with --max-lr"]
    if choice is None:
        rest = " A sigmoid network rests there at first, whatever the rate." if activation is Activation.SIGMOID else ""
        longer = f"{max(1, round(4 * ranking.epochs))}"
        return [
            f"in {epochs_text(ranking.epochs)} no rate has learned more than to guess.{rest} A longer look may tell: "
            f"--epochs {longer}"
        ]
    lines = [f"best    {ranking.best.lr:.3g} for {epochs_text(ranking.epochs)}; {_certainty(ranking)}"]
    if ranking.is_at_lower_edge or ranking.is_at_upper_edge:
        edge, end, factor = ("smallest", "--min-lr", 0.1) if ranking.is_at_lower_edge else ("largest", "--max-lr", 10)
        lines.append(f"edge    it is the {edge} rate that was tried: extend to {end} {ranking.best.lr * factor:.2g}")
    sure = f"about 95 % sure: {choice.low:.2g} to {choice.high:.2g}" if choice.is_fitted else "by the lowest loss alone"
    lines.append(f"chosen  {choice.lr:.3g} for the {epochs_text(max_epochs)} of a whole training ({sure})")
    shift = rate_for(1.0, ranking.epochs, max_epochs, exponent_of(swept.config, activation))
    if not 0.8 < shift < 1.25:
        direction = "higher" if shift > 1 else "lower"
        lines.append(f"        {shift:.2g} times the best of short schedules: longer ones want {direction} rates here")
    lines.append(f"next    {_next_command(swept, activation)}")
    return lines


def _certainty(ranking: Ranking) -> str:
    others = [f"{lr:.3g}" for lr in ranking.equals if ranking.best is not None and lr != ranking.best.lr]
    told = f"{' and '.join(others)} cannot be told from it" if others else "no other rate is as good"
    return f"{told} (seeds scatter by {ranking.noise:.0%})"


def _next_command(swept: SweptRun, activation: Activation) -> str:
    return f"lenet train --config {typed(swept.directory.path / best_name(activation, len(swept.answers)))}"
