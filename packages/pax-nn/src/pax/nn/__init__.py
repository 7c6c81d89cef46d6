"""Layers for PAX. Every name here is also a name of ``pax``: ``pax.Linear`` is ``pax.nn.Linear``."""

from pax.nn import initializers as initializers
from pax.nn._batch_norm import BatchNorm1D as BatchNorm1D
from pax.nn._batch_norm import BatchNorm2D as BatchNorm2D
from pax.nn._conv import Conv1D as Conv1D
from pax.nn._conv import Conv2D as Conv2D
from pax.nn._dropout import Dropout as Dropout
from pax.nn._dropout import dropout as dropout
from pax.nn._ema import EMA as EMA
from pax.nn._linear import Linear as Linear
from pax.nn._pool import avg_pool as avg_pool
from pax.nn._pool import max_pool as max_pool
from pax.nn._sequential import Identity as Identity
from pax.nn._sequential import Lambda as Lambda
from pax.nn._sequential import Sequential as Sequential
from pax.nn._version import __version__ as __version__

__all__ = [
    "EMA",
    "BatchNorm1D",
    "BatchNorm2D",
    "Conv1D",
    "Conv2D",
    "Dropout",
    "Identity",
    "Lambda",
    "Linear",
    "Sequential",
    "avg_pool",
    "dropout",
    "max_pool",
]
