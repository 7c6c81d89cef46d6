"""A residual network in PyTorch, with the names of torchvision's."""

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")


class BatchNorm(torch.nn.BatchNorm2d):  # type: ignore[misc]  # no types where PyTorch is not installed
    """PyTorch's layer, but that averages the biased variance of a batch: ours has no factor ``n / (n - 1)``."""

    def forward(self, x: Any) -> Any:
        if not self.training:
            return super().forward(x)
        batch = x.detach()
        self.running_mean.mul_(0.9).add_(0.1 * batch.mean((0, 2, 3)))
        self.running_var.mul_(0.9).add_(0.1 * batch.var((0, 2, 3), correction=0))
        return torch.nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> Any:
    return torch.nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)


class Block(torch.nn.Module):  # type: ignore[misc]
    """Two convolutions, or three where it is a bottleneck, and the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        inner = channels // 4 if bottleneck else channels
        self.conv1 = _conv(in_channels, inner, 1) if bottleneck else _conv(in_channels, inner, 3, stride)
        self.bn1 = BatchNorm(inner)
        self.conv2 = _conv(inner, inner, 3, stride if bottleneck else 1)
        self.bn2 = BatchNorm(inner)
        if bottleneck:
            self.conv3 = _conv(inner, channels, 1)
            self.bn3 = BatchNorm(channels)
        self.bottleneck = bottleneck
        self.downsample = None
        if in_channels != channels or stride != 1:
            self.downsample = torch.nn.Sequential(_conv(in_channels, channels, 1, stride), BatchNorm(channels))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(torch.relu(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(torch.nn.Module):  # type: ignore[misc]
    """The whole network."""

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool, num_classes: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm(64)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1)
        channels = 64
        for index, number in enumerate(blocks):
            width = 64 * 2**index * (4 if bottleneck else 1)
            layers = [Block(channels, width, 1 if index == 0 else 2, bottleneck)]
            layers += [Block(width, width, 1, bottleneck) for _ in range(number - 1)]
            setattr(self, f"layer{index + 1}", torch.nn.Sequential(*layers))
            channels = width
        self.fc = torch.nn.Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean((2, 3)))
