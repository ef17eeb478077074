import io
from pathlib import Path

from rich.console import Console

from lenet_mnist.reporting.progress import FetchProgress, TrainingProgress
from lenet_mnist.training.rows import EpochRow, StepRow

ROW = EpochRow(1, 2, 0.1, 0.5, 0.8, 0.4, 0.9, 1.5)


def shown(terminal: bool) -> str:
    screen = io.StringIO()
    progress = TrainingProgress(Console(file=screen, force_terminal=terminal, width=60))
    progress.begin(Path(), step=0, max_epochs=2, steps_per_epoch=2)
    progress.add_step(StepRow(1, 1, 0.1, 2.3, 1.0, 0.5))
    progress.add_epoch(ROW, is_best=True)
    progress.end()
    return screen.getvalue()


def test_elsewhere_than_on_a_terminal_an_epoch_is_one_plain_line() -> None:
    assert shown(terminal=False) == (
        "epoch 1/2  train loss 0.5000  val loss 0.4000  val accuracy 90.00%  lr 0.1  1.5 s  best\n"
    )


def test_on_a_terminal_there_is_a_bar_and_the_line_stays() -> None:
    screen = shown(terminal=True)
    assert "\x1b[" in screen
    assert "val accuracy 90.00%" in screen
    assert "nan" not in screen  # nor before the first loss is known


def test_a_fetch_shows_tenths_once_each() -> None:
    screen = io.StringIO()
    progress = FetchProgress(Console(file=screen, width=80))
    progress.begin("file", 100_000_000)
    for _ in range(101):
        progress.advance(990_100)
    assert len(screen.getvalue().splitlines()) == 11


def test_a_note_is_no_markup() -> None:
    screen = io.StringIO()
    FetchProgress(Console(file=screen, width=80)).note("[red]x[/red]")
    assert screen.getvalue() == "[red]x[/red]\n"
