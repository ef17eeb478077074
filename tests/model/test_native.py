"""The native engine against the torch form, and everything that can stand in its way."""

import ctypes
import hashlib
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lenet_mnist.config import Activation, AugmentationConfig, Config, Engine
from lenet_mnist.data.augment import Distortions, draw, resample
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError, StorageError
from lenet_mnist.model import engines
from lenet_mnist.model.engines import resolve_engine, torch_network
from lenet_mnist.model.native import build
from lenet_mnist.model.native import network as network_module
from lenet_mnist.model.native.build import BUILD_LOG, NativeUnavailableError, load_library
from lenet_mnist.model.native.network import NativeNetwork, parameter_shapes
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.loop import start_training, train

pytestmark = pytest.mark.compiler
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("native")
    directory.chmod(0o700)
    return directory


@pytest.fixture(scope="session")
def native(cache: Path) -> NativeNetwork:
    return NativeNetwork(cache)


@pytest.fixture
def empty_cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    return directory


def problem(num_images: int = 5, seed: int = 0, num_classes: int = 10) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return images, parameters and the gradient of the logits."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_images, 1, 28, 28, generator=generator)
    parameters = [torch.randn(shape, generator=generator) * 0.2 for shape in parameter_shapes(num_classes).values()]
    return images, parameters, torch.randn(num_images, num_classes, generator=generator)


def solve(network, images: Tensor, parameters: list[Tensor], weights: Tensor, activation: Activation) -> list[Tensor]:
    """Return logits and gradients, in float64."""
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    logits = network(images, leaves, activation)
    logits.backward(weights)
    return [logits.detach().double(), *(leaf.grad.double() for leaf in leaves)]


def exact(images: Tensor, parameters: list[Tensor], weights: Tensor, activation: Activation) -> list[Tensor]:
    doubles = [parameter.double() for parameter in parameters]
    return solve(torch_network, images.double(), doubles, weights.double(), activation)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("num_images", [1, 2, 3, 17, 71])
@pytest.mark.parametrize("activation", Activation)
def test_logits_and_gradients_are_those_of_float64(
    native: NativeNetwork, activation: Activation, num_images: int
) -> None:
    given = problem(num_images)
    for found, expected in zip(solve(native, *given, activation), exact(*given, activation), strict=True):
        assert error(found, expected) <= 5e-6


@pytest.mark.parametrize("num_classes", [2, 15, 16, 17, 40, 100])
def test_any_number_of_classes(native: NativeNetwork, num_classes: int) -> None:
    given = problem(33, num_classes=num_classes)
    expected = exact(*given, Activation.TANH)
    assert all(error(*pair) <= 5e-6 for pair in zip(solve(native, *given, Activation.TANH), expected, strict=True))


def before_a_protected_page(tensor: Tensor) -> Tensor:
    """Return a copy behind which nothing can be read or written: the process would end."""
    size = tensor.numel() * tensor.element_size()
    end = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, end + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + end
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=end - size)
    return copy.view(tensor.shape).copy_(tensor)


@pytest.mark.parametrize("processor", ["native", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 2), (9, 17), (33, 10)])
def test_nothing_is_read_or_written_behind_a_buffer(
    cache: Path, monkeypatch: pytest.MonkeyPatch, num_images: int, num_classes: int, processor: str
) -> None:
    """With 3 threads, and so with more threads than images."""
    allocate = network_module._bytes
    monkeypatch.setattr(network_module, "_bytes", lambda count: before_a_protected_page(allocate(count)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    images, parameters, weights = problem(num_images, num_classes=num_classes)
    protected = [before_a_protected_page(tensor) for tensor in (images, *parameters, weights)]
    leaves = [parameter.requires_grad_() for parameter in protected[1:-1]]
    logits = NativeNetwork(cache, processor)(protected[0], leaves, Activation.TANH)
    logits.backward(protected[-1])
    found = [logits.detach().double(), *(leaf.grad.double() for leaf in leaves)]
    expected = exact(images, parameters, weights, Activation.TANH)
    assert all(error(*pair) <= 5e-6 for pair in zip(found, expected, strict=True))


EXTREME = AugmentationConfig(rotation=180, scale=0.5, shear=0.5, shift=10, elastic=5, elastic_sigma=2)


def distortion_problem(config: AugmentationConfig = EXTREME) -> tuple[Tensor, Tensor, Distortions]:
    """Return images, chosen ones, and the distortions of all."""
    images = torch.randint(256, (7, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([6, 0, 6, 3, 5]), draw(config, 28, 0, 1, np.arange(7))


@pytest.mark.parametrize("processor", ["native", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("config", [EXTREME, AugmentationConfig(shift=1)], ids=["extreme", "shifted"])
def test_distorting_reads_and_writes_nothing_behind_a_buffer_and_gives_torchs_bits(
    cache: Path, monkeypatch: pytest.MonkeyPatch, config: AugmentationConfig, processor: str
) -> None:
    images, chosen, distortions = distortion_problem(config)
    protected = [before_a_protected_page(tensor) if tensor.numel() else tensor for tensor in (images, *distortions)]
    network, empty = NativeNetwork(cache, processor), torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape: before_a_protected_page(empty(*shape)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    found = network.resample(protected[0], before_a_protected_page(chosen), tuple(protected[1:]), 33.3, 0.0123)
    assert torch.equal(found, resample(images, chosen, distortions, 33.3, 0.0123))


@pytest.mark.parametrize("place", [-1, 7, 2**40, -(2**62)])
def test_an_image_that_is_not_there_is_refused(native: NativeNetwork, place: int) -> None:
    images, chosen, distortions = distortion_problem()
    chosen[3] = place
    with pytest.raises(IndexError, match="none of the 7"):
        native.resample(images, chosen, distortions, 0.0, 1.0)


def test_what_the_c_code_takes_for_granted_of_distortions_is_checked(native: NativeNetwork) -> None:
    images, chosen, distortions = distortion_problem()
    with pytest.raises(ValueError, match=r"images: torch\.float32 .* expected uint8"):
        native.resample(images.float(), chosen, distortions, 0.0, 1.0)
    with pytest.raises(ValueError, match="chosen: not contiguous"):
        native.resample(images, chosen[::2], distortions, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"chosen: torch\.int32"):
        native.resample(images, chosen.int(), distortions, 0.0, 1.0)
    for number, name in enumerate(("maps", "noise", "across", "down")):
        wrong = [values[1:] if place == number else values for place, values in enumerate(distortions)]
        with pytest.raises(ValueError, match="noise: " if name == "across" else f"{name}: "):
            native.resample(images, chosen, tuple(wrong), 0.0, 1.0)
    many = Distortions(distortions.maps, torch.zeros(7, 19, 19).byte(), torch.zeros(19, 28), torch.zeros(28, 19))
    with pytest.raises(ValueError, match="19 knots, at most 18"):
        native.resample(images, chosen, many, 0.0, 1.0)


def test_no_image_chosen_gives_no_image(native: NativeNetwork) -> None:
    images, chosen, distortions = distortion_problem()
    assert native.resample(images, chosen[:0], distortions, 0.0, 1.0).shape == (0, 1, 28, 28)


@pytest.mark.parametrize("processor", ["x86-64-v3", "x86-64"])
@pytest.mark.parametrize("activation", Activation)
def test_older_processors_compute_the_same(cache: Path, activation: Activation, processor: str) -> None:
    given = problem(7)
    for found, expected in zip(
        solve(NativeNetwork(cache, processor), *given, activation), exact(*given, activation), strict=True
    ):
        assert error(found, expected) <= 5e-6


@pytest.mark.parametrize("activation", Activation)
def test_of_equal_values_the_first_wins_as_in_torch(native: NativeNetwork, activation: Activation) -> None:
    """C1 hands on pixels that are 0 or 1: most windows tie, and the patch around the winner tells which one won."""
    images, parameters, weights = problem(3)
    parameters[0].zero_()[:, 0, 2, 2] = 1
    parameters[1].zero_()
    given = ((images > 0).float(), parameters, weights)
    expected = solve(torch_network, *given, activation)
    for found, value in zip(solve(native, *given, activation), expected, strict=True):
        assert error(found, value) <= 5e-6


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_threads_give_the_same_bits(native: NativeNetwork, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given = problem(10)
        first, second = (solve(native, *given, Activation.TANH) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        assert all(error(one, value) <= 5e-6 for one, value in zip(first, exact(*given, Activation.TANH), strict=True))
    finally:
        torch.set_num_threads(before)


def test_subnormal_numbers_count_as_zero_inside_and_outside_as_before(native: NativeNetwork) -> None:
    """A saturated network's gradients are full of them, and many processors are far slower with them."""
    images, parameters, weights = problem(num_images=70)
    saturated = [50 * parameter for parameter in parameters]
    torch.set_num_threads(2)
    _, *gradients = solve(native, images, saturated, 1e-36 * weights, Activation.SIGMOID)
    values = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    assert values.max() > 1e-36
    assert values[values > 0].min() >= torch.finfo(torch.float32).tiny
    small = torch.full((100_000,), 1e-20)  # for both threads
    assert (small * small).min() > 0


def test_no_images_give_no_logits(native: NativeNetwork) -> None:
    images, parameters, weights = problem(0)
    logits, *gradients = solve(native, images, parameters, weights, Activation.RELU)
    assert logits.shape == (0, 10)
    assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2, 3])  # of the convolutions
@pytest.mark.parametrize("activation", Activation)
def test_a_convolutions_parameter_that_is_not_finite_shows_in_every_logit(
    native: NativeNetwork, activation: Activation, place: int, poison: float
) -> None:
    images, parameters, _ = problem(2)
    parameters[place].view(-1)[3] = poison
    assert native(images, parameters, activation).isnan().all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(4, 10))
@pytest.mark.parametrize("activation", Activation)
def test_a_dense_parameter_that_is_not_finite_shows_in_the_loss_or_the_gradient(
    native: NativeNetwork, activation: Activation, place: int, poison: float
) -> None:
    """A saturated unit hides it from the loss, in torch as here, but then not from the gradient of the layer before."""
    images, parameters, weights = problem(2)
    parameters[place].view(-1)[3] = poison
    found, expected = (solve(network, images, parameters, weights, activation) for network in (native, torch_network))
    is_finite = [all(bool(value.isfinite().all()) for value in values) for values in (found, expected)]
    assert is_finite[0] == is_finite[1]


@pytest.mark.parametrize("activation", Activation)
def test_a_pixel_that_is_not_a_number_shows_in_its_image_only(native: NativeNetwork, activation: Activation) -> None:
    images, parameters, _ = problem(3)
    images[1, 0, 13, 14] = float("nan")
    logits = native(images, parameters, activation)
    assert logits[1].isnan().any()
    assert torch.equal(logits.isnan(), torch_network(images, parameters, activation).isnan())


def test_what_the_c_code_takes_for_granted_is_checked(native: NativeNetwork) -> None:
    images, parameters, _ = problem()
    with pytest.raises(ValueError, match=r"images: torch\.float64"):
        native(images.double(), parameters, Activation.RELU)
    with pytest.raises(ValueError, match=r"images: torch\.float32 \(5, 1, 28, 27\)"):
        native(images[..., 1:], parameters, Activation.RELU)
    with pytest.raises(ValueError, match="images: not contiguous"):
        native(images.transpose(2, 3), parameters, Activation.RELU)
    with pytest.raises(ValueError, match=r"C3 weights: torch\.float32 \(6, 16, 5, 5\)"):
        native(images, [*parameters[:2], parameters[2].transpose(0, 1), *parameters[3:]], Activation.RELU)
    with pytest.raises(ValueError, match="C1 biases"):
        native(images, [parameters[0], parameters[1][:5], *parameters[2:]], Activation.RELU)
    with pytest.raises(ValueError, match="F6 weights: not contiguous"):
        native(images, [*parameters[:6], parameters[6].t().contiguous().t(), *parameters[7:]], Activation.RELU)
    with pytest.raises(ValueError, match="at most"):
        native(images, [*parameters[:8], torch.zeros(10_001, 84), torch.zeros(10_001)], Activation.RELU)


def test_what_is_not_offered_is_refused_clearly(native: NativeNetwork) -> None:
    images, parameters, _ = problem()
    with pytest.raises(RuntimeError, match="no gradient of the images"):
        native(images.clone().requires_grad_(), parameters, Activation.RELU)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    squares = native(images, leaves, Activation.TANH).square().sum()
    (gradient, *_) = torch.autograd.grad(squares, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_training_is_the_same_up_to_rounding_and_repeats_itself(native: NativeNetwork, small: TrainVal) -> None:
    config = Config.model_validate({"training": {"max_epochs": 1, "batch_size": 50}})

    def trained(engine) -> tuple[str, float]:
        rows = []
        state = start_training(config, small, CPU, engine)
        train(config, small, state, lambda _: False, rows.append)
        return weights_digest(state.network.state_dict()), rows[0].val_loss

    (first, loss), (second, _) = trained(native), trained(native)
    assert first == second
    assert trained(torch_network)[1] == pytest.approx(loss, rel=0.02)


# Choosing the engine.


def test_auto_takes_native_where_it_can(cache: Path) -> None:
    assert resolve_engine(Engine.AUTO, CPU, 28, cache).name is Engine.NATIVE
    assert resolve_engine(Engine.TORCH, CPU, 28, cache).network is torch_network


@pytest.mark.parametrize(
    ("device", "size", "why"), [("cuda", 28, "runs on the CPU"), ("cpu", 32, "28 x 28 pixels, not 32")]
)
def test_settings_that_are_not_covered_fall_back_or_are_refused(cache: Path, device: str, size: int, why: str) -> None:
    fallen_back = resolve_engine(Engine.AUTO, torch.device(device), size, cache)
    assert fallen_back.name is Engine.TORCH
    assert why in fallen_back.reason
    with pytest.raises(ConfigError, match=why) as caught:
        resolve_engine(Engine.NATIVE, torch.device(device), size, cache)
    assert caught.value.key == "training.engine"


def test_a_block_that_computes_something_else_is_not_used(
    native: NativeNetwork, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments) -> Tensor:
        return native(*arguments) * 1.001

    wrong.image_size, wrong.activations = native.image_size, native.activations
    monkeypatch.setattr(network_module, "NativeNetwork", lambda _: wrong)
    engines._native_network.cache_clear()
    try:
        resolved = resolve_engine(Engine.AUTO, CPU, 28, cache)
        assert resolved.name is Engine.TORCH
        assert "does not agree" in resolved.reason
    finally:
        engines._native_network.cache_clear()


def test_without_the_native_folder_the_torch_engine_remains(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".network", ".build"):
        monkeypatch.setitem(sys.modules, f"lenet_mnist.model.native{name}", None)
    engines._native_network.cache_clear()
    try:
        resolved = resolve_engine(Engine.AUTO, CPU, 28, cache)
        assert (resolved.name, resolved.reason) == (Engine.TORCH, "native is not available: it is not installed")
    finally:
        engines._native_network.cache_clear()


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_tanh_keeps_its_digits_near_zero(native: NativeNetwork, scale: float) -> None:
    images, parameters, weights = problem()
    small = [p * scale for p in parameters[:2]] + [p if p.dim() > 1 else torch.zeros_like(p) for p in parameters[2:]]
    given = (images, small, weights)
    for found, expected in zip(solve(native, *given, Activation.TANH), exact(*given, Activation.TANH), strict=True):
        assert error(found, expected) <= 5e-6


# Building.


def test_without_a_compiler_the_reason_is_said(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(NativeUnavailableError, match="no C compiler"):
        load_library(empty_cache)


def put_compiler(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_compilers_that_all_fail_leave_their_words_in_the_logs(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cc", "gcc"):
        put_compiler(tmp_path / "bin" / name, f"printf '{name}: unknown processor \\377' >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(NativeUnavailableError, match=r"cc failed with exit code 3.*gcc failed"):
        load_library(empty_cache)
    for name in ("cc", "gcc"):
        assert f"{name}: unknown processor" in (empty_cache / BUILD_LOG.format(name)).read_text()


FAIL = {
    "with an exit code": "exit 3",
    "and make nothing": "exit 0",
    "and make something else": 'while [ "$1" != -o ]; do shift; done; echo nonsense >"$2"',
    "for another machine": "exec /nowhere/cc",
    "and wait for somebody": "read answer; exit 3",
}


@pytest.mark.parametrize("how", FAIL)
def test_where_one_compiler_fails_the_next_is_tried_and_kept(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    real = shutil.which("cc")
    put_compiler(tmp_path / "bin" / "cc", FAIL[how])
    put_compiler(tmp_path / "bin" / "gcc", f'exec {real} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert load_library(empty_cache).lenet_forward
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert load_library(empty_cache).lenet_forward


def test_a_compiler_that_goes_by_the_name_it_is_called_by(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ccache and distcc are called through links that have the compiler's name."""
    script = f'[ "$(basename "$0")" = cc ] && exec {shutil.which("cc")} "$@"; exit 1'
    wrapper = put_compiler(tmp_path / "programs" / "ccache", script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cc").symlink_to(wrapper)
    (tmp_path / "bin" / "gcc").symlink_to("nowhere")
    for name in ("basename", "as", "ld"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert load_library(empty_cache).lenet_forward


def test_what_is_no_file_in_the_place_of_a_library_is_passed_over(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody writes into would be waited for, a device be read for ever."""
    path = Path(load_library(empty_cache)._name)
    key = path.name.rpartition("-")[0]
    os.mkfifo(empty_cache / f"{key}-0.so")
    (empty_cache / f"{key}-1.so").symlink_to("/dev/zero")
    (empty_cache / f"{key}-2.so").mkdir()
    with (empty_cache / f"{key}-3.so").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert load_library(empty_cache)._name == str(path)


def test_it_is_built_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_library(empty_cache)
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    load_library(empty_cache)


def test_a_truncated_library_is_built_again(empty_cache: Path, cache: Path, native: NativeNetwork) -> None:
    del native  # it is built
    for path in cache.glob("*.so"):
        shutil.copy(path, empty_cache)
        (empty_cache / path.name).write_bytes(path.read_bytes()[:-1000])
    load_library(empty_cache)
    assert any(hashlib.sha256(path.read_bytes()).hexdigest()[:20] in path.name for path in empty_cache.glob("*.so"))


def test_a_cache_that_others_can_write_is_refused(empty_cache: Path) -> None:
    empty_cache.chmod(0o777)
    with pytest.raises(NativeUnavailableError, match="others can write"):
        load_library(empty_cache)


def test_a_cache_of_another_user_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: empty_cache.stat().st_uid + 1)
    with pytest.raises(NativeUnavailableError, match="another user"):
        load_library(empty_cache)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NativeUnavailableError, match="cannot be made"):
        load_library(tmp_path / "file" / "cache")


def test_a_cache_that_cannot_be_written_is_named(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _content: bytes) -> None:
        raise StorageError(f"{path}: cannot write: Read-only file system")

    monkeypatch.setattr(build, "write_bytes", refuse)
    with pytest.raises(NativeUnavailableError, match=r"the cache cannot be written: .*lenet-.*Read-only file system"):
        load_library(empty_cache)


def test_processes_that_build_at_once_all_get_it(empty_cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lenet_mnist.model.native.build import load_library; "
        "load_library(Path(sys.argv[1])).lenet_forward"
    )
    command = [sys.executable, "-c", program, str(empty_cache)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert list(empty_cache.glob("*.part")) == []
