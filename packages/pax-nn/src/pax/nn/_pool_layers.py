"""Pooling as layers: the maximum or the mean of windows over one, two or three spatial axes."""

from collections.abc import Sequence
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Num

from pax import Module
from pax.errors import ArgumentError
from pax.nn._axes import check_data_format, per_axis
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._inputs import check_channels
from pax.nn._padding import Padding, check_padding
from pax.nn._pool import max_of_windows, mean_of_windows


class _Pool(Module):
    """The arguments of all layers for pooling; the subclasses say what is done with a window."""

    _data_formats: ClassVar[tuple[str, str]]

    window_shape: Sequence[int]
    strides: Sequence[int]
    padding: Padding
    data_format: str

    def __init__(
        self,
        window_shape: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        padding: Padding = "VALID",
        data_format: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Stores the arguments.

        Args:
            window_shape: size of a window: an int for all spatial axes, or a sequence with one per spatial axis.
            strides: steps between two windows, likewise; default: the size of the window, so that windows touch and do
                not overlap.
            padding: ``"VALID"`` takes full windows only; with ``"SAME"`` an axis of length ``n`` gets length
                ``ceil(n / strides)``; or one (before, after) pair per spatial axis, each number smaller than the
                window. What is added never counts, neither as a maximum nor in a mean.
            data_format: the order of the axes; default: the channels are the last axis.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer.
        """
        super().__init__(name=name)
        where, num_axes = type(self).__name__, len(self._data_formats[0]) - 2
        self.window_shape = per_axis(window_shape, num_axes, what="window_shape", where=where)
        if strides is None:
            strides = self.window_shape
        self.strides = per_axis(strides, num_axes, what="strides", where=where)
        self.padding = check_padding(padding, num_axes, where=where)
        self._check_pairs(where)
        data_format = self._data_formats[0] if data_format is None else data_format
        self.data_format = check_data_format(data_format, self._data_formats, where=where)

    def _check_pairs(self, where: str) -> None:
        """Refuses padding as long as a window: there would be windows of nothing else."""
        if isinstance(self.padding, str):
            return
        for pair, size in zip(self.padding, self.window_shape, strict=True):
            if min(pair) < 0 or max(pair) >= size:
                raise ArgumentError(
                    "Expecting padding that is shorter than the window.",
                    where=where,
                    got=f"padding={self.padding}, window_shape={self.window_shape}",
                    want=f"numbers from 0 to {size - 1} for a window of size {size}",
                )

    def _geometry(self, x: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...], Padding]:
        """Returns window, steps and padding for all axes of a checked input."""
        check_channels(self, x, None, data_format=self.data_format, dtype=str(x.dtype))
        spatial = [axis for axis, letter in enumerate(self.data_format) if letter not in "NC"]
        window, steps, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
        for axis, size, step in zip(spatial, self.window_shape, self.strides, strict=True):
            window[axis], steps[axis] = size, step
        if isinstance(self.padding, str):
            return tuple(window), tuple(steps), self.padding
        for axis, pair in zip(spatial, self.padding, strict=True):
            pads[axis] = pair
        return tuple(window), tuple(steps), pads

    def __repr__(self) -> str:
        info = {
            "window_shape": self.window_shape,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }
        return self._repr(info)


class _MaxPool(_Pool):
    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Returns the maximum of each window.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Returns:
            An array of the same rank, number of channels and dtype.

        Raises:
            ArgumentError: another number of axes.
        """
        x = as_array(x, module=self)
        return max_of_windows(x, *self._geometry(x))


class _AvgPool(_Pool):
    def __call__(self, x: Num[AnyArray, "..."]) -> Float[Array, "..."]:
        """Returns the mean of each window.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Returns:
            An array of the same rank and number of channels; float dtypes are kept (half precision is summed in
            float32), integers give JAX's default float dtype.

        Raises:
            ArgumentError: another number of axes.
        """
        x = as_array(x, module=self)
        return mean_of_windows(x, *self._geometry(x))


class MaxPool1D(_MaxPool):
    """Takes the maximum of windows of sequences.

    Shapes:
        input: ``(N, W, C)``, with ``data_format="NCW"`` ``(N, C, W)``; any numeric dtype.
        output: ``(N, W', C)``, or ``(N, C, W')``, same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.MaxPool1D(2)(jnp.array([[1, 5, 2, 4]])[..., None])[..., 0]
    Array([[5, 4]], dtype=int32)
    """

    _data_formats = ("NWC", "NCW")


class MaxPool2D(_MaxPool):
    """Takes the maximum of windows of images.

    Shapes:
        input: ``(N, H, W, C)``, with ``data_format="NCHW"`` ``(N, C, H, W)``; any numeric dtype.
        output: ``(N, H', W', C)``, or ``(N, C, H', W')``, same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pool = pax.nn.MaxPool2D(3, strides=2, padding=[(1, 1), (1, 1)])
    >>> pool
    MaxPool2D(window_shape=(3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)], data_format=NHWC)
    >>> pool(jnp.ones((2, 8, 8, 4))).shape
    (2, 4, 4, 4)
    """

    _data_formats = ("NHWC", "NCHW")


class MaxPool3D(_MaxPool):
    """Takes the maximum of windows of volumes, or videos.

    Shapes:
        input: ``(N, D, H, W, C)``, with ``data_format="NCDHW"`` ``(N, C, D, H, W)``; any numeric dtype.
        output: ``(N, D', H', W', C)``, or ``(N, C, D', H', W')``, same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.MaxPool3D((1, 2, 2))(jnp.ones((2, 3, 8, 8, 4))).shape
    (2, 3, 4, 4, 4)
    """

    _data_formats = ("NDHWC", "NCDHW")


class AvgPool1D(_AvgPool):
    """Takes the mean of windows of sequences.

    Shapes:
        input: ``(N, W, C)``, with ``data_format="NCW"`` ``(N, C, W)``; any numeric dtype.
        output: ``(N, W', C)``, or ``(N, C, W')``; float dtypes are kept, integers give JAX's default float dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AvgPool1D(2)(jnp.array([[1.0, 5.0, 2.0, 4.0]])[..., None])[..., 0]
    Array([[3., 3.]], dtype=float32)
    """

    _data_formats = ("NWC", "NCW")


class AvgPool2D(_AvgPool):
    """Takes the mean of windows of images.

    Padding does not count in the mean, unlike in PyTorch's layer, where ``count_include_pad`` is true by default.

    Shapes:
        input: ``(N, H, W, C)``, with ``data_format="NCHW"`` ``(N, C, H, W)``; any numeric dtype.
        output: ``(N, H', W', C)``, or ``(N, C, H', W')``; float dtypes are kept, integers give JAX's default float
            dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AvgPool2D(2)(jnp.ones((2, 8, 8, 4))).shape
    (2, 4, 4, 4)
    """

    _data_formats = ("NHWC", "NCHW")


class AvgPool3D(_AvgPool):
    """Takes the mean of windows of volumes, or videos.

    Shapes:
        input: ``(N, D, H, W, C)``, with ``data_format="NCDHW"`` ``(N, C, D, H, W)``; any numeric dtype.
        output: ``(N, D', H', W', C)``, or ``(N, C, D', H', W')``; float dtypes are kept, integers give JAX's default
            float dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AvgPool3D(2, strides=1, padding="SAME")(jnp.ones((2, 3, 8, 8, 4))).shape
    (2, 3, 8, 8, 4)
    """

    _data_formats = ("NDHWC", "NCDHW")
