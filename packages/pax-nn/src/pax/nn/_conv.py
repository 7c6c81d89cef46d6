"""Convolutions over one or two spatial axes."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from pax import ParameterModule
from pax.errors import ArgumentError
from pax.nn._axes import per_axis, positive_int
from pax.nn._dtypes import AnyArray, as_array, to_common_dtype
from pax.nn._initialize import initialize, key_or_next
from pax.nn._inputs import check_channels
from pax.nn._padding import Padding, check_padding
from pax.nn.initializers import Initializer, truncated_normal_with_stddev


class _Conv(ParameterModule):
    """A convolution; the subclasses say over how many axes, and in which data formats."""

    _data_formats: ClassVar[tuple[str, str]]
    _kernel_format: ClassVar[str]

    in_features: int
    out_features: int
    kernel_shape: Sequence[int]
    stride: Sequence[int]
    rate: Sequence[int]
    padding: Padding
    with_bias: bool
    data_format: str
    feature_group_count: int
    kernel_format: str
    kernel_dilation: tuple[int, ...]
    weight: Float[Array, "*kernel in_features_per_group out_features"]
    bias: Float[Array, " out_features"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int],
        rate: int | Sequence[int],
        padding: Padding,
        with_bias: bool,
        w_init: Initializer | None,
        b_init: Initializer | None,
        data_format: str,
        feature_group_count: int,
        *,
        name: str | None,
        rng_key: jax.Array | None,
    ) -> None:
        super().__init__(name=name)
        where, num_axes = type(self).__name__, len(self._kernel_format) - 2
        if data_format not in self._data_formats:
            raise ArgumentError(
                f"Data format `{data_format}` is not supported. Use `{'` or `'.join(self._data_formats)}`.", where=where
            )
        self.in_features, self.out_features = _check_features(in_features, out_features, where=where)
        self.kernel_shape = per_axis(kernel_shape, num_axes, what="kernel_shape", where=where)
        self.stride = per_axis(stride, num_axes, what="stride", where=where)
        self.rate = per_axis(rate, num_axes, what="rate", where=where)
        self.padding = check_padding(padding, num_axes, where=where)
        self.with_bias = with_bias
        self.data_format = data_format
        self.feature_group_count = positive_int(feature_group_count, what="feature_group_count", where=where)
        self._check_groups(where)
        self.kernel_format = self._kernel_format
        self.kernel_dilation = (1,) * num_axes

        shape = (*self.kernel_shape, self.in_features // self.feature_group_count, self.out_features)
        default = truncated_normal_with_stddev(1 / math.sqrt(math.prod(shape[:-1])))
        w_key, b_key = jax.random.split(key_or_next(rng_key, where=where))
        self.weight = initialize(w_init or default, w_key, shape, what="weight", where=where)
        self.bias = None
        if with_bias:
            b_init = b_init or jax.nn.initializers.zeros
            self.bias = initialize(b_init, b_key, shape[-1:], what="bias", where=where)

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Applies the layer.

        Args:
            x: a batch with ``in_features`` channels, its axes as ``data_format`` says.

        Returns:
            The same axes with ``out_features`` channels. With ``padding="SAME"`` a spatial axis of length ``n`` gets
            length ``ceil(n / stride)``, with ``"VALID"`` ``ceil((n - (kernel_shape - 1) * rate) / stride)``.

        Raises:
            ArgumentError: another number of axes or of channels.
        """
        x = as_array(x)
        dtype = str(self.weight.dtype)
        check_channels(self, x, self.in_features, data_format=self.data_format, dtype=dtype, kind="input channels")
        x, weight = to_common_dtype(x, self.weight)
        y = jax.lax.conv_general_dilated(
            x,
            weight,
            window_strides=self.stride,
            padding=self.padding,
            lhs_dilation=self.kernel_dilation,
            rhs_dilation=self.rate,
            dimension_numbers=(self.data_format, self.kernel_format, self.data_format),
            feature_group_count=self.feature_group_count,
        )
        if self.bias is None:
            return y
        y, bias = to_common_dtype(y, self.bias)
        channel_axis = self.data_format.index("C")
        return y + jnp.expand_dims(bias, [axis for axis in range(y.ndim) if axis != channel_axis])

    def _check_groups(self, where: str) -> None:
        for what, size in (("in_features", self.in_features), ("out_features", self.out_features)):
            if size % self.feature_group_count != 0:
                raise ArgumentError(
                    f"Expecting `{what}` to be divisible by `feature_group_count`.",
                    where=where,
                    got=f"{what}={size}, feature_group_count={self.feature_group_count}",
                    want=f"feature_group_count to be a divisor of {size}",
                )

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "kernel_shape": self.kernel_shape,
            "padding": self.padding,
            "stride": self.stride if any(size != 1 for size in self.stride) else None,
            "rate": self.rate if any(size != 1 for size in self.rate) else None,
            "with_bias": self.with_bias,
            "data_format": self.data_format,
            "feature_group_count": self.feature_group_count if self.feature_group_count != 1 else None,
        }
        return self._repr(info)


def _check_features(in_features: Any, out_features: Any, *, where: str) -> tuple[int, int]:
    try:
        return (
            positive_int(in_features, what="in_features", where=where),
            positive_int(out_features, what="out_features", where=where),
        )
    except ArgumentError as error:
        raise ArgumentError(
            "positive values",
            where=where,
            got=f"in_features={in_features}, out_features={out_features}",
            want=error.want,
        ) from error


class Conv1D(_Conv):
    """Convolves sequences: slides a kernel along one spatial axis.

    What neural networks call a convolution: a cross-correlation, the kernel is not flipped.

    Shapes:
        input: ``(N, W, in_features)``, with ``data_format="NCW"`` ``(N, in_features, W)``; any numeric dtype.
        output: ``(N, W', out_features)``, or ``(N, out_features, W')``, in the promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel, in_features // feature_group_count, out_features)`` in both data formats.
        bias: ``(out_features,)``, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv1D(3, 5, kernel_shape=3, stride=2)
    >>> conv
    Conv1D(in_features=3, out_features=5, kernel_shape=(3,), padding=SAME, stride=(2,), with_bias=True, data_format=NWC)
    >>> conv(jnp.ones((2, 8, 3))).shape
    (2, 4, 5)
    """

    _data_formats = ("NWC", "NCW")
    _kernel_format = "WIO"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NWC",
        feature_group_count: int = 1,
        *,
        name: str | None = None,
        rng_key: jax.Array | None = None,
    ) -> None:
        """Draws the kernel.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: length of the kernel: an int, or a sequence of one.
            stride: steps between two positions of the kernel, likewise.
            rate: distance between two elements of the kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list with one (before, after) pair.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel * in_features // feature_group_count)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NWC"`` or ``"NCW"``.
            feature_group_count: channels are split into so many groups, which do not see each other.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.

        Raises:
            ArgumentError: a size, padding, data format or number of groups outside of what is listed here.
            ArgumentTypeError: a size that is no integer, or no key for ``rng_key``.
        """
        super().__init__(
            in_features,
            out_features,
            kernel_shape,
            stride,
            rate,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            feature_group_count,
            name=name,
            rng_key=rng_key,
        )


class Conv2D(_Conv):
    """Convolves images: slides a kernel along two spatial axes.

    What neural networks call a convolution: a cross-correlation, the kernel is not flipped.

    Shapes:
        input: ``(N, H, W, in_features)``, with ``data_format="NCHW"`` ``(N, in_features, H, W)``; any numeric dtype.
        output: ``(N, H', W', out_features)``, or ``(N, out_features, H', W')``, in the promoted dtype of input and
            weight.
    Parameters:
        weight: ``(kernel_h, kernel_w, in_features // feature_group_count, out_features)`` in both data formats.
        bias: ``(out_features,)``, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv2D(1, 4, kernel_shape=3, padding="VALID")
    >>> conv(jnp.ones((2, 8, 8, 1))).shape
    (2, 6, 6, 4)
    """

    _data_formats = ("NHWC", "NCHW")
    _kernel_format = "HWIO"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NHWC",
        feature_group_count: int = 1,
        *,
        name: str | None = None,
        rng_key: jax.Array | None = None,
    ) -> None:
        """Draws the kernel.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: height and width of the kernel: one int for both, or a sequence of two.
            stride: steps between two positions of the kernel, likewise.
            rate: distance between two elements of the kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list with one (before, after) pair per spatial axis.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel_h * kernel_w * in_features // feature_group_count)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            feature_group_count: channels are split into so many groups, which do not see each other.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.

        Raises:
            ArgumentError: a size, padding, data format or number of groups outside of what is listed here.
            ArgumentTypeError: a size that is no integer, or no key for ``rng_key``.
        """
        super().__init__(
            in_features,
            out_features,
            kernel_shape,
            stride,
            rate,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            feature_group_count,
            name=name,
            rng_key=rng_key,
        )
