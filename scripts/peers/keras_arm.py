"""LeNet in Keras 3 with the TensorFlow backend: model.fit on arrays in memory, with its default settings."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from peers.worker import EVALUATION_CHUNK, MOMENTUM, THREADS, Arrays, Epoch, Setting, in_turn

PACKAGES = ("keras", "tensorflow")
tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def start(arrays: Arrays, setting: Setting) -> Callable[[], Epoch]:
    """Compiled by tf.function in the first epoch of each training; images are N 28 28 1, Keras's own order."""
    keras.utils.set_random_seed(setting.seed)
    train = arrays["train_images"][: setting.num_images, ..., None], arrays["train_labels"][: setting.num_images]
    val = arrays["val_images"][..., None], arrays["val_labels"]
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(6, 5, padding="same", activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D(), layers.Flatten()),
            *(layers.Dense(120, activation="relu"), layers.Dense(84, activation="relu"), layers.Dense(10)),
        ]
    )
    rate = setting.learning_rate
    if setting.decay_steps:
        rate = keras.optimizers.schedules.PolynomialDecay(rate, setting.decay_steps, end_learning_rate=0.0)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return in_turn(
        lambda: model.fit(*train, batch_size=setting.batch_size, verbose=0),
        lambda: float(model.evaluate(*val, batch_size=EVALUATION_CHUNK, verbose=0)[1]),
    )
