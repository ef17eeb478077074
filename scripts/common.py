"""What the scripts share: configurations, trainings, results in a journal, times taken in turn, tables.

Each script takes --small: a few images, epochs, seeds and rounds, and a journal of its own, to see that it runs.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, NamedTuple, TypeVar

import torch

from lenet_mnist.config import Config, DataConfig
from lenet_mnist.config_file import load_config
from lenet_mnist.cores import THREADS
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import set_threads
from lenet_mnist.files.tables import Journal
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.options import Places
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.state import TrainState

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SMALL = "--small" in sys.argv  # in worker processes too: they are given the same words
Item = TypeVar("Item")


def arguments(documentation: str | None, parts: Iterable[str] = (), journal: str = "") -> argparse.ArgumentParser:
    """Return a parser of --small, and of what is named: the parts of a script, and where its journal is."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few images, epochs and seeds, to try the script")
    if parts := list(parts):
        parser.add_argument("parts", nargs="+", choices=parts)
    if journal:
        path = ROOT / (f"build/small/{Path(journal).name}" if SMALL else journal)
        parser.add_argument("--journal", type=Path, default=path, help=f"of finished trainings (default: {journal})")
        if SMALL:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
    return parser


def few(values: Sequence[Item]) -> Sequence[Item]:
    """Return all values, or with --small the first two."""
    return values[:2] if SMALL else values


def data_access() -> DataAccess:
    """Return where the commands look for MNIST, too."""
    return Places.taken_from({}).access()


def recipe(file: str | None, **changes: Any) -> Config:
    """Return configs/<file>.yaml, or the defaults, with other values, named as in `training__learning_rate`."""
    config = Config() if file is None else load_config(ROOT / "configs" / f"{file}.yaml").config
    config = config.replace({key.replace("__", "."): value for key, value in changes.items()})
    if SMALL:
        data, training = config.data, config.training
        config = config.replace(
            {
                "data.limit_train": min(data.limit_train or 640, 640),
                "data.val_size": min(data.val_size, 500),
                "training.max_epochs": min(training.max_epochs, 2),
                "training.teachers": [name for name in training.teachers if name.endswith(("-0", "-1"))],
            }
        )
    return config


@lru_cache(maxsize=4)
def data_of(config: DataConfig) -> TrainVal:
    return load_train_val(config, data_access())


def context_of(config: Config) -> Context:
    """Return what a training of `config` on the CPU is given, and set the threads."""
    data = data_of(config.data)
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size, activation=config.model.activation)
    return Context(data, engine=engine, threads=set_threads(config.training.threads, engine))


class Trained(NamedTuple):
    """A finished training."""

    state: TrainState
    stop_reason: str


def trained(
    config: Config,
    context: Context | None = None,
    watch: Callable[[TrainState], object] = lambda _: None,
    on_step: Callable[[TrainState, StepRow], object] = lambda *_: None,
) -> Trained:
    """Train, and record nothing on disk. `watch` is called before the first update, and after each epoch."""
    context = context or context_of(config)
    state = TrainState.start(config, context)
    watch(state)

    def after_step(row: StepRow) -> bool:
        on_step(state, row)
        return False

    result = train(config, context, state, after_step, lambda _: watch(state))
    return Trained(state, result.stop_reason.value)


def lenet(*words: object) -> str:
    """Run a command in a process of its own, and return what it prints. Raises: CalledProcessError."""
    command = [sys.executable, "-m", "lenet_mnist", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def key_of(item: Any) -> Any:
    """Return the key of an item in a journal: a whole configuration, its `key`, or the item itself."""
    return item.model_dump(mode="json") if isinstance(item, Config) else getattr(item, "key", item)


def comparable(key: Any) -> Any:
    """Return a key as it is compared: a configuration has the defaults of options that are newer than itself."""
    if isinstance(key, dict):
        is_config = {"model", "training"} <= key.keys()
        return key_of(Config.model_validate(key)) if is_config else {k: comparable(each) for k, each in key.items()}
    return key


def results(
    journal_path: Path | None, items: Iterable[Item], task: Callable[[Item], Any] | None, max_workers: int | None = None
) -> dict[Item, Any]:
    """Return, by item, what the journal holds, after `task`, if there is one, has made what it lacks.

    Items are run in a process per core, of one thread each, or in `max_workers` that share the threads. Interrupted,
    start again to resume; without a journal nothing is kept.
    """

    def text_of(key: Any) -> str:
        return json.dumps(comparable(key), sort_keys=True)

    items = list(dict.fromkeys(items))
    texts = {item: text_of(key_of(item)) for item in items}
    journal = Journal(journal_path) if journal_path is not None else None
    kept = {text_of(entry["key"]): entry["value"] for entry in (journal.documents() if journal else ())}
    missing = [item for item in items if texts[item] not in kept] if task is not None else []
    if missing:
        workers = max_workers or THREADS
        os.environ["OMP_NUM_THREADS"] = str(max(1, THREADS // workers))  # of each worker
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            begun = {pool.submit(task, item): item for item in missing}
            try:
                for number, future in enumerate(as_completed(begun), start=1):
                    item = begun[future]
                    kept[texts[item]] = future.result()
                    if journal is not None:
                        journal.add({"key": key_of(item), "value": future.result()})
                    print(f"{number} of {len(missing)}: {texts[item][:150]}", file=sys.stderr, flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {item: kept[text] for item, text in texts.items() if text in kept}


def compare(title: str, variants: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Run all variants in turn, once per round, and print the median of each, its range and its ratio to the first.

    In turn, so that a busy machine disturbs all alike; the ratio is the median of those within a round. A variant that
    returns a list of seconds, or such lists by the names of its parts, has measured itself.
    """
    seconds: dict[str, list[list[float]]] = {}  # by name and round
    for _ in range(min(rounds, 2) if SMALL else rounds):
        for name, variant in variants.items():
            started = time.perf_counter()
            measured = variant()
            took = time.perf_counter() - started
            parts = measured if isinstance(measured, dict) else {name: measured}
            for part, value in parts.items():
                seconds.setdefault(part, []).append(value if isinstance(value, list) else [took])
    first = next(iter(seconds.values()))
    rows = []
    for name, by_round in seconds.items():
        times = [each for one in by_round for each in one]
        ratio = median(median(one) / median(base) for one, base in zip(by_round, first, strict=True))
        span = f"{min(times):.3g} to {max(times):.3g}"
        rows.append((name, f"{median(times):.3g}", span, f"{ratio:.3g}"))
    print(f"\n{title}\n\n{table(('variant', 's', 'range', 'ratio to the first'), rows)}", flush=True)


def plus_minus(values: Sequence[float], form: str = ".3%") -> str:
    """Write the mean and the standard deviation."""
    return f"{fmean(values):{form}} ± {stdev(values) if len(values) > 1 else 0:{form}}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
