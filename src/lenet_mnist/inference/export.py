"""A run's network in the forms that other programs read: a page to draw on, ONNX, safetensors."""

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import Source
from lenet_mnist.data.decoding import Pixels
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.files.storage import make_directory, prepare_to_write, write_bytes
from lenet_mnist.files.tables import write_json
from lenet_mnist.inference.drawing_page import drawing_page
from lenet_mnist.inference.predict import digit_network, kept_network
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import network_bytes, weights_digest

_NUM_CHECKED = 10_000


class ExportFormat(StrEnum):
    """What a network can be written as."""

    HTML = "html"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True)
class Exported:
    """What was written where. The fields are the keys of `--json`; `check` has the figures of lenet.onnx.json."""

    format: ExportFormat
    path: Path
    check: dict[str, Any] | None = None

    def __str__(self) -> str:
        if self.check is None:
            return str(self.path)
        return f"{self.path}\nchecked with ONNX Runtime {self.check['versions']['onnxruntime']}: {_words(self.check)}"


def export_run(run: Run, compared: Run | None, format_name: str, output: Path | None, access: DataAccess) -> Exported:
    """Write the network of a run, or a page with that of `compared` beside it, into the run or to `output`.

    Raises: ConfigError for a format that does not exist, an output of a different kind, or a run without a network;
    InstallationError if the packages of an extra are missing; DataError if a file of the run is damaged, or the images
    to check a network with are missing; CheckFailedError if another runtime does not compute the same; StorageError.
    """
    if format_name == "tensorboard":
        raise ConfigError("--format tensorboard: is written while training now: lenet train --log tensorboard")
    try:
        export_format = ExportFormat(format_name)
    except ValueError:
        raise ConfigError(f"--format {format_name}: expected one of {', '.join(ExportFormat)}") from None
    if compared is not None and export_format is not ExportFormat.HTML:
        raise ConfigError(f"--compare: goes with --format {ExportFormat.HTML} only, which shows two runs in one page")
    if output is not None and output.suffix.lower() != f".{export_format}":  # or it could overwrite any file
        raise ConfigError(f"--output {output}: expected a name that ends in .{export_format}")
    if export_format is ExportFormat.ONNX:
        provenance.require_packages("--format onnx", "onnx", "onnx", "onnxruntime")
        return _export_onnx(run, output, access)
    if export_format is ExportFormat.SAFETENSORS:
        content, name = network_bytes(kept_network(run)), "lenet.safetensors"
    else:
        runs, name = ([run], "lenet.html") if compared is None else ([run, compared], "compared.html")
        content = drawing_page([(each.id, digit_network(each)) for each in runs]).encode()
    path = _path(run, output, name)
    write_bytes(path, content)
    return Exported(export_format, path)


def _export_onnx(run: Run, output: Path | None, access: DataAccess) -> Exported:
    """Write the network as ONNX; the file gets its name only after ONNX Runtime gave torch's answers from it."""
    from lenet_mnist.inference import onnx_file

    trained = kept_network(run)
    content = onnx_file.onnx_content(trained, run.manifest.data_source == Source.MNIST)
    images = _images_to_check_with(run, access)
    path = _path(run, output, "lenet.onnx")
    found: list[onnx_file.Agreement] = []

    def check(file: Path) -> None:
        try:
            found.append(onnx_file.compare(trained, onnx_file.open_onnx(file), images))
        except (CheckFailedError, DataError) as error:
            raise type(error)(f"{path}: not written: {error}") from None
        if not found[0].holds:
            words = _words(asdict(found[0]))
            raise CheckFailedError(f"{path}: not written: ONNX Runtime does not give torch's answers: {words}")

    write_bytes(path, content, check)
    figures = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": onnx_file.OPSET,
        "weights_sha256": weights_digest(trained.network.state_dict()),
        "batch_sizes": onnx_file.BATCH_SIZES,
        **asdict(found[0]),
        "versions": {**provenance.versions(), "onnxruntime": onnx_file.RUNTIME_VERSION},
    }
    write_json(path.with_name(f"{path.name}.json"), figures)
    return Exported(ExportFormat.ONNX, path, figures)


def _words(check: dict[str, Any]) -> str:
    """Say how close another runtime came to torch, from the figures of an `Agreement`."""
    ties = f", {check['num_ties']:,} more tied within rounding" if check["num_ties"] else ""
    return (
        f"the same answer to {check['num_same']:,} of {check['num_images']:,} training images{ties}; largest logit "
        f"difference {check['largest_logit_difference']:.1e} (allowed: {check['tolerance']:.1e})"
    )


def _images_to_check_with(run: Run, access: DataAccess) -> Pixels:
    """Return 10,000 training images, or all if there are fewer, whatever limit the run had. Shapes: N H W."""
    config = run.config.data.model_copy(update={"limit_train": None})
    try:
        images = load_train_val(config, access).train.images
    except DataError as error:
        raise DataError(f"{error}. Without training images the network is not checked, and so not exported") from None
    pixels: Pixels = images[:_NUM_CHECKED].numpy()
    return pixels


def _path(run: Run, output: Path | None, name: str) -> Path:
    """Return where the user wants the file, or its place in the run, whose directory is made."""
    if output is not None:
        return output
    prepare_to_write(run.path)
    make_directory(run.export_path)
    return run.export_path / name
