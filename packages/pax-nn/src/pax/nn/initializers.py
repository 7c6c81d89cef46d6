"""First values of weights.

An initializer is any function ``init(key, shape)`` that returns an array of that shape; those of
``jax.nn.initializers`` work as they are. Here are the ones which layers use by default. They are small objects: equal
if they draw from the same distribution, and one compiled program for each *shape* serves all standard deviations.

:func:`use_numpy` makes them draw with NumPy instead, which compiles nothing.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer
from pax.nn._dtypes import optional_float_dtype
from pax.nn._numbers import real_number
from pax.nn._numpy_draws import NumpyInitializer as NumpyInitializer
from pax.nn._numpy_draws import use_numpy as use_numpy

__all__ = [
    "Constant",
    "Initializer",
    "Normal",
    "NumpyInitializer",
    "TruncatedNormal",
    "VarianceScaling",
    "truncated_normal_with_stddev",
    "use_numpy",
]

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""``init(key, shape) -> array`` of that shape."""

# A standard normal distribution restricted to [-2, 2] has this standard deviation:
# sqrt(1 - 4 * pdf(2) / (2 * cdf(2) - 1)).
_STDDEV_AFTER_CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


# Each of these three is compiled once for every shape: factors are arguments, not constants. `inline`: nothing of it is
# left in the program of a function that builds a module under `jit`.


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _scaled_normal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype, factor: jax.Array) -> jax.Array:
    # All values are far above the minimum. It keeps XLA from joining the factor with one inside of `normal`, which
    # would round otherwise than a multiplication afterwards, and not the same in every version of JAX.
    values: jax.Array = jax.lax.max(jax.random.normal(key, shape, dtype), _lowest(dtype))
    return values * factor


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _scaled_truncated_normal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype, factor: jax.Array) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, shape, dtype) * factor


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _scaled_uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype, factor: jax.Array) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -1) * factor


def _lowest(dtype: jnp.dtype) -> Any:
    finfo: Any = jnp.finfo
    return np.asarray(finfo(dtype).min, dtype)


def _numpy_normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return generator.standard_normal(shape, _wide(dtype))


def _numpy_truncated_normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    values = generator.standard_normal(math.prod(shape), _wide(dtype))
    outside = np.flatnonzero(np.abs(values) > 2)
    while outside.size:  # one value of 22, then one of those 22, …
        values[outside] = generator.standard_normal(outside.size, _wide(dtype))
        outside = outside[np.abs(values[outside]) > 2]
    return values.reshape(shape)


def _numpy_uniform(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return generator.random(shape, _wide(dtype)) * 2 - 1


def _wide(dtype: np.dtype[Any]) -> Any:
    """Returns a dtype in which NumPy can draw."""
    return np.float64 if dtype == np.float64 else np.float32


_DRAWS = {
    "normal": (_scaled_normal, _numpy_normal),
    "truncated_normal": (_scaled_truncated_normal, _numpy_truncated_normal),
    "uniform": (_scaled_uniform, _numpy_uniform),
}


class _Drawn:
    """An initializer that multiplies values of a fixed distribution by a factor."""

    def _distribution(self) -> str:
        raise NotImplementedError

    def _factor(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        raise NotImplementedError

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: DTypeLike | None = None) -> jax.Array:
        """Draws with JAX.

        Args:
            key: a key, typed or legacy.
            shape: of the array.
            dtype: floating; default: JAX's default float dtype.

        Raises:
            ArgumentTypeError: ``dtype`` is no real floating dtype.
            ArgumentError: it has 64 bits, which JAX has switched off.
        """
        sizes, chosen = _shape_of(shape), _dtype_of(dtype, where=type(self).__name__)
        values: jax.Array = _DRAWS[self._distribution()][0](key, sizes, chosen, self._factor(sizes, chosen))
        return values

    def draw_with_numpy(
        self, generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> np.ndarray:
        """Draws from the same distribution with NumPy; see :func:`use_numpy`."""
        values = _DRAWS[self._distribution()][1](generator, shape, dtype)
        values *= self._factor(shape, np.dtype(_wide(dtype)))
        drawn: np.ndarray = values.astype(dtype, copy=False)
        return drawn


@dataclass(frozen=True)
class Normal(_Drawn):
    """A normal distribution with mean 0.

    The values are ``jax.random.normal(key, shape) * stddev``, to the bit, in all versions of JAX.

    Args:
        stddev: standard deviation, not negative.

    Raises:
        ArgumentError: ``stddev`` is negative or not a number.

    >>> import jax
    >>> from pax.nn.initializers import Normal
    >>> Normal(0.5)
    Normal(stddev=0.5)
    >>> round(float(Normal(0.5)(jax.random.key(0), (100, 100)).std()), 1)
    0.5
    """

    stddev: float

    def __post_init__(self) -> None:
        _check_not_negative(self.stddev, what="standard deviation", name="stddev", where="Normal")

    def _distribution(self) -> str:
        return "normal"

    def _factor(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return np.asarray(self.stddev, dtype)


@dataclass(frozen=True)
class TruncatedNormal(_Drawn):
    """A normal distribution with mean 0 that is cut, and has the standard deviation ``stddev`` *after* the cut.

    The cut is at two standard deviations of the distribution before it, about 2.27 times ``stddev``.
    ``jax.nn.initializers.truncated_normal(stddev)`` differs: there ``stddev`` is that of the distribution before the
    cut, and the values come out 12% narrower.

    Args:
        stddev: standard deviation of the drawn values, not negative.

    Raises:
        ArgumentError: ``stddev`` is negative or not a number.

    >>> import jax
    >>> from pax.nn.initializers import TruncatedNormal
    >>> values = TruncatedNormal(0.5)(jax.random.key(0), (100, 100))
    >>> round(float(values.std()), 1), bool(abs(values).max() < 0.5 * 2.28)
    (0.5, True)
    """

    stddev: float

    def __post_init__(self) -> None:
        _check_not_negative(self.stddev, what="standard deviation", name="stddev", where="TruncatedNormal")

    def _distribution(self) -> str:
        return "truncated_normal"

    def _factor(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return np.asarray(self.stddev / _STDDEV_AFTER_CUT, dtype)


@dataclass(frozen=True)
class VarianceScaling(_Drawn):
    """A distribution with mean 0 whose variance is ``scale`` divided by the number of inputs or outputs.

    The last two axes of the shape are inputs and outputs; the others are those of a kernel, which count for both.
    The values are those of ``jax.nn.initializers.variance_scaling``, up to rounding in some versions of JAX.

    Args:
        scale: multiplies the variance, not negative.
        mode: what divides it: ``"fan_in"``, the number of inputs; ``"fan_out"``, that of outputs; or ``"fan_avg"``,
            their mean.
        distribution: ``"normal"``; ``"truncated_normal"``, cut at two standard deviations of the distribution before
            the cut; or ``"uniform"``.

    Raises:
        ArgumentError: ``scale`` is negative, or there is no such mode or distribution; in a call, a shape with fewer
            than two axes.

    >>> import jax
    >>> from pax.nn.initializers import VarianceScaling
    >>> values = VarianceScaling(2.0, "fan_in", "uniform")(jax.random.key(0), (50, 200))
    >>> round(float(values.std()), 1)
    0.2

    References:
        He et al., "Delving Deep into Rectifiers", 2015, https://arxiv.org/abs/1502.01852; Glorot & Bengio,
        "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """

    scale: float
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["normal", "truncated_normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        _check_not_negative(self.scale, what="scale", name="scale", where="VarianceScaling")
        _check_one_of(self.mode, ("fan_in", "fan_out", "fan_avg"), what="mode")
        _check_one_of(self.distribution, tuple(_DRAWS), what="distribution")

    def _distribution(self) -> str:
        return self.distribution

    def _factor(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        if len(shape) < 2:
            raise ArgumentError(
                "A shape without inputs and outputs has no variance to scale.",
                where="VarianceScaling",
                got=f"shape={shape}",
                want="at least two axes, (..., inputs, outputs)",
                fix="Normal(stddev) or Constant(0)   # for a bias",
            )
        kernel = math.prod(shape[:-2])
        fans: dict[str, float] = {"fan_in": kernel * shape[-2], "fan_out": kernel * shape[-1]}
        fans["fan_avg"] = (fans["fan_in"] + fans["fan_out"]) / 2
        # In `dtype`, step by step, as JAX does it.
        variance = np.asarray(self.scale / max(fans[self.mode], 1), dtype)
        if self.distribution == "uniform":
            return np.sqrt(np.asarray(3, dtype) * variance)
        if self.distribution == "truncated_normal":
            return np.sqrt(variance) / np.asarray(_STDDEV_AFTER_CUT, dtype)
        return np.sqrt(variance)


@dataclass(frozen=True)
class Constant:
    """The same value everywhere; compiles nothing.

    Args:
        value: the value.

    >>> import jax
    >>> from pax.nn.initializers import Constant
    >>> Constant(1)(jax.random.key(0), (3,)).tolist()
    [1.0, 1.0, 1.0]
    """

    value: float

    def __call__(self, key: jax.Array | None, shape: Sequence[int], dtype: DTypeLike | None = None) -> jax.Array:
        """Returns a new array; ``key`` is not used, and may be ``None``.

        Args:
            key: not used.
            shape: of the array.
            dtype: floating; default: JAX's default float dtype.

        Raises:
            ArgumentTypeError: ``dtype`` is no real floating dtype.
            ArgumentError: it has 64 bits, which JAX has switched off.
        """
        sizes, chosen = _shape_of(shape), _dtype_of(dtype, where="Constant")
        if is_tracer(key):
            return jnp.full(sizes, self.value, chosen)  # smaller in a program than an array
        # `jnp.full` would compile a program for each shape.
        values: jax.Array = jax.device_put(np.full(sizes, self.value, chosen))
        return values

    def draw_with_numpy(
        self, generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> np.ndarray:
        """Returns a NumPy array; see :func:`use_numpy`."""
        return np.full(shape, self.value, dtype)


def truncated_normal_with_stddev(stddev: float) -> TruncatedNormal:
    """Makes an initializer whose values have mean 0 and the standard deviation ``stddev``, without outliers.

    Args:
        stddev: standard deviation of the drawn values, not negative.

    Returns:
        ``TruncatedNormal(stddev)``.

    Raises:
        ArgumentError: ``stddev`` is negative or not a number.

    >>> from pax.nn.initializers import truncated_normal_with_stddev
    >>> truncated_normal_with_stddev(0.5)
    TruncatedNormal(stddev=0.5)
    """
    return TruncatedNormal(stddev)


def _shape_of(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(operator.index, shape))


def _dtype_of(dtype: DTypeLike | None, *, where: str) -> Any:
    given = optional_float_dtype(dtype, what="dtype", where=where)
    if given is None:
        return jnp.dtype(jnp.result_type(float))
    if not jnp.issubdtype(given, jnp.floating):
        raise ArgumentTypeError(
            "Expecting a real floating dtype for `dtype`.", where=where, got=f"{given}", want="jnp.float32, for example"
        )
    return given


def _check_not_negative(value: Any, *, what: str, name: str, where: str) -> None:
    if not real_number(value, what=name, where=where, want=f"{name} >= 0") >= 0:
        raise ArgumentError(
            f"Expecting a {what} that is not negative.", where=where, got=describe(value), want=f"{name} >= 0"
        )


def _check_one_of(value: str, allowed: tuple[str, ...], *, what: str) -> None:
    if value not in allowed:
        raise ArgumentError(
            f"There is no such {what}.", where="VarianceScaling", got=f"{what}={value!r}", want=" or ".join(allowed)
        )
