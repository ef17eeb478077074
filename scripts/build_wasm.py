"""Compile the lab's engine to WebAssembly: src/lenet_mnist/lab/lab.wasm.

    make wasm                                # writes it
    python scripts/build_wasm.py --check     # compiles it again, and compares the bytes

The compiler is the clang in the package ziglang (extra `wheels`), in the version that pyproject.toml pins.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, arguments

PACKAGE = ROOT / "src" / "lenet_mnist"
SOURCES = [PACKAGE / "model" / "native" / f"{name}.c" for name in ("lenet", "convolution", "classifier", "loss")]
SOURCES += [PACKAGE / "lab" / f"{name}.c" for name in ("lab", "random", "picture")]
TARGET = PACKAGE / "lab" / "lab.wasm"
FLAGS = (
    "-target",
    "wasm32-wasi",
    "-mexec-model=reactor",
    "-mcpu=generic+simd128+bulk_memory",
    "-O3",
    "-std=gnu11",
    "-s",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "lab.wasm"
        sources = [str(source.relative_to(ROOT)) for source in SOURCES]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *FLAGS, *sources, "-o", str(path)], check=True, cwd=ROOT)
        content = path.read_bytes()
    if not options.check:
        TARGET.write_bytes(content)
    elif content != TARGET.read_bytes():
        sys.exit(f"{TARGET}: is not what these C files and this compiler make: make wasm")
    print(f"{TARGET.relative_to(ROOT)}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
