"""Seconds of an update and of an evaluation, by engine and batch size: all in turn in one process, medians with range.

Every figure is made by the functions that train and evaluate, on real training images.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from lenet_mnist.config import Config, Engine
from lenet_mnist.data.batches import TrainBatch, TrainBatches, evaluation_batches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.metrics import count
from lenet_mnist.model.engines import ResolvedEngine, torch_network
from lenet_mnist.model.layer_table import layer_table
from lenet_mnist.training.loop import start_training
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

_ROUNDS = 11
_IMAGES_A_ROUND = 4_096
_EVALUATED = 10_000
_PEAK_ROUNDS = 10_000_000
_LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Timing:
    """Seconds: the median of all rounds, the shortest and the longest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Return the timing of these rounds."""
        return cls(median(seconds), min(seconds), max(seconds))


@dataclass(frozen=True)
class StepTiming:
    """One update of `batch_size` images. `parts` are the seconds of its parts, in their order.

    `peak_share` is the fraction of the machine's measured multiply-add peak, None where that was not measured.
    """

    engine: str
    batch_size: int
    step: Timing
    images_per_second: float
    ratio_to_torch: float
    peak_share: float | None
    parts: dict[str, float]


@dataclass(frozen=True)
class EvaluationTiming:
    """Counting what the network gets right on 10,000 images."""

    engine: str
    seconds: Timing


def present_engines(resolved: ResolvedEngine) -> dict[str, ResolvedEngine]:
    """Return the engines to compare: torch, and the resolved one if it is another."""
    engines = {Engine.TORCH.value: ResolvedEngine(Engine.TORCH, "always there", torch_network)}
    return engines | {resolved.name.value: resolved}


def training_operations(num_classes: int, image_size: int, config: Config) -> int:
    """Return the floating-point operations of one image, forward and backward, with every convolution in full.

    A layer's backward pass costs its forward pass twice, once for the weights and once for the input; the first layer's
    input needs no gradient.
    """
    rows = layer_table(config.model.activation, num_classes, image_size)
    costs = [row.num_multiply_adds for row in rows if row.num_parameters > 0]
    return 2 * (3 * sum(costs) - costs[0])


def measure_peak(engine: ResolvedEngine) -> float | None:
    """Return the float32 multiply-adds of all threads at most, as operations a second; None without the native engine.

    The highest of several measurements: whatever else the machine does can only lower it.
    """
    network: Any = engine.network
    if engine.name is not Engine.NATIVE:
        return None
    rates = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        operations: float = abs(network.peak(_PEAK_ROUNDS, torch.get_num_threads()))
        rates.append(operations / (time.perf_counter() - started))
    return max(rates)


def measure_steps(
    config: Config,
    data: TrainVal,
    device: torch.device,
    engines: dict[str, ResolvedEngine],
    batch_sizes: Sequence[int],
    peak: float | None,
) -> list[StepTiming]:
    """Time one update for each engine and batch size, one after another within each round."""
    arms = {
        (batch_size, name): _Arm(_with_batch_size(config, batch_size), data, device, engine)
        for batch_size in batch_sizes
        for name, engine in engines.items()
    }
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in arms}
    parts: dict[tuple[int, str], list[dict[str, float]]] = {key: [] for key in arms}
    for _ in range(_ROUNDS):
        for key, arm in arms.items():
            seconds[key].append(arm.seconds_a_step())
            parts[key].append(arm.seconds_of_parts())
    operations = training_operations(data.num_classes, data.train.image_size, config)
    timings = []
    for (batch_size, name), rounds in seconds.items():
        step = Timing.of(rounds)
        timings.append(
            StepTiming(
                engine=name,
                batch_size=batch_size,
                step=step,
                images_per_second=batch_size / step.median,
                ratio_to_torch=median(seconds[batch_size, Engine.TORCH.value]) / step.median,
                peak_share=None if peak is None else batch_size * operations / step.median / peak,
                parts={
                    part: median(row[part] for row in parts[batch_size, name]) for part in parts[batch_size, name][0]
                },
            )
        )
    return timings


def measure_evaluation(
    config: Config, data: TrainVal, device: torch.device, engines: dict[str, ResolvedEngine]
) -> list[EvaluationTiming]:
    """Time an evaluation of 10,000 images (training images here: the test set is not needed for that)."""
    some = data.train.part(slice(_EVALUATED))
    batches = evaluation_batches(some, data.normalization, device)
    networks = {name: start_training(config, data, device, engine.network).network for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(_ROUNDS):
        for name, network in networks.items():
            started = time.perf_counter()
            count(network, batches)
            seconds[name].append((time.perf_counter() - started) * _EVALUATED / len(some))
    return [EvaluationTiming(name, Timing.of(rounds)) for name, rounds in seconds.items()]


class _Arm:
    """A training that goes on for as long as it is asked to."""

    def __init__(self, config: Config, data: TrainVal, device: torch.device, engine: ResolvedEngine) -> None:
        self._state = start_training(config, data, device, engine.network)
        batch_size = config.training.batch_size
        train_batches = TrainBatches(data.train, data.normalization, batch_size, config.seed, device)
        self._batches = _full_batches(train_batches, batch_size)
        self._steps = max(_IMAGES_A_ROUND // batch_size, 5)
        self._synchronize = _synchronizer(device)

    def seconds_a_step(self) -> float:
        """Return the mean over the steps of one round."""
        self._synchronize()
        started = time.perf_counter()
        for _ in range(self._steps):
            train_step(self._state, next(self._batches), _LEARNING_RATE)
        self._synchronize()
        return (time.perf_counter() - started) / self._steps

    def seconds_of_parts(self) -> dict[str, float]:
        """Return the medians of a step's parts over one round."""
        rows = [
            step_in_parts(self._state, self._batches, _LEARNING_RATE, self._synchronize) for _ in range(self._steps)
        ]
        return {part: median(row[part] for row in rows) for part in rows[0]}


def step_in_parts(
    state: TrainState, batches: Iterator[TrainBatch], lr: float, synchronize: Callable[[], None]
) -> dict[str, float]:
    """Make the update that `train_step` makes, and return the seconds of each part of it."""
    marks = {"": time.perf_counter()}

    def mark(part: str) -> None:
        synchronize()
        marks[part] = time.perf_counter()

    batch = next(batches)
    images, labels, num_images = batch.images, batch.labels, batch.num_images
    mark("batch")
    logits = state.network(images)
    mark("forward")
    loss = F.cross_entropy(logits, labels, reduction="sum") / num_images
    mark("loss")
    gradients = torch.autograd.grad(loss, state.network.parameters_in_order)
    mark("backward")
    num_correct = (logits.detach().argmax(dim=1) == labels).sum().to(loss.dtype)
    mark("count")
    sums = torch.cat([*(part.flatten() for part in gradients), torch.stack([loss.detach(), num_correct])])
    gradient = sums[:-2]
    c1_gradient = gradient[: state.network.c1.weight.numel()]
    seen = torch.stack([sums[-2], gradient.norm(), c1_gradient.norm(), sums[-1]])
    has_failed = (~seen.isfinite().all()).float()
    mark("gradient and norms")
    state.optimizer.step(gradient, lr, has_failed)
    mark("optimizer")
    seen.tolist()
    mark("read")
    times = list(marks.values())
    return {part: end - start for part, start, end in zip(list(marks)[1:], times, times[1:], strict=False)}


def _full_batches(train_batches: TrainBatches, batch_size: int) -> Iterator[TrainBatch]:
    """Yield epoch after epoch, without the smaller batches at their ends."""
    for epoch in itertools.count(1):
        yield from (batch for batch in train_batches.of_epoch(epoch) if len(batch.labels) == batch_size)


def _synchronizer(device: torch.device) -> Callable[[], None]:
    """Return what waits until `device` has done all that it was given."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def _with_batch_size(config: Config, batch_size: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"batch_size": batch_size})})
