"""The measurements behind small choices in the code, each named where the choice was made.

    python scripts/benchmark_choices.py [chunks] [layout] [optimizers] [recording] [probe] [workers] [augment]
        [saturation]

- chunks: how many images at once evaluate fastest (data/batches.py, EVALUATION_CHUNK)
- layout: torch's convolutions with channels first and last (model/engines.py)
- optimizers: torch's classes against their functional form (training/optimizer.py)
- recording: what histories, checkpoints and progress cost beside training itself (study/train.py)
- probe: what a look into the network costs beside the epoch that it follows (training/probe.py)
- workers: trainings side by side, a thread each, against one after the other with all threads (training/workers.py)
- augment: what it costs to augment the training images, beside forward and backward (data/augment.py)
- saturation: forward and backward of a saturated sigmoid network, full of subnormal numbers (model/native/lenet.h)

All variants in turn within one process; medians, range, and ratio to the first.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console

from common import CPU, Config, compare, context_of, data_access, data_of, trained
from lenet_mnist.config import Activation, Engine
from lenet_mnist.data.augment import Augmentation, draw
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import torch_network
from lenet_mnist.provenance import machine
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting.gallery import EXAMPLE
from lenet_mnist.reporting.terminal import TerminalProgress
from lenet_mnist.study.train import train_seeds
from lenet_mnist.tally import count
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.optimizer import FlatOptimizer
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.trial import Trial, train_trial

CHUNKS = (50, 100, 250, 500, 1000, 2500)
ENGINES = (Engine.TORCH, Engine.NATIVE)


def config_of(engine: Engine = Engine.AUTO, activation: Activation = Activation.RELU) -> Config:
    return Config().replace({"training.engine": engine, "model.activation": activation, "training.max_epochs": 1})


def compare_chunks(engine: Engine, activation: Activation) -> None:
    """The validation images, in chunks of different sizes."""
    config = config_of(engine, activation)
    data, network = data_of(config.data), TrainState.start(config, context_of(config)).network
    batches = {size: evaluation_batches(data.val, data.normalization, CPU, size) for size in CHUNKS}
    variants = {f"{size} images": partial(count, network, batches[size]) for size in CHUNKS}
    compare(f"5,000 images evaluated, {engine}, {activation}", variants, rounds=15)


def compare_layouts(batch_size: int) -> None:
    """Forward and backward of one batch, as model/engines.py does it and with channels first."""
    data = data_of(Config().data)
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


def compare_recording() -> None:
    """One epoch: the loop alone, and `lenet train` with its files and its progress bar."""
    config = config_of()

    def recorded() -> None:
        with tempfile.TemporaryDirectory() as directory:
            progress = TerminalProgress(Console(stderr=True, force_terminal=True))
            train_seeds(config, None, Session(data_access(), progress), Path(directory))

    variants = {"training alone": lambda: trained(config), "loaded, recorded and shown": recorded}
    compare(f"one epoch, {context_of(config).engine.name} engine", variants, rounds=9)


def compare_probe(engine: Engine) -> None:
    """One epoch, and one look into the network."""
    config = config_of(engine)
    state, probe = TrainState.start(config, context_of(config)), Probe.of(data_of(config.data), config.seed, CPU)
    variants = {"one epoch": lambda: trained(config), "one look": lambda: probe.look(state)}
    compare(f"{engine} engine", variants, rounds=5)


def compare_workers(engine: Engine) -> None:
    """Four trainings of an epoch: in a worker process a thread, their start included, and in this process."""
    config, threads = config_of(engine), set_threads(None)
    trials = [Trial(Activation.RELU, 0.02, seed, 1) for seed in range(4)]

    def train_all(size: PoolSize) -> None:
        with TrialPool(config, context_of(config), data_access().directory, size) as pool:
            list(pool.run(train_trial, trials))

    sizes = {"one after the other": PoolSize(1, threads), "side by side": PoolSize(threads, 1)}
    variants = {name: partial(train_all, size) for name, size in sizes.items()}
    compare(f"four epochs, {engine} engine, {threads} threads", variants, rounds=3)


def compare_augmentation(threads: int) -> None:
    """A batch of 64, of which 860 make an epoch: as it is, and augmented; beside it what an epoch costs once."""
    set_threads(threads)
    config = config_of(Engine.NATIVE)
    context = context_of(config)
    data, network = context.data, TrainState.start(config, context).network
    labels, normalized = data.train.labels[:64], data.normalization.apply(data.train.images)
    taken = {"as it is": partial(normalized.index_select, 0)}
    for name, resample in {"augmented, native": context.engine.resample, "augmented, torch": None}.items():
        taken[name] = Augmentation(data, EXAMPLE, 0, CPU, resample).view(1).images_of
    batches = cycle(torch.split(torch.from_numpy(random_order(0, Purpose.ORDER, len(data.train))), 64)[:-1])
    variants = {name: lambda take=take: take(next(batches)) for name, take in taken.items()}

    def both_ways() -> None:
        torch.autograd.grad(F.cross_entropy(network(normalized[:64]), labels), network.parameters_in_order)

    compare(f"a batch of 64, {threads} threads", variants | {"forward and backward, native": both_ways}, rounds=501)
    indices = data.train.indices.numpy()
    compare("an epoch's draws", {"55,000 images": lambda: draw(EXAMPLE, 28, 0, 1, indices)}, rounds=31)
    set_threads(None)


def compare_saturation(engine: Engine) -> None:
    """A batch of 64 through sigmoid networks with their starting weights, and with a hundred times those."""
    set_threads(1)
    config = config_of(engine, Activation.SIGMOID)
    context = context_of(config)
    start = TrainState.start(config, context).network.parameters_in_order
    images = context.data.normalization.apply(context.data.train.images[:64])

    def both_ways(scale: float) -> None:
        parameters = [(scale * parameter.detach()).requires_grad_() for parameter in start]
        torch.autograd.grad(context.engine.forward(images, parameters, Activation.SIGMOID).sum(), parameters)

    variants = {"starting weights": lambda: both_ways(1), "saturated": lambda: both_ways(100)}
    compare(f"a batch of 64, {engine} engine, one thread", variants, rounds=101)
    set_threads(None)


PARTS: dict[str, tuple[Callable[..., None], list[tuple[object, ...]]]] = {
    "chunks": (compare_chunks, list(product(ENGINES, Activation))),
    "layout": (compare_layouts, [(64,), (256,)]),
    "optimizers": (compare_optimizers, [()]),
    "recording": (compare_recording, [()]),
    "probe": (compare_probe, [(engine,) for engine in ENGINES]),
    "workers": (compare_workers, [(engine,) for engine in ENGINES[::-1]]),
    "augment": (compare_augmentation, [(1,), (2,)]),
    "saturation": (compare_saturation, [(engine,) for engine in ENGINES]),
}


if __name__ == "__main__":
    if not PARTS.keys() >= set(sys.argv[1:]):
        sys.exit(__doc__)
    print(f"{machine()}, {set_threads(None)} threads, torch {torch.__version__}")
    for name in sys.argv[1:] or PARTS:
        measure, cases = PARTS[name]
        for case in cases:
            measure(*case)
