"""LeNet in Flax and Optax: a jitted step, the data in memory. (A whole epoch in lax.scan is slower on the CPU.)"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from peers.worker import EVALUATION_CHUNK, MOMENTUM, Arrays, Epoch, Setting, in_turn

PACKAGES = ("jax", "flax", "optax")


class LeNet(nn.Module):
    """Returns the logits. Shapes: x N 28 28 1; result N 10."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.relu(nn.Conv(6, (5, 5), padding=2)(x)), (2, 2), strides=(2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(16, (5, 5), padding="VALID")(x)), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(120)(x.reshape(len(x), -1)))
        return nn.Dense(10)(nn.relu(nn.Dense(84)(x)))


def start(arrays: Arrays, setting: Setting) -> Callable[[], Epoch]:
    """Compiled by XLA in the first epoch of each training. JAX takes its number of threads from NPROC."""
    rate = setting.learning_rate
    if setting.decay_steps:
        rate = optax.linear_schedule(rate, 0.0, setting.decay_steps)
    network, optimizer, random = LeNet(), optax.sgd(rate, momentum=MOMENTUM), np.random.default_rng(setting.seed)
    images, labels, val_images = arrays["train_images"][..., None], arrays["train_labels"], arrays["val_images"]
    parameters = network.init(jax.random.key(setting.seed), images[:1])
    state = (parameters, optimizer.init(parameters))

    def step(parameters: optax.Params, optimizer_state: optax.OptState, *batch: jax.Array) -> Any:
        def loss(parameters: optax.Params) -> jax.Array:
            logits = network.apply(parameters, batch[0])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

        updates, optimizer_state = optimizer.update(jax.grad(loss)(parameters), optimizer_state)
        return optax.apply_updates(parameters, updates), optimizer_state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    predict = jax.jit(lambda parameters, images: network.apply(parameters, images).argmax(axis=1))

    def train_epoch() -> None:
        nonlocal state
        order = random.permutation(setting.num_images)
        for first in range(0, len(order), setting.batch_size):
            chosen = order[first : first + setting.batch_size]
            state = jitted(*state, images[chosen], labels[chosen])
        jax.block_until_ready(state)

    def accuracy() -> float:
        chunks = np.split(val_images[..., None], range(EVALUATION_CHUNK, len(val_images), EVALUATION_CHUNK))
        return float((np.concatenate([predict(state[0], chunk) for chunk in chunks]) == arrays["val_labels"]).mean())

    return in_turn(train_epoch, accuracy)
