"""Devices: which one `auto` takes. Threads: those of the configuration, and none that a forked process lacks."""

import os
import subprocess
import sys

import pytest
import torch

from lenet_mnist.config import Device
from lenet_mnist.devices import choose_device
from lenet_mnist.model import engines
from lenet_mnist.provenance import machine
from lenet_mnist.runs.manifest import machine_of

PROGRAM = """
import sys
import torch
from lenet_mnist.config import Activation
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine, torch_network
from lenet_mnist.config import Engine
from lenet_mnist.model.native.network import parameter_shapes
import hashlib

def digest():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(50, 1, 28, 28, generator=generator)
    parameters = [torch.randn(s, generator=generator).mul_(0.1).requires_grad_() for s in parameter_shapes(10).values()]
    network = resolve_engine(Engine.NATIVE, torch.device("cpu"), 28).network
    gradients = torch.autograd.grad(network(images, parameters, Activation.TANH).square().sum(), parameters)
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
    """The number of threads is the configuration's. (Under OMP_THREAD_LIMIT=1 torch's own convolution hangs.)"""
    program = "for number in {}: set_threads(number); print(number, torch.get_num_threads(), digest())"
    there = run(program.format("(1, 2, 5)")).splitlines()
    assert [line.split()[:2] for line in there] == [["1", "1"], ["2", "2"], ["5", "5"]]
    assert run(program.format("(5, 2, 1)"), OMP_NUM_THREADS="1").splitlines() == there[::-1]


@pytest.mark.compiler
def test_a_forked_process_goes_on_with_one_thread() -> None:
    """It would hang for ever with two, as plain torch does."""
    program = """
import os
import warnings
set_threads(1)
alone = digest()
set_threads(2)
digest()
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, of any fork beside threads
child = os.fork()
if child == 0:
    assert torch.get_num_threads() == 1
    assert digest() == alone
    try:
        set_threads(2)
    except RuntimeError as error:
        assert "spawn" in str(error)
        os._exit(7)
    os._exit(8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(program) == "7\n"


@pytest.mark.parametrize(("users", "seen"), [({}, "'15000'"), ({"GOMP_SPINCOUNT": "77"}, "'77'")])
def test_threads_do_not_wait_in_a_busy_loop_for_long(users: dict[str, str], seen: str) -> None:
    """Where other programs want the cores too, whoever they wait for would not get to run."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **users}
    command = [sys.executable, "-c", "import lenet_mnist.cli.app; import torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert [line.partition(" = ")[2] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line] == [seen]


@pytest.mark.compiler
def test_auto_takes_a_gpu_only_where_the_native_engine_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)  # put back afterwards
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert choose_device(Device.AUTO) == torch.device("cpu")
    monkeypatch.setattr(engines, "_native_network", lambda _: "there is no C compiler")
    assert choose_device(Device.AUTO) == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device(Device.AUTO) == torch.device("cpu")


def test_a_gpu_adds_up_in_one_order_and_with_all_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the same training, or a resumed one, comes to other weights: seen on an H100."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    choose_device(Device.CUDA)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.allow_tf32


def test_a_run_names_the_gpu_that_trained_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"number {device.index}")
    assert machine_of(torch.device("cuda", 1)) == f"{machine()}, number 1"
    assert machine_of(torch.device("cpu")) == machine()
