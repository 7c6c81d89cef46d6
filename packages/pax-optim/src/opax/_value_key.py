"""Hashable keys for functions and for what they hold: equal keys, interchangeable functions."""

import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pax.extend import is_tracer

_MOST_ELEMENTS = 4096  # of arrays that are compared by value: larger ones are no hyper-parameters
_MOST_NODES = 10_000
_MOST_LEVELS = 50


class _Identity:
    """Equal for the same object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value  # kept alive, so that no other object gets its address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class _Equality:
    """Equal for objects of one class that call each other equal."""

    __slots__ = ("hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.hash = hash(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Equality):
            return False
        if self.value is other.value:
            return True
        try:
            return type(self.value) is type(other.value) and bool(self.value == other.value)
        except Exception:  # a user's `==` may raise anything
            return False

    def __hash__(self) -> int:
        return self.hash


def value_key(value: Any) -> Any:
    """Returns a hashable key of what ``value`` is and holds; :func:`opax._by_value.by_value` tells the rules."""
    return _Keys().of(value)


def holds_tracer(key: Any) -> bool:
    """Whether a key is that of something which holds a value that is being traced."""
    if isinstance(key, _Identity):
        return is_tracer(key.value)
    return isinstance(key, tuple | frozenset) and any(map(holds_tracer, key))


def has_a_name(value: Any) -> bool:
    """Whether ``value`` is a function that can be imported by its name."""
    if not isinstance(value, types.FunctionType):
        return False
    try:
        return attrgetter(value.__qualname__)(sys.modules[value.__module__]) is value
    except (AttributeError, KeyError, TypeError):
        return False


class _Keys:
    """Makes one key. ``outer`` are the values that are being looked into: one that holds itself ends there."""

    def __init__(self) -> None:
        self.outer: list[Any] = []
        self.nodes = 0

    def of(self, value: Any) -> Any:
        atom = _atom_key(value)
        if atom is not None:
            return atom
        make = _CONTENTS.get(type(value))
        if make is None and isinstance(value, tuple) and hasattr(type(value), "_fields"):
            make = _of_items
        if make is None:
            return _other_key(value)
        self.nodes += 1
        if self.nodes > _MOST_NODES or len(self.outer) > _MOST_LEVELS or has_a_name(value):
            return _Identity(value)
        for level, container in enumerate(self.outer):
            if container is value:
                return "outer", level
        self.outer.append(value)
        try:
            return type(value), make(self, value)
        finally:
            self.outer.pop()

    def all(self, values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(map(self.of, values))


def _of_items(keys: _Keys, value: Any) -> Any:
    return keys.all(value)


def _of_dict(keys: _Keys, value: Any) -> Any:
    # In order: who walks over a dictionary computes another thing in another order.
    return tuple((keys.of(name), keys.of(item)) for name, item in value.items())


def _of_set(keys: _Keys, value: Any) -> Any:
    return frozenset(keys.all(value))


def _of_function(keys: _Keys, function: Any) -> Any:
    return (
        function.__code__,
        keys.of(function.__defaults__),
        keys.of(function.__kwdefaults__),
        keys.of(function.__dict__),
        tuple(_of_cell(keys, cell) for cell in function.__closure__ or ()),
        # Not the identity of the dictionary: what cloudpickle restores has another one, with the same values.
        tuple(
            (name, keys.of(function.__globals__.get(name, _Missing))) for name in sorted(set(_names(function.__code__)))
        ),
    )


class _Missing:
    """Stands for a name that is no global variable: an attribute or a builtin."""


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _of_cell(keys: _Keys, cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:  # a variable without a value yet: who knows which it will get
        return _Identity(object())
    return keys.of(contents)


def _of_partial(keys: _Keys, value: Any) -> Any:
    return keys.of(value.func), keys.of(value.args), keys.of(value.keywords), keys.of(value.__dict__)


def _of_method(keys: _Keys, value: Any) -> Any:
    return keys.of(value.__func__), keys.of(value.__self__)


_CONTENTS: dict[type, Callable[[_Keys, Any], Any]] = {
    tuple: _of_items,
    list: _of_items,
    dict: _of_dict,
    set: _of_set,
    frozenset: _of_set,
    types.FunctionType: _of_function,
    types.MethodType: _of_method,
    functools.partial: _of_partial,
}


def _atom_key(value: Any) -> Any:
    """Returns the key of a number, a string and such; ``None`` for other things."""
    kind = type(value)
    if kind is float:
        return kind, value.hex()  # equal for NaN, not for 0.0 and -0.0
    if kind is complex:
        return kind, value.real.hex(), value.imag.hex()
    if kind in (int, bool, str, bytes, type(None)):
        return kind, value
    return None


def _other_key(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array_key(value)
    try:
        return _Equality(value)
    except Exception:  # no hash, or one that raises
        return _Identity(value)


def _array_key(value: Any) -> Any:
    if is_tracer(value) or value.size > _MOST_ELEMENTS:
        return _Identity(value)
    sharding, is_weak = None, False
    if isinstance(value, jax.Array):
        if value.is_deleted() or not value.is_fully_addressable or jnp.issubdtype(value.dtype, jax.dtypes.extended):
            return _Identity(value)
        sharding, is_weak = value.sharding, value.weak_type
    content = np.asarray(value)
    if content.dtype.hasobject:
        return _Identity(value)
    return type(value), content.dtype, content.shape, content.tobytes(), sharding, is_weak
