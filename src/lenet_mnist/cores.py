"""How many threads this process should have: decided before torch is imported, and with it OpenMP.

OpenMP reads the environment when it is loaded. A process that it then binds to cores sees one core, as do all that it
starts; and where OpenMP gives fewer threads than are set, torch's convolutions wait for the others for ever. So a
number of threads that the user gives there counts here, and is all that OpenMP is told about threads.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_LIMITS = ("OMP_THREAD_LIMIT", "KMP_DEVICE_THREAD_LIMIT", "KMP_ALL_THREADS")
_UNHEARD = (
    *("OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS", "OMP_STACKSIZE", "GOMP_STACKSIZE", "KMP_STACKSIZE"),
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
)
_MOST_THREADS = 1024  # as in config.py


def usable_cores(root: Path = Path("/")) -> int:
    """Return the cores that this process may use: fewer than the machine's where it is pinned, or has a quota."""
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _performance_cores()
    return max(1, min([pinned or os.cpu_count() or 1, *map(int, _quotas(root))]))


def _performance_cores() -> int | None:
    """Return how many fast cores Apple's processor has; None elsewhere. The slow ones would keep them waiting."""
    number, size = ctypes.c_int(0), ctypes.c_size_t(4)
    if sys.platform == "darwin":
        ctypes.CDLL(None).sysctlbyname(b"hw.perflevel0.logicalcpu", ctypes.byref(number), ctypes.byref(size), None, 0)
    return number.value or None


def _quotas(root: Path) -> list[float]:
    """Return the cores' worth of time that its control groups leave this process, those above its own included."""
    quotas = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            place, inside = root / "sys/fs/cgroup" / ("cpu" if controllers else ""), Path(path.lstrip("/"))
            if controllers == "" or "cpu" in controllers.split(","):
                for group in (inside, *inside.parents):  # the last is "."
                    quotas += _quota(place / group)
    return quotas


def _quota(group: Path) -> list[float]:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:  # else "max", or -1
            return [int(quota) / int(period)]
    return []


def _number(name: str) -> int | None:
    """Return the number in the environment, of a list the first; None if there is none."""
    with suppress(ValueError):
        number = int(os.environ.get(name, "").partition(",")[0])
        return min(number, _MOST_THREADS) if number > 0 else None
    return None


def _decide() -> int:
    """Return the number of threads where no option gives one, and leave OpenMP nothing else to decide by."""
    # torchrun sets OMP_NUM_THREADS to 1 by itself: that says nothing.
    wanted = None if "TORCHELASTIC_RUN_ID" in os.environ else _number("OMP_NUM_THREADS")
    limits = [limit for limit in map(_number, _LIMITS) if limit is not None]
    number = min([wanted or usable_cores(), *limits])
    for name in (*_LIMITS, *_UNHEARD):
        os.environ.pop(name, None)
    if number != os.cpu_count():
        os.environ["OMP_NUM_THREADS"] = str(number)
    return number


THREADS = _decide()


def torchrun_rank() -> int | None:
    """Return this process's rank if torchrun has started it, else None; torch need not be imported to know it."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
