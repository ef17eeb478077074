"""What the scripts share: measurements kept in a journal, one training, interleaved timings, tables."""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from rich.console import Console

from lenet_mnist.cli.flags import DEFAULT_DATA_DIR
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import set_threads
from lenet_mnist.files.tables import Journal
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.reporting.terminal import FetchProgress, TerminalProgress
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.loop import TrainResult, train
from lenet_mnist.training.state import TrainState

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
Item = TypeVar("Item")


def arguments_parser(documentation: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)


def data_access() -> DataAccess:
    """Return where the commands look for MNIST, too."""
    directory = Path(os.environ.get("LENET_DATA_DIR", DEFAULT_DATA_DIR))
    return DataAccess(directory, offline=False, progress=FetchProgress(Console(stderr=True)))


def session() -> Session:
    return Session(data_access(), TerminalProgress(Console(stderr=True)))


def recipe(name: str, **changes: Any) -> Config:
    """Return configs/<name>.yaml with other values, named as in `training__learning_rate`."""
    config = load_config(ROOT / "configs" / f"{name}.yaml").config
    return config.replace({key.replace("__", "."): value for key, value in changes.items()})


@lru_cache(maxsize=4)
def data_of(config: DataConfig) -> TrainVal:
    return load_train_val(config, data_access())


def context_of(config: Config) -> Context:
    """Return what a training of `config` on the CPU is given; the threads stay as they are."""
    data = data_of(config.data)
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size, activation=config.model.activation)
    return Context(data, engine=engine)


def trained(config: Config, context: Context | None = None) -> tuple[TrainState, TrainResult]:
    """Train, and record nothing on disk: the rows are in the state."""
    context = context or context_of(config)
    state = TrainState.start(config, context)
    return state, train(config, context, state)


def key_of(item: Any) -> Any:
    """Return the key of an item in a journal: its `key`, a whole configuration, or the item itself."""
    return item.model_dump(mode="json") if isinstance(item, Config) else getattr(item, "key", item)


def comparable(key: Any) -> Any:
    """Return a key as it is compared: a configuration has the defaults of options that are newer than itself."""
    if isinstance(key, dict):
        is_config = {"model", "training"} <= key.keys()
        return key_of(Config.model_validate(key)) if is_config else {k: comparable(each) for k, each in key.items()}
    return key


def results(
    path: Path | None,
    items: Iterable[Item],
    task: Callable[[Item], Any] | None,
    key: Callable[[Item], Any] = key_of,
    max_workers: int | None = None,
) -> dict[Item, Any]:
    """Return, by item, what the journal at `path` holds, after `task`, if there is one, has made what it lacks.

    Items are run in a process per core, of one thread each, or in `max_workers` that share the threads. Interrupted,
    start again to resume; without a `path` nothing is kept.
    """

    def text_of(item: Item) -> str:
        return json.dumps(comparable(key(item)), sort_keys=True)

    items = list(dict.fromkeys(items))
    journal = Journal(path) if path is not None else None
    documents = journal.documents() if journal is not None else ()
    kept = {json.dumps(comparable(entry["key"]), sort_keys=True): entry["value"] for entry in documents}
    missing = [item for item in items if text_of(item) not in kept] if task is not None else []
    if missing:
        threads = set_threads(None)
        workers, spawn = max_workers or threads, multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, set_threads, (threads // workers,)) as pool:
            begun = {pool.submit(task, item): item for item in missing}
            try:
                for number, future in enumerate(as_completed(begun), start=1):
                    item = begun[future]
                    kept[text_of(item)] = future.result()
                    if journal is not None:
                        journal.add({"key": key(item), "value": future.result()})
                    print(f"{number} of {len(missing)}: {text_of(item)[:150]}", flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {item: kept[text_of(item)] for item in items if text_of(item) in kept}


def timed(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each variant: all in turn, once per round, so that a busy machine disturbs all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(seconds: Sequence[float], unit: float = 1.0, form: str = ".2f") -> str:
    """Write the median and the range, in units of so many seconds."""
    return " ".join(
        (f"{median(seconds) / unit:{form}}", f"({min(seconds) / unit:{form}} to {max(seconds) / unit:{form}})")
    )


def compare(title: str, variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time the variants in turn, and print each median in ms, its range, and its ratio to the first."""
    seconds = timed(variants, rounds)
    first = median(next(iter(seconds.values())))
    print(f"\n{title}", flush=True)
    for name, times in seconds.items():
        print(f"  {name:32} {spread(times, 1e-3, '.3f'):32} ms  x {median(times) / first:.3g}", flush=True)
    return seconds


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
