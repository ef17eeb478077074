"""Step 2 of the lecture, data: `lenet data`."""

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    AsJson,
    Assignments,
    ConfigPath,
    DataDir,
    Offline,
    SourceName,
    data_access,
    load_config,
    say,
)

app = typer.Typer(help="Fetch, check and find the data.", no_args_is_help=True)


@app.command("fetch")
def data_fetch(source: SourceName = None, data_dir: DataDir = DEFAULT_DATA_DIR, offline: Offline = False) -> None:
    """Fetch the files of MNIST (or its kin) that are missing; what is there is left as it is."""
    resolved = load_config(None, None, {"data.source": source})

    from lenet_mnist.data import mnist
    from lenet_mnist.data.sources import published_files

    with resolved.naming_origins():
        files = published_files(resolved.config.data)
    fetched = mnist.fetch_missing(data_access(data_dir, offline), files)
    for file in files:
        path, _ = mnist.read_verified(file, data_dir)
        say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@app.command("check")
def data_check(
    source: SourceName = None,
    config: ConfigPath = None,
    assignments: Assignments = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Verify every byte that is known, count each class, and look for images that are there twice."""
    resolved = load_config(config, assignments, {"data.source": source})

    from lenet_mnist.data.sources import survey, verified_files
    from lenet_mnist.reporting import data_summary

    with resolved.naming_origins():
        files = verified_files(resolved.config.data, data_dir)
        seen = survey(resolved.config.data, data_access(data_dir, offline=True))
    say(data_summary.survey_json(files, seen) if as_json else data_summary.survey_text(files, seen))


@app.command("where")
def data_where(source: SourceName = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the directory that is looked in, and what lies there."""
    resolved = load_config(None, None, {"data.source": source})

    from lenet_mnist.data.sources import whereabouts

    with resolved.naming_origins():
        places = whereabouts(resolved.config.data, data_access(data_dir, offline=True))
    say(str(data_dir))
    for name, path in places:
        say(f"  {name}: {path or 'missing'}")
