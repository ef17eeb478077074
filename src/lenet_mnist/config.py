"""One experiment, as frozen and validated values. An option is declared here, once.

The docstring below a field is its help, with the unit: the flags of the command line, `lenet config schema` and
docs/options.md all take it from here, with the type, the range and the default. A flag is called as its field
(`--batch-size`), unless the field names another (`"flag"`). Where data and runs are is not part of an experiment: see
`--data-dir` and `--runs-dir`.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lenet_mnist.sections import Section

MAX_SEED = 2**63 - 1
MAX_TEACHERS = 100
_MAX_TEACHERS_LETTERS = 30_000  # of all names together: the run's config.yaml must stay small enough to be read
AUTO = "auto"


class Activation(StrEnum):
    """The function between the layers (lecture points 5 and 6)."""

    SIGMOID = "sigmoid"
    TANH = "tanh"
    RELU = "relu"


class Optimizer(StrEnum):
    """How a gradient becomes an update of the weights."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"
    MUON = "muon"


class Schedule(StrEnum):
    """How the learning rate changes during training (training/schedule.py)."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"
    ONE_CYCLE = "one-cycle"
    PLATEAU = "plateau"


class Keep(StrEnum):
    """Which epoch's weights are kept: those with the lowest validation loss, or the last."""

    BEST = "best"
    LAST = "last"


class Device(StrEnum):
    """Where to compute. `auto`: the CPU if the native engine is available, else an NVIDIA GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Engine(StrEnum):
    """What computes the network (model/engines.py)."""

    AUTO = "auto"
    TORCH = "torch"
    NATIVE = "native"


class Source(StrEnum):
    """Datasets with a name; `data.source` is one of these, or a directory (docs/data.md)."""

    MNIST = "mnist"
    FASHION_MNIST = "fashion-mnist"
    KMNIST = "kmnist"
    DIGITS = "digits"


class Split(StrEnum):
    """Parts of the data that a network is evaluated on (lecture point 9)."""

    TEST = "test"
    VAL = "val"


class ExportFormat(StrEnum):
    """What a network can be written as: a page to draw digits on, or the network for other programs."""

    HTML = "html"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"


def _part_size(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_count and not (isinstance(value, float) and 0 < value < 1):
        raise ValueError("must be a number of images, or a fraction between 0 and 1 written with a point, as in 0.8")
    return value


PartSize = Annotated[Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)], BeforeValidator(_part_size)]


def _source(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be a name or a directory, without control characters")
    return value


SourceName = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_source)]


def _rate(value: Any) -> Any:
    if value == AUTO:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
        raise ValueError("must be a number above 0 and at most 1,000,000, or auto")
    return float(value)


LearningRate = Annotated[Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"], BeforeValidator(_rate)]


def _runs(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a list of runs, as in [runs/a, runs/b]")
    if not "".join(value).isprintable():
        raise ValueError("must be names or paths without control characters")
    if len(value) > MAX_TEACHERS or len("".join(value)) > _MAX_TEACHERS_LETTERS:
        raise ValueError(f"must be at most {MAX_TEACHERS} runs, with {_MAX_TEACHERS_LETTERS:,} characters together")
    return tuple(value)


Runs = Annotated[tuple[str, ...], BeforeValidator(_runs)]


class ModelConfig(Section):
    """The network (lecture points 3 to 6)."""

    activation: Activation = Field(Activation.RELU, strict=False)
    """Activation function between the layers."""


class DataConfig(Section):
    """The data and their split (lecture points 9 and 10)."""

    source: SourceName = Field(Source.MNIST.value, examples=list(Source))
    """mnist, fashion-mnist, kmnist, digits, or your own directory: IDX files, or one folder of pictures per class."""
    train_size: PartSize = 55_000
    """Training images, out of those that are not test images: a count, or a fraction such as 0.8."""
    val_size: PartSize = 5_000
    """Validation images, out of those that are not test images: a count, or a fraction such as 0.2."""
    split_seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the train/validation split; separate from `seed`, so that runs with different seeds share one split."""
    limit_train: int | None = Field(None, ge=1)
    """Train on this many of the training images only, stratified by class; null uses all."""
    resize: bool = False
    """Scale pictures of other sizes to 28 x 28, instead of refusing them."""
    skip_unreadable: bool = False
    """Skip pictures that cannot be read, instead of refusing the whole directory."""
    transpose: bool = False
    """Swap rows and columns of the pictures in your own directory; EMNIST's, for example, are stored on their side."""

    @model_validator(mode="after")
    def _named_sources_are_upright(self) -> "DataConfig":
        if self.transpose and self.source in list(Source):
            raise ValueError(f"data.transpose: is for directories of your own; {self.source} is upright already")
        return self

    @model_validator(mode="before")
    @classmethod
    def _sizes_follow_the_source(cls, values: Any) -> Any:
        """Fill in the sizes that are left out: 55,000 and 5,000 of MNIST's relatives, 60/20/20 of all others."""
        of_60_000 = (Source.MNIST, Source.FASHION_MNIST, Source.KMNIST)
        if not isinstance(values, dict) or values.get("source", Source.MNIST) in of_60_000:
            return values
        return {"train_size": 0.75, "val_size": 0.25} | values


class AugmentationConfig(Section):
    """How training images are augmented, differently in each epoch (docs/augmentation.md); all 0: not at all."""

    rotation: float = Field(0.0, ge=0, le=180)
    """Degrees: each image is rotated by an angle drawn uniformly from -rotation to rotation."""
    scale: float = Field(0.0, ge=0, le=0.5)
    """Each image is scaled by a factor drawn uniformly from 1 - scale to 1 + scale."""
    shear: float = Field(0.0, ge=0, le=0.5)
    """Each image is slanted: a pixel down moves it sideways by a fraction of a pixel between -shear and shear."""
    shift: float = Field(0.0, ge=0, le=10)
    """Pixels: each image is moved, across and down, by distances drawn uniformly from -shift to shift."""
    elastic: float = Field(0.0, ge=0, le=5)
    """Pixels: root mean square of the smooth random displacement of each pixel, in each direction."""
    elastic_sigma: float = Field(5.0, ge=2, le=100)
    """Pixels: standard deviation of the Gaussian that smooths `elastic`; larger values move larger regions as one."""
    views: int | None = Field(None, ge=1, le=100_000)
    """Number of epochs after which the augmented images repeat; null never repeats them."""

    @property
    def is_on(self) -> bool:
        return any((self.rotation, self.scale, self.shear, self.shift, self.elastic))


class TrainingConfig(Section):
    """How the weights are trained, and when training ends (lecture point 12)."""

    max_epochs: int = Field(8, ge=1, le=100_000, json_schema_extra={"flag": "--epochs"})
    """Passes over the training images; early stopping may end training sooner."""
    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Images per update; the last batch of an epoch may be smaller."""
    optimizer: Optimizer = Field(Optimizer.SGD, strict=False)
    """How a gradient becomes an update: sgd, adam, adamw, or muon, which makes the momentum of matrices orthogonal."""
    learning_rate: LearningRate = Field(0.04, json_schema_extra={"flag": "--lr"})
    """Peak learning rate, which the schedule scales; auto searches for it before training."""
    learning_rate_budget: float | None = Field(None, gt=0, le=1e6, json_schema_extra={"flag": "--lr-budget"})
    """With learning rate auto: the most epochs of the search; null is twice max_epochs, or the least that it needs."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd and muon, which needs one above 0; adam and adamw ignore it."""
    nesterov: bool = False
    """Nesterov momentum; needs sgd and a momentum above 0."""
    weight_decay: float = Field(1e-3, ge=0, le=1e3)
    """Strength of weight decay: part of the gradient (L2) for sgd and adam, decoupled for adamw and muon."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label spread evenly over all classes in training; shown losses and teachers stay as they are."""
    schedule: Schedule = Field(Schedule.LINEAR, strict=False)
    """How the learning rate changes: linear and cosine fall to zero, plateau follows the validation loss."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Fraction of all updates over which the learning rate rises from near zero to its peak."""
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    """With schedule plateau: factor on the learning rate when the validation loss stops improving."""
    plateau_patience: int = Field(2, ge=0)
    """With schedule plateau: epochs without improvement that are tolerated before the learning rate is reduced."""
    patience: int | None = Field(5, ge=1)
    """Epochs without improvement of the validation loss after which training stops; null never stops early."""
    keep: Keep = Field(Keep.BEST, strict=False)
    """Which epoch's weights are kept: best is the one with the lowest validation loss."""
    teachers: Runs = Field((), json_schema_extra={"flag": "--teacher"})
    """Finished runs to learn from: training fits their mean logits on the same images, not only the labels."""
    distillation_temperature: float = Field(2.0, ge=0.1, le=100)
    """With teachers: divides their logits and the network's before the two are compared."""
    distillation_weight: float = Field(1.0, ge=0, le=1)
    """With teachers: their share of the loss; the rest is the labels', by default none."""
    min_delta: float = Field(0.0, ge=0)
    """Nats by which the validation loss must fall to count as an improvement for `patience`."""
    checkpoint_every_steps: int | None = Field(None, ge=1)
    """Updates between checkpoints, besides the one at the end of each epoch; null saves only that one."""
    device: Device = Field(Device.AUTO, strict=False)
    """Where to compute; auto takes the CPU if the native engine is available, else an NVIDIA GPU if there is one."""
    engine: Engine = Field(Engine.AUTO, strict=False)
    """What computes the network: PyTorch (torch) or our own C code (native); auto takes native where it can."""
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads; null is OMP_NUM_THREADS or one per core. The last digits of a result depend on it."""

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate as a number. Raises: ValueError if it is auto."""
        if isinstance(self.learning_rate, str):
            raise ValueError("training.learning_rate is auto: search for it first (tuning/auto.py)")
        return self.learning_rate

    @model_validator(mode="after")
    def _needs_momentum(self) -> "TrainingConfig":
        if self.nesterov and (self.optimizer is not Optimizer.SGD or self.momentum == 0):
            raise ValueError("training.nesterov: true needs optimizer sgd and a momentum above 0")
        if self.optimizer is Optimizer.MUON and self.momentum == 0:
            raise ValueError("training.momentum: 0 makes muon forget three of four gradients: choose one above 0")
        return self


class Config(Section):
    """One experiment, complete: on one machine's CPU, one engine and number of threads give the same network."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    """Part of the run directory's name: letters, digits, - and _, at most 40; null takes the activation's name."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the starting weights, the order of the images and their augmentation."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @property
    def label(self) -> str:
        return self.name or self.model.activation.value
