"""The report in a real Chromium: it asks for nothing, runs no script, and opens its images."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page
from tests.browser import A_MOMENT, OpenPage, Watch, overflow, visited, window
from tests.reporting.report_pages import TENS, put_everywhere, rename_classes, signed

from lenet_mnist.analysis import metrics
from lenet_mnist.config import Split
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.reporting.report import write_report
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import Evaluator, evaluate_runs

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("drawn_roughly")]

FOREIGN = "iframe, object, embed, base, form, input, math, animate, [autofocus], [href^='javascript:' i]"
# What a page has of what nothing in it may bring along.
MADE_OF = f"""() => ({{
  scripts: document.scripts.length,
  fixed: [...document.querySelectorAll('*')].filter(
    (each) => each.getAttributeNames().some((name) => name.startsWith('on') || name === 'style')
  ).length,
  foreign: document.querySelectorAll("{FOREIGN}").length,
  otherImages: [...document.images].filter((each) => !each.src.startsWith('data:image/png')).length,
}})"""


@pytest.fixture(scope="module")
def evaluated_template(template_run: Path, tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """A finished run, evaluated on the validation set and reported once."""
    run = Run(Path(shutil.copytree(template_run, tmp_path_factory.mktemp("evaluated") / template_run.name)))
    evaluate_runs([run], Split.VAL, Evaluator(access))
    write_report(run)
    return run.path


@pytest.fixture
def evaluated(evaluated_template: Path, tmp_path: Path) -> Run:
    """An evaluated run of one's own."""
    return Run(Path(shutil.copytree(evaluated_template, tmp_path / "runs" / evaluated_template.name)))


def first_mistake(page: Page) -> tuple[Locator, Locator]:
    """Return a number of the matrix that counts mistakes, and what it opens."""
    number = page.locator(".matrix td:not(.hit) button").first
    return number, page.locator(f"#{number.get_attribute('popovertarget')}")


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_a_number_opens_its_images_in_place(evaluated: Run, open_page: OpenPage, java_script_enabled: bool) -> None:
    page = open_page(evaluated.report_path, java_script_enabled=java_script_enabled)
    number, panel = first_mistake(page)
    assert not panel.is_visible()
    number.click()
    assert panel.is_visible()
    assert panel.locator("img").count() == min(int(number.inner_text()), 12)
    if java_script_enabled:  # else nothing can be evaluated
        sizes = "image => [image.complete, image.naturalWidth, image.naturalHeight]"
        assert panel.locator("img").first.evaluate(sizes) == [True, 28, 28]
    page.locator(".matrix td.hit button").first.click()
    assert not panel.is_visible()  # one at a time
    assert page.locator(".panel:visible").count() == 1
    page.locator(".panel:visible button").click()
    assert page.locator(".panel:visible").count() == 0
    assert page.url == evaluated.report_path.resolve().as_uri()  # the place in the page stays


def test_the_keyboard_opens_and_closes_a_number(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path)
    number, panel = first_mistake(page)
    number.focus()
    page.keyboard.press("Enter")
    assert panel.is_visible()
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert number.evaluate("each => each === document.activeElement")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(evaluated: Run, open_page: OpenPage, color_scheme: str) -> None:
    page = open_page(evaluated.report_path, width=360, color_scheme=color_scheme)
    first_mistake(page)[0].click()
    for details in page.locator("summary").all():
        details.click()
    assert overflow(page) == 0
    for inside in page.locator(".wide:visible").all():
        assert inside.evaluate("each => each.scrollWidth - each.clientWidth") == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (color_scheme == "light")


def test_long_names_and_texts_are_no_wider_than_a_phone(evaluated: Run, open_page: OpenPage) -> None:
    rename_classes(evaluated, "val", [f"{k}{'W' * 63}" for k in range(10)])
    signed(evaluated, machine="M" * 500, command="lenet train --name " + "x" * 500)
    assert overflow(open_page(write_report(evaluated), width=360)) == 0


def test_on_paper_there_are_the_sections_and_no_links(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("nav")
    assert page.is_visible(".matrix")
    assert page.locator("h2:visible").count() == 12
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize(
    "intruder",
    [
        "<script>window.owned = 1</script>",
        "<img src=data:, alt=0 onerror='window.owned = 1'>",
        "<p style='display: none'>0</p>",
        "<style>body { display: none }</style>",
    ],
)
def test_the_policy_stops_what_is_not_the_pages_own(evaluated: Run, browser: Browser, intruder: str) -> None:
    """Escaping keeps texts inert; this is the second wall, and it stands by itself."""
    page = evaluated.report_path.read_text()
    evaluated.report_path.write_text(page.replace("<main>", f"<main>{intruder}"))
    with pytest.raises(AssertionError, match="Content Security Policy"):
        visit_and_see_nothing_happen(browser, evaluated.report_path)


def visit_and_see_nothing_happen(browser: Browser, path: Path) -> None:
    with visited(browser, path) as page:
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.owned") is None
        assert page.is_visible("main")


@pytest.fixture(scope="module")
def phone(browser: Browser) -> Iterator[tuple[Page, Watch]]:
    """One small window for page after page: a new one for each takes longer than to look at the page."""
    with window(browser, width=360) as opened:
        yield opened


@pytest.fixture(scope="module")
def terse_template(template_run: Path, tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """An evaluated run that has kept two images of each cell: the page has all its parts, and is there sooner."""
    path = Path(shutil.copytree(template_run, tmp_path_factory.mktemp("terse") / template_run.name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "PER_CELL", 2)
        evaluate_runs([Run(path)], Split.VAL, Evaluator(access))
    return path


def test_a_text_of_a_run_does_nothing(terse_template: Path, tmp_path: Path, phone: tuple[Page, Watch]) -> None:
    run = Run(Path(shutil.copytree(terse_template, tmp_path / terse_template.name)))
    page, watch = phone
    for payloads in TENS:
        put_everywhere(run, payloads)
        watch.begin(write_report(run))
        page.goto(run.report_path.resolve().as_uri())
        assert page.evaluate(MADE_OF) == {"scripts": 0, "fixed": 0, "foreign": 0, "otherImages": 0}, payloads
        assert page.title().startswith("LeNet")
        page.locator(".matrix td:not(.hit) button").first.click()  # the pointer goes there first
        assert page.locator(".panel:visible").count() == 1
        assert overflow(page) == 0, payloads
        page.evaluate(A_MOMENT)
        watch.end()
