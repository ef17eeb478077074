"""What test_ranks.py starts: several ranks beside one, in each of these processes. Rank 0 prints JSON."""

import json
from pathlib import Path

import torch
from torch import Tensor

from lenet_mnist.config import Activation, Config, DataConfig, ModelConfig, TrainingConfig
from lenet_mnist.data.batches import TrainBatches, evaluation_batches
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.distributed import SINGLE, Ranks, joined_ranks
from lenet_mnist.errors import ConfigError
from lenet_mnist.progress import Progress
from lenet_mnist.tally import count
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.distillation import Teachers
from lenet_mnist.training.loop import TrainResult, train
from lenet_mnist.training.muon import optimizer_of
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import make_update

CPU = torch.device("cpu")
NUM_STEPS = 20


def config_of(activation: Activation, **training: object) -> Config:
    values = {"batch_size": 64, "learning_rate": 0.05, "max_epochs": 2, "schedule": "constant", **training}
    return Config(model=ModelConfig(activation=activation), training=TrainingConfig.model_validate(values))


def weights_after_20(config: Config, data: TrainVal, ranks: Ranks) -> Tensor:
    """Return all weights, in one row, after 20 updates in float64."""
    state = TrainState.start(config, Context(data))
    state.network.double()
    state.optimizer = optimizer_of(state.network, config.training)
    batches = TrainBatches(data, config, ranks=ranks)
    has_failed = torch.zeros(())
    made = 0
    for epoch in (1, 2, 3):
        for batch in batches.of_epoch(epoch):
            if made < NUM_STEPS:
                make_update(state, batch._replace(images=batch.images.double()), 0.05, has_failed, ranks)
                made += 1
    assert made == NUM_STEPS
    return torch.cat([parameter.detach().flatten() for parameter in state.network.parameters()])


def steps_of(
    config: Config, data: TrainVal, ranks: Ranks, stop_on: int | None = None
) -> tuple[list[StepRow], TrainState, TrainResult]:
    """Train, and return the rows; with `stop_on` that rank alone wants to stop at step 10."""
    state = TrainState.start(config, Context(data))
    rows: list[StepRow] = []

    def on_step(row: StepRow) -> bool:
        rows.append(row)
        return row.step >= 10 and ranks.rank == stop_on

    result = train(config, Context(data, ranks=ranks), state, on_step)
    return rows, state, result


def taught(config: Config, data: TrainVal, ranks: Ranks) -> tuple[Tensor, list[float]]:
    """Return what teachers say of a view that the ranks share out, and the losses of a training that they teach."""
    config = config.replace({"augmentation.rotation": 20, "augmentation.shift": 2, "augmentation.views": 1})
    networks = [TrainState.start(config.replace({"seed": seed}), Context(data)).network for seed in (7, 8)]
    for network in networks:
        torch.nn.init.normal_(network.output.weight, generator=torch.Generator().manual_seed(9))
    teachers = Teachers(networks, config.training)
    state = TrainState.start(config, Context(data))
    rows: list[StepRow] = []
    batches = TrainBatches(data, config, ranks=ranks)
    first = next(teachers.teach(batches.of_epoch(1), batches.view(1), ranks))
    assert first.soft_targets is not None
    error = (first.soft_targets.logits - teachers.logits(first.images)).abs().max()

    def on_step(row: StepRow) -> bool:
        rows.append(row)
        return False

    train(config, Context(data, ranks=ranks, teachers=teachers), state, on_step)
    return error, [row.train_loss for row in rows]


def counts(data: TrainVal, ranks: Ranks) -> list[tuple[int, int, float]]:
    """Return images, right ones and losses, each rank having counted its share."""
    network = TrainState.start(config_of(Activation.SIGMOID), Context(data)).network
    two = data.val.part(slice(2))  # fewer than ranks
    found = []
    for images in (data.val, two):
        share = images.part(ranks.shard(len(images)))
        tally = count(network, evaluation_batches(share, data.normalization, CPU, 7), ranks)
        found.append((tally.num_images, tally.num_correct, round(tally.loss_sum, 3)))
    return found


def note_call(word: str, number: int, heard: list[tuple[str, int]]) -> None:
    heard.append((word, number))


def disagreement(ranks: Ranks) -> str:
    try:
        ranks.require_same({"colour": "red", "size": str(ranks.rank // 2)})
    except ConfigError as error:
        return str(error)
    return "none"


def main(data_dir: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_train_val(
        DataConfig(train_size=450, val_size=100), DataAccess(data_dir, offline=True, progress=Progress())
    )
    with joined_ranks() as ranks:
        found: dict[str, object] = {"num_ranks": ranks.num_ranks}
        for activation in Activation:
            config = config_of(activation)
            alone, together = (weights_after_20(config, data, each) for each in (SINGLE, ranks))
            found[activation.value] = float((alone - together).abs().max())
        config = config_of(Activation.TANH)
        (alone_rows, *_), (rows, state, _) = (steps_of(config, data, each) for each in (SINGLE, ranks))
        digests = ranks.all_gather(weights_digest(state.tensors() | state.kept_weights))
        found["digests"] = len(set(digests))
        found["rows"] = [[row.step, row.epoch, row.lr] for row in rows] == [
            [row.step, row.epoch, row.lr] for row in alone_rows
        ]
        found["largest loss difference"] = max(
            abs(one.train_loss - other.train_loss) for one, other in zip(rows, alone_rows, strict=True)
        )
        (error, losses), (_, alone_losses) = (taught(config, data, each) for each in (ranks, SINGLE))
        found["largest error of a lesson"] = max(ranks.all_gather(float(error)))
        found["largest taught difference"] = max(abs(a - b) for a, b in zip(losses, alone_losses, strict=True))
        longer = config_of(Activation.TANH, max_epochs=4)
        stopped_rows, _, result = steps_of(longer, data, ranks, stop_on=ranks.num_ranks - 1)
        found["stopped"] = ranks.all_gather((len(stopped_rows), result.stop_reason.value))
        found["counts"] = counts(data, SINGLE) == counts(data, ranks)
        found["disagreement"] = disagreement(ranks)
        found["shares"] = ranks.all_gather([ranks.shard(n).stop - ranks.shard(n).start for n in range(12)])
        heard: list[tuple[str, int]] = []
        if ranks.is_first:
            ranks.call(note_call, "a", 1)
            print(json.dumps(found))
        else:
            ranks.serve(heard)  # until rank 0 leaves
            assert heard == [("a", 1)]
