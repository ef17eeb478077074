"""Build the wheels, each with the native engine compiled for its system, all on this machine.

    make wheels                                       # into dist/
    python scripts/build_wheels.py --native           # only the one for this system

The C files are compiled by the clang in the package ziglang, which brings the headers of every system. Needs the extra
`wheels`. Prints the size of each wheel, and checks what a package index would refuse.
"""

import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import ROOT, arguments
from lenet_mnist.model.native.build import FLAGS, SOURCES, VARIANTS, file_name, source_key

AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512dq", "-mavx512cd", "-mavx512bw", "-mavx512vl")
X86 = dict(zip(VARIANTS, ((), AVX2, AVX512), strict=True))
ARM = {VARIANTS[0]: ()}


class System(NamedTuple):
    """A wheel's tag, the compiler's name for its system, the end of its libraries' names, and flags by variant."""

    tag: str
    target: str
    suffix: str
    variants: dict[str, tuple[str, ...]]


SYSTEMS = (
    System("manylinux_2_17_x86_64.manylinux2014_x86_64", "x86_64-linux-gnu.2.17", ".so", X86),
    System("manylinux_2_17_aarch64.manylinux2014_aarch64", "aarch64-linux-gnu.2.17", ".so", ARM),
    System("macosx_11_0_arm64", "aarch64-macos.11.0", ".dylib", ARM),
    System("macosx_10_15_x86_64", "x86_64-macos.10.15", ".dylib", X86),
    System("win_amd64", "x86_64-windows-gnu", ".dll", X86),
    System("win_arm64", "aarch64-windows-gnu", ".dll", ARM),
)


def libraries(system: System, directory: Path) -> list[Path]:
    """Compile one library for each variant into `directory`, each with the digest of its content in its name."""
    paths = []
    with tempfile.TemporaryDirectory() as place:
        for variant, flags in system.variants.items():
            path = Path(place) / f"lenet{system.suffix}"
            command = [sys.executable, "-m", "ziglang", "cc", "-target", system.target, *FLAGS, *flags, "-s"]
            subprocess.run([*command, *map(str, SOURCES), "-o", str(path)], check=True)
            content = path.read_bytes()
            paths.append(directory / file_name(f"{variant}-{source_key()}", content, system.suffix))
            paths[-1].write_bytes(content)
    return paths


def wheel_for(system: System, pure: Path, dist: Path) -> Path:
    """Put the libraries for a system into a copy of the wheel without any, and return the path of the new one."""
    with tempfile.TemporaryDirectory() as place:
        run("wheel", "unpack", pure, "--dest", place)
        (unpacked,) = Path(place).iterdir()
        prebuilt = unpacked / "lenet_mnist/model/native/prebuilt"
        prebuilt.mkdir()
        libraries(system, prebuilt)
        (about,) = unpacked.glob("*.dist-info/WHEEL")
        text = about.read_text().replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
        tags = "\n".join(f"Tag: py3-none-{tag}" for tag in system.tag.split("."))
        about.write_text(re.sub("Tag: py3-none-any", tags, text))
        before = set(dist.glob("*.whl"))
        run("wheel", "pack", unpacked, "--dest-dir", dist)
        (path,) = set(dist.glob("*.whl")) - before
    return path


def run(module: str, *arguments: object) -> None:
    """Run a Python module quietly; what it prints is shown if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")


def systems_here() -> Sequence[System]:
    """Return the system that this is, if it is one of them."""
    names = {"linux": "linux", "darwin": "macos", "win32": "windows"}
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return [each for each in SYSTEMS if each.target.startswith(f"{machine}-{names.get(sys.platform)}")]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--native", action="store_true", help="only for this system")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    given.dist.mkdir(parents=True, exist_ok=True)
    for old in given.dist.glob("lenet_mnist-*"):
        old.unlink()
    run("build", "--outdir", given.dist)
    (pure,) = given.dist.glob("*-py3-none-any.whl")
    for system in systems_here() if given.native else SYSTEMS:
        path = wheel_for(system, pure, given.dist)
        print(f"{path.name}  {path.stat().st_size / 1e6:.2f} MB", flush=True)
    run("twine", "check", "--strict", *given.dist.glob("lenet_mnist-*"))


if __name__ == "__main__":
    main()
