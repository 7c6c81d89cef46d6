"""Frozen as data: a static flag on each module says which of its own arrays are not trained.

The flag is ``True`` (none of them), or a sorted tuple of their paths relative to the module. Modules without the
flag are trained as their class says. Equal modules frozen alike have equal structures.
"""

from typing import Any

import jax.tree_util as jtu

from pax._classify import is_array, is_module, is_node
from pax._empty import EmptyNode
from pax._node import map_content, own_content, rebuild, with_static
from pax._paths import flatten_up_to, path_text
from pax._selection import Selector, select

FLAG = "_frozen"


def set_frozen(module: Any, selector: Selector, freeze: bool) -> Any:
    """Returns a copy of ``module`` in which the selected arrays are frozen, or trained again.

    Args:
        module: a module.
        selector: see :func:`pax.filter`; ``None`` for everything.
        freeze: freeze, else unfreeze.

    Raises:
        SelectorError: the selector selects nothing.
    """
    if selector is None:
        return with_static(module, FLAG, True if freeze else ...)
    mask = jtu.tree_unflatten(jtu.tree_structure(module), select(module, selector))
    return _refreeze(module, mask, freeze)


def _refreeze(module: Any, mask: Any, freeze: bool) -> Any:
    flags = jtu.tree_leaves(mask)
    if not any(flags):
        return module.copy()
    if all(flags):
        return with_static(module, FLAG, True if freeze else ...)
    children, treedef = jtu.tree_flatten(module, is_leaf=lambda node: node is not module and is_module(node))
    changed = [
        _refreeze(child, below, freeze) if is_module(child) else child
        for child, below in zip(children, flatten_up_to(treedef, mask), strict=True)
    ]
    structure = module._pax_flat[1]
    flag = _own_flag(own_content(module), own_content(mask), structure.statics.get(FLAG), freeze)
    new_structure = structure.with_static(type(module), FLAG, ... if flag is None else flag)
    return rebuild(module, jtu.tree_unflatten(treedef, changed)._pax_flat[0], new_structure)


def _own_flag(own: list[tuple[Any, Any]], masks: list[tuple[Any, Any]], before: Any, freeze: bool) -> Any:
    """Returns the new flag of one module, ``None`` for none."""
    paths = [path_text(path) for path, value in own if not is_node(value)]
    chosen = {path_text(path) for path, flag in masks if flag is True}
    if not paths:
        return before
    frozen = set(paths) if before is True else set(before or ())
    frozen = frozen | chosen if freeze else frozen - chosen
    if not frozen:
        return None
    return True if frozen >= set(paths) else tuple(sorted(frozen))


def hide_frozen(module: Any, parameters: Any) -> Any:
    """Returns the parameters of a module with its frozen arrays left out.

    Args:
        module: a module.
        parameters: what the method of its class says. What it passes on as it is may have frozen arrays, too.
    """
    pairs = list(zip(parameters._pax_flat[0], module._pax_flat[0], strict=True))
    if any(kept is child and not is_array(kept) for kept, child in pairs):
        parameters = rebuild(parameters, tuple(_thawed(kept) if kept is child else kept for kept, child in pairs))
    return _own_thawed(module, parameters)


def _thawed(tree: Any) -> Any:
    """Returns a child without the frozen arrays of the modules in it."""
    return jtu.tree_map(_thawed_module, tree, is_leaf=is_node)


def _thawed_module(node: Any) -> Any:
    return _own_thawed(node, rebuild(node, map_content(node, _thawed_module))) if is_module(node) else node


def _own_thawed(module: Any, parameters: Any) -> Any:
    """Returns the parameters of a module without its own frozen arrays."""
    flag = module._pax_flat[1].statics.get(FLAG)
    if flag is None:
        return parameters
    frozen = None if flag is True else set(flag)
    content, treedef = jtu.tree_flatten_with_path(parameters, is_leaf=lambda x: x is not parameters and is_node(x))
    kept = [
        value if is_node(value) or (frozen is not None and path_text(path) not in frozen) else EmptyNode()
        for path, value in content
    ]
    return jtu.tree_unflatten(treedef, kept)
