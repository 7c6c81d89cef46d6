"""How a layer draws its first weights: the key it uses, and the check of what an initializer returned."""

from typing import Any

import jax
import jax.numpy as jnp

import pax
from pax.errors import ArgumentError, ArgumentTypeError, PaxError
from pax.extend import check_key, describe
from pax.nn.initializers import Initializer


def key_or_next(rng_key: Any, *, where: str) -> jax.Array:
    """Returns ``rng_key``, or the next key of the global generator if it is ``None``.

    Raises:
        ArgumentTypeError: ``rng_key`` is neither a typed key (``jax.random.key``) nor a legacy one (``uint32``).
    """
    if rng_key is None:
        return pax.next_rng_key()
    try:
        return jnp.asarray(check_key(rng_key))
    except PaxError as error:
        raise ArgumentTypeError(
            "Expecting a PRNG key for `rng_key`.",
            where=where,
            got=error.got,
            want=error.want,
            fix="rng_key=jax.random.key(0), or leave it out to draw from pax.seed_rng_key's sequence",
        ) from None


def initialize(
    init: Initializer,
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    what: str,
    where: str,
    param_dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Calls an initializer and checks that it made an array of the right shape.

    Args:
        init: the initializer.
        key: the key it gets.
        shape: the shape it gets.
        what: the attribute that will hold the values, for the error text.
        where: the layer, for the error text.
        param_dtype: what the values are cast to; ``None`` keeps the dtype that the initializer chose.

    Raises:
        ArgumentError: the result has another shape, or none.
    """
    values: Any = init(key, shape)
    if getattr(values, "shape", None) != shape:
        raise ArgumentError(
            f"The initializer of `{what}` returned another shape than it was asked for.",
            where=where,
            got=describe(values),
            want=f"an array of shape {shape}",
            fix="an initializer is called as init(key, shape), and returns an array of that shape",
        )
    array: jax.Array = values
    return array if param_dtype is None else array.astype(param_dtype)
