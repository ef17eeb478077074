"""The steps from a picture to what the network sees, drawn for `lenet predict --show`."""

from pathlib import Path

from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from lenet_mnist.errors import per_cent
from lenet_mnist.files.storage import make_directory, prepare_to_write
from lenet_mnist.inference.pictures import Steps
from lenet_mnist.inference.predict import Answer, Reading
from lenet_mnist.reporting.style import ORANGE, TITLE_POINTS, plain, save_figure

_WIDEST_NAME = 60
_TITLES = (
    "grey",
    "contrast",
    "ink, with the digit found",
    "fitted into 20 x 20",
    "what the network sees",
)


def draw_reading(reading: Reading) -> Path | None:
    """Draw into the run the steps of the first pictures that were prepared; return where, or None if there are none.

    Raises: StorageError.
    """
    if not reading.prepared:
        return None
    prepare_to_write(reading.run.path)
    path = reading.run.predictions_path / "steps.png"
    make_directory(path.parent)
    save_figure(steps_figure(reading.prepared), path)
    return path


def steps_figure(prepared: list[tuple[Answer, Steps]]) -> Figure:
    """Draw one row per picture, from its grey pixels to those that the network sees."""
    figure = Figure(figsize=(9.0, 0.3 + 2.15 * len(prepared)), layout="constrained")
    for part, (answer, steps) in zip(figure.subfigures(len(prepared), 1, squeeze=False)[:, 0], prepared, strict=True):
        _draw_steps(part, answer, steps)
    return figure


def _draw_steps(part: SubFigure, answer: Answer, steps: Steps) -> None:
    file, name = plain(Path(answer.picture).name, _WIDEST_NAME), plain(answer.prediction)
    part.suptitle(f"{file}: {name}, {per_cent(answer.probabilities[answer.prediction])}", fontsize=TITLE_POINTS)
    shown = (steps.grey, steps.contrast, steps.ink, steps.fitted, steps.seen)
    maps = ("gray", "gray_r", "gray_r", "gray_r", "gray_r")
    limits = ((0, 255), (0, max(steps.contrast.max(), 1)), (0, 1), (0, 1), (0, 255))
    for axes, pixels, title, colours, (low, high) in zip(
        part.subplots(1, 5), shown, _TITLES, maps, limits, strict=True
    ):
        axes.imshow(pixels, cmap=colours, vmin=low, vmax=high)
        axes.set_title(title, fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
        if pixels is steps.ink:
            box = steps.box
            corner = (box.left - 0.5, box.top - 0.5)
            size = (box.right - box.left, box.bottom - box.top)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=ORANGE, linewidth=1.2))
