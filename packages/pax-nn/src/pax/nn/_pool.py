"""Pooling as functions: the maximum or the mean of windows."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from pax.errors import ArgumentError
from pax.nn._axes import integer, positive_int
from pax.nn._dtypes import AnyArray, as_array, as_inexact, promote_dtypes
from pax.nn._padding import Padding

Size = int | Sequence[int]


def max_pool(
    value: Num[AnyArray, "*shape"], window_shape: Size, strides: Size, padding: str, channel_axis: int | None = -1
) -> Num[Array, "*shape_out"]:
    """Returns the maximum of each window.

    Args:
        value: any numeric array; its first axis is the batch where ``window_shape`` or ``strides`` is an int.
        window_shape: size of a window along each axis. A sequence shorter than the rank is for the *last* axes, so
            ``(2, 2, 1)`` pools 2 by 2 pixels of ``NHWC`` images. An int is for every axis but the first, the batch, and
            ``channel_axis``. Inside ``jax.vmap``, where the batch is not visible, use a sequence.
        strides: steps between windows along each axis, likewise.
        padding: ``"VALID"`` takes full windows only; with ``"SAME"`` an axis of length ``n`` gets length
            ``ceil(n / stride)``, and what is added never wins.
        channel_axis: the axis that an int does not pool, counted from the end if negative. ``None``: pool all axes but
            the first; 0, the first axis itself, is the same.

    Returns:
        An array of the same rank and dtype.

    Raises:
        ArgumentError: another padding, a size smaller than 1, a channel axis that does not exist, more sizes than axes,
            or, with ``"VALID"``, a window that is longer than its axis.
        ArgumentTypeError: a size or a channel axis that is no integer.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> pax.nn.max_pool(x, (3, 3, 1), (2, 2, 1), "SAME")[0, :, :, 0]
    Array([[10., 11.],
           [14., 15.]], dtype=float32)
    """
    value = as_array(value, where="max_pool")
    window, steps = _windows(value, window_shape, strides, padding, channel_axis, where="max_pool")
    return max_of_windows(value, window, steps, padding)


def avg_pool(
    value: Num[AnyArray, "*shape"], window_shape: Size, strides: Size, padding: str, channel_axis: int | None = -1
) -> Float[Array, "*shape_out"]:
    """Returns the mean of each window.

    Args:
        value: any numeric array; its first axis is the batch where ``window_shape`` or ``strides`` is an int.
        window_shape: size of a window along each axis, as for :func:`max_pool`.
        strides: steps between windows along each axis, likewise.
        padding: ``"VALID"`` takes full windows only; with ``"SAME"`` an axis of length ``n`` gets length
            ``ceil(n / stride)``, and the mean is over the elements of the window that exist.
        channel_axis: the axis that an int does not pool, as for :func:`max_pool`.

    Returns:
        An array of the same rank; float dtypes are kept (half precision is summed in float32), integers give JAX's
        default float dtype.

    Raises:
        ArgumentError: another padding, a size smaller than 1, a channel axis that does not exist, more sizes than axes,
            or, with ``"VALID"``, a window that is longer than its axis.
        ArgumentTypeError: a size or a channel axis that is no integer.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> pax.nn.avg_pool(x, (3, 3, 1), (2, 2, 1), "SAME")[0, :, :, 0]
    Array([[ 5. ,  6.5],
           [11. , 12.5]], dtype=float32)
    """
    value = as_array(value, where="avg_pool")
    window, steps = _windows(value, window_shape, strides, padding, channel_axis, where="avg_pool")
    return mean_of_windows(value, window, steps, padding)


def max_of_windows(
    value: jax.Array, window: tuple[int, ...], steps: tuple[int, ...], padding: Padding
) -> Num[Array, "*shape_out"]:
    """Does what :func:`max_pool` does, with one window size, step and pair of padding per axis."""
    pooled: Array = jax.lax.reduce_window(value, _lowest(value.dtype), jax.lax.max, window, steps, padding)
    return pooled


def mean_of_windows(
    value: jax.Array, window: tuple[int, ...], steps: tuple[int, ...], padding: Padding
) -> Float[Array, "*shape_out"]:
    """Does what :func:`avg_pool` does, with one window size, step and pair of padding per axis."""
    value = as_inexact(value)
    wide = value.astype(promote_dtypes(value.dtype, jnp.dtype(jnp.float32)))
    zero = np.zeros((), wide.dtype)
    total: Array = jax.lax.reduce_window(wide, zero, jax.lax.add, window, steps, padding)
    if padding == "VALID":
        return (total / math.prod(window)).astype(value.dtype)
    # Axes that are not pooled count alike everywhere.
    shape = [size if length > 1 else 1 for size, length in zip(value.shape, window, strict=True)]
    count_steps = [step if length > 1 else 1 for step, length in zip(steps, window, strict=True)]
    counts = jax.lax.reduce_window(jnp.ones(shape, wide.dtype), zero, jax.lax.add, window, count_steps, padding)
    return (total / jnp.broadcast_to(counts, total.shape)).astype(value.dtype)


def _windows(
    value: jax.Array, window_shape: Size, strides: Size, padding: str, channel_axis: int | None, *, where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if padding not in ("SAME", "VALID"):
        raise ArgumentError(
            f"Invalid padding '{padding}', must be 'SAME' or 'VALID'.",
            where=where,
            got=f"padding={padding!r}",
            want="'SAME' or 'VALID'",
            fix="MaxPool2D and the other layers for pooling take (before, after) pairs, too",
        )
    window = _one_per_axis(window_shape, value, channel_axis, what="window_shape", where=where)
    if padding == "VALID" and any(size > length > 0 for size, length in zip(window, value.shape, strict=True)):
        raise ArgumentError(
            "A window is longer than the axis that it pools, so nothing would be left.",
            where=where,
            got=f"windows of {window} for an array of shape {value.shape}",
            want="windows that fit; a short sequence is for the last axes, that is, for the channels, too",
            fix=f'{where}(images, 2, 2, "VALID") or {where}(images, (2, 2, 1), (2, 2, 1), "VALID")  # NHWC',
        )
    return window, _one_per_axis(strides, value, channel_axis, what="strides", where=where)


def _one_per_axis(size: Any, value: jax.Array, channel_axis: int | None, *, what: str, where: str) -> tuple[int, ...]:
    rank = value.ndim
    if isinstance(size, Sequence):
        sizes = tuple(positive_int(number, what=what, where=where) for number in size)
        if len(sizes) > rank:
            raise ArgumentError(
                f"Expecting at most one number per axis for `{what}`.",
                where=where,
                got=f"{what}={size} for an array of shape {value.shape}",
                want=f"an int, or up to {rank} of them",
            )
        return (1,) * (rank - len(sizes)) + sizes
    number = positive_int(size, what=what, where=where)
    kept = {0} if channel_axis is None else {0, _axis(channel_axis, value, where=where)}
    return tuple(1 if axis in kept else number for axis in range(rank))


def _axis(channel_axis: Any, value: jax.Array, *, where: str) -> int:
    axis = integer(
        channel_axis, what="channel_axis", where=where, want="an int, or None to pool every axis but the first"
    )
    if axis != 0 and abs(axis) >= value.ndim:
        raise ArgumentError(
            f"Invalid channel axis {axis} for {value.shape}",
            where=where,
            got=f"channel_axis={axis}",
            want=f"None, or an axis from {1 - value.ndim} to {value.ndim - 1}",
        )
    return axis % max(value.ndim, 1)


def _lowest(dtype: np.dtype) -> np.ndarray[Any, Any]:
    if jnp.issubdtype(dtype, jnp.inexact):
        return np.array(-np.inf, dtype)
    if dtype == np.bool_:
        return np.array(False)
    return np.array(jnp.iinfo(dtype).min, dtype)  # type: ignore[no-untyped-call]  # not in its stubs
