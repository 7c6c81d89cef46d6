"""Transposed convolutions over one, two or three spatial axes."""

from collections.abc import Sequence

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax.nn._conv_nd import AnyConv
from pax.nn._dtypes import AnyArray
from pax.nn._padding import Padding
from pax.nn.initializers import Initializer


class _ConvTransposeND(AnyConv):
    """A transposed convolution; the subclasses say over how many axes, and in which data formats."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        with_bias: bool,
        w_init: Initializer | None,
        b_init: Initializer | None,
        data_format: str,
        *,
        name: str | None,
        rng_key: jax.Array | None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike | None,
    ) -> None:
        super().__init__(
            in_features, out_features, kernel_shape, stride, padding, with_bias, data_format, name=name, dtype=dtype
        )
        self._draw((self.out_features, self.in_features), w_init, b_init, rng_key, param_dtype)

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Applies the layer.

        Args:
            x: a batch with ``in_features`` channels, its axes as ``data_format`` says.

        Returns:
            The same axes with ``out_features`` channels. With ``padding="SAME"`` a spatial axis of length ``n`` gets
            length ``n * stride``, with ``"VALID"`` ``n * stride + max(kernel_shape - stride, 0)``, and with a pair
            ``(n - 1) * stride + 2 - kernel_shape + before + after``.

        Raises:
            ArgumentError: another number of axes or of channels.
        """
        x, weight = self._operands(x)
        y = jax.lax.conv_general_dilated(
            x,
            weight,
            window_strides=self.kernel_dilation,
            padding=self._pads(),
            lhs_dilation=self.stride,
            rhs_dilation=self.kernel_dilation,
            dimension_numbers=(self.data_format, self.kernel_format, self.data_format),
        )
        return self._add_bias(y)

    def _pads(self) -> Sequence[tuple[int, int]]:
        """Returns how many zeros go around the input after it was stretched, per spatial axis."""
        if not isinstance(self.padding, str):
            return self.padding
        sizes = zip(self.kernel_shape, self.stride, strict=True)
        return [_pads_of_axis(kernel, stride, self.padding) for kernel, stride in sizes]

    def __repr__(self) -> str:
        info = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "data_format": self.data_format,
            "padding": self.padding,
            "stride": self.stride,
            "with_bias": self.with_bias,
            "dtype": self.dtype,
        }
        return self._repr(info)


def _pads_of_axis(kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """The rule of ``jax.lax.conv_transpose``, written out so that it stays this one."""
    if padding == "VALID":
        before, total = kernel - 1, kernel + stride - 2 + max(kernel - stride, 0)
    else:
        total = kernel + stride - 2
        before = kernel - 1 if stride > kernel - 1 else (total + 1) // 2
    return before, total - before


class Conv1DTranspose(_ConvTransposeND):
    """Spreads sequences: each input element adds a scaled kernel to the output, ``stride`` apart.

    The gradient of a convolution with respect to its input, up to the order of the kernel: the kernel is **not**
    flipped. An impulse with the kernel ``[1, 2, 3]`` gives ``3, 2, 1``, as with ``jax.lax.conv_transpose`` and Haiku.
    Weights of PyTorch or TensorFlow are flipped along the spatial axes before they are used here.

    Shapes:
        input: ``(N, W, in_features)``, with ``data_format="NCW"`` ``(N, in_features, W)``; any numeric dtype.
        output: ``(N, W', out_features)``, or ``(N, out_features, W')``, in ``dtype``; by default in the promoted dtype
            of input and weight.
    Parameters:
        weight: ``(kernel, out_features, in_features)`` in both data formats, in ``param_dtype``; JAX's default float
            dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv1DTranspose(3, 5, kernel_shape=4, stride=2)
    >>> conv
    Conv1DTranspose(in_features=3, out_features=5, data_format=NWC, padding=SAME, stride=(2,), with_bias=True)
    >>> conv(jnp.ones((2, 8, 3))).shape
    (2, 16, 5)

    References:
        Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4,
        https://arxiv.org/abs/1603.07285
    """

    _data_formats = ("NWC", "NCW")
    _kernel_format = "WOI"

    weight: Float[Array, "kernel out_features in_features"]
    bias: Float[Array, " out_features"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NWC",
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
            stride: how much longer the output is than the input, likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list or tuple with one (before, after) pair, of zeros around the
                stretched input.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel * in_features)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NWC"`` or ``"NCW"``.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(
            in_features,
            out_features,
            kernel_shape,
            stride,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            name=name,
            rng_key=rng_key,
            dtype=dtype,
            param_dtype=param_dtype,
        )


class Conv2DTranspose(_ConvTransposeND):
    """Spreads images: each input element adds a scaled kernel to the output, ``stride`` apart.

    As for :class:`Conv1DTranspose`, the kernel is **not** flipped: weights of PyTorch or TensorFlow are flipped along
    the spatial axes before they are used here.

    Shapes:
        input: ``(N, H, W, in_features)``, with ``data_format="NCHW"`` ``(N, in_features, H, W)``; any numeric dtype.
        output: ``(N, H', W', out_features)``, or ``(N, out_features, H', W')``, in ``dtype``; by default in the
            promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel_h, kernel_w, out_features, in_features)`` in both data formats, in ``param_dtype``; JAX's
            default float dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv2DTranspose(1, 4, kernel_shape=3, stride=(2, 1))
    >>> conv(jnp.ones((2, 8, 8, 1))).shape
    (2, 16, 8, 4)
    """

    _data_formats = ("NHWC", "NCHW")
    _kernel_format = "HWOI"

    weight: Float[Array, "kernel_h kernel_w out_features in_features"]
    bias: Float[Array, " out_features"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NHWC",
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
            stride: how much longer the output is than the input, likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple, of
                zeros around the stretched input.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel_h * kernel_w * in_features)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(
            in_features,
            out_features,
            kernel_shape,
            stride,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            name=name,
            rng_key=rng_key,
            dtype=dtype,
            param_dtype=param_dtype,
        )


class Conv3DTranspose(_ConvTransposeND):
    """Spreads volumes, or videos: each input element adds a scaled kernel to the output, ``stride`` apart.

    As for :class:`Conv1DTranspose`, the kernel is **not** flipped: weights of PyTorch or TensorFlow are flipped along
    the spatial axes before they are used here.

    Shapes:
        input: ``(N, D, H, W, in_features)``, with ``data_format="NCDHW"`` ``(N, in_features, D, H, W)``; any numeric
            dtype.
        output: ``(N, D', H', W', out_features)``, or ``(N, out_features, D', H', W')``, in ``dtype``; by default in
            the promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel_d, kernel_h, kernel_w, out_features, in_features)`` in both data formats, in ``param_dtype``;
            JAX's default float dtype by default.
        bias: ``(out_features,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.Conv3DTranspose(1, 4, kernel_shape=3, stride=(2, 1, 1))
    >>> conv(jnp.ones((2, 8, 8, 8, 1))).shape
    (2, 16, 8, 8, 4)
    """

    _data_formats = ("NDHWC", "NCDHW")
    _kernel_format = "DHWOI"

    weight: Float[Array, "kernel_d kernel_h kernel_w out_features in_features"]
    bias: Float[Array, " out_features"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NDHWC",
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
            stride: how much longer the output is than the input, likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple, of
                zeros around the stretched input.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel_d * kernel_h * kernel_w * in_features)``.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NDHWC"`` or ``"NCDHW"``.
            name: shown before the class in summaries.
            rng_key: the key to draw from; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(
            in_features,
            out_features,
            kernel_shape,
            stride,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            name=name,
            rng_key=rng_key,
            dtype=dtype,
            param_dtype=param_dtype,
        )
