"""Measure how near ONNX Runtime comes to torch, and what an export costs: the tables of docs/export.md.

    python scripts/measure_export.py agreement RUN...     # paths of runs
    python scripts/measure_export.py rounding             # how the difference grows with the logits
    python scripts/measure_export.py packages             # what the extras take on the disk
    python scripts/measure_export.py exporters            # beside torch.onnx.export: needs onnxscript too

Images are the first 10,000 of the training part, as in `lenet export`. The processes of ONNX Runtime and torch have one
thread each.
"""

import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from common import arguments_parser, data_of, spread, timed
from lenet_mnist.config import Activation, Config
from lenet_mnist.data.decoding import Pixels
from lenet_mnist.data.sets import Normalization
from lenet_mnist.inference.onnx_file import OPSET, RUNTIME_VERSION, Runtime, compare, onnx_content, open_onnx
from lenet_mnist.inference.predict import kept_network
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.provenance import machine, versions
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork

SPREAD = {Activation.SIGMOID: 0.5, Activation.TANH: 0.2, Activation.RELU: 0.1}  # so that answers differ by image
BROUGHT = {  # by the extras, of what lenet does not need itself
    "onnx": ("onnx", "onnxruntime", "protobuf", "ml_dtypes", "flatbuffers"),
    "tensorboard": (
        *("tensorboard", "tensorboard-data-server", "grpcio", "protobuf"),
        *("werkzeug", "markdown", "absl-py"),
    ),
}


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("part", choices=["agreement", "rounding", "packages", "exporters"])
    parser.add_argument("runs", nargs="*", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {versions()}; onnxruntime {RUNTIME_VERSION}")
    match arguments.part:
        case "agreement":
            agreement([Run(path) for path in arguments.runs])
        case "rounding":
            rounding()
        case "packages":
            packages()
        case "exporters":
            exporters()


def training_images() -> tuple[Pixels, Normalization]:
    data = data_of(Config().data)
    return data.train.images[:10_000].numpy(), data.normalization


def opened(trained: TrainedNetwork) -> Runtime:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lenet.onnx"
        path.write_bytes(onnx_content(trained, is_of_mnist=True))
        return open_onnx(path)


def milliseconds(action: Callable[[], object], times: int) -> str:
    return spread(timed({"": action}, times)[""], 1e-3, ".3g")


# Agreement


def agreement(runs: list[Run]) -> None:
    images, _ = training_images()
    rows = []
    for run in runs:
        trained = kept_network(run)
        runtime = opened(trained)
        found = compare(trained, runtime, images)

        @torch.inference_mode()
        def torchs(pixels: Pixels, trained: TrainedNetwork = trained) -> Tensor:
            return trained.network(trained.normalization.apply(torch.from_numpy(pixels)))

        rows.append(
            [
                run.config.label,
                f"{len(onnx_content(trained, is_of_mnist=True)):,}",
                f"{found.num_same:,} + {found.num_ties}",
                f"{found.largest_logit:.1f}",
                f"{found.largest_logit_difference:.1e}",
                f"{found.largest_probability_difference:.1e}",
                milliseconds(lambda runtime=runtime: runtime(images[:1]), 1000),  # type: ignore[misc]
                milliseconds(lambda torchs=torchs: torchs(images[:1]), 1000),  # type: ignore[misc]
                milliseconds(lambda runtime=runtime: runtime(images[:1000]), 20),  # type: ignore[misc]
                milliseconds(lambda torchs=torchs: torchs(images[:1000]), 20),  # type: ignore[misc]
            ]
        )
    header = ["run", "bytes", "same + ties", "largest logit", "logits differ", "probabilities differ"]
    times = [f"ms for {count}, {name}" for count in ("1", "1,000") for name in ("ONNX Runtime", "torch engine")]
    print(aligned([*header, *times], rows))


# Rounding


def random_network(activation: Activation, factor: float, normalization: Normalization, seed: int) -> TrainedNetwork:
    network = LeNet(activation, 10, 28)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters_in_order:
            parameter.normal_(std=SPREAD[activation], generator=generator)
        network.output.weight.mul_(factor)
        network.output.bias.mul_(factor)
    return TrainedNetwork(network, normalization, tuple("0123456789"), epoch=1)


@torch.no_grad()
def torchs_logits(trained: TrainedNetwork, images: Pixels, dtype: torch.dtype) -> np.ndarray:
    network = trained.network.to(dtype)
    parts = [network(trained.normalization.apply(part).to(dtype)) for part in torch.from_numpy(images).split(1000)]
    trained.network.float()
    return torch.cat(parts).numpy()


def rounding() -> None:
    """Differences of each float32 computation from the other, and of torch's from float64, by the largest logit."""
    images, normalization = training_images()
    rows = []
    for activation in Activation:
        for factor in (1, 30, 1000):
            shares = []
            for seed in range(3):
                trained = random_network(activation, factor, normalization, seed)
                runtime = opened(trained)
                found = compare(trained, runtime, images)
                single, double = (torchs_logits(trained, images, kind) for kind in (torch.float32, torch.float64))
                error = float(np.abs(single - double).max())
                shares.append((found.largest_logit, found.largest_logit_difference, error))
            logits, between, errors = np.transpose(shares)
            rows.append(
                [
                    activation.value,
                    f"{logits.min():.3g} to {logits.max():.3g}",
                    f"{between.max():.1e}",
                    f"{(between / logits).max():.1e}",
                    f"{(errors / logits).max():.1e}",
                ]
            )
    header = ["activation", "largest logit", "ONNX Runtime from torch", "of the largest logit", "torch from float64"]
    print(aligned(header, rows))


# Packages


def packages() -> None:
    for extra, names in BROUGHT.items():
        sizes = {name: _megabytes(name) for name in names}
        parts = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
        print(f"[{extra}]: {sum(sizes.values()):.0f} MB ({parts})")


def _megabytes(name: str) -> float:
    files = [Path(str(file.locate())) for file in distribution(name).files or ()]
    return sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc") / 1e6


# Exporters


class _WithNormalization(nn.Module):
    """What torch.onnx.export is to write: the same as onnx_content."""

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.network = trained.network
        self.normalization = trained.normalization

    def forward(self, images: Tensor) -> Tensor:
        scaled = images.unsqueeze(1).float().div(255).sub(self.normalization.mean).div(self.normalization.std)
        return self.network(scaled)


def exporters() -> None:
    logging.disable(logging.WARNING)
    _, normalization = training_images()
    trained = random_network(Activation.RELU, 1, normalization, seed=0)
    _show("node by node", lambda: onnx_content(trained, is_of_mnist=True))

    def by_torch(is_new: bool) -> bytes:
        content = io.BytesIO()
        module, example = _WithNormalization(trained).eval(), torch.zeros(2, 28, 28, dtype=torch.uint8)
        names = {"input_names": ["images"], "output_names": ["logits"], "opset_version": 18 if is_new else OPSET}
        if is_new:
            program = torch.onnx.export(
                module, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False, **names
            )
            assert program is not None
            program.save(content)
        else:
            torch.onnx.export(module, (example,), content, dynamo=False, dynamic_axes={"images": {0: "N"}}, **names)
        return content.getvalue()

    _show("torch.onnx.export", lambda: by_torch(True))
    _show("torch.onnx.export(dynamo=False)", lambda: by_torch(False))


def _show(name: str, export: Callable[[], bytes]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        content = export()
        seconds = time.perf_counter() - started
        num_warnings = len(caught)
        same = content == export()
    nodes = len(onnx.load_from_string(content).graph.node)
    print(
        f"{name}: {seconds:.3f} s, {len(content):,} bytes, {nodes} nodes, {num_warnings} warnings, "
        f"the same bytes again: {'yes' if same else 'no'}"
    )


if __name__ == "__main__":
    main()
