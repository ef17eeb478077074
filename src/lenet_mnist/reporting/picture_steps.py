"""The steps from a picture to what the network sees, drawn for `lenet predict --show`."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lenet_mnist.errors import per_cent
from lenet_mnist.files.storage import make_directory, prepare_to_write
from lenet_mnist.inference.predict import Reading
from lenet_mnist.reporting.style import ORANGE, TITLE_POINTS, plain, save_figure

_WIDEST_NAME = 60


def draw_reading(reading: Reading) -> Path | None:
    """Draw into the run the steps of the first pictures that were prepared, one row each.

    Returns: the picture's path, or None if there are no steps to draw.
    Raises: StorageError.
    """
    if not reading.prepared:
        return None
    count = len(reading.prepared)
    figure = Figure(figsize=(9.0, 0.3 + 2.15 * count), layout="constrained")
    for row, (answer, steps) in zip(figure.subfigures(count, 1, squeeze=False)[:, 0], reading.prepared, strict=True):
        file, name = plain(Path(answer.picture).name, _WIDEST_NAME), plain(answer.prediction)
        row.suptitle(f"{file}: {name}, {per_cent(answer.probabilities[answer.prediction])}", fontsize=TITLE_POINTS)
        columns = (
            ("grey", steps.grey, "gray", 255),
            ("contrast", steps.contrast, "gray_r", max(steps.contrast.max(), 1)),
            ("ink, with the digit found", steps.ink, "gray_r", 1),
            ("scaled to 20 x 20", steps.fitted, "gray_r", 1),
            ("what the network sees", steps.seen, "gray_r", 255),
        )
        all_axes = row.subplots(1, len(columns))
        for axes, (title, pixels, colours, most) in zip(all_axes, columns, strict=True):
            axes.imshow(pixels, cmap=colours, vmin=0, vmax=most)
            axes.set_title(title, fontsize=7)
            axes.set_xticks([])
            axes.set_yticks([])
        top, bottom, left, right = steps.box
        found = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=ORANGE)
        found.set_linewidth(1.2)
        all_axes[2].add_patch(found)
    prepare_to_write(reading.run.path)
    path = reading.run.predictions_path / "steps.png"
    make_directory(path.parent)
    save_figure(figure, path)
    return path
