"""From grey pixels to what the network sees, on real digits of the validation part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.inference.pictures import (
    Grey,
    centre,
    connected_components,
    fit,
    otsu_threshold,
    prepare,
)

WHITE = 255.0


def enlarged(image: Grey, size: int = 200) -> Grey:
    """A digit of MNIST, light on dark."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)).astype(float)


def sheet(digit: Grey, height: int = 256, width: int = 256, top: int = 20, left: int = 30) -> Grey:
    """White paper with a digit in dark ink."""
    paper = np.full((height, width), WHITE)
    paper[top : top + digit.shape[0], left : left + digit.shape[1]] -= digit
    return paper


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> Grey:
    return small.val.images.numpy()


def distance(seen: Grey, image: Grey) -> float:
    """Mean difference of two pictures, as a share of the ink; the centre may have been rounded to the next pixel."""
    shifted = [np.roll(seen.astype(float), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(float(np.abs(each - image).sum() / image.sum()) for each in shifted)


def test_a_digit_that_was_enlarged_comes_back_and_mnists_own_stays_nearly_as_it_is(digits: Grey) -> None:
    distances = [distance(prepare(sheet(enlarged(image))).seen, image) for image in digits[:60]]
    assert np.median(distances) < 0.25
    assert max(distances) < 0.8
    assert np.median([distance(prepare(image.astype(float)).seen, image) for image in digits[:200]]) < 0.05


def test_what_the_network_sees_is_as_mnists_pictures_are(digits: Grey) -> None:
    places = np.arange(28)
    for image in digits[:40]:
        seen = prepare(sheet(enlarged(image, 150))).seen
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) == 19
        assert seen.max() == 255
        ink = seen.astype(float)
        for axis in (0, 1):
            assert abs((ink.sum(axis=1 - axis) * places).sum() / ink.sum() - 14) <= 0.51


def test_polarity_is_decided_and_changes_nothing_else(digits: Grey) -> None:
    for image in digits[:40]:
        dark = prepare(sheet(enlarged(image)))
        light = prepare(WHITE - sheet(enlarged(image)))
        assert dark.is_dark_on_light
        assert not light.is_dark_on_light
        assert np.array_equal(dark.seen, light.seen)


@pytest.mark.parametrize("corner", [(0, 0, 1), (1, 0.5, 0.5), (0.2, 1, 0.6)])
def test_the_light_may_fall_off(digits: Grey, corner: tuple[float, float, float]) -> None:
    """The brightest place of the paper is up to three times as bright as the darkest."""
    base, down, right = corner
    y, x = np.mgrid[:256, :256] / 255
    light = 1 - 0.65 * (base + down * y + right * x) / (base + down + right)
    for image in digits[:20]:
        grey = sheet(0.7 * enlarged(image, 150), top=40, left=60)
        steps = prepare(grey * light)
        assert steps.is_dark_on_light
        assert distance(steps.seen, prepare(grey).seen) < 0.2


def test_noise_of_the_paper_is_no_ink(digits: Grey) -> None:
    noise = np.random.default_rng(0).normal(0, 6, (256, 256))
    greys = [sheet(0.6 * enlarged(image)) for image in digits[:20]]
    noisy = [prepare(grey - 20 + noise) for grey in greys]
    assert (
        np.median([distance(steps.seen, prepare(grey).seen) for steps, grey in zip(noisy, greys, strict=True)]) < 0.15
    )
    assert all((steps.ink == 0).mean() > 0.8 for steps in noisy)


def test_a_thin_pen_gets_full_ink() -> None:
    """Strokes of 1/70 of the digit's height, which would be faint if they were only made smaller."""
    grey = np.full((200, 200), WHITE)
    grey[30:170, 100:102] = grey[30:32, 50:160] = 60
    seen = prepare(grey).seen
    assert seen.max() == 255
    assert (seen > 150).sum() >= 30


def test_dirt_and_what_meets_two_sides_are_left_out(digits: Grey) -> None:
    grey = sheet(enlarged(digits[0], 150), top=60, left=60)
    clean = prepare(grey).seen
    grey[10:14, 20:24] = 0  # dirt
    grey[240:244] = 0  # a ruled line
    grey[:, :3] = 40  # the paper's edge
    assert distance(prepare(grey).seen, clean) < 0.1


def test_a_digit_that_fills_its_picture_is_found(digits: Grey) -> None:
    """A cut without a margin meets the sides, and is kept: there is nothing else."""
    found = 0
    for image in digits[:50]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        steps = prepare(WHITE - enlarged(cut, 120))
        found += steps.is_dark_on_light
    assert found >= 47


@pytest.mark.parametrize("width", [20, 40, 64, 80])
def test_a_one_cut_out_narrowly_is_found(width: int) -> None:
    grey = np.full((256, width), WHITE)
    grey[20:236, width // 2 - width // 8 : width // 2 + width // 8] = 0
    for turned in (grey, grey.T, WHITE - grey):
        steps = prepare(turned)
        assert steps.ink.mean() == pytest.approx((turned != turned[0, 0]).mean(), rel=0.01)
        assert len(steps.components) == 1


def test_one_colour_or_noise_alone_is_no_digit() -> None:
    greys = [np.full((60, 40), level) for level in (0.0, 93.0, 255.0)]
    for grey in (*greys, np.random.default_rng(0).normal(128, 5, (100, 100))):
        with pytest.raises(DataError, match="no digit found"):
            prepare(grey)


@given(st.integers(1, 256), st.integers(1, 256))
def test_the_longer_side_becomes_20(height: int, width: int) -> None:
    fitted = fit(np.ones((height, width)))
    assert max(fitted.shape) == 20
    assert min(fitted.shape) == max(1, int(20 * min(height, width) / max(height, width) + 0.5))
    assert centre(fitted).shape == (28, 28)


def test_otsu_parts_two_classes() -> None:
    assert 20 < otsu_threshold(np.array([10.0] * 50 + [20.0] * 3 + [200.0] * 9)) < 200


def test_components_connect_over_corners() -> None:
    ink = np.zeros((6, 7))
    ink[0, 1] = ink[1, 2] = 1
    ink[4:6, 5] = 0.5
    components, labels = connected_components(ink)
    assert [(each.mass, tuple(each.box), each.num_sides) for each in components] == [
        (2, (0, 2, 1, 3), 1),
        (1, (4, 6, 5, 6), 1),
    ]
    assert labels[1, 2] == 1
    assert labels[5, 5] == 2
    assert labels[3, 3] == 0
