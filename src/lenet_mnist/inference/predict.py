"""What a trained network reads: in people's own pictures, and in arrays of pixels that are as MNIST's already."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from textwrap import indent
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lenet_mnist.config import Source
from lenet_mnist.data.decoding import KINDS, is_picture, pixels_of, read_picture, visible
from lenet_mnist.data.idx import may_be_transposed
from lenet_mnist.data.sets import IMAGE_SIZE
from lenet_mnist.errors import DataError, StorageError, one_line, per_cent
from lenet_mnist.files.tables import plain
from lenet_mnist.inference.pictures import Steps, doubts, looks_of, prepare
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork

_MOST_KEPT = 20  # prepared pictures that are remembered, of any number
_NUM_SHOWN = 3
_LEAST_TO_COMPARE, _NATS, _DEVIATIONS = 5, 1.0, 3.0  # to say that pictures are on their side: docs/predict.md


@dataclass(frozen=True)
class Answer:
    """What the network reads in a picture. The fields are the keys of `--json`; str() is the text.

    `is_dark_on_light` and `looks_like_mnist` are None where pictures are taken as they are, by a network that was not
    trained on MNIST.
    """

    picture: str
    width: int
    height: int
    is_dark_on_light: bool | None
    prediction: str
    probabilities: dict[str, float]
    looks_like_mnist: bool | None
    doubts: tuple[str, ...]

    def __str__(self) -> str:
        ranking = sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:_NUM_SHOWN]
        shares = "   ".join(f"{name}  {per_cent(probability)}" for name, probability in ranking)
        words = {None: "taken as it is", True: "dark ink on light ground", False: "light ink on dark ground"}
        lines = [
            f"{one_line(self.picture)}:  {shares}",
            f"  {words[self.is_dark_on_light]}, {self.width:,} x {self.height:,} pixels",
        ]
        if self.doubts:
            lines.append("  warning: does not look like a digit of MNIST: " + "; ".join(self.doubts))
        return "\n".join(lines)


@dataclass(frozen=True)
class Refusal:
    """A picture that was not answered, and why. The fields are the keys of `--json`."""

    picture: str
    error: str

    def __str__(self) -> str:
        return f"{one_line(self.error)}\n  not read"


@dataclass(eq=False)
class Reading:
    """Pictures, read one at a time and once, in the order in which they were named; only the first few are kept.

    A network that was trained on MNIST sees them prepared as MNIST's were; any other sees them as they are.

    `uprights` are, for each answer, the logsumexp of the picture's logits minus that of its mirror image about the
    diagonal.
    """

    run: Run
    trained: TrainedNetwork
    arguments: Sequence[Path]
    num_read: int = 0
    num_answered: int = 0
    num_others: dict[Path, int] = field(default_factory=dict)
    prepared: list[tuple[Answer, Steps]] = field(default_factory=list)
    first_refusal: Refusal | None = None
    uprights: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[Answer | Refusal]:
        """Read each picture, and each in a folder; a bad one does not stop the others."""
        for path in self._paths():
            self.num_read += 1
            result: Answer | Refusal
            try:
                result = self._answer(path)
            except DataError as error:
                result = Refusal(str(path), str(error))
                self.first_refusal = self.first_refusal or result
            yield result

    def texts(self) -> Iterator[str]:
        """Yield each result as text, as soon as it is there."""
        only_guesses = self.run.manifest.only_guesses
        for result in self:
            yield str(replace(result, doubts=()) if isinstance(result, Answer) and only_guesses else result)

    def json_parts(self) -> Iterator[str]:
        """Yield one JSON document, a part per picture, as soon as it is there."""
        yield f'{{\n  "run": {json.dumps(str(self.run.path))},\n  "pictures": ['
        for result in self:
            row = json.dumps(plain(result), indent=2, allow_nan=False)
            yield indent(("," if self.num_read > 1 else "") + row, "    ")
        only_guesses, notes = json.dumps(self.run.manifest.only_guesses), json.dumps(self.notes)
        yield f'  ],\n  "only_guesses": {only_guesses},\n  "notes": {notes}\n}}'

    @property
    def notes(self) -> list[str]:
        """What the user should know about the answers so far, in one sentence each."""
        skipped = f"skipped, being folders or not {KINDS}"
        found = [f"{folder}: {skipped}: {number:,}" for folder, number in self.num_others.items() if number]
        manifest = self.run.manifest
        if manifest.only_guesses:
            found.append(
                f"this network is at chance level: its validation loss is {manifest.best_val_loss:.3g} nats, and "
                f"{manifest.guessing_loss:.3g} at chance level. Its answers mean nothing"
            )
        elif self._are_on_their_side():
            found.append(
                "the pictures seem to be on their side: the network recognises more in their mirror images about the "
                "diagonal. If its own data are, as EMNIST's: train with --set data.transpose=true (docs/data.md)"
            )
        elif self.num_answered and may_be_transposed(manifest.data_files, self.run.config.data):
            found.append(
                "this network was trained on EMNIST's files, whose images are on their side unless somebody has turned "
                "them. It then misreads upright ones, however sure it is. Train with --set data.transpose=true"
            )
        return found

    def _are_on_their_side(self) -> bool:
        """Whether the mean of `uprights` is below zero by one nat, and by three standard errors."""
        count = len(self.uprights)
        if count < _LEAST_TO_COMPARE:
            return False
        return fmean(self.uprights) < -max(_NATS, _DEVIATIONS * stdev(self.uprights) / math.sqrt(count))

    def require_all_answered(self) -> None:
        """Raise DataError if a picture was refused; it names the first of them."""
        if self.first_refusal:
            num_refused, first = self.num_read - self.num_answered, self.first_refusal.error
            raise DataError(f"{num_refused:,} of {self.num_read:,} pictures could not be read: {first}")

    def _paths(self) -> Iterator[Path]:
        for argument in self.arguments:
            pictures: list[Path] = []
            with suppress(OSError, StorageError):  # reading the argument will say what is wrong with it
                if argument.is_dir():
                    inside = visible(argument)
                    pictures = [path for path in inside if not path.is_dir() and is_picture(path)]
                    self.num_others[argument] = len(inside) - len(pictures)
            yield from pictures or [argument]

    @torch.inference_mode()
    def _answer(self, path: Path) -> Answer:
        """Return what the network reads in a picture. Source: lecture point 8, softmax.

        Raises: DataError if it cannot be read, has no ink or the wrong size, or the logits are not finite.
        """
        if path in self.num_others:
            raise DataError(f"{path}: holds no picture: no file in it is {KINDS}")
        picture, trained = read_picture(path), self.trained
        try:
            steps = prepare(picture.grey) if self.run.manifest.data_source == Source.MNIST else None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        seen = steps.seen if steps else pixels_of(picture, self.run.config.data.resize)
        if seen is None:
            found, size = f"{picture.width} x {picture.height}", f"{IMAGE_SIZE} x {IMAGE_SIZE}"
            said = f"the network was trained on pictures of {size} pixels, without data.resize"
            raise DataError(f"{path} ({found}): {said}")
        images = torch.from_numpy(np.stack([seen, seen.T]))
        logits, mirrored = trained.network(trained.normalization.apply(images)).double()
        if not bool(logits.isfinite().all()):
            raise DataError(f"{path}: the logits are not finite: the network's weights have overflowed")
        upright = float(logits.logsumexp(dim=0) - mirrored.logsumexp(dim=0))
        if math.isfinite(upright):
            self.uprights.append(upright)
        probabilities: dict[str, float] = dict(zip(trained.class_names, logits.softmax(dim=0).tolist(), strict=True))
        first = max(probabilities, key=probabilities.__getitem__)
        found_odd = tuple(doubts(looks_of(steps), probabilities[first])) if steps else ()
        answer = Answer(
            picture=str(path),
            width=picture.width,
            height=picture.height,
            is_dark_on_light=steps.is_dark_on_light if steps else None,
            prediction=first,
            probabilities=probabilities,
            looks_like_mnist=not found_odd if steps else None,
            doubts=found_odd,
        )
        self.num_answered += 1
        if steps and len(self.prepared) < _MOST_KEPT:
            self.prepared.append((answer, steps))
        return answer


def read_pictures(run: Run, arguments: Sequence[Path]) -> Reading:
    """Let the kept weights of `run` read each picture, and each in a folder.

    Raises: ConfigError if the run has no network; DataError if its network is damaged, or takes a different size.
    """
    return Reading(run, kept_network(run), arguments)


def kept_network(run: Run) -> TrainedNetwork:
    """Return the kept network of a run. Raises: ConfigError if it is not a training; DataError."""
    run.require("train", "it has no network")
    trained = read_kept_network(run)
    if (size := trained.network.image_size) != IMAGE_SIZE:
        raise DataError(f"{run.path}: its network takes {size} x {size} pixels; pictures are prepared for {IMAGE_SIZE}")
    return trained


class RawNetwork(nn.Module):
    """A trained LeNet that takes raw pixels, 0 (black) to 255 (white), and normalises them itself. In eval mode."""

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.lenet = trained.network
        self.normalization = trained.normalization
        self.class_names = trained.class_names
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shapes: images N 28 28 or N 1 28 28, of any type; result N K float32."""
        pixels = images.unsqueeze(1) if images.dim() == 3 else images
        logits: Tensor = self.lenet((pixels.float() / 255 - self.normalization.mean) / self.normalization.std)
        return logits


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network reads in arrays. Shapes: labels N int64, places in `class_names`; probabilities N K float64."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    class_names: tuple[str, ...]


def predict_arrays(network: RawNetwork, images: Any) -> Predictions:
    """Return what `network` reads in images. Shapes: 28 28, N 28 28 or N 1 28 28, integers or floats, 0..255.

    Raises: DataError if these are not such images.
    Source: lecture point 8, softmax.
    """
    with torch.inference_mode():
        logits = network(_as_pixels(images)).double()
    probabilities = logits.softmax(dim=1)
    return Predictions(probabilities.argmax(dim=1).numpy(), probabilities.numpy(), network.class_names)


def _as_pixels(images: Any) -> Tensor:
    """Return images as pixels. Shapes: as above; result N 28 28 float32. Raises: DataError."""
    try:
        found = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    except ValueError as error:  # lists of unequal lengths
        raise DataError(f"the images make no array: {error}") from None
    if found.dtype.kind not in "uif":
        raise DataError(f"the images have type {found.dtype}, expected uint8 or floats")
    side = (IMAGE_SIZE, IMAGE_SIZE)
    if found.shape[-2:] != side or found.shape[:-2] not in ((), found.shape[:1], (*found.shape[:1], 1)):
        raise DataError(f"the images have shape {found.shape}, expected (28, 28), (N, 28, 28) or (N, 1, 28, 28)")
    if found.size == 0:
        raise DataError("there are no images to predict")
    low, high = found.min(), found.max()
    if not (low >= 0 and high <= 255):  # also if one is not a number
        raise DataError(f"the pixels go from {low:g} to {high:g}, expected 0 (black) to 255 (white)")
    if 0 < high <= 1:
        raise DataError(f"the pixels go from {low:g} to {high:g}: multiply them by 255, as the network expects 0..255")
    return torch.from_numpy(found.reshape(-1, *side).astype(np.float32))
