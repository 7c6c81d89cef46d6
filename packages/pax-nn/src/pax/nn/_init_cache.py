"""Caches for all attention layers of a model."""

from typing import Any, TypeVar

import jax
from jax.typing import DTypeLike

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._attention import MultiHeadAttention
from pax.nn._stacking import StackedModules

M = TypeVar("M", bound=Module)


def init_cache(model: M, batch_shape: int | tuple[int, ...], max_length: int, *, dtype: DTypeLike | None = None) -> M:
    """Returns a copy of a model whose attention layers all have an empty cache, for decoding token by token.

    It finds them wherever they are, also in :class:`Stack` and :class:`Ensemble`, where each gets its own. Each call of
    the model then takes the next positions. It changes the caches, so it is made through ``pax.purecall``.

    Args:
        model: a module that has :class:`MultiHeadAttention` layers, all of them ``causal``.
        batch_shape: the leading axes of the inputs of attention; ``()`` for none, an integer for one.
        max_length: the number of positions that a cache can hold, at least 1. Where the position is traced, under
            ``jit`` and in a :class:`Stack`, one position more gives NaN instead of an error.
        dtype: dtype of the caches; default: that in which each layer computes.

    Raises:
        ArgumentTypeError: ``model`` is no module.
        ArgumentError: there is no attention layer, one is not ``causal``, or a size is smaller than 1.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> class Block(pax.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.attention = pax.nn.MultiHeadAttention(2, 4, 1.0, causal=True, rotary=True)
    ...
    ...     def __call__(self, x):
    ...         return x + self.attention(x, x, x)
    >>> model = pax.nn.Stack(Block, 3)
    >>> x = jnp.ones((1, 5, 8))
    >>> decoder = pax.nn.init_cache(model, 1, max_length=5)
    >>> for t in range(5):
    ...     decoder, y = pax.purecall(decoder, x[:, t : t + 1])
    >>> bool(jnp.allclose(y[:, 0], model(x)[:, -1], atol=1e-5))
    True
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError("Expecting a module.", where="init_cache", got=describe(model), want="a module")
    layers = 0

    def visit(node: Any) -> Any:
        nonlocal layers
        if isinstance(node, MultiHeadAttention):
            layers += 1
            return node.init_cache(batch_shape, max_length, dtype=dtype)
        if isinstance(node, StackedModules):
            return node.replace(**{node._slot: jax.vmap(visit_all)(getattr(node, node._slot))})
        return node

    def visit_all(tree: Any) -> Any:
        return jax.tree.map(visit, tree, is_leaf=lambda node: isinstance(node, MultiHeadAttention | StackedModules))

    cached: M = visit_all(model)
    if layers == 0:
        raise ArgumentError(
            "There is no attention layer in the model.",
            where="init_cache",
            got=f"a `{type(model).__qualname__}`",
            want="a module with MultiHeadAttention layers",
        )
    return cached
