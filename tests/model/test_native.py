"""The native engine against the torch form, and everything that can stand in its way."""

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from lenet_mnist.model.engines import TORCH, ResolvedEngine, Target, resolve_engine, torch_gradient, torch_network
from lenet_mnist.model.native import binding, build
from lenet_mnist.model.native.binding import NativeNetwork, parameter_shapes
from lenet_mnist.model.native.build import (
    BUILD_LOG,
    VARIANTS,
    NativeUnavailableError,
    file_name,
    load_library,
    source_key,
)
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.state import TrainState

pytestmark = pytest.mark.compiler
CPU = torch.device("cpu")
Compilers = Callable[..., Path]
PROCESSORS = ("native", "x86-64-v3", "x86-64")
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
EXTREME = AugmentationConfig(rotation=180, scale=0.5, shear=0.5, shift=10, elastic=5, elastic_sigma=2)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("native")
    directory.chmod(0o700)
    return directory


@pytest.fixture(scope="session")
def native(cache: Path) -> NativeNetwork:
    return NativeNetwork(load_library(cache))


@pytest.fixture
def empty_cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    return directory


def problem(num_images: int = 5, num_classes: int = 10) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return images, parameters and the gradient of the logits."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_images, 1, 28, 28, generator=generator)
    parameters = [torch.randn(shape, generator=generator) * 0.2 for shape in parameter_shapes(num_classes).values()]
    return images, parameters, torch.randn(num_images, num_classes, generator=generator)


def solve(network, images: Tensor, parameters: list[Tensor], weights: Tensor, activation: Activation) -> list[Tensor]:
    """Return logits and gradients, in float64."""
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    logits = network(images, leaves, activation)
    logits.backward(weights)
    return [logits.detach().double(), *(leaf.grad.double() for leaf in leaves)]


def require_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) <= 5e-6


def require_exact(found: list[Tensor], images: Tensor, parameters: list[Tensor], weights: Tensor, activation) -> None:
    """The logits and gradients must be those of float64, up to float32's rounding."""
    doubles = [parameter.double() for parameter in parameters]
    require_close(found, solve(torch_network, images.double(), doubles, weights.double(), activation))


def test_logits_and_gradients_are_those_of_float64(native: NativeNetwork) -> None:
    for activation, num_images in itertools.product(Activation, (1, 2, 3, 17, 71)):
        given = problem(num_images)
        require_exact(solve(native, *given, activation), *given, activation)
    for num_classes in (2, 15, 16, 17, 40, 100):
        given = problem(33, num_classes)
        require_exact(solve(native, *given, Activation.TANH), *given, Activation.TANH)
    logits, *gradients = solve(native, *problem(0), Activation.RELU)
    assert logits.shape == (0, 10)
    assert all(not gradient.any() for gradient in gradients)


def labelled(num_images: int = 5, num_classes: int = 10, smoothing: float = 0.0) -> tuple[Tensor, list[Tensor], Target]:
    """Return images, parameters and labels, as the share that one of several processes has of a larger batch."""
    images, parameters, _ = problem(num_images, num_classes)
    labels = torch.randint(num_classes, (num_images,), generator=torch.Generator().manual_seed(1))
    return images, [parameter.requires_grad_() for parameter in parameters], Target(labels, smoothing, num_images + 3)


def require_gradient(found: Tensor, images: Tensor, parameters: list[Tensor], activation, target: Target) -> None:
    """The gradient and the loss must be those of float64, and as many images right."""
    doubles = [parameter.detach().double().requires_grad_() for parameter in parameters]
    expected = torch_gradient(images.double(), doubles, activation, target)
    require_close([found[:-2].double(), found[-2:-1].double()], [expected[:-2], expected[-2:-1]])
    assert found[-1] == expected[-1]


def test_the_gradient_of_the_loss_is_that_of_float64(native: NativeNetwork) -> None:
    for activation, num_images, smoothing in itertools.product(Activation, (1, 5, 71), (0.0, 0.3)):
        *given, target = labelled(num_images, smoothing=smoothing)
        require_gradient(native.gradient(*given, activation, target), *given, activation, target)
    for num_classes in (2, 15, 16, 17, 100):
        *given, target = labelled(33, num_classes, 0.1)
        require_gradient(native.gradient(*given, Activation.TANH, target), *given, Activation.TANH, target)


def test_a_label_that_does_not_exist_is_refused(native: NativeNetwork) -> None:
    for label in (-1, 10, 2**40):
        images, parameters, target = labelled()
        target.labels[3] = label
        with pytest.raises(IndexError, match="10 classes"):
            native.gradient(images, parameters, Activation.RELU, target)


def test_older_processors_compute_the_same(cache: Path) -> None:
    for activation, processor in itertools.product(Activation, PROCESSORS[1:]):
        *given, target = labelled(7)
        found = NativeNetwork(load_library(cache, processor)).gradient(*given, activation, target)
        require_gradient(found, *given, activation, target)


def test_tanh_keeps_its_digits_near_zero(native: NativeNetwork) -> None:
    images, parameters, weights = problem()
    biases_of_0 = [p if p.dim() > 1 else torch.zeros_like(p) for p in parameters[2:]]
    for scale in (1e-2, 1e-4, 1e-6):
        given = (images, [p * scale for p in parameters[:2]] + biases_of_0, weights)
        require_exact(solve(native, *given, Activation.TANH), *given, Activation.TANH)


def before_a_protected_page(tensor: Tensor) -> Tensor:
    """Return a copy behind which nothing can be read or written: the process would end."""
    size = tensor.numel() * tensor.element_size()
    end = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, end + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + end
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=end - size)
    return copy.view(tensor.shape).copy_(tensor)


def test_nothing_is_read_or_written_behind_a_buffer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 3 threads, and so with more threads than images."""
    allocate = binding._bytes
    monkeypatch.setattr(binding, "_bytes", lambda count: before_a_protected_page(allocate(count)))
    for processor, (num_images, num_classes) in itertools.product(PROCESSORS, ((1, 2), (9, 17), (33, 10))):
        images, parameters, weights = problem(num_images, num_classes)
        protected = [before_a_protected_page(tensor) for tensor in (images, *parameters, weights)]
        leaves = [parameter.requires_grad_() for parameter in protected[1:-1]]
        network = NativeNetwork(load_library(cache, processor))
        network.set_threads(3)
        logits = network(protected[0], leaves, Activation.TANH)
        logits.backward(protected[-1])
        found = [logits.detach().double(), *(leaf.grad.double() for leaf in leaves)]
        require_exact(found, images, parameters, weights, Activation.TANH)
        images, parameters, target = labelled(num_images, num_classes)
        target = target._replace(labels=before_a_protected_page(target.labels))
        gradient = network.gradient(protected[0], leaves, Activation.TANH, target)
        require_gradient(gradient, images, parameters, Activation.TANH, target)


def distortion_problem(config: AugmentationConfig = EXTREME) -> tuple[Tensor, Tensor, Distortions]:
    """Return images, chosen ones, and the distortions of all."""
    images = torch.randint(256, (7, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([6, 0, 6, 3, 5]), draw(config, 28, 0, 1, np.arange(7))


def test_augmenting_reads_and_writes_nothing_behind_a_buffer_and_gives_torchs_bits(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for processor, config in itertools.product(PROCESSORS, (EXTREME, AugmentationConfig(shift=1))):
        images, chosen, distortions = distortion_problem(config)
        protected = [before_a_protected_page(tensor) if tensor.numel() else tensor for tensor in (images, *distortions)]
        network, empty = NativeNetwork(load_library(cache, processor)), torch.empty
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", lambda *shape, empty=empty: before_a_protected_page(empty(*shape)))
            network.set_threads(3)
            found = network.resample(protected[0], before_a_protected_page(chosen), tuple(protected[1:]), 33.3, 0.0123)
        assert torch.equal(found, resample(images, chosen, distortions, 33.3, 0.0123))


def test_an_image_that_does_not_exist_is_refused(native: NativeNetwork) -> None:
    images, chosen, distortions = distortion_problem()
    assert native.resample(images, chosen[:0], distortions, 0.0, 1.0).shape == (0, 1, 28, 28)
    for place in (-1, 7, 2**40, -(2**62)):
        chosen[3] = place
        with pytest.raises(IndexError, match="there are 7"):
            native.resample(images, chosen, distortions, 0.0, 1.0)


def test_what_the_c_code_relies_on_is_checked_for_augmentation(native: NativeNetwork) -> None:
    images, chosen, distortions = distortion_problem()
    many = Distortions(distortions.maps, torch.zeros(7, 19, 19).byte(), torch.zeros(19, 28), torch.zeros(28, 19))
    for named, *given in (
        (r"images: torch\.float32", images.float(), chosen, distortions),
        ("chosen: not contiguous", images, chosen[::2], distortions),
        (r"chosen: torch\.int32", images, chosen.int(), distortions),
        ("maps: ", images, chosen, distortions._replace(maps=distortions.maps[1:])),
        ("noise: ", images, chosen, distortions._replace(noise=distortions.noise[1:])),
        ("noise: ", images, chosen, distortions._replace(across=distortions.across[1:])),
        ("down: ", images, chosen, distortions._replace(down=distortions.down[1:])),
        ("19 knots", images, chosen, many),
    ):
        with pytest.raises(ValueError, match=named):
            native.resample(*given, 0.0, 1.0)


def test_of_equal_values_the_first_is_the_argmax_as_in_torch(native: NativeNetwork) -> None:
    """C1 hands on pixels that are 0 or 1: most windows tie, and the patch around the argmax tells which one it was."""
    images, parameters, weights = problem(3)
    parameters[0].zero_()[:, 0, 2, 2] = 1
    parameters[1].zero_()
    given = ((images > 0).float(), parameters, weights)
    for activation in Activation:
        require_close(solve(native, *given, activation), solve(torch_network, *given, activation))


def test_the_same_threads_give_the_same_bits(native: NativeNetwork) -> None:
    given = problem(10)
    for threads in (1, 2, 3):
        native.set_threads(threads)
        first, second = (solve(native, *given, Activation.TANH) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        require_exact(first, *given, Activation.TANH)
        assert native.threads == threads


def test_calls_at_the_same_time_and_in_a_forked_process_give_the_same_bits(native: NativeNetwork) -> None:
    *given, target = labelled(71)
    native.set_threads(3)

    def gradient(_: object = None) -> Tensor:
        return native.gradient(*given, Activation.RELU, target)

    expected = gradient()
    with ThreadPoolExecutor(4) as callers:
        assert all(torch.equal(found, expected) for found in callers.map(gradient, range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, of any fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(7 if all(torch.equal(gradient(), expected) for _ in range(20)) else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert torch.equal(gradient(), expected)


def test_subnormal_numbers_count_as_zero_inside_and_outside_as_before(native: NativeNetwork) -> None:
    """A saturated network's gradients are full of them, and many processors are far slower with them."""
    images, parameters, weights = problem(num_images=70)
    saturated = [50 * parameter for parameter in parameters]
    native.set_threads(2)
    _, *gradients = solve(native, images, saturated, 1e-36 * weights, Activation.SIGMOID)
    values = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    assert values.max() > 1e-36
    assert values[values > 0].min() >= torch.finfo(torch.float32).tiny
    small = torch.full((100_000,), 1e-20)  # for both threads
    assert (small * small).min() > 0


def test_a_parameter_that_is_not_finite_is_noticed(native: NativeNetwork) -> None:
    """One of the convolutions shows in every logit.

    Of the dense layers, a saturated unit hides it from the loss, in torch as here, but then not from the gradient of
    the layer before.
    """
    for activation, place, poison in itertools.product(Activation, range(10), NOT_FINITE):
        images, parameters, weights = problem(2)
        parameters[place].view(-1)[3] = poison
        if place < 4:
            assert native(images, parameters, activation).isnan().all()
            continue
        found, expected = (solve(each, images, parameters, weights, activation) for each in (native, torch_network))
        is_finite = [all(bool(value.isfinite().all()) for value in values) for values in (found, expected)]
        assert is_finite[0] == is_finite[1]


def test_a_pixel_that_is_not_a_number_shows_in_its_image_only(native: NativeNetwork) -> None:
    images, parameters, _ = problem(3)
    images[1, 0, 13, 14] = float("nan")
    for activation in Activation:
        logits = native(images, parameters, activation)
        assert logits[1].isnan().any()
        assert torch.equal(logits.isnan(), torch_network(images, parameters, activation).isnan())


def test_what_the_c_code_relies_on_is_checked(native: NativeNetwork) -> None:
    images, parameters, _ = problem()
    for named, pixels, weights in (
        (r"images: torch\.float64", images.double(), parameters),
        (r"images: torch\.float32 \(5, 1, 28, 27\)", images[..., 1:], parameters),
        ("images: not contiguous", images.transpose(2, 3), parameters),
        ("C3 weights", images, [*parameters[:2], parameters[2].transpose(0, 1), *parameters[3:]]),
        ("C1 biases", images, [parameters[0], parameters[1][:5], *parameters[2:]]),
        ("F6 weights: not contiguous", images, [*parameters[:6], parameters[6].t().contiguous().t(), *parameters[7:]]),
        ("10,001 classes", images, [*parameters[:8], torch.zeros(10_001, 84), torch.zeros(10_001)]),
    ):
        with pytest.raises(ValueError, match=named):
            native(pixels, weights, Activation.RELU)


def test_what_is_not_offered_is_refused(native: NativeNetwork) -> None:
    images, parameters, _ = problem()
    with pytest.raises(RuntimeError, match="no gradient of the images"):
        native(images.clone().requires_grad_(), parameters, Activation.RELU)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    squares = native(images, leaves, Activation.TANH).square().sum()
    (gradient, *_) = torch.autograd.grad(squares, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_training_is_the_same_up_to_rounding_and_repeats_itself(native: NativeNetwork, small: TrainVal) -> None:
    smooth = {"activation": Activation.TANH}  # rounding may move a ReLU over its kink, and the training elsewhere
    config = Config.model_validate({"model": smooth, "training": {"max_epochs": 1, "batch_size": 50}})

    def trained(engine: ResolvedEngine) -> tuple[str, float]:
        rows = []
        state = TrainState.start(config, Context(small, engine=engine))
        train(config, Context(small), state, on_epoch=rows.append)
        return weights_digest(state.network.state_dict()), rows[0].val_loss

    ours = ResolvedEngine(Engine.NATIVE, "", native, native.gradient, native.set_threads)
    (first, loss), (second, _) = trained(ours), trained(ours)
    assert first == second
    assert trained(TORCH)[1] == pytest.approx(loss, rel=0.02)


# Choosing the engine.


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    """The engine is checked once per process; here each test has its own check."""
    engines._native_network.cache_clear()
    yield
    engines._native_network.cache_clear()


def test_auto_takes_native_where_it_can(cache: Path) -> None:
    assert resolve_engine(Engine.AUTO, CPU, 28, cache).name is Engine.NATIVE
    assert resolve_engine(Engine.TORCH, CPU, 28, cache) is TORCH
    for device, size, why in (("cuda", 28, "CPU"), ("cpu", 32, "28 x 28")):
        instead = resolve_engine(Engine.AUTO, torch.device(device), size, cache)
        assert instead.name is Engine.TORCH
        assert why in instead.reason
        with pytest.raises(ConfigError, match=why) as caught:
            resolve_engine(Engine.NATIVE, torch.device(device), size, cache)
        assert caught.value.key == "training.engine"


@pytest.mark.usefixtures("_asked_anew")
def test_an_engine_that_computes_something_else_is_not_used(
    native: NativeNetwork, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "NativeNetwork", lambda _library: native)
    for way in ("__call__", "gradient"):
        right = getattr(NativeNetwork, way)
        with monkeypatch.context() as patch:
            patch.setattr(NativeNetwork, way, lambda *given, right=right: right(*given) * 1.001)
            engines._native_network.cache_clear()
            resolved = resolve_engine(Engine.AUTO, CPU, 28, cache)
        assert resolved.name is Engine.TORCH
        assert "not agree" in resolved.reason


@pytest.mark.usefixtures("_asked_anew")
def test_without_the_native_folder_the_torch_engine_remains(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".binding", ".build"):
        monkeypatch.setitem(sys.modules, f"lenet_mnist.model.native{name}", None)
    assert resolve_engine(Engine.AUTO, CPU, 28, cache).name is Engine.TORCH


# Building.

AS_OUTPUT = 'while [ "$1" != -o ]; do shift; done; '
FAILURES = ("exit 3", "exit 0", AS_OUTPUT + 'echo nonsense >"$2"', "exec /nowhere/cc", "read answer; exit 3")


@pytest.fixture
def compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compilers:
    """Return what puts compilers, scripts by their names, into a new directory of programs, and into PATH."""

    def put(**scripts: str) -> Path:
        directory = Path(tempfile.mkdtemp(dir=tmp_path))
        if scripts:  # in front of those that the system has
            scripts = dict.fromkeys(("clang", "cc", "gcc"), "exit 1") | scripts
        for name, script in scripts.items():
            (directory / name).write_text(f"#!/bin/sh\n{script}\n")
            (directory / name).chmod(0o755)
        monkeypatch.setitem(sys.modules, "ziglang", None)  # a package that make wheels installs
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin" if scripts else str(directory))
        return directory

    return put


@pytest.fixture
def copying(cache: Path, native: NativeNetwork) -> str:
    """A compiler that hands out what has been compiled: a compilation takes seconds."""
    del native  # it is built
    return f'{AS_OUTPUT}cp {next(cache.glob("*.so"))} "$2"'


@pytest.fixture
def prebuilt(tmp_path: Path, native: NativeNetwork, cache: Path) -> Path:
    """A directory of libraries as a wheel brings it, for three kinds of processor: here all are the same."""
    del native  # it is built
    directory = tmp_path / "prebuilt"
    directory.mkdir()
    content = next(cache.glob("*.so")).read_bytes()
    for variant in VARIANTS:
        (directory / file_name(f"{variant}-{source_key()}", content)).write_bytes(content)
    return directory


def test_the_library_that_came_with_the_package_comes_first(empty_cache: Path, compilers: Compilers, prebuilt) -> None:
    compilers()
    library = load_library(empty_cache, prebuilt=prebuilt)
    best = VARIANTS[library.functions.lenet_processor()]
    assert Path(library.functions._name).parent == prebuilt
    assert Path(library.functions._name).name.startswith(f"lenet-{best}-")
    assert best in library.origin
    assert list(empty_cache.iterdir()) == []


def test_a_library_that_is_damaged_or_of_another_version_is_named_and_passed_over(
    empty_cache: Path, compilers: Compilers, copying: str, prebuilt: Path
) -> None:
    compilers(clang=copying)
    best = VARIANTS[load_library(empty_cache, prebuilt=prebuilt).functions.lenet_processor()]
    (path,) = prebuilt.glob(f"lenet-{best}-*")
    path.write_bytes(path.read_bytes()[:-1000])
    if best != VARIANTS[0]:
        library = load_library(empty_cache, prebuilt=prebuilt)
        assert Path(library.functions._name).parent == prebuilt
        assert f"for {best} is missing or damaged" in library.origin
    (path,) = prebuilt.glob(f"lenet-{VARIANTS[0]}-*")
    path.rename(path.with_name(path.name.replace(source_key(), "0" * 12)))
    library = load_library(empty_cache, prebuilt=prebuilt)
    assert Path(library.functions._name).parent == empty_cache
    assert library.origin.startswith("compiled by clang")
    assert str(prebuilt) in library.origin


def test_without_a_compiler_or_if_all_fail_the_reason_is_said(empty_cache: Path, compilers: Compilers) -> None:
    compilers()
    with pytest.raises(NativeUnavailableError, match="no C compiler"):
        load_library(empty_cache)
    words = {name: f"printf '{name}: unknown processor \\377' >&2; exit 3" for name in ("clang", "cc", "gcc")}
    compilers(**words)
    with pytest.raises(NativeUnavailableError, match=r"clang failed with exit code 3.*gcc failed"):
        load_library(empty_cache)
    for name in words:
        assert f"{name}: unknown processor" in (empty_cache / BUILD_LOG.format(name)).read_text()


def test_where_one_compiler_fails_the_next_is_tried_and_kept(
    tmp_path: Path, compilers: Compilers, copying: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in FAILURES:
        compilers(cc=script, gcc=copying)
        cache = Path(tempfile.mkdtemp(dir=tmp_path))  # which is private
        assert load_library(cache).functions.lenet_forward, script
        with monkeypatch.context() as patch:
            patch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
            assert load_library(cache).functions.lenet_forward, script


def test_a_compiler_that_goes_by_the_name_it_is_called_by(
    empty_cache: Path, compilers: Compilers, copying: str
) -> None:
    """Ccache and distcc are called through links that have the compiler's name."""
    directory = compilers(ccache=f'[ "$(basename "$0")" = cc ] || exit 1; {copying}', gcc="exit 1", clang="exit 1")
    (directory / "cc").unlink()
    (directory / "cc").symlink_to(directory / "ccache")
    assert load_library(empty_cache).functions.lenet_forward


def test_it_is_built_once_and_what_is_not_a_library_is_skipped(
    empty_cache: Path, compilers: Compilers, copying: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody writes into would be waited for, a device be read for ever."""
    compilers(cc=copying, gcc=copying, clang=copying)
    path = Path(load_library(empty_cache).functions._name)
    key = path.name.rpartition("-")[0]
    os.mkfifo(empty_cache / f"{key}-0.so")
    (empty_cache / f"{key}-1.so").symlink_to("/dev/zero")
    (empty_cache / f"{key}-2.so").mkdir()
    with (empty_cache / f"{key}-3.so").open("wb") as file:
        file.truncate(1 << 40)
    with monkeypatch.context() as patch:
        patch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
        assert load_library(empty_cache).functions._name == str(path)
    truncated = Path(tempfile.mkdtemp(dir=empty_cache), path.name)
    truncated.write_bytes(path.read_bytes()[:-1000])
    assert Path(load_library(truncated.parent).functions._name) == truncated  # it was built again
    assert truncated.read_bytes() == path.read_bytes()


def test_a_cache_that_cannot_be_used_is_named(
    empty_cache: Path, compilers: Compilers, copying: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilers(cc=copying, gcc=copying, clang=copying)
    (empty_cache / "file").write_text("")
    with pytest.raises(NativeUnavailableError, match="cannot make"):
        load_library(empty_cache / "file" / "cache")

    def refuse(path: Path, _content: bytes) -> None:
        raise StorageError(f"{path}: Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_bytes", refuse)
        with pytest.raises(NativeUnavailableError, match=r"lenet-.*Read-only file system"):
            load_library(empty_cache)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: empty_cache.stat().st_uid + 1)
        with pytest.raises(NativeUnavailableError, match="different user"):
            load_library(empty_cache)
    empty_cache.chmod(0o777)
    with pytest.raises(NativeUnavailableError, match="others can write"):
        load_library(empty_cache)


def test_processes_that_build_at_once_all_get_it(empty_cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lenet_mnist.model.native.build import load_library; "
        "load_library(Path(sys.argv[1])).functions.lenet_forward"
    )
    command = [sys.executable, "-c", program, str(empty_cache)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, words = process.communicate(timeout=300)
        assert process.returncode == 0, words
    assert list(empty_cache.glob("*.part")) == []
