"""`lenet export`: what is written where, and what is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from tests.files.test_storage import without_privileges

from lenet_mnist.inference import onnx_file
from lenet_mnist.inference.onnx_file import onnx_content
from lenet_mnist.inference.onnx_runtime import VERSION
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import TrainedNetwork, read_network

Lenet = Callable[..., Any]
FORMATS = ("html", "onnx", "safetensors", "tensorboard")
WITH_A_NETWORK = FORMATS[:3]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_page_is_written_into_the_run(lenet: Lenet, run: RunDirectory) -> None:
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
    assert [each.name for each in run.export_path.iterdir()] == ["lenet.html"]


def test_two_runs_in_one_page(lenet: Lenet, run: RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "20200101-000000-other-abcd"
    shutil.copytree(run.path, other)
    said = lenet("export", run.id, "--compare", other.name, "--format", "html", "--output", "both.html")
    assert (said.code, said.out) == (0, "both.html\n")
    text = Path("both.html").read_text(encoding="utf-8")
    assert run.id in text
    assert other.name in text
    assert lenet("export", run.id, "--compare", other.name, "--format", "html").out.endswith("/export/compared.html\n")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--format", "pickle"), 2, "--format pickle: expected one of html, onnx, safetensors, tensorboard"),
        (("--format", "ONNX"), 2, "--format ONNX: expected one of"),
        (("--format", "html", "--output", "model.safetensors"), 2, "expected a name that ends in .html"),
        (("--format", "html", "--compare", "nothing"), 2, "no such run"),
        (("--format", "html", "--output", "missing/page.html"), 6, "cannot write"),
        (("--format", "onnx", "--output", "lenet.html"), 2, "expected a name that ends in .onnx"),
        (("--format", "onnx", "--output", "missing/lenet.onnx"), 6, "cannot write"),
        (("--format", "onnx", "--compare", "latest"), 2, "--compare: goes with --format html only"),
        (
            ("--format", "onnx", "--data-dir", "nowhere", "--offline"),
            3,
            "the network is not checked, and so not exported",
        ),
        (("--format", "safetensors", "--output", "lenet.onnx"), 2, "expected a name that ends in .safetensors"),
        (("--format", "tensorboard", "--compare", "latest"), 2, "--compare: goes with --format html only"),
        ((), 2, "--format"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_cannot_be_is_one_line(lenet: Lenet, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    said = lenet("export", "latest", *arguments)
    assert said.code == code
    assert complaint in said.err
    assert said.out == ""


@pytest.mark.parametrize("format_name", FORMATS)
def test_nothing_is_written_through_a_link(lenet: Lenet, run: RunDirectory, outside: Path, format_name: str) -> None:
    run.export_path.symlink_to(outside)
    said = lenet("export", "latest", "--format", format_name)
    assert said.code == 6
    assert "is a symbolic link" in said.err


@pytest.mark.parametrize("format_name", WITH_A_NETWORK)
def test_damaged_weights_are_refused(lenet: Lenet, run: RunDirectory, format_name: str) -> None:
    content = bytearray(run.model_path.read_bytes())
    content[-5] ^= 1
    run.model_path.write_bytes(content)
    said = lenet("export", "latest", "--format", format_name)
    assert said.code == 3
    assert "damaged" in said.err
    assert not run.export_path.exists()


@pytest.mark.parametrize("format_name", WITH_A_NETWORK)
def test_a_training_without_weights_yet_is_refused(lenet: Lenet, run: RunDirectory, format_name: str) -> None:
    run.model_path.unlink()
    said = lenet("export", "latest", "--format", format_name)
    assert said.code == 3
    assert "model.safetensors: no such file" in said.err


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_sweep_is_refused(lenet: Lenet, run: RunDirectory, format_name: str) -> None:
    run.write_manifest(run.read_manifest().model_copy(update={"kind": "sweep"}))
    said = lenet("export", run.path, "--format", format_name)
    assert said.code == 2
    assert "is a sweep, not a training" in said.err


@pytest.mark.parametrize("format_name", ["html", "safetensors", "tensorboard"])  # onnx reads data, which may be root's
def test_a_directory_that_may_not_be_written_is_named(lenet: Lenet, run: RunDirectory, format_name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # where others than root may look, too
        Path(directory).chmod(0o755)
        copy = Path(shutil.copytree(run.path, Path(directory, run.id)))
        copy.chmod(0o555)
        with without_privileges():
            said = lenet("export", copy, "--format", format_name)
        assert said.code == 6
        assert "Permission denied. Check the permissions, or choose another directory" in said.err
        assert names_in(copy) == names_in(run.path)
        copy.chmod(0o755)


@pytest.mark.parametrize(
    ("format_name", "package", "extra"),
    [("onnx", "onnx", "onnx"), ("onnx", "onnxruntime", "onnx"), ("tensorboard", "tensorboard", "tensorboard")],
)
def test_a_missing_extra_is_named_with_the_command_that_helps(
    lenet: Lenet, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, format_name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # so Python says that there is none
    said = lenet("export", "latest", "--format", format_name)
    assert said.code == 6
    assert said.err == (
        f"error: --format {format_name}: needs {package}, which lenet installs only if asked to: "
        f"pip install 'lenet-mnist[{extra}]'\n"
    )
    assert not run.export_path.exists()


def test_without_extras_the_other_formats_are_written(run: RunDirectory) -> None:
    program = (
        "import sys; sys.modules.update(onnx=None, onnxruntime=None, tensorboard=None)\n"
        "from lenet_mnist.cli.main import main; main()"
    )
    for format_name in ("html", "safetensors"):
        command = [sys.executable, "-c", program, "export", str(run.path), "--format", format_name]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert names_in(run.export_path) == ["lenet.html", "lenet.safetensors"]


def test_onnx_is_checked_on_10_000_images_and_says_so(lenet: Lenet, run: RunDirectory) -> None:
    said = lenet("export", "latest", "--format", "onnx")
    path = run.export_path / "lenet.onnx"
    first, second = said.out.splitlines()
    assert (said.code, first) == (0, f"runs/{run.id}/export/lenet.onnx")
    assert second.startswith(
        f"checked with ONNX Runtime {VERSION}: the same answer to 10,000 of 10,000 training images, "
        "largest logit difference "
    )
    figures = json.loads((run.export_path / "lenet.onnx.json").read_text())
    assert (figures["num_images"], figures["num_same"], figures["num_ties"]) == (10_000, 10_000, 0)
    assert 0 < figures["largest_logit_difference"] <= figures["tolerance"] == 1e-4
    assert figures["largest_probability_difference"] <= 1e-5
    assert figures["batch_sizes"] == [1, 7, 1000]
    assert figures["file"] == "lenet.onnx"
    assert figures["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert figures["weights_sha256"] == run.read_manifest().weights_sha256
    assert figures["versions"]["onnxruntime"] == VERSION
    assert names_in(run.export_path) == ["lenet.onnx", "lenet.onnx.json"]
    onnx.checker.check_model(path, full_check=True)
    content = path.read_bytes()
    again = json.loads(lenet("export", "latest", "--format", "onnx", "--json").out)
    assert again == {"format": "onnx", "path": f"runs/{run.id}/export/lenet.onnx", "check": figures}
    assert path.read_bytes() == content


def test_onnx_is_written_where_the_user_wants_it(lenet: Lenet, run: RunDirectory) -> None:
    said = lenet("export", "latest", "--format", "onnx", "--output", "my.onnx")
    assert said.out.startswith("my.onnx\n")
    assert json.loads(Path("my.onnx.json").read_text())["file"] == "my.onnx"
    assert not run.export_path.exists()
    Path("directory.onnx").mkdir()
    said = lenet("export", "latest", "--format", "onnx", "--output", "directory.onnx")
    assert said.code == 6
    assert "directory.onnx: cannot write: Is a directory" in said.err
    assert names_in(Path()) == ["directory.onnx", "my.onnx", "my.onnx.json", "runs"]


def changed(trained: TrainedNetwork, is_of_mnist: bool) -> bytes:
    """The file of a network with one weight a little different."""
    with torch.no_grad():
        trained.network.c1.weight[0, 0, 0, 0] += 0.01
        content = onnx_content(trained, is_of_mnist)
        trained.network.c1.weight[0, 0, 0, 0] -= 0.01
    return content


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (changed, "not written: ONNX Runtime does not give torch's answers: the same answer to "),
        (lambda *_: b"no network", "not written: ONNX Runtime "),
    ],
    ids=["another network", "no network"],
)
def test_what_another_runtime_reads_otherwise_is_refused(
    lenet: Lenet, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, content: Callable[..., bytes], complaint: str
) -> None:
    run.export_path.mkdir()
    for name in ("lenet.onnx", "lenet.onnx.json"):
        (run.export_path / name).write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "onnx_content", content)
        said = lenet("export", "latest", "--format", "onnx")
    assert said.code == 5
    assert f"export/lenet.onnx: {complaint}" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert {path.name: path.read_text() for path in run.export_path.iterdir()} == {
        "lenet.onnx": "old",
        "lenet.onnx.json": "old",
    }


def test_the_file_is_checked_as_it_lies_on_the_disk(
    lenet: Lenet, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def flip_a_bit(handle: int, content: memoryview) -> int:
        damaged = bytearray(content)
        if len(damaged) > 200_000:
            damaged[100_000] ^= 64
        return write(handle, damaged)

    monkeypatch.setattr(os, "write", flip_a_bit)
    said = lenet("export", "latest", "--format", "onnx")
    assert said.code == 5
    assert "not written: ONNX Runtime does not give torch's answers" in said.err
    assert names_in(run.export_path) == []


def test_safetensors_is_the_runs_own_file_again(lenet: Lenet, run: RunDirectory) -> None:
    said = lenet("export", "latest", "--format", "safetensors")
    path = run.export_path / "lenet.safetensors"
    assert (said.code, said.out) == (0, f"runs/{run.id}/export/lenet.safetensors\n")
    assert path.read_bytes() == run.model_path.read_bytes()
    assert read_network(path).class_names == tuple("0123456789")
    said = lenet("export", "latest", "--format", "safetensors", "--output", "my.safetensors", "--json")
    assert json.loads(said.out) == {"format": "safetensors", "path": "my.safetensors", "check": None}
    assert Path("my.safetensors").read_bytes() == path.read_bytes()


def test_no_export_needs_the_test_images(lenet: Lenet, run: RunDirectory, mnist_dir: Path, tmp_path: Path) -> None:
    from lenet_mnist.data.mnist import TRAIN_FILES, find

    data = tmp_path / "data"
    data.mkdir()
    for file in TRAIN_FILES:
        found = find(file, mnist_dir)
        assert found is not None
        (data / found.name).symlink_to(found)
    for format_name in FORMATS:
        assert lenet("export", "latest", "--format", format_name, "--data-dir", data, "--offline").code == 0
    assert names_in(run.export_path) == [
        "lenet.html",
        "lenet.onnx",
        "lenet.onnx.json",
        "lenet.safetensors",
        "tensorboard",
    ]
