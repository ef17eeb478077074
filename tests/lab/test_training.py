"""The lab's engine in a real Chromium: the package's starting weights, orders and updates."""

import base64
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from tests.browser import window
from tests.tiny import part_of

from lenet_mnist.config import Activation, Config, Schedule
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.lab.exchange import settings_of
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.training.context import Context
from lenet_mnist.training.schedule import rate_factor
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import learning_rate, train_step

pytestmark = pytest.mark.browser

ROOM = files("lenet_mnist.lab")
SCRIPTS = ("engine.js", "training.js")
NUM_UPDATES = 50
BEGIN = """async ([wasm, pixels, labels, levels, classNames]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  window.engine = await openEngine(bytes(wasm));
  const table = engine.keep(bytes(levels));
  const set = (from, to) => new ImageSet(
    engine, bytes(pixels).slice(from * PIXELS, to * PIXELS), bytes(labels).slice(from, to), table);
  const count = bytes(labels).length;
  window.data = { train: set(0, count - 100), val: set(count - 100, count), classNames };
}"""


def packed(array: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    return part_of(small, 500, 100)


@pytest.fixture(scope="module")
def page(browser: Browser, tiny: TrainVal) -> Iterator[Page]:
    with window(browser) as (page, _):
        for name in SCRIPTS:
            page.add_script_tag(content=(ROOM / "page" / name).read_text(encoding="utf-8"))
        images = torch.cat([tiny.train.images, tiny.val.images]).numpy()
        labels = torch.cat([tiny.train.labels, tiny.val.labels]).numpy().astype(np.uint8)
        levels = tiny.normalization.apply(torch.arange(256, dtype=torch.uint8).view(1, 16, 16)).numpy()
        wasm = packed(np.frombuffer((ROOM / "lab.wasm").read_bytes(), np.uint8))
        page.evaluate(BEGIN, [wasm, packed(images), packed(labels), packed(levels), list(tiny.class_names)])
        yield page


@pytest.mark.parametrize("activation", [Activation.SIGMOID, Activation.TANH, Activation.RELU])
@pytest.mark.parametrize("seed", [0, 2**40 + 3])
def test_the_starting_weights_are_the_packages(page: Page, tiny: TrainVal, activation: Activation, seed: int) -> None:
    config = Config(seed=seed, model={"activation": activation})
    network = TrainState.start(config, Context(tiny)).network

    found = page.evaluate(
        "(settings) => [...new Training(engine, data, settings).network.weights]",
        settings_of(config),
    )

    expected = torch.cat([parameter.detach().flatten() for parameter in network.parameters_in_order])
    assert torch.equal(torch.tensor(found, dtype=torch.float32), expected)


@pytest.mark.parametrize(("seed", "epoch", "count"), [(0, 1, 10), (7, 3, 500), (2**40 + 5, 2, 499)])
def test_the_order_of_the_images_is_the_packages(page: Page, seed: int, epoch: int, count: int) -> None:
    found = page.evaluate(
        """([seed, epoch, count]) => {
          const [order, spare] = [engine.allocate(4 * count), engine.allocate(24 * count)];
          engine.wasm.lab_order(seed, PURPOSE.order, epoch, count, order, spare);
          return [...engine.words(order, count)];
        }""",
        [seed, epoch, count],
    )

    assert found == random_order(seed, Purpose.ORDER, count, position=epoch).tolist()


KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "nesterov, one-cycle, smoothed": {"nesterov": True, "schedule": "one-cycle", "label_smoothing": 0.1},
    "no momentum, cosine": {"momentum": 0.0, "schedule": "cosine", "warmup": 0.0},
    "adam": {"optimizer": "adam", "learning_rate": 0.001, "schedule": "constant"},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [Activation.SIGMOID, Activation.RELU])
def test_updates_come_to_torchs_logits(page: Page, tiny: TrainVal, activation: Activation, kind: str) -> None:
    """After 50 updates within 1e-4 with SGD, and 1e-3 with Adam: the lab adds up in another order."""
    training = {"max_epochs": 7, "batch_size": 64, "learning_rate": 0.02, "weight_decay": 0.001, **KINDS[kind]}
    config = Config(seed=1, model={"activation": activation}, training=training)
    state, batches = TrainState.start(config, Context(tiny)), TrainBatches(tiny, config)
    num_steps = config.training.max_epochs * len(batches)
    in_order = (batch for epoch in range(1, 99) for batch in batches.of_epoch(epoch))
    rows = []
    for number, batch in enumerate(islice(in_order, NUM_UPDATES), start=1):
        rows.append(train_step(state, batch, learning_rate(config.training, state, number, num_steps)))

    found = page.evaluate(
        """([settings, updates]) => {
          const training = new Training(engine, data, settings);
          while (training.step < updates) training.advance();
          training.network.evaluation(data.val).next();
          const logits = engine.floats(engine.wasm.lab_logits(training.network.place), 1000);
          return { logits: [...logits], steps: training.steps };
        }""",
        [settings_of(config), NUM_UPDATES],
    )

    with torch.no_grad():
        expected = state.network(tiny.normalization.apply(tiny.val.images))
    tolerance = 1e-4 if config.training.optimizer == "sgd" else 1e-3
    torch.testing.assert_close(torch.tensor(found["logits"]).view(100, 10), expected, atol=tolerance, rtol=tolerance)
    for row, step in zip(rows, found["steps"], strict=True):
        assert step["loss"] == pytest.approx(row.train_loss, abs=1e-3)
        assert step["rate"] == pytest.approx(row.lr, rel=1e-12)
        assert step["norms"][0] == pytest.approx(row.c1_gradient_norm, rel=1e-2, abs=1e-5)


def test_an_epoch_ends_with_the_validation_and_a_divergence_ends_the_training(page: Page) -> None:
    config = Config(training={"max_epochs": 2, "batch_size": 100, "learning_rate": 1e6, "schedule": "constant"})
    found = page.evaluate(
        """([calm, wild]) => {
          const [training, other] = [calm, wild].map((settings) => new Training(engine, data, settings));
          for (const each of [training, other]) while (!each.ended) each.advance();
          const weights = [...other.network.weights];
          return [training.epochs, training.ended, other.ended, weights.every(Number.isFinite)];
        }""",
        [settings_of(config) | {"rate": 0.02}, settings_of(config)],
    )

    epochs, ended, other_ended, is_finite = found
    assert [row["step"] for row in epochs] == [5, 10]
    assert epochs[-1]["val"]["loss"] < 2.2
    assert (ended, other_ended, is_finite) == ("all epochs done", "diverged", True)


def test_a_network_shows_each_of_its_layers(page: Page, tiny: TrainVal) -> None:
    config = Config(seed=3, model={"activation": "tanh"})
    network = TrainState.start(config, Context(tiny)).network
    with torch.no_grad():
        expected = network.layer_outputs(tiny.normalization.apply(tiny.val.images[:1]))

    found = page.evaluate(
        """(settings) => {
          const { network } = new Training(engine, data, settings);
          const layers = network.layers(engine.bytes(data.val.pixels, PIXELS), data.val.levels);
          return ["s2", "s4", "c5", "f6", "logits"].map((name) => [...layers[name]]);
        }""",
        settings_of(config),
    )

    for values, output in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(values), output.flatten(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.13])
def test_schedules_are_the_packages(page: Page, schedule: Schedule, warmup: float) -> None:
    found = page.evaluate(
        "([schedule, warmup]) => Array.from({ length: 30 }, (_, k) => rateFactor(schedule, warmup, k, 30))",
        [schedule, warmup],
    )

    assert found == pytest.approx([rate_factor(Schedule(schedule), warmup, k, 30) for k in range(30)])
