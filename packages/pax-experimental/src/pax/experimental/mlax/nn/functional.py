"""Functions for layers of the mlax dialect."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax.nn._arguments import axes_of, floating
from pax.extend import check_key, describe, is_tracer

__all__ = ["dropout"]


def dropout(x: ArrayLike, rng: jax.Array, rate: ArrayLike, axis: int | Sequence[int]) -> jax.Array:
    """Sets a random part of the input to zero, and scales the rest by ``1 / (1 - rate)``.

    Under ``vmap`` with one key for all examples, all examples lose the same elements; split the key if they should not.

    Args:
        x: an array of any shape.
        rng: a key.
        rate: the probability to drop an element, in [0, 1). It may be traced; then its range is not checked.
        axis: an axis, or several, along which elements are dropped one by one; along the others they are dropped
            together.

    Returns:
        An array of the shape and dtype of ``x``; integers become floats.

    Raises:
        ArgumentError: the rate is out of range, or ``x`` has no such axis.
        ArgumentTypeError: ``rng`` is no key, or the rate is no number.

    >>> import jax, jax.numpy as jnp
    >>> y = dropout(jnp.ones((4, 2)), jax.random.key(1), 0.5, axis=0)
    >>> bool(jnp.all(y[:, 0] == y[:, 1])), sorted(set(y.ravel().tolist()))
    (True, [0.0, 2.0])
    """
    where = "mlax.nn.functional.dropout"
    x = floating(x, where=where)
    axes = axes_of(axis, x.ndim, where=where)
    if not is_tracer(rate):
        _check_rate(rate, where)
    key = check_key(rng)
    shape = tuple(size if index in axes else 1 for index, size in enumerate(x.shape))
    kept = jax.random.bernoulli(key, 1 - jnp.asarray(rate, jnp.float32), shape)
    scaled = x / (1 - jnp.asarray(rate)).astype(x.dtype)
    return jnp.where(kept, scaled, jnp.zeros((), x.dtype))


def _check_rate(rate: ArrayLike, where: str) -> None:
    want = "0 <= rate < 1, the probability to drop an element"
    try:
        number = float(np.asarray(rate))
    except (TypeError, ValueError):
        raise ArgumentTypeError("The rate has to be a number.", where=where, got=describe(rate), want=want) from None
    if not 0 <= number < 1:
        raise ArgumentError("Expecting a dropout rate in [0, 1).", where=where, got=f"rate={number}", want=want)
