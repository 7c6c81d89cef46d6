"""``Conv``: convolution over any number of spatial axes."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax._module import Axes
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._arguments import (
    Initializer,
    KeyedLayer,
    floating,
    floating_dtype,
    lecun_normal,
    positive,
)
from pax.extend import describe

_FORMATS = ("channel_last", "channel_first")
Sizes = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]

_VMAP = 'ys, net = jax.vmap(net.__call__, (0, None, None, None), (0, None), axis_name="N")(batch, key, False, "N")'


class Conv(KeyedLayer):
    """Convolves one example. There is no bias: see `Bias`.

    Parameters:
        conv_kernel: ``(*filter_shape, in_channels // feature_group_count, out_channels)``.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        out_channels: at least 1.
        filter_shape: the size along each spatial axis; an integer stands for the same along all.
        strides: the same for steps.
        padding: ``"VALID"``, ``"SAME"``, ``"SAME_LOWER"``, one number for both ends of all spatial axes, or for each
            axis a number or a pair (before, after).
        input_dilation: the same as ``strides``, for gaps between the elements of the input.
        filter_dilation: the same for gaps between those of the filter.
        feature_group_count: into how many groups the channels are divided.
        data_format: ``"channel_last"`` or ``"channel_first"``: where input and output have their channels.
        kernel_initializer: ``kernel_initializer(key, shape, dtype)``.
        dtype: of the kernel; it is cast to that of the input in each call.
        precision: see ``jax.lax.conv_general_dilated``.

    Raises:
        ArgumentError: a size is smaller than 1, or a name is unknown.
        ArgumentTypeError: a size is no integer, ``rng`` is no key, or ``dtype`` no floating dtype.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Conv
    >>> y, conv = Conv(jax.random.key(0), 8, (3, 3), padding="SAME")(jnp.ones((5, 5, 2)), None)
    >>> y.shape, conv.conv_kernel
    ((5, 5, 8), Parameter(trainable=True, data=float32[3,3,2,8]))
    """

    def __init__(
        self,
        rng: Any,
        out_channels: int,
        filter_shape: Sizes,
        strides: Sizes = 1,
        padding: Padding = "VALID",
        *,
        input_dilation: Sizes = 1,
        filter_dilation: Sizes = 1,
        feature_group_count: int = 1,
        data_format: str = "channel_last",
        kernel_initializer: Initializer = lecun_normal,
        dtype: Any = jnp.float32,
        precision: Any = None,
    ) -> None:
        super().__init__(rng)
        where = "mlax.nn.Conv"
        self.out_channels = positive(out_channels, what="out_channels", where=where)
        self.filter_shape = _sizes(filter_shape, what="filter_shape")
        self.strides = _sizes(strides, what="strides")
        self.padding = _checked_padding(padding)
        self.input_dilation = _sizes(input_dilation, what="input_dilation")
        self.filter_dilation = _sizes(filter_dilation, what="filter_dilation")
        self.feature_group_count = positive(feature_group_count, what="feature_group_count", where=where)
        if data_format not in _FORMATS:
            raise ArgumentError(
                "`data_format` has an unknown name.", where=where, got=repr(data_format), want=" or ".join(_FORMATS)
            )
        if self.out_channels % self.feature_group_count:
            raise ArgumentError(
                "The channels cannot be divided into groups.",
                where=where,
                got=f"out_channels={out_channels}, feature_group_count={feature_group_count}",
                want="a multiple of the number of groups",
            )
        self.data_format = data_format
        self.kernel_initializer = kernel_initializer
        self.dtype = floating_dtype(dtype, where=where)
        self.precision = precision
        self.conv_kernel = Parameter(trainable=True)

    def setup(self, x: Any) -> None:
        """Draws the kernel.

        Args:
            x: an input.
        """
        x = self._channels_last(x)
        spatial = self._per_axis("filter_shape", x)
        channels = x.shape[-1]
        if channels % self.feature_group_count:
            raise ArgumentError(
                "The channels cannot be divided into groups.",
                got=f"{channels} channels of the input",
                want=f"a multiple of feature_group_count={self.feature_group_count}",
                module=self,
            )
        shape = (*spatial, channels // self.feature_group_count, self.out_channels)
        self.conv_kernel.data = self.draw("kernel_initializer", shape, self.dtype, what="conv_kernel")

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns the convolution, in the dtype of ``x``; integers become floats.

        Args:
            x: ``(*spatial, channels)``, or ``(channels, *spatial)`` as ``data_format`` says.
            rng: not used.
            inference_mode: not used.
            batch_axis_name: not used.

        Raises:
            ArgumentTypeError: ``x`` has other channels, or another number of axes, than in ``setup``.
            ArgumentError: an argument of the constructor is for another number of spatial axes.
        """
        x = self._channels_last(x)
        kernel = self.conv_kernel.data.astype(x.dtype)
        channels = kernel.shape[-2] * self.feature_group_count
        if x.ndim != kernel.ndim - 1 or x.shape[-1] != channels:
            raise ArgumentTypeError(
                "The input has other channels or axes than in `setup`.",
                got=f"{x.ndim - 1} spatial axes and {x.shape[-1]} channels",
                want=f"{kernel.ndim - 2} spatial axes and {channels} channels, without a batch axis",
                fix=_VMAP,
                module=self,
            )
        num_axes = x.ndim - 1
        spatial = "".join(map(chr, range(ord("a"), ord("a") + num_axes)))
        y = jax.lax.conv_general_dilated(
            x[None],
            kernel,
            window_strides=self._per_axis("strides", x),
            padding=self._padding(x),
            lhs_dilation=self._per_axis("input_dilation", x),
            rhs_dilation=self._per_axis("filter_dilation", x),
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
        )[0]
        return jnp.moveaxis(y, -1, 0) if self.data_format == "channel_first" else y

    def _channels_last(self, x: Any) -> jax.Array:
        x = floating(x, module=self)
        if x.ndim < 2:
            raise ArgumentTypeError(
                "Expecting spatial axes and an axis of channels.",
                got=describe(x),
                want="one example, without a batch axis: (*spatial, channels), or (channels, *spatial)",
                fix=self._one_channel(),
                module=self,
            )
        return jnp.moveaxis(x, 0, -1) if self.data_format == "channel_first" else x

    def _per_axis(self, what: str, x: jax.Array) -> tuple[int, ...]:
        sizes: int | tuple[int, ...] = getattr(self, what)
        if isinstance(sizes, int):
            return (sizes,) * (x.ndim - 1)
        self._check_count(what, sizes, x)
        return sizes

    def _padding(self, x: jax.Array) -> Any:
        if isinstance(self.padding, str):
            return self.padding
        if isinstance(self.padding, int):
            return ((self.padding, self.padding),) * (x.ndim - 1)
        self._check_count("padding", self.padding, x)
        return self.padding

    def _check_count(self, what: str, values: tuple[Any, ...], x: jax.Array) -> None:
        count = len(values)
        if count != x.ndim - 1:
            raise ArgumentError(
                f"`{what}` has values for another number of spatial axes.",
                where=f"argument `{what}`",
                got=f"{what}={values}, and an input {describe(x)} of {x.ndim - 1} spatial axes and one of channels",
                want=f"an input of {count + 1} axes, without a batch axis; or {what} with {x.ndim - 1} values",
                fix=_VMAP if x.ndim - 1 > count else self._one_channel(),
                module=self,
            )

    def _one_channel(self) -> str:
        return f"x[{'None' if self.data_format == 'channel_first' else '..., None'}], for an input of one channel"

    def __repr__(self) -> str:
        info = {"out_channels": self.out_channels, "filter_shape": self.filter_shape, "strides": self.strides}
        return self._repr({**info, "padding": repr(self.padding)})


def _sizes(value: Any, *, what: str) -> int | tuple[int, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(positive(size, what=what, where="mlax.nn.Conv") for size in value)
    return positive(value, what=what, where="mlax.nn.Conv")


def _checked_padding(padding: Any) -> str | int | tuple[tuple[int, int], ...]:
    names = ("VALID", "SAME", "SAME_LOWER")
    if isinstance(padding, str) and padding.upper() in names:
        return padding.upper()
    try:
        if not isinstance(padding, Sequence):
            return operator.index(padding)
        if not isinstance(padding, str):
            pairs = [pair if isinstance(pair, Sequence) else (pair, pair) for pair in padding]
            return tuple((operator.index(before), operator.index(after)) for before, after in pairs)
    except (TypeError, ValueError):
        pass
    raise ArgumentError(
        "This is no padding.",
        where="mlax.nn.Conv",
        got=f"padding={padding!r}",
        want='"VALID", "SAME", "SAME_LOWER", an integer, or for each spatial axis an integer or a pair (before, after)',
    )
