"""Causes that lie in what a training begins with: weights, inputs, labels, order, decay and momentum.

Source: lecture points 5, 6 and 9; Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
networks", AISTATS 2010.
"""

import math
from statistics import median

from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Optimizer
from lenet_mnist.model.lenet import C1_CHANNELS, C3_CHANNELS, C5_UNITS, F6_UNITS, KERNEL_SIZE
from lenet_mnist.training.probe import Layer
from lenet_mnist.tuning.advice import Direction, advise

_SMALL_START = 0.2  # of Glorot's size: weights that start smaller
_LARGE_INPUT = 4.0  # what C1 gives out for each unit of its weights' norm, with ReLU
_SATURATED_INPUT = 0.2  # of C1's outputs before the first update, with sigmoid and tanh
_DEAD_START = 0.5  # of a layer's units
_SHRUNK = 0.2  # of their norm at the start: weights that decay has taken away
_LONG_MEMORY = 0.99  # momentum from here on
_UNMIXED = 0.3  # by which the first epoch's training accuracy exceeds the validation accuracy after it
_CLEARLY = 0.01  # of the loss of guessing below it
_COSTLY_MISTAKE = 3.7  # nats of loss for each mistake; of a network that is unsure for good reason, about 3.2
_MISTAKES = (0.03, 0.45)  # shares of mistakes between which that figure means something
_ENOUGH_MISTAKES = 100
_MOVED = 0.004  # of a layer's weights in one update: a training that never changed them by so much has hardly begun


def _glorot_norm(num_in: int, num_out: int, num_weights: int) -> float:
    """Return the expected Euclidean norm of weights of variance 2 / (in + out)."""
    return math.sqrt(num_weights * 2 / (num_in + num_out))


_HIDDEN = (Layer.C1, Layer.C3, Layer.C5, Layer.F6)
_AREA = KERNEL_SIZE**2
_GLOROT_NORMS = {  # of the layers whose size does not depend on the images and classes
    Layer.C1: _glorot_norm(_AREA, _AREA * C1_CHANNELS, _AREA * C1_CHANNELS),
    Layer.C3: _glorot_norm(_AREA * C1_CHANNELS, _AREA * C3_CHANNELS, _AREA * C1_CHANNELS * C3_CHANNELS),
    Layer.F6: _glorot_norm(C5_UNITS, F6_UNITS, C5_UNITS * F6_UNITS),
}
_LABEL_REMEDY = "look at the mistakes that the network is surest of: `lenet evaluate RUN --split val` draws them"


def starting_weights(record: TrainingRecord) -> Finding | None:
    """Weights that start far smaller than Glorot's pass on next to nothing, forwards and backwards."""
    start = record.look(0)
    sizes = {layer: start[layer].weight_norm / size for layer, size in _GLOROT_NORMS.items() if layer in start}
    if not sizes or max(sizes.values()) >= _SMALL_START:
        return None
    layer, size = min(sizes.items(), key=lambda item: item[1])
    evidence = f"the weights of {layer} began at {size:.2g} of Glorot's size (expected: more than {_SMALL_START})"
    remedy = "start from Glorot's or Kaiming's values (model/initialisation.py)"
    return Finding(Cause.STARTING_WEIGHTS, "the starting weights are too small", (evidence,), remedy)


def inputs(record: TrainingRecord) -> Finding | None:
    """Inputs that are not of about unit size drive C1 far out, before anything is learned."""
    c1 = record.look(0).get(Layer.C1)
    if c1 is None or c1.dead >= _DEAD_START or c1.weight_norm == 0:
        return None
    if record.activation is Activation.RELU:
        size = c1.deviation / c1.weight_norm
        if size < _LARGE_INPUT:
            return None
        evidence = (
            f"before the first update C1 gave out {size:.3g} for each unit of its weights' norm "
            f"(expected: less than {_LARGE_INPUT:g})"
        )
    else:
        if c1.saturated < _SATURATED_INPUT:
            return None
        evidence = (
            f"before the first update {c1.saturated:.0%} of C1's outputs were saturated "
            f"(expected: less than {_SATURATED_INPUT:.0%})"
        )
    remedy = "bring the pixels to mean 0 and deviation 1 (data/sets.py, Normalization)"
    return Finding(Cause.INPUTS, "the inputs are not normalised", (evidence,), remedy)


def dead_from_the_start(record: TrainingRecord) -> Finding | None:
    """Units that are dead before the first update: biases or weights, and no learning rate, have done it."""
    dead = {row.layer: row.dead for row in record.look(0).values() if row.dead >= _DEAD_START}
    if not dead:
        return None
    layer, share = next(iter(dead.items()))
    evidence = f"before the first update {share:.0%} of the units of {layer} were {record.flat} on every image"
    remedy = "look at the values that the biases and weights start from (model/initialisation.py)"
    return Finding(Cause.DEAD_UNITS, "units are dead from the start", (evidence,), remedy)


def weight_decay(record: TrainingRecord) -> Finding | None:
    """Weight decay that takes away more than the gradient gives."""
    start, last, decay = record.look(0), record.last_look, record.config.training.weight_decay
    if decay == 0 or not last or any(start[layer].weight_norm == 0 for layer in _HIDDEN):
        return None
    kept = max(last[layer].weight_norm / start[layer].weight_norm for layer in _HIDDEN)
    if kept >= _SHRUNK:
        return None
    evidence = (
        f"with weight decay {decay:g} the weights of all hidden layers fell to {kept:.1g} of their size at the start, "
        f"or less (expected: more than {_SHRUNK})"
    )
    return Finding(
        Cause.WEIGHT_DECAY,
        "the weight decay takes the weights away",
        (evidence,),
        "lower it",
        f"--set training.weight_decay={min(decay / 100, 0.001):.1g}",
    )


def unmixed_batches(record: TrainingRecord) -> Finding | None:
    """Right on each batch and wrong straight after: neighbouring images are alike, as when they are sorted by label."""
    if not record.history:
        return None
    first = record.history[0]
    if first.train_accuracy - first.val_accuracy < _UNMIXED:
        return None
    evidence = (
        f"in the first epoch {first.train_accuracy:.0%} were right while learning, and after it only "
        f"{first.val_accuracy:.0%} of the validation images (expected: less than {100 * _UNMIXED:.0f} points apart)"
    )
    remedy = "show the training images in a new random order every epoch (data/batches.py)"
    return Finding(Cause.UNMIXED_BATCHES, "the batches are not mixed", (evidence,), remedy)


def meaningless_labels(record: TrainingRecord) -> Finding | None:
    """Labels that have nothing to do with the images can be learned by heart, and no other way."""
    if record.has_learned or not record.history:
        return None
    last, guessing = record.history[-1], record.guessing_loss
    if not (last.train_loss < (1 - _CLEARLY) * guessing and last.val_loss > guessing):
        return None
    evidence = (
        f"the training loss fell to {last.train_loss:.3f} nats, below the {guessing:.3f} of guessing, and the "
        f"validation loss stayed above, at {last.val_loss:.3f}: what is learned holds for the training images alone"
    )
    return Finding(Cause.LABELS, "the labels have nothing to do with the images", (evidence,), _LABEL_REMEDY)


def wrong_labels(record: TrainingRecord) -> Finding | None:
    """Where labels contradict their images, the network is sure and still wrong, at the same share of them to the end.

    So is one that has hardly moved from where it began, and is not meant here.
    """
    half = record.history[len(record.history) // 2 :]
    moved = max((row.update_ratio for row in record.probe if row.layer is not Layer.OUTPUT), default=0.0)
    if len(half) < 2 or moved < _MOVED:
        return None
    train, val = 1 - half[-1].train_accuracy, 1 - half[-1].val_accuracy
    fewest, most = _MISTAKES
    has_enough = min(train * record.num_train, val * record.num_val) >= _ENOUGH_MISTAKES
    if not (has_enough and fewest <= min(train, val) and max(train, val) <= most):
        return None
    of_train = median(row.train_loss / max(1 - row.train_accuracy, fewest) for row in half)
    of_val = median(row.val_loss / max(1 - row.val_accuracy, fewest) for row in half)
    if min(of_train, of_val) < _COSTLY_MISTAKE:
        return None
    evidence = (
        f"{train:.1%} of the training and {val:.1%} of the validation images are called wrong to the end, and each of "
        f"these mistakes costs {of_train:.1f} and {of_val:.1f} nats: the network is sure of another label (expected: "
        f"about 3.2, less than {_COSTLY_MISTAKE})"
    )
    return Finding(Cause.LABELS, "some of the labels are wrong", (evidence,), _LABEL_REMEDY)


def momentum(record: TrainingRecord) -> Finding | None:
    """Momentum that adds up a thousand gradients makes steps a hundred times as large as the usual ten."""
    training = record.config.training
    if training.optimizer is not Optimizer.SGD or training.momentum < _LONG_MEMORY:
        return None
    advice = advise(record.curve)
    if advice.direction is not Direction.LOWER:
        return None
    times = 1 / (1 - training.momentum)
    evidence = (
        f"with momentum {training.momentum:g} each gradient counts {times:,.0f} times: the steps are those of learning "
        f"rate {training.peak_learning_rate * times:.3g} without momentum (expected: momentum below {_LONG_MEMORY})"
    )
    headline = "the momentum is too high"
    return Finding(Cause.MOMENTUM, headline, (evidence, *advice.evidence), "lower it", "--set training.momentum=0.9")
