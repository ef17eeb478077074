"""The pictures of a comparison, drawn from values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenet_mnist.analysis.intervals import mean_of
from lenet_mnist.analysis.metrics import Evaluation, pair_answers
from lenet_mnist.config import Config, Split
from lenet_mnist.data.sets import ImageSet, Normalization
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.reporting import study_plots
from lenet_mnist.reporting.style import save_figure
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.study.comparison import Comparison, Group, Pair, StepsToLevel
from lenet_mnist.study.evaluation import EvaluatedRun
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.rows import EpochRow, StepRow


def run(seed: int, num_epochs: int, factor: float = 1.0, status: str = "finished", **values: Any) -> Run:
    """A training of 100 updates and 2 seconds an epoch whose losses fall with the step, times a factor."""
    config = Config.model_validate({"seed": seed})
    steps = [StepRow(k, 1, 0.1, factor * 2.3 / (1 + k / 20), 1.0, 1.0) for k in range(1, 100 * num_epochs + 1)]
    history = [
        EpochRow(k, 100 * k, 0.1, factor / k, 1 - 0.5 / k, 1.5 * factor / k, 1 - 0.6 / k, 2.0)
        for k in range(1, num_epochs + 1)
    ]
    manifest = Manifest.model_construct(status=status, best_epoch=1, message=None, epochs=num_epochs)
    made = Run(Path(f"runs/{seed}"))
    vars(made).update({"config": config, "manifest": manifest, "history": history, "steps": steps, **values})
    return made


def comparison(*groups: list[Run], levels: tuple[float, ...] = (0.1,)) -> Comparison:
    steps = tuple(StepsToLevel(level, {}) for level in levels)
    named = [
        Group("ABCDEFGH"[k], f"lr {k}", mean_of([0.9]), None, steps, tuple(runs), {}) for k, runs in enumerate(groups)
    ]
    return Comparison(Split.VAL, tuple(named), (), None)


def drawn(found: Comparison, tmp_path: Path) -> None:
    for figure in (study_plots.loss_curves_figure(found), study_plots.accuracy_curves_figure(found)):
        save_figure(figure, tmp_path / "p.png")


def lines(axes: Any) -> list[Any]:
    return [line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_linestyle() != "None"]


def test_a_group_is_its_mean_and_the_range_of_its_seeds() -> None:
    found = comparison([run(0, 3), run(1, 3, factor=3.0)], [run(0, 2)])
    _, _, by_step, by_second = study_plots.loss_curves_figure(found).axes
    assert list(lines(by_step)[0].get_xdata()) == [100, 200, 300]
    assert list(lines(by_second)[0].get_xdata()) == [2, 4, 6]
    assert list(lines(by_step)[0].get_ydata()) == pytest.approx([3, 1.5, 1])
    (band,) = by_step.collections
    edges = band.get_paths()[0].vertices
    assert (edges[:, 1].min(), edges[:, 1].max()) == pytest.approx((0.5, 4.5))
    assert list(lines(by_step)[1].get_ydata()) == pytest.approx([1.5, 0.75])
    above, _, below, _ = study_plots.accuracy_curves_figure(comparison([run(0, 3)], [run(0, 1)])).axes
    assert list(lines(above)[0].get_ydata()) == pytest.approx([0.5, 0.75, 1 - 0.5 / 3])
    assert list(lines(below)[0].get_ydata()) == pytest.approx([0.4, 0.7, 0.8])


def test_where_one_seed_goes_further_it_is_a_thin_line() -> None:
    _, _, by_step, _ = study_plots.loss_curves_figure(comparison([run(0, 3), run(1, 5)])).axes
    mean, alone = lines(by_step)
    assert (mean.get_xdata()[-1], list(alone.get_xdata())) == (300, [300, 400, 500])
    assert alone.get_linewidth() < mean.get_linewidth()


def test_a_divergence_ends_in_a_cross_and_does_not_press_the_others_flat() -> None:
    lost = [StepRow(k, 1, 50.0, 10.0**k, 1.0, 1.0) for k in range(1, 34)]
    found = comparison([run(0, 3)], [run(0, 0, status="diverged", steps=lost), run(1, 2, status="diverged")])
    figure = study_plots.loss_curves_figure(found)
    by_step = figure.axes[0]
    assert [line.get_marker() for line in by_step.lines].count("x") == 2
    assert by_step.get_ylim()[1] < 10
    assert "lr 1 (2 runs, 2 diverged)" in figure.legends[0].get_texts()[1].get_text()


@pytest.mark.usefixtures("drawn_roughly")
def test_whatever_was_recorded_can_be_drawn(tmp_path: Path) -> None:
    drawn(comparison([run(0, 2, factor=0.0)], [run(1, 2, factor=0.0)], levels=()), tmp_path)
    for status in ("diverged", "interrupted"):
        begun = run(0, 0, status=status, steps=[StepRow(1, 1, 0.1, 2.3, 1.0, 1.0)])
        empty = run(1, 0, status=status)
        for groups in ([[begun], [begun]], [[empty], [empty]], [[begun, empty]], [[run(0, 1)], [empty], [begun]]):
            drawn(comparison(*groups), tmp_path)


def test_eight_groups_differ_in_colour_and_in_dash() -> None:
    found = comparison(*([run(0, 1)] for _ in range(8)))
    handles = study_plots.loss_curves_figure(found).legends[0].get_lines()
    assert len({handle.get_color() for handle in handles}) == 8
    assert len({str(handle._dash_pattern) for handle in handles}) == 5


def answers(labels: list[int], predictions: list[int]) -> EvaluatedRun:
    names = ("$a$", "b", "c")
    probabilities = np.zeros((len(labels), 3))
    probabilities[np.arange(len(labels)), predictions] = 0.9
    numbers = torch.arange(len(labels))
    images = ImageSet(torch.zeros(len(labels), 28, 28, dtype=torch.uint8), torch.tensor(labels), numbers)
    seen = Evaluation(names, numbers.numpy(), np.array(labels), np.array(predictions), probabilities, 1.0)
    network = TrainedNetwork(LeNet(Config().model.activation, 10, 28), Normalization(0.1, 0.3), names, 1)
    return EvaluatedRun(Run(Path("runs/a")), Split.VAL, network, images, seen, None)


def test_the_galleries_show_what_the_one_that_errs_has_read(tmp_path: Path) -> None:
    first, second = answers([0, 1, 2], [0, 1, 0]), answers([0, 1, 2], [1, 1, 2])
    pair = Pair(("A", "B"), ("A: relu", "B: tanh"), (first, second), pair_answers(first.evaluation, second.evaluation))
    fixed, broken = study_plots.pair_figures(pair, "val")
    assert [text.get_text() for text in fixed.axes[0].texts] == ["\\$a\\$ read as b\n90.0% sure", "#0"]
    assert [text.get_text() for text in broken.axes[0].texts] == ["c read as \\$a\\$\n90.0% sure", "#2"]
    assert "A right, B wrong: 1 image. What B reads" in fixed.axes[0].get_title()
    assert "B right, A wrong: 1 image. What A reads" in broken.axes[0].get_title()
    for figure in (fixed, broken):
        save_figure(figure, tmp_path / "p.png")


def test_galleries_of_many_say_how_many_are_shown_and_of_none_that_there_is_none() -> None:
    right, wrong = answers([0] * 50, [0] * 50), answers([0] * 50, [1] * 50)
    pair = Pair(("A", "B"), ("A: relu", "B: tanh"), (right, wrong), pair_answers(right.evaluation, wrong.evaluation))
    fixed, broken = study_plots.pair_figures(pair, "test")
    assert "50 images, 40 of them shown" in fixed.axes[0].get_title()
    assert len(fixed.axes[0].images) == 40
    assert [text.get_text() for text in broken.axes[0].texts] == ["no such image"]
