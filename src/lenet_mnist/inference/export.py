"""A trained network in a form that needs no Python: for now, a page to draw on."""

from enum import StrEnum
from pathlib import Path

from lenet_mnist.errors import ConfigError
from lenet_mnist.files.storage import make_directory, refuse_links, write_text
from lenet_mnist.inference.page import drawing_page
from lenet_mnist.inference.predict import digit_network
from lenet_mnist.runs.directory import RunDirectory


class ExportFormat(StrEnum):
    """What a network can be written as."""

    HTML = "html"


def export_run(run: RunDirectory, compared: RunDirectory | None, format_name: str, output: Path | None) -> Path:
    """Write the best network of `run`, beside that of `compared` if there is one; return where.

    Raises: ConfigError for a format that does not exist, an output of another kind, or a run without a network;
    DataError if a network is damaged; StorageError if the file cannot be written.
    """
    try:
        export_format = ExportFormat(format_name)
    except ValueError:
        raise ConfigError(f"--format {format_name}: expected one of {', '.join(ExportFormat)}") from None
    suffix = f".{export_format.value}"
    if output is not None and output.suffix.lower() != suffix:
        raise ConfigError(f"--output {output}: expected a name that ends in {suffix}")  # or it could hit any file
    runs = [run] if compared is None else [run, compared]
    match export_format:
        case ExportFormat.HTML:
            content = drawing_page([(each.id, digit_network(each)) for each in runs])
    return _write(run, output, "lenet.html" if compared is None else "compared.html", content)


def _write(run: RunDirectory, output: Path | None, name: str, content: str) -> Path:
    """Write into the run, or where the user wants it."""
    if output is None:
        refuse_links(run.path)
        make_directory(run.export_path)
    path = output or run.export_path / name
    write_text(path, content)
    return path
