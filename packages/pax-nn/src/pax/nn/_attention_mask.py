"""Which keys a query attends to: the masks of users, and those that follow from positions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._dtypes import as_array


def as_mask(mask: Any, logits_shape: tuple[int, ...], *, module: Any) -> jax.Array:
    """Returns a mask of booleans with axes ``(batch, heads, queries, keys)``, each of full length or of length 1.

    Args:
        mask: what the user gave; true or other than zero: attend.
        logits_shape: ``(*batch, heads, queries, keys)``, with any number of batch axes.
        module: the layer, for the error text.

    Raises:
        ArgumentError: it cannot be broadcast to ``logits_shape``.
    """
    mask = as_array(mask)
    if not _can_broadcast(mask.shape, logits_shape):
        raise ArgumentError(
            "The mask cannot be broadcast to (..., num_heads, queries, keys).",
            module=module,
            got=describe(mask),
            want=f"a shape that broadcasts to {logits_shape}",
            fix="mask[:, None, None, :]   # if it is (batch, keys)" if mask.ndim == 2 else None,
        )
    if mask.dtype != jnp.bool_:
        mask = mask != jnp.zeros((), mask.dtype)
    mask = jnp.expand_dims(mask, range(len(logits_shape) - mask.ndim))
    batch, rest = mask.shape[:-3], mask.shape[-3:]
    if any(size != 1 for size in batch):
        mask = jnp.broadcast_to(mask, (*logits_shape[:-3], *rest))
    four: jax.Array = mask.reshape(math.prod(mask.shape[:-3]), *rest)
    return four


def position_mask(
    num_queries: int, num_keys: int, *, start: jax.Array | None, causal: bool, window: int | None
) -> jax.Array | None:
    """Returns ``(1, 1, queries, keys)`` booleans, or ``None`` if positions hide nothing.

    Args:
        num_queries: number of queries.
        num_keys: number of keys, whose positions count from 0.
        start: the position of the first query; ``None`` is 0.
        causal: whether a query sees no keys after its own position.
        window: how many positions back a query sees, its own included; as many forth if not causal. ``None``: all.
    """
    if not causal and window is None:
        return None
    queries = jnp.arange(num_queries, dtype=jnp.int32)[:, None]
    if start is not None:
        queries = queries + jnp.expand_dims(start, (0, 1))
    distance = queries - jnp.arange(num_keys, dtype=jnp.int32)[None]
    visible = jnp.ones(distance.shape, jnp.bool_)
    if causal:
        visible &= distance >= 0
    if window is not None:
        visible &= distance < window
        if not causal:
            visible &= distance > -window
    return visible[None, None]


def _can_broadcast(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
