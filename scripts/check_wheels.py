"""Run the libraries inside the wheels, each on its system as far as this machine can be one.

    make cross                       # builds the wheels first

- Linux x86-64: natively, every variant that this processor has
- Linux arm64: under qemu-aarch64, with Debian's libc6-arm64-cross; Windows x86-64: under wine
- macOS and Windows arm64: not run; that they can be loaded is read off the file: its exports, what it imports, and the
  oldest system that it runs on

Logits, loss and gradients must be those of torch in float64 up to float32's rounding, with 1, 2 and 3 threads.
"""

import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import lief
import torch

from build_wheels import SYSTEMS, System
from common import ROOT, arguments
from lenet_mnist.config import Activation
from lenet_mnist.model.engines import Target, torch_gradient, torch_network
from lenet_mnist.model.native.binding import NativeNetwork, parameter_shapes
from lenet_mnist.model.native.build import VARIANTS

EXPORTS = {"lenet_workspace", "lenet_forward", "lenet_backward", "lenet_gradient", "lenet_augment", "lenet_processor"}
# By what each runs under here; a library of a system that is not here is only looked at.
RUNNERS = {
    "x86_64-linux-gnu.2.17": ((), ()),
    "aarch64-linux-gnu.2.17": (("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"), ()),
    "x86_64-windows-gnu": (("wine",), ("WINEDEBUG=-all",)),
}


def write_problems(path: Path) -> None:
    """Write networks with random weights, images, and what float64 makes of them (check_library.c has the layout)."""
    generator = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        for number, activation in enumerate(NativeNetwork.activations):
            for num_images, num_classes in ((1, 10), (5, 2), (71, 10), (33, 100)):
                images = torch.randn(num_images, 1, 28, 28, generator=generator)
                shapes = parameter_shapes(num_classes).values()
                parameters = [torch.randn(shape, generator=generator).mul_(0.2) for shape in shapes]
                labels = torch.randint(num_classes, (num_images,), generator=generator)
                doubles = [each.double().requires_grad_() for each in parameters]
                given = images.double(), doubles, Activation(activation)
                *gradient, loss, _ = torch_gradient(*given, Target(labels, 0.0, num_images)).float().split(1)
                logits = torch_network(*given).detach().float()
                file.write(struct.pack("3i", num_images, num_classes, number) + labels.numpy().tobytes())
                for values in (images, *parameters, loss, logits, torch.cat(gradient)):
                    file.write(values.numpy().tobytes())


def harness_for(system: System, directory: Path) -> Path:
    """Compile check_library.c for a system."""
    path = directory / f"check-{system.target}{'.exe' if system.suffix == '.dll' else ''}"
    source = Path(__file__).with_name("check_library.c")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", system.target, "-O2", str(source), "-o", str(path)]
    subprocess.run([*command, *(() if system.suffix == ".dll" else ("-lm", "-ldl"))], check=True)
    return path


def run(system: System, library: Path, problems: Path, directory: Path) -> tuple[bool, str]:
    """Run one library on the problems."""
    runner, settings = RUNNERS[system.target]
    command = [*runner, str(harness_for(system, directory)), str(library), str(problems)]
    environment = os.environ | dict(each.split("=") for each in settings)
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    return ended.returncode == 0, ended.stdout.strip() or f"ended with {ended.returncode}: {ended.stderr[-200:]}"


def look_at(library: Path) -> tuple[bool, str]:
    """Return whether a library exports what it should, and what it needs."""
    binary = lief.parse(str(library))
    if isinstance(binary, lief.MachO.Binary):
        exported = {symbol.name.removeprefix("_") for symbol in binary.exported_symbols}
        oldest = ".".join(map(str, binary.build_version.minos))
        needs = f"macOS {oldest}; {', '.join(each.name for each in list(binary.libraries)[1:])}"
    else:
        exported = {entry.name for entry in binary.get_export().entries}
        needs = ", ".join(each.name for each in binary.imports)
    return exported >= EXPORTS, f"not run; exports {'all' if exported >= EXPORTS else 'TOO LITTLE'}; needs {needs}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    dist = parser.parse_args().dist
    lief.logging.disable()
    cpu = Path("/proc/cpuinfo").read_text()
    lacking = {name for name, flag in (("avx2", "avx2"), ("avx512", "avx512vl")) if f" {flag} " not in cpu}
    has_failed = False
    with tempfile.TemporaryDirectory() as place:
        directory, problems = Path(place), Path(place, "problems")
        write_problems(problems)
        for system in SYSTEMS:
            (wheel,) = (
                path
                for path in dist.glob("*.whl")
                if set(system.tag.split(".")) <= set(path.stem.replace("-", ".").split("."))
            )
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if "/prebuilt/" in name]
                archive.extractall(directory, names)
            for variant in (each for each in VARIANTS if each in system.variants):
                (name,) = (each for each in names if f"/lenet-{variant}-" in each)
                if system.target not in RUNNERS:
                    is_right, found = look_at(directory / name)
                elif variant in lacking and system.target.startswith("x86_64"):
                    is_right, found = True, "not run: this processor does not have it"
                else:
                    is_right, found = run(system, directory / name, problems, directory)
                has_failed |= not is_right
                print(f"{'ok' if is_right else 'FAILED':6} {system.target:24} {variant:9} {found}", flush=True)
    sys.exit(int(has_failed))


if __name__ == "__main__":
    main()
