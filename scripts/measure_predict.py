"""Measure what `lenet predict` loses between a digit on paper and the network: the tables of docs/predict.md.

    python scripts/measure_predict.py accuracy --split val     # while preparing pictures was being worked on
    python scripts/measure_predict.py accuracy --split test    # once, at the end
    python scripts/measure_predict.py scenes --limit 200       # light, noise and margins, on validation images
    python scripts/measure_predict.py likeness                 # the thresholds of `doubts`, and what they catch

Trains configs/relu.yaml unless --run names a run. Pictures go through real files, as a user's do.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from common import ROOT, SMALL, arguments, data_access, data_of, lenet, table
from lenet_mnist.config import DataConfig
from lenet_mnist.data.decoding import read_picture
from lenet_mnist.data.load import load_test
from lenet_mnist.errors import DataError
from lenet_mnist.inference.export import digit_network
from lenet_mnist.inference.pictures import Looks, Steps, doubts, looks_of, prepare
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork

Pixels = np.ndarray
Light = Callable[[Pixels], Pixels]  # of how far a place lies in a direction, 0 .. 1
LIGHTS: dict[str, Light] = {
    "even": lambda along: np.ones_like(along),
    "falls to a half": lambda along: 1 - 0.5 * along,
    "falls to a quarter": lambda along: 1 - 0.75 * along,
    "soft shadow of a half": lambda along: 1 - 0.5 / (1 + np.exp(-(along - 0.5) * 15)),
    "sharp shadow of a half": lambda along: 1 - 0.5 * (along > 0.5),
}
QUANTILES = (0, 0.1, 0.5, 1, 50, 99, 99.5, 99.9, 100)


def main() -> None:
    parser = arguments(__doc__, ["accuracy", "scenes", "likeness"])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--limit", type=int, default=20 if SMALL else None, help="take this many images only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        if (path := options.run) is None:
            small = ["--limit-train=2000", "--epochs=1"] if SMALL else []
            words = ["--config", ROOT / "configs" / "relu.yaml", *small, "--runs-dir", directory, "--json"]
            path = json.loads(lenet("train", *words))["runs"][0]["run"]
        run = Run(Path(path))
        network = digit_network(run)
        print(f"weights {run.manifest.weights_sha256[:12]}, best epoch {network.epoch}\n")
        if "accuracy" in options.parts:
            show_accuracy(network, options.split, options.limit)
        if "scenes" in options.parts:
            show_scenes(network, options.limit or 500)
        if "likeness" in options.parts:
            show_likeness(network, options.limit)


def probabilities(network: TrainedNetwork, seen: Pixels) -> Pixels:
    """Return what the network says of pictures. Shapes: seen N 28 28 uint8; result N K."""
    with torch.inference_mode():
        parts = [network.network(network.normalization.apply(part)) for part in torch.from_numpy(seen).split(1000)]
    return torch.cat(parts).double().softmax(dim=1).numpy()


def images_of(split: str, limit: int | None) -> tuple[Pixels, Pixels]:
    data = load_test(DataConfig(), data_access()) if split == "test" else getattr(data_of(DataConfig()), split)
    return data.images.numpy()[:limit], data.labels.numpy()[:limit]


def through_files(pictures: Iterable[Pixels]) -> list[Steps | None]:
    """Write each picture as PNG, read it as `lenet predict` does; None where it is refused."""
    found: list[Steps | None] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "picture.png"
        for pixels in pictures:
            Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path, compress_level=1)
            try:
                found.append(prepare(read_picture(path).grey))
            except DataError:
                found.append(None)
    return found


def share_right(network: TrainedNetwork, found: Sequence[Steps | None], labels: Pixels) -> float:
    """Return the share of right answers; a refused picture has none."""
    answered = [(steps.seen, label) for steps, label in zip(found, labels, strict=True) if steps is not None]
    answers = probabilities(network, np.stack([seen for seen, _ in answered])).argmax(axis=1)
    return float((answers == [label for _, label in answered]).sum()) / len(found)


def share_of_wrong_polarity(found: Sequence[Steps | None], is_dark: Sequence[bool]) -> float:
    pairs = zip(found, is_dark, strict=True)
    return sum(each is not None and each.is_dark_on_light != dark for each, dark in pairs) / len(found)


def show_accuracy(network: TrainedNetwork, split: str, limit: int | None) -> None:
    """Print the accuracy on the pixels themselves, and on pictures of them: of MNIST, and of scikit-learn's digits."""
    images, labels = images_of(split, limit)
    generator, digits = np.random.default_rng(0), load_digits()
    small = digits.images[:limit]
    direct = np.stack([np.pad(scaled(np.rint(image * 255 / 16), 20), 4) for image in small])
    sources = {
        f"{split} images, enlarged and off-centre": (images, labels, (off_centre(each, generator) for each in images)),
        "scikit-learn's digits of 8 x 8": (direct, digits.target[:limit], map(sheet_of_8, small)),
    }
    rows = []
    for name, (pixels, answers, pictures) in sources.items():
        found = through_files(pictures)
        right = (probabilities(network, pixels).argmax(axis=1) == answers).mean()
        shares = (right, share_right(network, found, answers), found.count(None) / len(found))
        rows.append(
            (name, *(f"{share:.2%}" for share in (*shares, share_of_wrong_polarity(found, [True] * len(found)))))
        )
    print(table(("pictures", "directly", "prepared", "refused", "wrong polarity"), rows))


def scaled(image: Pixels, size: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> Pixels:
    return np.asarray(Image.fromarray(image.astype(np.uint8)).resize((size, size), how))


def off_centre(image: Pixels, generator: np.random.Generator) -> Pixels:
    """Enlarge to 200 x 200, put it somewhere on a larger sheet, dark on light."""
    height, width = generator.integers(200, 401, 2)
    top, left = generator.integers(0, height - 199), generator.integers(0, width - 199)
    sheet = np.full((height, width), 255.0)
    sheet[top : top + 200, left : left + 200] -= scaled(image, 200, Image.Resampling.BICUBIC)
    return sheet


def sheet_of_8(image: Pixels) -> Pixels:
    """Return an 8 x 8 digit of values 0 .. 16 as a larger picture with a margin, dark on light."""
    return 255.0 - scaled(np.pad(np.rint(image * 255 / 16), 2), 120)


def show_scenes(network: TrainedNetwork, limit: int) -> None:
    images, labels = images_of("val", limit)
    dark = [bool(k % 2) for k in range(limit)]
    direct = (probabilities(network, images).argmax(axis=1) == labels).mean()
    rows = []
    for margin in (0.0, 0.05, 0.2, 1.0):
        for name, light in LIGHTS.items():
            generator = np.random.default_rng(0)
            pairs = zip(images, dark, strict=True)
            found = through_files(scene(image, margin, light, is_dark, generator) for image, is_dark in pairs)
            shares = (share_right(network, found, labels), share_of_wrong_polarity(found, dark))
            rows.append((f"{margin:.0%}", name, *(f"{each:.1%}" for each in (*shares, found.count(None) / limit))))
    print(f"{limit} validation images, directly: {direct:.1%} right\n")
    print(table(("margin", "light", "right", "wrong polarity", "refused"), rows))


def scene(image: Pixels, margin: float, light: Light, is_dark: bool, generator: np.random.Generator) -> Pixels:
    """Photograph a digit, cut out with a margin (a share of its size), under a light, with noise of 4 grey levels."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    digit = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    large = np.asarray(digit.resize((digit.width * 6, digit.height * 6), Image.Resampling.BICUBIC)) / 255
    ink = np.pad(large, round(margin * max(large.shape)))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    angle = generator.uniform(0, 2 * np.pi)
    place = y * np.sin(angle) + x * np.cos(angle)
    paper, pen = (210, 50) if is_dark else (60, 230)
    photo = (paper * (1 - ink) + pen * ink) * light((place - place.min()) / (place.max() - place.min()))
    return photo + generator.normal(0, 4, photo.shape)


def show_likeness(network: TrainedNetwork, limit: int | None) -> None:
    """Print the figures of training images, which set the thresholds, and how often other pictures cause a warning."""
    data = data_of(DataConfig())
    train, val = (
        [prepare(image.astype(float)) for image in part.images.numpy()[:limit]] for part in (data.train, data.val)
    )
    looks = np.array([looks_of(steps) for steps in train])
    figures = {name: looks[:, k] for k, name in enumerate(Looks._fields)}
    figures["confidence (val)"] = confidence(network, val)
    rows = [(name, *(f"{q:.3g}" for q in np.percentile(each, QUANTILES))) for name, each in figures.items()]
    print(f"percentiles over {len(train):,} training images, prepared\n")
    print(table(("figure", *(f"{q:g} %" for q in QUANTILES)), rows), "\n")

    generator = np.random.default_rng(0)
    enlarged = (off_centre(image, generator) for image in data.val.images.numpy()[: min(limit or 1000, 1000)])
    sources: dict[str, Iterable[Pixels]] = {
        "the same, enlarged and off-centre": enlarged,
        "scikit-learn's digits": map(sheet_of_8, load_digits().images),
        "digits of the font DejaVu Sans": map(glyph, "0123456789"),
        "two digits, 10 to 99": (glyph(str(number)) for number in range(10, 100)),
        "letters A to Z but I, O, S, Z": map(glyph, "ABCDEFGHJKLMNPQRTUVWXY"),
        "200 cuts of scikit-learn's two photos": cuts_of_photos(200, generator),
        "100 pictures of noise": (generator.integers(0, 256, (64, 64)) for _ in range(100)),
    }
    rows = [row_of_warnings(network, "validation images, prepared", val)]
    rows += [row_of_warnings(network, name, through_files(pictures)) for name, pictures in sources.items()]
    print(table(("pictures", "number", "refused", "warned by looks", "warned in all"), rows))


def confidence(network: TrainedNetwork, steps: Sequence[Steps]) -> Pixels:
    return probabilities(network, np.stack([each.seen for each in steps])).max(axis=1) if steps else np.zeros(0)


def row_of_warnings(network: TrainedNetwork, name: str, found: Sequence[Steps | None]) -> tuple[str, ...]:
    answered = [steps for steps in found if steps is not None]
    pairs = list(zip(answered, confidence(network, answered), strict=True))
    by_looks = sum(bool(doubts(looks_of(steps), 1.0)) for steps in answered)
    doubted = sum(bool(doubts(looks_of(steps), sure)) for steps, sure in pairs)
    numbers = (len(found) - len(answered), by_looks, doubted)
    return name, str(len(found)), *(f"{number / len(found):.1%}" for number in numbers)


def glyph(text: str) -> Pixels:
    """Return text in print, dark on light."""
    figure = Figure(figsize=(1, 1), dpi=120)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, text, fontsize=40, ha="center", va="center", family="DejaVu Sans")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=2)


def cuts_of_photos(count: int, generator: np.random.Generator) -> Iterator[Pixels]:
    """Yield square cuts of two photos, of a temple and of a flower."""
    photos = [photo.mean(axis=2) for photo in load_sample_images().images]
    for k in range(count):
        photo, side = photos[k % 2], int(generator.integers(60, 400))
        top, left = (int(generator.integers(0, size - side + 1)) for size in photo.shape)
        yield photo[top : top + side, left : left + side]


if __name__ == "__main__":
    main()
