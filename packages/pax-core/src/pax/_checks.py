"""Safety checks: shared arrays and modules, class attributes that hold arrays or modules, ``__slots__``."""

import functools
import types
from collections import Counter
from typing import Any

import jax.tree_util as jtu
import numpy as np

from pax._classify import is_array, is_module, is_node
from pax._errors import SharedNodeError, UnregisteredFieldError, UnsupportedModuleError
from pax._jax_compat import is_tracer
from pax._paths import KeyPath, describe, path_text

_HARMLESS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    property,
    classmethod,
    staticmethod,
    functools.cached_property,
    type,
    str,
    int,
    float,
    type(None),
)


def walk(root: Any) -> tuple[list[Any], list[Any]]:
    """Returns all modules of a tree, parents first, and all its leaves, in one pass."""
    modules: list[Any] = []

    def collect(node: Any) -> bool:
        if is_module(node):
            modules.append(node)
        return False

    return modules, jtu.tree_leaves(root, is_leaf=collect)


class _RepeatedError(Exception):
    """A walk met a module a second time."""


def _leaves_of_distinct_modules(root: Any) -> tuple[list[Any], Any]:
    """Returns the leaves of a tree, and ``None``; or no leaves, and a module that is in it twice.

    The walk stops there: a module that holds itself would make it endless.
    """
    seen: dict[int, Any] = {}

    def note(node: Any) -> bool:
        if is_module(node):
            if id(node) in seen:
                raise _RepeatedError(node)
            seen[id(node)] = node
        return False

    try:
        return jtu.tree_leaves(root, is_leaf=note), None
    except _RepeatedError as found:
        return [], found.args[0]


def shared_arrays(leaves: list[Any]) -> frozenset[int]:
    """Returns the ids of concrete arrays that stand at several places of a list of leaves.

    Tracers are left out: two gradients may well be the same tracer.
    """
    if len(set(map(id, leaves))) == len(leaves):
        return frozenset()
    counts = Counter(id(leaf) for leaf in leaves if is_array(leaf) and not is_tracer(leaf))
    return frozenset(key for key, count in counts.items() if count > 1)


def check_sharing(root: Any, *, known: frozenset[int] = frozenset()) -> None:
    """Checks that no module and no concrete array stands at two places of a tree.

    Args:
        root: the tree.
        known: ids of arrays that may be shared, because they were when the tree came from JAX.

    Raises:
        SharedNodeError: one does; the message names both places.
    """
    leaves, target = _leaves_of_distinct_modules(root)
    if target is not None:
        raise SharedNodeError(
            f"The module `{target!r}` is shared between two nodes of the pytree.\n"
            "This is not allowed to prevent potential silence bugs.",
            where=_two_places(root, target),
            got="one module object at both places",
            want="a module object at one place only",
            fix="use a copy at the second place: module.copy() shares the arrays, copy.deepcopy(module) nothing",
            why="after the next copy, for example by jax.jit, the two would be separate modules",
        )
    shared = shared_arrays(leaves) - known
    if shared:
        target = next(leaf for leaf in leaves if id(leaf) in shared)
        raise SharedNodeError(
            f"Detected a shared ndarray. This is not allowed.\nShape={target.shape}\nDtype={target.dtype}\n"
            f"Value={_short_value(target)}",
            where=_two_places(root, target),
            got="one array object at both places",
            want="an array object at one place only",
            fix="use a copy at the second place: array.copy()",
            why="after the next update the two would be separate arrays",
        )


def _short_value(array: Any) -> str:
    """Small arrays in full, others in a few words: an error must not print a weight matrix."""
    numeric = isinstance(array.dtype, np.dtype)
    return str(array) if numeric and array.size <= 8 else describe(array)


def _two_places(root: Any, target: Any) -> str:
    places = [path_text(path) or "the root" for path in _places(root, target, (), ())]
    return " and ".join(f"`{place}`" for place in places[:2])


def _places(node: Any, target: Any, prefix: KeyPath, above: tuple[Any, ...]) -> list[KeyPath]:
    found = [prefix] if node is target else []
    for path, child in jtu.tree_leaves_with_path(node, is_leaf=lambda x: x is not node and is_node(x)):
        if any(child is module for module in (*above, node)) or (child is target and not is_module(child)):
            found.append(prefix + path)
        elif is_module(child):
            found += _places(child, target, prefix + path, (*above, node))
    return found


def check_class(module: Any) -> None:
    """Checks the class of a module: no ``__slots__``, no arrays or modules in class attributes.

    Raises:
        UnsupportedModuleError: the class, or a base, defines ``__slots__``.
        UnregisteredFieldError: a class attribute holds an array or a module and no instance attribute covers it.
    """
    cls = type(module)
    for name in _fields_to_check(cls):
        if name == "__slots__":
            raise UnsupportedModuleError(
                "`__slots__` is not supported by PAX modules.",
                fix=f"remove `__slots__` from {cls.__qualname__}",
                why="the attributes of a module live in its dictionary, from which JAX takes its leaves",
                module=module,
            )
        if name in vars(module):
            continue
        value = getattr(cls, name)
        leaves = jtu.tree_leaves(value, is_leaf=is_node)
        kind = "module" if any(map(is_module, leaves)) else "ndarray" if any(map(is_array, leaves)) else None
        if kind is not None:
            raise UnregisteredFieldError(
                f"\nUnregistered field `{module!r}.{name}`:\n    value={describe(value)}\ncontains a {kind} leaf.\n",
                where=f"attribute `{name}` of the class",
                got=describe(value),
                want="an instance attribute",
                fix=f"assign it in `__init__`: self.{name} = ...",
                why="class attributes are in no pytree: it would be neither trained, copied nor saved",
                module=module,
            )


def _fields_to_check(cls: Any) -> tuple[str, ...]:
    """Returns the class attributes that could hold arrays or modules, and ``__slots__`` of a module class.

    Kept on the class until one of its attributes is set: this runs at every construction.
    """
    kept: tuple[str, ...] | None = cls.__dict__.get("_pax_fields")
    if kept is not None:
        return kept
    fields: list[str] = []
    hidden: set[str] = set()
    for base in cls.__mro__:
        for name, value in base.__dict__.copy().items():  # another thread may set an attribute meanwhile
            if name == "__slots__":
                if "_pax_structures" in base.__dict__:  # a module class, not the storage below all of them
                    fields.append(name)
            elif name not in hidden and not name.startswith(("__", "_pax_", "_abc_")):
                hidden.add(name)
                if not isinstance(value, _HARMLESS):
                    fields.append(name)
    type.__setattr__(cls, "_pax_fields", tuple(fields))
    return tuple(fields)
