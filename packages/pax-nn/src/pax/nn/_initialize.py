"""How a layer draws its first weights: the key it uses, and the check of what an initializer returned."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError, PaxError
from pax.extend import check_key, describe
from pax.nn._numpy_draws import draws_with_numpy, generator_from, split_with_numpy
from pax.nn.initializers import Constant, Initializer, NumpyInitializer

# JAX compiles a program for every shape of these two.
_CONSTANTS = {id(jax.nn.initializers.zeros): Constant(0), id(jax.nn.initializers.ones): Constant(1)}


def key_or_next(rng_key: Any, *, where: str) -> jax.Array:
    """Returns ``rng_key``, or the next key of the global generator if it is ``None``.

    Raises:
        ArgumentTypeError: ``rng_key`` is neither a typed key (``jax.random.key``) nor a legacy one (``uint32``).
    """
    if rng_key is None:
        return pax.next_rng_key()
    try:
        key = check_key(rng_key)
    except PaxError as error:
        raise ArgumentTypeError(
            "Expecting a PRNG key for `rng_key`.",
            where=where,
            got=error.got,
            want=error.want,
            fix="rng_key=jax.random.key(0), or leave it out to draw from pax.seed_rng_key's sequence",
        ) from None
    array: jax.Array = jax.device_put(key) if isinstance(key, np.ndarray) else key
    return array


def split_key(key: jax.Array, number: int = 2) -> list[jax.Array]:
    """Returns so many keys; those of ``jax.random.split``, unless NumPy is what draws."""
    return split_with_numpy(key, number) if draws_with_numpy(key) else list(jax.random.split(key, number))


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
        ArgumentTypeError: ``init`` is not callable.
        ArgumentError: the result has another shape, or none.
    """
    if not callable(init):
        raise ArgumentTypeError(
            f"Expecting a function as the initializer of `{what}`.",
            where=where,
            got=describe(init),
            want="a function, called as init(key, shape)",
            fix="pax.nn.initializers.Constant(0), or one of jax.nn.initializers",
        )
    init = _CONSTANTS.get(id(init), init)
    if isinstance(init, Constant):
        values: Any = init(key, shape)
    elif draws_with_numpy(key) and isinstance(init, NumpyInitializer):
        dtype = np.dtype(jnp.result_type(float))
        values = jax.device_put(init.draw_with_numpy(generator_from(key), shape, dtype))
    else:
        values = init(key, shape)
    if getattr(values, "shape", None) != shape:
        raise ArgumentError(
            f"The initializer of `{what}` returned another shape than it was asked for.",
            where=where,
            got=describe(values),
            want=f"an array of shape {shape}",
            fix="an initializer is called as init(key, shape), and returns an array of that shape",
        )
    # NumPy's default float dtype is none of JAX's.
    array: jax.Array = jax.device_put(values) if isinstance(values, np.ndarray) else values
    return array if param_dtype is None else array.astype(param_dtype)


def filled(shape: tuple[int, ...], value: float, dtype: jnp.dtype | None = None) -> jax.Array:
    """Returns a new array with one value everywhere, which compiles nothing: ``jnp.ones`` compiles for each shape."""
    return Constant(value)(None, shape, dtype)
