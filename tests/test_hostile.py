"""Opening a stranger's run is safe: no code of it runs, nothing is written outside, no bomb goes off."""

import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tables import read_csv

from lenet_mnist.files.tables import write_csv
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run, sha256_of

Lenet = Callable[..., Any]
Damage = Callable[[Run, Path], object]


class Trap:
    """An object whose pickle runs a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target / "code-was-run"),)


def torch_archive(target: Path) -> bytes:
    """What torch.save would write, with a trap inside."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap(target)))
        archive.writestr("archive/version", "3")
    return content.getvalue()


def newest(run: Run) -> Path:
    return list_checkpoints(run.checkpoints_path)[0].path


def safetensors(header: bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + rest


def sparse(path: Path, num_bytes: int) -> None:
    """Make a file that is huge and takes no space."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(num_bytes)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.hardlink_to(target)


def looks(run: Run) -> Path:
    """Where looks at the test set are noted."""
    path = run.evaluation_path("test") / "looks.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def signed(run: Run, **changes: Any) -> None:
    """Change the manifest, and sign it again, as an attacker can."""
    run.write_manifest(run.manifest.model_copy(update=changes))


def aliases(depth: int) -> str:
    """A short YAML text whose value would be of 9^depth parts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, depth)]
    return "\n".join(lines)


DAMAGES: dict[str, Damage] = {
    "a pickle for weights": lambda run, out: run.model_path.write_bytes(pickle.dumps(Trap(out))),
    "a torch archive for weights": lambda run, out: run.model_path.write_bytes(torch_archive(out)),
    "a pickle for a checkpoint": lambda run, out: newest(run).write_bytes(pickle.dumps(Trap(out))),
    "a torch archive for a checkpoint": lambda run, out: newest(run).write_bytes(torch_archive(out)),
    "a header of 2^63 bytes": lambda run, _: run.model_path.write_bytes(safetensors(b"{}", 2**63)),
    "a header as long as the file": lambda run, _: run.model_path.write_bytes(safetensors(b" " * 2_000_000)),
    "a deep header": lambda run, _: run.model_path.write_bytes(safetensors(b"[" * 500_000)),
    "a header that is no object": lambda run, _: run.model_path.write_bytes(safetensors(b"[1]")),
    "a huge tensor": lambda run, _: run.model_path.write_bytes(
        safetensors(b'{"c1.weight":{"dtype":"F32","shape":[99999999999,9],"data_offsets":[0,8]}}', rest=bytes(8))
    ),
    "tensors that overlap": lambda run, _: run.model_path.write_bytes(
        safetensors(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
            rest=bytes(8),
        )
    ),
    "huge weights": lambda run, _: sparse(run.model_path, 10**12),
    "a huge checkpoint": lambda run, _: sparse(newest(run), 10**12),
    "a huge manifest": lambda run, _: sparse(run.manifest_path, 10**12),
    "a huge configuration": lambda run, _: sparse(run.config_path, 10**12),
    "a huge history": lambda run, _: sparse(run.history_path, 10**12),
    "a pipe for weights": lambda run, _: pipe(run.model_path),
    "a pipe for the manifest": lambda run, _: pipe(run.manifest_path),
    "a pipe for a history": lambda run, _: pipe(run.steps_path),
    "a deep manifest": lambda run, _: run.manifest_path.write_text("[" * 500_000),
    "a manifest of other types": lambda run, _: run.manifest_path.write_text('{"schema_version": "1", "kind": []}'),
    "a YAML bomb": lambda run, _: run.config_path.write_text(aliases(12)),
    "YAML that makes objects": lambda run, out: run.config_path.write_text(
        f"seed: !!python/object/apply:os.mkdir ['{out}/code-was-run']\n"
    ),
    "deep YAML": lambda run, _: run.config_path.write_text("[" * 100_000),
    "escapes in the message": lambda run, _: signed(run, status="failed", message="\x1b]0;owned\x07\x1b[2J\r"),
    "escapes in the command": lambda run, _: signed(run, command="\x1b[31m", machine="<script>alert(1)</script>"),
    "tuning that is none": lambda run, _: signed(run, tuning={"lr": "\x1b[2J"}),
    "other threads": lambda run, _: signed(run, threads=10**9),
    "another engine": lambda run, _: signed(run, engine="../../evil.so"),
    "another device": lambda run, _: signed(run, device="cuda:../0"),
    "a history of other columns": lambda run, _: run.history_path.write_text("x" * 300_000 + "\n1\n"),
    "a history that is not finite": lambda run, _: run.history_path.write_text(
        run.history_path.read_text().replace("0.", "nan", 1)
    ),
    "a link for weights": lambda run, out: link(run.model_path, out / "precious"),
    "a link for checkpoints": lambda run, out: link(run.checkpoints_path, out),
    "a link for plots": lambda run, out: link(run.plots_path, out),
    "a link for the evaluations": lambda run, out: link(run.path / "evaluation", out),
    "a link for a history": lambda run, out: link(run.history_path, out / "precious"),
    "a link for the lock": lambda run, out: link(run.path / ".lock", out / "precious"),
    "a link for the manifest": lambda run, out: link(run.manifest_path, out / "precious"),
    "a hard link for the lock": lambda run, out: hard_link(run.path / ".lock", out / "precious"),
    "a hard link for the looks": lambda run, out: hard_link(looks(run), out / "precious"),
    "a hard link for the journal": lambda run, out: hard_link(run.journal_path, out / "precious"),
    "a hard link for a history": lambda run, out: hard_link(run.history_path, out / "precious"),
    "a pipe for the lock": lambda run, _: pipe(run.path / ".lock"),
    "a pipe for the looks": lambda run, _: pipe(looks(run)),
    "a pipe for the configuration": lambda run, _: pipe(run.config_path),
    "huge looks": lambda run, _: sparse(looks(run), 10**12),
    "too many short rows": lambda run, _: run.history_path.write_text("epoch\n" + "1\n" * 100_001),
    "a row of a million cells": lambda run, _: run.probe_path.write_text("," * 1_000_000 + "\n"),
    "a manifest of many values": lambda run, _: run.manifest_path.write_text(
        '{"tuning": {"a": [' + "[]," * 400_000 + "[]]}}"
    ),
    "a link to a device": lambda run, _: link(run.model_path, Path("/dev/zero")),
    "a link to itself": lambda run, _: link(run.history_path, run.history_path),
}
COMMANDS = (
    ("train", "--resume", "latest", "--log", "tensorboard"),
    ("verify", "latest"),
    ("diagnose", "latest"),
    ("lr-sweep", "--resume", "latest"),
    ("export", "latest", "--format", "safetensors"),
    ("runs", "--test"),
)


@pytest.fixture
def other(run: Run, tmp_path: Path) -> Run:
    """An older run of another seed, to compare with."""
    copy = Run(Path(shutil.copytree(run.path, tmp_path / "runs" / "20260101-000000-other-0000")))
    copy.config_path.write_text(copy.config_path.read_text().replace("seed: 0", "seed: 1", 1))
    signed(copy, config_sha256=sha256_of(copy.config_path))
    return copy


def compare(lenet: Lenet, other: Run) -> Any:
    return lenet("compare", other.path, "latest", "--output", "compared")


def test_two_runs_without_damage_are_compared(lenet: Lenet, run: Run, other: Run) -> None:
    assert run.path.exists()
    assert compare(lenet, other).code == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_hostile_run_does_nothing(
    lenet: Lenet, run: Run, other: Run, outside: Path, tmp_path: Path, damage: str
) -> None:
    def around() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if not {run.path, other.path} & set(path.parents)}

    DAMAGES[damage](run, outside)
    before = around()
    answers = [lenet("evaluate", "latest")]
    if answers[0].code != 0:  # else it has written the report
        answers.append(lenet("report", "latest"))
    answers += [lenet(*command) for command in COMMANDS]
    answers.append(compare(lenet, other))
    if answers[-1].code == 0:
        shutil.rmtree(tmp_path / "compared")
    for answer in answers:
        assert answer.code in (0, 2, 3, 4, 5, 6), answer
        assert "Traceback" not in answer.err
        assert not any(letter in answer.out + answer.err for letter in "\x1b\x07\r"), answer
    assert around() == before


def test_a_file_that_an_evaluation_cannot_read_is_noticed_before_a_look_is_counted(
    lenet: Lenet, run: Run, tmp_path: Path
) -> None:
    damages: dict[str, Callable[[bytes], bytes]] = {
        "a line is missing": lambda content: b"\n".join(content.split(b"\n")[:3] + content.split(b"\n")[4:]),
        "cut off": lambda content: content[: len(content) // 2 + 3],
        "no text": lambda content: content[:40] + b"\xff\n\xfe,\n" + content[40:],
        "empty": lambda _content: b"",
    }
    files = [run.history_path, run.steps_path, run.probe_path, run.config_path, run.manifest_path, run.model_path]
    for path in files:
        for damage in (*damages, "a pipe"):
            copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
            place = copy / path.relative_to(run.path)
            if damage == "a pipe":
                pipe(place)
            else:
                place.write_bytes(damages[damage](path.read_bytes()))
            answer = lenet("evaluate", copy)
            assert "Traceback" not in answer.err
            num_looks = Run(copy).num_test_looks()
            assert num_looks == (answer.code == 0), (path.name, damage, answer)
            shutil.rmtree(copy)


NAMES = [
    *("", " ", ".", "..", "...", "/", "//", "~", "~root", "-", "--"),
    *("*", "?", "$HOME", "%s", "{}", "\\", "'", '"', "`"),
    *("../x", "../../etc/passwd", "/etc/passwd", "/dev/null", "/dev/zero", "/proc/self/mem", "runs/../..", "a/../../b"),
    *("x" * 41, "x" * 256, "x" * 5000, "x\0y", "x\ny", "x\ry", "x\ty", "\x1b[2J", "\x07", "\u202egnp.exe", "\ufeff"),
    *("$(touch owned)", "; touch owned", "| touch owned", "`touch owned`", "&& touch owned"),
    *("<script>", "é", "中", "💣"),
    *("CON", "nul", "a:b", "file:///etc/passwd", "http://example.org", "=1+1", "+1", "@x", "-x", "--help", "latest/"),
    *(".git", "20261123-201500-relu-0000", "_x", "-rf"),
]
VALID_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


OPTIONS = (
    *("evaluate", "diagnose", "report", "verify", "export --format onnx", "compare", "compare latest --speed-ratio"),
    *("train --resume", "train --name", "train -c"),
)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_hostile_name_does_nothing(lenet: Lenet, tmp_path: Path, option: str) -> None:
    for name in NAMES:
        words = option.split()
        if words[-1] == "--name" and VALID_LABEL.fullmatch(name):
            continue  # that one would be trained
        words += [name] if words[-1].startswith("-") else ["--", name]
        answer = lenet(*words)
        assert answer.code == 2, (words, answer)
        assert "Traceback" not in answer.err
        assert not any(letter in answer.err for letter in "\x1b\x07\r\0"), (words, answer)
    assert {path.name for path in tmp_path.iterdir()} <= {"outside"}


def test_a_name_of_a_class_is_text_in_every_table(tmp_path: Path) -> None:
    formulas = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r\n@A1", "\u3000＝1", "\xa0＋1")
    names = [*formulas, '"=1', "'=1", "a,b", 'a"b', "a\nb", "0", "a=1"]
    write_csv(tmp_path / "table.csv", ["name", "number"], [(name, -1.5) for name in names])
    rows = read_csv(tmp_path / "table.csv")
    assert [row["name"] for row in rows] == [*(f"'{name}" for name in names[:11]), *names[11:]]
    assert {row["number"] for row in rows} == {"-1.5"}


def test_a_manifest_is_json_whatever_its_texts_are(run: Run) -> None:
    signed(run, message='"}\n{"x": "\u2028', command="</script>")
    assert json.loads(run.manifest_path.read_text())["message"] == '"}\n{"x": "\u2028'
