"""What a trained network reads in pictures of people's own."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lenet_mnist.config import Source
from lenet_mnist.data import idx_directory
from lenet_mnist.data.decoding import Picture, picture_paths, read_picture
from lenet_mnist.data.mnist import IMAGE_SIZE
from lenet_mnist.data.picture_folders import OtherSizeError, pixels_of
from lenet_mnist.data.scaling import Pixels
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.experiments.evaluation import read_kept_network
from lenet_mnist.inference.likeness import doubts, looks_of
from lenet_mnist.inference.pictures import Steps, prepare
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.training.checkpoint import TrainedNetwork

MOST_KEPT = 20  # pictures and refusals that are remembered, of however many
_LEAST_TO_COMPARE, _NATS, _DEVIATIONS = 5, 1.0, 3.0  # to say that pictures lie on their side: docs/predict.md


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network reads in a picture: a probability for each class, and in what it is unlike MNIST's.

    `steps` are None where a picture is taken as it is, by a network that was trained on other data than MNIST.
    """

    picture: Picture
    steps: Steps | None
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    upright: float
    """How much more of what it knows the network finds in the picture than in its mirror image about the diagonal."""
    doubts: tuple[str, ...]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """The classes and their probabilities, the most probable first."""
        return sorted(zip(self.class_names, self.probabilities, strict=True), key=lambda pair: -pair[1])


@dataclass(frozen=True)
class Refusal:
    """A picture that was not answered, and why."""

    path: Path
    reason: str


@dataclass(eq=False)
class Reading:
    """Pictures, read one after the other in the order in which they were named, once; kept are only the first few."""

    run: RunDirectory
    manifest: Manifest
    results: Iterator[Answer | Refusal]
    passed_over: list[str]
    """What of the folders was no picture, a sentence a folder."""
    num_read: int = 0
    num_refused: int = 0
    prepared: list[tuple[Answer, Steps]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    uprights: tuple[float, float] = (0.0, 0.0)
    """Sum and sum of squares of the answers' `upright`."""

    def __iter__(self) -> Iterator[Answer | Refusal]:
        for result in self.results:
            self.num_read += 1
            if isinstance(result, Refusal):
                self.num_refused += 1
                self.refusals += [result] if len(self.refusals) < MOST_KEPT else []
            else:
                self.uprights = (self.uprights[0] + result.upright, self.uprights[1] + result.upright**2)
                if result.steps is not None and len(self.prepared) < MOST_KEPT:
                    self.prepared.append((result, result.steps))
            yield result

    @property
    def num_answered(self) -> int:
        """How many pictures have been answered so far."""
        return self.num_read - self.num_refused

    @property
    def only_guesses(self) -> bool:
        """Whether the network has learned nothing, so that its answers mean nothing."""
        return self.manifest.only_guesses

    @property
    def notes(self) -> list[str]:
        """What should be known of the answers so far, a sentence each."""
        found = list(self.passed_over)
        if self.only_guesses:
            found.append(
                f"this network only guesses: its validation loss is {self.manifest.best_val_loss:.3g} nats, that of "
                f"guessing {self.manifest.guessing_loss:.3g}; what it says of a picture means nothing"
            )
        elif self._lie_on_their_side():
            found.append(
                "to this network the pictures lie on their side: it knows them better mirrored about the diagonal. If "
                "its data do so, as EMNIST's: train with --set data.transpose=true (docs/data.md)"
            )
        elif self.num_answered and idx_directory.lies_on_its_side(
            self.manifest.data_files, self.run.read_config().data
        ):
            found.append(
                "this network was trained on EMNIST's files, whose pictures lie on their side unless somebody turned "
                "them: then it reads upright ones wrong, however sure it is. Train with --set data.transpose=true"
            )
        return found

    def _lie_on_their_side(self) -> bool:
        """Whether the mean of `upright` is well below zero: by so many nats, and so many standard deviations of it."""
        count, (total, squares) = self.num_answered, self.uprights
        if count < _LEAST_TO_COMPARE:
            return False
        mean = total / count
        return mean < -max(_NATS, _DEVIATIONS * math.sqrt(max(squares / count - mean**2, 0) / (count - 1)))


def read_pictures(run: RunDirectory, arguments: Sequence[Path]) -> Reading:
    """Let the kept weights of `run` read each picture, and each in a folder; a bad one does not keep others waiting.

    A network that was trained on MNIST sees them prepared as MNIST's were; any other as they are.

    Raises: ConfigError if the run holds no network; DataError if its network is damaged or takes pictures of another
    size.
    """
    trained = kept_network(run)
    manifest = run.read_manifest()
    if manifest.data_source == Source.MNIST:
        answered = partial(answer, trained)
    else:
        answered = partial(answer_as_it_is, trained, is_resized=run.read_config().data.resize)
    passed_over: list[str] = []
    results = (result for argument in arguments for result in _results(answered, argument, passed_over))
    return Reading(run, manifest, results, passed_over)


def digit_network(run: RunDirectory) -> TrainedNetwork:
    """Return the kept network of a run that was trained on MNIST, as whose digits pictures are prepared.

    Raises: ConfigError if it was trained on something else, or is no training; DataError.
    """
    source = run.read_manifest().data_source
    if source != Source.MNIST:
        raise ConfigError(
            f"{run.path}: was not trained on MNIST, but on {source}; what is drawn is prepared as MNIST's digits were, "
            "so that its answers would mean nothing"
        )
    return kept_network(run)


def kept_network(run: RunDirectory) -> TrainedNetwork:
    """Return the kept network of a run. Raises: ConfigError if it is no training; DataError."""
    manifest = run.read_manifest()
    if manifest.kind != "train":
        raise ConfigError(f"{run.path}: is a {manifest.kind}, not a training: it has no network")
    trained = read_kept_network(run, manifest)
    if trained.network.image_size != IMAGE_SIZE:
        size = trained.network.image_size
        raise DataError(f"{run.path}: its network takes {size} x {size} pixels; pictures are prepared for {IMAGE_SIZE}")
    return trained


def _results(
    answered: Callable[[Picture], Answer], argument: Path, passed_over: list[str]
) -> Iterator[Answer | Refusal]:
    """Yield what becomes of a picture, or of each in a folder."""
    try:
        paths, num_others = picture_paths(argument)
    except (DataError, StorageError) as error:
        yield Refusal(argument, str(error))
        return
    if num_others:
        passed_over.append(f"{argument}: passed over, being folders or no PNG, JPEG or BMP: {num_others:,}")
    for path in paths:
        try:
            yield answered(read_picture(path))
        except DataError as error:
            yield Refusal(path, str(error))


def answer(trained: TrainedNetwork, picture: Picture) -> Answer:
    """Return what the network reads in one picture, prepared as MNIST's were.

    Raises: DataError if there is no ink in it, or the answer is no number.
    """
    try:
        steps = prepare(picture.grey)
    except DataError as error:
        raise DataError(f"{picture.path}: {error}") from None
    probabilities, upright = _look(trained, steps.seen, picture.path)
    unlike = doubts(looks_of(steps), max(probabilities))
    return Answer(picture, steps, trained.class_names, probabilities, upright, tuple(unlike))


def answer_as_it_is(trained: TrainedNetwork, picture: Picture, is_resized: bool) -> Answer:
    """Return what the network reads in one picture, of which nothing is changed but the size, if it may be.

    Raises: DataError if it has another size, or the answer is no number.
    """
    try:
        seen = pixels_of(picture, is_resized)
    except OtherSizeError as error:
        raise DataError(
            f"{error}: the network was trained on pictures of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, without data.resize"
        ) from None
    return Answer(picture, None, trained.class_names, *_look(trained, seen, picture.path), ())


@torch.inference_mode()
def _look(trained: TrainedNetwork, seen: Pixels, path: Path) -> tuple[tuple[float, ...], float]:
    """Return a probability for each class, and `Answer.upright`. Source: lecture point 8, softmax."""
    logits, mirrored = (
        trained.network(trained.normalization.apply(torch.from_numpy(pixels).unsqueeze(0)))[0].double()
        for pixels in (seen, np.ascontiguousarray(seen.T))
    )
    if not bool(logits.isfinite().all()):
        raise DataError(f"{path}: the network's weights are so large that its answer is no number")
    upright = float(logits.logsumexp(dim=0) - mirrored.logsumexp(dim=0))
    return tuple(logits.softmax(dim=0).tolist()), upright if math.isfinite(upright) else 0.0


def require_all_answered(reading: Reading) -> None:
    """Raise DataError if a picture was refused; it names the first of them."""
    if reading.num_read == 1 and reading.refusals:
        raise DataError(reading.refusals[0].reason)
    if reading.refusals:
        more = reading.num_refused - len(reading.refusals)
        names = ", ".join(str(refusal.path) for refusal in reading.refusals) + (f" and {more:,} more" if more else "")
        raise DataError(f"{reading.num_refused:,} of {reading.num_read:,} pictures could not be read: {names}")
