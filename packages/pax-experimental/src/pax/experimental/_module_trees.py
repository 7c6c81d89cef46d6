"""Changing the modules of a tree."""

from collections.abc import Callable
from typing import Any

import jax

from pax.extend import is_module


def map_modules(func: Callable[[Any], Any], tree: Any) -> Any:
    """Returns a tree with ``func`` applied to its outermost modules; all other leaves stay."""
    return jax.tree.map(lambda node: func(node) if is_module(node) else node, tree, is_leaf=is_module)
