"""Configuration: strict YAML in and out, the layers that make one Config, messages that name file and key."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lenet_mnist.config import MAX_SEED, Config
from lenet_mnist.config_file import (
    KNOWN_KEYS,
    MAX_CONFIG_BYTES,
    Layer,
    annotated_yaml,
    flat_values,
    load_config,
    parse_seeds,
    parse_yaml,
    resolve,
    to_yaml,
)
from lenet_mnist.errors import ConfigError, DataError

INTEGER_KEYS = (
    "seed",
    "data.split_seed",
    "data.limit_train",
    "training.max_epochs",
    "training.batch_size",
    "training.plateau_patience",
    "training.patience",
    "training.threads",
)
NUMBER_KEYS = (
    "augmentation.rotation",
    "augmentation.scale",
    "augmentation.shear",
    "augmentation.shift",
    "augmentation.elastic",
    "augmentation.elastic_sigma",
    "training.momentum",
    "training.weight_decay",
    "training.warmup",
    "training.plateau_factor",
    "training.min_delta",
)


def yaml_for(key: str, value: str) -> str:
    """Return a file that sets one dotted key."""
    section, _, name = key.rpartition(".")
    return f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "my.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def refusal_of(write: Callable[[str | bytes], Path]) -> Callable[[str | bytes], str]:
    """Return what is said about a file that must be refused, without the file's name, which must stand first."""

    def refusal_of(content: str | bytes) -> str:
        path = write(content)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        name, message = str(caught.value)[: len(str(path))], str(caught.value)[len(str(path)) :]
        assert name == str(path)
        return message.removeprefix(": ")

    return refusal_of


# Defaults and values.


def test_the_defaults() -> None:
    assert flat_values(Config()) == {
        "name": None,
        "seed": 0,
        "model.activation": "relu",
        "data.source": "mnist",
        "data.train_size": 55_000,
        "data.val_size": 5_000,
        "data.split_seed": 0,
        "data.limit_train": None,
        "data.resize": False,
        "data.skip_unreadable": False,
        "data.transpose": False,
        "augmentation.rotation": 0.0,
        "augmentation.scale": 0.0,
        "augmentation.shear": 0.0,
        "augmentation.shift": 0.0,
        "augmentation.elastic": 0.0,
        "augmentation.elastic_sigma": 5.0,
        "augmentation.views": None,
        "training.max_epochs": 8,
        "training.batch_size": 64,
        "training.optimizer": "sgd",
        "training.learning_rate": 0.04,
        "training.learning_rate_budget": None,
        "training.momentum": 0.9,
        "training.nesterov": False,
        "training.weight_decay": 0.001,
        "training.schedule": "linear",
        "training.warmup": 0.1,
        "training.plateau_factor": 0.5,
        "training.plateau_patience": 2,
        "training.patience": 5,
        "training.keep": "best",
        "training.teachers": (),
        "training.distillation_temperature": 2.0,
        "training.distillation_weight": 1.0,
        "training.min_delta": 0.0,
        "training.checkpoint_every_steps": None,
        "training.device": "auto",
        "training.engine": "auto",
        "training.threads": None,
    }
    assert tuple(flat_values(Config())) == KNOWN_KEYS


def test_no_layer_at_all_is_the_defaults() -> None:
    resolved = load_config()
    assert resolved.config == Config()
    assert resolved.origins == {}


@pytest.mark.parametrize("section", ["", "model", "data", "augmentation", "training"])
def test_a_config_cannot_be_changed(section: str) -> None:
    config = Config()
    part = getattr(config, section) if section else config
    name = next(iter(type(part).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, name, getattr(part, name))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", MAX_SEED),
        ("data.split_seed", MAX_SEED),
        ("data.train_size", 0.5),
        ("data.train_size", 1),
        ("data.limit_train", 1),
        ("augmentation.rotation", 180),
        ("augmentation.scale", 0.5),
        ("augmentation.shear", 0.5),
        ("augmentation.shift", 10),
        ("augmentation.elastic", 5),
        ("augmentation.elastic_sigma", 2),
        ("augmentation.elastic_sigma", 100),
        ("training.max_epochs", 100_000),
        ("training.learning_rate", 1_000_000),
        ("training.momentum", 0),
        ("training.patience", None),
        ("training.threads", 1024),
        ("model.activation", "tanh"),
        ("training.schedule", "one-cycle"),
        ("name", "A-z_09"),
        ("name", "n" * 40),
    ],
)
def test_the_extreme_allowed_values_are_taken(key: str, value: Any) -> None:
    resolved = resolve([Layer("here", {key: value})])
    assert flat_values(resolved.config)[key] == value
    assert resolved.origins[key] == "here"


@pytest.mark.parametrize(
    ("optimizer", "momentum", "is_allowed"),
    [("sgd", 0.9, True), ("sgd", 0.0, False), ("adam", 0.9, False), ("adamw", 0.9, False)],
)
def test_nesterov_needs_sgd_with_momentum(
    write: Callable[[str], Path], optimizer: str, momentum: float, is_allowed: bool
) -> None:
    path = write(f"training: {{optimizer: {optimizer}, momentum: {momentum}, nesterov: true}}")
    if is_allowed:
        assert load_config(path).config.training.nesterov is True
    else:
        with pytest.raises(ConfigError, match=r"my\.yaml: training\.nesterov: .*sgd"):
            load_config(path)


# What YAML's plain words mean.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100_000.0),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+3", 3),
        ("0", 0),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_truths_and_nothing_are_read_as_in_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, origin="here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "word",
    [
        *("no", "No", "on", "off", "yes", "y", "n"),
        *("010", "-010", "1:30", "0x10", "0o17", "0b1", "1_000", "1e"),
        "2001-01-01",
        "<<",
        "=",
        "nan",
        "inf",
        "tRUE",
    ],
)
def test_everything_else_is_a_word(word: str) -> None:
    assert parse_yaml(word, origin="here") == word


@pytest.mark.parametrize("key", NUMBER_KEYS)
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999"])
def test_no_number_may_be_infinite_or_none_at_all(refusal_of: Callable[[str], str], key: str, value: str) -> None:
    assert refusal_of(yaml_for(key, value)).startswith(f"{key}: should be a finite number")


@pytest.mark.parametrize("key", ["data.train_size", "data.val_size"])
@pytest.mark.parametrize(
    "value", [".nan", ".inf", "-.inf", "0", "0.0", "-1", "-0.5", "1.0", "1.5", "true", "'3'", "null"]
)
def test_a_part_is_a_count_or_a_fraction(refusal_of: Callable[[str], str], key: str, value: str) -> None:
    assert refusal_of(yaml_for(key, value)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "value", ["0", "-1", "1000001", ".nan", ".inf", "true", "null", "'1e-3'", "word", "Auto", "010", "[1]"]
)
def test_a_learning_rate_is_a_number_above_zero_or_auto(refusal_of: Callable[[str], str], value: str) -> None:
    message = refusal_of(yaml_for("training.learning_rate", value))
    assert message.startswith(
        "training.learning_rate: must be a number above 0 and at most 1,000,000, or auto, but it is"
    )


@pytest.mark.parametrize(("value", "expected"), [("1", 1.0), ("1e-3", 0.001), ("1000000", 1e6), ("auto", "auto")])
def test_a_learning_rate_is_read(write: Callable[[str | bytes], Path], value: str, expected: float | str) -> None:
    config = load_config(write(yaml_for("training.learning_rate", value))).config
    assert config.training.learning_rate == expected
    assert type(config.training.learning_rate) is type(expected)


def test_a_rate_that_is_still_searched_for_is_no_number() -> None:
    with pytest.raises(ValueError, match="search for it first"):
        _ = Config.model_validate({"training": {"learning_rate": "auto"}}).training.peak_learning_rate


# Wrong values: file, key, what is wrong, what was given.


@pytest.mark.parametrize("key", INTEGER_KEYS)
@pytest.mark.parametrize(
    ("value", "shown"), [("true", "True"), ("'3'", "'3'"), ("3.0", "3.0"), ("word", "'word'"), ("010", "")]
)
def test_a_whole_number_is_nothing_else(refusal_of: Callable[[str], str], key: str, value: str, shown: str) -> None:
    message = refusal_of(yaml_for(key, value))
    assert message.startswith(f"{key}: should be a valid integer")
    assert shown in message


@pytest.mark.parametrize("key", NUMBER_KEYS)
@pytest.mark.parametrize("value", ["true", "'1e-3'", "null", "no", "010"])
def test_a_number_is_nothing_else(refusal_of: Callable[[str], str], key: str, value: str) -> None:
    assert refusal_of(yaml_for(key, value)).startswith(f"{key}: should be a valid number")


@pytest.mark.parametrize("key", [*INTEGER_KEYS, *NUMBER_KEYS])
def test_a_negative_number_is_refused(refusal_of: Callable[[str], str], key: str) -> None:
    message = refusal_of(yaml_for(key, "-1"))
    assert message.startswith(f"{key}: should be greater than")
    assert message.endswith("but it is -1")


@pytest.mark.parametrize(
    "key",
    [
        "data.limit_train",
        "augmentation.elastic_sigma",
        "training.max_epochs",
        "training.batch_size",
        "training.patience",
        "training.threads",
        "training.learning_rate_budget",
        "training.plateau_factor",
    ],
)
def test_zero_is_refused_where_it_makes_no_sense(refusal_of: Callable[[str], str], key: str) -> None:
    assert refusal_of(yaml_for(key, "0")).startswith(f"{key}: should be greater than")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", str(MAX_SEED + 1)),
        ("data.split_seed", str(MAX_SEED + 1)),
        ("augmentation.rotation", "180.1"),
        ("augmentation.scale", "0.51"),
        ("augmentation.shear", "0.51"),
        ("augmentation.shift", "10.1"),
        ("augmentation.elastic", "5.1"),
        ("augmentation.elastic_sigma", "101"),
        ("training.max_epochs", "100001"),
        ("training.learning_rate_budget", "1000001"),
        ("training.momentum", "1"),
        ("training.weight_decay", "1001"),
        ("training.warmup", "1"),
        ("training.plateau_factor", "1"),
        ("training.threads", "1025"),
    ],
)
def test_a_number_that_is_too_large_is_refused(refusal_of: Callable[[str], str], key: str, value: str) -> None:
    assert refusal_of(yaml_for(key, value)).startswith(f"{key}: should be less than")


@pytest.mark.parametrize("key", KNOWN_KEYS)
@pytest.mark.parametrize("value", ["[1]", "{a: 1}", "''"])
def test_no_key_takes_a_list_a_section_or_an_empty_word(refusal_of: Callable[[str], str], key: str, value: str) -> None:
    assert refusal_of(yaml_for(key, value)).startswith(f"{key}: ")


@pytest.mark.parametrize("value", ["no", "on", "1", "'true'"])
def test_a_truth_is_true_or_false(refusal_of: Callable[[str], str], value: str) -> None:
    assert refusal_of(yaml_for("training.nesterov", value)).startswith("training.nesterov: should be a valid boolean")


@pytest.mark.parametrize(
    ("key", "value", "choice"),
    [
        ("model.activation", "RELU", "'relu'"),
        ("model.activation", "gelu", "'sigmoid', 'tanh' or 'relu'"),
        ("model.activation", "true", "'tanh'"),
        ("training.optimizer", "rmsprop", "'adamw'"),
        ("training.schedule", "one_cycle", "'one-cycle'"),
        ("training.device", "gpu", "'cuda'"),
        ("training.engine", "numba", "'native'"),
    ],
)
def test_the_choices_are_named(refusal_of: Callable[[str], str], key: str, value: str, choice: str) -> None:
    message = refusal_of(yaml_for(key, value))
    assert message.startswith(f"{key}: ")
    assert choice in message


@pytest.mark.parametrize("name", ["''", "../up", "a/b", "-a", "_a", "a b", "ä", '"relu\\n"', "n" * 41, "2024", "1e3"])
def test_a_name_is_fit_for_a_directory(refusal_of: Callable[[str], str], name: str) -> None:
    assert refusal_of(f"name: {name}").startswith("name: ")


def test_a_long_value_is_cut_in_the_message(refusal_of: Callable[[str], str]) -> None:
    assert len(refusal_of(f"seed: {'x' * 5000}")) < 200


# Wrong keys.


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("training: {learning_rat: 1}", "training.learning_rat", "training.learning_rate"),
        ("learning_rate: 1", "learning_rate", "training.learning_rate"),
        ("data: {valsize: 1}", "data.valsize", "data.val_size"),
        ("sed: 1", "sed", "seed"),
        ("model: {max_epochs: 1}", "model.max_epochs", "training.max_epochs"),
        ("training: {max_epochs: {a: 1}, batchsize: 3}", "training.batchsize", "training.batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_its_neighbour(
    refusal_of: Callable[[str], str], text: str, key: str, suggestion: str
) -> None:
    assert refusal_of(text) == f"{key}: unknown key. Did you mean {suggestion}?"


@pytest.mark.parametrize(("wrong", "right"), [("trainig", "training"), ("Data", "data"), ("modell", "model")])
def test_an_unknown_section_is_named_with_its_neighbour(
    refusal_of: Callable[[str], str], wrong: str, right: str
) -> None:
    assert refusal_of(f"{wrong}: {{}}") == f"{wrong}: unknown key. Did you mean {right}?"


@pytest.mark.parametrize("key", ["zzz", ".", "", "<<"])
def test_a_key_without_neighbour_leads_to_the_list(refusal_of: Callable[[str], str], key: str) -> None:
    assert refusal_of(f"'{key}': 1") == f"{key}: unknown key. `lenet config show` lists all keys"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seed: 1\nseed: 2\n", 2, "seed"),
        ("training: {max_epochs: 1, max_epochs: 1}\n", 1, "max_epochs"),
        ("training:\n  max_epochs: 1\ntraining:\n  batch_size: 2\n", 3, "training"),
    ],
)
def test_a_key_given_twice_is_refused(refusal_of: Callable[[str], str], text: str, line: int, key: str) -> None:
    assert refusal_of(text) == f"line {line}: duplicate key '{key}'"


@pytest.mark.parametrize("key", ["1", "null", "true", "[a]", "{a: b}", "1.5"])
def test_a_key_is_a_word(refusal_of: Callable[[str], str], key: str) -> None:
    assert "is not a word" in refusal_of(f"? {key}\n: 1")


def test_a_value_given_in_two_spellings_is_refused(refusal_of: Callable[[str], str]) -> None:
    assert "training.max_epochs" in refusal_of("training.max_epochs: 3\ntraining: {max_epochs: 4}\n")


# Wrong files.


@pytest.mark.parametrize("text", ["", " \n\n", "# nothing but a comment\n", "---\n...\n", "null"])
def test_an_empty_file_is_refused(refusal_of: Callable[[str], str], text: str) -> None:
    assert refusal_of(text).startswith("empty")


@pytest.mark.parametrize("text", ["- a\n- b\n", "word", "3", "1.5", "true", "[]"])
def test_a_file_without_keys_is_refused(refusal_of: Callable[[str], str], text: str) -> None:
    assert "expected keys and values" in refusal_of(text)


@pytest.mark.parametrize("value", ["3", "[1]", "word", "false", "''"])
def test_a_value_in_the_place_of_a_section_is_refused(refusal_of: Callable[[str], str], value: str) -> None:
    assert refusal_of(f"training: {value}") == "training: is a section with keys of its own, not a value"


@pytest.mark.parametrize("text", ["training:\n", "training: {}\n", "{}", "training: null\nmodel: {}\n"])
def test_an_empty_section_changes_nothing(write: Callable[[str], Path], text: str) -> None:
    assert load_config(write(text)).config == Config()


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00s", b"seed: \xe9\n", b"\x80\x02}.", "seed: 3".encode("utf-16"), "näme: 1".encode("latin-1")],
)
def test_a_file_that_is_no_utf_8_is_refused(refusal_of: Callable[[bytes], str], content: bytes) -> None:
    assert "UTF-8" in refusal_of(content)


def test_a_byte_order_mark_is_no_part_of_the_text(any_file: Path) -> None:
    any_file.write_bytes(b"\xef\xbb\xbfseed: 7\n")
    assert load_config(any_file).config.seed == 7


@pytest.mark.parametrize("content", [b"\x00", b"\x7fELF\x02\x01\x01\x00", b"seed: \x1b[2J"])
def test_a_binary_file_is_refused(refusal_of: Callable[[bytes], str], content: bytes) -> None:
    assert refusal_of(content).startswith("not YAML")


def test_a_mark_of_byte_order_is_no_part_of_the_first_key(write: Callable[[str], Path]) -> None:
    assert load_config(write("\ufeffseed: 3")).config.seed == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: no such file"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}: is a directory"):
        load_config(tmp_path)


def test_a_huge_file_is_refused(write: Callable[[bytes], Path]) -> None:
    path = write(b"seed: 1\n")
    with path.open("r+b") as file:
        file.truncate(50_000_000)
    with pytest.raises(ConfigError, match=r"my\.yaml: larger than"):
        load_config(path)


def test_the_largest_file_is_read_whole(write: Callable[[str], Path]) -> None:
    assert load_config(write("seed: 1".rjust(MAX_CONFIG_BYTES, "\n"))).config.seed == 1
    with pytest.raises(ConfigError, match=r"my\.yaml: larger than"):
        load_config(write("seed: 1".rjust(MAX_CONFIG_BYTES + 1, "\n")))


@pytest.mark.parametrize(
    "text",
    [
        "seed: &x 1\nname: *x\n",
        "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")),
        "training: &t {learning_rate: *t}\n",
    ],
    ids=["plain", "bomb", "recursive"],
)  # fmt: skip
def test_aliases_are_refused(refusal_of: Callable[[str], str], text: str) -> None:
    assert "aliases (*name) are not allowed here" in refusal_of(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(refusal_of: Callable[[str], str], opening: str) -> None:
    assert refusal_of(opening * (MAX_CONFIG_BYTES // len(opening))) == "nested too deeply"


@pytest.mark.parametrize(
    "text",
    [
        "seed: [1",
        "seed: 'open",
        "\tseed: 1",
        "seed: 1\n  name: a",
        "seed: 3\n---\nseed: 4\n",
        "%YAML 9.9\n---\nseed: 1",
        "seed: !!python/object/apply:os.getcwd []",
        "seed: !mine 3",
        "seed: @3",
        "a: b: c",
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(refusal_of: Callable[[str], str], text: str) -> None:
    assert refusal_of(text).startswith("line ")


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!bool word",
        "seed: !!int ''",
        "seed: !!int word",
        "seed: !!float ''",
        "seed: !!float 1:x",
        "seed: !!timestamp word",
        "seed: !!timestamp 2001-99-99",
        "seed: !!binary a",
        "name: !!binary aGFsbG8=",
        "!!map [a]",
        "!!map word",
        "!!set [a]",
        "!!omap {a: b}",
        "seed: !!int 0x" + "f" * 5000,
        "training: {learning_rate: !!int 0x" + "f" * 5000 + "}",
        "seed: " + "9" * 5000,
        "seed: " + "9" * 4000,
    ],
    ids=lambda text: text[:36],
)
def test_a_value_that_denies_its_tag_is_refused(refusal_of: Callable[[str], str], text: str) -> None:
    assert refusal_of(text)


# Layers.


def test_flags_win_over_set_over_the_file_over_the_defaults(write: Callable[[str], Path]) -> None:
    path = write("seed: 1\ntraining: {max_epochs: 1, batch_size: 1, momentum: 0.1}\n")
    resolved = load_config(
        path,
        ["training.max_epochs=2", "training.batch_size=2"],
        {"training.batch_size": 3, "training.warmup": 0.25},
    )
    training = resolved.config.training
    assert (resolved.config.seed, training.max_epochs, training.batch_size, training.momentum) == (1, 2, 3, 0.1)
    assert resolved.origins == {
        "seed": str(path),
        "training.max_epochs": "--set training.max_epochs=2",
        "training.batch_size": "--batch-size",
        "training.momentum": str(path),
        "training.warmup": "--warmup",
    }


def test_the_last_of_two_assignments_wins() -> None:
    resolved = load_config(assignments=["seed=1", "seed=2"])
    assert resolved.config.seed == 2
    assert resolved.origins["seed"] == "--set seed=2"


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 0.001),
        (" seed = 3", "seed", 3),
        ("training.patience=null", "training.patience", None),
        ("data={val_size: 7}", "data.val_size", 7),
        ("name=no", "name", "no"),
    ],
)
def test_an_assignment_is_read_as_yaml(assignment: str, key: str, value: object) -> None:
    resolved = load_config(assignments=[assignment])
    assert flat_values(resolved.config)[key] == value
    assert resolved.origins == {key: f"--set {assignment}"}


@pytest.mark.parametrize(
    "assignment",
    [
        "seed",
        "",
        "=3",
        "seed=",
        "seed=no",
        "training=3",
        "seed={a: 1}",
        "training.max_epochs.x=3",
        "training.=3",
        ".seed=3",
        "seed=[",
        "seed=*x",
        "sed=3",
        "training={learning_rat: 1}",
        "seed=!!bool x",
    ],
)
def test_a_wrong_assignment_is_named(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=[assignment])
    assert str(caught.value).startswith(f"--set {assignment}: ")


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("training.learning_rate", "--lr"),
        ("training.max_epochs", "--epochs"),
        ("training.batch_size", "--batch-size"),
        ("training.device", "--device"),
        ("training.engine", "--engine"),
        ("training.threads", "--threads"),
        ("model.activation", "--activation"),
        ("data.limit_train", "--limit-train"),
        ("seed", "--seed"),
        ("name", "--name"),
    ],
)
def test_a_wrong_flag_is_named_as_it_was_typed(key: str, flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(flags={key: -1})
    assert str(caught.value).startswith(f"{flag}: {key}: ")


def test_a_rule_over_two_layers_names_the_one_that_broke_it(write: Callable[[str], Path]) -> None:
    path = write("training: {momentum: 0}")
    with pytest.raises(ConfigError, match=r"^--set training\.nesterov=true: training\.nesterov: "):
        load_config(path, ["training.nesterov=true"])


def test_an_error_of_later_use_gets_the_origin_of_its_key() -> None:
    resolved = load_config(assignments=["data.val_size=59999"])
    with pytest.raises(ConfigError) as caught, resolved.naming_origins():
        raise ConfigError("too large", key="data.val_size")
    assert str(caught.value) == "--set data.val_size=59999: data.val_size: too large"


@pytest.mark.parametrize("error", [ConfigError("no key"), DataError("something else"), ValueError("a bug")])
def test_any_other_error_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, load_config().naming_origins():
        raise error
    assert caught.value is error


# Seeds.


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", [0]),
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,7", [0, 7]),
        ("7,0-2", [7, 0, 1, 2]),
        (" 1 - 2 , 5 ", [1, 2, 5]),
        ("3-3", [3]),
        ("1,1,0-2", [1, 0, 2]),
        ("0-999", list(range(1000))),
        ("999999999999999999", [10**18 - 1]),
    ],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        "a",
        "1.5",
        "-1",
        "1--2",
        "1-2-3",
        "4-0",
        "0-1000",
        "1e3",
        "0x1",
        "1 2",
        "9" * 19,
        "9" * 5000,
        "0-999999999999999999",
    ],
    ids=lambda text: text[:24],
)
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_seeds(text)
    assert str(caught.value).startswith(f"--seeds {text}: ")


# Out and in again, and whatever comes.


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a valid Config."""

    def fraction(**bounds: Any) -> st.SearchStrategy[float]:
        return st.floats(0, 1, exclude_max=True, **bounds)

    seeds = st.integers(0, MAX_SEED)
    parts = st.integers(1) | fraction(exclude_min=True)
    optimizer = draw(st.sampled_from(["sgd", "adam", "adamw"]))
    momentum = draw(fraction())
    values = {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", fullmatch=True)
        | st.from_regex(r"[0-9]{1,3}[eE_]-?[0-9]{1,3}", fullmatch=True)
        | st.sampled_from(["no", "null", "true", "010", "1", "0x1F", "0o7", "y", "2001-01-01"]),
        "seed": seeds,
        "model": st.fixed_dictionaries({"activation": st.sampled_from(["sigmoid", "tanh", "relu"])}),
        "data": st.fixed_dictionaries(
            {
                "source": st.sampled_from(["mnist", "digits", "./shapes", "~/a b", "1e3", "null", "a: b", "é"]),
                "train_size": parts,
                "val_size": parts,
                "split_seed": seeds,
                "limit_train": st.none() | st.integers(1),
                "resize": st.booleans(),
                "skip_unreadable": st.booleans(),
                "transpose": st.booleans(),
            }
        ).filter(lambda data: not (data["transpose"] and data["source"] in ("mnist", "digits"))),
        "augmentation": st.fixed_dictionaries(
            {
                "rotation": st.floats(0, 180),
                "elastic_sigma": st.floats(2, 100),
                "views": st.none() | st.integers(1, 100_000),
            }
        ),
        "training": st.fixed_dictionaries(
            {
                "teachers": st.lists(st.sampled_from(["teacher-0", "runs/a: b", "1e3", "null", "é, [b]", "# c"])),
                "distillation_temperature": st.floats(0.1, 100),
                "distillation_weight": st.floats(0, 1),
                "max_epochs": st.integers(1, 100_000),
                "batch_size": st.integers(1, 1_000_000),
                "optimizer": st.just(optimizer),
                "learning_rate": st.floats(0, 1e6, exclude_min=True),
                "momentum": st.just(momentum),
                "nesterov": st.booleans() if optimizer == "sgd" and momentum > 0 else st.just(False),
                "weight_decay": st.floats(0, 1e3),
                "schedule": st.sampled_from(["constant", "linear", "cosine", "one-cycle", "plateau"]),
                "warmup": fraction(),
                "plateau_factor": fraction(exclude_min=True),
                "plateau_patience": st.integers(0),
                "patience": st.none() | st.integers(1),
                "min_delta": st.floats(0, allow_nan=False, allow_infinity=False),
                "device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
                "engine": st.sampled_from(["auto", "torch", "native"]),
                "threads": st.none() | st.integers(1, 1024),
            }
        ),
    }
    return Config.model_validate(draw(st.fixed_dictionaries(values)))


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "any.yaml"


@given(config=configs())
@example(Config())
@example(Config(name="1e3"))
@example(Config(name="12E-3"))
@example(Config(name="010"))
@example(Config(name="null"))
def test_a_config_written_and_read_is_the_same_config(any_file: Path, config: Config) -> None:
    any_file.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(any_file).config == config


@given(config=configs())
@example(Config(name="1e3"))
@example(Config(name="no"))
def test_an_annotated_config_is_the_same_config(any_file: Path, config: Config) -> None:
    values = flat_values(config)
    any_file.write_text(annotated_yaml(resolve([Layer("# a: 'b' \"", values)])), encoding="utf-8")
    assert load_config(any_file).config == config


@pytest.mark.parametrize("assignment", ["seed=3", "seed=\n 3", "seed=\r3", "seed=\x853", "seed=\u20283"])
def test_the_annotation_says_where_each_value_came_from(any_file: Path, assignment: str) -> None:
    resolved = load_config(assignments=[assignment], flags={"training.learning_rate": 0.5})
    text = annotated_yaml(resolved)
    any_file.write_text(text, encoding="utf-8", newline="")
    assert load_config(any_file).config == resolved.config
    assert "  learning_rate: 0.5                  # --lr\n" in text
    assert "  momentum: 0.9                       # default\n" in text


def refused_or_read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        resolved = load_config(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017  # either is right; anything else is a bug  # either is right; anything else is a bug
    else:
        assert isinstance(resolved.config, Config)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(any_file: Path, content: bytes) -> None:
    refused_or_read(any_file, content)


@given(text=st.text(max_size=200))
def test_any_text_is_refused_or_read(any_file: Path, text: str) -> None:
    refused_or_read(any_file, text.encode("utf-8", "replace"))


TAGS = ["bool", "int", "float", "null", "str", "timestamp", "binary", "map", "seq", "set", "omap", "pairs"]
SIGNS = [": ", ": ", ": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ", ", "? ", "&a ", "*a", "#", "|\n", "'", '"', "\\"]
VALUES = ["1", "-1", "1e3", "0.5", ".nan", "true", "null", "''", "0x", "1:3", "=", "<<"]


@settings(max_examples=400)
@given(
    pieces=st.lists(
        st.sampled_from([*KNOWN_KEYS, "training", "data", "model", "max_epochs", "learning_rate"])
        | st.sampled_from(SIGNS)
        | st.sampled_from([f"!!{tag} " for tag in TAGS])
        | st.sampled_from(VALUES)
        | st.text(max_size=3),
        max_size=12,
    )
)
def test_any_heap_of_yaml_is_refused_or_read(any_file: Path, pieces: list[str]) -> None:
    refused_or_read(any_file, "".join(pieces).encode("utf-8", "replace"))


def test_a_rate_that_was_chosen_for_another_network_is_said() -> None:
    assert load_config().notes == ()
    for name, rate in (("sigmoid", "0.2"), ("tanh", "0.05")):
        recipe = load_config(Path(__file__).parents[1] / "configs" / f"{name}.yaml")
        assert recipe.notes == ()
        assert recipe.config.training.learning_rate == float(rate)
        (note,) = load_config(flags={"model.activation": name}).notes
        assert f"configs/{name}.yaml" in note
        assert f"--lr {rate}" in note
        assert load_config(assignments=[f"model.activation={name}", "training.learning_rate=0.04"]).notes == ()
    (note,) = load_config(assignments=["training.optimizer=adam"]).notes
    assert "adam" in note
    assert "--lr auto" in note


# Other values.


def test_other_values_are_validated_like_the_first_ones() -> None:
    config = Config.model_validate({"data": {"source": "digits"}})
    other = config.replace({"training.learning_rate": 0.5, "model.activation": "tanh", "seed": 3, "name": None})
    assert flat_values(other) == flat_values(config) | {
        "training.learning_rate": 0.5,
        "model.activation": "tanh",
        "seed": 3,
    }
    assert type(other.model.activation) is type(config.model.activation)
    for key, values in {
        "training.learning_rate": {"training.learning_rate": -1},
        "training.learning": {"training.learning": 1},
        "seed": {"training.momentum": 0.5, "seed": True},
        "seat": {"seat": 1},
        "train": {"train.momentum": 1},
        "training.nesterov": {"training.nesterov": True, "training.optimizer": "adam"},
    }.items():
        with pytest.raises(ConfigError, match=f"^{key}: ") as caught:
            config.replace(values)
        assert caught.value.key == key


def test_a_wrong_replacement_gets_the_origin_of_its_key_once() -> None:
    resolved = load_config(assignments=["training.nesterov=true"])
    with pytest.raises(ConfigError) as caught, resolved.naming_origins():
        resolved.config.replace({"training.momentum": 0.0})
    assert str(caught.value).startswith("--set training.nesterov=true: training.nesterov: true needs")
