"""What the figures of docs/accuracy.md are worth: peeking at the test set, and images that nobody reads.

    python scripts/measure_accuracy.py peeking mistakes

- peeking: networks of configs/relu.yaml and configs/accurate.yaml, ten seeds each, are counted on the test images after
  every epoch. How much better would they look if the epoch were chosen there, instead of on the validation images?
- mistakes: the test images that most of the twenty networks of configs/accurate.yaml (scripts/record.py) get wrong,
  drawn into docs/mistakes.png, and which of them have a label that people found wrong

Finished trainings are kept in docs/accuracy.jsonl: start again to go on.
"""

import argparse
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch

import record
from common import ROOT, Journal, data_access, in_workers
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.config_file import load_config
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.sets import TestSet, TrainVal
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.reporting.gallery import Tile, tiles_figure
from lenet_mnist.reporting.style import save_figure
from lenet_mnist.reporting.text import aligned
from lenet_mnist.tally import count
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

PEEKED = ("relu.yaml", "accurate.yaml")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["peeking", "mistakes"])
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "accuracy.jsonl")
    arguments = parser.parse_args()
    if "peeking" in arguments.parts:
        peeking(Journal(arguments.journal))
    if "mistakes" in arguments.parts:
        mistakes(Journal(ROOT / "docs" / "record.jsonl"))


def peeking(journal: Journal) -> None:
    """Print what each recipe reaches, by the epoch that the validation images choose, the last, and the luckiest."""
    configs = {
        name: [load_config(ROOT / "configs" / name).config.model_copy(update={"seed": seed}) for seed in SEEDS]
        for name in PEEKED
    }
    missing = [config for each in configs.values() for config in each if journal.get(key_of(config)) is None]
    for config, epochs in in_workers(watched, missing):
        journal.add(key_of(config), epochs)
    rows = []
    for name, each in configs.items():
        histories = [journal.get(key_of(config)) for config in each]
        chosen, last, luckiest = [], [], []
        for history in histories:
            assert history is not None, "all were trained above"
            test = [right / 10_000 for right in history["test_correct"]]
            chosen.append(test[min(range(len(test)), key=history["val_loss"].__getitem__)])
            last.append(test[-1])
            luckiest.append(max(test))
        gains = [lucky - fair for lucky, fair in zip(luckiest, chosen, strict=True)]
        gain = mean_interval(gains)
        rows.append(
            (
                f"configs/{name}, {len(chosen)} seeds",
                *(f"{mean(values):.3%} ± {stdev(values):.3%}" for values in (chosen, last, luckiest)),
                f"{100 * mean(gains):.3f} ({100 * gain.low:.3f} to {100 * gain.high:.3f})",
                f"{max(luckiest):.2%}",
            )
        )
    columns = ("recipe", "validation chooses", "last epoch", "test set chooses", "gain in points", "luckiest seed")
    print(aligned(columns, rows))


def key_of(config: Config) -> dict[str, Any]:
    return {"peeking": config.model_dump(mode="json")}


@cache
def data_of(config: DataConfig) -> tuple[TrainVal, TestSet]:
    access = data_access()
    return load_train_val(config, access), load_test(config, access)


def watched(config: Config) -> dict[str, list[float]]:
    """Train as `lenet train` would, and count on the test images after each epoch; nothing is chosen by that."""
    (data, test), cpu = data_of(config.data), torch.device("cpu")
    engine = resolve_engine(config.training.engine, cpu, data.train.image_size).network
    state = TrainState.start(config, Context(data, engine=engine))
    test_batches = evaluation_batches(test, data.normalization, cpu)
    epochs: dict[str, list[float]] = {"val_loss": [], "test_correct": []}

    def on_epoch(row: EpochRow) -> None:
        epochs["val_loss"].append(row.val_loss)
        epochs["test_correct"].append(count(state.network, test_batches).num_correct)

    train(config, Context(data), state, on_epoch=on_epoch)
    return epochs


def mistakes(journal: Journal) -> None:
    """Draw the test images that more than half of the networks get wrong, and say which labels are at fault."""
    networks = journal.get(record.key_of(record.KINDS["teachers"]))
    assert networks is not None, "python scripts/record.py teachers comes first"
    test = load_test(Config().data, data_access())
    for index, votes in LABEL_ERRORS.items():
        assert test.labels[index] == votes.label, "the votes are for these images in this order"
    read_as: dict[int, Counter[int]] = {}
    for network in networks["mistakes"]:
        for index, prediction in network:
            read_as.setdefault(index, Counter())[prediction] += 1
    num_networks = len(networks["mistakes"])
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
    found = sorted(set(missed) & LABEL_ERRORS.keys())
    by_all = sum(answers.total() == num_networks for answers in read_as.values())
    print(
        f"{len(missed)} of 10,000 images are missed by more than half, {len(read_as)} by some network, {by_all} by all"
    )
    print(f"{len(found)} of the {len(LABEL_ERRORS)} known label errors are among them: {found}")
    cost = sum(read_as[index].total() for index in LABEL_ERRORS if index in read_as) / num_networks / len(test)
    print(f"all of the known errors together cost a network {100 * cost:.2f} points")
    print(f"not among them: {sorted(LABEL_ERRORS.keys() - set(found))}")


if __name__ == "__main__":
    main()
