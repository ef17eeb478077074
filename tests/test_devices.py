"""Devices: which one `auto` takes. Threads: those of the configuration, and none that a forked process lacks."""

import ctypes
import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lenet_mnist import devices
from lenet_mnist.config import Device
from lenet_mnist.cores import usable_cores
from lenet_mnist.devices import Crowding, choose_device, set_threads
from lenet_mnist.errors import ConfigError, InstallationError
from lenet_mnist.model import engines
from lenet_mnist.model.engines import TORCH
from lenet_mnist.provenance import machine
from lenet_mnist.runs.manifest import machine_of
from lenet_mnist.training import context, optimizer
from lenet_mnist.training.context import require_right

PROGRAM = """
import lenet_mnist.cli.app  # as lenet begins
import os
import torch
from lenet_mnist.config import Activation
from lenet_mnist.devices import set_threads
from lenet_mnist.errors import InstallationError
from lenet_mnist.model.engines import TORCH, resolve_engine
from lenet_mnist.config import Engine
from lenet_mnist.model.native.binding import parameter_shapes
import hashlib
engine = resolve_engine(Engine.NATIVE, torch.device("cpu"), 28)

def digest():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(50, 1, 28, 28, generator=generator)
    parameters = [torch.randn(s, generator=generator).mul_(0.1).requires_grad_() for s in parameter_shapes(10).values()]
    gradients = torch.autograd.grad(engine.forward(images, parameters, Activation.TANH).square().sum(), parameters)
    return hashlib.sha256(b"".join(g.numpy().tobytes() for g in gradients)).hexdigest()
"""


def run(program: str, **environment: str) -> str:
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program]
    finished = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=100, check=True
    )
    return finished.stdout


@pytest.mark.compiler
def test_the_environment_changes_no_bit() -> None:
    """The number of threads is the configuration's. (With fewer than are set, torch's own convolution would hang.)"""
    program = "for number in {}: set_threads(number, engine); print(number, engine.forward.threads, digest())"
    there = run(program.format("(1, 2, 5)")).splitlines()
    assert [line.split()[:2] for line in there] == [["1", "1"], ["2", "2"], ["5", "5"]]
    assert run(program.format("(5, 2, 1)"), OMP_NUM_THREADS="1").splitlines() == there[::-1]
    less = {"OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "OMP_MAX_ACTIVE_LEVELS": "0", "OMP_PROC_BIND": "true"}
    said = run(program.format("(2,)") + "\nprint(len(os.sched_getaffinity(0)))", **less).splitlines()
    assert said == [there[1], str(HERE)]


HERE = len(os.sched_getaffinity(0))
DEFAULTS: list[tuple[dict[str, str], int]] = [
    ({}, HERE),
    ({"OMP_NUM_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": " 3 , 2"}, 3),
    ({"OMP_NUM_THREADS": "many"}, HERE),
    ({"OMP_NUM_THREADS": "0"}, HERE),
    ({"OMP_NUM_THREADS": "9" * 30}, 1024),
    ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "torchrun has set it"}, HERE),
    ({"OMP_THREAD_LIMIT": "1"}, 1),
    ({"OMP_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "2"}, 2),
    ({"OMP_THREAD_LIMIT": "-1", "OMP_DYNAMIC": "true", "OMP_PROC_BIND": "close"}, HERE),
]


def test_where_no_option_says_how_many_threads_the_environment_does() -> None:
    """What would let OpenMP give fewer, or put all of them on one core, does not reach it."""
    program = "import os; from lenet_mnist.cores import THREADS; print(THREADS, [n for n in os.environ if 'OMP_' in n])"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "TORCH"))}
    for given, number in DEFAULTS:
        command = [sys.executable, "-c", program]
        said = subprocess.run(command, env=clean | given, capture_output=True, text=True, check=True).stdout
        assert said.split()[0] == str(number), given
        assert not set(re.findall("[A-Z_]+", said)) - {"OMP_NUM_THREADS"}, given


QUOTAS: list[tuple[str, dict[str, str], float]] = [
    ("0::/", {"cpu.max": "100000 100000"}, 1),
    ("0::/", {"cpu.max": "50000 100000"}, 1),
    ("0::/", {"cpu.max": "max 100000"}, math.inf),
    ("0::/job/step", {"job/cpu.max": "100000 100000", "job/step/cpu.max": "max 100000"}, 1),
    ("0::/not/seen/from/within", {"cpu.max": "100000 100000"}, 1),
    ("3:cpuset:/\n2:cpuacct,cpu:/job", {"cpu/job/cpu.cfs_quota_us": "1", "cpu/job/cpu.cfs_period_us": "100"}, 1),
    ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100"}, math.inf),
    ("0::/", {"cpu.max": "nonsense"}, math.inf),
    ("", {}, math.inf),
]


def test_a_containers_quota_counts_as_its_cores(tmp_path: Path) -> None:
    for number, (groups, files, most) in enumerate(QUOTAS):
        root = tmp_path / str(number)
        for name, content in {
            "proc/self/cgroup": groups,
            **{f"sys/fs/cgroup/{n}": c for n, c in files.items()},
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content + "\n")
        assert usable_cores(root) == min(HERE, most), groups


def test_threads_that_the_system_refuses_are_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP would end the process."""
    start, before = threading.Thread.start, threading.active_count()

    def refuse(thread: threading.Thread) -> None:
        if threading.active_count() > before + 5:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert set_threads(2, TORCH) == 2
    with pytest.raises(InstallationError, match="--threads"):
        set_threads(30, TORCH)
    assert torch.get_num_threads() == 2
    assert threading.active_count() == before


@pytest.mark.compiler
def test_a_forked_process_goes_on_with_the_native_engine_and_with_one_thread_of_torch() -> None:
    """With two, torch would wait for ever for one that does not exist there."""
    program = """
import os
import warnings
set_threads(2, engine)
before = digest()
set_threads(2, TORCH)
(torch.ones(300, 300) @ torch.ones(300, 300)).sum()
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, of any fork beside threads
child = os.fork()
if child == 0:
    assert torch.get_num_threads() == 1
    set_threads(2, engine)
    assert digest() == before
    try:
        set_threads(2, TORCH)
    except InstallationError as error:
        assert "spawn" in str(error)
        os._exit(7)
    os._exit(8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(program) == "7\n"


def test_that_other_programs_want_the_cores_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Linux says of the time that threads were ready and did not run: that is nothing on an idle machine."""
    clock = {"now": 100.0, "waited": 50.0}
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    monkeypatch.setattr(devices.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(devices, "_seconds_waited", lambda: clock["waited"])
    for threads, waited, is_said in ((2, 0.1, False), (2, 12.0, True), (1, 9.0, False), (8, 60.0, False)):
        crowding = Crowding(threads)
        assert crowding.note() is None  # no time has passed
        clock["now"] += 10
        clock["waited"] += waited
        assert (crowding.note() is not None) == is_said
        assert crowding.note() is None


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, as far as torch says; what is set for it is put back afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)


@pytest.mark.compiler
@pytest.mark.usefixtures("_gpu")
def test_auto_takes_a_gpu_only_where_the_native_engine_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device(Device.AUTO) == torch.device("cpu")
    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    assert choose_device(Device.AUTO) == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(Device.AUTO) == torch.device("cpu")
    assert choose_device(Device.MPS) == torch.device("mps")


def test_apples_gpu_is_used_only_if_it_computes_what_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the CPU stands in for it, with the faults that it had."""
    cpu = torch.device("cpu")
    require_right(cpu)
    answers = iter((torch.ones(5), 1.001 * torch.ones(5)))
    with monkeypatch.context() as patch:
        patch.setattr(context, "torch_gradient", lambda *_: next(answers))
        with pytest.raises(ConfigError, match="gradients"):
            require_right(cpu)
    right = optimizer.adamw
    monkeypatch.setattr(optimizer, "adamw", lambda *given, **rest: right(*given, **{**rest, "found_inf": None}))
    with pytest.raises(ConfigError, match="adamw"):
        require_right(cpu)


@pytest.mark.usefixtures("_gpu")
def test_a_gpu_adds_up_in_one_order_and_with_all_bits() -> None:
    """Else the same training, or a resumed one, comes to other weights: seen on an H100."""
    choose_device(Device.CUDA)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.allow_tf32


def test_a_run_names_the_gpu_that_trained_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"number {device.index}")
    assert machine_of(torch.device("cuda", 1)) == f"{machine()}, number 1"
    assert machine_of(torch.device("cpu")) == machine()


def test_on_apples_processors_the_fast_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctlbyname(name: bytes, number, _size, _new, _new_size) -> int:
        assert name == b"hw.perflevel0.logicalcpu"
        number._obj.value = 1
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert usable_cores(Path("/nowhere")) == 1
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(sysctlbyname=lambda *_: -1))  # an Intel Mac
    assert usable_cores(Path("/nowhere")) == os.cpu_count()
