"""Step 1 of the lecture, architecture: the network, layer by layer."""

import typer

from lenet_mnist.cli.options import (
    ActivationName,
    AsJson,
    Assignments,
    ConfigPath,
    load_config,
    say,
)

app = typer.Typer()


@app.command()
def describe(
    config: ConfigPath = None,
    assignments: Assignments = None,
    activation: ActivationName = None,
    as_json: AsJson = False,
) -> None:
    """Show every layer of the network: formula, output shape, parameters, multiply-adds."""
    resolved = load_config(config, assignments, {"model.activation": activation})

    from lenet_mnist.data.mnist import CLASS_NAMES, IMAGE_SIZE
    from lenet_mnist.model.layer_table import layer_table
    from lenet_mnist.reporting import summaries

    rows = layer_table(resolved.config.model.activation, len(CLASS_NAMES), IMAGE_SIZE)
    say(summaries.layers_json(rows) if as_json else summaries.layers_text(rows))
