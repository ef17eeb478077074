"""Measure what `lenet predict` loses between a digit on paper and the network: the tables of docs/predict.md.

    python scripts/measure_predict.py accuracy --split val     # while preparing pictures was being worked on
    python scripts/measure_predict.py accuracy --split test    # once, at the end
    python scripts/measure_predict.py scenes                   # light, noise and margins, on validation images
    python scripts/measure_predict.py likeness                 # the thresholds of `doubts`, and what they catch

Each part trains configs/relu.yaml unless --run names a run. Pictures go through real files, as a user's do.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from common import arguments_parser, data_access, data_of, recipe, session
from lenet_mnist.config import DataConfig
from lenet_mnist.data.decoding import read_picture
from lenet_mnist.data.load import load_test
from lenet_mnist.errors import DataError
from lenet_mnist.inference.export import digit_network
from lenet_mnist.inference.pictures import Steps, prepare
from lenet_mnist.inference.predict import Looks, doubts, looks_of
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import require_all_finished, train_seeds
from lenet_mnist.training.checkpoint import TrainedNetwork

Pixels = np.ndarray


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("part", choices=["accuracy", "scenes", "likeness"])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--limit", type=int, help="take this many images only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with trained_run(arguments.run) as run:
        network = digit_network(run)
        print(f"weights {run.manifest.weights_sha256[:12]}, best epoch {network.epoch}")
        if arguments.part == "accuracy":
            accuracy(network, arguments.split, arguments.limit)
        elif arguments.part == "scenes":
            scenes(network, arguments.limit or 500)
        else:
            likeness(network, arguments.limit)


@contextmanager
def trained_run(path: Path | None) -> Iterator[Run]:
    """Yield the run at `path`, or one that is trained now by the default recipe."""
    if path is not None:
        yield Run(path)
        return
    with tempfile.TemporaryDirectory() as directory:
        runs = train_seeds(recipe("relu"), None, session(), Path(directory))
        require_all_finished(runs)
        yield runs[0].directory


def probabilities(network: TrainedNetwork, seen: Pixels) -> Pixels:
    """Return what the network says of pictures. Shapes: seen N 28 28 uint8; result N K."""
    with torch.inference_mode():
        parts = [network.network(network.normalization.apply(part)) for part in torch.from_numpy(seen).split(1000)]
    return torch.cat(parts).double().softmax(dim=1).numpy()


def images_of(split: str, limit: int | None) -> tuple[Pixels, Pixels]:
    images = load_test(DataConfig(), data_access()) if split == "test" else data_of(DataConfig()).val
    return images.images.numpy()[:limit], images.labels.numpy()[:limit]


def through_files(pictures: Iterable[Pixels]) -> list[Steps | None]:
    """Write each picture as PNG, read it as `lenet predict` does; None where it is refused."""
    results: list[Steps | None] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "picture.png"
        for pixels in pictures:
            Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path, compress_level=1)
            try:
                results.append(prepare(read_picture(path).grey))
            except DataError:
                results.append(None)
    return results


def num_right(network: TrainedNetwork, results: list[Steps | None], labels: Pixels) -> int:
    """Count the right answers; a refused picture has none."""
    answered = [(steps.seen, label) for steps, label in zip(results, labels, strict=True) if steps is not None]
    answers = probabilities(network, np.stack([seen for seen, _ in answered])).argmax(axis=1)
    return int((answers == [label for _, label in answered]).sum())


# Accuracy


def accuracy(network: TrainedNetwork, split: str, limit: int | None) -> None:
    images, labels = images_of(split, limit)
    direct = int((probabilities(network, images).argmax(axis=1) == labels).sum())
    generator = np.random.default_rng(0)
    results = through_files(off_centre(image, generator) for image in images)
    right = num_right(network, results, labels)
    count = len(images)
    print(f"{split} images: direct {direct / count:.2%}, enlarged, inverted and off-centre {right / count:.2%}")
    print(f"  lost {100 * (direct - right) / count:.2f} points; refused {sum(each is None for each in results)}")
    wrong_polarity = sum(each is not None and not each.is_dark_on_light for each in results)
    print(f"  polarity wrong {wrong_polarity} of {count}")

    digits = load_digits()
    small = np.stack([bilinear_in_28(image) for image in digits.images])
    direct = int((probabilities(network, small).argmax(axis=1) == digits.target).sum())
    right = num_right(network, through_files(sheet_of_8(image) for image in digits.images), digits.target)
    count = len(digits.target)
    print(f"scikit-learn's {count} digits of 8 x 8: bilinear to 20 x 20, in 28 x 28: {direct / count:.2%}")
    print(f"  as pictures, through the whole path: {right / count:.2%}")


def off_centre(image: Pixels, generator: np.random.Generator) -> Pixels:
    """Enlarge to 200 x 200, put it somewhere on a larger sheet, dark on light."""
    large = np.asarray(Image.fromarray(image).resize((200, 200), Image.Resampling.BICUBIC))
    height, width = generator.integers(200, 401, 2)
    top, left = generator.integers(0, height - 199), generator.integers(0, width - 199)
    sheet = np.full((height, width), 255.0)
    sheet[top : top + 200, left : left + 200] -= large
    return sheet


def bilinear_in_28(image: Pixels) -> Pixels:
    """Return an 8 x 8 digit of values 0 .. 16 as the network wants it, without lenet's own preparation."""
    grey = Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8))
    return np.pad(np.asarray(grey.resize((20, 20), Image.Resampling.BILINEAR)), 4)


def sheet_of_8(image: Pixels) -> Pixels:
    """Return an 8 x 8 digit as a larger picture with a margin, dark on light."""
    grey = Image.fromarray(np.pad(np.rint(image * 255 / 16), 2).astype(np.uint8))
    return 255.0 - np.asarray(grey.resize((120, 120), Image.Resampling.BILINEAR))


# Scenes


def scenes(network: TrainedNetwork, limit: int) -> None:
    images, labels = images_of("val", limit)
    direct = (probabilities(network, images).argmax(axis=1) == labels).mean()
    print(f"{limit} validation images, directly: {direct:.1%}; below: right, wrong polarity, refused")
    lights: dict[str, Callable[[Pixels, Pixels, float], Pixels]] = {
        "even": lambda y, x, a: 1 - 0 * along(y, x, a),
        "falls to a half": lambda y, x, a: 1 - 0.5 * along(y, x, a),
        "falls to a quarter": lambda y, x, a: 1 - 0.75 * along(y, x, a),
        "soft shadow of a half": lambda y, x, a: 1 - 0.5 / (1 + np.exp(-(along(y, x, a) - 0.5) * 15)),
        "sharp shadow of a half": lambda y, x, a: 1 - 0.5 * (along(y, x, a) > 0.5),
    }
    rows = []
    for margin in (0.0, 0.05, 0.2, 1.0):
        for name, light in lights.items():
            generator = np.random.default_rng(0)
            dark = [bool(k % 2) for k in range(limit)]
            results = through_files(
                scene(image, margin, light, is_dark, generator) for image, is_dark in zip(images, dark, strict=True)
            )
            wrong = sum(
                each is not None and each.is_dark_on_light != is_dark
                for each, is_dark in zip(results, dark, strict=True)
            )
            right = num_right(network, results, labels) / limit
            rows.append(
                (f"{margin:.0%}", name, f"{right:.1%}", f"{wrong / limit:.1%}", f"{results.count(None) / limit:.1%}")
            )
    print(aligned(("margin", "light", "right", "wrong polarity", "refused"), rows, right=(0, 2, 3, 4)))


def along(y: Pixels, x: Pixels, angle: float) -> Pixels:
    """Return how far each place lies in a direction, 0 .. 1."""
    place = y * np.sin(angle) + x * np.cos(angle)
    return (place - place.min()) / (place.max() - place.min())


def scene(
    image: Pixels,
    margin: float,
    light: Callable[[Pixels, Pixels, float], Pixels],
    is_dark: bool,
    generator: np.random.Generator,
) -> Pixels:
    """Photograph a digit, cut out with a margin (a share of its size), under a light, with noise of 4 grey levels."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    digit = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    large = np.asarray(digit.resize((digit.width * 6, digit.height * 6), Image.Resampling.BICUBIC)) / 255
    ink = np.pad(large, round(margin * max(large.shape)))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    paper, pen = (210, 50) if is_dark else (60, 230)
    photo = (paper * (1 - ink) + pen * ink) * light(y, x, generator.uniform(0, 2 * np.pi))
    return photo + generator.normal(0, 4, photo.shape)


# Likeness

_QUANTILES = (0, 0.1, 0.5, 1, 50, 99, 99.5, 99.9, 100)


def likeness(network: TrainedNetwork, limit: int | None) -> None:
    train_val = data_of(DataConfig())
    train = [prepare(image.astype(float)) for image in train_val.train.images.numpy()[:limit]]
    looks = np.array([looks_of(steps) for steps in train])
    table = [
        (name, *(f"{value:.3g}" for value in np.percentile(looks[:, k], _QUANTILES)))
        for k, name in enumerate(Looks._fields)
    ]
    val = [prepare(image.astype(float)) for image in train_val.val.images.numpy()[:limit]]
    sure = probabilities(network, np.stack([steps.seen for steps in val])).max(axis=1)
    table.append(("confidence (val)", *(f"{value:.3g}" for value in np.percentile(sure, _QUANTILES))))
    print(f"percentiles over {len(train):,} training images, prepared")
    print(aligned(("figure", *(f"{q:g} %" for q in _QUANTILES)), table))

    generator = np.random.default_rng(0)
    sources = {
        "validation images, prepared": val,
        "the same, enlarged and off-centre": through_files(
            off_centre(image, generator) for image in train_val.val.images.numpy()[: min(limit or 1000, 1000)]
        ),
        "scikit-learn's digits": through_files(sheet_of_8(image) for image in load_digits().images),
        "digits of the font DejaVu Sans": through_files(glyph(text) for text in "0123456789"),
        "two digits, 10 to 99": through_files(glyph(str(number)) for number in range(10, 100)),
        "letters A to Z but I, O, S, Z": through_files(glyph(text) for text in "ABCDEFGHJKLMNPQRTUVWXY"),
        "200 cuts of scikit-learn's two photos": through_files(cuts_of_photos(200, generator)),
        "100 pictures of noise": through_files(generator.integers(0, 256, (64, 64)) for _ in range(100)),
    }
    rows = []
    for name, results in sources.items():
        answered = [steps for steps in results if steps is not None]
        sure = probabilities(network, np.stack([s.seen for s in answered])).max(axis=1) if answered else np.zeros(0)
        by_looks = sum(bool(doubts(looks_of(steps), 1.0)) for steps in answered)
        doubted = sum(bool(doubts(looks_of(steps), p)) for steps, p in zip(answered, sure, strict=True))
        count = len(results)
        shares = (1 - len(answered) / count, by_looks / count, doubted / count)
        rows.append((name, str(count), *(f"{share:.1%}" for share in shares)))
    print(aligned(("pictures", "number", "refused", "warned by looks", "warned in all"), rows, right=(1, 2, 3, 4)))


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
        photo = photos[k % 2]
        side = int(generator.integers(60, 400))
        top, left = (int(generator.integers(0, size - side + 1)) for size in photo.shape)
        yield photo[top : top + side, left : left + side]


if __name__ == "__main__":
    main()
