"""Pooling to a given size, whatever the size of the input."""

from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from pax import Module
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._axes import check_data_format, per_axis
from pax.nn._dtypes import AnyArray, as_array, as_inexact, promote_dtypes
from pax.nn._inputs import check_channels


class _AdaptivePool(Module):
    """The arguments of all adaptive layers; the subclasses say what is done with a bin."""

    _data_formats: ClassVar[tuple[str, str]]

    output_shape: Sequence[int]
    data_format: str

    def __init__(
        self, output_shape: int | Sequence[int], data_format: str | None = None, *, name: str | None = None
    ) -> None:
        """Stores the arguments.

        Args:
            output_shape: lengths of the output: an int for all spatial axes, or a sequence with one per spatial axis.
            data_format: the order of the axes; default: the channels are the last axis.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: a length smaller than 1, not one length per spatial axis, or another data format.
            ArgumentTypeError: a length that is no integer.
        """
        super().__init__(name=name)
        where, num_axes = type(self).__name__, len(self._data_formats[0]) - 2
        self.output_shape = per_axis(output_shape, num_axes, what="output_shape", where=where)
        data_format = self._data_formats[0] if data_format is None else data_format
        self.data_format = check_data_format(data_format, self._data_formats, where=where)

    def _sizes(self, x: jax.Array) -> list[tuple[int, int]]:
        """Returns the spatial axes of a checked input, each with the length that it gets."""
        check_channels(self, x, None, data_format=self.data_format, dtype=str(x.dtype))
        spatial = [axis for axis, letter in enumerate(self.data_format) if letter not in "NC"]
        if any(x.shape[axis] == 0 for axis in spatial):
            raise ArgumentError(
                "Expecting an input with at least one element along each spatial axis.",
                module=self,
                got=describe(x),
                want=f"spatial axes of length 1 or more, the axes {self.data_format}",
            )
        return list(zip(spatial, self.output_shape, strict=True))

    def __repr__(self) -> str:
        return self._repr({"output_shape": self.output_shape, "data_format": self.data_format})


class _AdaptiveAvgPool(_AdaptivePool):
    def __call__(self, x: Num[AnyArray, "..."]) -> Float[Array, "..."]:
        """Returns the mean of each bin.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Returns:
            The same axes, the spatial ones of length ``output_shape``; float dtypes are kept (half precision is summed
            in float32), integers give JAX's default float dtype.

        Raises:
            ArgumentError: another number of axes, or an empty one.
        """
        x = as_inexact(as_array(x, module=self))
        y = x.astype(promote_dtypes(x.dtype, jnp.dtype(jnp.float32)))
        # Bins are boxes: the mean over a box is that of the means along one side.
        for axis, length in self._sizes(x):
            bins, lengths = _bins(y, axis, length)
            if lengths is None:
                y = bins.mean(axis + 1)
                continue
            counts = jnp.expand_dims(jnp.asarray(lengths), [other for other in range(bins.ndim) if other != axis])
            is_inside = jax.lax.broadcasted_iota(counts.dtype, bins.shape, axis + 1) < counts
            total = jnp.where(is_inside, bins, 0).sum(axis + 1, keepdims=True)
            y = (total / counts.astype(y.dtype)).squeeze(axis + 1)
        return y.astype(x.dtype)


class _AdaptiveMaxPool(_AdaptivePool):
    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Returns the maximum of each bin.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Returns:
            The same axes, the spatial ones of length ``output_shape``, in the same dtype.

        Raises:
            ArgumentError: another number of axes, or an empty one.
        """
        x = as_array(x, module=self)
        for axis, length in self._sizes(x):
            # What fills up a short bin is one of its own elements, which changes no maximum.
            x = _bins(x, axis, length)[0].max(axis + 1)
        return x


def _bins(x: jax.Array, axis: int, num_bins: int) -> tuple[jax.Array, np.ndarray | None]:
    """Splits one axis into two: the bins, and the elements of each.

    Bin ``i`` of an axis of length ``n`` has the elements from ``floor(i n / num_bins)`` to
    ``ceil((i + 1) n / num_bins)``, the second one excluded.

    Returns:
        the array, where shorter bins are filled up with their last element; and the number of elements of each bin,
        ``None`` if all are full.
    """
    size = x.shape[axis]
    if size % num_bins == 0:
        return x.reshape(*x.shape[:axis], num_bins, size // num_bins, *x.shape[axis + 1 :]), None
    edges = np.arange(num_bins + 1) * size
    starts, ends = edges[:-1] // num_bins, -(-edges[1:] // num_bins)
    lengths = (ends - starts).astype(np.int32)
    offsets = np.arange(max(lengths.tolist()))
    indices = np.minimum(starts[:, None] + offsets, ends[:, None] - 1)
    return jnp.take(x, indices, axis, mode="clip"), lengths


class AdaptiveAvgPool1D(_AdaptiveAvgPool):
    """Takes the mean of as many bins of a sequence as asked for, of nearly equal length.

    ``y[i] = mean(x[floor(i n / m) : ceil((i + 1) n / m)])`` for lengths ``n`` of the input and ``m`` of the output;
    neighbouring bins overlap where ``m`` does not divide ``n``. The bins are those of PyTorch.

    Shapes:
        input: ``(N, W, C)``, with ``data_format="NCW"`` ``(N, C, W)``; any numeric dtype.
        output: ``(N, output_shape, C)``, or ``(N, C, output_shape)``; float dtypes are kept, integers give JAX's
            default float dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AdaptiveAvgPool1D(2)(jnp.array([[0.0, 3.0, 6.0]])[..., None])[..., 0]
    Array([[1.5, 4.5]], dtype=float32)
    """

    _data_formats = ("NWC", "NCW")


class AdaptiveAvgPool2D(_AdaptiveAvgPool):
    """Takes the mean of as many bins of an image as asked for, of nearly equal size.

    The bins along each axis are those of :class:`AdaptiveAvgPool1D`.

    Shapes:
        input: ``(N, H, W, C)``, with ``data_format="NCHW"`` ``(N, C, H, W)``; any numeric dtype.
        output: ``(N, *output_shape, C)``, or ``(N, C, *output_shape)``; float dtypes are kept, integers give JAX's
            default float dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AdaptiveAvgPool2D((3, 2))(jnp.ones((2, 7, 5, 4))).shape
    (2, 3, 2, 4)
    """

    _data_formats = ("NHWC", "NCHW")


class AdaptiveMaxPool1D(_AdaptiveMaxPool):
    """Takes the maximum of as many bins of a sequence as asked for, of nearly equal length.

    ``y[i] = max(x[floor(i n / m) : ceil((i + 1) n / m)])``, with the bins of :class:`AdaptiveAvgPool1D`. Equal maxima
    of one bin share its gradient.

    Shapes:
        input: ``(N, W, C)``, with ``data_format="NCW"`` ``(N, C, W)``; any numeric dtype.
        output: ``(N, output_shape, C)``, or ``(N, C, output_shape)``, same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AdaptiveMaxPool1D(2)(jnp.array([[1, 5, 2]])[..., None])[..., 0]
    Array([[5, 5]], dtype=int32)
    """

    _data_formats = ("NWC", "NCW")


class AdaptiveMaxPool2D(_AdaptiveMaxPool):
    """Takes the maximum of as many bins of an image as asked for, of nearly equal size.

    The bins along each axis are those of :class:`AdaptiveAvgPool1D`.

    Shapes:
        input: ``(N, H, W, C)``, with ``data_format="NCHW"`` ``(N, C, H, W)``; any numeric dtype.
        output: ``(N, *output_shape, C)``, or ``(N, C, *output_shape)``, same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.AdaptiveMaxPool2D(2)(jnp.ones((2, 7, 5, 4))).shape
    (2, 2, 2, 4)
    """

    _data_formats = ("NHWC", "NCHW")
