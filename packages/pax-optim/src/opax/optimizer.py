"""Optimizers: chains of gradient transformations."""

from opax._adam import adam as adam
from opax._adam import adamw as adamw
from opax._momentum import sgd as sgd

__all__ = ["adam", "adamw", "sgd"]
