"""`lenet export`: what is written where, what is refused, and that every block of Python in docs/export.md works."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.conftest import copy_training_files
from tests.inference.networks import network_of

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.inference import onnx_file
from lenet_mnist.inference.onnx_file import onnx_content
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import TrainedNetwork, read_network, weights_digest, write_network

Lenet = Callable[..., Any]
FORMATS = ("html", "onnx", "safetensors")
PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_page_of_one_run_or_two(lenet: Lenet, run: Run, tmp_path: Path) -> None:
    said = lenet("export", "latest", "--format", "html")
    path = run.export_path / "lenet.html"
    assert (said.code, said.out) == (0, f"runs/{run.id}/export/lenet.html\n")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert 300_000 < len(text) < 500_000
    assert run.id in text
    assert "{{" not in text
    assert "http" not in text.replace("http-equiv", "")
    lenet("export", "latest", "--format", "html")
    assert path.read_text(encoding="utf-8") == text
    assert names_in(run.export_path) == ["lenet.html"]

    second = tmp_path / "runs" / "20200101-000000-second-abcd"
    shutil.copytree(run.path, second)
    two = ("export", run.id, "--compare", second.name, "--format", "html")
    assert lenet(*two, "--output", "both.html").out == "both.html\n"
    both = Path("both.html").read_text(encoding="utf-8")
    assert run.id in both
    assert second.name in both
    assert lenet(*two).out.endswith("/export/compared.html\n")


@pytest.mark.usefixtures("run")
def test_what_cannot_be_is_one_line(lenet: Lenet) -> None:
    for arguments, code, named in (
        ("--format pickle", 2, "--format"),
        ("--format html --output model.safetensors", 2, "model.safetensors"),
        ("--format html --compare nothing", 2, "nothing"),
        ("--format html --output missing/page.html", 6, "missing/page.html"),
        ("--format onnx --output lenet.html", 2, ".onnx"),
        ("--format onnx --output missing/lenet.onnx", 6, "missing/lenet.onnx"),
        ("--format onnx --compare latest", 2, "--compare"),
        ("--format onnx --data-dir nowhere --offline", 3, "nowhere"),
        ("--format safetensors --output lenet.onnx", 2, ".safetensors"),
        ("", 2, "--format"),
    ):
        said = lenet("export", "latest", *arguments.split())
        assert (said.code, said.out) == (code, ""), arguments
        assert named in said.err, arguments


def test_nothing_is_written_through_a_link(lenet: Lenet, run: Run, outside: Path) -> None:
    run.export_path.symlink_to(outside)
    for format_name in FORMATS:
        said = lenet("export", "latest", "--format", format_name)
        assert said.code == 6
        assert "symbolic link" in said.err


def test_a_network_that_is_damaged_or_missing_is_refused(lenet: Lenet, run: Run) -> None:
    content = bytearray(run.model_path.read_bytes())
    content[-5] ^= 1
    run.model_path.write_bytes(content)
    for format_name in FORMATS:
        said = lenet("export", "latest", "--format", format_name)
        assert said.code == 3
        assert "damaged" in said.err
    run.model_path.unlink()
    for format_name in FORMATS:
        said = lenet("export", "latest", "--format", format_name)
        assert said.code == 3
        assert "model.safetensors" in said.err
    run.write_manifest(run.manifest.model_copy(update={"kind": "sweep"}))
    for format_name in FORMATS:
        said = lenet("export", run.path, "--format", format_name)
        assert said.code == 2
        assert "sweep" in said.err
    assert not run.export_path.exists()


def test_a_missing_extra_is_named_with_the_command_that_helps(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)  # so Python says that there is none
            said = lenet("export", "latest", "--format", "onnx")
        assert said.code == 6
        assert f"needs {package}," in said.err
        assert said.err.endswith(f"pip install {package}\n")
    assert not run.export_path.exists()


def test_without_extras_the_other_formats_are_written(run: Run) -> None:
    program = (
        "import sys; sys.modules.update(onnx=None, onnxruntime=None, tensorboard=None)\n"
        "from lenet_mnist.cli.main import main; main()"
    )
    for format_name in ("html", "safetensors"):
        command = [sys.executable, "-c", program, "export", str(run.path), "--format", format_name]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert names_in(run.export_path) == ["lenet.html", "lenet.safetensors"]


def test_onnx_is_checked_on_10_000_images_and_says_so(lenet: Lenet, run: Run) -> None:
    said = lenet("export", "latest", "--format", "onnx")
    path = run.export_path / "lenet.onnx"
    first, second = said.out.splitlines()
    assert (said.code, first) == (0, f"runs/{run.id}/export/lenet.onnx")
    assert "the same answer to 10,000 of 10,000 training images" in second
    figures = json.loads((run.export_path / "lenet.onnx.json").read_text())
    assert (figures["num_images"], figures["num_same"], figures["num_ties"]) == (10_000, 10_000, 0)
    assert 0 < figures["largest_logit_difference"] <= figures["tolerance"] == 1e-4
    assert figures["largest_probability_difference"] <= 1e-5
    assert figures["batch_sizes"] == [1, 7, 1000]
    assert figures["file"] == "lenet.onnx"
    assert figures["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert figures["weights_sha256"] == run.manifest.weights_sha256
    assert figures["versions"]["onnxruntime"] == onnx_file.RUNTIME_VERSION
    onnx.checker.check_model(path, full_check=True)
    content = path.read_bytes()
    document = json.loads(lenet("export", "latest", "--format", "onnx", "--output", "my.onnx", "--json").out)
    assert document == {"format": "onnx", "path": "my.onnx", "check": {**figures, "file": "my.onnx"}}
    assert json.loads(Path("my.onnx.json").read_text()) == document["check"]
    assert Path("my.onnx").read_bytes() == content == path.read_bytes()
    assert names_in(run.export_path) == ["lenet.onnx", "lenet.onnx.json"]
    Path("directory.onnx").mkdir()
    assert lenet("export", "latest", "--format", "onnx", "--output", "directory.onnx").code == 6
    assert names_in(Path()) == ["directory.onnx", "my.onnx", "my.onnx.json", "runs"]


def changed(trained: TrainedNetwork, is_of_mnist: bool) -> bytes:
    """The file of a network with one weight a little different."""
    with torch.no_grad():
        trained.network.c1.weight[0, 0, 0, 0] += 0.01
        content = onnx_content(trained, is_of_mnist)
        trained.network.c1.weight[0, 0, 0, 0] -= 0.01
    return content


def test_a_file_that_computes_something_else_gets_no_name(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.export_path.mkdir()
    for name in ("lenet.onnx", "lenet.onnx.json"):
        (run.export_path / name).write_text("old")
    for content in (changed, lambda *_: b"no network"):
        with monkeypatch.context() as patch:
            patch.setattr(onnx_file, "onnx_content", content)
            said = lenet("export", "latest", "--format", "onnx")
        assert (said.code, said.out) == (5, "")
        assert "export/lenet.onnx: not written: ONNX Runtime " in said.err
        assert said.err.count("\n") == 1
        found = {path.name: path.read_text() for path in run.export_path.iterdir()}
        assert found == {"lenet.onnx": "old", "lenet.onnx.json": "old"}


def test_safetensors_is_the_runs_own_file_again(lenet: Lenet, run: Run) -> None:
    said = lenet("export", "latest", "--format", "safetensors")
    path = run.export_path / "lenet.safetensors"
    assert (said.code, said.out) == (0, f"runs/{run.id}/export/lenet.safetensors\n")
    assert path.read_bytes() == run.model_path.read_bytes()
    assert read_network(path).class_names == tuple("0123456789")
    said = lenet("export", "latest", "--format", "safetensors", "--output", "my.safetensors", "--json")
    assert json.loads(said.out) == {"format": "safetensors", "path": "my.safetensors", "check": None}
    assert Path("my.safetensors").read_bytes() == path.read_bytes()


def test_no_export_needs_the_test_images(lenet: Lenet, run: Run, mnist_dir: Path, tmp_path: Path) -> None:
    copy_training_files(mnist_dir, tmp_path / "data")
    for format_name in FORMATS:
        assert lenet("export", run.id, "--format", format_name, "--data-dir", tmp_path / "data", "--offline").code == 0
    assert names_in(run.export_path) == ["lenet.html", "lenet.onnx", "lenet.onnx.json", "lenet.safetensors"]


@pytest.mark.parametrize("activation", Activation)
def test_every_block_of_python_in_the_docs_works(
    lenet: Lenet, run: Run, small: TrainVal, monkeypatch: pytest.MonkeyPatch, activation: Activation
) -> None:
    write_network(run.model_path, network_of(activation, small))
    trained = read_network(run.model_path)
    digest = weights_digest(trained.network.state_dict())
    run.write_manifest(run.manifest.model_copy(update={"weights_sha256": digest}))
    for format_name in ("onnx", "safetensors"):
        assert lenet("export", run.path, "--format", format_name).code == 0
    monkeypatch.chdir(run.export_path)
    images = small.val.images[:20]
    with torch.inference_mode():
        expected = trained.network(trained.normalization.apply(images)).numpy()
    names: dict[str, Any] = {"images": images.numpy()}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    num_answers = 0
    for block in blocks:
        exec(block, names)
        if "answers" in names:
            assert np.abs(np.asarray(names.pop("logits")) - expected).max() < 1e-4
            assert names.pop("answers") == [str(digit) for digit in expected.argmax(axis=1)]
            num_answers += 1
    assert (len(blocks), num_answers) == (4, 3)
