"""Functions that are equal when they compute the same: same code, same defaults, same contents of closures.

``optax.cosine_decay_schedule(0.1, 100)`` returns another function in each call. Optimizers hold such functions as
static attributes, and to compare these by identity would compile a train step anew for each of them.
"""

import functools
import pickle
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

from opax._value_key import has_a_name, value_key
from pax.errors import ArgumentTypeError
from pax.extend import describe

_FIX = "use one of opax.schedule, such as opax.schedule.cosine_decay(0.1, 100),\nor define a function at module level"
_MOST_ITEMS_SHOWN = 4


class ByValue:
    """A function that compares by what it holds; see :func:`by_value`."""

    # Not `__slots__`: `functools.update_wrapper` gives it name, module and signature of the function.
    __wrapped__: Callable[..., Any]

    def __init__(self, function: Callable[..., Any], fix: str) -> None:
        """Takes what the function holds now.

        Args:
            function: a function, a bound method or a ``functools.partial``.
            fix: what to do if it is to be pickled and can not be.
        """
        functools.update_wrapper(self, function)
        self._fix = fix
        self._key = value_key(function)
        self._hash = hash(self._key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.__wrapped__(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ByValue):
            return NotImplemented
        return self is other or (self._hash == other._hash and bool(self._key == other._key))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return _shown(self.__wrapped__, set())

    def __copy__(self) -> "ByValue":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "ByValue":
        return self  # as functions are

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if not _is_own_pickler(sys._getframe(1).f_locals.get("self")):
            try:
                pickle.dumps(self.__wrapped__)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise ArgumentTypeError(
                    "Cannot pickle a function that another function made.",
                    got=repr(self),
                    want="functions that can be imported by their name",
                    fix=f"{self._fix},\nor pickle with cloudpickle",
                ) from error
        return by_value, (self.__wrapped__, self._fix)


_PICKLERS = {("_pickle", "Pickler"), ("pickle", "_Pickler")}


def _is_own_pickler(caller: Any) -> bool:
    # cloudpickle, dill and their like can pickle any function. Their picklers are classes derived from Python's, and
    # found as the caller; `pickle` itself is written in C.
    return any((base.__module__, base.__name__) in _PICKLERS for base in type(caller).__mro__[1:])


_COMPARED_BY_CONTENT = (types.FunctionType, types.MethodType, functools.partial)
# By the `id` of the function, which its wrapper keeps alive, and the advice.
_in_use: weakref.WeakValueDictionary[tuple[int, str], ByValue] = weakref.WeakValueDictionary()


def by_value(function: Callable[..., Any], fix: str = _FIX) -> Callable[..., Any]:
    """Makes a function comparable.

    Two functions are equal if they have the same code, and equal defaults, attributes, contents of closures and values
    of the global variables that they use; ``functools.partial`` and bound methods if their parts are equal. In these,

    - functions are compared in the same way, those that can be imported by their name by identity;
    - numbers with their type (``1``, ``1.0`` and ``True`` differ; NaN equals
      NaN), lists, tuples, dictionaries and sets by their elements;
    - small arrays by their elements, dtype, shape and sharding; large ones by identity;
    - other objects by ``==`` if they can be hashed; all else by identity.

    The contents count as they are when the function is first given: functions are taken to be pure.

    Args:
        function: any callable.
        fix: the advice in the error of pickling a function that cannot be.

    Returns:
        ``function`` itself if it is comparable already: a function that can be imported by its name, a builtin one, a
        class, an object, a function compiled by ``jax.jit`` (which is compared by identity). Otherwise a callable with
        its name and signature; it can be pickled if the function can.
    """
    if not isinstance(function, _COMPARED_BY_CONTENT) or has_a_name(function):
        return function
    # The same function stays equal to itself: some of optax's write to their closures (an int becomes a float).
    known = _in_use.get((id(function), fix))
    if known is None:
        known = _in_use[id(function), fix] = ByValue(function, fix)
    return known


def _shown(value: Any, outer: set[int]) -> str:
    if id(value) in outer:
        return "..."
    outer = {*outer, id(value)}
    if isinstance(value, ByValue):
        return _shown(value.__wrapped__, outer)
    if type(value) is functools.partial:
        arguments = [_shown(item, outer) for item in value.args]
        arguments += [f"{name}={_shown(item, outer)}" for name, item in value.keywords.items()]
        return f"{_shown(value.func, outer)}({', '.join(arguments)})"
    if isinstance(value, types.FunctionType):
        return _shown_function(value, outer)
    if type(value) in (list, tuple) and len(value) <= _MOST_ITEMS_SHOWN:
        items = ", ".join(_shown(item, outer) for item in value)
        return f"[{items}]" if type(value) is list else f"({items}{',' * (len(value) == 1)})"
    return describe(value).strip("`")


def _shown_function(function: types.FunctionType, outer: set[int]) -> str:
    contents = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            contents.append(f"{name}={_shown(cell.cell_contents, outer)}")
        except ValueError:  # a variable without a value yet
            contents.append(f"{name}=?")
    return f"{function.__qualname__}[{', '.join(contents)}]" if contents else function.__qualname__
