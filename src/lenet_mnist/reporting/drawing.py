"""The pictures of a training, which is worth more than they are: nothing that goes wrong with them ends a command."""

from collections.abc import Callable

from lenet_mnist.errors import one_line
from lenet_mnist.runs.run import Run
from lenet_mnist.study.diagnosis import read_record

_NAMES = ("loss", "accuracy", "layers")


def draw_training(run: Run, note: Callable[[str], None]) -> None:
    """Draw plots/ from what a training has recorded, unless that is done; say in one line if it cannot be."""
    pictures = [run.plots_path / f"{name}.png" for name in _NAMES]
    try:
        recorded = max(
            path.stat().st_mtime_ns for path in (run.history_path, run.steps_path, run.probe_path, run.manifest_path)
        )
        if all(path.exists() and path.stat().st_mtime_ns >= recorded for path in pictures):
            return
        from lenet_mnist.reporting.plots import draw_record  # takes longer than a small training

        draw_record(read_record(run), run.manifest.best_epoch, run.plots_path)
    except Exception as error:
        note(f"note: {run.plots_path}: not drawn: {one_line(str(error)) or type(error).__name__}")
