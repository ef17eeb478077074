"""Step 2 of the lecture, data: `lenet data`."""

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    DataDir,
    Offline,
    data_access,
    say,
)

app = typer.Typer(help="Fetch, check and find the MNIST files.", no_args_is_help=True)


@app.command("fetch")
def data_fetch(data_dir: DataDir = DEFAULT_DATA_DIR, offline: Offline = False) -> None:
    """Fetch the MNIST files that are missing; what is there is left as it is."""
    from lenet_mnist.data import mnist

    fetched = mnist.fetch_missing(data_access(data_dir, offline))
    for file in mnist.ALL_FILES:
        path, _ = mnist.read_verified(file, data_dir)
        say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@app.command("check")
def data_check(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Verify every byte of the four files by SHA-256."""
    from lenet_mnist.data import mnist

    for file in mnist.ALL_FILES:
        path, array = mnist.read_verified(file, data_dir)
        say(f"ok  {path}  {' x '.join(map(str, array.shape))}  sha256 {file.sha256}")


@app.command("where")
def data_where(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the directory that is looked in, and what lies there."""
    from lenet_mnist.data import mnist

    say(str(data_dir))
    for file in mnist.ALL_FILES:
        say(f"  {file.name}: {mnist.find(file, data_dir) or 'missing'}")
