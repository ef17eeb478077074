"""Several processes that train together, as torchrun starts them: which one this is, its shard, sums over all.

Rank 0 runs the command: it alone reads and writes runs, and prints. The other ranks serve: they call the functions that
rank 0 asks for, with the same arguments. Everything that passes between ranks passes through here.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from lenet_mnist.cores import torchrun_rank
from lenet_mnist.errors import ConfigError, InstallationError, ProcessLostError

_SOURCE_LINE = re.compile(r"\[[^\]]*\.cc:\d+\] ")


@contextmanager
def _lost_ranks_named() -> Iterator[None]:
    """Turn what torch says of a lost connection into what the user should know."""
    try:
        yield
    except RuntimeError as error:
        reason = _SOURCE_LINE.sub("", str(error).splitlines()[0])[:100]
        raise ProcessLostError(
            f"another process is gone, or cannot be reached ({reason}). What the training has saved is kept: --resume "
            "continues it, with as many processes; torchrun --max-restarts N does so by itself"
        ) from None


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` of `num_ranks`, and `local_rank` of the `num_local` on this machine.

    `restarts` counts how often torchrun has restarted all of them; `job` is torchrun's name for the whole.

    Raises: ProcessLostError, from each method that communicates, if another rank is gone.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local: int = 1
    restarts: int = 0
    job: str | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        return self.num_ranks == 1

    def shard(self, num_items: int) -> slice:
        """Return this rank's share of `num_items`: contiguous, and as even as possible."""
        return slice(num_items * self.rank // self.num_ranks, num_items * (self.rank + 1) // self.num_ranks)

    @_lost_ranks_named()
    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks, the same bits on each. `values` is overwritten."""
        if not self.is_single:
            torch.distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is True on some rank."""
        return flag if self.is_single else bool(self.all_reduce_sum(torch.tensor(int(flag))))

    @_lost_ranks_named()
    def call(self, function: Callable[..., object] | None, *arguments: Any) -> None:
        """Let every other rank call `function(*arguments, ...)`, with what its `serve` adds; None ends their service.

        For rank 0, which then does its own share. (Torch pickles the call: all ranks run the same program.)
        """
        if not self.is_single:
            torch.distributed.broadcast_object_list([(function, arguments)], src=0)

    def serve(self, *context: Any) -> None:
        """Call what rank 0 asks for, with `context` added, until it is done. For the other ranks."""
        while True:
            received: list[Any] = [None]
            with _lost_ranks_named():
                torch.distributed.broadcast_object_list(received, src=0)
            function, arguments = received[0]
            if function is None:
                return
            function(*arguments, *context)

    @_lost_ranks_named()
    def all_gather(self, value: Any) -> list[Any]:
        """Return the `value` of each rank, by rank; on every rank."""
        if self.is_single:
            return [value]
        gathered: list[Any] = [None] * self.num_ranks
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def require_same(self, values: dict[str, str]) -> None:
        """Raise ConfigError, on every rank, if these values differ between ranks."""
        first, *others = self.all_gather(values)
        for rank, theirs in enumerate(others, start=1):
            for key in sorted(first.keys() | theirs.keys()):
                if first.get(key) != theirs.get(key):
                    answers = f"{first.get(key)} on rank 0, and {theirs.get(key)} on rank {rank}"
                    raise ConfigError(f"the processes disagree: {key} is {answers}")


SINGLE = Ranks()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process's place among those that torchrun has started, or SINGLE. At the end rank 0 dismisses them.

    Raises: InstallationError if this torch lacks gloo; ProcessLostError if the other ranks cannot be reached.
    """
    if torchrun_rank() is None:
        yield SINGLE
        return
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, num_ranks, local_rank, num_local = (int(os.environ[name]) for name in names)
    run_id = os.environ["TORCHELASTIC_RUN_ID"]
    job = run_id if run_id != "none" else f"torchrun-{os.getppid()}"
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    ranks = Ranks(rank, num_ranks, local_rank, num_local, restarts, job)
    if ranks.is_single:
        yield ranks
        return
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        raise InstallationError("this torch was built without gloo, which several processes need to work together")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _lost_ranks_named():
        store, *_ = next(rendezvous("env://"))
        # After a restart the store still holds the addresses of the processes before it.
        store = PrefixStore(f"attempt {ranks.restarts}", store)
        torch.distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.num_ranks)
    yield ranks
    if ranks.is_first:
        ranks.call(None)
    torch.distributed.destroy_process_group()  # not after an exception: the others may wait for what will not come
