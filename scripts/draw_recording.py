"""Record the first epoch of configs/relu.yaml as docs/learning.gif: the loss, and what the network reads meanwhile.

    python scripts/draw_recording.py

Left, the loss of each update and the accuracy on the 5,000 validation images; right, 60 of those images with the
network's answers, wrong ones in colour.
"""

import io
from itertools import accumulate
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure
from PIL import Image

from common import ROOT, SMALL, arguments, data_of, recipe, trained
from lenet_mnist.reporting.style import BLUE, GREY, ORANGE, SKY, plain_log_axis, tidy
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.state import TrainState

STEPS = [0, *accumulate([2] * 5 + [5] * 6 + [10] * 6 + [20] * 5 + [50] * 4 + [100] * 4)]
ROWS, COLUMNS = 6, 10
SMOOTHED = 20  # updates
FRAME_MS, LAST_MS = 160, 3000
DOTS_PER_INCH = 90


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "learning.gif")
    options = parser.parse_args()
    config = recipe("relu")
    data = data_of(config.data)
    images, labels = data.normalization.apply(data.val.images), data.val.labels
    losses: list[float] = []
    frames: list[Image.Image] = []

    def draw(state: TrainState) -> None:
        with torch.inference_mode():
            answers = state.network(images).argmax(dim=1)
        accuracy = (answers == labels).double().mean().item()
        figure = Figure(figsize=(8.4, 3.3))
        axes = figure.add_axes((0.075, 0.16, 0.33, 0.7))
        tidy(axes)
        axes.plot(range(1, len(losses) + 1), losses, color=SKY, linewidth=0.6)
        means = [fmean(losses[max(0, end - SMOOTHED) : end]) for end in range(1, len(losses) + 1)]
        axes.plot(range(1, len(losses) + 1), means, color=BLUE, linewidth=1.5)
        axes.set(xlim=(0, STEPS[-1]), ylim=(0.01, 4), xlabel="update", ylabel="training loss in nats")
        plain_log_axis(axes.yaxis)
        axes.set_title(f"update {len(losses)}: {accuracy:.1%} right", fontsize=10)
        for place in range(ROWS * COLUMNS):
            row, column = divmod(place, COLUMNS)
            tile = figure.add_axes((0.44 + 0.0545 * column, 0.83 - 0.158 * row, 0.05, 0.11))
            tile.imshow(data.val.images[place].squeeze(), cmap="Greys")
            tile.set_axis_off()
            is_right = bool(answers[place] == labels[place])
            colour, weight = (GREY, "normal") if is_right else (ORANGE, "bold")
            tile.set_title(data.class_names[answers[place]], fontsize=9, color=colour, weight=weight, pad=1)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=DOTS_PER_INCH)
        frames.append(Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=32))

    def after_step(state: TrainState, row: StepRow) -> None:
        losses.append(row.train_loss)
        if row.step in STEPS and row.epoch == 1:
            draw(state)

    trained(
        config.replace({"training.max_epochs": 1}),
        watch=lambda state: None if losses else draw(state),
        on_step=after_step,
    )
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    target = options.output if not SMALL else ROOT / "build" / "small" / "learning.gif"
    target.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    print(f"{target}: {len(frames)} frames, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
