"""Methods of modules as functions, freezing, and the comparison of structures."""

from collections import Counter
from typing import Any, TypeVar

import jax.tree_util as jtu

from pax._checks import walk
from pax._errors import ArgumentTypeError, StructureError
from pax._freezing import set_frozen
from pax._module import Module, require_module
from pax._paths import describe, differences, list_differences, path_text, same_structure
from pax._selection import Selector
from pax._variants import base_class

M = TypeVar("M", bound=Module)


def enable_train_mode(mod: M) -> M:
    """Returns a copy of a module in which it and all modules below it are in training mode."""
    new: M = require_module(mod, "pax.enable_train_mode(module)").train()
    return new


def enable_eval_mode(mod: M) -> M:
    """Returns a copy of a module in which it and all modules below it are in evaluation mode."""
    new: M = require_module(mod, "pax.enable_eval_mode(module)").eval()
    return new


def select_parameters(mod: M) -> M:
    """Returns ``mod.parameters()``: the module with its trained arrays only."""
    new: M = require_module(mod, "pax.select_parameters(module)").parameters()
    return new


def update_parameters(mod: M, *, params: M) -> M:
    """Returns ``mod.update_parameters(params)``: the module with the trained arrays of ``params``.

    Raises:
        StructureError: structures or shapes differ.
    """
    new: M = require_module(mod, "pax.update_parameters(module, params=params)").update_parameters(params)
    return new


def freeze_parameters(mod: M, selector: Selector = None) -> M:
    """Returns a copy of a module in which the selected arrays are not trained.

    Frozen arrays are no part of ``parameters()``, get no gradients from :func:`pax.grad` and no updates; the module
    computes as before, and its states still change. A new layer that takes the place of a frozen one is trained.

    Args:
        mod: a module.
        selector: what to freeze, see :func:`pax.filter`; default: everything.

    Raises:
        SelectorError: the selector selects nothing.

    >>> import jax, pax
    >>> jax.tree.leaves(pax.freeze_parameters(pax.RngSeq(seed=0)).parameters())
    []
    """
    frozen: M = set_frozen(require_module(mod, "pax.freeze_parameters(module)"), selector, True)
    return frozen


def unfreeze_parameters(mod: M, selector: Selector = None, *, origin: M | None = None) -> M:
    """Returns a copy of a module in which the selected arrays are trained again.

    Args:
        mod: a module.
        selector: what to unfreeze, see :func:`pax.filter`; default: everything.
        origin: take the whole structure of this module instead: its static attributes, mode, and what it has frozen;
            only the arrays are those of ``mod``.

    Raises:
        SelectorError: the selector selects nothing.
        StructureError: ``origin`` has other modules, arrays or shapes than ``mod``.
        ArgumentTypeError: both ``selector`` and ``origin`` are given.
    """
    require_module(mod, "pax.unfreeze_parameters(module)")
    if origin is None:
        unfrozen: M = set_frozen(mod, selector, False)
        return unfrozen
    if selector is not None:
        raise ArgumentTypeError(
            "Give either a selector or the original module.",
            got="both",
            fix="pax.unfreeze_parameters(module, origin=original)",
        )
    require_module(origin, "pax.unfreeze_parameters(module, origin=original)")
    got, want = _outline(mod), _outline(origin)
    if got != want:
        raise StructureError(
            "The module does not have the structure of the original.",
            got=_difference(got, want),
            want=_difference(want, got),
            fix="pass the module that was frozen as `origin`, or leave `origin` out",
            module=mod,
        )
    restored: M = jtu.tree_unflatten(jtu.tree_structure(origin), jtu.tree_leaves(mod))
    return restored


def _difference(lines: list[str], others: list[str], limit: int = 10) -> str:
    """Returns the lines that the others lack, or, where they lack none, all of them."""
    only = list((Counter(lines) - Counter(others)).elements())
    return "\n".join(only[:limit]) or "just these:\n" + "\n".join(lines[:limit])


def _outline(module: Any) -> list[str]:
    """Returns the classes of all modules, and place and shape of all arrays: what freezing never changes."""
    classes = [f"a `{base_class(type(node)).__qualname__}`" for node in walk(module)[0]]
    return classes + [f"{path_text(path)}: {describe(leaf)}" for path, leaf in jtu.tree_leaves_with_path(module)]


def assert_structure_equal(self: Any, other: Any) -> bool:
    """Checks that two pytrees have the same structure: classes, static values, modes, names, and order.

    Args:
        self: any pytree.
        other: any pytree.

    Returns:
        ``True``.

    Raises:
        StructureError: they differ (it is an ``AssertionError``, too); every differing path is listed, up to ten.
    """
    if same_structure(jtu.tree_structure(self), jtu.tree_structure(other)):
        return True
    raise StructureError(
        "The two trees have different structures.",
        got=list_differences(differences(self, other)) or describe(self),
        want="equal structures",
        fix="build both in the same way; freezing and train/eval mode are part of the structure",
    )
