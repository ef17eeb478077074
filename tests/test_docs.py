"""What README, docs/, configs/ and scripts/ name is there."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from lenet_mnist import __version__
from lenet_mnist.cli.app import app

ROOT = Path(__file__).parent.parent
NOTEBOOKS = [ROOT / "docs" / "notebooks" / name for name in ("lecture.ipynb", "lezione.ipynb")]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *NOTEBOOKS]
TEXTS = [*PAGES, *sorted(ROOT.glob("configs/*.yaml"))]
SCRIPTS = sorted(ROOT.glob("scripts/**/*.py"))


def options_of(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield what can be typed: ("lenet train", "--config"), and with the commands of a group."""
    for parameter in command.params:
        yield from ((name, option) for option in [*parameter.opts, *parameter.secondary_opts])
    yield from ((name, option) for option in ("-h", "--help"))
    for each, its_command in getattr(command, "commands", {}).items():
        yield from options_of(its_command, f"{name} {each}")


OPTIONS = set(options_of(typer.main.get_command(app), "lenet"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_a_page_links_to_is_there(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_every_page_has_its_place_in_the_site() -> None:
    places = (ROOT / "mkdocs.yml").read_text()
    for path in PAGES:
        assert re.search(rf"[ /]{path.stem.lower()}\.md$", places, re.MULTILINE), f"mkdocs.yml, nav: {name_of(path)}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_file_that_a_text_names_is_there(path: Path) -> None:
    text = path.read_text()
    for name in re.finditer(r"(?<![\w/.-])(?:scripts|tests|configs|docs)/[\w./-]+\.\w+", text):
        is_of_a_commit = re.match(r"[\w\s`-]* at\s[0-9a-f]{7}\b", text[name.end() :])  # "scripts/x.py at 2a5520b"
        assert is_of_a_commit or (ROOT / name[0]).exists(), name[0]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_option_that_a_text_gives_a_command_is_one_of_its_own(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    for command, words in re.findall(r"\blenet ((?:data |config )?[a-z-]+)((?: [^\s`#|&;)]+)+)", text):
        for option in re.findall(r" (--[a-z-]+)", words):
            assert (f"lenet {command}", option) in OPTIONS, f"lenet {command} {option}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_imports_what_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("lenet_mnist"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_the_changelog_and_the_citation_are_of_this_version() -> None:
    version, date = re.findall(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[
        0
    ]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["date-released"]) == (version, date) == (__version__, date)


def test_nothing_says_that_lenet_is_on_an_index() -> None:
    for path in [*TEXTS, *sorted((ROOT / "src").rglob("*.py"))]:
        assert not re.search(r"pip install [^|\n]*\blenet[-_]mnist\b(?!-)", path.read_text()), path


def test_the_lecture_has_the_same_commands_in_both_languages() -> None:
    english, italian = (
        re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / name).read_text(), re.DOTALL | re.MULTILINE)
        for name in ("lecture.md", "lezione.md")
    )
    assert len(english) >= 13  # a block for each of the lecture's statements
    assert english == italian


def test_the_notebooks_have_the_same_code_in_both_languages_and_no_outputs() -> None:
    code: list[list[str]] = []
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
        code.append([re.sub(r"^#.*", "#", "".join(cell["source"]), flags=re.MULTILINE) for cell in cells])
    assert len(code[0]) > 13  # one or more for each of the lecture's statements
    assert code[0] == code[1]
