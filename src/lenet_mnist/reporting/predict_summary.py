"""What a network reads in pictures, in words and in JSON."""

import json
import textwrap
from collections.abc import Iterator

from lenet_mnist.errors import one_line
from lenet_mnist.inference.predict import Answer, Reading, Refusal
from lenet_mnist.reporting.text import per_cent, to_json

_NUM_SHOWN = 3


def reading_text(reading: Reading) -> Iterator[str]:
    """Say of each picture what it is, how sure that is, what was done to it, and what is odd about it.

    Nothing is said of a single one that could not be read: that is for the error.
    """
    held_back = None
    for result in reading:
        if held_back is not None:
            yield held_back
        held_back = None
        if isinstance(result, Answer):
            yield _answer_text(result, reading.only_guesses)
        elif reading.num_read > 1:
            yield _refusal_text(result)
        else:
            held_back = _refusal_text(result)


def _answer_text(answer: Answer, only_guesses: bool) -> str:
    picture, ranking = answer.picture, answer.ranking[:_NUM_SHOWN]
    taken = "taken as it is"
    if answer.steps is not None:
        taken = "dark ink on light ground" if answer.steps.is_dark_on_light else "light ink on dark ground"
    shares = "   ".join(f"{name}  {per_cent(probability)}" for name, probability in ranking)
    lines = [
        f"{one_line(str(picture.path))}:  {shares}",
        f"  {taken}, {picture.width:,} x {picture.height:,} pixels",
    ]
    if answer.doubts and not only_guesses:
        lines.append("  warning: does not look like a digit of MNIST: " + "; ".join(answer.doubts))
    return "\n".join(lines)


def _refusal_text(refusal: Refusal) -> str:
    return f"{one_line(refusal.reason)}\n  not read"


def reading_json(reading: Reading) -> Iterator[str]:
    """Return the lines of one JSON document that says the same, with the probabilities of all classes."""
    yield f'{{\n  "run": {json.dumps(str(reading.run.path))},\n  "pictures": ['
    for result in reading:
        yield textwrap.indent(("," if reading.num_read > 1 else "") + to_json(_row(result)), "    ")
    yield f'  ],\n  "only_guesses": {json.dumps(reading.only_guesses)},\n  "notes": {json.dumps(reading.notes)}\n}}'


def _row(result: Answer | Refusal) -> dict[str, object]:
    if isinstance(result, Refusal):
        return {"picture": str(result.path), "error": result.reason}
    return {
        "picture": str(result.picture.path),
        "width": result.picture.width,
        "height": result.picture.height,
        "is_dark_on_light": result.steps and result.steps.is_dark_on_light,
        "prediction": result.ranking[0][0],
        "probabilities": dict(zip(result.class_names, result.probabilities, strict=True)),
        "looks_like_mnist": result.steps and not result.doubts,
        "doubts": list(result.doubts),
    }
