"""`lenet bench`: all measurements of this machine in one value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lenet_mnist import provenance
from lenet_mnist.benchmark.startup import measure_startup
from lenet_mnist.benchmark.steps import (
    EvaluationTiming,
    StepTiming,
    measure_evaluation,
    measure_peak,
    measure_steps,
    present_engines,
)
from lenet_mnist.config import Config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.engines import resolve_engine


@dataclass(frozen=True)
class Benchmark:
    """What was measured, and on what. `peak` is in float32 operations a second, None without the native engine."""

    machine: str
    versions: dict[str, str]
    device: str
    threads: int
    engine: str
    engine_reason: str
    peak: float | None
    steps: list[StepTiming]
    evaluations: list[EvaluationTiming]
    startup_seconds: dict[str, float]


def run_benchmark(
    config: Config, batch_sizes: Sequence[int], access: DataAccess, note: Callable[[str], None]
) -> Benchmark:
    """Measure the engines that there are, on real training images. Raises: ConfigError for batches of more images."""
    data = load_train_val(config.data, access)
    if max(batch_sizes) > len(data.train):
        raise ConfigError(f"--batch-size {max(batch_sizes)}: there are {len(data.train):,} training images")
    device = choose_device(config.training.device)
    threads = set_threads(config.training.threads)
    asked, activation = config.training.engine, config.model.activation
    resolved = resolve_engine(asked, device, data.train.image_size, activation=activation)
    engines = present_engines(resolved)
    peak = measure_peak(resolved)
    note(f"measuring updates: {', '.join(engines)}, {' and '.join(map(str, batch_sizes))} images each")
    steps = measure_steps(config, data, device, engines, batch_sizes, peak)
    note("measuring evaluations")
    evaluations = measure_evaluation(config, data, device, engines)
    note("measuring start-ups, each in a new process")
    return Benchmark(
        machine=provenance.machine(),
        versions=provenance.versions(),
        device=str(device),
        threads=threads,
        engine=resolved.name.value,
        engine_reason=resolved.reason,
        peak=peak,
        steps=steps,
        evaluations=evaluations,
        startup_seconds=measure_startup(access.directory),
    )
