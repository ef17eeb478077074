"""Draw the pictures of docs/index.md into docs/pictures/.

    python scripts/draw_pictures.py

They are of a training of configs/relu.yaml, and of one of configs/sigmoid.yaml.
"""

import io

from PIL import Image

import lenet_mnist
from common import ROOT, SMALL, arguments

COLOURS = 64  # a third of the bytes, and nothing to see of it


def main() -> None:
    arguments(__doc__).parse_args()
    runs_dir = ROOT / "build" / "pictures"
    directory = ROOT / "build" / "small" if SMALL else ROOT / "docs" / "pictures"
    directory.mkdir(parents=True, exist_ok=True)
    options = {"limit_train": 2000, "epochs": 2} if SMALL else {}
    relu, sigmoid = (lenet_mnist.train(name, runs_dir=runs_dir, **options) for name in ("relu", "sigmoid"))
    pictures = {
        "compare": lenet_mnist.compare(relu, sigmoid, runs_dir=runs_dir).figures["loss"],
        "layers": sigmoid.plot_layers(),
        "confusion": relu.evaluate("val").figures["confusion_matrix"],
    }
    for name, figure in pictures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png")
        path = directory / f"{name}.png"
        Image.open(png).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
