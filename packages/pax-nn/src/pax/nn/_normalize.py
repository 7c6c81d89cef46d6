"""The arithmetic of all normalisation layers, with a derivative of its own.

Statistics are taken in two passes and in float32 at least; the derivative is written by hand, because the one that JAX
derives keeps more arrays for the backward pass and reads each of them more often. What the rule needs is the normalised
input and one number per mean; it is a rule for forward mode, from which JAX makes reverse mode and higher derivatives.
"""

import functools

import jax
import jax.numpy as jnp

from pax.nn._dtypes import as_inexact, promote_dtypes

AxisNames = str | tuple[str, ...]
"""Names of axes of devices or of ``vmap``."""

_Moments = tuple[jax.Array, jax.Array | None, jax.Array]


def _mean(x: jax.Array, axes: tuple[int, ...], axis_name: AxisNames | None) -> jax.Array:
    local = jnp.mean(x, axes, keepdims=True)
    return local if axis_name is None else jax.lax.pmean(local, axis_name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def standardize(
    x: jax.Array, axes: tuple[int, ...], eps: float, centre: bool = True, axis_name: AxisNames | None = None
) -> _Moments:
    """Returns ``(x - mean) / sqrt(variance + eps)``, the mean and the variance (divided by N), all differentiable.

    Args:
        x: floating, in the dtype to compute in.
        axes: the axes over which mean and variance are taken, not negative; they keep length 1.
        eps: added to the variance, inside the root.
        centre: subtract the mean; otherwise there is none (``None``), and the variance is the mean of the squares.
        axis_name: named axes over which mean and variance are taken, too.
    """
    mean = None
    if centre:
        # The mean is rounded to a multiple of its own size times 2**-24, which may be more than the standard deviation.
        # A second pass over the (now small) differences takes out what the first has left; it is not measurable in
        # the time of a training step.
        rough = _mean(x, axes, axis_name)
        x = x - rough
        rest = _mean(x, axes, axis_name)
        x, mean = x - rest, rough + rest
    # Squared deviations, not E[x²] - E[x]²: that cancels to nonsense where the mean is large.
    variance = _mean(jnp.square(x), axes, axis_name)
    return x * jax.lax.rsqrt(variance + eps), mean, variance


@standardize.defjvp
def _standardize_jvp(
    axes: tuple[int, ...],
    eps: float,
    centre: bool,
    axis_name: AxisNames | None,
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[_Moments, _Moments]:
    (x,), (x_dot,) = primals, tangents
    # Calling the function itself makes second derivatives follow this rule, too.
    y, mean, variance = standardize(x, axes, eps, centre, axis_name)
    # 1/std comes first, not last: JAX transposes the lines below for reverse mode, and in this order XLA fuses the
    # result into two loops (0.78 instead of 0.95 of the time of a transformer's step on a CPU).
    scaled = x_dot * jax.lax.rsqrt(variance + eps)
    slope = _mean(scaled * y, axes, axis_name)
    y_dot = scaled - y * slope
    mean_dot = None
    if centre:
        y_dot = y_dot - _mean(scaled, axes, axis_name)
        mean_dot = _mean(x_dot, axes, axis_name)
    # Those of mean and variance cost nothing where nobody uses them.
    return (y, mean, variance), (y_dot, mean_dot, 2 * slope * (variance + eps))


@functools.partial(jax.jit, static_argnames=("axes", "eps", "dtype", "centre", "axis_name"), inline=True)
def normalize(
    x: jax.Array,
    scale: jax.Array | None,
    offset: jax.Array | None,
    *,
    axes: tuple[int, ...],
    eps: float,
    dtype: jnp.dtype | None = None,
    centre: bool = True,
    axis_name: AxisNames | None = None,
) -> _Moments:
    """Normalises, scales and shifts.

    Args:
        x: any numeric dtype.
        scale: as many axes as ``x``, of its length or 1; or ``None``.
        offset: likewise.
        axes: as for :func:`standardize`, and so the rest.
        eps: added to the variance.
        dtype: of the output; ``None``: the promoted dtype of ``x``, ``scale`` and ``offset``.
        centre: subtract the mean.
        axis_name: named axes over which mean and variance are taken, too.

    Returns:
        The output, and mean and variance in the dtype of computation: that of the output, at least float32.
    """
    x, dtype, wide = _dtypes(x, scale, offset, dtype)
    y, mean, variance = standardize(x.astype(wide), axes, eps, centre, axis_name)
    return _affine(y, scale, offset, dtype), mean, variance


@functools.partial(jax.jit, static_argnames=("eps", "dtype"), inline=True)
def normalize_by(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None,
    offset: jax.Array | None,
    *,
    eps: float,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Normalises by a mean and a variance that are given, scales and shifts.

    Args:
        x: any numeric dtype.
        mean: as many axes as ``x``, of its length or 1.
        variance: likewise.
        scale: likewise, or ``None``.
        offset: likewise, or ``None``.
        eps: added to the variance.
        dtype: of the output; ``None``: the promoted dtype of ``x``, ``scale`` and ``offset``.
    """
    x, dtype, wide = _dtypes(x, scale, offset, dtype)
    factor = jax.lax.rsqrt(variance.astype(wide) + eps)
    if scale is not None:
        factor = factor * scale.astype(wide)
    return _affine((x.astype(wide) - mean.astype(wide)) * factor, None, offset, dtype)


def _dtypes(
    x: jax.Array, scale: jax.Array | None, offset: jax.Array | None, dtype: jnp.dtype | None
) -> tuple[jax.Array, jnp.dtype, jnp.dtype]:
    """Returns a floating ``x``, the dtype of the output, and the dtype to compute in."""
    x = as_inexact(x)
    dtype = dtype or promote_dtypes(x.dtype, *(array.dtype for array in (scale, offset) if array is not None))
    return x, dtype, promote_dtypes(x.dtype, dtype, jnp.dtype(jnp.float32))


def _affine(y: jax.Array, scale: jax.Array | None, offset: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
    if scale is not None:
        y = y * scale.astype(y.dtype)
    if offset is not None:
        y = y + offset.astype(y.dtype)
    return y.astype(dtype)
