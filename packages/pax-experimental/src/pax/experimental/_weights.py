"""Weights as nested dictionaries: `save_weights_to_dict` and `load_weights_from_dict`."""

import functools
from typing import Any, Literal, TypeVar, overload

import jax.tree_util as jtu

import pax
from pax.errors import ArgumentTypeError
from pax.extend import describe

M = TypeVar("M", bound=pax.Module)

_TRANSPOSED = (pax.nn.Conv1DTranspose, pax.nn.Conv2DTranspose, pax.nn.Conv3DTranspose)

_UNUSED_BY_THE_ORIGINAL: dict[str, tuple[type, ...]] = {"bias": _TRANSPOSED}
"""Arrays in dictionaries of the original PAX that its layers never read: attribute and classes.

There a transposed convolution has a bias also with `with_bias=False`. All other names and shapes are the same.
"""


def save_weights_to_dict(module: pax.Module) -> dict[str, Any]:
    """Returns the arrays of a module as nested dictionaries by attribute name; ``Module.state_dict()`` does the same.

    Each module is a dictionary, ``{}`` if it has no arrays. Lists, tuples and dictionaries of modules stay what they
    are; what is no array in them becomes ``None``. The names are those of the original PAX.

    Args:
        module: any module.

    Returns:
        The dictionary. Its arrays are the very objects that the module has.

    Raises:
        ArgumentTypeError: ``module`` is not a module.

    Example:
        >>> import jax, pax
        >>> net = pax.nn.Sequential(pax.nn.Linear(1, 2), jax.nn.relu, pax.nn.Linear(2, 3))
        >>> weights = save_weights_to_dict(net)
        >>> jax.tree.map(lambda array: array.shape, weights["modules"], is_leaf=lambda x: hasattr(x, "shape"))
        ({'bias': (2,), 'weight': (1, 2)}, {}, {'bias': (3,), 'weight': (2, 3)})
    """
    return _as_module(module, "save_weights_to_dict").state_dict()


@overload
def load_weights_from_dict(module: M, state_dict: dict[str, Any], *, strict: Literal[True] = True) -> M: ...


@overload
def load_weights_from_dict(
    module: M, state_dict: dict[str, Any], *, strict: Literal[False]
) -> tuple[M, dict[str, str]]: ...


def load_weights_from_dict(module: M, state_dict: dict[str, Any], *, strict: bool = True) -> M | tuple[M, Any]:
    """Returns a module with the arrays of a dictionary that :func:`save_weights_to_dict` made.

    JAX arrays are taken as they are: the very objects, also if they have another floating precision. NumPy arrays and
    numbers take the dtype of the array they replace.

    Dictionaries saved by the original PAX can be loaded. (Not those of its ``ResNet50`` and deeper: its blocks are
    wider than those of the paper, and of :mod:`pax.nets`.)

    Args:
        module: a module of the same structure; it is not changed.
        state_dict: nested dictionaries by attribute name.
        strict: load all or nothing. If false, load what fits, and keep the module's own arrays elsewhere.

    Returns:
        The new module. If ``strict`` is false: the new module, and a dictionary of what was skipped, with the reason
        by path.

    Raises:
        ArgumentTypeError: ``module`` is not a module.
        StateDictError: entries are missing, unexpected, or of another shape or kind. All of them are listed.

    Example:
        >>> import pax
        >>> a, b = pax.nn.Linear(2, 3), pax.nn.Linear(2, 3)
        >>> b = load_weights_from_dict(b, save_weights_to_dict(a))
        >>> a == b
        True
        >>> c, skipped = load_weights_from_dict(pax.nn.Linear(2, 4), {"weight": a.weight, "b": a.bias}, strict=False)
        >>> for path, why in skipped.items():
        ...     print(path, "-", why)
        bias - missing, want float32[4]
        b - unexpected, got float32[3]
        weight - got float32[2,3], want float32[2,4]
    """
    _as_module(module, "load_weights_from_dict")
    new, skipped = module.load_state_dict(state_dict, strict=False)
    for path in _unused(module):
        if skipped.get(path, "").startswith("unexpected"):
            del skipped[path]
    if not strict:
        return new, skipped
    return module.load_state_dict(state_dict) if skipped else new  # the first raises


def _unused(module: pax.Module) -> list[str]:
    """Returns the paths of entries that the original's dictionary may have, and the module may not."""
    found = []
    for name, classes in _UNUSED_BY_THE_ORIGINAL.items():
        is_one = functools.partial(_is_instance, classes)
        for path, node in jtu.tree_leaves_with_path(module, is_leaf=is_one):
            if is_one(node):
                found.append(jtu.keystr((*path, jtu.GetAttrKey(name))).removeprefix("."))
    return found


def _is_instance(classes: tuple[type, ...], node: Any) -> bool:
    return isinstance(node, classes)


def _as_module(module: Any, where: str) -> pax.Module:
    if not isinstance(module, pax.Module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            where=f"pax.experimental.{where}, argument `module`",
            got=describe(module),
            want="an instance of pax.Module",
            fix="pax.experimental.load_weights_from_dict(net, weights)"
            if where.startswith("load")
            else "pax.experimental.save_weights_to_dict(net)",
        )
    return module
