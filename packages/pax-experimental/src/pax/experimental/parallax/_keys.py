"""Keys for the parts of a module, each place its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from pax.experimental.parallax._fields import holds_modules, holds_placeholders
from pax.extend import is_module


def split_key(key: jax.Array, count: int) -> list[jax.Array]:
    """Returns ``count`` keys; none where there is nothing to give them to."""
    if count == 0:
        return []
    return list(jax.random.split(key, count))  # one computation; each index would be one of its own


def batched_like(old: Any, key: jax.Array) -> jax.Array:
    """Returns ``key``, or as many keys made of it as there are in ``old``, which a stack of modules has."""
    dtype = getattr(old, "dtype", None)
    if dtype is None:
        return key
    batch = old.shape if jnp.issubdtype(dtype, jax.dtypes.prng_key) else old.shape[:-1]
    return jax.random.split(key, batch) if batch else key


def spread(func: Callable[[Any, jax.Array], Any], value: Any, key: jax.Array, is_target: Callable[[Any], bool]) -> Any:
    """Returns ``value`` with ``func(target, key)`` in the place of each target, all with different keys.

    A container splits its key over its items, one level at a time. A module that is no target itself splits its key
    over the nearest targets below it.
    """
    if is_target(value):
        return func(value, key)
    if is_module(value):
        nodes, structure = jtu.tree_flatten(value, is_leaf=is_target)
        keys = iter(split_key(key, sum(map(is_target, nodes))))
        return jtu.tree_unflatten(structure, [func(node, next(keys)) if is_target(node) else node for node in nodes])
    if not (holds_modules(value) or holds_placeholders(value)):
        return value
    items, structure = jtu.tree_flatten(value, is_leaf=lambda node: node is not value)
    keys_of_items = split_key(key, len(items))
    return jtu.tree_unflatten(
        structure, [spread(func, item, part, is_target) for item, part in zip(items, keys_of_items, strict=True)]
    )
