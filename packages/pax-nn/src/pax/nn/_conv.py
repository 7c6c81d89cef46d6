"""Convolutions over one, two or three spatial axes."""

from collections.abc import Sequence

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pax.nn._conv_nd import ConvND
from pax.nn._padding import Padding
from pax.nn.initializers import Initializer


class Conv1D(ConvND):
    """Convolves sequences: slides a kernel along one spatial axis.

    What neural networks call a convolution: a cross-correlation, the kernel is not flipped.

    Shapes:
        input: ``(N, W, in_features)``, with ``data_format="NCW"`` ``(N, in_features, W)``; any numeric dtype.
        output: ``(N, W', out_features)``, or ``(N, out_features, W')``, in ``dtype``; by default in the
            promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel, in_features // feature_group_count, out_features)`` in both data formats, in ``param_dtype``;
            JAX's default float dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
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

    weight: Float[Array, "kernel in_features_per_group out_features"]
    bias: Float[Array, " out_features"] | None

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
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the kernel.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: length of the kernel: an int, or a sequence of one.
            stride: steps between two positions of the kernel, likewise.
            rate: distance between two elements of the kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list or tuple with one (before, after) pair.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel * in_features // feature_group_count)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NWC"`` or ``"NCW"``.
            feature_group_count: channels are split into so many groups, which do not see each other.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding, data format or number of groups outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
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
            dtype=dtype,
            param_dtype=param_dtype,
        )


class Conv2D(ConvND):
    """Convolves images: slides a kernel along two spatial axes.

    What neural networks call a convolution: a cross-correlation, the kernel is not flipped.

    Shapes:
        input: ``(N, H, W, in_features)``, with ``data_format="NCHW"`` ``(N, in_features, H, W)``; any numeric dtype.
        output: ``(N, H', W', out_features)``, or ``(N, out_features, H', W')``, in ``dtype``; by default in the
            promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel_h, kernel_w, in_features // feature_group_count, out_features)`` in both data formats, in
            ``param_dtype``; JAX's default float dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
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

    weight: Float[Array, "kernel_h kernel_w in_features_per_group out_features"]
    bias: Float[Array, " out_features"] | None

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
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the kernel.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: height and width of the kernel: one int for both, or a sequence of two.
            stride: steps between two positions of the kernel, likewise.
            rate: distance between two elements of the kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel_h * kernel_w * in_features // feature_group_count)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            feature_group_count: channels are split into so many groups, which do not see each other.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding, data format or number of groups outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
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
            dtype=dtype,
            param_dtype=param_dtype,
        )


class Conv3D(ConvND):
    """Convolves volumes, or videos: slides a kernel along three spatial axes.

    What neural networks call a convolution: a cross-correlation, the kernel is not flipped.

    Shapes:
        input: ``(N, D, H, W, in_features)``, with ``data_format="NCDHW"`` ``(N, in_features, D, H, W)``; any numeric
            dtype.
        output: ``(N, D', H', W', out_features)``, or ``(N, out_features, D', H', W')``, in ``dtype``; by default in
            the promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel_d, kernel_h, kernel_w, in_features // feature_group_count, out_features)`` in both data
            formats, in ``param_dtype``; JAX's default float dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv3D(1, 4, kernel_shape=3, padding="VALID")
    >>> conv(jnp.ones((2, 8, 8, 8, 1))).shape
    (2, 6, 6, 6, 4)
    """

    _data_formats = ("NDHWC", "NCDHW")
    _kernel_format = "DHWIO"

    weight: Float[Array, "kernel_d kernel_h kernel_w in_features_per_group out_features"]
    bias: Float[Array, " out_features"] | None

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
        data_format: str = "NDHWC",
        feature_group_count: int = 1,
        *,
        name: str | None = None,
        rng_key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the kernel.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: depth, height and width of the kernel: one int for all, or a sequence of three.
            stride: steps between two positions of the kernel, likewise.
            rate: distance between two elements of the kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(volume * in_features // feature_group_count)``, with the
                volume ``kernel_d * kernel_h * kernel_w``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NDHWC"`` or ``"NCDHW"``.
            feature_group_count: channels are split into so many groups, which do not see each other.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding, data format or number of groups outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
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
            dtype=dtype,
            param_dtype=param_dtype,
        )
