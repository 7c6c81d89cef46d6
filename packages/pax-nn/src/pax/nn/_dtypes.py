"""The dtype in which a layer computes: what ``jax.numpy`` would promote to, in strict promotion mode, too."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe

AnyArray = jax.Array | np.ndarray
"""What layers take as input. They return JAX arrays."""


@functools.cache
def _promote_two(a: jnp.dtype, b: jnp.dtype) -> jnp.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def promote_dtypes(*dtypes: jnp.dtype) -> jnp.dtype:
    """Returns the smallest dtype that holds all of ``dtypes`` in JAX's promotion lattice.

    Layers state their promotion (an integer or half-precision input meets the dtype of the weights) instead of relying
    on ``jax_numpy_dtype_promotion``, so that they work in its ``"strict"`` mode.
    """
    return functools.reduce(_promote_two, dtypes)


def as_array(value: ArrayLike, *, module: Any = None, where: str | None = None) -> jax.Array:
    """Returns ``value`` itself if it is a JAX array or a tracer, else a new JAX array.

    Args:
        value: what the user gave.
        module: the layer that was called with it, for the error text.
        where: the function that was called with it, likewise.

    Raises:
        ArgumentTypeError: it is neither an array nor a number, nor a nested list of numbers.
    """
    if isinstance(value, jax.Array):
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(
            "Expecting an array.", module=module, where=where, got=describe(value), want="a JAX or NumPy array"
        ) from None


def strongly_typed(value: ArrayLike) -> jax.Array:
    """Returns an array whose type does not give way to those of others, so that a loop or a state can keep it."""
    array = as_array(value)
    # Arrays of keys do not have the attribute in all versions of JAX.
    return jax.lax.convert_element_type(array, array.dtype) if getattr(array, "weak_type", False) else array


def optional_float_dtype(value: Any, *, what: str, where: str) -> jnp.dtype | None:
    """Returns the ``dtype`` or ``param_dtype`` that a layer was given as a NumPy dtype; ``None`` stays ``None``.

    Args:
        value: what the user gave: ``jnp.bfloat16``, ``"float32"``, a dtype, or ``None``.
        what: the name of the argument.
        where: the layer it was given to.

    Raises:
        ArgumentTypeError: it is no dtype, or one of integers, booleans or keys.
        ArgumentError: it has 64-bit numbers, which JAX does not have switched on.
    """
    if value is None:
        return None
    want = "a floating or complex dtype: jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64"
    try:
        dtype: jnp.dtype = jnp.dtype(value)
    except TypeError:
        raise ArgumentTypeError(f"Expecting a dtype for `{what}`.", where=where, got=repr(value), want=want) from None
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise ArgumentTypeError(f"Expecting a floating dtype for `{what}`.", where=where, got=f"{dtype}", want=want)
    if dtype in (jnp.dtype("float64"), jnp.dtype("complex128")) and not jax.config.read("jax_enable_x64"):
        raise ArgumentError(
            f"`{what}` has 64-bit numbers, which JAX has switched off.",
            where=where,
            got=f"{what}={dtype}",
            want=want,
            fix='jax.config.update("jax_enable_x64", True)   # before any array is made',
        )
    return dtype


def to_common_dtype(*arrays: jax.Array, dtype: jnp.dtype | None = None) -> tuple[jax.Array, ...]:
    """Casts arrays to ``dtype``, or to their promoted one; arrays that have it already are returned as they are."""
    if dtype is not None:
        return tuple(array.astype(dtype) for array in arrays)
    first = arrays[0].dtype
    if all(array.dtype == first for array in arrays):
        return arrays
    dtype = promote_dtypes(*(array.dtype for array in arrays))
    return tuple(array.astype(dtype) for array in arrays)


def as_inexact(array: jax.Array) -> jax.Array:
    """Returns integers and booleans in JAX's default float dtype, all other arrays unchanged."""
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))
