"""Parallax: declared fields, parameters that are made in one pass, and a random key at every node.

Programs of Parallax run with this import in the place of theirs. Their modules are :class:`pax.Module` s.

>>> import jax, jax.numpy as jnp
>>> from pax.experimental.parallax import Dense, Dropout, Module
>>> class Net(Module):
...     dense: Dense
...     dropout: Dropout
...
...     def __init__(self):
...         super().__init__()
...         self.dense = Dense(5, 1)
...         self.dropout = Dropout(0.5)
...
...     def forward(self, input):
...         return self.dense(self.dropout(input))[0]
>>> net = Net().initialized(jax.random.key(0))
>>> net
Net(
  (dense): Dense(5, 1)
  (dropout): Dropout()
)
>>> net = net.new_state(jax.random.key(1), mode="train")
>>> net = jax.tree.map(lambda p, g: p - 0.3 * g, net, net.grad(jnp.ones(5)))
>>> net.mode
'train'
"""

from pax.experimental.parallax._fields import Parameter as Parameter
from pax.experimental.parallax._functions import initialized as initialized
from pax.experimental.parallax._functions import new_state as new_state
from pax.experimental.parallax._layers import Dense as Dense
from pax.experimental.parallax._layers import Dropout as Dropout
from pax.experimental.parallax._module import Module as Module
from pax.experimental.parallax._optimizer import Optimizer as Optimizer
from pax.experimental.parallax._optimizer import OptState as OptState
from pax.experimental.parallax._param_init import ParamInit as ParamInit
from pax.experimental.parallax._tuples import ModuleTuple as ModuleTuple
from pax.experimental.parallax._tuples import ParameterTuple as ParameterTuple

__all__ = [
    "Dense",
    "Dropout",
    "Module",
    "ModuleTuple",
    "OptState",
    "Optimizer",
    "ParamInit",
    "Parameter",
    "ParameterTuple",
    "initialized",
    "new_state",
]
