"""`lenet bench`: how fast this machine trains, engine by engine, and where the time goes.

Every figure is made by the functions that train and evaluate, on real training images, all in turn in one process:
medians of several rounds, with their range.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from lenet_mnist import provenance
from lenet_mnist.config import Config, Engine
from lenet_mnist.data.batches import TrainBatches, evaluation_batches
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.engines import TORCH, ResolvedEngine, resolve_engine
from lenet_mnist.model.lenet import layer_table
from lenet_mnist.progress import Progress
from lenet_mnist.reporting.text import Result
from lenet_mnist.tally import count
from lenet_mnist.training import updates
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

_IMAGES_PER_ROUND = 4_096
_EVALUATED = 10_000
_PEAK_ROUNDS = 10_000_000  # of lenet_peak in native/lenet.c
_LEARNING_RATE = 0.01


def run_benchmark(config: Config, batch_sizes: Sequence[int], access: DataAccess, rounds: int = 11) -> Result:
    """Measure the engines that there are, on real training images. Raises: ConfigError for too large batches.

    Times are in seconds, the peak in float32 operations per second, None without the native engine; `peak_share` is
    what an update reaches of it.
    """
    context, note = Session(access).context(config), access.progress.note
    num_images, resolved = len(context.data.train), context.engine
    if max(batch_sizes) > num_images:
        raise ConfigError(f"--batch-size {max(batch_sizes)}: there are {num_images:,} training images")
    engines = [TORCH] if resolved.name is Engine.TORCH else [TORCH, resolved]
    names, sizes = ", ".join(engine.name for engine in engines), " and ".join(map(str, batch_sizes))
    note(f"measuring {names}: updates of {sizes} images each, and evaluations")
    peak = _measure_peak(resolved, context.threads, rounds)
    arms = [
        _Arm(config.replace({"training.batch_size": size}), replace(context, engine=engine))
        for size, engine in itertools.product(batch_sizes, engines)
    ]
    for _, arm in itertools.product(range(rounds), arms):
        arm.measure()
    note("measuring start-ups, each in a new process")
    torchs = {arm.batch_size: median(arm.seconds) for arm in arms if arm.engine == Engine.TORCH}
    operations = training_operations(config, context.data)
    values = {
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "device": str(context.device),
        "threads": context.threads,
        "engine": resolved.name.value,
        "engine_reason": resolved.reason,
        "peak": peak,
        "steps": [
            {
                "engine": arm.engine,
                "batch_size": arm.batch_size,
                "step": _timing(arm.seconds),
                "images_per_second": arm.batch_size / median(arm.seconds),
                "ratio_to_torch": torchs[arm.batch_size] / median(arm.seconds),
                "peak_share": None if peak is None else arm.batch_size * operations / peak / median(arm.seconds),
                "parts": _medians(arm.parts),
            }
            for arm in arms
        ],
        "evaluations": [{"engine": arm.engine, "seconds": _timing(arm.evaluations)} for arm in arms[: len(engines)]],
        "startup_seconds": _measure_start_up(access, rounds),
    }
    return Result(values, "\n".join(_lines(values)))


def _timing(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median of all rounds, the shortest and the longest."""
    return {"median": median(seconds), "low": min(seconds), "high": max(seconds)}


def _lines(measured: dict[str, Any]) -> Iterator[str]:
    """Write what was measured, line by line."""

    def ms(timing: dict[str, float], digits: int) -> str:
        middle, low, high = (f"{1000 * seconds:.{digits}f}" for seconds in timing.values())
        return f"{middle:>{digits + 4}} ({low} to {high})"

    machine, device, torch_version = measured["machine"], measured["device"], measured["versions"]["torch"]
    yield f"machine  {machine}; {device}, {measured['threads']} threads; torch {torch_version}"
    yield f"engine   {measured['engine']}: {measured['engine_reason']}"
    if measured["peak"] is not None:
        yield f"peak     {measured['peak'] / 1e9:.0f} GFLOP/s of float32 multiply-adds, measured"
    yield "\nengine  batch   ms per step (range)       images/s  x torch  of peak"
    for row in measured["steps"]:
        share = "" if row["peak_share"] is None else f"{row['peak_share']:.0%}"
        speed = f"{row['images_per_second']:10,.0f}  {row['ratio_to_torch']:7.2f}  {share:>7}"
        yield f"{row['engine']:6} {row['batch_size']:6,}  {ms(row['step'], 3)}  {speed}"
    yield "\nwhere the time of a step goes, ms"
    for row in measured["steps"]:
        parts = ", ".join(f"{part} {1000 * seconds:.3f}" for part, seconds in row["parts"].items())
        yield f"{row['engine']:6} {row['batch_size']:6,}  {parts}"
    yield "\nevaluation of 10,000 images, ms (range)"
    yield from (f"{row['engine']:6}  {ms(row['seconds'], 0)}" for row in measured["evaluations"])
    yield "\nstart-up of a training in a fresh process, s"
    yield from (f"{part:24} {seconds:.2f}" for part, seconds in measured["startup_seconds"].items())


def training_operations(config: Config, data: TrainVal) -> int:
    """Return the floating-point operations per image, forward and backward, with every convolution in full.

    The backward pass of a layer costs twice its forward pass, for the gradients of weights and input; the first layer's
    input needs none.
    """
    rows = layer_table(config.model.activation, data.num_classes, data.train.image_size)
    costs = [row.num_multiply_adds for row in rows if row.num_parameters > 0]
    return 2 * (3 * sum(costs) - costs[0])


def _measure_peak(engine: ResolvedEngine, threads: int, rounds: int) -> float | None:
    """Return the most float32 multiply-adds of all threads, in operations per second; None without the native engine.

    The highest of several measurements: other work on the machine can only lower it.
    """
    network: Any = engine.forward
    if engine.name is not Engine.NATIVE:
        return None
    best, sums = 0.0, torch.empty(threads)
    for _ in range(rounds):
        started = time.perf_counter()
        operations = network.peak(_PEAK_ROUNDS, sums.data_ptr(), len(sums))
        best = max(best, operations / (time.perf_counter() - started))
    return best


class _Arm:
    """A training that continues for as long as it is measured."""

    def __init__(self, config: Config, context: Context) -> None:
        self.engine, self.batch_size = context.engine.name.value, config.training.batch_size
        self.state = TrainState.start(config, context)
        train_batches = TrainBatches(context.data, config, context.device)
        epochs = (train_batches.of_epoch(epoch) for epoch in itertools.count(1))
        self.batches = (batch for epoch in epochs for batch in epoch if len(batch.labels) == self.batch_size)
        self.seconds: list[float] = []
        self.parts: list[dict[str, float]] = []
        self.evaluations: list[float] = []
        some = context.data.train.part(slice(_EVALUATED))  # the test set is not needed for that
        self._evaluated = evaluation_batches(some, context.data.normalization, context.device)
        self._device = context.device
        self._begin = partial(context.engine.set_threads, context.threads)

    def measure(self) -> None:
        """Make some steps whole, some part by part, and an evaluation."""
        self._begin()
        num_steps = max(_IMAGES_PER_ROUND // self.batch_size, 5)
        started = self._now()
        for _ in range(num_steps):
            train_step(self.state, next(self.batches), _LEARNING_RATE)
        self.seconds.append((self._now() - started) / num_steps)
        self.parts += [self._step_in_parts() for _ in range(num_steps)]
        started = self._now()
        tally = count(self.state.network, self._evaluated)
        self.evaluations.append((self._now() - started) * 10_000 / tally.num_images)

    def _now(self) -> float:
        """Wait until the device has done all that it was given, and return the time."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _step_in_parts(self) -> dict[str, float]:
        """Make one step, and return the seconds of its parts.

        The functions that an update calls are wrapped: a call ends one part of the step, its return the next.
        """
        calls: tuple[tuple[Any, str, str, str], ...] = (
            (F, "cross_entropy", "forward", "loss"),
            (torch.autograd, "grad", "loss", "backward"),
            (torch, "cat", "count", "gradient and norms"),
        )
        if self.engine == Engine.NATIVE:
            calls = ((updates, "share_of_gradient", "forward, loss and backward", "forward, loss and backward"),)
        calls += ((self.state.optimizer, "step", "gradient and norms", "optimizer"),)
        marks = [("", self._now())]

        def timed(function: Callable[..., Any], before: str, part: str, *arguments: Any, **options: Any) -> Any:
            marks.append((before, self._now()))
            result = function(*arguments, **options)
            marks.append((part, self._now()))
            return result

        with ExitStack() as patches:
            for owner, name, before, part in calls:
                patches.enter_context(patch.object(owner, name, partial(timed, getattr(owner, name), before, part)))
            batch = next(self.batches)
            marks.append(("batch", self._now()))
            train_step(self.state, batch, _LEARNING_RATE)
            marks.append(("read", self._now()))
        seconds = dict.fromkeys((part for part, _ in marks[1:]), 0.0)
        for (_, begin), (part, end) in itertools.pairwise(marks):
            seconds[part] += end - begin
        return seconds


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: median(row[part] for row in rows) for part in rows[0]}


_START_UP = """
import json, sys, time
times = {"": time.perf_counter()}
import torch
times["import torch"] = time.perf_counter()
from lenet_mnist.bench import start_up
from lenet_mnist.study import train  # what `lenet train` imports
times["import lenet"] = time.perf_counter()
print(json.dumps(start_up(sys.argv[1], times)))
"""


def _measure_start_up(access: DataAccess, rounds: int) -> dict[str, float]:
    """Return the seconds of each part of a start-up: medians over processes, the files in the disk cache."""
    command = [sys.executable, "-c", _START_UP, str(access.directory)]
    ended = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(min(rounds, 5))]
    return _medians([json.loads(each.stdout) for each in ended])


def start_up(data_dir: str, times: dict[str, float]) -> dict[str, float]:
    """Start a training as `lenet train` does, up to its first update, and return the seconds between `times`."""
    config, cpu = Config(), torch.device("cpu")
    data = load_train_val(config.data, DataAccess(Path(data_dir), offline=True, progress=Progress()))
    times["read and verify the data"] = time.perf_counter()
    engine = resolve_engine(config.training.engine, cpu, data.train.image_size)
    times["load and check the engine"] = time.perf_counter()
    arm = _Arm(config, Context(data, cpu, engine))
    batch = next(arm.batches)
    times["first batch"] = time.perf_counter()
    train_step(arm.state, batch, _LEARNING_RATE)
    times["first step"] = time.perf_counter()
    return {part: end - begin for (_, begin), (part, end) in itertools.pairwise(times.items())}
