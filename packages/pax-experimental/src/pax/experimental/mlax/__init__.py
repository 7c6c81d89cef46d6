"""The mlax dialect: layers that are set up by their first input, return ``(output, module)``, and get keys passed in.

Programs for mlax need another import line only. Its modules are modules of PAX: they nest in each other both ways, and
all of `pax` and `opax` works on them.

>>> import jax, jax.numpy as jnp, optax
>>> from pax.experimental.mlax.nn import Bias, Linear, Series
>>> keys = jax.random.split(jax.random.key(0))
>>> net = Series([Linear(keys[0], 1), Bias(keys[1], -1)])
>>> _, net = net(jnp.ones(3), None)
>>> def loss_fn(trainables, rest, x):
...     y, net = trainables.combine(rest)(x, None)
...     return jnp.sum(y**2), net
>>> trainables, rest = net.partition()
>>> (loss, net), grads = jax.value_and_grad(loss_fn, has_aux=True)(trainables, rest, jnp.ones(3))
>>> net = jax.tree.map(lambda p, g: p - 0.1 * g, trainables, grads).combine(rest)
"""

from pax.experimental.mlax import module as module
from pax.experimental.mlax import nn as nn
from pax.experimental.mlax._module import Module as Module
from pax.experimental.mlax._parameter import Parameter as Parameter
from pax.experimental.mlax._parameter import is_leaf_param as is_leaf_param
from pax.experimental.mlax._parameter import is_non_trainable_param as is_non_trainable_param
from pax.experimental.mlax._parameter import is_trainable_param as is_trainable_param

__all__ = [
    "Module",
    "Parameter",
    "is_leaf_param",
    "is_non_trainable_param",
    "is_trainable_param",
    "module",
    "nn",
]
