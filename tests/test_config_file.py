"""Configuration: what is declared, strict YAML in and out, layers, and messages that name file and key."""

import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lenet_mnist.config import MAX_SEED, AugmentationConfig, Config
from lenet_mnist.config_file import (
    FLAGS,
    KNOWN_KEYS,
    MAX_CONFIG_BYTES,
    Layer,
    annotated_yaml,
    load_config,
    parse_seeds,
    parse_yaml,
    resolve,
    to_yaml,
)
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.sections import fields_of, flat_values

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "any.yaml"


@pytest.fixture
def refusal_of(any_file: Path) -> Callable[[str | bytes], str]:
    """Return what is said about a file that must be refused, without the file's name, which must come first."""

    def refusal_of(content: str | bytes) -> str:
        any_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as caught:
            load_config(any_file)
        message = str(caught.value)
        assert message.startswith(f"{any_file}: "), content
        return message.removeprefix(f"{any_file}: ")

    return refusal_of


def yaml_of(key: str, value: str) -> str:
    """Return a file that sets one dotted key."""
    section, _, name = key.rpartition(".")
    return f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n"


def read(path: Path, text: str) -> Config:
    path.write_text(text, encoding="utf-8")
    return load_config(path).config


# What is declared.


def test_every_value_has_a_meaning_and_a_flag_of_its_own() -> None:
    assert tuple(flat_values(Config())) == KNOWN_KEYS
    assert all(field.description for field in fields_of(Config).values())
    assert len(set(FLAGS.values())) == len(KNOWN_KEYS)
    assert (FLAGS["training.learning_rate"], FLAGS["data.limit_train"]) == ("--lr", "--limit-train")


def test_docs_options_is_what_config_py_declares() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "options_page.py"))["page"]()
    assert page == (ROOT / "docs" / "options.md").read_text(), "run scripts/options_page.py"
    assert all(f"`{key}`" in page for key in KNOWN_KEYS)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().training.momentum = 0.5  # type: ignore[misc]


def test_the_sizes_that_are_left_out_follow_the_source(any_file: Path) -> None:
    for source, sizes in {"kmnist": (55_000, 5_000), "digits": (0.75, 0.25), "./mine": (0.75, 0.25)}.items():
        data = read(any_file, f"data: {{source: {source}}}").data
        assert (data.train_size, data.val_size) == sizes
    assert read(any_file, "data: {source: digits, val_size: 100}").data.val_size == 100


def test_values_at_their_limits_are_taken_and_beyond_them_refused(refusal_of: Callable[[str], str]) -> None:
    for key, allowed, refused in (
        ("seed", MAX_SEED, MAX_SEED + 1),
        ("data.limit_train", 1, 0),
        ("augmentation.rotation", 180, 180.1),
        ("training.momentum", 0, 1),
        ("training.patience", None, 0),
        ("training.schedule", "one-cycle", "one_cycle"),
        ("model.activation", "tanh", "RELU"),
        ("name", "n" * 40, "n" * 41),
    ):
        assert flat_values(resolve([Layer("here", {key: allowed})]).config)[key] == allowed
        assert refusal_of(yaml_of(key, str(refused))).startswith(f"{key}: "), key


def test_types_are_not_converted_and_numbers_are_finite(refusal_of: Callable[[str], str]) -> None:
    for value in ("true", "'3'", "3.0", "word", "010", "[1]", "{a: 1}"):
        assert refusal_of(yaml_of("training.max_epochs", value)).startswith("training.max_epochs: ")
    for value in ("true", "'1e-3'", "null", "no", "010", ".nan", ".inf", "-.inf", "1e999"):
        assert refusal_of(yaml_of("training.warmup", value)).startswith("training.warmup: ")
    for value in ("no", "on", "1", "'true'"):
        assert refusal_of(yaml_of("training.nesterov", value)).startswith("training.nesterov: ")


def test_a_part_is_a_count_or_a_fraction(refusal_of: Callable[[str], str], any_file: Path) -> None:
    for value in (".nan", ".inf", "-.inf", "0", "0.0", "-1", "-0.5", "1.0", "1.5", "true", "'3'", "null"):
        assert refusal_of(yaml_of("data.val_size", value)).startswith("data.val_size: ")
    for value in (1, 0.5):
        found = read(any_file, yaml_of("data.val_size", str(value))).data.val_size
        assert (found, type(found)) == (value, type(value))


def test_a_learning_rate_is_a_number_above_zero_or_auto(refusal_of: Callable[[str], str], any_file: Path) -> None:
    for value in ("0", "-1", "1000001", ".nan", ".inf", "true", "null", "'1e-3'", "word", "Auto", "010", "[1]"):
        message = refusal_of(yaml_of("training.learning_rate", value))
        assert message.startswith("training.learning_rate: must be a number above 0 and at most 1,000,000, or auto")
    for text, rate in (("1", 1.0), ("1e-3", 0.001), ("1000000", 1e6), ("auto", "auto")):
        found = read(any_file, yaml_of("training.learning_rate", text)).training.learning_rate
        assert (found, type(found)) == (rate, type(rate))
    with pytest.raises(ValueError, match="auto"):
        _ = Config.of({"training.learning_rate": "auto"}).training.peak_learning_rate


def test_nesterov_and_muon_need_momentum_and_a_named_source_is_upright(refusal_of: Callable[[str], str]) -> None:
    assert Config.of({"training.nesterov": True}).training.nesterov
    for line in ("momentum: 0", "optimizer: adam", "optimizer: adamw"):
        assert refusal_of(f"training: {{{line}, nesterov: true}}").startswith("training.nesterov: ")
    assert refusal_of("training: {optimizer: muon, momentum: 0}").startswith("training.momentum: ")
    assert refusal_of("data: {transpose: true}").startswith("data.transpose: ")
    assert Config.of({"data.transpose": True, "data.source": "./mine"}).data.transpose


def test_a_name_is_fit_for_a_directory_and_a_long_value_is_cut(refusal_of: Callable[[str], str]) -> None:
    for name in ("''", "../up", "a/b", "-a", "_a", "a b", "ä", '"relu\\n"', "2024", "1e3"):
        assert refusal_of(f"name: {name}").startswith("name: ")
    for teachers in ("runs/a", "['']", "[3]", '["a\\n"]', f"[{', '.join(['a'] * 101)}]"):
        assert refusal_of(f"training: {{teachers: {teachers}}}").startswith("training.teachers: ")
    assert len(refusal_of(f"seed: {'x' * 5000}")) < 200


# YAML.


def test_plain_words_are_read_as_in_yaml_1_2() -> None:
    plain = ("1e-3", "1E5", "-2.5e+1", ".5", "5.", "+3", "0", "-7", "true", "False", "null", "~", "")
    values = (0.001, 100_000.0, -25.0, 0.5, 5.0, 3, 0, -7, True, False, None, None, None)
    for text, value in zip(plain, values, strict=True):
        found = parse_yaml(text, origin="here")
        assert (found, type(found)) == (value, type(value)), text
    numbers_of_yaml_1_1 = ("010", "-010", "1:30", "0x10", "0o17", "0b1", "1_000", "1e", "2001-01-01")
    for word in ("no", "No", "on", "off", "yes", "y", "n", "tRUE", "nan", "inf", "<<", "=", *numbers_of_yaml_1_1):
        assert parse_yaml(word, origin="here") == word


def test_an_unknown_key_is_named_with_its_neighbour(refusal_of: Callable[[str], str]) -> None:
    for text, key, neighbour in (
        ("training: {learning_rat: 1}", "training.learning_rat", "training.learning_rate"),
        ("learning_rate: 1", "learning_rate", "training.learning_rate"),
        ("sed: 1", "sed", "seed"),
        ("model: {max_epochs: 1}", "model.max_epochs", "training.max_epochs"),
        ("training: {max_epochs: {a: 1}, batchsize: 3}", "training.batchsize", "training.batch_size"),
        ("trainig: {}", "trainig", "training"),
        ("Data: {}", "Data", "data"),
    ):
        assert refusal_of(text) == f"{key}: unknown key. Did you mean {neighbour}?"
    for key in ("zzz", ".", "", "<<"):
        assert refusal_of(f"'{key}': 1") == f"{key}: unknown key. `lenet config show` lists all keys"


def test_a_key_is_a_word_and_given_once(refusal_of: Callable[[str], str]) -> None:
    for text, line, key in (
        ("seed: 1\nseed: 2\n", 2, "seed"),
        ("training: {max_epochs: 1, max_epochs: 1}\n", 1, "max_epochs"),
        ("training:\n  max_epochs: 1\ntraining:\n  batch_size: 2\n", 3, "training"),
    ):
        assert refusal_of(text) == f"line {line}: duplicate key '{key}'"
    for key in ("1", "null", "true", "[a]", "{a: b}", "1.5"):
        assert "is not a word" in refusal_of(f"? {key}\n: 1")
    assert "training.max_epochs" in refusal_of("training.max_epochs: 3\ntraining: {max_epochs: 4}\n")


def test_a_file_has_keys_and_a_section_has_keys(refusal_of: Callable[[str], str], any_file: Path) -> None:
    for text in ("", " \n\n", "# nothing but a comment\n", "---\n...\n", "null"):
        assert refusal_of(text).startswith("empty")
    for text in ("- a\n- b\n", "word", "3", "1.5", "true", "[]"):
        assert "expected keys and values" in refusal_of(text)
    for value in ("3", "[1]", "word", "false", "''"):
        assert refusal_of(f"training: {value}").startswith("training: is a section")
    for text in ("training:\n", "training: {}\n", "{}", "training: null\nmodel: {}\n"):
        assert read(any_file, text) == Config()


def test_a_file_is_utf_8_and_text(refusal_of: Callable[[bytes], str], any_file: Path) -> None:
    for content in (b"\xff\xfe\x00s", b"seed: \xe9\n", b"\x80\x02}.", "seed: 3".encode("utf-16"), b"n\xe4me: 1"):
        assert "UTF-8" in refusal_of(content)
    for content in (b"\x00", b"\x7fELF\x02\x01\x01\x00", b"seed: \x1b[2J"):
        assert refusal_of(content).startswith("not YAML")
    any_file.write_bytes(b"\xef\xbb\xbfseed: 7\n")  # with a byte order mark
    assert load_config(any_file).config.seed == 7


def test_a_file_is_there_and_not_too_large(refusal_of: Callable[[str], str], tmp_path: Path, any_file: Path) -> None:
    for path, problem in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=f"^{path}: {problem}"):
            load_config(path)
    assert read(any_file, "seed: 1".rjust(MAX_CONFIG_BYTES, "\n")).seed == 1
    assert refusal_of("seed: 1".rjust(MAX_CONFIG_BYTES + 1, "\n")).startswith("larger than")
    with any_file.open("r+b") as file:
        file.truncate(50_000_000)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(any_file)


def test_aliases_and_deep_nesting_are_refused(refusal_of: Callable[[str], str]) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi"))
    for text in ("seed: &x 1\nname: *x\n", bomb, "training: &t {learning_rate: *t}\n"):
        assert "aliases" in refusal_of(text)
    for opening in ("[", "{a: ", "- ", "? "):
        assert refusal_of(opening * (MAX_CONFIG_BYTES // len(opening))) == "nested too deeply"


def test_what_is_not_plain_yaml_is_refused_with_its_line(refusal_of: Callable[[str], str]) -> None:
    broken = ("seed: [1", "seed: 'open", "\tseed: 1", "seed: 1\n  name: a", "seed: 3\n---\nseed: 4\n", "seed: @3")
    tagged = ("!!python/object/apply:os.getcwd []", "!mine 3", "!!int word", "!!timestamp 2001-99-99", "!!binary a")
    for text in (*broken, "%YAML 9.9\n---\nseed: 1", "a: b: c", *(f"seed: {tag}" for tag in tagged), "!!map [a]"):
        assert refusal_of(text).startswith("line "), text
    for digits in (4000, 5000):  # Python reads 4,300 at most
        assert refusal_of("seed: " + "9" * digits)


# Layers.


def test_flags_win_over_set_over_the_file_over_the_defaults(any_file: Path) -> None:
    any_file.write_text("seed: 1\ntraining: {max_epochs: 1, batch_size: 1, momentum: 0.1}\n")
    assignments = [f"training.{each}" for each in ("max_epochs=2", "batch_size=2", "max_epochs=3")]
    resolved = load_config(any_file, assignments, {"training.batch_size": 3})
    training = resolved.config.training
    assert (resolved.config.seed, training.max_epochs, training.batch_size, training.momentum) == (1, 3, 3, 0.1)
    assert resolved.origins == {
        "seed": str(any_file),
        "training.max_epochs": "--set training.max_epochs=3",
        "training.batch_size": "--batch-size",
        "training.momentum": str(any_file),
    }
    assert (load_config().config, load_config().origins) == (Config(), {})


def test_an_assignment_is_read_as_yaml() -> None:
    for assignment, key, value in (
        ("training.learning_rate=1e-3", "training.learning_rate", 0.001),
        (" seed = 3", "seed", 3),
        ("training.patience=null", "training.patience", None),
        ("data={val_size: 7}", "data.val_size", 7),
        ("name=no", "name", "no"),
    ):
        resolved = load_config(assignments=[assignment])
        assert flat_values(resolved.config)[key] == value
        assert resolved.origins == {key: f"--set {assignment}"}
    for assignment in (
        *("seed", "", "=3", "seed=", "seed=no", "training=3", "seed={a: 1}", "training.max_epochs.x=3", "training.=3"),
        *(".seed=3", "seed=[", "seed=*x", "sed=3", "training={learning_rat: 1}", "seed=!!bool x"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(assignments=[assignment])
        assert str(caught.value).startswith(f"--set {assignment}: ")


def test_an_error_names_the_flag_or_the_layer_that_broke_a_rule(any_file: Path) -> None:
    for key, flag in FLAGS.items():
        with pytest.raises(ConfigError) as caught:
            load_config(flags={key: {}})
        assert str(caught.value).startswith(f"{flag}: {key}: ")
    any_file.write_text("training: {momentum: 0}")
    with pytest.raises(ConfigError, match=r"^--set training\.nesterov=true: training\.nesterov: "):
        load_config(any_file, ["training.nesterov=true"])


def test_an_error_of_later_use_gets_the_origin_of_its_key() -> None:
    resolved = load_config(assignments=["data.val_size=59999", "training.nesterov=true"])
    with pytest.raises(ConfigError) as caught, resolved.naming_origins():
        raise ConfigError("too large", key="data.val_size")
    assert str(caught.value) == "--set data.val_size=59999: data.val_size: too large"
    with pytest.raises(ConfigError) as caught, resolved.naming_origins():
        resolved.config.replace({"training.momentum": 0.0})
    assert str(caught.value).startswith("--set training.nesterov=true: training.nesterov: true needs")
    for error in (ConfigError("no key"), ConfigError("a default", key="seed"), DataError("else"), ValueError("a bug")):
        with pytest.raises(type(error)) as other, resolved.naming_origins():
            raise error
        assert other.value is error


def test_replaced_values_are_validated_like_the_first_ones() -> None:
    config = Config.of({"data.source": "digits"})
    changes = {"training.learning_rate": 0.5, "model.activation": "tanh", "seed": 3, "name": None}
    other = config.replace(changes)
    assert flat_values(other) == flat_values(config) | changes
    assert type(other.model.activation) is type(config.model.activation)
    whole = config.replace({"augmentation": AugmentationConfig(shift=2)})
    assert flat_values(whole) == flat_values(config) | {"augmentation.shift": 2}
    for key, values in {
        "training.learning_rate": {"training.learning_rate": -1},
        "training.learning": {"training.learning": 1},
        "seed": {"training.momentum": 0.5, "seed": True},
        "seed.x": {"seed.x": 1},
        "train.momentum": {"train.momentum": 1},
        "training.nesterov": {"training.nesterov": True, "training.optimizer": "adam"},
    }.items():
        with pytest.raises(ConfigError, match=f"^{key}: ") as caught:
            config.replace(values)
        assert caught.value.key == key


def test_a_rate_that_was_chosen_for_another_network_is_said() -> None:
    assert load_config().notes == ()
    for name, rate in (("sigmoid", "0.2"), ("tanh", "0.05")):
        recipe = load_config(ROOT / "configs" / f"{name}.yaml")
        assert recipe.notes == ()
        assert recipe.config.training.learning_rate == float(rate)
        (note,) = load_config(flags={"model.activation": name}).notes
        assert f"--config {name} is a recipe for it (--lr {rate})" in note
        assert load_config(assignments=[f"model.activation={name}", "training.learning_rate=0.04"]).notes == ()
    (note,) = load_config(assignments=["training.optimizer=adam"]).notes
    assert "adam" in note


def test_seeds_are_numbers_and_ranges() -> None:
    for text, seeds in (
        *(("0", [0]), ("0,7", [0, 7]), ("7,0-2", [7, 0, 1, 2]), (" 1 - 2 , 5 ", [1, 2, 5]), ("1,1,0-2", [1, 0, 2])),
        *(("0-999", list(range(1000))), ("9" * 18, [10**18 - 1])),
    ):
        assert parse_seeds(text) == seeds
    wrong = (",", "1,", "a", "1.5", "-1", "1--2", "1-2-3", "4-0", "0-1000", "1e3", "0x1", "1 2", "9" * 5000)
    for text in ("", *wrong, "0-999999999999999999"):
        with pytest.raises(ConfigError) as caught:
            parse_seeds(text)
        assert str(caught.value).startswith(f"--seeds {text}: ")


# Out and in again, and whatever comes.


NAMES = st.from_regex(r"[0-9]{1,3}[eE_]-?[0-9]{1,3}", fullmatch=True) | st.sampled_from(
    ["no", "null", "true", "010", "1", "0x1F", "0o7", "y", "2001-01-01", "A-z_09", "n" * 40]
)
SOURCES = st.sampled_from(["mnist", "digits", "./shapes", "~/a b", "1e3", "null", "a: b", "é"])
TEACHERS = st.lists(st.sampled_from(["teacher-0", "runs/a: b", "1e3", "null", "é, [b]", "# c"]))
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "seed": st.integers(0, MAX_SEED),
        "model.activation": st.sampled_from(["sigmoid", "tanh", "relu"]),
        "data.source": SOURCES,
        "data.train_size": st.integers(1) | st.floats(0, 1, exclude_min=True, exclude_max=True),
        "data.limit_train": st.none() | st.integers(1),
        "data.resize": st.booleans(),
        "augmentation.rotation": st.floats(0, 180),
        "training.learning_rate": st.floats(0, 1e6, exclude_min=True) | st.just("auto"),
        "training.schedule": st.sampled_from(["constant", "one-cycle", "plateau"]),
        "training.min_delta": st.floats(0, allow_nan=False, allow_infinity=False),
        "training.teachers": TEACHERS,
    },
).map(Config.of)


@given(config=CONFIGS)
@example(Config(name="1e3"))
@example(Config(name="12E-3"))
def test_a_config_written_and_read_is_the_same_config(any_file: Path, config: Config) -> None:
    assert read(any_file, to_yaml(config)) == config
    assert read(any_file, annotated_yaml(resolve([Layer("# a: 'b' \"", flat_values(config))]))) == config


def test_the_annotation_says_where_each_value_came_from(any_file: Path) -> None:
    for assignment in ("seed=3", "seed=\n 3", "seed=\r3", "seed=\x853", "seed=\u20283"):
        resolved = load_config(assignments=[assignment], flags={"training.learning_rate": 0.5})
        text = annotated_yaml(resolved)
        any_file.write_text(text, encoding="utf-8", newline="")
        assert load_config(any_file).config == resolved.config
        assert "  learning_rate: 0.5                  # --lr\n" in text
        assert "  momentum: 0.9                       # default\n" in text


TAGS = ["bool", "int", "float", "null", "str", "timestamp", "binary", "map", "seq", "set", "omap", "pairs"]
SIGNS = [": ", ": ", ": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ", ", "? ", "&a ", "*a", "#", "|\n", "'", '"', "\\"]
VALUES = ["1", "-1", "1e3", "0.5", ".nan", "true", "null", "''", "0x", "1:3", "=", "<<"]
WORDS = [*KNOWN_KEYS, "training", "data", "model", "max_epochs", "learning_rate", *SIGNS, *VALUES]
HEAPS = st.lists(st.sampled_from(WORDS + [f"!!{tag} " for tag in TAGS]) | st.text(max_size=3), max_size=12)


@settings(max_examples=400)
@given(content=HEAPS.map(lambda heap: "".join(heap).encode("utf-8", "replace")) | st.binary(max_size=200))
def test_any_file_is_refused_or_read(any_file: Path, content: bytes) -> None:
    any_file.write_bytes(content)
    try:
        assert isinstance(load_config(any_file).config, Config)
    except ConfigError as error:
        assert str(error).startswith(f"{any_file}: ")  # noqa: PT017  # either is right; anything else is a bug
