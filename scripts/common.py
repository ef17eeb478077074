"""What the scripts share."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from lenet_mnist.cli.options import DEFAULT_DATA_DIR
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.reporting.progress import FetchProgress

ROOT = Path(__file__).parent.parent


def data_access() -> DataAccess:
    """Return where the commands look for MNIST too."""
    directory = Path(os.environ.get("LENET_DATA_DIR", DEFAULT_DATA_DIR))
    return DataAccess(directory, offline=False, listener=FetchProgress(Console(stderr=True)))


class Journal:
    """Finished measurements, one JSON document a line: a script that is started again goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._entries[json.dumps(entry["key"], sort_keys=True)] = entry["value"]

    def get(self, key: Any) -> Any | None:
        """Return the measurement of `key`, or None if it was not made yet."""
        return self._entries.get(json.dumps(key, sort_keys=True))

    def add(self, key: Any, value: Any) -> None:
        """Keep a measurement."""
        self._entries[json.dumps(key, sort_keys=True)] = value
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "value": value}) + "\n")
