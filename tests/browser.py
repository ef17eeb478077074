"""A real headless Chromium for tests of pages: the machine's own, never one that a library downloads."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# For a page to wait: whatever was under way has begun by then, a handler, a request, another page in this one's place.
A_MOMENT = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"

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
    """Notes what a page must not do: errors, warnings, dialogs, requests beyond the file that it shows."""

    def __init__(self, page: Page) -> None:
        self._complaints: list[str] = []
        self._path = Path()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._complaints.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", self._request)

    def begin(self, path: Path) -> None:
        """Forget what has been, and watch the file at `path` from now on."""
        self._path = path.resolve()
        self._complaints.clear()

    def end(self) -> None:
        """Raise AssertionError if the page did anything of this."""
        if self._complaints:
            raise AssertionError("\n".join([f"{self._path.name}:", *self._complaints]))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._complaints.append(f"console {message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self._complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if request.url.split("#")[0] != self._path.as_uri() and not request.url.startswith(("data:", "blob:")):
            self._complaints.append(f"request: {request.url}")


@contextmanager
def window(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 800,
    color_scheme: Literal["light", "dark"] = "light",
    **options: Any,
) -> Iterator[tuple[Page, Watch]]:
    """Open an empty page, to be watched. `options` are those of Browser.new_context."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=color_scheme, offline=True, **options
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page, Watch(page)
    context.close()


@contextmanager
def visited(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """Open the file at `path` as a user does who double-clicks it. `options` are those of `window`.

    Raises: AssertionError after the block if the page logged an error, opened a dialog or asked for anything.
    """
    with window(browser, **options) as (page, watch):
        watch.begin(path)
        page.goto(path.resolve().as_uri())
        yield page
        page.wait_for_load_state("networkidle")
    watch.end()


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
