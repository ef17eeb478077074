"""A run's network in the forms that other programs read: a page to draw on, ONNX, safetensors.

The page (templates/) is the lab without training, made of the lab's parts: one HTML file with networks and engine. A
run is not trusted: names reach the page as JSON in a block that is never run, and are shown as text; a policy in the
page lets no script but its own run, and nothing be fetched.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from lenet_mnist import provenance
from lenet_mnist.config import ExportFormat, Source
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.files.storage import make_directory, prepare_to_write, write_bytes
from lenet_mnist.files.tables import write_json
from lenet_mnist.inference.predict import kept_network
from lenet_mnist.lab.exchange import DRAWN
from lenet_mnist.lab.page import base64_of, levels_of, reader_page
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork, network_bytes, weights_digest

_NUM_CHECKED = 10_000


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


def export_run(
    run: Run, compared: Run | None, export_format: ExportFormat, output: Path | None, access: DataAccess
) -> Exported:
    """Write the network of a run, or a page with that of `compared` beside it, into the run or to `output`.

    Raises: ConfigError for an output of a different kind, or a run without a network; InstallationError if the packages
    of an extra are missing; DataError if a file of the run is damaged, or the images to check a network with are
    missing; CheckFailedError if another runtime does not compute the same; StorageError.
    """
    if compared is not None and export_format is not ExportFormat.HTML:
        raise ConfigError(f"--compare: goes with --format {ExportFormat.HTML} only, which shows two runs in one page")
    if output is not None and output.suffix.lower() != f".{export_format}":  # or it could overwrite any file
        raise ConfigError(f"--output {output}: expected a name that ends in .{export_format}")
    path = output or run.export_path / ("compared.html" if compared is not None else f"lenet.{export_format}")
    check = None
    if export_format is ExportFormat.HTML:
        runs = [run] if compared is None else [run, compared]
        content = drawing_page([(each.id, digit_network(each)) for each in runs]).encode()
    elif export_format is ExportFormat.SAFETENSORS:
        content = network_bytes(kept_network(run))
    else:
        content, check = _checked_onnx(run, path, access)
    if output is None:
        prepare_to_write(run.path)
        make_directory(run.export_path)
    write_bytes(path, content)
    if check is not None:
        write_json(path.with_name(f"{path.name}.json"), check)
    return Exported(export_format, path, check)


def _checked_onnx(run: Run, path: Path, access: DataAccess) -> tuple[bytes, dict[str, Any]]:
    """Return the network as ONNX, for `path`, and how close ONNX Runtime comes to torch's answers with it."""
    provenance.require_packages("--format onnx", "onnx", "onnxruntime")
    from lenet_mnist.inference import onnx_file

    trained = kept_network(run)
    content = onnx_file.onnx_content(trained, run.manifest.data_source == Source.MNIST)
    try:  # all training images, whatever limit the run had
        images = load_train_val(run.config.data.model_copy(update={"limit_train": None}), access).train.images
    except DataError as error:
        raise DataError(f"{error}. Without training images the network is not checked, and so not exported") from None
    try:
        agreement = onnx_file.compare(trained, onnx_file.open_onnx(content), images[:_NUM_CHECKED].numpy())
    except (CheckFailedError, DataError) as error:
        raise type(error)(f"{path}: not written: {error}") from None
    found = asdict(agreement)
    if not agreement.holds:
        raise CheckFailedError(f"{path}: not written: ONNX Runtime does not give torch's answers: {_words(found)}")
    return content, {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": onnx_file.OPSET,
        "weights_sha256": weights_digest(trained.network.state_dict()),
        "batch_sizes": onnx_file.BATCH_SIZES,
        **found,
        "versions": {**provenance.versions(), "onnxruntime": onnx_file.RUNTIME_VERSION},
    }


def _words(check: dict[str, Any]) -> str:
    """Say how close another runtime came to torch, from the figures of an `Agreement`."""
    ties = f", {check['num_ties']:,} more tied within rounding" if check["num_ties"] else ""
    return (
        f"the same answer to {check['num_same']:,} of {check['num_images']:,} training images{ties}; largest logit "
        f"difference {check['largest_logit_difference']:.1e} (allowed: {check['tolerance']:.1e})"
    )


def digit_network(run: Run) -> TrainedNetwork:
    """Return the kept network of a run that was trained on MNIST: drawings are prepared as MNIST's digits were.

    Raises: ConfigError if it was trained on something else, or is not a training; DataError.
    """
    if (source := run.manifest.data_source) != Source.MNIST:
        said = f"was not trained on MNIST, but on {source}: its answers to drawings would mean nothing"
        raise ConfigError(f"{run.path}: {said}")
    return kept_network(run)


def drawing_page(networks: Sequence[tuple[str, TrainedNetwork]]) -> str:
    """Return the page on which the networks, side by side, each under its name, classify what is drawn.

    Raises: ConfigError if the page cannot compute one of them.
    """
    for _, trained in networks:
        if (own := trained.network.activation) not in DRAWN:
            raise ConfigError(
                f"--format html: the page computes {', '.join(DRAWN)}, not {own}; use --format safetensors"
            )
    page, script = ((files(__package__) / "templates" / name).read_text("utf-8") for name in ("page.html", "page.js"))
    return reader_page(page, script, {"networks": [_packed(name, trained) for name, trained in networks]})


def _packed(name: str, trained: TrainedNetwork) -> dict[str, Any]:
    """Return a network as plain values; weights in base64, float32, least significant byte first."""
    weights = torch.cat([each.detach().cpu().flatten() for each in trained.network.parameters_in_order])
    return {
        "name": name,
        "activation": trained.network.activation.value,
        "epoch": trained.epoch,
        "classNames": list(trained.class_names),
        "levels": levels_of(trained.normalization),
        "weights": base64_of(weights.numpy().astype("<f4").tobytes()),
    }
