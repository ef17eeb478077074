"""What a trained network reads in pictures of people's own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lenet_mnist.config import Source
from lenet_mnist.data.decoding import Picture, picture_paths, read_picture
from lenet_mnist.data.mnist import IMAGE_SIZE
from lenet_mnist.data.picture_folders import OtherSizeError, pixels_of
from lenet_mnist.data.scaling import Pixels
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.experiments.evaluation import read_kept_network
from lenet_mnist.inference.likeness import doubts, looks_of
from lenet_mnist.inference.pictures import Steps, prepare
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import TrainedNetwork


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network reads in a picture: a probability for each class, and in what it is unlike MNIST's.

    `steps` are None where a picture is taken as it is, by a network that was trained on other data than MNIST.
    """

    picture: Picture
    steps: Steps | None
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
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


@dataclass(frozen=True, eq=False)
class Reading:
    """All pictures, in the order in which they were named."""

    run: RunDirectory
    results: tuple[Answer | Refusal, ...]

    @property
    def answers(self) -> list[Answer]:
        """Those that were answered."""
        return [result for result in self.results if isinstance(result, Answer)]

    @property
    def refusals(self) -> list[Refusal]:
        """Those that were not."""
        return [result for result in self.results if isinstance(result, Refusal)]


def read_pictures(run: RunDirectory, arguments: Sequence[Path]) -> Reading:
    """Let the kept weights of `run` read each picture, and each in a folder; a bad one does not keep others waiting.

    A network that was trained on MNIST sees them prepared as MNIST's were; any other as they are.

    Raises: ConfigError if the run holds no network; DataError if its network is damaged or takes pictures of another
    size.
    """
    trained = kept_network(run)
    if run.read_manifest().data_source == Source.MNIST:
        answered = partial(answer, trained)
    else:
        answered = partial(answer_as_it_is, trained, is_resized=run.read_config().data.resize)
    return Reading(run, tuple(result for argument in arguments for result in _results(answered, argument)))


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


def _results(answered: Callable[[Picture], Answer], argument: Path) -> Iterator[Answer | Refusal]:
    """Yield what becomes of a picture, or of each in a folder."""
    try:
        paths, _ = picture_paths(argument)
    except (DataError, StorageError) as error:
        yield Refusal(argument, str(error))
        return
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
    probabilities = _probabilities(trained, steps.seen, picture.path)
    unlike = doubts(looks_of(steps), max(probabilities))
    return Answer(picture, steps, trained.class_names, probabilities, tuple(unlike))


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
    return Answer(picture, None, trained.class_names, _probabilities(trained, seen, picture.path), ())


@torch.inference_mode()
def _probabilities(trained: TrainedNetwork, seen: Pixels, path: Path) -> tuple[float, ...]:
    """Return a probability for each class. Source: lecture point 8, softmax."""
    logits = trained.network(trained.normalization.apply(torch.from_numpy(seen).unsqueeze(0)))[0].double()
    if not bool(logits.isfinite().all()):
        raise DataError(f"{path}: the network's weights are so large that its answer is no number")
    return tuple(logits.softmax(dim=0).tolist())


def require_all_answered(reading: Reading) -> None:
    """Raise DataError if a picture was refused; it names them all."""
    refusals = reading.refusals
    if len(reading.results) == 1 and refusals:
        raise DataError(refusals[0].reason)
    if refusals:
        names = ", ".join(str(refusal.path) for refusal in refusals)
        raise DataError(f"{len(refusals)} of {len(reading.results)} pictures could not be read: {names}")
