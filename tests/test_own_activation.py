"""An activation that is added as docs/activation.md says: every command does what it can, and refuses the rest."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lenet_mnist

ROOT = Path(__file__).parent.parent
QUICK = ("--limit-train", "500", "--set", "data.val_size=500", "--threads", "1")
SHORT = (*QUICK, "--epochs", "1")
GELU = ("--activation", "gelu")
BOTH = ("--activation", "relu,gelu")
# What is typed, and the exit code that is right.
COMMANDS = [
    (("describe", *GELU), 0),
    (("train", *GELU, *SHORT, "--lr", "0.05", "--batch-size", "16", "--name", "learned"), 0),
    (("train", *GELU, *SHORT, "--engine", "native"), 2),
    (("train", *GELU, *QUICK, "--epochs", "2", "--lr", "1e-6", "--name", "guessing"), 0),
    (("train", *GELU, *QUICK, "--epochs", "2", "--batch-size", "8", "--lr", "auto", "--name", "searched"), 0),
    (("train", "--activation", "tanh", *SHORT, "--set", "training.teachers=[learned]", "--name", "pupil"), 0),
    (("evaluate", "learned"), 0),
    (("verify", "learned", "--retrain"), 0),
    (("compare", "learned", "pupil", "--split", "val"), 0),
    (("diagnose", "learned"), 0),
    (("diagnose", "guessing"), 0),
    (("lr-sweep", *BOTH, *SHORT, "--lrs", "1e-6,0.05", "--seeds", "0", "--name", "swept"), 0),
    (("lr-sweep", *BOTH, *SHORT, "--lrs", "0.05,0.1", "--engine", "native"), 2),
    (("diagnose", "swept"), 0),
    (("cross-validate", *GELU, *SHORT, "--folds", "2"), 0),
    (("cross-validate", *GELU, *SHORT, "--folds", "2", "--engine", "native"), 2),
    (("predict", "digit.png", "--run", "learned"), 0),
    (("report", "guessing"), 0),
    (("export", "learned", "--format", "html"), 2),
    (("export", "learned", "--format", "onnx"), 2),
    (("export", "learned", "--format", "safetensors"), 0),
]
TYPED = """
import contextlib, io, json, sys
import pytest
from tests.once import draw_roughly, read_once
from lenet_mnist.cli.main import main
from lenet_mnist.study import lr_sweep
lr_sweep.RANGE_SEEDS = (0,)
patch = pytest.MonkeyPatch()
draw_roughly(patch, dots=0)
read_once(patch)
answers = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["lenet", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as stop:
            answers.append((stop.code or 0, err.getvalue()))
print(json.dumps(answers))
"""


def with_the_documents_edits(directory: Path) -> Path:
    """Copy the package to `directory`, change it by the blocks of docs/activation.md, and return where it lies."""
    shutil.copytree(Path(lenet_mnist.__file__).parent, directory / "src" / "lenet_mnist")
    edits = re.findall(r"```diff\n--- (\S+)\n(.*?)```", (ROOT / "docs" / "activation.md").read_text(), re.DOTALL)
    assert len(edits) == 2
    for name, block in edits:
        lines = block.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" ", " +"))
        text = (directory / name).read_text()
        assert text.count(old) == 1
        (directory / name).write_text(text.replace(old, new))
    return directory / "src"


def test_gelu_added_as_the_document_says_goes_through_every_command(mnist_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    source = with_the_documents_edits(tmp_path)
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:23, 13:16] = 255
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    finished = subprocess.run(
        [sys.executable, "-c", TYPED, json.dumps([words for words, _ in COMMANDS])],
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "LENET_DATA_DIR": str(mnist_dir)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    for (words, code), (found, err) in zip(COMMANDS, json.loads(finished.stdout), strict=True):
        assert found == code, (words, err)
        if code == 2:
            *warnings, refusal = err.splitlines()
            assert refusal.startswith("error: "), words
            assert all(line.startswith("warning: ") for line in warnings), words  # of the rate, which is ReLU's
    runs = {path.parent.name.split("-")[2]: path for path in (tmp_path / "runs").glob("*/manifest.json")}
    about = {name: json.loads(path.read_text()) for name, path in runs.items()}
    assert {name for name in about if about[name]["engine"] == "torch"} >= about.keys() - {"pupil"}
    assert "gelu" not in about["pupil"]["engine_reason"]
    assert about["learned"]["best_val_accuracy"] > 0.5
