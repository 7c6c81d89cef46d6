"""Which leaves of the parameters a transformation is for, by the selectors of ``pax.partition``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

import pax
from pax.extend import Selector, select

# A chain with `flatten=True` hands lists of leaves to its transformations; selectors still speak of the tree.
_named: ContextVar[tuple[list[Any], Any] | None] = ContextVar("_named", default=None)


@contextmanager
def as_leaves(params: Any) -> Iterator[list[Any]]:
    """Gives the leaves of ``params`` as a list for which :func:`selected` still knows the tree, inside the block."""
    leaves = jax.tree.leaves(params)
    with _naming(leaves, _tree_of(params)):
        yield leaves


@contextmanager
def part_of(params: Any, mask: Sequence[bool]) -> Iterator[Any]:
    """Gives ``params`` with empty nodes where ``mask`` is false; see :func:`as_leaves`."""
    part = keep(params, mask)
    tree = _tree_of(params)
    with _naming(part, part if tree is params else keep(tree, mask)):
        yield part


def selected(params: Any, selector: Selector) -> tuple[bool, ...]:
    """Returns for each leaf of ``params`` whether it is selected.

    Raises:
        SelectorError: none is; the message lists the leaves there are.
        ArgumentTypeError: ``selector`` is none.
    """
    return tuple(select(_tree_of(params), selector))


def keep(tree: Any, mask: Sequence[bool]) -> Any:
    """Returns ``tree`` with an ``EmptyNode`` in place of each leaf for which ``mask`` is false."""
    leaves, structure = jax.tree.flatten(tree)
    kept = [leaf if flag else pax.EmptyNode() for leaf, flag in zip(leaves, mask, strict=True)]
    return jax.tree.unflatten(structure, kept)


def _tree_of(params: Any) -> Any:
    named = _named.get()
    return named[1] if named is not None and named[0] is params else params


@contextmanager
def _naming(given: Any, tree: Any) -> Iterator[None]:
    token = _named.set((given, tree))
    try:
        yield
    finally:
        _named.reset(token)
