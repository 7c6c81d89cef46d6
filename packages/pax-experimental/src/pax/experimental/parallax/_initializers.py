"""Initialisers as values: two of one recipe are equal, and they can be pickled.

``jax.nn.initializers.normal()`` returns a new function at each call. These functions are compared by what they do, so
that two models built alike have one structure, and one trace.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jax

_DEPTH = 8  # of functions within functions: one that refers to itself would never end


def same_initializer(a: Any, b: Any, depth: int = _DEPTH) -> bool:
    """Whether two values are interchangeable: one code with equal defaults and equal enclosed values."""
    if a is b:
        return True
    if type(a) is not type(b) or depth == 0:
        return False
    if isinstance(a, types.FunctionType):
        if a.__code__ is not b.__code__ or a.__globals__ is not b.__globals__:
            return False
        return same_initializer(_enclosed(a), _enclosed(b), depth - 1)
    if isinstance(a, functools.partial):
        return same_initializer((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), depth - 1)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same_initializer(x, y, depth) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_initializer(a[key], b[key], depth) for key in a)
    try:
        return bool(a == b)
    except Exception:  # arrays of several elements, or whatever a user's `==` raises
        return False


def _enclosed(function: types.FunctionType) -> tuple[Any, ...]:
    return function.__defaults__, function.__kwdefaults__, _cells(function)


def _cells(function: types.FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet: equal to nothing
            found[name] = object()
    return found


class Recipe:
    """How to make an initialiser of JAX anew; it stands for the initialiser in a pickle.

    Args:
        factory: the name of a function of ``jax.nn.initializers``.
        arguments: what to call it with.
    """

    __slots__ = ("arguments", "factory")

    def __init__(self, factory: str, arguments: dict[str, Any]) -> None:
        self.factory = factory
        self.arguments = arguments

    def make(self) -> Callable[..., Any]:
        """Returns the initialiser."""
        made: Callable[..., Any] = getattr(jax.nn.initializers, self.factory)(**self.arguments)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe, (self.factory, self.arguments)


def find_recipe(initializer: Any) -> Any:
    """Returns the recipe of an initialiser that a function of ``jax.nn.initializers`` made; else the initialiser."""
    if not isinstance(initializer, types.FunctionType):
        return initializer
    name, _, inner = initializer.__qualname__.partition(".<locals>.")
    factory = getattr(jax.nn.initializers, name, None)
    if not inner or not callable(factory):
        return initializer
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(initializer).parameters.items()
        if parameter.default is not parameter.empty
    }
    known.update(_cells(initializer))
    recipe = Recipe(name, {name: known[name] for name in inspect.signature(factory).parameters if name in known})
    try:
        made = recipe.make()
    except Exception:  # another function of that name, with other arguments
        return initializer
    return recipe if same_initializer(made, initializer) else initializer
