"""Imports run one way, what may see the test images is known by name, and nothing reads a pickle."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import lenet_mnist

SOURCE = Path(lenet_mnist.__file__).parent

# From the roof to the ground. A room imports only rooms that stand below it, or itself.
ROOMS = [
    *("__main__", "api", "trained", "options", "cli", "bench", "doctor"),
    *("reporting", "inference", "lab", "study", "runs", "analysis", "tuning", "training"),
    *("tally", "data", "devices", "model", "randomness", "distributed", "config_file", "recipes", "config", "sections"),
    *("files", "progress", "signals", "provenance", "errors", "__init__", "cores"),
]
# What opens the test images, and who may name it: `lenet evaluate`, `compare` and `verify`, and `lenet data check`. The
# page of the lab carries them, so that its reader can count them at the end; `lenet lab` sees no answer to them.
WAYS_TO_THE_TEST_IMAGES = {
    "load_test": {"data/load", "study/evaluation", "lab/page"},
    "survey": {"data/load", "cli/app", "reporting/training_results"},
    "answers_of": {"study/evaluation", "study/comparison"},
    "evaluate_runs": {"study/evaluation", "cli/analysis", "trained"},
    "evaluate_module": {"study/evaluation", "api"},
    "evaluate_ensemble": {"study/evaluation", "cli/analysis"},
    "count_again": {"study/evaluation", "study/verification"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Return every dotted name that a module imports, those inside functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_a_room() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)


def test_imports_only_go_down() -> None:
    for path in set(MODULES) - {SOURCE / "__init__.py"}:  # the front door, which imports api.py when asked
        own = ROOMS.index(room_of(path))
        for name in imported_names(path):
            if name.startswith("lenet_mnist."):
                room = name.split(".")[1]
                above = ROOMS.index(room if room in ROOMS else "__init__") < own
                assert not above, f"{path.relative_to(SOURCE)} imports {name}, above it"


def test_what_trains_cannot_load_the_test_images() -> None:
    for path in MODULES:
        place = str(path.relative_to(SOURCE).with_suffix(""))
        named = {getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(ast.parse(path.read_text()))}
        named |= {name.rpartition(".")[2] for name in imported_names(path)}
        for reader, its_users in WAYS_TO_THE_TEST_IMAGES.items():
            assert reader not in named or place in its_users, (place, reader)


def test_only_the_data_room_knows_how_a_part_is_read() -> None:
    for path in MODULES:
        assert room_of(path) == "data" or "lenet_mnist.data.sets.Part" not in imported_names(path), path


def test_pickle_is_named_in_no_module() -> None:
    """Worker processes and torch.distributed pickle what they send each other; no file is read that way."""
    for path in MODULES:
        imports = {name.split(".")[0] for name in imported_names(path)}
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert not calls & {"torch.load", "torch.save", "np.load", "np.save", "eval", "exec"}, path
        assert not imports & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path


def test_the_command_line_starts_without_torch_and_matplotlib() -> None:
    program = (
        "import sys, lenet_mnist.cli.app; print([m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_the_tree_of_the_documentation_names_every_file() -> None:
    tree = (SOURCE.parents[1] / "docs" / "architecture.md").read_text().split("```")[1]
    named = set(re.findall(r"[\w.]+\.(?:py|c|h)\b", "\n".join(line for line in tree.splitlines())))
    there = {path.name for path in SOURCE.rglob("*.*") if path.suffix in (".py", ".c", ".h")} - {
        "__init__.py",
        "__main__.py",
    }
    assert there - named == set()
    assert named - there == set()
