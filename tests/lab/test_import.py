"""What the page of the lab saves becomes a run that every command reads, and nothing else does."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Answer

from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.lab.exchange import Origin, settings_of
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import read_network

Lenet = Callable[..., Answer]
Saved = dict[str, Any]


@pytest.fixture
def saved(run: Run, access: DataAccess) -> Saved:
    """The files that a page would save of a training that was one of Python's: texts, bytes, and values for JSON."""
    origin = Origin.of_data(run.config.data, load_train_val(run.config.data, access))
    weights = read_network(run.model_path).network.parameters_in_order
    return {
        "config.json": settings_of(run.config),
        "history.csv": run.history_path.read_bytes(),
        "steps.csv": run.steps_path.read_bytes(),
        "weights.bin": torch.cat([each.detach().flatten() for each in weights]).numpy().astype("<f4").tobytes(),
        "about.json": {
            "engine": "browser",
            "agent": "Mozilla/5.0",
            "origin": json.loads(origin.model_dump_json()),
            "epoch": run.manifest.best_epoch,
            "ended": "all epochs done",
            "testLooks": 2,
        },
    }


def content_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def zipped(saved: Saved, path: Path = Path("lenet-lab-run.zip"), method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in saved.items():
            archive.writestr(name, content_of(value))
    return path


def imported(lenet: Lenet, path: Path) -> Run:
    answer = lenet("import", path, "--json")
    assert answer.code == 0, answer.err
    return Run(Path(json.loads(answer.out)["runs"][0]["run"]))


def test_a_run_of_the_page_is_read_by_every_command_but_never_trained_on(lenet: Lenet, run: Run, saved: Saved) -> None:
    there = imported(lenet, zipped(saved))

    assert there.manifest.browser == "Mozilla/5.0"
    assert there.manifest.weights_sha256 == run.manifest.weights_sha256
    assert (there.history, there.steps) == (run.history, run.steps)
    assert there.config == run.config.replace({"name": "lab-relu", "training.patience": None, "training.threads": None})
    for words in (
        ["compare", there.path, run.path],
        ["diagnose", there.path],
        ["report", there.path],
        ["verify", "lab-relu"],
        ["export", there.path, "--format", "html"],
    ):
        answer = lenet(*words)
        assert answer.code == 0, answer.err
    mine, its = (json.loads(lenet("evaluate", each.path, "--json").out) for each in (there, run))
    assert mine["num_test_looks"] == 3
    assert {k: v for k, v in mine.items() if k not in ("run", "num_test_looks")}["accuracy"] == its["accuracy"]
    for words in (["train", "--resume", there.path], ["verify", there.path, "--retrain"]):
        answer = lenet(*words)
        assert answer.code == 2
        assert "browser" in answer.err


def test_without_the_updates_and_unpacked_it_is_read_too(lenet: Lenet, run: Run, saved: Saved, tmp_path: Path) -> None:
    """Safari unpacks what it has downloaded."""
    directory = tmp_path / "unpacked"
    directory.mkdir()
    del saved["steps.csv"]
    for name, value in saved.items():
        (directory / name).write_bytes(content_of(value))
    there = imported(lenet, directory)
    assert [lenet(word, there.path).code for word in ("diagnose", "report", "verify")] == [0, 0, 0]
    assert lenet("compare", there.path, run.path, "--speed-ratio", "loss=0.5").code == 0


def _without(name: str) -> Callable[[Saved], Saved]:
    return lambda saved: {key: value for key, value in saved.items() if key != name}


def _with(name: str, value: Any) -> Callable[[Saved], Saved]:
    return lambda saved: {**saved, name: value}


def _changed(name: str, **changes: Any) -> Callable[[Saved], Saved]:
    return lambda saved: {**saved, name: {**saved[name], **changes}}


def _origin(**changes: Any) -> Callable[[Saved], Saved]:
    return lambda saved: _changed("about.json", origin={**saved["about.json"]["origin"], **changes})(saved)


DAMAGES: dict[str, Callable[[Saved], Saved]] = {
    "no weights": _without("weights.bin"),
    "a path": _with("../../precious", b"new"),
    "another file": _with("notes.txt", b"hello"),
    "weights too short": lambda saved: {**saved, "weights.bin": saved["weights.bin"][:-4]},
    "weights not finite": lambda saved: {**saved, "weights.bin": b"\0\0\xc0\x7f" + saved["weights.bin"][4:]},
    "too large": lambda saved: {**saved, "config.json": content_of(saved["config.json"]) + b" " * 9_000_000},
    "not JSON": _with("about.json", b"{"),
    "deep JSON": _with("config.json", b"[" * 9_000),
    "a list": _with("config.json", []),
    "a setting too many": _changed("config.json", device="cuda"),
    "a part of the images": _changed("config.json", fold=2),
    "a wrong setting": _changed("config.json", rate=-1),
    "an activation that is none": _changed("config.json", activation=["relu"]),
    "an epoch that was not": _changed("about.json", epoch=9),
    "a class with control characters": _origin(class_names=["\x1b[2J", *"123456789"]),
    "other classes than weights": _origin(class_names=["0", "1"]),
    "no deviation": _origin(std=0),
    "no training images": lambda saved: _origin(manifest={**saved["about.json"]["origin"]["manifest"], "num_train": 0})(
        saved
    ),
    "history of another kind": _with("history.csv", b"a,b\n1,2\n"),
    "an epoch is missing": lambda saved: {**saved, "history.csv": saved["history.csv"].replace(b"\n2,", b"\n3,")},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_page_cannot_have_saved_is_one_line_and_leaves_nothing(
    lenet: Lenet, saved: Saved, damage: str, outside: Path, tmp_path: Path
) -> None:
    path = zipped(DAMAGES[damage](saved), outside.parent / "hostile.zip")
    answer = lenet("import", path, "--runs-dir", tmp_path / "new")
    assert answer.code == 3, answer
    assert answer.err.count("\n") == 1
    assert str(path) in answer.err
    assert "new/" not in answer.err
    assert [*(tmp_path / "new").glob("*")] == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_damaged_byte_of_a_zip_is_found(lenet: Lenet, saved: Saved, method: int) -> None:
    content = zipped(saved, method=method).read_bytes()
    start = zipfile.ZipFile(io.BytesIO(content)).getinfo("weights.bin").header_offset + 30 + len("weights.bin")
    is_encrypted = content.index(b"PK\x01\x02") + 8
    damaged = [content[:place] + b"\xff" + content[place + 1 :] for place in (start, start + 500, is_encrypted)]
    for each in (*damaged, content[:-100], content[:5], b""):
        Path("damaged.zip").write_bytes(each)
        answer = lenet("import", "damaged.zip")
        assert (answer.code, answer.err.count("\n")) == (3, 1)
    assert lenet("import", "absent.zip").code == 3
