"""What a person sees: a bar on a terminal, plain lines elsewhere."""

import io

from rich.console import Console

from lenet_mnist.reporting.terminal import FetchProgress, TerminalProgress


def shown(terminal: bool) -> str:
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, force_terminal=terminal, width=60))
    progress.begin("training", 4)
    progress.advance(1, "epoch 1  loss 2.300")
    progress.note("epoch 1/2  best")
    progress.end()
    return screen.getvalue()


def test_elsewhere_than_on_a_terminal_a_note_is_one_plain_line() -> None:
    assert shown(terminal=False) == "epoch 1/2  best\n"


def test_on_a_terminal_there_is_a_bar_and_the_line_stays() -> None:
    screen = shown(terminal=True)
    assert all(part in screen for part in ("\x1b[", "epoch 1/2  best", "loss 2.300", "1/4"))


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
