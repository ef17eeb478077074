"""The page of `lenet lab` in a headless Chromium, beside the native engine and a plain PyTorch loop of one thread each.

    python scripts/benchmark_lab.py

All arms train LeNet with ReLU on the page's 10,000 images in batches of 64, in turn. Images a second are those of the
updates, without the evaluation after each epoch; in the page they are read off the steps that it shows, so that its
worker's reports and pauses count. The page is opened anew in each round: seconds from opening it to the first update
that it shows, and from pressing Train to 97 % on its validation images; and, while two networks train, the tasks of the
page's own thread that took more than 50 ms. Then the sizes of the files.
"""

import shutil
import tempfile
import time
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmark import Setting, second_epoch
from common import SMALL, arguments, lenet, table
from lenet_mnist.provenance import machine, versions

NUM_IMAGES = 4_000 if SMALL else 10_000
BATCH_SIZE = 64
GOAL = 0.8 if SMALL else 0.97
LIMIT = 120  # seconds for one training in the page
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Presses Train as soon as that can be pressed, and notes when the page shows which step. It runs before the page does.
WATCH = """
window.seen = { begun: null, steps: [], epochs: [], long: [] };
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) {
    if (seen.begun !== null && seen.begun < startTime / 1000) seen.long.push(duration);
  }
}).observe({ type: "longtask" });
setInterval(() => {
  if (typeof lab === "undefined" || !lab.views.length) return;
  const { begun, steps, epochs } = seen;
  const [view, now, button] = [lab.views[0], performance.now() / 1000, document.getElementById("train")];
  if (begun === null && !button.disabled) {
    if (window.isRace) document.getElementById("second").click();
    seen.begun = now;
    button.click();
  }
  if (view.step && view.step !== steps.at(-1)?.[1]) steps.push([now, view.step, view.epochs.length]);
  if (view.epochs.length > epochs.length) epochs.push([now, view.epochs.at(-1).val.accuracy]);
  seen.isDone = Boolean(view.ended);
  seen.perEpoch = view.perEpoch;
}, 4);
"""


def page_seen(browser: Browser, path: Path, is_race: bool = False) -> dict[str, Any]:
    """Open the page, let it train one network or two to the end, and return what WATCH noted: seconds from opening it.

    `long` are the milliseconds of the tasks that took more than 50, after Train was pressed.
    """
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.add_init_script(f"window.isRace = {'true' if is_race else 'false'};{WATCH}")
    page.goto(path.as_uri())
    started = time.perf_counter()
    while not page.evaluate("Boolean(seen.isDone)"):
        if time.perf_counter() - started > LIMIT:
            raise TimeoutError("the page does not come to the end of its training")
        page.wait_for_timeout(200)
    seen: dict[str, Any] = page.evaluate("seen")
    context.close()
    return seen


def images_a_second(seen: dict[str, Any]) -> float:
    """Return the speed of the updates from the second epoch on.

    The page shows the last update of an epoch before and while it evaluates: what comes after it does not count.
    """
    inside = [sample for sample in seen["steps"] if sample[2] > 0 and sample[1] % seen["perEpoch"] != 0]
    ends = [(each[0], each[-1]) for _, found in groupby(inside, key=itemgetter(2)) for each in [list(found)]]
    seconds, steps = (sum(last[k] - first[k] for first, last in ends) for k in (0, 1))
    return float(BATCH_SIZE * steps / seconds)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=2 if SMALL else 7)
    parser.add_argument("--browser", help="the browser's program; by default Chromium on PATH")
    options = parser.parse_args()
    print(f"{machine()}; {versions()}")
    setting = Setting(BATCH_SIZE, NUM_IMAGES, threads=1)
    speeds: dict[str, list[float]] = {"page": [], "lenet-native": [], "plain": []}
    firsts, reached, long = [], [], []
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        path, all_path = Path(directory, "lab.html"), Path(directory, "all.html")
        lenet("lab", "--images", NUM_IMAGES, "--output", path, "--no-open")
        program = options.browser or next(found for name in PROGRAMS if (found := shutil.which(name)))
        browser = playwright.chromium.launch(executable_path=program)
        print(f"Chromium {browser.version}")
        for _ in range(options.rounds):
            seen = page_seen(browser, path)
            speeds["page"].append(images_a_second(seen))
            firsts.append(seen["steps"][0][0])
            reached += [when - seen["begun"] for when, accuracy in seen["epochs"] if accuracy >= GOAL][:1]
            long.append(max(page_seen(browser, path, is_race=True)["long"], default=0.0))
            for arm in ("lenet-native", "plain"):
                speeds[arm] += [NUM_IMAGES / seconds for seconds in second_epoch(arm, setting)]
        browser.close()
        if not SMALL:
            lenet("lab", "--images", "all", "--output", all_path, "--no-open")
        sizes = [f"{each.stat().st_size / 1e6:.2f} MB" for each in (path, all_path) if each.exists()]
    middle = median(speeds["page"])
    rows = [(arm, *shown(values, ",.0f"), f"{middle / median(values):.2f}") for arm, values in speeds.items()]
    print("\n" + table(("arm", "images a second", "range", "page / arm"), rows))
    rows = [("from opening to the first update", *shown(firsts, ".2f"), len(firsts))]
    rows.append((f"from Train to {GOAL:.0%} on validation", *shown(reached, ".2f"), f"{len(reached)} of {len(firsts)}"))
    print("\n" + table(("seconds", "median", "range", "rounds"), rows))
    print(f"\nlongest task of the page while two networks train, ms, of each round (0: none above 50): {long}")
    print(f"\nfile: {', '.join(sizes)}")


def shown(values: list[float], form: str) -> tuple[str, str]:
    """Write the median and the range."""
    return (f"{median(values):{form}}", f"{min(values):{form}} to {max(values):{form}}") if values else ("never", "")


if __name__ == "__main__":
    main()
