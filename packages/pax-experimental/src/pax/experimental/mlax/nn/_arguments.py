"""Checks of the arguments and inputs of layers, and the keys and initial values of their parameters."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax._module import Module
from pax.experimental.mlax._parameter import Parameter
from pax.extend import check_key, describe

Initializer = Callable[..., Any]
"""``initializer(key, shape, dtype)`` returns an array, like those of ``jax.nn.initializers``."""


class KeyedLayer(Module):
    """The base of layers that draw their parameters in ``setup``.

    Args:
        rng: a key. The layer keeps a copy of its own, which is not trained: several layers can be given the same key.
    """

    def __init__(self, rng: Any) -> None:
        super().__init__()
        self.rng = Parameter(trainable=False, data=jnp.copy(check_key(rng)))

    def draw(self, initializer: str, shape: tuple[int, ...], dtype: Any, *, what: str) -> jax.Array:
        """Returns an initial value, and drops the initializer: it may not be picklable, and is not needed any more.

        Args:
            initializer: the name of the attribute with it.
            shape: the shape to draw.
            dtype: its dtype.
            what: the name of the parameter.

        Raises:
            ArgumentError: the initializer cannot make this shape, or has been used.
            ArgumentTypeError: it is no function of ``(key, shape, dtype)`` that returns an array.
        """
        function = getattr(self, initializer)
        if function is None:
            raise ArgumentError(
                "`setup` can run only once.",
                got=f"no {initializer}, which the first `setup` has dropped",
                fix="make a new layer",
                module=self,
            )
        want = f"{jnp.dtype(dtype)}[{','.join(map(str, shape))}]"
        try:
            value = jnp.asarray(function(self.rng.data, shape, dtype))
        except TypeError as error:
            raise ArgumentTypeError(
                f"The initializer of `{what}` makes no array.",
                where=f"argument `{initializer}`",
                got=f"{describe(function)}, and {error}",
                want="initializer(key, shape, dtype), which returns an array",
                fix=f"{initializer}=jax.nn.initializers.normal()  # with the parentheses",
                module=self,
            ) from error
        except ValueError as error:
            raise ArgumentError(
                f"The initializer of `{what}` cannot make its shape.",
                got=str(error),
                want=f"an initializer of {want}",
                fix="jax.nn.initializers.zeros, ones, normal() and uniform() make any shape",
                module=self,
            ) from error
        if value.shape != shape:
            raise ArgumentError(
                f"The initializer of `{what}` made another shape.", got=describe(value), want=want, module=self
            )
        setattr(self, initializer, None)
        return value


def lecun_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draws kernels as ``jax.nn.initializers.lecun_normal()`` does; unlike that, it can be pickled."""
    return initializers.lecun_normal()(key, shape, dtype)


def floating(x: Any, *, module: Any = None, where: str | None = None) -> jax.Array:
    """Returns an input as an array of floats; integers and booleans, which no weight could be cast to, become floats.

    Raises:
        ArgumentTypeError: it is no array.
    """
    array = any_array(x, module=module, where=where)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))


def any_array(x: Any, *, module: Any = None, where: str | None = None) -> jax.Array:
    """Returns an input as an array.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            "Expecting an array.", module=module, where=where, got=describe(x), want="a JAX or NumPy array"
        ) from None


def axes_of(axis: Any, ndim: int, *, where: str) -> tuple[int, ...]:
    """Returns one or several axes as non-negative numbers, without repetitions.

    Raises:
        ArgumentTypeError: an axis is no integer.
        ArgumentError: an array of ``ndim`` axes has no such axis.
    """
    try:
        axes = tuple(map(operator.index, axis if isinstance(axis, Sequence) else (axis,)))
    except TypeError:
        raise ArgumentTypeError(
            "An axis has to be an integer.", where=where, got=f"axis={describe(axis)}", want="an int, or several"
        ) from None
    wrong = [axis for axis in axes if not -ndim <= axis < ndim]
    if wrong:
        raise ArgumentError(
            "The input has no such axis.", where=where, got=f"axis={wrong[0]}", want=f"an axis of an array of {ndim}"
        )
    return tuple(dict.fromkeys(axis % ndim for axis in axes))


def positive(value: Any, *, what: str, where: str) -> int:
    """Returns a size as an ``int``.

    Raises:
        ArgumentTypeError: it is no integer.
        ArgumentError: it is smaller than 1.
    """
    want = "an integer, at least 1"
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(
            f"`{what}` has to be an integer.", where=where, got=describe(value), want=want
        ) from None
    if number < 1:
        raise ArgumentError(f"`{what}` has to be positive.", where=where, got=f"{what}={number}", want=want)
    return number


def floating_dtype(dtype: Any, *, where: str) -> Any:
    """Returns the dtype of parameters.

    Raises:
        ArgumentTypeError: it is no floating dtype.
    """
    want = "a floating dtype, such as jnp.float32"
    try:
        result = jnp.dtype(dtype)
    except TypeError:
        raise ArgumentTypeError("Expecting a dtype.", where=where, got=f"dtype={dtype!r}", want=want) from None
    if not jnp.issubdtype(result, jnp.inexact):
        raise ArgumentTypeError("Expecting a floating dtype.", where=where, got=f"dtype={result}", want=want)
    return result
