"""LeNet in PyTorch as others write it: the loop of pytorch/examples, and a plain loop over tensors in memory."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from common import data_access
from peers.worker import EVALUATION_CHUNK, MOMENTUM, THREADS, Arrays, Epoch, Setting, in_turn

PACKAGES = ("torch", "torchvision")
Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Optimize = Callable[[nn.Module], tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]]


def of_batches(setting: Setting, batches: Batches, val_batches: Batches, optimize: Optimize) -> Callable[[], Epoch]:
    """Train torch's own layers in the lecture's order, with torch's initial weights."""
    torch.set_num_threads(THREADS or torch.get_num_threads())
    torch.manual_seed(setting.seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    optimizer, scheduler = optimize(model)

    def train_epoch() -> None:
        model.train()
        for images, labels in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            right = [model(images).argmax(dim=1) == labels for images, labels in val_batches()]
        return torch.cat(right).double().mean().item()

    return in_turn(train_epoch, accuracy)


def with_sgd(setting: Setting) -> Optimize:
    def optimize(model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        sgd = torch.optim.SGD(model.parameters(), lr=setting.learning_rate, momentum=MOMENTUM)
        steps = setting.decay_steps
        return sgd, torch.optim.lr_scheduler.LinearLR(sgd, 1.0, 0.0, steps) if steps else None

    return optimize


def examples(arrays: Arrays, setting: Setting) -> Callable[[], Epoch]:
    """The loop of pytorch/examples: torchvision decodes and normalises each image whenever it is shown."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    mnist = MNIST(data_access().directory, train=True, transform=transform)
    train = Subset(mnist, arrays["train_indices"][: setting.num_images].tolist())
    val = Subset(mnist, arrays["val_indices"].tolist())
    train_loader = DataLoader(train, batch_size=setting.batch_size, shuffle=True)
    val_loader = DataLoader(val, batch_size=EVALUATION_CHUNK)
    return of_batches(setting, lambda: train_loader, lambda: val_loader, with_sgd(setting))


def plain(arrays: Arrays, setting: Setting, optimize: Optimize | None = None) -> Callable[[], Epoch]:
    """All images as one tensor, and one index operation a batch."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    images, val_images = (tensors[name].unsqueeze(1) for name in ("train_images", "val_images"))

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        order = torch.randperm(setting.num_images).split(setting.batch_size)
        return ((images[chosen], tensors["train_labels"][chosen]) for chosen in order)

    def val_batches() -> Iterable[tuple[Tensor, Tensor]]:
        chunks = (each.split(EVALUATION_CHUNK) for each in (val_images, tensors["val_labels"]))
        return zip(*chunks, strict=True)

    return of_batches(setting, batches, val_batches, optimize or with_sgd(setting))
