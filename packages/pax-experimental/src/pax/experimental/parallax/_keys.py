"""Keys for the parts of a module, each place its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from pax.experimental.parallax._fields import holds_modules, holds_placeholders
from pax.extend import is_module


def split_key(key: jax.Array, count: int) -> list[jax.Array]:
    """Returns ``count`` keys; none where there is nothing to give them to."""
    if count == 0:
        return []
    return list(jax.random.split(key, count))  # one computation; each index would be one of its own


def batched_like(old: Any, key: jax.Array) -> jax.Array:
    """Returns ``key``, or as many keys made of it as there are in ``old``, which a stack of modules has."""
    if not hasattr(old, "dtype"):
        return key
    batch = old.shape if _is_typed(old) else old.shape[:-1]
    return jax.random.split(key, batch) if batch else key


def is_key_state(path: tuple[Any, ...], leaf: Any) -> bool:
    """Whether a leaf of a plain PAX module is the key that it draws from: that of a `pax.RngSeq` or of dropout.

    They are known by their name: any other array may be a key that has to stay.
    """
    if not path or getattr(path[-1], "name", None) not in ("rng_key", "_rng_key") or not hasattr(leaf, "dtype"):
        return False
    return _is_typed(leaf) or (leaf.dtype == np.uint32 and leaf.shape[-1:] in ((2,), (4,)))


def key_like(old: Any, key: jax.Array) -> jax.Array:
    """Returns ``key`` in the form of ``old``, raw or typed, and as many keys made of it as there are in ``old``."""
    is_typed = _is_typed(old)
    shape = jax.eval_shape(jax.random.key_data, old).shape if is_typed else old.shape
    new = jax.random.key_data(batched_like(old, key))
    if new.shape != shape:  # keys of another algorithm, which are longer or shorter
        new = jax.random.bits(key, shape, jnp.uint32)
    return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if is_typed else new


def _is_typed(key: Any) -> bool:
    return bool(jnp.issubdtype(key.dtype, jax.dtypes.prng_key))


def spread(
    func: Callable[[Any, jax.Array], Any],
    value: Any,
    key: jax.Array,
    is_target: Callable[[Any], bool],
    is_key: Callable[[tuple[Any, ...], Any], bool] = lambda path, leaf: False,
) -> Any:
    """Returns ``value`` with ``func(target, key)`` in the place of each target, all with different keys.

    A container splits its key over its items, one level at a time. A module that is no target itself splits its key
    over the nearest targets below it.

    Args:
        func: makes what is put in the place of a target.
        value: a module, or a container of modules.
        key: the key that is split.
        is_target: whether a node, which may be ``value`` itself, is a target.
        is_key: whether a leaf in a plain PAX module, with its path, is a target, too.
    """
    if is_target(value):
        return func(value, key)
    if is_module(value):
        nodes, structure = jtu.tree_flatten_with_path(value, is_leaf=is_target)
        found = [is_target(node) or is_key(path, node) for path, node in nodes]
        keys = iter(split_key(key, sum(found)))
        new = [func(node, next(keys)) if hit else node for (_, node), hit in zip(nodes, found, strict=True)]
        return jtu.tree_unflatten(structure, new)
    if not (holds_modules(value) or holds_placeholders(value)):
        return value
    items, structure = jtu.tree_flatten(value, is_leaf=lambda node: node is not value)
    pairs = zip(items, split_key(key, len(items)), strict=True)
    return jtu.tree_unflatten(structure, [spread(func, item, part, is_target, is_key) for item, part in pairs])
