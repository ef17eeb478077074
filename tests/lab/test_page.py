"""The file that `lenet lab` writes: the package's images, and nothing that it does not carry itself."""

import base64
import gzip
import json
import re
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from tests.browser import OpenPage
from tests.conftest import Answer

from lenet_mnist.config import DataConfig
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.files.pages import policy_source
from lenet_mnist.lab import page as lab_page
from lenet_mnist.runs.run import Run

Lenet = Callable[..., Answer]


def written(lenet: Lenet, *words: object) -> dict[str, Any]:
    """What the page is told."""
    answer = lenet("lab", "--no-open", *words)
    assert answer.code == 0, answer.err
    text = Path("lenet-lab.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    told: dict[str, Any] = json.loads(data)
    return told


def unpacked(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)


def test_the_page_carries_the_images_that_the_command_line_trains_on(lenet: Lenet, access: DataAccess) -> None:
    told = written(lenet, "--images", 200)
    config = DataConfig(limit_train=200, val_size=40)
    data, all_test = load_train_val(config, access), load_test(config, access)

    images, labels = unpacked(told["images"]).reshape(-1, 28, 28), unpacked(told["labels"])
    assert told["counts"] == {"train": 200, "val": 40, "test": 40}
    assert np.array_equal(images[:240], torch.cat([data.train.images, data.val.images]))
    assert np.array_equal(labels[:240], torch.cat([data.train.labels, data.val.labels]))
    official = {
        (image.tobytes(), int(label)) for image, label in zip(all_test.images.numpy(), all_test.labels, strict=True)
    }
    assert {(image.tobytes(), int(label)) for image, label in zip(images[240:], labels[240:], strict=True)} <= official
    assert np.bincount(labels[240:]).tolist() == pytest.approx(all_test.labels.bincount().numpy() / 250, abs=1)
    levels = np.frombuffer(base64.b64decode(told["levels"]), "<f4")
    assert np.array_equal(levels[images[0]], data.normalization.apply(data.train.images[:1])[0, 0])
    assert told["origin"]["data"] == json.loads(config.model_dump_json())
    assert told["origin"]["manifest"]["split_sha256"] == data.fingerprint.split
    assert (
        told["recipes"]["sigmoid"] | {"activation": "sigmoid", "rate": 0.2, "epochs": 12} == told["recipes"]["sigmoid"]
    )


def test_no_script_but_its_own_can_run(lenet: Lenet) -> None:
    written(lenet, "--source", "digits")
    text = Path("lenet-lab.html").read_text(encoding="utf-8")
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style"))
    policy = re.findall('content="(default-src .*?)"', text)[0]
    assert f"script-src {policy_source(script[0])} 'wasm-unsafe-eval';" in policy
    assert f"style-src {policy_source(style[0])};" in policy
    assert (len(script), len(style)) == (1, 1)


def test_a_small_source_is_whole_and_a_home_is_not_named(lenet: Lenet, tmp_path: Path, mnist_dir: Path) -> None:
    own = tmp_path / "home" / "letters"
    own.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        found = next(path for path in sorted(mnist_dir.rglob(f"{name}*")))
        content = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
        head = 16 if "images" in name else 8
        size = 784 if "images" in name else 1
        (own / name).write_bytes(content[:4] + (1000).to_bytes(4, "big") + content[8 : head + 1000 * size])
    told = written(lenet, "--source", own)
    assert told["counts"] == {"train": 600, "val": 200, "test": 200}
    assert told["origin"]["data"]["source"] == told["changes"]["data.source"] == "letters"
    assert str(tmp_path) not in Path("lenet-lab.html").read_text(encoding="utf-8")


def test_only_a_lab_is_written_over(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("thesis.html").write_text("<html>precious")
    for words, code in (
        (["--output", "thesis.html"], 2),
        (["--output", "thesis.doc"], 2),
        (["--images", "few"], 2),
        (["--images", "5"], 2),
        (["--source", "kmnistt"], 2),
    ):
        answer = lenet("lab", "--no-open", *words)
        assert (answer.code, answer.err.count("\n")) == (code, 1)
    assert [path.name for path in Path().iterdir()] == ["thesis.html"]
    assert Path("thesis.html").read_text() == "<html>precious"
    assert [lenet("lab", "--source", "digits", "--no-open").code for _ in range(2)] == [0, 0]
    monkeypatch.setattr(lab_page, "MOST_CLASSES", 9)
    assert lenet("lab", "--source", "digits", "--no-open").code == 2


@pytest.mark.parametrize(
    ("display", "words", "is_opened"), [(":0", [], True), (":0", ["--no-open"], False), ("", [], False)]
)
def test_it_is_opened_where_there_is_a_window(
    lenet: Lenet, monkeypatch: pytest.MonkeyPatch, display: str, words: list[str], is_opened: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert lenet("lab", "--source", "digits", *words).code == 0
    assert opened == ([Path("lenet-lab.html").resolve().as_uri()] if is_opened else [])


def until(page: Page, expression: str) -> None:
    """Wait; the page's policy does not let Playwright's own waiting run."""
    for _ in range(1000):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(expression)


@pytest.mark.browser
def test_what_the_page_trains_comes_back_as_a_run_of_the_same_figures(lenet: Lenet, open_page: OpenPage) -> None:
    written(lenet, "--images", 500)
    page = open_page(Path("lenet-lab.html"))
    until(page, "!document.getElementById('train').disabled")
    page.click("#epoch")
    until(page, "lab.views[0].epochs.length === 1")
    page.click("#performance > summary")
    page.click("#test")
    until(page, "lab.looks === 1")
    with page.expect_download() as download:
        page.click("#zips button")
    download.value.save_as("run.zip")

    run = Run(Path(json.loads(lenet("import", "run.zip", "--json").out)["runs"][0]["run"]))
    assert (len(run.steps), len(run.history), run.num_test_looks()) == (8, 1, 1)
    evaluated = json.loads(lenet("evaluate", run.path, "--split", "val", "--json").out)
    assert evaluated["accuracy"] == run.history[0].val_accuracy
    assert evaluated["loss"] == pytest.approx(run.history[0].val_loss, rel=1e-4)
    assert lenet("verify", run.path).code == 0
