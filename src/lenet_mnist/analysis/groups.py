"""Which trainings are one group, because they differ in their seed only, and what each group is called."""

from collections.abc import Hashable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from lenet_mnist.config_file import value_text

_MAIN_KEYS = ["model.activation", "training.learning_rate"]


def groups_of(settings: Sequence[Mapping[str, Hashable]]) -> list[list[int]]:
    """Return the positions of equal settings, in the order in which they first appear."""
    groups: dict[Hashable, list[int]] = {}
    for position, values in enumerate(settings):
        groups.setdefault(tuple(values.items()), []).append(position)
    return list(groups.values())


def names_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each group by what differs between them: "relu, lr 0.04". All have the same dotted keys.

    A single group is named by its activation and learning rate.
    """
    differing = [key for key in settings[0] if len({values[key] for values in settings}) > 1] or _MAIN_KEYS
    return [", ".join(_words(key, values[key]) for key in differing) for values in settings]


def letter_of(number: int) -> str:
    """Return A, B, ... Z, A2, B2, ..."""
    again, place = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[place] + (str(again + 1) if again else "")


def _words(key: str, value: Any) -> str:
    name = key.rpartition(".")[2]
    match name:
        case "activation" | "optimizer" | "schedule" | "device":
            return str(value)
        case "learning_rate":
            return f"lr {value:.12g}"
        case "max_epochs":
            return f"{value} epoch{'' if value == 1 else 's'}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value_text(value)
    return f"{name} {'all' if value is None and name == 'limit_train' else text}"
