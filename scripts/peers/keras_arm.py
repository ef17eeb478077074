"""LeNet in Keras 3 with the TensorFlow backend: model.fit on arrays in memory, with its default settings."""

import keras
import tensorflow as tf
from keras import layers

from peers.arm import EVALUATION_CHUNK, MOMENTUM, Arm, Arrays, Setting


class Keras(Arm):
    """Compiled by tf.function in the first epoch of each training; images are N 28 28 1, Keras's own order."""

    packages = ("keras", "tensorflow")

    def __init__(self, arrays: Arrays, threads: int) -> None:
        super().__init__(arrays, threads)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def start(self, setting: Setting) -> None:
        keras.utils.set_random_seed(setting.seed)
        self.batch_size = setting.batch_size
        self.images = self.arrays.train_images[: setting.num_images, ..., None]
        self.labels = self.arrays.train_labels[: setting.num_images]
        self.model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(6, 5, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(16, 5, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(120, activation="relu"),
                layers.Dense(84, activation="relu"),
                layers.Dense(10),
            ]
        )
        rate = setting.learning_rate
        if setting.decay_steps:
            rate = keras.optimizers.schedules.PolynomialDecay(rate, setting.decay_steps, end_learning_rate=0.0)
        self.model.compile(
            optimizer=keras.optimizers.SGD(rate, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

    def train_epoch(self) -> None:
        self.model.fit(self.images, self.labels, batch_size=self.batch_size, verbose=0)

    def accuracy(self) -> float:
        images, labels = self.arrays.val_images[..., None], self.arrays.val_labels
        return float(self.model.evaluate(images, labels, batch_size=EVALUATION_CHUNK, verbose=0)[1])
