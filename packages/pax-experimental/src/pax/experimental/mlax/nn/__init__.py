"""The layers of the mlax dialect.

They take one example, without a batch axis. ``jax.vmap`` maps them over a batch. The module that comes out must be the
same for all examples: layers with statistics need the name of the axis, here ``"N"``, for that. With one key for all
examples, all get the same dropout mask.

>>> import jax, jax.numpy as jnp
>>> from pax.experimental.mlax.nn import Linear
>>> net, xs = Linear(jax.random.key(0), 2), jnp.ones((8, 3))
>>> call = jax.vmap(net.__call__, in_axes=(0, None, None, None), out_axes=(0, None), axis_name="N")
>>> ys, net = call(xs, None, False, "N")
>>> ys.shape
(8, 2)
"""

from pax.experimental.mlax.nn import functional as functional
from pax.experimental.mlax.nn._affine import Bias as Bias
from pax.experimental.mlax.nn._affine import Scaler as Scaler
from pax.experimental.mlax.nn._containers import Parallel as Parallel
from pax.experimental.mlax.nn._containers import ParallelRng as ParallelRng
from pax.experimental.mlax.nn._containers import Series as Series
from pax.experimental.mlax.nn._containers import SeriesRng as SeriesRng
from pax.experimental.mlax.nn._conv import Conv as Conv
from pax.experimental.mlax.nn._embed import Embed as Embed
from pax.experimental.mlax.nn._functions import F as F
from pax.experimental.mlax.nn._functions import FRng as FRng
from pax.experimental.mlax.nn._linear import Linear as Linear
from pax.experimental.mlax.nn._recurrent import Recurrent as Recurrent
from pax.experimental.mlax.nn._recurrent import RecurrentRng as RecurrentRng
from pax.experimental.mlax.nn._znorm import ZNorm as ZNorm

__all__ = [
    "Bias",
    "Conv",
    "Embed",
    "F",
    "FRng",
    "Linear",
    "Parallel",
    "ParallelRng",
    "Recurrent",
    "RecurrentRng",
    "Scaler",
    "Series",
    "SeriesRng",
    "ZNorm",
    "functional",
]
