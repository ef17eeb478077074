"""One program in several processes, as torchrun starts them: who this one is, what is its share, what all agree on.

Rank 0 leads: it reads and writes the disk and the screen. The others compute. All that passes between ranks passes
through here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from lenet_mnist.errors import ConfigError, InstallationError, ProcessLostError
from lenet_mnist.torchrun import torchrun_rank


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` of `num_ranks`, and of those on this machine `local_rank` of `num_local`.

    `restarts` counts how often torchrun has started all of them again; `job` is what it calls the whole.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local: int = 1
    restarts: int = 0
    job: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process leads."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.num_ranks == 1

    def share_of(self, num_items: int) -> slice:
        """Return this rank's share of so many items: neighbours, and no rank has two more than another."""
        return slice(num_items * self.rank // self.num_ranks, num_items * (self.rank + 1) // self.num_ranks)

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks, the same bits on each. `values` is written over.

        Raises: ProcessLostError, as all below do, if another rank has gone.
        """
        if not self.is_alone:
            with _naming_the_lost():
                torch.distributed.all_reduce(values)
        return values

    def any_of(self, is_wanted: bool) -> bool:
        """Return whether some rank wants it."""
        return is_wanted if self.is_alone else bool(self.add_up(torch.tensor(int(is_wanted))))

    def say(self, value: Any) -> None:
        """Let the other ranks hear a value; for rank 0. (Torch pickles it: the ranks are one program.)"""
        if not self.is_alone:
            with _naming_the_lost():
                torch.distributed.broadcast_object_list([value], src=0)

    def hear(self) -> Any:
        """Return what rank 0 says next, None at its end; for the others."""
        heard = [None]
        with _naming_the_lost():
            torch.distributed.broadcast_object_list(heard, src=0)
        return heard[0]

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank hands in, by rank; on every rank."""
        if self.is_alone:
            return [value]
        gathered: list[Any] = [None] * self.num_ranks
        with _naming_the_lost():
            torch.distributed.all_gather_object(gathered, value)
        return gathered

    def require_same(self, values: dict[str, str]) -> None:
        """Raise ConfigError, on every rank, if these values are not the same on all."""
        everywhere = self.gather(values)
        for rank, others in enumerate(everywhere):
            for key in sorted(values.keys() | others.keys()):
                mine, theirs = everywhere[0].get(key), others.get(key)
                if mine != theirs:
                    raise ConfigError(f"the processes disagree: {key} is {mine} on rank 0, and {theirs} on rank {rank}")


ALONE = Ranks()
_SOURCE_LINE = re.compile(r"\[[^\]]*\.cc:\d+\] ")


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process's place among those that torchrun has started, or ALONE. At the end rank 0 says None.

    Raises: InstallationError if this torch cannot do it; ProcessLostError if the others are not to be found.
    """
    if torchrun_rank() is None:
        yield ALONE
        return
    number = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    run_id = os.environ["TORCHELASTIC_RUN_ID"]
    ranks = Ranks(
        rank=number["RANK"],
        num_ranks=number["WORLD_SIZE"],
        local_rank=number["LOCAL_RANK"],
        num_local=number["LOCAL_WORLD_SIZE"],
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
        job=run_id if run_id != "none" else f"torchrun-{os.getppid()}",
    )
    if ranks.is_alone:
        yield ranks
        return
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        raise InstallationError("this torch was built without gloo, which several processes need to work together")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _naming_the_lost():
        store, *_ = next(rendezvous("env://"))
        # After a restart the store still holds the addresses of the processes before it.
        store = PrefixStore(f"attempt {ranks.restarts}", store)
        torch.distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.num_ranks)
    yield ranks
    if ranks.is_first:
        ranks.say(None)
    torch.distributed.destroy_process_group()  # not after an exception: the others may wait for what will not come


@contextmanager
def _naming_the_lost() -> Iterator[None]:
    """Turn what torch says of a lost connection into what the user should know."""
    try:
        yield
    except RuntimeError as error:
        reason = _SOURCE_LINE.sub("", str(error).splitlines()[0])[:100]
        raise ProcessLostError(
            f"another of the processes has gone, or cannot be reached ({reason}). What a training has saved is kept: "
            "--resume goes on with it, with as many processes; torchrun --max-restarts N does so by itself"
        ) from None
