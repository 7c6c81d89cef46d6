"""The dtype in which a layer computes: what ``jax.numpy`` would promote to, in strict promotion mode, too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

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


def as_array(value: ArrayLike) -> jax.Array:
    """Returns ``value`` itself if it is a JAX array or a tracer, else a new JAX array."""
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def to_common_dtype(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Casts arrays to their promoted dtype; arrays that agree already are returned as they are."""
    first = arrays[0].dtype
    if all(array.dtype == first for array in arrays):
        return arrays
    dtype = promote_dtypes(*(array.dtype for array in arrays))
    return tuple(array.astype(dtype) for array in arrays)


def as_inexact(array: jax.Array) -> jax.Array:
    """Returns integers and booleans in JAX's default float dtype, all other arrays unchanged."""
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))
