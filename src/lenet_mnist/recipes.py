"""The recipes: the configurations of configs/, which a wheel brings along and which are named without a path."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lenet_mnist.errors import ConfigError, StorageError
from lenet_mnist.files.storage import write_bytes

_PLACES = (Path(__file__).with_name("configs"), Path(__file__).parents[2] / "configs")  # in a wheel, in a checkout


@dataclass(frozen=True)
class Recipes:
    """All recipes: of each its name, the first sentence of its comment, and what it claims there."""

    recipes: list[dict[str, str]]

    def __str__(self) -> str:
        width = max(len(recipe["name"]) for recipe in self.recipes)
        lines = []
        for recipe in self.recipes:
            lines.append(f"{recipe['name']:{width}}  {recipe['about']}")
            lines.append(f"{'':{width}}  Expected: {recipe['expected']}")
        return "\n".join(lines)


def list_recipes() -> Recipes:
    """Return what the comments of the recipes say."""
    recipes = []
    for name, path in recipe_paths().items():
        lines = [line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        about, _, rest = " ".join(lines).partition(" expected: ")
        first_sentence, expected = re.split(r"(?<=\.) ", about)[0], rest.partition(" command: ")[0]
        recipes.append({"name": name, "about": first_sentence, "expected": expected})
    return Recipes(recipes)


def recipe_paths() -> dict[str, Path]:
    """Return the files of the recipes by their names."""
    place = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
    return {path.stem: path for path in sorted(place.glob("*.yaml"), key=lambda path: path.stem)}


def find_config(text: str) -> Path:
    """Return the configuration file that a user means by a path, or by the name of a recipe.

    A name without a directory and without .yaml, of which there is no file, is a recipe. Raises: ConfigError.
    """
    path = Path(text)
    is_file = path.name != text or path.suffix == ".yaml" or (os.path.lexists(text) and not path.is_dir())
    return path if is_file else _find_recipe(text)


def copy_recipe(name: str) -> Path:
    """Write a recipe into the current directory, to be edited, and return its path.

    Raises: ConfigError if there is no such recipe; StorageError if there is something of that name already.
    """
    content, copy = _find_recipe(name).read_bytes(), Path(f"{name}.yaml")
    if os.path.lexists(copy):
        raise StorageError(f"{copy}: is there already, and stays as it is: move it away, or use it")
    write_bytes(copy, content)
    return copy


def _find_recipe(name: str) -> Path:
    paths = recipe_paths()
    if name not in paths:
        near = difflib.get_close_matches(name, paths, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"{name[:80]!r}: no recipe and no file has this name. {hint}`lenet recipes` lists the recipes"
        )
    return paths[name]
