"""``ParamInit``: the placeholder of a parameter that is not there yet."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentError, ArgumentTypeError, AttributeNameError, PaxError
from pax.experimental.parallax._initializers import Recipe, find_recipe, same_initializer
from pax.extend import describe

Initializer = Callable[..., Any]

NO_ARRAY = "This parameter is not initialized."
_FIX = "layer = layer.initialized(jax.random.key(0))"


class ParamInit:
    """The shape of a parameter, and the function that makes it.

    It stands where the array will be until :meth:`Module.initialized` is called. It never changes. Two of one shape
    with equal initialisers are equal.

    Args:
        shape: the shape of the array: a tuple of integers ≥ 0, or one integer.
        initializer: a function of ``(key, shape)`` that returns the array, such as ``jax.nn.initializers.normal()``.

    Raises:
        ArgumentTypeError: ``initializer`` is not callable, or ``shape`` is no shape.
        ArgumentError: a size is negative.

    >>> import jax
    >>> from pax.experimental.parallax import ParamInit
    >>> weight = ParamInit((10, 5), jax.nn.initializers.xavier_normal())
    >>> weight, weight.shape
    (ParamInit(10, 5), (10, 5))
    """

    __slots__ = ("_initializer", "_shape")
    __array_ufunc__ = None  # NumPy arrays hand their arithmetic over

    def __init__(self, shape: int | Iterable[int], initializer: Initializer) -> None:
        self._shape = _check_shape(shape)
        made_by: Any = initializer
        if not callable(made_by) or isinstance(made_by, type):
            raise ArgumentTypeError(
                "Expecting a function that makes the parameter.",
                where="ParamInit, argument `initializer`",
                got=describe(made_by),
                want="a function of (key, shape)",
                fix="ParamInit((10, 5), jax.nn.initializers.xavier_normal())",
            )
        self._initializer = initializer

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        return self._shape

    @property
    def initializer(self) -> Initializer:
        """The function that makes the parameter."""
        return self._initializer

    def make(self, key: jax.Array, *, where: str = "") -> jax.Array:
        """Returns the parameter: ``initializer(key, shape)``.

        Args:
            key: a key.
            where: what errors call this place.

        Raises:
            ArgumentTypeError: the initialiser returned no array, or raised a ``TypeError``.
            ArgumentError: the initialiser returned an array of another shape, or raised a ``ValueError``.
        """
        try:
            made = self._initializer(key, self._shape)
        except PaxError:
            raise
        except (TypeError, ValueError) as error:
            kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentError
            raise kind(
                f"The initialiser of {self!r} failed.",
                where=where,
                got=str(error),
                want="a function of (key, shape) that works for this shape",
                fix=f"ParamInit({self._shape}, jax.nn.initializers.normal())  # works for all shapes",
            ) from error
        name = getattr(self._initializer, "__qualname__", "initializer").partition(".<locals>")[0]
        if not isinstance(made, jax.Array | np.ndarray | np.generic):
            raise ArgumentTypeError(
                "An initialiser has to return an array.",
                where=where,
                got=describe(made),
                want=f"an array of shape {self._shape}",
                fix=f"ParamInit({self._shape}, {name}())  # call the function that makes the initialiser"
                if callable(made)
                else "def initializer(key, shape): return jax.random.normal(key, shape)",
            )
        if np.shape(made) != self._shape:
            raise ArgumentError(
                "An initialiser returned an array of another shape.",
                where=where,
                got=describe(made),
                want=f"an array of shape {self._shape}",
                fix="def initializer(key, shape): return jax.random.normal(key, shape)",
            )
        return jnp.asarray(made)

    def __repr__(self) -> str:
        return f"ParamInit({', '.join(map(str, self._shape))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParamInit):
            return NotImplemented
        return self._shape == other._shape and same_initializer(self._initializer, other._initializer)

    def __hash__(self) -> int:
        return hash((ParamInit, self._shape))

    def __copy__(self) -> "ParamInit":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParamInit":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._shape, find_recipe(self._initializer))

    def _no_array(self, *operands: Any) -> NoReturn:
        raise ArgumentTypeError(
            NO_ARRAY,
            got=f"a calculation with {self!r}",
            want="an array",
            fix=_FIX,
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _no_array
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _no_array
    __neg__ = __pos__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = _no_array
    __array__ = _no_array

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"'ParamInit' object has no attribute {name!r}", name=name, obj=self)
        raise AttributeNameError(
            NO_ARRAY,
            where=f"attribute `{name}`",
            got=f"{self!r}.{name}",
            want="`shape`, `initializer`; the attributes of arrays come with `initialized`",
            fix=_FIX,
        )


def _restore(shape: tuple[int, ...], initializer: Any) -> ParamInit:
    return ParamInit(shape, initializer.make() if isinstance(initializer, Recipe) else initializer)


def _check_shape(shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in (shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        raise ArgumentTypeError(
            "A shape is a tuple of integers.",
            where="ParamInit, argument `shape`",
            got=f"{shape!r}" if isinstance(shape, tuple | list) else describe(shape),
            want="a tuple of integers ≥ 0",
            fix="ParamInit((10, 5), jax.nn.initializers.xavier_normal())",
        ) from None
    if any(size < 0 for size in sizes):
        raise ArgumentError(
            "A size cannot be negative.",
            where="ParamInit, argument `shape`",
            got=str(sizes),
            want="a tuple of integers ≥ 0",
            fix="ParamInit((10, 5), jax.nn.initializers.xavier_normal())",
        )
    return sizes
