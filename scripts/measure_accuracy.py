"""What the figures of docs/accuracy.md are worth: peeking at the test set, and images that nobody can read.

    python scripts/measure_accuracy.py peeking mistakes

- peeking: configs/relu.yaml and configs/accurate.yaml, ten seeds each, with the test accuracy after each epoch. How
  much better would they look if the test set chose the epoch, instead of the validation set?
- mistakes: the test images that most of the twenty networks of configs/accurate.yaml (scripts/record.py) misclassify,
  drawn into docs/mistakes.png, and which of them are labelled wrongly

Finished trainings are kept in docs/accuracy.jsonl: start again to resume.
"""

from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import record
from common import CPU, ROOT, arguments_parser, context_of, data_access, recipe, results
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.load import load_test
from lenet_mnist.data.sets import TestSet
from lenet_mnist.reporting.gallery import Tile, tiles_figure
from lenet_mnist.reporting.style import save_figure
from lenet_mnist.reporting.text import aligned
from lenet_mnist.tally import count
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

PEEKED = ("relu", "accurate")
SEEDS = range(100, 110)


class Votes(NamedTuple):
    """What five people saw in a test image: the label, what a program took it for (`other`), or neither."""

    label: int
    other: int
    for_label: int
    for_other: int


# Those images of whose label fewer than three of the five said that it is right. Source: Northcutt, Athalye, Mueller,
# "Pervasive label errors in test sets destabilize machine learning benchmarks", NeurIPS 2021 (datasets and benchmarks);
# the votes are in mturk/mnist_mturk.json of github.com/cleanlab/label-errors.
LABEL_ERRORS = {
    947: Votes(8, 9, 0, 5),
    1621: Votes(0, 6, 2, 3),
    1901: Votes(9, 4, 2, 3),
    2130: Votes(4, 9, 2, 2),
    2462: Votes(2, 0, 0, 4),
    2597: Votes(5, 3, 0, 4),
    2654: Votes(6, 1, 0, 2),
    3520: Votes(6, 4, 2, 0),
    3558: Votes(5, 0, 1, 4),
    5937: Votes(5, 3, 1, 3),
    6651: Votes(0, 6, 0, 5),
    6783: Votes(1, 6, 2, 3),
    8527: Votes(4, 9, 2, 2),
    9679: Votes(6, 3, 2, 0),
    9729: Votes(5, 6, 2, 3),
}


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=["peeking", "mistakes"])
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "accuracy.jsonl")
    options = parser.parse_args()
    if "peeking" in options.parts:
        peeking(options.journal)
    if "mistakes" in options.parts:
        mistakes()


def peeking(journal: Path) -> None:
    """Print what each recipe reaches at the epoch that the validation set chooses, at the last, and at the luckiest."""
    configs = {name: [recipe(name, seed=seed) for seed in SEEDS] for name in PEEKED}
    found = results(journal, [config for each in configs.values() for config in each], watched, key_of_peeking)
    rows = []
    for name, each in configs.items():
        histories = [(found[config]["val_loss"], found[config]["test_correct"]) for config in each]
        chosen = [correct[losses.index(min(losses))] / 10_000 for losses, correct in histories]
        last = [correct[-1] / 10_000 for _, correct in histories]
        luckiest = [max(correct) / 10_000 for _, correct in histories]
        gains = [lucky - fair for lucky, fair in zip(luckiest, chosen, strict=True)]
        gain = mean_interval(gains)
        rows.append(
            (
                f"configs/{name}.yaml, {len(chosen)} seeds",
                *(f"{mean(values):.3%} ± {stdev(values):.3%}" for values in (chosen, last, luckiest)),
                f"{100 * mean(gains):.3f} ({100 * gain.low:.3f} to {100 * gain.high:.3f})",
                f"{max(luckiest):.2%}",
            )
        )
    columns = ("recipe", "validation chooses", "last epoch", "test set chooses", "gain in points", "luckiest seed")
    print(aligned(columns, rows))


def key_of_peeking(config: Config) -> Any:
    return {"peeking": config.model_dump(mode="json")}


@cache
def test_of(config: DataConfig) -> TestSet:
    return load_test(config, data_access())


def watched(config: Config) -> dict[str, list[float]]:
    """Train as `lenet train` would, and count on the test images after each epoch; nothing is chosen by that."""
    context = context_of(config)
    state = TrainState.start(config, context)
    test_batches = evaluation_batches(test_of(config.data), context.data.normalization, CPU)
    epochs: dict[str, list[float]] = {"val_loss": [], "test_correct": []}

    def on_epoch(row: EpochRow) -> None:
        epochs["val_loss"].append(row.val_loss)
        epochs["test_correct"].append(count(state.network, test_batches).num_correct)

    train(config, context, state, on_epoch=on_epoch)
    return epochs


def mistakes() -> None:
    """Draw the test images that more than half of the networks misclassify, and say whose label is wrong."""
    found = results(record.JOURNAL, [record.KINDS["teachers"]], None)
    assert found, "python scripts/record.py teachers comes first"
    networks = found[record.KINDS["teachers"]]["mistakes"]
    test = load_test(Config().data, data_access())
    for index, votes in LABEL_ERRORS.items():
        assert test.labels[index] == votes.label, "the votes are for these images in this order"
    read_as: dict[int, Counter[int]] = {}
    for network in networks:
        for index, prediction in network:
            read_as.setdefault(index, Counter())[prediction] += 1
    num_networks = len(networks)
    missed = sorted((index for index, answers in read_as.items() if answers.total() > num_networks / 2))
    missed.sort(key=lambda index: -read_as[index].total())
    tiles = []
    for index in missed:
        (answer, _), wrong = read_as[index].most_common(1)[0], read_as[index].total()
        fault = f"\n{LABEL_ERRORS[index].for_label} of 5 agree" if index in LABEL_ERRORS else ""
        caption = f"{test.labels[index]} read as {answer}\nby {wrong} of {num_networks}{fault}"
        tiles.append(Tile(test.images[index].numpy(), caption, f"#{index}"))
    title = f"Test images that more than half of {num_networks} networks get wrong"
    save_figure(tiles_figure(tiles, title, if_none="there is none"), ROOT / "docs" / "mistakes.png")
    known = sorted(set(missed) & LABEL_ERRORS.keys())
    by_all = sum(answers.total() == num_networks for answers in read_as.values())
    print(
        f"{len(missed)} of 10,000 images are missed by more than half, {len(read_as)} by some network, {by_all} by all"
    )
    print(f"{len(known)} of the {len(LABEL_ERRORS)} known label errors are among them: {known}")
    cost = sum(read_as[index].total() for index in LABEL_ERRORS if index in read_as) / num_networks / len(test)
    print(f"all of the known errors together cost a network {100 * cost:.2f} points")
    print(f"not among them: {sorted(LABEL_ERRORS.keys() - set(known))}")


if __name__ == "__main__":
    main()
