"""What all convolutions share (checks, weights, bias), and the convolution over any number of axes."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from pax import ParameterModule
from pax.errors import ArgumentError
from pax.nn._axes import check_data_format, per_axis, positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import initialize, key_or_next, split_key
from pax.nn._inputs import check_channels
from pax.nn._padding import Padding, check_padding
from pax.nn.initializers import Constant, Initializer, truncated_normal_with_stddev


class AnyConv(ParameterModule):
    """A convolution or a transposed one; the subclasses say over how many axes, and in which data formats."""

    _data_formats: ClassVar[tuple[str, str]]
    _kernel_format: ClassVar[str]

    in_features: int
    out_features: int
    kernel_shape: Sequence[int]
    stride: Sequence[int]
    padding: Padding
    with_bias: bool
    data_format: str
    dtype: jnp.dtype | None
    kernel_format: str
    kernel_dilation: tuple[int, ...]
    weight: jax.Array
    bias: jax.Array | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        with_bias: bool,
        data_format: str,
        *,
        name: str | None,
        dtype: DTypeLike | None,
    ) -> None:
        super().__init__(name=name)
        where, num_axes = type(self).__name__, len(self._kernel_format) - 2
        self.data_format = check_data_format(data_format, self._data_formats, where=where)
        self.in_features, self.out_features = _check_features(in_features, out_features, where=where)
        self.kernel_shape = per_axis(kernel_shape, num_axes, what="kernel_shape", where=where)
        self.stride = per_axis(stride, num_axes, what="stride", where=where)
        self.padding = check_padding(padding, num_axes, where=where)
        self.with_bias = with_bias
        self.dtype = optional_float_dtype(dtype, what="dtype", where=where)
        self.kernel_format = self._kernel_format
        self.kernel_dilation = (1,) * num_axes

    def _draw(
        self,
        channels: tuple[int, int],
        w_init: Initializer | None,
        b_init: Initializer | None,
        rng_key: jax.Array | None,
        param_dtype: DTypeLike | None,
    ) -> None:
        """Draws weight and bias.

        Args:
            channels: the last two axes of the weight, in the order of the kernel format.
            w_init: initializer of the weight; default: a cut normal, with the standard deviation that keeps the
                variance of the input where the windows do not overlap.
            b_init: initializer of the bias; default: zeros.
            rng_key: the key; default: the next global one.
            param_dtype: what the initializers' values are cast to.
        """
        where = type(self).__name__
        stored_dtype = optional_float_dtype(param_dtype, what="param_dtype", where=where)
        fan_in = math.prod(self.kernel_shape) * channels[self._kernel_format.index("I") - len(self._kernel_format)]
        w_key, b_key = split_key(key_or_next(rng_key, where=where))
        w_init = truncated_normal_with_stddev(1 / math.sqrt(fan_in)) if w_init is None else w_init
        shape = (*self.kernel_shape, *channels)
        self.weight = initialize(w_init, w_key, shape, what="weight", where=where, param_dtype=stored_dtype)
        self.bias = None
        if self.with_bias:
            b_init = Constant(0) if b_init is None else b_init
            shape = (self.out_features,)
            self.bias = initialize(b_init, b_key, shape, what="bias", where=where, param_dtype=stored_dtype)

    def _operands(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """Returns the checked input and the weight, in the dtype of the computation."""
        x = as_array(x, module=self)
        dtype = str(self.weight.dtype)
        check_channels(self, x, self.in_features, data_format=self.data_format, dtype=dtype, kind="input channels")
        x, weight = to_common_dtype(x, self.weight, dtype=self.dtype)
        return x, weight

    def _add_bias(self, y: jax.Array) -> jax.Array:
        if self.bias is None:
            return y
        y, bias = to_common_dtype(y, self.bias, dtype=self.dtype)
        channel_axis = self.data_format.index("C")
        return y + jnp.expand_dims(bias, [axis for axis in range(y.ndim) if axis != channel_axis])


class ConvND(AnyConv):
    """A convolution; the subclasses say over how many axes, and in which data formats."""

    rate: Sequence[int]
    feature_group_count: int

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
        dtype: DTypeLike | None,
        param_dtype: DTypeLike | None,
    ) -> None:
        super().__init__(
            in_features, out_features, kernel_shape, stride, padding, with_bias, data_format, name=name, dtype=dtype
        )
        where = type(self).__name__
        self.rate = per_axis(rate, len(self.kernel_dilation), what="rate", where=where)
        self.feature_group_count = positive_int(feature_group_count, what="feature_group_count", where=where)
        self._check_groups(where)
        channels = (self.in_features // self.feature_group_count, self.out_features)
        self._draw(channels, w_init, b_init, rng_key, param_dtype)

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Applies the layer.

        Args:
            x: a batch with ``in_features`` channels, its axes as ``data_format`` says.

        Returns:
            The same axes with ``out_features`` channels. With ``padding="SAME"`` a spatial axis of length ``n`` gets
            length ``ceil(n / stride)``, with ``"VALID"`` ``ceil((n - (kernel_shape - 1) * rate) / stride)``, and with
            pairs the length that ``"VALID"`` gives for the padded axis.

        Raises:
            ArgumentError: another number of axes or of channels.
        """
        x, weight = self._operands(x)
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
        return self._add_bias(y)

    def _check_groups(self, where: str) -> None:
        for what, size in (("in_features", self.in_features), ("out_features", self.out_features)):
            if size % self.feature_group_count != 0:
                raise ArgumentError(
                    f"Expecting `{what}` to be divisible by `feature_group_count`.",
                    where=where,
                    got=f"{what}={size}, feature_group_count={self.feature_group_count}",
                    want=f"feature_group_count to be a divisor of {size}",
                )

    def _info(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "kernel_shape": self.kernel_shape,
            "padding": self.padding,
            "stride": self.stride if any(size != 1 for size in self.stride) else None,
            "rate": self.rate if any(size != 1 for size in self.rate) else None,
            "with_bias": self.with_bias,
            "data_format": self.data_format,
            "feature_group_count": self.feature_group_count if self.feature_group_count != 1 else None,
            "dtype": self.dtype,
        }

    def __repr__(self) -> str:
        return self._repr(self._info())


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
