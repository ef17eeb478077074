"""The report in a real Chromium: it asks for nothing, runs nothing but its own script, and opens its cells."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
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


def first_mistake(page: Page) -> str:
    """Return the link of a cell of mistakes, as #cell-3-5."""
    link = page.locator(".matrix td:not(.hit) a").first.get_attribute("href")
    assert link is not None
    return link


def test_a_cell_opens_its_images_without_scripts(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path, java_script_enabled=False)
    link = first_mistake(page)
    assert not page.is_visible(link)
    page.click(f".matrix a[href='{link}']")
    assert page.is_visible(link)
    assert page.locator(f"{link} img").first.is_visible()
    assert page.locator(".panel:visible").count() == 1
    page.click(f"{link} .close")
    assert page.locator(".panel:visible").count() == 0


def test_a_cell_opens_its_images_in_place_with_scripts(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path)
    link = first_mistake(page)
    cell = page.locator(f".matrix a[href='{link}']")
    assert cell.get_attribute("aria-expanded") == "false"
    cell.click()
    assert page.is_visible(link)
    assert cell.get_attribute("aria-expanded") == "true"
    assert page.url == evaluated.report_path.resolve().as_uri()  # the place in the page stays
    shown = page.locator(f"{link} img")
    count = int(cell.inner_text())
    assert shown.count() == min(count, 12)
    assert shown.first.evaluate("image => [image.complete, image.naturalWidth, image.naturalHeight]") == [True, 28, 28]
    cell.click()
    assert page.locator(".panel:visible").count() == 0


def test_the_keyboard_walks_through_the_matrix(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path)
    link = first_mistake(page)
    column = int(link.rpartition("-")[2]) + 2  # the first child is the row's name, and they count from 1
    focused = "document.activeElement.getAttribute('href')"
    for line, forth, back in (
        (f".matrix tr:has(a[href='{link}']) a", "ArrowRight", "ArrowLeft"),
        (f".matrix td:nth-child({column}) a", "ArrowDown", "ArrowUp"),
    ):
        hrefs = [each.get_attribute("href") for each in page.locator(line).all()]
        assert len(hrefs) > 1
        page.focus(f".matrix a[href='{hrefs[0]}']")
        for href in (*hrefs[1:], hrefs[-1]):  # past the end it stays
            page.keyboard.press(forth)
            assert page.evaluate(focused) == href
        page.keyboard.press("Enter")
        assert page.is_visible(str(hrefs[-1]))
        page.keyboard.press(back)
        assert page.evaluate(focused) == hrefs[-2]
        page.keyboard.press("Escape")
        assert page.locator(".panel:visible").count() == 0
        assert page.evaluate(focused) == hrefs[-1]


def test_a_link_to_a_cell_opens_it(evaluated: Run, open_page: OpenPage) -> None:
    page = open_page(evaluated.report_path)
    page.evaluate("location.hash = '#cell-1-1'")
    page.wait_for_selector("#cell-1-1", state="visible")
    page.evaluate("location.hash = '#cell-2-2'")
    page.wait_for_selector("#cell-2-2", state="visible")
    assert page.locator(".panel:visible").count() == 1


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(evaluated: Run, open_page: OpenPage, color_scheme: str) -> None:
    page = open_page(evaluated.report_path, width=360, color_scheme=color_scheme)
    page.click(f".matrix a[href='{first_mistake(page)}']")
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
        assert page.evaluate(MADE_OF) == {"scripts": 1, "fixed": 0, "foreign": 0, "otherImages": 0}, payloads
        assert page.title().startswith("LeNet")
        page.locator(".matrix td:not(.hit) a").first.click()  # the pointer goes there first
        assert page.locator(".panel:visible").count() == 1
        assert overflow(page) == 0, payloads
        page.evaluate(A_MOMENT)
        watch.end()
