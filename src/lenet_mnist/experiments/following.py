"""What the other ranks do under torchrun: what rank 0 asks for, until it has no more.

Rank 0 runs the command; here it is met by those beside it, who compute their share and touch no file of a run.
"""

from dataclasses import dataclass
from pathlib import Path

from lenet_mnist import provenance
from lenet_mnist.config import Config, Device, Engine
from lenet_mnist.config_file import flat_values
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.experiments.evaluation import EvaluationTogether, follow_evaluation
from lenet_mnist.experiments.teachers import TaughtBy, teachers_of
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.ranks import Ranks
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.signals import deferred_signals
from lenet_mnist.training.checkpoint import network_bytes, parse_network, parse_state, state_bytes, weights_digest
from lenet_mnist.training.loop import start_training, train
from lenet_mnist.training.state import TrainState
from lenet_mnist.tuning.workers import TrialsTogether, follow_trials


@dataclass(frozen=True)
class TrainTogether:
    """A training, as rank 0 begins it: with everything decided that the configuration may leave open."""

    config: Config
    device: Device
    engine: Engine
    threads: int
    state: bytes
    teachers: tuple[bytes, ...]


def is_led(ranks: Ranks, access: DataAccess, config: Config | None = None) -> bool:
    """Return False on rank 0, which goes on with the command. On the others do what it asks for, then return True.

    Raises: ConfigError, on every rank, if not all were started with the same configuration.
    """
    if config is not None:
        ranks.require_same({key: str(value) for key, value in flat_values(config).items()})
    if ranks.is_first:
        return False
    while (asked := ranks.hear()) is not None:
        match asked:
            case TrainTogether():
                _follow_training(asked, ranks, access)
            case TrialsTogether():
                follow_trials(asked, ranks, access)
            case EvaluationTogether():
                follow_evaluation(asked, ranks, access)
            case _:
                raise AssertionError(f"no rank can follow {asked!r}")
    return True


def begin_together(ranks: Ranks, config: Config, manifest: Manifest, state: TrainState, taught_by: TaughtBy) -> None:
    """Let all ranks begin what rank 0 is about to train, from its state.

    Raises: ConfigError, on every rank, if they do not see the same data, or do not have the same torch.
    """
    if ranks.is_alone:
        return
    device, engine = Device(manifest.device.partition(":")[0]), Engine(manifest.engine)
    networks = tuple(map(network_bytes, taught_by.networks))
    ranks.say(TrainTogether(config, device, engine, manifest.threads, state_bytes(state), networks))
    ranks.require_same(_facts(manifest.split_sha256, manifest.versions["torch"]))


def _follow_training(asked: TrainTogether, ranks: Ranks, access: DataAccess) -> None:
    """Take this rank's share of a training."""
    with deferred_signals(is_second_ignored=True) as pending:
        data = load_train_val(asked.config.data, access)
        device = choose_device(asked.device, ranks)
        engine = resolve_engine(asked.engine, device, data.train.image_size)
        set_threads(asked.threads)
        ranks.require_same(_facts(data.fingerprint.split, provenance.versions()["torch"]))
        state = start_training(asked.config, data, device, engine.network)
        saved = parse_state(asked.state, Path("the state of rank 0"), state)
        state.restore(saved.tensors, saved.scalars)
        networks = [parse_network(content, Path("a teacher of rank 0")) for content in asked.teachers]
        teachers = teachers_of(networks, asked.config, device, engine.network)
        train(asked.config, data, state, lambda _row: pending.has_come, lambda _row: None, ranks, teachers)
        ranks.require_same(weights_of(state))


def _facts(split: str, torch_version: str) -> dict[str, str]:
    return {"the SHA-256 of the data's split": split, "torch": torch_version}


def weights_of(state: TrainState) -> dict[str, str]:
    """Return the digest of the weights, by a name for messages."""
    return {"the SHA-256 of the weights": weights_digest(state.network.state_dict())}
