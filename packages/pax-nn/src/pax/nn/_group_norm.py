"""Group normalisation."""

from collections.abc import Iterable
from typing import Any

import jax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Num

from pax.errors import ArgumentError
from pax.nn._axes import channel_index, positive_int
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._example_norm import ExampleNorm
from pax.nn._norm_arguments import Axes, check_axis, input_axes
from pax.nn._normalize import normalize
from pax.nn.initializers import Initializer


class GroupNorm(ExampleNorm):
    """Normalises each group of channels of each example to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, mean and (biased) variance over ``axis``, where the axis
    of the channels means the channels of one group: statistics never mix groups. A group is ``num_channels / groups``
    neighbouring channels. Train and eval mode are the same.

    Shapes:
        input: ``(N, ..., num_channels)``, with ``data_format="channels_first"`` ``(N, num_channels, ...)``; any real
            dtype. Statistics are computed in float32 at least.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: ``(num_channels,)``, in ``param_dtype``; JAX's default float dtype by default. There are no such
            attributes where they are not created.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.GroupNorm(2, 4)
    >>> norm(jnp.array([[1.0, 3.0, 10.0, 30.0]])).round(2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    >>> pax.nn.GroupNorm(
    ...     2, 4, axis=-1, data_format="NC..."
    ... )  # over positions: wherever the channels are, -1 is the last
    GroupNorm(groups=2, num_channels=4, axis=(-1,), create_scale=True, create_offset=True, data_format=NC...)

    References:
        Wu & He, "Group Normalization", 2018, https://arxiv.org/abs/1803.08494 (equations 1, 2, 7; eps inside the root).
    """

    groups: int
    axis: Axes
    create_offset: bool
    data_format: str
    channel_index: int
    offset: Float[Array, " num_channels"]

    def __init__(
        self,
        groups: int,
        num_channels: int,
        axis: int | slice | Iterable[int] = slice(1, None),
        create_scale: bool = True,
        create_offset: bool = True,
        eps: float = 1e-5,
        scale_init: Initializer | None = None,
        offset_init: Initializer | None = None,
        data_format: str = "channels_last",
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Makes a layer that, by default, scales by 1 and shifts by 0.

        Args:
            groups: number of groups, a divisor of ``num_channels``.
            num_channels: number of channels, at least 1.
            axis: the axes of the input over which mean and variance are taken, negative ones counted from its end; a
                slice is one of the list of all axes. Default: all but the first.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            eps: added to the variance, inside the root; not negative.
            scale_init: initializer of the scale; default: ones. Not used if there is no scale.
            offset_init: initializer of the offset; default: zeros. Not used if there is no offset.
            data_format: ``"channels_last"`` or ``"N...C"``, ``"channels_first"`` or ``"NC..."``.
            rng_key: the key for the initializers; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, groups that do not divide the channels, no usable ``axis``, another
                data format, a negative ``eps``, or an initializer that returns another shape.
            ArgumentTypeError: no integer, number, key or floating dtype where one is wanted.
        """
        super().__init__(num_channels, create_scale, eps, dtype=dtype, name=name)
        self.groups = positive_int(groups, what="groups", where="GroupNorm")
        if self.num_channels % self.groups != 0:
            raise ArgumentError(
                "The number of channels must be divisible by the number of groups, was "
                f"channels={self.num_channels}, groups={self.groups}",
                where="GroupNorm",
                want=f"groups to be a divisor of {self.num_channels}",
            )
        self.axis = check_axis(axis, where="GroupNorm")
        self.create_offset = create_offset
        self.channel_index = channel_index(data_format, where="GroupNorm")
        self.data_format = data_format
        scale, offset = self._draw(rng_key, param_dtype, scale=scale_init, offset=offset_init)
        if scale is not None:
            self.scale = scale
        if offset is not None:
            self.offset = offset

    def __call__(
        self, x: Num[AnyArray, "..."], scale: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> Float[Array, "..."]:
        """Normalises ``x``.

        Args:
            x: a batch with ``num_channels`` channels, at the axis that ``data_format`` says.
            scale: the scale to use where the layer has none of its own: ``(num_channels,)``, or more axes that
                broadcast to the input.
            offset: the offset to use where the layer has none of its own, likewise.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: another number of channels, an input without the axes to normalise over, or a ``scale`` or
                ``offset`` that does not fit, or where the layer has its own.
        """
        x = as_array(x, module=self)
        self._check_input(x, self.channel_index, shape="*,C,..." if self.channel_index == 1 else "...,C")
        channel_axis = self.channel_index % x.ndim
        own = (
            self._factor("scale", scale, x, channel_axis),
            self._factor("offset", offset, x, channel_axis),
        )
        # The channels become two axes, groups and channels of a group; the axes after them move by one.
        axes = tuple(axis + (axis >= channel_axis) for axis in input_axes(self, self.axis, x))
        grouped = (None if array is None else _split(array, channel_axis, self.groups) for array in (x, *own))
        y: Array = normalize(*grouped, axes=axes, eps=self.eps, dtype=self.dtype)[0]
        return y.reshape(x.shape)

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "groups": self.groups,
            "num_channels": self.num_channels,
            "axis": self.axis,
            "create_scale": self.create_scale,
            "create_offset": self.create_offset,
            "data_format": self.data_format,
            "dtype": self.dtype,
        }
        return self._repr(info)


def _split(array: jax.Array, channel_axis: int, groups: int) -> jax.Array:
    """Splits the channels into groups; one value for all channels becomes one for all groups."""
    size = array.shape[channel_axis]
    inner = (1, 1) if size == 1 != groups else (groups, size // groups)
    return array.reshape(*array.shape[:channel_axis], *inner, *array.shape[channel_axis + 1 :])
