"""Whole networks for PAX."""

from pax.nets._resnet import ResNet18 as ResNet18
from pax.nets._resnet import ResNet34 as ResNet34
from pax.nets._resnet import ResNet50 as ResNet50
from pax.nets._resnet import ResNet101 as ResNet101
from pax.nets._resnet import ResNet152 as ResNet152
from pax.nets._resnet import ResNet200 as ResNet200
from pax.nets._torchvision import load_torchvision_weights as load_torchvision_weights
from pax.nets._transformer import Transformer as Transformer

__all__ = [
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet200",
    "Transformer",
    "load_torchvision_weights",
]
