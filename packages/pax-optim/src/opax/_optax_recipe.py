"""An optax transformation held by value: the function that makes it, together with its arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from opax._by_value import by_value
from opax._value_key import holds_tracer, value_key
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer

_WHERE = "from_optax"
_FIX = (
    "opax.from_optax(optax.lion, 1e-3), with the function and its arguments; not with its result, optax.lion(1e-3);\n"
    "several: opax.chain(opax.from_optax(optax.clip, 1.0, negate=False), opax.from_optax(optax.lion, 1e-3));\n"
    "schedules: opax.schedule.cosine_decay(1e-3, 1000) and the like"
)


class Recipe:
    """Makes a gradient transformation of optax; equal recipes make equal ones.

    Attributes:
        function: makes the transformation.
        args: its positional arguments.
        kwargs: names and values of its keyword arguments.
    """

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self._key = value_key((function, args, kwargs))
        self._hash = hash(self._key)  # each call of a compiled function asks for it

    def make(self) -> Any:
        """Returns the transformation."""
        return self.function(*self.args, **dict(self.kwargs))

    @property
    def name(self) -> str:
        """How optax calls the transformation, as far as it can be told."""
        if self.is_ready:
            return str(getattr(self.args[1], "__qualname__", "update")).split(".<locals>")[0]
        function: Any = self.function
        while isinstance(getattr(function, "__wrapped__", function), functools.partial):
            function = getattr(function, "__wrapped__", function).func
        return str(getattr(function, "__name__", type(function).__name__))

    @property
    def is_ready(self) -> bool:
        """Whether the transformation was given as it is."""
        return self.function in (optax.GradientTransformation, optax.GradientTransformationExtraArgs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recipe):
            return NotImplemented
        return self is other or (self._hash == other._hash and bool(self._key == other._key))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe, (self.function, self.args, self.kwargs)

    def __repr__(self) -> str:
        if self.is_ready:
            return self.name
        arguments = [repr(value) for value in self.args] + [f"{name}={value!r}" for name, value in self.kwargs]
        return f"{self.name}({', '.join(arguments)})"


def recipe_of(tx: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recipe:
    """Returns the recipe for what a user gave to ``from_optax``.

    Raises:
        ArgumentTypeError: ``tx`` makes no transformation, or does not take the arguments.
        ArgumentError: an argument is being traced.
    """
    if not isinstance(tx, type) and callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None)):
        if args or kwargs:
            raise ArgumentTypeError(
                "A transformation that is made already takes no arguments.",
                where=_WHERE,
                got=f"{describe(tx)} and {len(args) + len(kwargs)} arguments for it",
                want="the transformation alone, or a function and the arguments for it",
                fix=_FIX,
            )
        kind = type(tx) if isinstance(tx, optax.GradientTransformation) else optax.GradientTransformation
        if holds_tracer(value_key((tx.init, tx.update))):
            raise _traced("a number inside of the transformation")
        return Recipe(kind, (by_value(tx.init, _FIX), by_value(tx.update, _FIX)), ())
    if not callable(tx) or (hasattr(tx, "init") and not isinstance(tx, type)):
        raise ArgumentTypeError(
            "Expecting a gradient transformation of optax.",
            where=_WHERE,
            got=describe(tx),
            want="a function that makes one, followed by its arguments; or an optax.GradientTransformation",
            fix=_FIX,
        )
    recipe = Recipe(by_value(tx, _FIX), *_bound(tx, args, kwargs))
    made = recipe.make()
    if not isinstance(made, optax.GradientTransformation):
        raise ArgumentTypeError(
            "Expecting a function that returns a gradient transformation of optax.",
            where=_WHERE,
            got=f"`{recipe.name}`, which returns {describe(made)}",
            want="optax.GradientTransformation",
            fix="opax.multi_steps(opax.adam(1e-3), 4)" if isinstance(made, optax.MultiSteps) else _FIX,
        )
    return recipe


def _bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """Returns the arguments in one form, whether they were given by position or by name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a few builtin callables have none
        pass
    else:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentTypeError(
                "The function does not take these arguments.",
                where=_WHERE,
                got=str(error),
                want=f"{getattr(function, '__name__', 'function')}({', '.join(signature.parameters)})",
                fix=_FIX,
            ) from None
        args, kwargs = bound.args, bound.kwargs
    return tuple(map(_held, args)), tuple((name, _held(value)) for name, value in sorted(kwargs.items()))


def _held(value: Any) -> Any:
    """Returns an argument such that equal ones compare as equal."""
    if is_tracer(value):
        raise _traced(describe(value))
    if isinstance(value, jax.Array | np.ndarray | np.generic) and np.ndim(value) == 0:
        is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended)
        return value if is_key else value.item()
    if isinstance(value, optax.GradientTransformation):
        return type(value)(*(by_value(function, _FIX) for function in value))
    if type(value) in (list, tuple):
        return type(value)(map(_held, value))
    if type(value) is dict:
        return {name: _held(item) for name, item in value.items()}
    return by_value(value, _FIX) if callable(value) else value


def _traced(got: str) -> ArgumentError:
    return ArgumentError(
        "A hyper-parameter of optax cannot be a value that is being traced.",
        where=_WHERE,
        got=got,
        want="a number: it is a static part of the optimizer",
        fix="opax.chain(opax.from_optax(optax.scale_by_adam, negate=False), opax.scale(learning_rate))",
    )
