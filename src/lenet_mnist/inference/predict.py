"""What a trained network reads in people's own pictures."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

import numpy as np
import torch

from lenet_mnist.config import Source
from lenet_mnist.data.decoding import OtherSizeError, Picture, picture_paths, pixels_of, read_picture
from lenet_mnist.data.idx import may_be_transposed
from lenet_mnist.data.sets import IMAGE_SIZE
from lenet_mnist.errors import ConfigError, DataError, StorageError, one_line, per_cent
from lenet_mnist.files.tables import plain
from lenet_mnist.inference.likeness import doubts, looks_of
from lenet_mnist.inference.pictures import Steps, prepare
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork

MOST_KEPT = 20  # pictures and refusals that are remembered, of any number
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


class _Read(NamedTuple):
    """An answer, and what leads to it; `upright` is the logsumexp of the logits, minus that of the mirror image."""

    answer: Answer
    steps: Steps | None
    upright: float


@dataclass(eq=False)
class Reading:
    """Pictures, read one at a time and once, in the order in which they were named; only the first few are kept.

    `uprights` is the sum, and the sum of squares, of `upright` over the answers.
    """

    run: Run
    results: Iterator[_Read | Refusal]
    notes_of_folders: list[str]
    num_read: int = 0
    num_answered: int = 0
    prepared: list[tuple[Answer, Steps]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    uprights: tuple[float, float] = (0.0, 0.0)

    def __iter__(self) -> Iterator[Answer | Refusal]:
        for result in self.results:
            self.num_read += 1
            if isinstance(result, Refusal):
                self.refusals += [result] if len(self.refusals) < MOST_KEPT else []
                yield result
            else:
                self.num_answered += 1
                self.uprights = (self.uprights[0] + result.upright, self.uprights[1] + result.upright**2)
                if result.steps is not None and len(self.prepared) < MOST_KEPT:
                    self.prepared.append((result.answer, result.steps))
                yield result.answer

    def texts(self) -> Iterator[str]:
        """Yield each result as text, as soon as it is there; not a single refusal, which is left to the error."""
        for result in self:
            if self.num_read == 2 and (first := self.refusals[:1]) and first[0] is not result:
                yield str(first[0])
            if isinstance(result, Answer):
                yield str(replace(result, doubts=()) if self.run.manifest.only_guesses else result)
            elif self.num_read > 1:
                yield str(result)

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
        found, manifest = list(self.notes_of_folders), self.run.manifest
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
        """Whether the mean of `upright` is below zero by one nat, and by three standard errors."""
        count, (total, squares) = self.num_answered, self.uprights
        if count < _LEAST_TO_COMPARE:
            return False
        mean = total / count
        return mean < -max(_NATS, _DEVIATIONS * math.sqrt(max(squares / count - mean**2, 0) / (count - 1)))

    def require_all_answered(self) -> None:
        """Raise DataError if a picture was refused; it names the first of them."""
        if self.num_read == 1 and self.refusals:
            raise DataError(self.refusals[0].error)
        if self.refusals:
            num_refused, names = self.num_read - self.num_answered, ", ".join(each.picture for each in self.refusals)
            more = f" and {num_refused - MOST_KEPT:,} more" if num_refused > MOST_KEPT else ""
            raise DataError(f"{num_refused:,} of {self.num_read:,} pictures could not be read: {names}{more}")


def read_pictures(run: Run, arguments: Sequence[Path]) -> Reading:
    """Let the kept weights of `run` read each picture, and each in a folder; a bad one does not stop the others.

    A network that was trained on MNIST sees them prepared as MNIST's were; any other sees them as they are.

    Raises: ConfigError if the run has no network; DataError if its network is damaged, or takes a different size.
    """
    is_resized = None if run.manifest.data_source == Source.MNIST else run.config.data.resize
    notes: list[str] = []
    read = partial(_read, kept_network(run), is_resized=is_resized)
    results = (result for argument in arguments for result in _results(read, argument, notes))
    return Reading(run, results, notes)


def digit_network(run: Run) -> TrainedNetwork:
    """Return the kept network of a run that was trained on MNIST: for pictures that are prepared as MNIST's digits.

    Raises: ConfigError if it was trained on something else, or is not a training; DataError.
    """
    source = run.manifest.data_source
    if source != Source.MNIST:
        raise ConfigError(
            f"{run.path}: was not trained on MNIST, but on {source}. Drawings are prepared as MNIST's digits were, so "
            "its answers would mean nothing"
        )
    return kept_network(run)


def kept_network(run: Run) -> TrainedNetwork:
    """Return the kept network of a run. Raises: ConfigError if it is not a training; DataError."""
    run.require("train", "it has no network")
    trained = read_kept_network(run)
    if (size := trained.network.image_size) != IMAGE_SIZE:
        raise DataError(f"{run.path}: its network takes {size} x {size} pixels; pictures are prepared for {IMAGE_SIZE}")
    return trained


def _results(read: Callable[[Picture], _Read], argument: Path, notes: list[str]) -> Iterator[_Read | Refusal]:
    """Yield the result for a picture, or for each in a folder."""
    try:
        paths, num_others = picture_paths(argument)
    except (DataError, StorageError) as error:
        yield Refusal(str(argument), str(error))
        return
    if num_others:
        notes.append(f"{argument}: skipped, being folders or not PNG, JPEG or BMP: {num_others:,}")
    for path in paths:
        try:
            yield read(read_picture(path))
        except DataError as error:
            yield Refusal(str(path), str(error))


@torch.inference_mode()
def _read(trained: TrainedNetwork, picture: Picture, is_resized: bool | None) -> _Read:
    """Read one picture, prepared as MNIST's were, or as it is but for its size, which may change if `is_resized`.

    Source: lecture point 8, softmax.
    Raises: DataError if there is no ink in it, it has the wrong size, or the logits are not finite.
    """
    path = picture.path
    try:
        steps = prepare(picture.grey) if is_resized is None else None
        seen = pixels_of(picture, bool(is_resized)) if steps is None else steps.seen
    except OtherSizeError as error:
        size = f"{IMAGE_SIZE} x {IMAGE_SIZE}"
        raise DataError(f"{error}: the network was trained on pictures of {size} pixels, without data.resize") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    logits, mirrored = (
        trained.network(trained.normalization.apply(torch.from_numpy(pixels).unsqueeze(0)))[0].double()
        for pixels in (seen, np.ascontiguousarray(seen.T))
    )
    if not bool(logits.isfinite().all()):
        raise DataError(f"{path}: the logits are not finite: the network's weights have overflowed")
    upright = float(logits.logsumexp(dim=0) - mirrored.logsumexp(dim=0))
    probabilities: dict[str, float] = dict(zip(trained.class_names, logits.softmax(dim=0).tolist(), strict=True))
    first = max(probabilities, key=probabilities.__getitem__)
    found = () if steps is None else tuple(doubts(looks_of(steps), probabilities[first]))
    answer = Answer(
        picture=str(path),
        width=picture.width,
        height=picture.height,
        is_dark_on_light=None if steps is None else steps.is_dark_on_light,
        prediction=first,
        probabilities=probabilities,
        looks_like_mnist=None if steps is None else not found,
        doubts=found,
    )
    return _Read(answer, steps, upright if math.isfinite(upright) else 0.0)
