"""``ParameterTuple`` and ``ModuleTuple``: fixed rows of parameters and of modules."""

from collections.abc import Iterable
from typing import Any, Self

import jax
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentTypeError
from pax.experimental.parallax._param_init import ParamInit
from pax.extend import describe, is_module


class _Row(tuple[Any, ...]):
    """A tuple that JAX takes apart, with items of one kind, shown with the name of its class."""

    __slots__ = ()

    def __new__(cls, *items: Any) -> Self:
        if len(items) == 1 and isinstance(items[0], Iterable) and not cls._is_item(items[0]):
            items = tuple(items[0])
        for index, item in enumerate(items):
            if not cls._is_item(item):
                raise ArgumentTypeError(
                    f"This cannot be in a {cls.__name__}.",
                    where=f"{cls.__name__}, item {index}",
                    got=describe(item),
                    want=cls._wanted(),
                )
        return super().__new__(cls, items)

    def __init_subclass__(cls) -> None:
        jtu.register_pytree_with_keys(
            cls,
            lambda row: (tuple((jtu.SequenceKey(index), item) for index, item in enumerate(row)), None),
            lambda _, items: _rebuild(cls, items),
            lambda row: (tuple(row), None),
        )

    @classmethod
    def _is_item(cls, value: Any) -> bool:
        raise NotImplementedError

    @classmethod
    def _wanted(cls) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(_show, self))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), tuple(self))


def _rebuild(cls: Any, items: Iterable[Any]) -> Any:
    """Makes a row of anything: trees of gradients, axes and the like hold other items."""
    return tuple.__new__(cls, items)


def _show(item: Any) -> str:
    return describe(item) if hasattr(item, "dtype") else repr(item)


class ParameterTuple(_Row):
    """A fixed number of parameters in one field, which may nest.

    Before ``initialized`` it holds placeholders, afterwards arrays. It is a tuple, and can be iterated and indexed.

    Args:
        *items: each a `ParamInit`, an array, or a `ParameterTuple`; or one iterable of such.

    Raises:
        ArgumentTypeError: an item is something else.

    >>> import jax
    >>> from pax.experimental.parallax import ParameterTuple, ParamInit
    >>> ParameterTuple([ParamInit((2,), jax.nn.initializers.zeros)])
    ParameterTuple(ParamInit(2))
    """

    __slots__ = ()

    @classmethod
    def _is_item(cls, value: Any) -> bool:
        return isinstance(value, ParamInit | ParameterTuple | pax.EmptyNode | jax.Array | np.ndarray)

    @classmethod
    def _wanted(cls) -> str:
        return "a ParamInit, an array, or a ParameterTuple"


class ModuleTuple(_Row):
    """A fixed number of modules in one field, which may nest.

    It is a tuple, and can be iterated and indexed.

    Args:
        *items: each a module, of this dialect or any other, or a `ModuleTuple`; or one iterable of such.

    Raises:
        ArgumentTypeError: an item is something else.

    >>> from pax.experimental.parallax import Dense, ModuleTuple
    >>> ModuleTuple([Dense(2, 3)])
    ModuleTuple(Dense uninit (2, 3))
    """

    __slots__ = ()

    @classmethod
    def _is_item(cls, value: Any) -> bool:
        return is_module(value) or isinstance(value, ModuleTuple | pax.EmptyNode)

    @classmethod
    def _wanted(cls) -> str:
        return "a module, or a ModuleTuple"
