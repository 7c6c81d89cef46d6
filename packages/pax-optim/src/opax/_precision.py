"""The dtypes in which updates and running averages are computed, and in which averages are kept."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp


def at_least_float32(leaf: Any) -> jax.Array:
    """Returns an array that has single precision if ``leaf`` has half precision."""
    dtype = jnp.result_type(leaf)
    half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.asarray(leaf, jnp.float32 if half else dtype)


def widen(tree: Any, other: Any) -> Any:
    """Returns ``tree`` with the dtypes that hold both its leaves and those of ``other``.

    An average that is kept in half precision is computed in the precision of the updates: it is rounded once a step.

    Args:
        tree: a tree of arrays.
        other: a tree of the same structure.
    """
    # Wider than both sides, whatever the user's mode of promotion: this is no mistake of his.
    with jax.numpy_dtype_promotion("standard"):
        dtypes = [
            jnp.promote_types(jnp.result_type(x), jnp.result_type(y))
            for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
        ]
    return _cast(tree, dtypes)


def keep_dtypes(new: Any, old: Any) -> Any:
    """Returns ``new`` with the dtypes of ``old``, a tree of the same structure: an average as it is to be kept."""
    return _cast(new, [jnp.result_type(x) for x in jax.tree.leaves(old)])


def _cast(tree: Any, dtypes: Iterable[Any]) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    cast = [_cast_leaf(leaf, dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)]
    # Large models spend much of their tracing on trees that stay as they are.
    if all(new is old for new, old in zip(cast, leaves, strict=True)):
        return tree
    return jax.tree.unflatten(structure, cast)


def _cast_leaf(leaf: Any, dtype: Any) -> Any:
    if isinstance(leaf, jax.Array) and leaf.dtype == dtype and not leaf.weak_type:
        return leaf
    return jnp.asarray(leaf, dtype)
