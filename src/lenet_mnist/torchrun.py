"""Whether torchrun has started this process: known without importing torch, which takes a second."""

import os


def torchrun_rank() -> int | None:
    """Return this process's rank if torchrun has started it, which it says in the environment; else None."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
