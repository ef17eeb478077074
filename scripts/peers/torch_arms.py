"""LeNet in PyTorch as others write it: the loop of pytorch/examples, and a plain loop over tensors in memory."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from common import data_access
from peers.arm import EVALUATION_CHUNK, MOMENTUM, Arm, Arrays, Setting


class TorchArm(Arm):
    """Torch's own layers in the lecture's order, with torch's initial weights."""

    packages = ("torch", "torchvision")

    def __init__(self, arrays: Arrays, threads: int) -> None:
        super().__init__(arrays, threads)
        torch.set_num_threads(threads)

    def start(self, setting: Setting) -> None:
        torch.manual_seed(setting.seed)
        self.setting = setting
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=setting.learning_rate, momentum=MOMENTUM)
        self.scheduler = None
        if setting.decay_steps:
            self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, setting.decay_steps)

    def update(self, loss: torch.Tensor) -> None:
        """Make one update."""
        loss.backward()
        self.optimizer.step()
        if self.scheduler:
            self.scheduler.step()


class Examples(TorchArm):
    """The loop of pytorch/examples: torchvision decodes and normalises each image whenever it is shown."""

    def __init__(self, arrays: Arrays, threads: int) -> None:
        super().__init__(arrays, threads)
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        self.mnist = MNIST(data_access().directory, train=True, transform=transform)
        self.val_loader = DataLoader(Subset(self.mnist, arrays.val_indices.tolist()), batch_size=EVALUATION_CHUNK)

    def start(self, setting: Setting) -> None:
        super().start(setting)
        train = Subset(self.mnist, self.arrays.train_indices[: setting.num_images].tolist())
        self.train_loader = DataLoader(train, batch_size=setting.batch_size, shuffle=True)

    def train_epoch(self) -> None:
        self.model.train()
        for data, target in self.train_loader:
            self.optimizer.zero_grad()
            self.update(F.cross_entropy(self.model(data), target))

    def accuracy(self) -> float:
        self.model.eval()
        correct = 0
        with torch.no_grad():
            for data, target in self.val_loader:
                correct += self.model(data).argmax(dim=1).eq(target).sum().item()
        return correct / len(self.arrays.val_indices)


class Plain(TorchArm):
    """All images as one tensor, and one index operation a batch."""

    def __init__(self, arrays: Arrays, threads: int) -> None:
        super().__init__(arrays, threads)
        self.images = torch.from_numpy(arrays.train_images).unsqueeze(1)
        self.labels = torch.from_numpy(arrays.train_labels)
        self.val_images = torch.from_numpy(arrays.val_images).unsqueeze(1)
        self.val_labels = torch.from_numpy(arrays.val_labels)

    def train_epoch(self) -> None:
        for chosen in torch.randperm(self.setting.num_images).split(self.setting.batch_size):
            self.optimizer.zero_grad()
            self.update(F.cross_entropy(self.model(self.images[chosen]), self.labels[chosen]))

    def accuracy(self) -> float:
        with torch.no_grad():
            chunks = self.val_images.split(EVALUATION_CHUNK)
            predictions = torch.cat([self.model(images).argmax(dim=1) for images in chunks])
        return (predictions == self.val_labels).double().mean().item()
