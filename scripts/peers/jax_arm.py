"""LeNet in Flax and Optax: a jitted step, the data in memory. (A whole epoch in lax.scan is slower on the CPU.)"""

import jax
import numpy as np
import optax
from flax import linen as nn

from peers.arm import EVALUATION_CHUNK, MOMENTUM, Arm, Setting


class LeNet(nn.Module):
    """Returns the logits. Shapes: x N 28 28 1; result N 10."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.relu(nn.Conv(6, (5, 5), padding=2)(x)), (2, 2), strides=(2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(16, (5, 5), padding="VALID")(x)), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(120)(x))
        x = nn.relu(nn.Dense(84)(x))
        return nn.Dense(10)(x)


class Jax(Arm):
    """Compiled by XLA in the first epoch of each training. JAX takes its number of threads from NPROC."""

    packages = ("jax", "flax", "optax")

    def start(self, setting: Setting) -> None:
        rate = setting.learning_rate
        if setting.decay_steps:
            rate = optax.linear_schedule(rate, 0.0, setting.decay_steps)
        network, optimizer = LeNet(), optax.sgd(rate, momentum=MOMENTUM)

        def step(
            parameters: optax.Params, optimizer_state: optax.OptState, images: jax.Array, labels: jax.Array
        ) -> tuple[optax.Params, optax.OptState]:
            def loss(parameters: optax.Params) -> jax.Array:
                logits = network.apply(parameters, images)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            updates, optimizer_state = optimizer.update(jax.grad(loss)(parameters), optimizer_state)
            return optax.apply_updates(parameters, updates), optimizer_state

        self.setting = setting
        self.random = np.random.default_rng(setting.seed)
        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.predict = jax.jit(lambda parameters, images: network.apply(parameters, images).argmax(axis=1))
        self.parameters = network.init(jax.random.key(setting.seed), self.arrays.train_images[:1, ..., None])
        self.optimizer_state = optimizer.init(self.parameters)

    def train_epoch(self) -> None:
        order = self.random.permutation(self.setting.num_images)
        for first in range(0, len(order), self.setting.batch_size):
            chosen = order[first : first + self.setting.batch_size]
            images, labels = self.arrays.train_images[chosen, ..., None], self.arrays.train_labels[chosen]
            self.parameters, self.optimizer_state = self.step(self.parameters, self.optimizer_state, images, labels)
        jax.block_until_ready(self.parameters)

    def accuracy(self) -> float:
        images = self.arrays.val_images[..., None]
        chunks = [images[first : first + EVALUATION_CHUNK] for first in range(0, len(images), EVALUATION_CHUNK)]
        predictions = [self.predict(self.parameters, chunk) for chunk in chunks]
        return float((np.concatenate(predictions) == self.arrays.val_labels).mean())
