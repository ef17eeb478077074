"""A training in the forms that other programs read: a page, ONNX, safetensors, TensorBoard's event files."""

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import Source
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sources import load_train_val
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError, InstallationError
from lenet_mnist.experiments.evaluation import member_of
from lenet_mnist.files.storage import make_directory, prepare_to_write, storage_errors, write_bytes, write_text
from lenet_mnist.files.tables import write_json
from lenet_mnist.inference.agreement import BATCH_SIZES, Agreement, Pixels, compare
from lenet_mnist.inference.page import drawing_page
from lenet_mnist.inference.predict import digit_network, kept_network
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import weights_digest, write_network

_NUM_CHECKED = 10_000


class ExportFormat(StrEnum):
    """What a training can be written as."""

    HTML = "html"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"
    TENSORBOARD = "tensorboard"


_PACKAGES = {ExportFormat.ONNX: ("onnx", "onnxruntime"), ExportFormat.TENSORBOARD: ("tensorboard",)}  # by their extras


@dataclass(frozen=True)
class Exported:
    """What was written where; of a file that was checked also the figures, as they lie beside it."""

    export_format: ExportFormat
    path: Path
    agreement: Agreement | None = None
    figures: dict[str, Any] | None = None


def export_run(
    run: RunDirectory, compared: RunDirectory | None, format_name: str, output: Path | None, access: DataAccess
) -> Exported:
    """Write a training, or in a page its network beside that of `compared`; return what was written where.

    Raises: ConfigError for a format that does not exist, an output of another kind, or a run without a network;
    InstallationError if the packages of an extra are missing; DataError if a file of the run is damaged, or the images
    to check a network with are missing; CheckFailedError if another runtime does not compute the same; StorageError if
    a file cannot be written.
    """
    export_format = member_of(ExportFormat, format_name, "--format")
    if compared is not None and export_format is not ExportFormat.HTML:
        raise ConfigError(f"--compare: goes with --format {ExportFormat.HTML} only, which shows two runs in one page")
    suffix = f".{export_format}"
    if export_format is not ExportFormat.TENSORBOARD and output is not None and output.suffix.lower() != suffix:
        raise ConfigError(f"--output {output}: expected a name that ends in {suffix}")  # or it could hit any file
    _require_packages(export_format)
    match export_format:
        case ExportFormat.HTML:
            runs = [run] if compared is None else [run, compared]
            page = drawing_page([(each.id, digit_network(each)) for each in runs])
            path = _file(run, output, "lenet.html" if compared is None else "compared.html")
            write_text(path, page)
        case ExportFormat.ONNX:
            return _export_onnx(run, output, access)
        case ExportFormat.SAFETENSORS:
            trained = kept_network(run)
            path = _file(run, output, "lenet.safetensors")
            write_network(path, trained)
        case ExportFormat.TENSORBOARD:
            path = _export_events(run, output)
    return Exported(export_format, path)


def _require_packages(export_format: ExportFormat) -> None:
    """Raise InstallationError, with the command that helps, if an extra is not installed."""
    missing = [name for name in _PACKAGES.get(export_format, ()) if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"--format {export_format}: needs {' and '.join(missing)}, which lenet installs only if asked to: "
            f"pip install 'lenet-mnist[{export_format}]'"
        )


def _export_onnx(run: RunDirectory, output: Path | None, access: DataAccess) -> Exported:
    """Write the network as ONNX; the file takes its place only after ONNX Runtime has given torch's answers from it."""
    from lenet_mnist.inference.onnx_file import OPSET, onnx_content
    from lenet_mnist.inference.onnx_runtime import VERSION, OnnxNetwork

    trained, is_of_mnist = kept_network(run), run.read_manifest().data_source == Source.MNIST
    content, images = onnx_content(trained, is_of_mnist), _images_to_check_with(run, access)
    path = _file(run, output, "lenet.onnx")
    found: list[Agreement] = []

    def check(file: Path) -> None:
        try:
            found.append(compare(trained, OnnxNetwork(file), images))
        except (CheckFailedError, DataError) as error:
            raise type(error)(f"{path}: not written: {error}") from None
        if not found[0].holds:
            raise CheckFailedError(f"{path}: not written: ONNX Runtime does not give torch's answers: {found[0]}")

    write_bytes(path, content, check)
    figures = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": OPSET,
        "weights_sha256": weights_digest(trained.network.state_dict()),
        "batch_sizes": BATCH_SIZES,
        **asdict(found[0]),
        "versions": {**provenance.versions(), "onnxruntime": VERSION},
    }
    write_json(path.with_name(f"{path.name}.json"), figures)
    return Exported(ExportFormat.ONNX, path, found[0], figures)


def _images_to_check_with(run: RunDirectory, access: DataAccess) -> Pixels:
    """Return 10,000 images of the training part, or all if there are fewer, whatever limit the run had.

    Shapes: N H W.
    """
    config = run.read_config().data.model_copy(update={"limit_train": None})
    try:
        data = load_train_val(config, access)
    except DataError as error:
        raise DataError(f"{error}. Without training images the network is not checked, and so not exported") from None
    pixels: Pixels = data.train.images[:_NUM_CHECKED].numpy()
    return pixels


def _export_events(run: RunDirectory, output: Path | None) -> Path:
    """Write what the training recorded into a directory for TensorBoard, which shows all that lies there as one."""
    from lenet_mnist.inference.event_file import event_file

    name, content = event_file(run)
    directory = output or run.export_path / "tensorboard"
    with storage_errors(directory, "look into it"):
        if directory.exists() and not directory.is_dir():
            raise ConfigError(f"{directory}: is a file, a directory was expected: name one with --output")
        others = sorted(path.name for path in directory.glob("*tfevents*") if path.name != name)
    if others:
        raise ConfigError(
            f"{directory}: holds event files of something else ({others[0]}), which TensorBoard would mix with this "
            "run's: name another directory with --output"
        )
    if output is None:
        prepare_to_write(run.path)
    make_directory(directory)
    write_bytes(directory / name, content)
    return directory


def _file(run: RunDirectory, output: Path | None, name: str) -> Path:
    """Return where the user wants the file, or its place in the run, which is made ready."""
    if output is not None:
        return output
    prepare_to_write(run.path)
    make_directory(run.export_path)
    return run.export_path / name
