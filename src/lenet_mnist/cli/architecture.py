"""Step 1 of the lecture, architecture: the network, layer by layer."""

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    ActivationName,
    AsJson,
    Assignments,
    ConfigPath,
    DataDir,
    data_access,
    load_config,
    say,
)

app = typer.Typer()


@app.command(help="Show every layer of the network: formula, output shape, parameters, multiply-adds.")
def describe(
    config: ConfigPath = None,
    assignments: Assignments = None,
    activation: ActivationName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    resolved = load_config(config, assignments, {"model.activation": activation})

    from lenet_mnist.data.mnist import IMAGE_SIZE
    from lenet_mnist.data.sources import class_names_of
    from lenet_mnist.model.layer_table import layer_table
    from lenet_mnist.reporting import summaries

    with resolved.naming_origins():
        class_names = class_names_of(resolved.config.data, data_access(data_dir, offline=True))
    rows = layer_table(resolved.config.model.activation, len(class_names), IMAGE_SIZE)
    say(summaries.layers_json(rows) if as_json else summaries.layers_text(rows))
