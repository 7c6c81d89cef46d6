"""Stacks of equal blocks as lists of blocks, which is what PyTorch has."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from pax import nn

T = TypeVar("T")

_BLOCKS: dict[type, str] = {nn.Stack: "block", nn.Ensemble: "member"}
"""Modules that hold equal modules as one, whose arrays have a leading axis: class and attribute."""


def unstacked(tree: T) -> T:
    """Returns a tree with a list of blocks in the place of each stack."""
    lists: T = jax.tree.map(
        lambda node: [unstacked(block) for block in _blocks(node)] if _is_stack(node) else node,
        tree,
        is_leaf=_is_stack,
    )
    return lists


def restacked(tree: Any, like: T) -> T:
    """Returns a tree that :func:`unstacked` made with the stacks of the tree it was made of, ``like``."""
    whole: T = jax.tree.map(
        lambda old, new: _stacked(new, old) if _is_stack(old) else new, like, tree, is_leaf=_is_stack
    )
    return whole


def _is_stack(node: Any) -> bool:
    return isinstance(node, tuple(_BLOCKS))


def _blocks(stack: Any) -> list[Any]:
    """Returns the blocks with their own part of the arrays, or with shapes where the stack has shapes."""
    attribute = next(attribute for cls, attribute in _BLOCKS.items() if isinstance(stack, cls))

    def part(leaf: Any, index: int) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
        return leaf[index]

    block = getattr(stack, attribute)
    return [jax.tree.map(lambda leaf, i=i: part(leaf, i), block) for i in range(len(stack))]


def _stacked(blocks: list[Any], stack: Any) -> Any:
    blocks = [restacked(block, old) for block, old in zip(blocks, _blocks(stack), strict=True)]
    rows = zip(*map(jax.tree.leaves, blocks), strict=True)
    return jax.tree.unflatten(jax.tree.structure(stack), [_along_new_axis(row) for row in rows])


def _along_new_axis(arrays: tuple[Any, ...]) -> Any:
    first = arrays[0]
    if isinstance(first, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(arrays), *first.shape), first.dtype)
    return (np if isinstance(first, np.ndarray) else jnp).stack(arrays)
