"""LeNet on MNIST: train it, tune it, understand it, from the command line or in five lines of Python.

    import lenet_mnist
    run = lenet_mnist.train("relu", epochs=3)
    print(run.evaluate())
    run.plot_loss()
    print(run.diagnose())

Each function does what the command of its name does (docs/python.md).
"""

from typing import TYPE_CHECKING, Any

from lenet_mnist import cores as cores  # which decides before torch is imported

if TYPE_CHECKING:
    from lenet_mnist.api import (
        Config,
        LenetError,
        Run,
        compare,
        cross_validate,
        evaluate,
        load,
        load_data,
        sweep,
        train,
    )

__all__ = ["Config", "LenetError", "Run", "compare", "cross_validate", "evaluate", "load", "load_data"]
__all__ += ["sweep", "train"]
__version__ = "1.0.0"


def __getattr__(name: str) -> Any:
    """Import what uses torch when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lenet_mnist import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
