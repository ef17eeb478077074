"""The page to draw on, in a real Chromium: the same preparation and forward pass as Python's, and fit for people."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tests.browser import A_MOMENT, OpenPage, overflow, visited, window
from tests.inference.networks import network_of

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.files.pages import inert_json
from lenet_mnist.inference.export import drawing_page
from lenet_mnist.inference.pictures import prepare
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork, read_network

pytestmark = pytest.mark.browser

Lenet = Callable[..., Any]
THREE = [(90, 70), (120, 45), (160, 60), (160, 95), (125, 118), (165, 140), (165, 185), (125, 210), (85, 195)]
# What would run, or end the block it stands in, if it were taken for markup or script.
INJECTIONS = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "{{data}}{{script}}",
    '"};alert(1);//',
    "\\u003cscript\\u003e",
    "&lt;b&gt; &amp;",
    "<svg/onload=alert(1)>",
)


def written(path: Path, *networks: tuple[str, TrainedNetwork]) -> Path:
    path.write_text(drawing_page(networks), encoding="utf-8")
    return path


def drawn(page: Page, points: list[tuple[int, int]] = THREE) -> None:
    """Draw with the mouse, and wait for the answer."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    scale = box["width"] / 256
    places = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    expect(page.locator(".says").first).to_contain_text("%")


def answers_of(page: Page, function: str, values: Any) -> Any:
    """Return what a function of the page makes of `values`. As one text each way: Playwright wraps every number."""
    return json.loads(page.evaluate(f"text => JSON.stringify(({function})(JSON.parse(text)))", json.dumps(values)))


@pytest.mark.parametrize("activation", Activation)
def test_the_forward_pass_is_torchs_to_1e_4(
    open_page: OpenPage, tmp_path: Path, small: TrainVal, activation: Activation
) -> None:
    trained = network_of(activation, small)
    page = open_page(written(tmp_path / "page.html", ("a run", trained)))
    images = small.val.images[:200]
    found = answers_of(
        page,
        """images => images.map(values => {
            const {network, levels} = networks[0];
            const layers = network.layers(values, levels);
            return {logits: [...layers.logits], s2: [...layers.s2], s4: [...layers.s4]};
        })""",
        images.flatten(start_dim=1).tolist(),
    )
    with torch.inference_mode():
        expected = trained.network.layer_outputs(trained.normalization.apply(images))
    for name, values in (
        ("logits", expected.logits),
        ("s2", expected.s2.flatten(start_dim=1)),
        ("s4", expected.s4.flatten(start_dim=1)),
    ):
        in_page = np.array([row[name] for row in found])
        assert np.abs(in_page - values.numpy()).max() <= 1e-4, name
    assert expected.logits.std(dim=0).min() > 0.01


def greys(small: TrainVal) -> list[np.ndarray]:
    """Digits as drawn, shaded, noisy, light on dark, with dirt and a line, of odd and narrow sizes; and empty ones."""
    random = np.random.default_rng(0)
    pictures = []
    for k, image in enumerate(small.val.images[:24].numpy().astype(float)):
        height, width = (random.integers(40, 110), random.integers(40, 110)) if k % 5 else (34, 96)
        grey = np.full((height, width), 235.0)
        top, left = random.integers(0, height - 28), random.integers(0, width - 28)
        grey[top : top + 28, left : left + 28] -= 0.8 * image
        y, x = np.mgrid[:height, :width]
        grey -= (k % 3) * (0.4 * x + 0.2 * y)
        grey += random.normal(0, k % 4, grey.shape)
        if k % 6 == 5:
            grey[-5:-3] = 30
            grey[2, 3] = 0
        grey = grey.clip(0, 255)
        pictures.append(255 - grey if k % 2 else grey)
    return [*pictures, np.full((40, 50), 200.0), random.normal(120, 4, (50, 40))]


def test_the_preparation_is_pythons_step_by_step(open_page: OpenPage, tmp_path: Path, small: TrainVal) -> None:
    page = open_page(written(tmp_path / "page.html", ("a run", network_of(Activation.RELU, small))))
    pictures = greys(small)
    found = answers_of(
        page,
        """pictures => pictures.map(({height, width, values}) => {
            const grey = {height, width, values: Float64Array.from(values)};
            const size = 8 * height * width;
            const [contrast, ink, steps] = [size, size, STEPS_BYTES].map((bytes) => engine.allocate(bytes));
            const found = engine.wasm.lab_prepare(engine.keep(grey.values), height, width, contrast, ink, steps);
            if (engine.prepare(grey) === null) return found === 0 ? null : "disagrees";
            const doubles = (place, count) => [...new Float64Array(engine.wasm.memory.buffer, place, count)];
            const [isDarkOnLight, numComponents, top, bottom, left, right, rows, columns] = engine.words(steps, 8);
            return {isDarkOnLight: isDarkOnLight === 1, numComponents, box: [top, bottom, left, right],
                    contrast: doubles(contrast, height * width), ink: doubles(ink, height * width),
                    fitted: doubles(steps + 32, rows * columns), seen: [...engine.prepare(grey)]};
        })""",
        [{"height": grey.shape[0], "width": grey.shape[1], "values": grey.ravel().tolist()} for grey in pictures],
    )
    assert [each is None for each in found] == [False] * 24 + [True] * 2
    for grey, in_page in zip(pictures[:24], found, strict=False):
        steps = prepare(grey)
        assert in_page["isDarkOnLight"] == steps.is_dark_on_light
        assert in_page["box"] == list(steps.box)
        assert in_page["numComponents"] == len(steps.components)
        others = (np.array(in_page["ink"]) == 0) & (steps.ink.ravel() > 0)  # what is no part of the digit is gone
        ink = np.where(others, 0, steps.ink.ravel())
        for name, expected in (("contrast", steps.contrast), ("ink", ink), ("fitted", steps.fitted)):
            assert np.allclose(in_page[name], expected.ravel(), atol=1e-9), name
        assert np.abs(np.array(in_page["seen"]) - steps.seen.ravel()).max() <= 1


def test_a_run_answers_what_is_drawn(open_page: OpenPage, lenet: Lenet, run: Run, small: TrainVal) -> None:
    """A digit of the validation part, painted on the paper: the page says what the run's network says in Python."""
    said = lenet("export", "latest", "--format", "html")
    path = Path(said.out.strip())
    assert path == Path("runs") / run.id / "export" / "lenet.html"
    page = open_page(path)
    assert page.inner_text(".network h2") == run.id
    assert page.inner_text(".says") == "–"
    page.evaluate(
        """values => {
            window.ink = byId("paper").getContext("2d");
            for (let y = 0; y < 28; y++) for (let x = 0; x < 28; x++) {
                const v = 255 - values[28 * y + x];
                ink.fillStyle = `rgb(${v},${v},${v})`;
                ink.fillRect(16 + 8 * x, 16 + 8 * y, 8, 8);
            }
            read(greyOf(byId("paper"), 2), false);
        }""",
        small.val.images[0].flatten().tolist(),
    )
    grey = np.array(page.evaluate("[...greyOf(byId('paper'), 2).values]")).reshape(128, 128)
    trained = read_network(run.model_path)
    seen = torch.from_numpy(prepare(grey).seen).unsqueeze(0)
    with torch.inference_mode():
        probabilities = trained.network(trained.normalization.apply(seen)).softmax(dim=1)[0].tolist()
    first = max(range(10), key=probabilities.__getitem__)
    assert page.inner_text(".says").startswith(f"{first}, ")
    shares = page.locator(".share").all_inner_texts()
    expected = [">99.9%" if p > 0.999 else f"{100 * p:.1f}%" for p in probabilities]
    assert shares == expected


def test_it_can_be_drawn_with_mouse_touch_and_keys(open_page: OpenPage, tmp_path: Path, small: TrainVal) -> None:
    page = open_page(written(tmp_path / "page.html", ("a run", network_of(Activation.TANH, small))), has_touch=True)
    amount = "greyOf(byId('paper'), 2).values.reduce((sum, value) => sum + 255 - value, 0) / 255"
    assert page.evaluate(amount) == 0
    drawn(page)
    by_mouse = page.evaluate(amount)
    assert by_mouse > 500
    assert page.evaluate(
        "document.querySelector('.layers canvas').getContext('2d').getImageData(0, 0, 28, 28).data.some(v => v === 0)"
    )
    page.click("#clear")
    expect(page.locator(".says")).to_have_text("–")
    assert page.evaluate(amount) == 0

    box = page.locator("#paper").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 100, box["y"] + 100)
    expect(page.locator(".says").first).to_contain_text("%")
    assert 0 < page.evaluate(amount) < by_mouse

    page.click("#clear")
    touch = page.context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [{"x": box["x"] + 60, "y": box["y"] + 60}]),
        ("touchMove", [{"x": box["x"] + 60, "y": box["y"] + 180}]),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.evaluate(amount) > 500
    assert page.evaluate("scrollY") == 0

    page.focus("#paper")
    page.keyboard.press("Delete")
    assert page.evaluate(amount) == 0
    page.keyboard.press("ArrowDown")
    assert page.evaluate(amount) == 0  # lifted
    page.keyboard.press("Space")
    assert page.inner_text("#pen-state") == "pen down"
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    expect(page.locator(".says").first).to_contain_text("%")
    assert page.evaluate(amount) > 200
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Enter")
    assert page.evaluate(amount) == 0


def test_a_picture_is_opened_and_the_language_is_the_readers(
    open_page: OpenPage, tmp_path: Path, small: TrainVal
) -> None:
    """What was opened stays when the language changes."""
    page = open_page(written(tmp_path / "page.html", ("a run", network_of(Activation.RELU, small))), locale="it-IT")
    assert page.title().startswith("Disegna")
    for grey, name in ((greys(small)[0], "digit.png"), (np.full((40, 50), 200.0), "blank.png")):
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / name)
    page.set_input_files("#file", tmp_path / "digit.png")
    expect(page.locator(".says")).to_contain_text("%")
    said = page.inner_text(".says")
    page.click("[data-language=en]")
    assert page.title().startswith("Draw")
    assert page.inner_text(".says") == said
    page.set_input_files("#file", tmp_path / "blank.png")
    expect(page.locator("#message")).to_contain_text("no ink")
    assert page.inner_text(".says") == "–"


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_two_networks_fit_every_window(
    open_page: OpenPage, tmp_path: Path, small: TrainVal, width: int, color_scheme: str
) -> None:
    networks = [(f"{kind.value}-{'x' * 60}", network_of(kind, small)) for kind in (Activation.SIGMOID, Activation.RELU)]
    page = open_page(written(tmp_path / "page.html", *networks), width=width, color_scheme=color_scheme)
    drawn(page)
    assert overflow(page) == 0
    assert page.locator(".network").count() == 2
    answers = [text.split(",")[0] for text in page.locator(".says").all_inner_texts()]
    assert page.text_content("#short-answer") == " / ".join(answers)
    assert page.locator("#short-answer").is_visible() == (width == 360)
    left = [page.locator(".network").nth(k).bounding_box()["x"] for k in (0, 1)]  # type: ignore[index]
    assert (left[0] < left[1]) == (width == 1280)  # side by side where there is room
    ground, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (sum(map(int, ground[4:-1].split(", "))) > 382) == (color_scheme == "light")
    assert (sum(map(int, text[4:-1].split(", "))) < 382) == (color_scheme == "light")


def test_headings_and_names_are_there_for_who_cannot_see(open_page: OpenPage, tmp_path: Path, small: TrainVal) -> None:
    networks = [(kind.value, network_of(kind, small)) for kind in (Activation.SIGMOID, Activation.RELU)]
    page = open_page(written(tmp_path / "page.html", *networks))
    drawn(page)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    for canvas in page.locator("canvas").all():
        assert canvas.get_attribute("aria-label")
        assert canvas.get_attribute("role")
    assert page.get_by_role("button", name="Clear").count() == 1
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(identifiers) == len(set(identifiers))


def test_names_of_runs_and_classes_are_only_text(browser: Browser, tmp_path: Path, small: TrainVal) -> None:
    trained, path = network_of(Activation.RELU, small), tmp_path / "page.html"
    with window(browser) as (page, watch):
        for payload in INJECTIONS:
            names = (payload, *trained.class_names[1:])
            hostile = TrainedNetwork(trained.network, trained.normalization, names, epoch=1)
            watch.begin(written(path, (payload, hostile)))
            page.goto(path.resolve().as_uri())
            page.click("#paper")  # a dot
            expect(page.locator(".says")).to_contain_text("%")
            assert page.text_content(".network h2") == payload
            assert page.locator(".bars .class").first.text_content() == payload
            assert page.locator("script").count() == 2
            assert page.locator("img, svg, b").count() == 0
            page.evaluate(A_MOMENT)
            watch.end()


def test_no_other_script_than_its_own_may_run(browser: Browser, tmp_path: Path, small: TrainVal) -> None:
    """Were a name ever taken for markup, the policy in the page would still not let it run."""
    path = written(tmp_path / "page.html", ("a run", network_of(Activation.RELU, small)))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</main>", "</main><script>document.title = 'run'</script>"), encoding="utf-8")
    titles = []
    with pytest.raises(AssertionError, match="Content Security Policy"), visited(browser, path) as page:
        titles.append(page.title())
    assert titles == ["Draw a digit: LeNet"]


def test_json_in_a_page_is_inert() -> None:
    value = {"text": "</script><!-- & \u2028 é", "number": 0.1}
    text = inert_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text)
