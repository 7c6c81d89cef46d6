"""What each leaf of a module is for an optimizer: trained, frozen, or a state."""

from typing import Any, Literal

import jax.tree_util as jtu

from pax._classify import is_module, is_node
from pax._empty import EmptyNode, is_empty
from pax._errors import PaxError
from pax._freezing import FLAG
from pax._node import own_content, with_static
from pax._paths import flatten_up_to

LeafKind = Literal["trained", "frozen", "state"]


def leaf_kinds(module: Any) -> list[LeafKind]:
    """Returns the kinds of all leaves in pytree order.

    A leaf is trained if ``parameters()`` of the module has it, frozen if it would have it without
    :func:`pax.freeze_parameters`, and a state otherwise. A module that has no ``parameters()``, as a flattener, has
    states only.
    """
    trained = _trained(module)
    thawed = _trained(with_static(module, FLAG, ...))
    return [
        "trained" if flag else "frozen" if would_be else "state" for flag, would_be in zip(trained, thawed, strict=True)
    ]


def _trained(module: Any) -> list[bool]:
    """Returns for each leaf whether it is trained."""
    try:
        return _flags(module.parameters(), module)
    except (PaxError, ValueError):
        # Some module below refuses, or returns something of another structure: ask each part alone.
        content, structure = jtu.tree_flatten(module, is_leaf=lambda node: node is not module and is_node(node))
        emptied = [EmptyNode() if is_module(node) else node for node in content]
        own = iter(_own_flags(jtu.tree_unflatten(structure, emptied)))
        flags: list[bool] = []
        for node in content:
            if is_module(node):
                flags += _trained(node)
            elif not is_empty(node):
                flags.append(next(own))
        return flags


def _own_flags(alone: Any) -> list[bool]:
    """Returns the flags of a module that has no submodules."""
    try:
        return _flags(alone.parameters(), alone)
    except (PaxError, ValueError):
        return [False for _, node in own_content(alone) if not is_empty(node)]


def _flags(parameters: Any, module: Any) -> list[bool]:
    """Returns for each leaf of a module whether its parameters have it; they may lack whole submodules.

    Raises:
        ValueError: the structures differ.
    """
    kept, structure = jtu.tree_flatten(parameters, is_leaf=is_empty)
    flags: list[bool] = []
    for leaf, node in zip(kept, flatten_up_to(structure, module), strict=True):
        flags += [not is_empty(leaf)] * len(jtu.tree_leaves(node))
    return flags
