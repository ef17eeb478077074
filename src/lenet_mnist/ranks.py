"""One program in several processes, as torchrun starts them: who this one is, what is its share, what all agree on.

Rank 0 leads: it reads and writes the disk and the screen. The others compute. All that passes between ranks passes
through here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lenet_mnist.errors import ConfigError, InstallationError, ProcessLostError


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

    def spread(self, content: bytes) -> bytes:
        """Return what rank 0 hands in; what the others do is not looked at."""
        if self.is_alone:
            return content
        with _naming_the_lost():
            length = torch.tensor(len(content))
            torch.distributed.broadcast(length, src=0)
            values = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.is_first and content else None
            if values is None:
                values = torch.empty(int(length), dtype=torch.uint8)
            torch.distributed.broadcast(values, src=0)
        return values.numpy().tobytes()

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank hands in, by rank; on every rank. (As torch does it: the ranks trust each other.)"""
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


def torchrun_rank() -> int | None:
    """Return this process's rank if torchrun has started it. (It says so in the environment.)"""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process's place among those that torchrun has started, or ALONE.

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
        torch.distributed.init_process_group(backend)
    yield ranks
    torch.distributed.destroy_process_group()  # not after an exception: the others may wait for what will not come


@contextmanager
def _naming_the_lost() -> Iterator[None]:
    """Turn what torch says of a lost connection into what the user should know."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise ProcessLostError(
            f"another of the processes has gone, or cannot be reached ({reason}). What a training has saved is kept: "
            "lenet train --resume goes on with as many processes; torchrun --max-restarts does so by itself"
        ) from None
