"""One experiment, as frozen and validated values. Every field says what it is, in which unit, and what is allowed.

Where the data lie and where runs go are no part of an experiment: see `--data-dir` and `--runs-dir`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lenet_mnist.errors import ConfigError

MAX_SEED = 2**63 - 1
MAX_TEACHERS = 100
_MAX_TEACHERS_LETTERS = 30_000  # of their names together: a run's configuration must stay one that is read
AUTO = "auto"


class Activation(StrEnum):
    """The function between the layers (lecture points 5 and 6)."""

    SIGMOID = "sigmoid"
    TANH = "tanh"
    RELU = "relu"


class Optimizer(StrEnum):
    """How a gradient becomes a change of the weights."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(StrEnum):
    """How the learning rate moves while training goes on; see training/schedule.py."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"
    ONE_CYCLE = "one-cycle"
    PLATEAU = "plateau"


class Keep(StrEnum):
    """Which epoch's weights a training keeps: that of the lowest validation loss, or the last one."""

    BEST = "best"
    LAST = "last"


class Device(StrEnum):
    """Where the arithmetic happens. `auto`: the CPU if the native engine is there, else a GPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Engine(StrEnum):
    """What computes the network; see model/engines.py."""

    AUTO = "auto"
    TORCH = "torch"
    NATIVE = "native"


class Source(StrEnum):
    """Data that have a name; `data.source` is one of these, or a directory (docs/data.md)."""

    MNIST = "mnist"
    FASHION_MNIST = "fashion-mnist"
    KMNIST = "kmnist"
    DIGITS = "digits"


class Split(StrEnum):
    """Parts of the data that a network is evaluated on (lecture point 9)."""

    TEST = "test"
    VAL = "val"


def _part_size(value: Any) -> Any:
    """Accept a count of images or a fraction of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number of images, or a fraction between 0 and 1")
    if isinstance(value, int) and value < 1:
        raise ValueError("must be at least 1 image (or, as a fraction, be written with a point: 0.8)")
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError("as a fraction, must lie between 0 and 1 (a number of images is written without a point)")
    return value


PartSize = Annotated[int | float, BeforeValidator(_part_size)]


def _source(value: str) -> str:
    """Accept a name or a path that can be shown, and written into a file."""
    if not value.isprintable():
        raise ValueError("must be a name or a directory, without control characters")
    return value


SourceName = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_source)]


def _rate(value: Any) -> Any:
    """Accept a number above 0, or the word auto."""
    if value == AUTO:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
        raise ValueError("must be a number above 0 and at most 1,000,000, or auto")
    return float(value)


LearningRate = Annotated[float | Literal["auto"], BeforeValidator(_rate)]


def _runs(value: Any) -> Any:
    """Accept a list of names or paths of runs."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a list of runs, as in [runs/a, runs/b]")
    if not all(name.isprintable() for name in value):
        raise ValueError("must be names or paths without control characters")
    if len(value) > MAX_TEACHERS or sum(map(len, value)) > _MAX_TEACHERS_LETTERS:
        raise ValueError(f"must be at most {MAX_TEACHERS} runs, with {_MAX_TEACHERS_LETTERS:,} letters together")
    return tuple(value)


class Section(BaseModel):
    """Frozen, with no unknown keys, no conversion between types, no nan and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The network (lecture points 3 to 6)."""

    activation: Annotated[Activation, Field(strict=False)] = Activation.RELU
    """Function between the layers: sigmoid, tanh or relu."""


_OF_60_000 = (Source.MNIST, Source.FASHION_MNIST, Source.KMNIST)


class DataConfig(Section):
    """The data and their division (lecture points 9 and 10)."""

    source: SourceName = Source.MNIST.value
    """mnist, fashion-mnist, kmnist, digits, or a directory: of IDX files, or with a folder of pictures a class."""
    train_size: PartSize = 55_000
    """Training part of what is not the test part: a count, or a fraction written with a point."""
    val_size: PartSize = 5_000
    """Validation part of what is not the test part: a count, or a fraction written with a point."""
    split_seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Draws the split. It is apart from `seed`, so that runs over several seeds share one split."""
    limit_train: int | None = Field(default=None, ge=1)
    """Train on this many images of the training part only, stratified; null takes them all."""
    resize: bool = False
    """Scale pictures of other sizes to 28 x 28, instead of refusing them."""
    skip_unreadable: bool = False
    """Leave out pictures that cannot be read, instead of refusing the whole directory."""
    transpose: bool = False
    """Turn the pictures of a directory, which lie on their side as EMNIST's do, upright: rows become columns."""

    @model_validator(mode="after")
    def _what_has_a_name_stands_upright(self) -> "DataConfig":
        if self.transpose and self.source in list(Source):
            raise ValueError(f"data.transpose: is for directories of your own; {self.source} stands upright")
        return self

    @model_validator(mode="before")
    @classmethod
    def _sizes_follow_the_source(cls, values: Any) -> Any:
        """Give what is left out the lecture's numbers: 55,000 and 5,000 of MNIST's kin, 60/20/20 of all others."""
        if not isinstance(values, dict) or values.get("source", Source.MNIST) in _OF_60_000:
            return values
        return {"train_size": 0.75, "val_size": 0.25} | values


class AugmentationConfig(Section):
    """How the training images are distorted, each anew in every epoch; all 0: not at all. docs/augmentation.md."""

    rotation: float = Field(default=0.0, ge=0, le=180)
    """Degrees: each image is turned by an angle drawn evenly between -rotation and rotation."""
    scale: float = Field(default=0.0, ge=0, le=0.5)
    """Each image is magnified by a factor drawn evenly between 1 - scale and 1 + scale."""
    shear: float = Field(default=0.0, ge=0, le=0.5)
    """Each image is slanted: a step down moves it sideways by a share of a step between -shear and shear."""
    shift: float = Field(default=0.0, ge=0, le=10)
    """Pixels: each image is moved, across and down, by distances drawn evenly between -shift and shift."""
    elastic: float = Field(default=0.0, ge=0, le=5)
    """Pixels: root mean square of the smooth random displacement of each pixel, across and down alike."""
    elastic_sigma: float = Field(default=5.0, ge=2, le=100)
    """Pixels: standard deviation of the Gaussian that smooths `elastic`; the larger, the more it moves as a whole."""
    views: int | None = Field(default=None, ge=1, le=100_000)
    """Epochs after which the same views of the images come again; null distorts them anew in every epoch."""

    @property
    def is_on(self) -> bool:
        """Whether anything is distorted."""
        return any((self.rotation, self.scale, self.shear, self.shift, self.elastic))


class TrainingConfig(Section):
    """The fit of the weights, and when it ends (lecture point 12)."""

    max_epochs: int = Field(default=8, ge=1, le=100_000)
    """Passes over the training images, at most; early stopping may end the run before."""
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    """Images in one update; the last batch of an epoch holds what is left."""
    optimizer: Annotated[Optimizer, Field(strict=False)] = Optimizer.SGD
    """sgd (with momentum), adam or adamw."""
    learning_rate: LearningRate = 0.04
    """Peak learning rate, which the schedule scales; auto searches for it before training."""
    learning_rate_budget: float | None = Field(default=None, gt=0, le=1e6)
    """With learning_rate auto: what the search may cost, in epochs; null takes twice max_epochs."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd; adam and adamw do not read it."""
    nesterov: bool = False
    """Nesterov's form of the momentum; sgd with a momentum above 0 only."""
    weight_decay: float = Field(default=1e-3, ge=0, le=1e3)
    """Added to the gradient times the weights (sgd, adam), or taken off the weights directly (adamw)."""
    schedule: Annotated[Schedule, Field(strict=False)] = Schedule.LINEAR
    """constant, linear (to zero), cosine (to zero), one-cycle, or plateau (driven by the validation loss)."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all updates during which the learning rate rises from near zero to its peak."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """With schedule plateau: what the learning rate is multiplied by when the validation loss rests."""
    plateau_patience: int = Field(default=2, ge=0)
    """With schedule plateau: epochs without improvement that are borne before the rate is reduced."""
    patience: int | None = Field(default=5, ge=1)
    """Epochs without improvement of the validation loss after which training stops; null never stops early."""
    keep: Annotated[Keep, Field(strict=False)] = Keep.BEST
    """Whose weights are kept: best (the epoch of the lowest validation loss) or last (of a rate that falls to zero)."""
    teachers: Annotated[tuple[str, ...], BeforeValidator(_runs)] = ()
    """Finished runs to learn from too: their mean logits on the same images as the network sees them."""
    distillation_temperature: float = Field(default=2.0, ge=0.1, le=100)
    """With teachers: what their logits and the network's are divided by before they are compared."""
    distillation_weight: float = Field(default=1.0, ge=0, le=1)
    """With teachers: the share of their answers in the loss; the rest is the labels'."""
    min_delta: float = Field(default=0.0, ge=0)
    """Nats by which the validation loss must fall to count as improvement for `patience`."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Updates after which the training state is saved, besides the end of each epoch; null saves it only there."""
    device: Annotated[Device, Field(strict=False)] = Device.AUTO
    """auto, cpu, cuda or mps."""
    engine: Annotated[Engine, Field(strict=False)] = Engine.AUTO
    """auto, torch or native: auto takes the native one where a C compiler is found and the settings are covered."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads; null takes OMP_NUM_THREADS or one a core. The last bits of a result depend on it: runs record it."""

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate as a number. Raises: ValueError if it is still to be searched for."""
        if isinstance(self.learning_rate, str):
            raise ValueError("training.learning_rate is auto: search for it first (tuning/auto.py)")
        return self.learning_rate

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "TrainingConfig":
        if self.nesterov and (self.optimizer is not Optimizer.SGD or self.momentum == 0):
            raise ValueError("training.nesterov: true needs optimizer sgd and a momentum above 0")
        return self


class Config(Section):
    """One experiment, complete. The same Config gives the same network, on the CPU of one machine with one engine."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    """Part of the run's directory name: letters, digits, - and _, at most 40; null takes the activation's name."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Draws the starting weights, the order of the images and their distortions."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def label(self) -> str:
        """What the run is called."""
        return self.name or self.model.activation.value

    def replace(self, values: Mapping[str, Any]) -> "Config":
        """Return this configuration with other values, by dotted key. Raises: ConfigError with the wrong `key`."""
        changed = self.model_dump()
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            (changed.setdefault(section, {}) if section else changed)[name] = value
        try:
            return Config.model_validate(changed)
        except ValidationError as error:
            key, message = first_problem(error)
            raise ConfigError(f"{key}: {message}", key=key) from None


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the dotted key of the first wrong value, and in one line what is wrong with it."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    named, _, rule = message.partition(": ")
    if named.startswith(f"{key}."):  # a rule over several values, which names one of them itself
        return named, rule
    shown = repr(first["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return key, f"{message}, but it is {shown}"
