"""The page of the lab in a real Chromium, used as a student uses it."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser import A_MOMENT, OpenPage, overflow

from lenet_mnist.analysis.advice import Direction, Verdict, advise
from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.lab.page import write_lab
from lenet_mnist.training.loop import StopReason
from lenet_mnist.training.rows import EpochRow, StepRow

pytestmark = pytest.mark.browser

ROOMS = ("architecture", "data-room", "training", "performance", "table", "kernels", "gradients", "units")
NUM_MISSIONS = 13
# What ends beyond the window: the rooms would cut it off. Tables can be moved sideways.
TOO_WIDE = """[...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".table > *, .visually-hidden") && one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def lab_file(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """A lab of 1,000 training images, so that an epoch is 16 updates."""
    path = tmp_path_factory.mktemp("lab") / "lab.html"
    write_lab(DataConfig(), 1000, path, access)
    return path


@pytest.fixture
def lab(open_page: OpenPage, lab_file: Path) -> Callable[..., Page]:
    """Open the lab, at an address if need be, and wait until its images are there."""

    def opened(address: str = "", **options: Any) -> Page:
        page = open_page(lab_file, **options)
        if address:
            page.goto("about:blank")
            page.goto(lab_file.as_uri() + address)
        expect(page.locator("#train")).to_be_enabled()
        return page

    return opened


def figures_of(page: Page, selector: str) -> list[float]:
    """Return the numbers in a text of the page in English."""
    text = page.inner_text(selector).replace(",", "")
    return [float(figure) for figure in re.findall(r"\d+\.?\d*(?:e-?\d+)?", text)]


def step_of(page: Page) -> int:
    return int(figures_of(page, "#where")[0])


def trained(page: Page) -> None:
    """Wait until all epochs are done, or the training has diverged."""
    expect(page.locator("#step")).to_be_disabled()
    expect(page.locator("#train")).to_be_disabled(timeout=60_000)


def reveal(page: Page) -> None:
    """Show the answer, with figures; the worker's first report may still be on its way."""
    for _ in range(100):
        page.click("#reveal")
        if figures_of(page, "#answer"):
            return
        page.evaluate(A_MOMENT)
    raise AssertionError(page.inner_text("#answer"))


def open_rooms(page: Page) -> None:
    for room in ROOMS:
        page.evaluate(f"document.getElementById('{room}').open = true")
    page.evaluate("document.querySelector('form details').open = true")


def curve_of(page: Page, directory: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#csv")
    download.value.save_as(directory / "curve.csv")
    with (directory / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_trains_and_the_network_improves(lab: Callable[..., Page], tmp_path: Path) -> None:
    page = lab("#epochs=6")
    open_rooms(page)
    page.click("#train")
    trained(page)
    rows = curve_of(page, tmp_path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert float(rows[-1]["val_accuracy"]) > 0.8
    matrix = [int(count) for count in page.locator(".matrix button").all_inner_texts()]
    right = [int(count) for count in page.locator(".matrix .right").all_inner_texts()]
    assert sum(matrix) == 200
    assert sum(right) / 200 == pytest.approx(float(rows[-1]["val_accuracy"]), abs=1e-6)
    page.locator(".matrix .wrong").first.click()
    assert page.locator("#cell canvas").count() == int(page.locator(".matrix .wrong").first.inner_text())


def test_it_pauses_goes_on_by_one_update_and_comes_back_to_the_same_start(lab: Callable[..., Page]) -> None:
    page = lab("#epochs=100")
    page.click("#train")
    expect(page.locator("#where")).to_contain_text(re.compile("update [1-9]"))
    page.click("#train")
    expect(page.locator("#step")).to_be_enabled()
    step = step_of(page)
    page.evaluate(A_MOMENT)
    assert step_of(page) == step
    page.click("#step")
    expect(page.locator("#where")).to_contain_text(f"update {step + 1:,} of")
    losses = []
    for _ in range(2):
        page.click("#reset")
        expect(page.locator("#where")).to_contain_text("update 0 of")
        page.click("#epoch")
        expect(page.locator("#where")).to_contain_text("update 16 of")
        expect(page.locator("#epoch")).to_be_enabled()
        losses.append(page.get_attribute("#loss", "aria-label"))
    assert losses[0] == losses[1]


def test_each_mission_has_a_stage_and_an_answer_in_both_languages(lab: Callable[..., Page]) -> None:
    page = lab()
    for number in range(1, NUM_MISSIONS + 1):
        page.select_option("#missions", str(number))
        if page.locator("#stages button").count():
            page.click("#reveal")
            assert not figures_of(page, "#answer"), number
            page.locator("#stages button").first.click()
            trained(page)
        reveal(page)
        english = page.inner_text("#answer")
        page.click("[data-language=it]")
        assert page.inner_text("#answer") != english, number
        page.click("[data-language=en]")


def test_the_mission_on_sigmoid_measures_that_its_gradient_vanishes(lab: Callable[..., Page]) -> None:
    page = lab("#mission=5")
    page.locator("#stages button").first.click()
    trained(page)
    page.click("#reveal")
    of_sigmoid, of_tanh, *_ = figures_of(page, "#answer")
    assert of_sigmoid > 50
    assert of_tanh < 5
    assert page.locator("#gradients").get_attribute("open") is not None


def test_a_link_restores_an_experiment_and_a_damaged_one_is_ignored(lab: Callable[..., Page]) -> None:
    page = lab()
    page.check("#second")
    page.check("[value=tanh]", force=True)
    page.fill("[name=rate]", "0.013")
    page.press("[name=rate]", "Enter")
    address = "#" + page.url.split("#")[1]
    page = lab(address)
    assert page.locator("#second").is_checked()
    page.locator("#whose button").nth(1).click()
    assert page.locator("[value=tanh]").is_checked()
    assert page.input_value("[name=rate]") == "0.013"
    for damaged in ("#rate=1e9", "#activation=swish", "#mission=14", "#2.rate=0.1", "#%%%", "#fold=x"):
        page = lab(damaged)
        assert page.inner_text("#message") != ""
        assert page.input_value("[name=rate]") == "0.04"


def test_what_is_not_allowed_is_not_set(lab: Callable[..., Page]) -> None:
    page = lab()
    for name, value in (("rate", "0"), ("epochs", "1.5"), ("seed", ""), ("batchSize", "1000")):
        page.evaluate("document.querySelector('form details').open = true")
        page.fill(f"[name={name}]", value)
        page.press(f"[name={name}]", "Tab")
        expect(page.locator("#message")).to_be_visible()
        assert name not in page.url


def test_a_divergence_stops_the_training_in_words(lab: Callable[..., Page]) -> None:
    page = lab("#activation=tanh&rate=10&momentum=0.99&weightDecay=10&schedule=constant")
    page.click("#train")
    trained(page)
    assert page.locator("#advice p").count() == 1
    assert step_of(page) < 160


def test_a_drawing_is_read_and_a_file_that_is_no_picture_is_refused(lab: Callable[..., Page], tmp_path: Path) -> None:
    page = lab()
    page.click("#train")
    trained(page)
    page.click("#draw")
    box = page.locator("#paper").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 40, steps=5)
    page.mouse.up()
    expect(page.locator("#networks .first .class")).to_have_text("1")
    expect(page.locator("#networks .says")).to_contain_text("yours")
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "text.png")
    expect(page.locator("#message")).to_be_visible()


@pytest.mark.parametrize("language", ["en", "it"])
def test_nothing_is_wider_than_a_phone(lab: Callable[..., Page], language: str) -> None:
    page = lab(width=360, color_scheme="dark", reduced_motion="reduce")
    page.click(f"[data-language={language}]")
    page.check("#second")
    open_rooms(page)
    page.click("#epoch")
    expect(page.locator(".matrix button").first).to_be_visible(timeout=30_000)
    page.click("#draw")
    for number in range(NUM_MISSIONS + 1):
        page.select_option("#missions", str(number))
        open_rooms(page)
        assert overflow(page) <= 0, number
        assert page.evaluate(TOO_WIDE) == [], number


def test_the_keyboard_reaches_everything(lab: Callable[..., Page]) -> None:
    page = lab("#mission=6")
    page.keyboard.press("Tab")
    page.click("#epoch")
    open_rooms(page)
    page.click("#draw")
    expect(page.locator(".matrix button").first).to_be_visible(timeout=30_000)
    wanted = page.evaluate("""() => [...document.querySelectorAll("button, input, select, summary, canvas[tabindex]")]
        .filter((one) => one.checkVisibility() && !one.disabled && (one.type !== "radio" || one.checked))
        .map((one, k) => (one.dataset.number = String(k)))""")
    page.locator("[data-language=en]").focus()
    reached = set()
    for _ in range(len(wanted) + 20):
        reached.add(page.evaluate("document.activeElement.dataset.number"))
        page.keyboard.press("Tab")
    assert set(wanted) <= reached


def test_without_simd_a_sentence_says_so(open_page: OpenPage, lab_file: Path) -> None:
    page = open_page(lab_file)
    page.add_init_script("WebAssembly.validate = () => false")
    page.reload()
    expect(page.locator("#message")).to_be_visible()
    expect(page.locator("#train")).to_be_disabled()


def test_refused_memory_is_said(open_page: OpenPage, lab_file: Path, tmp_path: Path) -> None:
    text = lab_file.read_text(encoding="utf-8")
    assert text.count("wasm.lab_allocate(bytes)") == 1
    (tmp_path / "lab.html").write_text(text.replace("wasm.lab_allocate(bytes)", "0"), encoding="utf-8")
    page = open_page(tmp_path / "lab.html")
    expect(page.locator("#message")).to_contain_text("memory")
    expect(page.locator("#train")).to_be_disabled()


RATES = (0.0002, 0.002, 0.005, 0.02, 0.08, 0.2, 1.0, 5.0)
VERDICTS = {
    "diverged": Verdict.DIVERGED,
    "thrownUp": Verdict.OSCILLATES,
    "oscillates": Verdict.OSCILLATES,
    "dead": Verdict.CUT_OFF,
    "saturated": Verdict.CUT_OFF,
    "doesNotFall": Verdict.DOES_NOT_FALL,
    "stays": Verdict.STAYS,
    "slowly": Verdict.FALLS_SLOWLY,
    "falls": Verdict.AMBIGUOUS,
    "fine": Verdict.FINE,
}
DIRECTIONS = {word.name.lower(): word for word in Direction}


@pytest.mark.parametrize(
    ("activation", "epochs", "schedule"),
    [("relu", 3, "linear"), ("relu", 6, "constant"), ("sigmoid", 6, "linear"), ("tanh", 6, "linear")],
)
def test_the_advice_is_the_packages(lab: Callable[..., Page], activation: str, epochs: int, schedule: str) -> None:
    networks = enumerate(RATES, start=1)
    common = f"activation={activation}", f"epochs={epochs}", f"schedule={schedule}"
    page = lab(
        "#" + "&".join(f"{k}.{word}".removeprefix("1.") for k, rate in networks for word in (*common, f"rate={rate}"))
    )
    page.click("#train")
    trained(page)
    found = page.evaluate("""lab.views.map((view, k) => ({
      said: advise(view, lab.settings[k], DATA.advice, DATA.guessingLoss),
      steps: view.steps.map(({ step, epoch, rate, loss, norms }) => [step, epoch, rate, loss, norms[5], norms[0]]),
      epochs: view.epochs.map(({ epoch, step, rate, train, val }) =>
        [epoch, step, rate, train.loss, train.accuracy, val.loss, val.accuracy, 0]),
      ended: view.ended,
    }))""")
    guessing = page.evaluate("DATA.guessingLoss")
    for rate, view in zip(RATES, found, strict=True):
        values = {"model.activation": activation, "training.learning_rate": rate, "training.max_epochs": epochs}
        reason = StopReason.DIVERGED if view["ended"] == "diverged" else StopReason.MAX_EPOCHS
        history, steps = [EpochRow(*row) for row in view["epochs"]], [StepRow(*row) for row in view["steps"]]
        record = TrainingRecord(Config.of(values), 1000, 200, guessing, reason, history, steps, ())
        advice = advise(record)
        said = view["said"]
        assert (VERDICTS[said["verdict"]], DIRECTIONS[said["direction"]]) == (advice.verdict, advice.direction), rate
