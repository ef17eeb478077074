"""Distorted images: right, the same whatever they are computed with, and as wide apart as asked for."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lenet_mnist.config import AugmentationConfig, Config, Engine, TrainingConfig
from lenet_mnist.data import augment
from lenet_mnist.data.augment import Augmentation, Distortions, Resampling, draw, resample, resampling
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.randomness import Purpose, random_order

CPU = torch.device("cpu")
AS_IT_IS = Normalization(mean=0.0, std=1.0)
USUAL = AugmentationConfig(rotation=10, scale=0.1, shear=0.1, shift=1, elastic=0.85)
EXTREME = AugmentationConfig(rotation=180, scale=0.5, shear=0.5, shift=10, elastic=5, elastic_sigma=2)
KINDS = {"usual": USUAL, "extreme": EXTREME, "only shifted": AugmentationConfig(shift=2.5)}
SOME = np.arange(50_000)
STEPS = np.arange(28) - 13.5


configs = st.builds(
    AugmentationConfig,
    rotation=st.floats(0, 180),
    scale=st.floats(0, 0.5),
    shear=st.floats(0, 0.5),
    shift=st.floats(0, 10),
    elastic=st.floats(0, 5),
    elastic_sigma=st.floats(2, 100),
)


@pytest.fixture(scope="module")
def native() -> Resampling:
    return resolve_engine(Engine.NATIVE, CPU, 28).resample


@pytest.fixture(scope="module")
def images(small: TrainVal) -> Tensor:
    return small.train.images[:100]


def drawn(config: AugmentationConfig, num_images: int, seed: int = 0, epoch: int = 1) -> Distortions:
    return draw(config, 28, seed, epoch, np.arange(num_images))


def seen(images: Tensor, distortions: Distortions) -> npt.NDArray[np.float64]:
    """Return the images, distorted, as pixels of 0 to 255."""
    resampled = resample(images, torch.arange(len(images)), distortions, 0.0, 1.0)
    return resampled.squeeze(1).double().numpy()


def places(distortions: Distortions) -> npt.NDArray[np.float64]:
    """Return from where each pixel is taken, x and y, in pixels from the middle of the upper left one; in float64."""
    maps, noise, across, down = (values.double().numpy() for values in distortions)
    values = np.stack([noise.astype(int) % 16, noise.astype(int) // 16], axis=1) * 2 - 15
    affine = maps[:, :, 2, None, None] + maps[:, :, 0, None, None] * STEPS + maps[:, :, 1, None, None] * STEPS[:, None]
    return np.floor(affine + down @ (values @ across)) / 256


def of_one(**draws: float) -> Distortions:
    """Return the distortion of one image whose draws are these, between -1 and 1, and 0 where nothing is said."""
    names = ("angle", "scale", "shear", "x", "y")
    evenly = np.array([[draws.get(name, 0.0)] for name in names])
    config = AugmentationConfig(rotation=90, scale=0.5, shear=0.5, shift=4)
    maps = torch.from_numpy(augment._maps(config, 28, evenly))
    return Distortions(maps, torch.empty(1, 0, 0, dtype=torch.uint8), torch.empty(0, 28), torch.empty(28, 0))


# What is computed.


def test_nothing_is_on_by_default_and_each_value_alone_is() -> None:
    assert not AugmentationConfig().is_on
    assert not AugmentationConfig(elastic_sigma=3).is_on
    for name in ("rotation", "scale", "shear", "shift", "elastic"):
        assert AugmentationConfig(**{name: 0.1}).is_on


def test_no_distortion_gives_the_image_back_to_the_last_bit(images: Tensor) -> None:
    one = of_one()
    maps = one.maps.repeat(len(images), 1, 1)
    same = Distortions(maps, torch.empty(len(images), 0, 0, dtype=torch.uint8), one.across, one.down)
    assert np.array_equal(seen(images, same), images.numpy())


def test_slanted_then_turned_then_magnified_then_moved() -> None:
    """A point of the image goes where these four, one after the other, take it."""
    distortions = of_one(angle=0.3, scale=0.4, shear=-0.6, x=0.5, y=-0.25)
    angle, zoom, slant = math.radians(27), 1.2, -0.3
    point = np.array([5.0, -3.0])
    slanted = np.array([point[0] + slant * point[1], point[1]])
    turned = np.array(
        [
            math.cos(angle) * slanted[0] - math.sin(angle) * slanted[1],
            math.sin(angle) * slanted[0] + math.cos(angle) * slanted[1],
        ]
    )
    x, y = zoom * turned + [2, -1]
    source = distortions.maps[0].double().numpy() @ [x, y, 1] / 256 - 13.5
    assert source == pytest.approx(point, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_is_mixed_of_the_four_around_its_place(images: Tensor, kind: str) -> None:
    distortions = drawn(KINDS[kind], len(images))
    found, sources = seen(images, distortions), places(distortions)
    for image, (x, y), pixels in zip(images.double(), sources, found, strict=True):
        expected = scipy.ndimage.map_coordinates(image, (y, x), order=1, mode="grid-constant")
        assert np.abs(pixels - expected).max() < 1e-6


@given(config=configs, seed=st.integers(0, 2**63 - 1), epoch=st.integers(1, 10**9))
def test_whatever_is_configured_gives_pixels_between_black_and_white(
    small: TrainVal, config: AugmentationConfig, seed: int, epoch: int
) -> None:
    images = small.train.images[:5]
    found = seen(images, drawn(config, 5, seed, epoch))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 255


# What is drawn.


def test_each_draw_is_spread_evenly_between_its_ends() -> None:
    draws: list[tuple[str, float, Callable[[Any], Any]]] = [
        ("rotation", 10.0, lambda maps: np.degrees(np.arctan2(-maps[:, 1, 0], maps[:, 0, 0]))),
        ("scale", 0.1, lambda maps: 1 / maps[:, 0, 0] - 1),
        ("shear", 0.1, lambda maps: -maps[:, 0, 1]),
        ("shift", 2.0, lambda maps: 13.5 - maps[:, 0, 2]),
        ("shift", 2.0, lambda maps: 13.5 - maps[:, 1, 2]),
    ]
    for name, largest, draw_of in draws:
        maps = draw(AugmentationConfig(**{name: largest}), 28, 0, 1, SOME).maps.double().numpy() / 256
        shares, _ = np.histogram(draw_of(maps) / largest, bins=20, range=(-1.002, 1.002))
        assert shares.sum() == len(SOME)
        assert shares / len(SOME) == pytest.approx([0.05] * 20, abs=0.005)


def test_the_draws_do_not_depend_on_each_other() -> None:
    maps = draw(AugmentationConfig(scale=0.2, shear=0.2, shift=2), 28, 0, 1, SOME).maps.numpy()
    values = [maps[:, 1, 1], maps[:, 0, 1] / maps[:, 0, 0], maps[:, 0, 2], maps[:, 1, 2]]
    assert np.corrcoef(values) == pytest.approx(np.eye(4), abs=0.02)


@pytest.mark.parametrize("sigma", [2.0, 3.3, 5.0, 9.0, 40.0])
def test_the_elastic_displacement_is_as_large_and_as_smooth_as_asked_for(sigma: float) -> None:
    """Noise smoothed by a Gaussian: places a distance d apart are correlated by exp(-d^2 / (4 sigma^2))."""
    config = AugmentationConfig(elastic=0.85, elastic_sigma=sigma)
    steps = np.stack(np.broadcast_arrays(np.arange(28), np.arange(28)[:, None]))
    moved = places(draw(config, 28, 0, 1, SOME[:4000])) - steps
    across, down = moved[:, 0], moved[:, 1]
    by_pixel = np.sqrt((moved**2).mean(axis=0))
    assert by_pixel == pytest.approx(0.85, rel=0.07)
    assert by_pixel.mean() == pytest.approx(0.85, rel=0.02)
    assert abs(moved.mean(axis=0)).max() < 0.07
    assert abs((across * down).mean()) < 0.02
    for distance in (2, 5, 10):
        expected = math.exp(-((distance / sigma) ** 2) / 4)
        middle = slice(5, 23)  # correlations are those of a plane without edges
        for field in (across, down):
            row, column = field[:, :, middle], field[:, middle]
            assert (row[:, :, distance:] * row[:, :, :-distance]).mean() / 0.85**2 == pytest.approx(expected, abs=0.05)
            assert (column[:, distance:] * column[:, :-distance]).mean() / 0.85**2 == pytest.approx(expected, abs=0.05)


def test_what_a_draw_depends_on() -> None:
    turned, first = AugmentationConfig(rotation=10), drawn(USUAL, 50)
    bent = turned.model_copy(update={"elastic": 1.0, "elastic_sigma": 3.0})
    assert torch.equal(drawn(turned, 50).maps, drawn(bent, 50).maps)
    for seed, epoch in ((1, 1), (0, 2)):
        other = drawn(USUAL, 50, seed, epoch)
        assert (first.maps != other.maps).any(dim=2).all()
        assert (first.noise != other.noise).any(dim=(1, 2)).all()


def test_the_draws_are_the_same_for_ever() -> None:
    first = draw(USUAL, 28, 5, 3, np.array([0, 41_000]))
    assert (256 * first.maps[1]).round().int().tolist() == [[70907, -3364, 842156], [2748, 70931, 907052]]
    assert first.noise[1, 4].tolist() == [232, 204, 171, 9, 120, 107, 159, 24, 192, 123]
    assert (512 * first.down[3]).int().tolist() == [4, 27, 65, 59, 20, 2, 0, 0, 0, 0]


# What it depends on.


def batches(
    data: TrainVal, batch_size: int, augmentation: AugmentationConfig, native: Resampling | None = None, seed: int = 0
) -> TrainBatches:
    config = Config(augmentation=augmentation, seed=seed, training=TrainingConfig(batch_size=batch_size))
    return TrainBatches(data, config, CPU, native)


def whole_epoch(
    data: TrainVal, batch_size: int, config: AugmentationConfig, native: Resampling | None, limit: int | None = None
) -> Tensor:
    """Return all images of epoch 2, or those of its first batches, as its batches have them."""
    all_batches = batches(data, batch_size, config, native).of_epoch(2)
    return torch.cat([batch.images for batch in islice(all_batches, limit)])


@pytest.mark.compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_size_threads_and_engine_change_not_a_bit(
    small: TrainVal, native: Resampling, kind: str, threads: int
) -> None:
    expected = whole_epoch(small, len(small.train), KINDS[kind], None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for form in (None, native):
            for batch_size in (1, 7, 64, 1000, 2000):
                found = whole_epoch(small, batch_size, KINDS[kind], form, limit=40)
                assert torch.equal(found, expected[: len(found)])
                assert len(found) == min(40 * batch_size, 2000)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 100.0])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_no_sum_can_be_rounded_and_still_matter(scale: float, sigma: float) -> None:
    """Every number is a multiple of the unit, and sums are exact in float32 up to `exact`.

    The affine part never exceeds it, and neither does the displacement with the affine part but one of its terms, which
    is how torch adds them up. In C the displacement comes last, knot by knot: if it leads beyond, no other knot leads
    back into the image.
    """
    config = EXTREME.model_copy(update={"scale": scale, "elastic_sigma": sigma})
    ends = np.array(list(product(*[(-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1)] + [(-1, 0, 1)] * 4))).T
    maps = augment._maps(config, 28, ends).astype(np.float64)
    across, down = (weights.double().numpy() for weights in augment._weights(config, 28))
    unit = augment._unit(28)
    exact = 2**24 * unit
    assert not (maps[:, :, :2] % (2 * unit)).any()
    assert not (maps[:, :, 2] % unit).any()
    assert not (across % 1).any()
    assert not (down % unit).any()
    assert 15 * across.sum(axis=0).max() < 2**24
    elastic = 15 * down.sum(axis=1).max() * across.sum(axis=0).max()
    affine = np.abs(maps) * [13.5, 13.5, 1]
    assert affine.sum(axis=2).max() < exact
    assert elastic + (affine.sum(axis=2) - affine.min(axis=2)).max() < exact
    assert exact - 2 * elastic > 28 * 256


@pytest.mark.compiler
@given(config=configs, seed=st.integers(0, 2**63 - 1))
def test_both_engines_give_the_same_bits_whatever_is_configured(
    native: Resampling, config: AugmentationConfig, seed: int
) -> None:
    """Of images that are not black at their edges."""
    images = torch.randint(256, (9, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = (images, torch.arange(9), drawn(config, 9, seed), 33.3, 0.0123)
    assert torch.equal(native(*given), resample(*given))


def test_each_image_is_distorted_by_its_place_in_the_source_alone(small: TrainVal) -> None:
    """Whatever else is trained on, in whatever order, and whichever image was asked for before."""
    train = small.train
    places = torch.tensor([1500, 3, 77, 3])
    part = replace(small, train=TrainSet(train.images[places], train.labels[places], train.indices[places]))
    of_all, of_part = (Augmentation(data, USUAL, 0, CPU).view(4).images_of for data in (small, part))
    expected = of_all(places)
    assert torch.equal(of_part(torch.arange(4)), expected)
    assert torch.equal(of_all(places.flip(0)), expected.flip(0))
    assert torch.equal(of_all(torch.cat([places, places])[::2]), torch.cat([expected, expected])[::2])
    assert torch.equal(expected[1], expected[3])


def test_views_come_again_after_as_many_epochs_as_they_are(small: TrainVal) -> None:
    few, endless = batches(small, 64, USUAL.model_copy(update={"views": 2})), batches(small, 64, USUAL)
    places = torch.arange(20)
    first, second, third = (few.view(epoch).images_of(places) for epoch in (1, 2, 3))
    assert torch.equal(first, third)
    assert torch.equal(first, endless.view(1).images_of(places))
    assert torch.equal(second, endless.view(2).images_of(places))
    assert not torch.equal(first, endless.view(3).images_of(places))


def test_no_global_generator_is_drawn_from(small: TrainVal) -> None:
    before = torch.get_rng_state(), str(np.random.get_state())
    whole_epoch(small, 64, USUAL, None)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


def test_an_augmentation_that_is_off_or_tiny_leaves_the_batches_as_they_were(small: TrainVal) -> None:
    off = whole_epoch(small, 64, AugmentationConfig(elastic_sigma=3), None)
    order = torch.from_numpy(random_order(0, Purpose.ORDER, len(small.train), position=2))
    assert torch.equal(off, small.normalization.apply(small.train.images[order]))
    still = whole_epoch(small, 64, AugmentationConfig(shift=1e-6), None)
    torch.testing.assert_close(still, off, rtol=1e-5, atol=1e-5)


# The engine's own form.


def almost_right(*given: Any) -> Tensor:
    """Wrong in the last bits."""
    return resample(*given) * (1 + 2**-23)


@pytest.mark.compiler
def test_a_form_that_computes_something_else_is_not_used(native: Resampling) -> None:
    assert resampling(native) == native
    assert resampling(almost_right) is resample
    assert resampling(None) is resample
