"""What a training leaves behind while it goes on: histories, checkpoints, the kept weights, the manifest."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.config_file import to_yaml
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import LenetError
from lenet_mnist.files.storage import write_bytes, write_text
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

    What is on the disk at any moment is enough to go on from: the state holds all rows, too. First the files that show
    them are written, then the state, then the kept weights, which name their own digest; last the manifest, which says
    what there is. `require_lock` raises StorageError if the lock was lost: then nothing more is written.

    Raises: StorageError if something cannot be written.
    """

    def __init__(
        self,
        run: RunDirectory,
        manifest: Manifest,
        state: TrainState,
        data: TrainVal,
        require_lock: Callable[[], None],
    ) -> None:
        self.run = run
        self.manifest = manifest
        self.state = state
        self.data = data
        self._require_lock = require_lock
        self._num_written: dict[str, int] = {}

    def add_step(self, row: StepRow, is_checkpoint_due: bool) -> None:
        """Keep one update, and save the state if it is time."""
        if row.is_recorded:
            self.state.rows["steps"] += row_line(row)
        if is_checkpoint_due:
            self._save()

    def add_look(self, rows: Sequence[ProbeRow]) -> None:
        """Keep what was seen inside the network."""
        for row in rows:
            self.state.rows["probe"] += row_line(row)

    def add_epoch(self, row: EpochRow, look: Sequence[ProbeRow]) -> None:
        """Keep one epoch: rows, state, weights if they are those to be kept."""
        self.state.rows["history"] += row_line(row)
        self.add_look(look)
        self._save()
        changes: dict[str, Any] = {"epochs": row.epoch, "seconds": self.manifest.seconds + row.seconds}
        if self.state.stopping.kept_epoch == row.epoch:
            changes |= {"best_val_loss": row.val_loss, "best_val_accuracy": row.val_accuracy, **self._write_kept()}
        self._update(**changes)

    def go_on(self, config: Config, differences: tuple[str, ...]) -> None:
        """Note that the run is gone on with, with `config`, and let the manifest agree with the state."""
        self._write_histories()
        history, text = self.run.read_history(), to_yaml(config)
        kept = next((row for row in history if row.epoch == self.state.stopping.kept_epoch), None)
        is_changed = config != self.run.read_config()
        resume = Resume(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            step=self.state.step,
            config_sha256=hashlib.sha256(text.encode()).hexdigest() if is_changed else sha256_of(self.run.config_path),
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
            self._write_histories()
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

    def _save(self) -> None:
        self._write_histories()
        save_checkpoint(self.run.checkpoints_path, self.state)

    def _write_histories(self) -> None:
        """Write the files of which rows are new."""
        self._require_lock()
        for path, header in self.run.history_headers.items():
            rows = self.state.rows[path.stem]
            if self._num_written.get(path.stem) != len(rows):
                write_bytes(path, header + rows)
                self._num_written[path.stem] = len(rows)

    def _write_kept(self) -> dict[str, Any]:
        """Write the weights to be kept so far, and return what the manifest says of them."""
        network, epoch = self.state.kept_network(), self.state.stopping.kept_epoch
        assert network is not None  # an epoch has ended
        trained = TrainedNetwork(network, self.data.normalization, self.data.class_names, epoch)
        write_network(self.run.model_path, trained)
        return {"best_epoch": epoch, "weights_sha256": weights_digest(network.state_dict())}

    def _update(self, **changes: Any) -> None:
        self._require_lock()
        self.manifest = self.manifest.model_copy(update=changes)
        self.run.write_manifest(self.manifest)
