"""Where the arithmetic happens: the choice of a device and of a number of threads."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lenet_mnist.config import Device, Engine
from lenet_mnist.cores import THREADS, usable_cores
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.errors import ConfigError, InstallationError
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine


def choose_device(device: Device, ranks: Ranks = SINGLE) -> torch.device:
    """Return the torch device for the configured one. Of several GPUs each rank takes its own.

    `auto` takes an NVIDIA GPU only where the native engine is lacking: with it, two cores train LeNet at least as fast
    in the batches of configs/ (docs/scale.md). Apple's it never takes: it was wrong more
    than once (training/context.py).

    Raises: ConfigError if this machine does not have it, or has fewer than ranks.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device is Device.AUTO:
        lacks_native = has_cuda and resolve_engine(Engine.AUTO, torch.device("cpu"), image_size=28).name is Engine.TORCH
        device = Device.CUDA if lacks_native else Device.CPU
    if (device is Device.CUDA and not has_cuda) or (device is Device.MPS and not has_mps):
        message = f"{device} is asked for, but torch finds no such device here; auto takes what there is"
        raise ConfigError(message, key="training.device")
    if device is not Device.CUDA:
        return torch.device(device.value)
    # Else cuDNN is free to add up in any order, so that a resumed training comes to other weights, and to leave out 13
    # of the 23 bits of what it multiplies.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    if ranks.is_single:
        return torch.device("cuda")
    if (num_gpus := torch.cuda.device_count()) < ranks.num_local:
        message = f"{ranks.num_local} processes on this machine, but {num_gpus} GPUs: each needs one"
        raise ConfigError(message, key="training.device")
    return torch.device("cuda", ranks.local_rank)


def set_threads(threads: int | None, engine: ResolvedEngine, ranks: Ranks = SINGLE) -> int:
    """Set the number of CPU threads that `engine` has in this process, and return it.

    If None, it is this process's share of the threads that cores.py found.

    Raises: InstallationError if the system does not allow that many, or if torch is to have several in a process that
    was forked after this one had threads: they do not exist there, and it would wait for them for ever.
    """
    has_one = _is_forked and engine.name is Engine.TORCH
    count = threads if threads is not None else 1 if has_one else max(1, THREADS // ranks.num_local)
    if has_one and count > 1:
        asked = f"{count} threads are asked for in a forked process, where torch has one"
        raise InstallationError(f"{asked}: give 1, or start it with multiprocessing's spawn")
    _require_threads(count)
    _last_set[:] = [(engine, count)]
    engine.set_threads(count)
    logging.getLogger(__name__).info("computes with the engine %s (%s), threads: %d", engine.name, engine.reason, count)
    return count


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back at the end what choose_device and set_threads set for the whole process.

    One thread at a time is inside: another one's number of threads would change its last bits.
    """
    cudnn = torch.backends.cudnn
    with _one_at_a_time:
        threads, is_deterministic, is_coarse = torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32
        last_set = list(_last_set)
        try:
            yield
        finally:
            for engine, count in last_set:  # of a training whose callback evaluates a run
                engine.set_threads(count)
            torch.set_num_threads(threads)
            cudnn.deterministic, cudnn.allow_tf32 = is_deterministic, is_coarse


_one_at_a_time = threading.RLock()
_last_set: list[tuple[ResolvedEngine, int]] = []


def _require_threads(count: int) -> None:
    """Start `count` threads and a few more, and end them: OpenMP ends the process where it is refused one."""
    made: list[threading.Thread] = []
    end = threading.Event()
    try:
        while count > 1 and len(made) < count + 2:
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            made.append(thread)
    except RuntimeError:
        raise InstallationError(
            f"{count:,} threads are asked for, but the system allows {len(made)} more here: give fewer with --threads"
        ) from None
    finally:
        end.set()
        for thread in made:
            thread.join()


class Crowding:
    """Whether this process's threads have to wait for cores: those of one training wait for each other as well."""

    def __init__(self, threads: int) -> None:
        self._threads = threads if threads <= usable_cores() else 1  # more than cores wait for each other
        self._started, self._waited = time.monotonic(), _seconds_waited()

    def note(self) -> str | None:
        """Return a line for the user if they wait: once a second has passed, and then never again."""
        seconds = time.monotonic() - self._started
        if self._threads == 1 or seconds < 1:
            return None
        threads, self._threads = self._threads, 1
        share = (_seconds_waited() - self._waited) / (seconds * threads)
        if share < _CROWDED:
            return None
        return (
            f"other programs want the cores too: {threads} threads waited for one {min(share, 1):.0%} of the time. "
            "Fewer, as with --threads 1, may be faster"
        )


_CROWDED = 0.25  # of the time; it is 0.00 where nothing else runs


def _seconds_waited() -> float:
    """Return how long threads of this process could have run, but others did; 0 where the system does not say it."""
    with suppress(OSError, ValueError, IndexError):
        return sum(int(path.read_text().split()[1]) for path in Path("/proc/self/task").glob("*/schedstat")) / 1e9
    return 0.0


_is_forked = False


def _after_fork() -> None:
    """Limit a forked process to the one thread that it has."""
    global _is_forked, _one_at_a_time
    _is_forked, _one_at_a_time = True, threading.RLock()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
