"""Graphs: modules built by connecting values.

A function on nodes is run once with example values; the steps that it takes become a `GraphModule`, which has all the
layers as its modules.

>>> import jax, jax.numpy as jnp, pax
>>> from pax.experimental.graph import build_graph_module
>>> def residual_block(x):
...     y = x >> pax.Linear(8, 8)
...     y >>= jax.nn.relu
...     return x + y
>>> net = build_graph_module(residual_block)(jnp.empty((3, 8)))
>>> print(net.to_text(jnp.empty((5, 8))))
graph(x: float32[5,8]):
  %0 = modules[0](x)      # Linear(in_dim=8, out_dim=8, with_bias=True) -> float32[5,8]
  %1 = modules[1](%0)     # relu -> float32[5,8]
  %2 = modules[2](x, %1)  # add -> float32[5,8]
  return %2
"""

from pax.experimental.graph._module import GraphModule as GraphModule
from pax.experimental.graph._module import build_graph_module as build_graph_module
from pax.experimental.graph._node import ArgsNode as ArgsNode
from pax.experimental.graph._node import CatNode as CatNode
from pax.experimental.graph._node import InputNode as InputNode
from pax.experimental.graph._node import Node as Node

__all__ = ["ArgsNode", "CatNode", "GraphModule", "InputNode", "Node", "build_graph_module"]
