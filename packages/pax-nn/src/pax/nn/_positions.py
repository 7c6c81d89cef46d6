"""Encodings of positions that are added to the features of a sequence: sinusoidal and learned."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Num

from pax import Module, ParameterModule
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, as_inexact, optional_float_dtype, promote_dtypes
from pax.nn._initialize import initialize, key_or_next
from pax.nn._numbers import real_number
from pax.nn.initializers import Initializer, TruncatedNormal

Offset = int | Int[AnyArray, "*batch"]


def sinusoidal_positions(
    positions: ArrayLike, dim: int, max_period: float = 10_000.0, *, dtype: DTypeLike | None = None
) -> Float[Array, "*shape dim"]:
    """Encodes positions by sines and cosines of periods from ``2π`` to ``2π * max_period``.

    With ``angle = position / max_period**(2 * i / dim)``, element ``2 * i`` is ``sin(angle)`` and element ``2 * i + 1``
    is ``cos(angle)``.

    Args:
        positions: numbers of any shape; they need not be integers.
        dim: size of an encoding, even.
        max_period: above 1; how many times longer the longest period would be than the shortest.
        dtype: dtype of the result; default: JAX's default float dtype. Angles are computed in float32 at least.

    Returns:
        ``(*positions.shape, dim)``.

    Raises:
        ArgumentError: ``dim`` is odd or smaller than 1, or ``max_period`` not above 1.
        ArgumentTypeError: ``dim`` is no integer, ``max_period`` no number, or ``dtype`` no floating dtype.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.sinusoidal_positions(jnp.arange(50), 16).shape
    (50, 16)

    References:
        Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    where = "sinusoidal_positions"
    dim = positive_int(dim, what="dim", where=where)
    if dim % 2:
        raise ArgumentError("Expecting an even size for `dim`.", where=where, got=f"dim={dim}", want="2, 4, 6, ...")
    max_period = _check_max_period(max_period, where=where)
    result = optional_float_dtype(dtype, what="dtype", where=where) or jnp.result_type(float)
    wide = promote_dtypes(jnp.dtype(result), jnp.dtype(jnp.float32))
    # On the host in float64, where a power is exact; a constant of the compiled function.
    rates = np.asarray(max_period ** (-np.arange(0, dim, 2) / dim), wide)
    places = as_array(positions, where=where).astype(wide)[..., None]
    angles = places * jnp.expand_dims(rates, range(places.ndim - 1))
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return pairs.reshape(*pairs.shape[:-2], dim).astype(result)


class SinusoidalPositions(Module):
    """Adds sines and cosines of the positions to the features of a sequence.

    ``y = x + sinusoidal_positions(offset + arange(time), features)``, see :func:`sinusoidal_positions`. There is no
    longest sequence.

    Shapes:
        input: ``(*batch, time, features)``, an even number of features; floating, integers are converted.
        output: same shape and dtype.
    Parameters:
        none: the values are computed in each call, as a constant of the compiled function if the offset is one.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> positions = pax.nn.SinusoidalPositions()
    >>> y = positions(jnp.zeros((2, 10, 16)))
    >>> bool(jnp.allclose(positions(jnp.zeros((2, 1, 16)), offset=9), y[:, 9:], atol=1e-6))
    True

    References:
        Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """

    max_period: float

    def __init__(self, max_period: float = 10_000.0, *, name: str | None = None) -> None:
        """Draws nothing.

        Args:
            max_period: above 1; how many times longer the longest period would be than the shortest.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: ``max_period`` is not above 1.
            ArgumentTypeError: it is no number.
        """
        super().__init__(name=name)
        self.max_period = _check_max_period(max_period, where="SinusoidalPositions")

    def __call__(self, x: Num[AnyArray, "*batch time dim"], offset: Offset = 0) -> Float[Array, "*batch time dim"]:
        """Adds the encodings.

        Args:
            x: ``(*batch, time, features)``.
            offset: position of the first step: how many steps were decoded before. An integer, or one for each example
                (an array with the batch axes); it may be traced.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: ``x`` has fewer than two axes or an odd number of features, or the offset does not fit it.
            ArgumentTypeError: the offset is no integer.
        """
        x = _check_sequence(self, x)
        if x.shape[-1] % 2:
            raise ArgumentError(
                "Expecting an even number of features.", module=self, got=describe(x), want="float[*,time,2 * n]"
            )
        x = as_inexact(x)
        encoded = sinusoidal_positions(_positions(self, x, offset), x.shape[-1], self.max_period, dtype=x.dtype)
        return x + jnp.expand_dims(encoded, range(x.ndim - encoded.ndim))

    def __repr__(self) -> str:
        return self._repr({"max_period": self.max_period})


class LearnedPositions(ParameterModule):
    """Adds a trained vector for each position to the features of a sequence.

    ``y[t] = x[t] + weight[offset + t]``

    Shapes:
        input: ``(*batch, time, dim)``, at most ``max_length`` steps.
        output: same shape, in ``dtype``; by default in the promoted dtype of input and weight.
    Parameters:
        weight: ``(max_length, dim)``, in ``param_dtype``; JAX's default float dtype by default.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> positions = pax.nn.LearnedPositions(10, 16)
    >>> y = positions(jnp.zeros((2, 10, 16)))
    >>> bool((positions(jnp.zeros((2, 1, 16)), offset=9) == y[:, 9:]).all())
    True

    References:
        Gehring et al., "Convolutional Sequence to Sequence Learning", 2017, https://arxiv.org/abs/1705.03122, section
        3.1.
    """

    max_length: int
    dim: int
    dtype: jnp.dtype | None
    weight: Float[Array, "max_length dim"]

    def __init__(
        self,
        max_length: int,
        dim: int,
        w_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the vectors.

        Args:
            max_length: number of positions, at least 1.
            dim: number of features, at least 1.
            w_init: initializer of the weight; default: truncated normal, the values of which have the standard
                deviation 0.02.
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weight is stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, or an initializer that returns another shape.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.max_length = positive_int(max_length, what="max_length", where="LearnedPositions")
        self.dim = positive_int(dim, what="dim", where="LearnedPositions")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="LearnedPositions")
        self.weight = initialize(
            TruncatedNormal(0.02) if w_init is None else w_init,
            key_or_next(rng_key, where="LearnedPositions"),
            (self.max_length, self.dim),
            what="weight",
            where="LearnedPositions",
            param_dtype=optional_float_dtype(param_dtype, what="param_dtype", where="LearnedPositions"),
        )

    def __call__(self, x: Num[AnyArray, "*batch time dim"], offset: Offset = 0) -> Num[Array, "*batch time dim"]:
        """Adds the vectors.

        Args:
            x: ``(*batch, time, dim)``.
            offset: position of the first step: how many steps were decoded before. An integer, or one for each example
                (an array with the batch axes). It may be traced, and is not checked then: positions that the table does
                not have give NaN.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: ``x`` has fewer than two axes, another number of features or too many steps, or the offset
                does not fit it.
            ArgumentTypeError: the offset is no integer.
        """
        x = _check_sequence(self, x)
        if x.shape[-1] != self.dim:
            raise ArgumentError(
                f"Expecting {self.dim} input features. Get {x.shape[-1]} features.",
                module=self,
                got=describe(x),
                want=f"{self.weight.dtype}[*,time,{self.dim}]",
            )
        positions = _positions(self, x, offset, max_length=self.max_length)
        # A negative position would count from the end.
        outside = jnp.full((), self.max_length, positions.dtype)
        positions = jnp.where(positions < 0, outside, positions)
        rows = as_array(self.weight).at[positions].get(mode="fill", fill_value=jnp.nan)
        dtype = promote_dtypes(x.dtype, rows.dtype) if self.dtype is None else self.dtype
        return x.astype(dtype) + jnp.expand_dims(rows.astype(dtype), range(x.ndim - rows.ndim))

    def __repr__(self) -> str:
        return self._repr({"max_length": self.max_length, "dim": self.dim, "dtype": self.dtype})


def _check_max_period(max_period: Any, *, where: str) -> float:
    number = real_number(max_period, what="max_period", where=where, want="max_period > 1")
    if not number > 1:
        raise ArgumentError(
            "Expecting a number above 1 for `max_period`.",
            where=where,
            got=f"max_period={describe(max_period)}",
            want="max_period > 1",
        )
    return number


def _check_sequence(module: Module, x: AnyArray) -> jax.Array:
    x = as_array(x, module=module)
    if x.ndim < 2:
        raise ArgumentError(
            f"Expecting an input with at least 2 axes. Get {x.ndim} axes.",
            module=module,
            got=describe(x),
            want="(*batch, time, features)",
            fix="x[None]   # one step",
        )
    return x


def _positions(module: Module, x: jax.Array, offset: Any, max_length: int | None = None) -> jax.Array:
    """Returns the positions of the steps of ``x``: ``(time,)``, or ``(*batch, time)`` for an offset of each example."""
    time = x.shape[-2]
    where = "argument `offset`"
    try:
        start = np.asarray(operator.index(offset)) if np.ndim(offset) == 0 and not is_tracer(offset) else offset
        integers = jnp.issubdtype(jnp.result_type(start), jnp.integer)
    except TypeError:
        integers = False
    if not integers:
        raise ArgumentTypeError(
            "Expecting integers for `offset`.",
            module=module,
            where=where,
            got=describe(offset),
            want="an int, or an array of integers with the batch axes",
        )
    shape = np.shape(start)
    if shape not in ((), x.shape[:-2]):
        raise ArgumentError(
            "Expecting one offset, or one for each example.",
            module=module,
            where=where,
            got=f"{describe(start)} with the input {describe(x)}",
            want=f"an int, or integers of the shape {x.shape[:-2]}",
        )
    if not is_tracer(start) and np.size(start):
        low, high = int(np.min(start)), int(np.max(start)) + time
        if low < 0 or (max_length is not None and high > max_length):
            raise ArgumentError(
                "Expecting an offset that is not negative."
                if low < 0
                else f"Expecting at most {max_length} positions. Get {high} positions.",
                module=module,
                got=f"{describe(x)} at offset {low if low < 0 else high - time}",
                want="offset >= 0" if max_length is None else f"0 <= offset, and offset + time <= {max_length}",
            )
    start = as_array(start).astype(jnp.int32)[..., None]
    return start + jnp.expand_dims(jnp.arange(time, dtype=jnp.int32), range(start.ndim - 1))
