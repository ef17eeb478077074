"""A real headless Chromium for tests of pages: the machine's own, never one that a library downloads."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OpenPage = Callable[..., Page]


def chromium_path() -> str:
    """Return the browser's program. Fails the test, and does not skip it, if there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            f"no Chromium on PATH ({', '.join(_NAMES)}): `make browser` installs Debian's, "
            "`pytest -m 'not browser'` does without these tests",
            pytrace=False,
        )
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """Run Chromium inside the block."""
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


class Watch:
    """Notes what a page must not do: errors, warnings, dialogs, requests beyond the file itself."""

    def __init__(self, page: Page, url: str) -> None:
        self.complaints: list[str] = []
        self._url = url
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.complaints.append(f"console {message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if request.url.split("#")[0] != self._url and not request.url.startswith(("data:", "blob:")):
            self.complaints.append(f"request: {request.url}")


@contextmanager
def visited(
    browser: Browser,
    path: Path,
    *,
    width: int = 1280,
    height: int = 800,
    color_scheme: Literal["light", "dark"] = "light",
    **options: Any,
) -> Iterator[Page]:
    """Open the file at `path` as a user does who double-clicks it. `options` are those of Browser.new_context.

    Raises: AssertionError after the block if the page logged an error, opened a dialog or asked for anything.
    """
    url = path.resolve().as_uri()
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=color_scheme, offline=True, **options
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    watch = Watch(page, url)
    page.goto(url)
    yield page
    page.wait_for_load_state("networkidle")
    context.close()
    if watch.complaints:
        raise AssertionError("\n".join([f"{path.name}:", *watch.complaints]))


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
