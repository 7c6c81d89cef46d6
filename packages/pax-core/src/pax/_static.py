"""Static values: the part of a module that is compared, not traced.

Three things are needed of them: a strict equality, a key under which equal values share one structure, and copies of
mutable builtin containers, so that a structure never changes after it was made.
"""

import functools
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

_ATOMS = frozenset({int, bool, str, bytes, type(None)})
_DICTS = frozenset({dict, OrderedDict, defaultdict})
_SETS = frozenset({set, frozenset})
_CONTAINERS = frozenset({list, set, *_DICTS})


def static_equal(a: Any, b: Any) -> bool:
    """Whether two static values are interchangeable inside a compiled function.

    Stricter than ``==``: types must agree at every level (``1``, ``1.0`` and ``True`` differ), zeros must agree in
    sign, and NaN equals NaN. A value whose ``==`` raises, or gives no bool, equals only itself.
    """
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is float:
        return (a == b and math.copysign(1.0, a) == math.copysign(1.0, b)) or (a != a and b != b)
    if kind is list or isinstance(a, tuple):
        return len(a) == len(b) and all(map(static_equal, a, b))
    if kind in _DICTS:
        return _dicts_equal(a, b)
    if kind in _SETS:
        return len(a) == len(b) and set(map(_element_key, a)) == set(map(_element_key, b))
    if kind is functools.partial:
        return static_equal(a.func, b.func) and static_equal(a.args, b.args) and static_equal(a.keywords, b.keywords)
    try:
        return bool(a == b)
    except Exception:  # a user's `==` may raise anything, NumPy's raises ValueError on several elements
        return False


def _dicts_equal(a: Any, b: Any) -> bool:
    keys, other_keys = list(map(_element_key, a)), list(map(_element_key, b))
    if type(a) is OrderedDict and keys != other_keys:
        return False
    if type(a) is defaultdict and not static_equal(a.default_factory, b.default_factory):
        return False
    values, other_values = dict(zip(keys, a.values(), strict=True)), dict(zip(other_keys, b.values(), strict=True))
    return values.keys() == other_values.keys() and all(
        static_equal(value, other_values[key]) for key, value in values.items()
    )


def _element_key(value: Any) -> Any:
    """Returns what stands for a dictionary key or a member of a set: its own equality counts, and its type."""
    kind = type(value)
    if kind in _ATOMS or kind is float or kind is tuple or kind is frozenset:
        return static_key(value)
    return kind, value


def static_key(value: Any) -> Any:
    """Returns a hashable key; equal keys imply ``static_equal`` values (the reverse need not hold).

    What :func:`copy_containers` copies is keyed by its content, all else that is not builtin data by identity: whoever
    stores the key must keep that alive.
    """
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if kind is list or kind is tuple or _is_named_tuple(value):
        return kind, *map(static_key, value)
    if kind in _DICTS:
        items = tuple((_element_key(key), static_key(item)) for key, item in value.items())
        return kind, static_key(value.default_factory) if kind is defaultdict else None, items
    if kind in _SETS:
        return kind, frozenset(map(_element_key, value))
    if kind is functools.partial:
        return kind, static_key(value.func), static_key(value.args), static_key(value.keywords)
    if kind is slice:
        return kind, static_key(value.start), static_key(value.stop), static_key(value.step)
    return id(value)


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


def is_changeable(value: Any) -> bool:
    """Whether ``value`` is, or holds in a tuple, a builtin container that can change in place."""
    kind = type(value)
    return kind in _CONTAINERS or (isinstance(value, tuple) and any(map(is_changeable, value)))


def copy_containers(value: Any) -> Any:
    """Returns ``value`` with new builtin containers, recursively; everything else is shared by reference."""
    return map_containers(lambda leaf: leaf, value)


def map_containers(func: Callable[[Any], Any], value: Any) -> Any:
    """Applies ``func`` to what is no exact list, tuple, dict or set; containers are rebuilt with their type."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map_containers(func, item) for item in value)
    if kind is dict or kind is OrderedDict:
        return kind((key, map_containers(func, item)) for key, item in value.items())
    if kind is defaultdict:
        return defaultdict(value.default_factory, {key: map_containers(func, item) for key, item in value.items()})
    if kind is set:
        return set(value)
    if _is_named_tuple(value):
        return kind(*(map_containers(func, item) for item in value))
    return func(value)
