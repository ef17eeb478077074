"""The measurements behind small choices in the code, each named where the choice was made.

    python scripts/benchmark_choices.py [chunks] [layout] [optimizers] [recording] [probe] [workers] [augment]
        [saturation]

- chunks: how many images at once evaluate fastest (data/batches.py, EVALUATION_CHUNK)
- layout: torch's convolutions with channels first and last (model/engines.py)
- optimizers: torch's classes against their functional form (training/optimizer.py)
- recording: what histories, checkpoints and progress cost beside training itself (experiments/training.py)
- probe: what a look into the network costs beside the epoch that it follows (training/probe.py)
- workers: trainings side by side, a thread each, against one after the other with all threads (tuning/workers.py)
- augment: what it costs to distort the training images, beside forward and backward (data/augment.py)
- saturation: forward and backward of a saturated sigmoid network, full of subnormal numbers (model/native/lenet.h)

All variants in turn within one process; medians, range, and ratio to the best or first.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle, product
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console

from common import data_access
from lenet_mnist.config import Activation, Config, Engine, ModelConfig
from lenet_mnist.data.augment import Augmentation, draw
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine, torch_network
from lenet_mnist.provenance import machine
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting.gallery import EXAMPLE
from lenet_mnist.reporting.terminal import TrainingProgress
from lenet_mnist.study.train import train_run
from lenet_mnist.tally import count
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.optimizer import FlatOptimizer
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.trial import Trial, train_trial

CPU = torch.device("cpu")
ALL = ("chunks", "layout", "optimizers", "recording", "probe", "workers", "augment", "saturation")
CHUNKS = (50, 100, 250, 500, 1000, 2500)


def compare(title: str, variants: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Time each variant once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            seconds[name].append(time.perf_counter() - started)
    first = median(next(iter(seconds.values())))
    print(f"\n{title}")
    for name, times in seconds.items():
        milliseconds = [1000 * value for value in (median(times), min(times), max(times))]
        ratio = median(times) / first
        print(f"  {name:32} {milliseconds[0]:9.3f} ms ({milliseconds[1]:.3f} to {milliseconds[2]:.3f})  x {ratio:.3g}")


def compare_chunks(data: TrainVal, engine: Engine, activation: Activation) -> None:
    """The validation images, in chunks of different sizes."""
    form = resolve_engine(engine, CPU, data.train.image_size).network
    config = Config.model_validate({"model": {"activation": activation}})
    network = TrainState.start(config, Context(data, engine=form)).network
    batches = {size: evaluation_batches(data.val, data.normalization, CPU, size) for size in CHUNKS}
    variants = {f"{size} images": partial(count, network, batches[size]) for size in CHUNKS}
    compare(f"5,000 images evaluated, {engine.value}, {activation.value}", variants, rounds=15)


def compare_layouts(data: TrainVal, batch_size: int) -> None:
    """Forward and backward of one batch, as model/engines.py does it and with channels first."""
    parameters = list(TrainState.start(Config(), Context(data)).network.parameters())
    images, labels = data.normalization.apply(data.train.images[:batch_size]), data.train.labels[:batch_size]

    def channels_first() -> torch.Tensor:
        w1, b1, w3, b3, w5, b5, w6, b6, w_out, b_out = parameters
        s2 = torch.relu(F.max_pool2d(F.conv2d(images, w1, b1, padding=2), 2))
        s4 = torch.relu(F.max_pool2d(F.conv2d(s2, w3, b3), 2))
        c5 = torch.relu(F.linear(s4.flatten(start_dim=1), w5, b5))
        return F.linear(torch.relu(F.linear(c5, w6, b6)), w_out, b_out)

    def channels_last() -> torch.Tensor:
        return torch_network(images, parameters, Activation.RELU)

    def both_ways(form: Callable[[], torch.Tensor]) -> None:
        torch.autograd.grad(F.cross_entropy(form(), labels), parameters)

    variants = {
        "channels last": partial(both_ways, channels_last),
        "channels first": partial(both_ways, channels_first),
    }
    compare(f"forward and backward, batch {batch_size}", variants, rounds=51)


def compare_optimizers() -> None:
    import_time = "import time, torch; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
    for name, code in {
        "torch.optim.SGD(...)": "torch.optim.SGD([torch.zeros(9)], lr=0.1)",
        "from torch.optim.sgd import sgd": "from torch.optim.sgd import sgd",
    }.items():
        command = [sys.executable, "-c", import_time.format(code)]
        seconds = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5)]
        print(f"in a fresh process, {name}: {median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    for optimizer, make in {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}.items():
        weights, gradient = torch.randn(61_706), torch.randn(61_706)
        config = Config.model_validate({"training": {"optimizer": optimizer, "weight_decay": 1e-4}})
        flat = FlatOptimizer(weights.clone(), config.training)
        options = {"momentum": 0.9} if optimizer == "sgd" else {}
        theirs = make([weights], lr=0.01, weight_decay=1e-4, fused=True, **options)
        weights.grad = gradient
        variants = {"functional": partial(flat.step, gradient, 0.01), "class": theirs.step}
        compare(f"one update, {optimizer}, caches warm", variants, rounds=501)


def compare_recording(data: TrainVal) -> None:
    """One epoch with the native engine: the loop alone, and `lenet train` with its files and its progress bar."""
    config = Config.model_validate({"training": {"max_epochs": 1}})
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)

    def alone() -> None:
        train(config, Context(data), TrainState.start(config, Context(data, engine=engine.network)))

    def recorded() -> None:
        with tempfile.TemporaryDirectory() as directory:
            progress = TrainingProgress(Console(stderr=True, force_terminal=True))
            train_run(config, data, Path(directory), CPU, engine, progress)

    compare(
        f"one epoch, {engine.name.value} engine", {"training alone": alone, "recorded and shown": recorded}, rounds=9
    )


def compare_probe(data: TrainVal, engine: Engine) -> None:
    """One epoch, and one look into the network."""
    config = Config.model_validate({"training": {"max_epochs": 1}})
    form = resolve_engine(engine, CPU, data.train.image_size).network
    state = TrainState.start(config, Context(data, engine=form))
    probe = Probe.of(data, config.seed, CPU)

    def epoch() -> None:
        train(config, Context(data), TrainState.start(config, Context(data, engine=form)))

    compare(f"{engine.value} engine", {"one epoch": epoch, "one look": partial(probe.look, state)}, rounds=5)


def compare_workers(data: TrainVal, engine: Engine) -> None:
    """Four trainings of an epoch: in a worker process a thread, their start included, and in this process."""
    config, access, threads = Config(), data_access(), set_threads(None)
    bench = (config, Context(data, engine=resolve_engine(engine, CPU, data.train.image_size).network))
    trials = [Trial(Activation.RELU, 0.02, seed, 1) for seed in range(4)]

    def train_all(staff: PoolSize) -> None:
        with TrialPool(bench, engine, access.directory, staff) as crew:
            list(crew.run(train_trial, trials))

    variants = {
        "one after the other": partial(train_all, PoolSize(1, threads)),
        "side by side": partial(train_all, PoolSize(threads, 1)),
    }
    compare(f"four epochs, {engine.value} engine, {threads} threads", variants, rounds=3)
    set_threads(None)


def compare_augmentation(data: TrainVal, threads: int) -> None:
    """A batch of 64, of which 860 make an epoch: taken as it is, and distorted; beside it what an epoch costs once."""
    set_threads(threads)
    native = resolve_engine(Engine.NATIVE, CPU, data.train.image_size).network
    network = TrainState.start(Config(), Context(data, engine=native)).network
    order = torch.from_numpy(random_order(0, Purpose.ORDER, len(data.train)))
    labels, normalized = data.train.labels[:64], data.normalization.apply(data.train.images)
    taken = {"as it is": partial(normalized.index_select, 0)}
    for name, engine in {"distorted, native": native, "distorted, torch": torch_network}.items():
        augmentation = Augmentation(EXAMPLE, data.train, data.normalization, 0, CPU, engine)
        taken[name] = augmentation.view(1).images_of
    batches = cycle(torch.split(order, 64)[:-1])
    variants = {name: lambda take=take: take(next(batches)) for name, take in taken.items()}

    def both_ways() -> None:
        loss = F.cross_entropy(network(normalized[:64]), labels)
        torch.autograd.grad(loss, network.parameters_in_order)

    variants["forward and backward, native"] = both_ways
    compare(f"a batch of 64, {threads} threads", variants, rounds=501)
    indices = data.train.indices.numpy()
    compare("an epoch's draws", {"55,000 images": lambda: draw(EXAMPLE, 28, 0, 1, indices)}, rounds=31)
    set_threads(None)


def compare_saturation(data: TrainVal, engine: Engine) -> None:
    """A batch of 64 through sigmoid networks whose weights are as they begin, and a hundred times that."""
    set_threads(1)
    network = resolve_engine(engine, CPU, 28).network
    config = Config(model=ModelConfig(activation=Activation.SIGMOID))
    start = TrainState.start(config, Context(data)).network.parameters_in_order
    images = data.normalization.apply(data.train.images[:64])

    def both_ways(scale: float) -> None:
        parameters = [(scale * parameter.detach()).requires_grad_() for parameter in start]
        torch.autograd.grad(network(images, parameters, Activation.SIGMOID).sum(), parameters)

    variants = {"as it begins": lambda: both_ways(1), "saturated": lambda: both_ways(100)}
    compare(f"a batch of 64, {engine.value} engine, one thread", variants, rounds=101)
    set_threads(None)


def main() -> None:
    print(f"{machine()}, {set_threads(None)} threads, torch {torch.__version__}")
    wanted = sys.argv[1:] or ALL
    data = load_train_val(Config().data, data_access())
    for name in wanted:
        match name:
            case "chunks":
                for engine, activation in product((Engine.TORCH, Engine.NATIVE), Activation):
                    compare_chunks(data, engine, activation)
            case "layout":
                compare_layouts(data, 64)
                compare_layouts(data, 256)
            case "optimizers":
                compare_optimizers()
            case "recording":
                compare_recording(data)
            case "probe":
                compare_probe(data, Engine.TORCH)
                compare_probe(data, Engine.NATIVE)
            case "workers":
                compare_workers(data, Engine.NATIVE)
                compare_workers(data, Engine.TORCH)
            case "augment":
                compare_augmentation(data, 1)
                compare_augmentation(data, 2)
            case "saturation":
                compare_saturation(data, Engine.TORCH)
                compare_saturation(data, Engine.NATIVE)
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main()
