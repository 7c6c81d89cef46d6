"""Weights as nested dictionaries: `save_weights_to_dict` and `load_weights_from_dict`."""

import functools
from typing import Any, Literal, TypeVar, overload

import jax.tree_util as jtu

import pax
from pax.errors import ArgumentTypeError, StateDictError
from pax.experimental._lazy import LazyModule
from pax.extend import describe, modules_in

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

        A file has the arrays by their paths. (``pickle.dumps(jax.device_get(weights))`` does without the paths, but
        only load pickles that you trust.)

        >>> import functools, io
        >>> import numpy as np
        >>> path_text = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
        >>> file = io.BytesIO()  # or "net.npz"
        >>> np.savez(file, **{path_text(path): array for path, array in jax.tree_util.tree_leaves_with_path(weights)})

        The way back needs a module of the same structure.

        >>> other = pax.nn.Sequential(pax.nn.Linear(1, 2), jax.nn.relu, pax.nn.Linear(2, 3))
        >>> _ = file.seek(0)  # not for a path
        >>> with np.load(file) as arrays:
        ...     print(arrays.files)
        ...     weights = jax.tree_util.tree_map_with_path(
        ...         lambda path, _: arrays[path_text(path)], save_weights_to_dict(other)
        ...     )
        ['modules/0/bias', 'modules/0/weight', 'modules/2/bias', 'modules/2/weight']
        >>> other = load_weights_from_dict(other, weights)
        >>> bool((other[2].weight == net[2].weight).all())
        True
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
    if skipped:
        _raise_for(module, state_dict, skipped)
    return new


def _raise_for(module: pax.Module, state_dict: dict[str, Any], skipped: dict[str, str]) -> None:
    """Raises the error of ``load_state_dict``, with the advice for this function."""
    fix = "compare it with save_weights_to_dict(net), or load what fits by load_weights_from_dict(..., strict=False)"
    is_unexpected = any(why.startswith("unexpected") for why in skipped.values())
    if is_unexpected and any(isinstance(found, LazyModule) for found in modules_in(module)):
        function = "net.init(x)" if isinstance(module, LazyModule) else "pax.experimental.lazy_init(net, x)"
        fix = f"net = {function}  # first, where parts of a LazyModule have not been created yet\n{fix}"
    try:
        module.load_state_dict(state_dict)
    except StateDictError as error:
        raise StateDictError(
            error.headline,
            where="pax.experimental.load_weights_from_dict",
            got=error.got,
            want="a dictionary with the names, shapes and kinds of save_weights_to_dict(net)",
            fix=fix,
            module=module,
        ) from None


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
