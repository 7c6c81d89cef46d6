"""Which keys a query attends to: the masks of users, and those that follow from positions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentError
from pax.extend import describe, is_tracer
from pax.nn._dtypes import as_array


def as_mask(mask: Any, logits_shape: tuple[int, ...], *, module: Any) -> jax.Array:
    """Returns a mask of booleans with axes ``(batch, heads, queries, keys)``, each of full length or of length 1.

    Args:
        mask: what the user gave; true or other than zero: attend.
        logits_shape: ``(*batch, heads, queries, keys)``, with any number of batch axes.
        module: the layer, for the error text.

    Raises:
        ArgumentError: it cannot be broadcast to ``logits_shape``, or is an additive mask.
    """
    mask = as_array(mask, module=module)
    if not _can_broadcast(mask.shape, logits_shape):
        raise ArgumentError(
            "The mask cannot be broadcast to (..., num_heads, queries, keys).",
            module=module,
            got=describe(mask),
            want=f"a shape that broadcasts to {logits_shape}",
            fix=_missing_axes(mask.shape, logits_shape),
        )
    check_not_additive(mask, module=module)
    if mask.dtype != jnp.bool_:
        mask = mask != jnp.zeros((), mask.dtype)
    mask = jnp.expand_dims(mask, range(len(logits_shape) - mask.ndim))
    batch, rest = mask.shape[:-3], mask.shape[-3:]
    if any(size != 1 for size in batch):
        mask = jnp.broadcast_to(mask, (*logits_shape[:-3], *rest))
    four: jax.Array = mask.reshape(math.prod(mask.shape[:-3]), *rest)
    return four


def check_not_additive(mask: jax.Array, *, module: Any) -> None:
    """Checks that a mask is not one to add to the logits; of a traced one the values are not known.

    Raises:
        ArgumentError: it is floating, and has a value that is negative or NaN.
    """
    if is_tracer(mask) or not jnp.issubdtype(mask.dtype, jnp.floating) or not mask.is_fully_addressable:
        return
    # In NumPy: inside of `jit` operations of JAX are traced, even those on known values.
    values = np.asarray(mask)
    with np.errstate(invalid="ignore"):  # bfloat16 warns of comparisons with NaN
        is_wrong, has_nan = not (values >= 0).all(), bool(np.isnan(values).any())
    if is_wrong:
        raise ArgumentError(
            "Expecting a mask that is not zero where to attend. Get an additive mask.",
            module=module,
            got=f"{describe(mask)} with values that are {'NaN' if has_nan else 'negative'}",
            want="booleans, true: attend; or numbers, zero: do not attend",
            fix="mask == 0   # of a mask to add to the logits: 0 where to attend, -inf elsewhere",
        )


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


def _missing_axes(shape: tuple[int, ...], logits_shape: tuple[int, ...]) -> str | None:
    """Returns what makes a mask fit which lacks the axes that all its examples share, if anything does."""
    if len(shape) == 2 and _can_broadcast((shape[0], 1, 1, shape[1]), logits_shape):
        return "mask[:, None, None, :]   # if it is (batch, keys)"
    if len(shape) == 3 and _can_broadcast((shape[0], 1, *shape[1:]), logits_shape):
        return "mask[:, None]   # if it is (batch, queries, keys)"
    return None


def _can_broadcast(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
