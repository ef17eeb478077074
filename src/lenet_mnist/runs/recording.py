"""What a training leaves behind while it goes on: histories, checkpoints, the kept weights, the manifest."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.config_file import to_yaml
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import LenetError
from lenet_mnist.files.growing_file import FileMark, GrowingFile, mark_of
from lenet_mnist.files.storage import remove_unfinished, write_text
from lenet_mnist.files.tables import row_line
from lenet_mnist.runs.checkpoints import save_checkpoint
from lenet_mnist.runs.directory import RunDirectory, sha256_of
from lenet_mnist.runs.manifest import Manifest, Resume, machine_of
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest, write_network
from lenet_mnist.training.loop import EpochRow, StopReason, TrainResult
from lenet_mnist.training.probe import ProbeRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import StepRow

_STATUS = {
    StopReason.MAX_EPOCHS: "finished",
    StopReason.NO_IMPROVEMENT: "finished",
    StopReason.DIVERGED: "diverged",
    StopReason.INTERRUPTED: "interrupted",
}


class Recorder:
    """Writes a run. Whoever has it holds the run's lock.

    What is on the disk at any moment is enough to go on from: first the rows, then the state, which knows how many rows
    belong to it; then the kept weights, which name their own digest; last the manifest, which says what there is.

    Raises: StorageError if something cannot be written; DataError if the histories do not hold what `marks` say.
    """

    def __init__(
        self,
        run: RunDirectory,
        manifest: Manifest,
        state: TrainState,
        data: TrainVal,
        marks: Mapping[str, FileMark] | None = None,
    ) -> None:
        self.run = run
        self.manifest = manifest
        self.state = state
        self.data = data
        begin = marks or {path.name: mark_of(header) for path, header in run.history_headers.items()}
        self._history = GrowingFile(run.history_path, begin[run.history_path.name])
        self._steps = GrowingFile(run.steps_path, begin[run.steps_path.name])
        self._probe = GrowingFile(run.probe_path, begin[run.probe_path.name])

    def add_step(self, row: StepRow, is_checkpoint_due: bool) -> None:
        """Keep one update, and save the state if it is time."""
        if row.is_recorded:
            self._steps.append(row_line(row))
        if is_checkpoint_due:
            self._save()

    def add_look(self, rows: Sequence[ProbeRow]) -> None:
        """Keep what was seen inside the network."""
        for row in rows:
            self._probe.append(row_line(row))

    def add_epoch(self, row: EpochRow, look: Sequence[ProbeRow]) -> None:
        """Keep one epoch: rows, state, weights if they are those to be kept."""
        self._history.append(row_line(row))
        self.add_look(look)
        self._save()
        changes: dict[str, Any] = {"epochs": row.epoch, "seconds": self.manifest.seconds + row.seconds}
        if self.state.stopping.kept_epoch == row.epoch:
            changes |= {"best_val_loss": row.val_loss, "best_val_accuracy": row.val_accuracy, **self._write_kept()}
        self._update(**changes)

    def go_on(self, config: Config, differences: tuple[str, ...]) -> None:
        """Note that the run is gone on with, with `config`, and let the manifest agree with the state."""
        remove_unfinished(self.run.path)
        remove_unfinished(self.run.checkpoints_path)
        history, text = self.run.read_history(), to_yaml(config)
        kept = next((row for row in history if row.epoch == self.state.stopping.kept_epoch), None)
        is_changed = config != self.run.read_config()
        resume = Resume(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            step=self.state.step,
            config_sha256=mark_of(text.encode()).sha256 if is_changed else sha256_of(self.run.config_path),
            differences=differences,
            versions=provenance.versions(),
            machine=machine_of(next(self.state.network.parameters()).device),
        )
        self._update(
            status="running",
            stop_reason=None,
            message=None,
            epochs=len(history),
            seconds=sum(row.seconds for row in history),
            best_val_loss=kept.val_loss if kept else None,
            best_val_accuracy=kept.val_accuracy if kept else None,
            resumes=(*self.manifest.resumes, resume),
            **(self._write_kept() if kept else {"best_epoch": None, "weights_sha256": None}),
        )
        if is_changed:
            write_text(self.run.config_path, text)  # the manifest knows both by now

    def finish(self, result: TrainResult) -> None:
        """Note how training ended. A diverged state is not saved over the last good one."""
        if result.stop_reason is StopReason.INTERRUPTED:
            self._save()
        else:
            self._sync()
        self._update(
            status=_STATUS[result.stop_reason],
            stop_reason=result.stop_reason.value,
            message=str(result.divergence) if result.divergence else None,
        )

    def fail(self, error: BaseException) -> None:
        """Note, where the disk still allows it, that the run came to no end."""
        message = str(error) or type(error).__name__
        with suppress(LenetError):  # the disk may refuse this too; the first error is the one to report
            self._update(status="failed", message=message.replace(str(self.run.path), self.run.id))

    def close(self) -> None:
        """Close the histories."""
        self._history.close()
        self._steps.close()
        self._probe.close()

    def _save(self) -> None:
        marks = self._sync()
        save_checkpoint(self.run.checkpoints_path, self.state, marks)

    def _sync(self) -> dict[str, FileMark]:
        return {
            self.run.history_path.name: self._history.sync(),
            self.run.steps_path.name: self._steps.sync(),
            self.run.probe_path.name: self._probe.sync(),
        }

    def _write_kept(self) -> dict[str, Any]:
        """Write the weights to be kept so far, and return what the manifest says of them."""
        network, epoch = self.state.kept_network(), self.state.stopping.kept_epoch
        assert network is not None  # an epoch has ended
        trained = TrainedNetwork(network, self.data.normalization, self.data.class_names, epoch)
        write_network(self.run.model_path, trained)
        return {"best_epoch": epoch, "weights_sha256": weights_digest(network.state_dict())}

    def _update(self, **changes: Any) -> None:
        self.manifest = self.manifest.model_copy(update=changes)
        self.run.write_manifest(self.manifest)
