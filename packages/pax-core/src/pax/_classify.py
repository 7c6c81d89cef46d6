"""Classification of attribute values: which are children in the pytree, which are static, which are both."""

import types
from typing import Any, NamedTuple

import jax
import jax.tree_util as jtu
import numpy as np

from pax._empty import EmptyNode
from pax._static import is_changeable

PLAIN = frozenset(
    {int, float, str, bool, bytes, complex, type(None), type, types.FunctionType, types.BuiltinFunctionType}
)


class NodeBase:
    """The storage of a module; the attribute dictionary behind it may not be filled yet (see ``_node.py``)."""

    __slots__ = ("__dict__", "__weakref__", "_pax_before", "_pax_flat", "_pax_state")


# Tuples: the walks over whole trees ask often, and a union is slower.
_NODE = (NodeBase, EmptyNode)
_ARRAY = (np.ndarray, jax.Array)
CHILD = (*_NODE, *_ARRAY)


def is_node(value: object) -> bool:
    """Whether ``value`` is a module or an empty node: where walks over one module's own content stop."""
    return isinstance(value, _NODE)


def is_module(value: object) -> bool:
    """Whether ``value`` is a module."""
    return isinstance(value, NodeBase)


def is_array(value: object) -> bool:
    """Whether ``value`` is an array for PAX: a JAX or NumPy array, a tracer, or a typed key array."""
    return isinstance(value, _ARRAY)


class Static(NamedTuple):
    """A value without pytree content.

    Attributes:
        changeable: it has builtin containers, which may gain content in place.
    """

    changeable: bool


class Child(NamedTuple):
    """A value whose leaves are all arrays, modules or empty nodes.

    Attributes:
        changeable: it has containers that can change in place.
    """

    changeable: bool


class Mixed(NamedTuple):
    """A value with arrays or modules and with other leaves.

    Attributes:
        changeable: it has containers that can change in place.
        skeleton: the structure of the value around all of these leaves.
        leaves: arrays, modules, empty nodes, and the static leaves between them.
        static: for each leaf, whether it is static.
    """

    changeable: bool
    skeleton: Any
    leaves: list[Any]
    static: tuple[bool, ...]


_STATIC, _STATIC_CONTAINER = Static(changeable=False), Static(changeable=True)
_ARRAY_OR_MODULE = Child(changeable=False)


def classify(value: Any) -> Static | Child | Mixed:
    """Classifies one attribute value."""
    if type(value) in PLAIN:
        return _STATIC
    if isinstance(value, CHILD):
        return _ARRAY_OR_MODULE
    leaves, skeleton = jtu.tree_flatten(value, is_leaf=is_node)
    static = tuple(not isinstance(leaf, CHILD) for leaf in leaves)
    if all(static):
        return _STATIC_CONTAINER if is_changeable(value) else _STATIC
    changeable = _has_open_container(value)
    return Mixed(changeable, skeleton, leaves, static) if any(static) else Child(changeable)


def _has_open_container(value: Any) -> bool:
    """Whether pytree content may change in place: in anything but modules, leaves and tuples of such."""
    if isinstance(value, tuple):
        return any(map(_has_open_container, value))
    return type(value) not in PLAIN and not isinstance(value, CHILD) and not _is_leaf(value)


def _is_leaf(value: Any) -> bool:
    return bool(jtu.all_leaves((value,)))


def own_method(owner: Any, value: Any) -> str | None:
    """Returns the name of a method of ``owner`` that ``value`` is, or holds, bound; if there is one."""
    for leaf in jtu.tree_leaves(value, is_leaf=is_node):
        if type(leaf) is types.MethodType and leaf.__self__ is owner:
            return leaf.__name__
    return None
