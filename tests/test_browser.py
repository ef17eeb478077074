"""The browser that tests of pages use: it is real, and it notices."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.browser import OpenPage, overflow, visited

pytestmark = pytest.mark.browser


def page_of(directory: Path, body: str) -> Path:
    path = directory / "page.html"
    path.write_text(f"<!doctype html><html lang=en><meta charset=utf-8><title>t</title>{body}</html>")
    return path


def test_a_page_runs_its_script(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(page_of(tmp_path, "<p id=a></p><script>a.textContent = 6 * 7</script>"), width=360)
    assert page.inner_text("#a") == "42"
    assert overflow(page) == 0


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('broken')</script>", "console error: broken"),
        ("<script>throw new Error('thrown')</script>", "uncaught: thrown"),
        ("<script>alert('hello')</script>", "dialog: hello"),
        ("<img src=other.png alt=''>", "other.png"),
        ("<script>fetch('https://example.org/x').catch(() => 0)</script>", "request: https://example.org/x"),
    ],
)
def test_what_a_page_must_not_do_is_noticed(browser: Browser, tmp_path: Path, body: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint), visited(browser, page_of(tmp_path, body)):
        pass


def test_too_wide_is_noticed(open_page: OpenPage, tmp_path: Path) -> None:
    assert overflow(open_page(page_of(tmp_path, "<div style='width: 500px'>wide</div>"), width=360)) > 100
