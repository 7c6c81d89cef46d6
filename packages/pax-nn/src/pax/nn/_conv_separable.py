"""Separable convolutions: first each channel by itself, then each position by itself."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from pax import Module
from pax.errors import PaxError
from pax.nn._conv import Conv1D, Conv2D
from pax.nn._conv_depthwise import DepthwiseConv1D, DepthwiseConv2D
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._initialize import key_or_next, split_key
from pax.nn._inputs import check_channels
from pax.nn._padding import Padding
from pax.nn.initializers import Initializer


class _SeparableConv(Module):
    """Two convolutions, one after the other; the subclasses say over how many axes."""

    in_features: int
    out_features: int
    kernel_shape: Sequence[int]
    channel_multiplier: int
    dtype: jnp.dtype | None

    depthwise: Any
    pointwise: Any

    def _set_steps(self, depthwise: DepthwiseConv1D | DepthwiseConv2D, pointwise: Conv1D | Conv2D) -> None:
        self.in_features, self.out_features = depthwise.in_features, pointwise.out_features
        self.kernel_shape, self.channel_multiplier = depthwise.kernel_shape, depthwise.channel_multiplier
        self.dtype = pointwise.dtype
        self.depthwise, self.pointwise = depthwise, pointwise

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Applies both steps.

        Args:
            x: a batch with ``in_features`` channels, its axes as ``data_format`` says.

        Returns:
            The same axes with ``out_features`` channels; the lengths of the spatial axes as for :class:`Conv1D`.

        Raises:
            ArgumentError: another number of axes or of channels.
        """
        x = as_array(x, module=self)
        # The step would refuse it as well, in the name of a layer that the user has not made.
        data_format, dtype = self.depthwise.data_format, str(self.depthwise.weight.dtype)
        check_channels(self, x, self.in_features, data_format=data_format, dtype=dtype, kind="input channels")
        y: jax.Array = self.pointwise(self.depthwise(x))
        return y

    def __repr__(self) -> str:
        info = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "kernel_shape": self.kernel_shape,
            "channel_multiplier": self.channel_multiplier if self.channel_multiplier != 1 else None,
            "dtype": self.dtype,
        }
        return self._repr(info)


class SeparableConv1D(_SeparableConv):
    """Convolves each channel of sequences by itself, then mixes the channels of each position.

    ``y = pointwise(depthwise(x))``: a :class:`DepthwiseConv1D` with the kernel, and a :class:`Conv1D` with a kernel of
    length 1 and the bias. The first has no bias, because the second would turn it into another one of its own.

    Shapes:
        input: ``(N, W, in_features)``, with ``data_format="NCW"`` ``(N, in_features, W)``; any numeric dtype.
        output: ``(N, W', out_features)``, or ``(N, out_features, W')``, in ``dtype``; by default in the promoted dtype
            of input and weights.
    Parameters:
        depthwise: its ``weight``, ``(kernel, 1, in_features * channel_multiplier)``.
        pointwise: its ``weight``, ``(1, in_features * channel_multiplier, out_features)``; and its ``bias``,
            ``(out_features,)``, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.SeparableConv1D(3, 8, kernel_shape=5)
    >>> conv(jnp.ones((2, 8, 3))).shape
    (2, 8, 8)

    References:
        Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017,
        https://arxiv.org/abs/1610.02357
    """

    depthwise: DepthwiseConv1D
    pointwise: Conv1D

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        depthwise_init: Initializer | None = None,
        pointwise_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NWC",
        channel_multiplier: int = 1,
        *,
        name: str | None = None,
        rng_key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the kernels.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: length of the kernels of the depthwise step: an int, or a sequence of one.
            stride: steps between two positions of these kernels, likewise.
            rate: distance between two elements of such a kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list or tuple with one (before, after) pair.
            with_bias: whether to add a bias to each output channel.
            depthwise_init: initializer of the depthwise weight; default: that of :class:`DepthwiseConv1D`.
            pointwise_init: initializer of the pointwise weight; default: that of :class:`Conv1D`.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NWC"`` or ``"NCW"``.
            channel_multiplier: number of channels between the steps per input channel, at least 1.
            name: shown before the class in summaries.
            rng_key: the key to split for both steps; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weights.
            param_dtype: dtype in which the weights are stored; default: what the initializers return.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        depthwise_key, pointwise_key = split_key(key_or_next(rng_key, where=type(self).__name__))
        with _errors_of_steps_named(type(self).__name__):
            depthwise = DepthwiseConv1D(
                in_features,
                channel_multiplier,
                kernel_shape,
                stride,
                rate,
                padding,
                with_bias=False,
                w_init=depthwise_init,
                data_format=data_format,
                rng_key=depthwise_key,
                dtype=dtype,
                param_dtype=param_dtype,
            )
            pointwise = Conv1D(
                depthwise.out_features,
                out_features,
                1,
                with_bias=with_bias,
                w_init=pointwise_init,
                b_init=b_init,
                data_format=data_format,
                rng_key=pointwise_key,
                dtype=dtype,
                param_dtype=param_dtype,
            )
        self._set_steps(depthwise, pointwise)


class SeparableConv2D(_SeparableConv):
    """Convolves each channel of images by itself, then mixes the channels of each position.

    ``y = pointwise(depthwise(x))``: a :class:`DepthwiseConv2D` with the kernel, and a :class:`Conv2D` with a 1 by 1
    kernel and the bias. The first has no bias, because the second would turn it into another one of its own.

    Shapes:
        input: ``(N, H, W, in_features)``, with ``data_format="NCHW"`` ``(N, in_features, H, W)``; any numeric dtype.
        output: ``(N, H', W', out_features)``, or ``(N, out_features, H', W')``, in ``dtype``; by default in the
            promoted dtype of input and weights.
    Parameters:
        depthwise: its ``weight``, ``(kernel_h, kernel_w, 1, in_features * channel_multiplier)``.
        pointwise: its ``weight``, ``(1, 1, in_features * channel_multiplier, out_features)``; and its ``bias``,
            ``(out_features,)``, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.SeparableConv2D(3, 8, kernel_shape=3, stride=2)
    >>> conv
    SeparableConv2D(in_features=3, out_features=8, kernel_shape=(3, 3))
    >>> conv(jnp.ones((2, 8, 8, 3))).shape
    (2, 4, 4, 8)

    References:
        Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017,
        https://arxiv.org/abs/1610.02357
    """

    depthwise: DepthwiseConv2D
    pointwise: Conv2D

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        with_bias: bool = True,
        depthwise_init: Initializer | None = None,
        pointwise_init: Initializer | None = None,
        b_init: Initializer | None = None,
        data_format: str = "NHWC",
        channel_multiplier: int = 1,
        *,
        name: str | None = None,
        rng_key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the kernels.

        Args:
            in_features: number of input channels.
            out_features: number of output channels.
            kernel_shape: height and width of the kernels of the depthwise step: one int for both, or a sequence of two.
            stride: steps between two positions of these kernels, likewise.
            rate: distance between two elements of such a kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple.
            with_bias: whether to add a bias to each output channel.
            depthwise_init: initializer of the depthwise weight; default: that of :class:`DepthwiseConv2D`.
            pointwise_init: initializer of the pointwise weight; default: that of :class:`Conv2D`.
            b_init: initializer of the bias; default: zeros.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            channel_multiplier: number of channels between the steps per input channel, at least 1.
            name: shown before the class in summaries.
            rng_key: the key to split for both steps; default: the next key of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weights.
            param_dtype: dtype in which the weights are stored; default: what the initializers return.

        Raises:
            ArgumentError: a size, padding or data format outside of what is listed here.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        depthwise_key, pointwise_key = split_key(key_or_next(rng_key, where=type(self).__name__))
        with _errors_of_steps_named(type(self).__name__):
            depthwise = DepthwiseConv2D(
                in_features,
                channel_multiplier,
                kernel_shape,
                stride,
                rate,
                padding,
                with_bias=False,
                w_init=depthwise_init,
                data_format=data_format,
                rng_key=depthwise_key,
                dtype=dtype,
                param_dtype=param_dtype,
            )
            pointwise = Conv2D(
                depthwise.out_features,
                out_features,
                1,
                with_bias=with_bias,
                w_init=pointwise_init,
                b_init=b_init,
                data_format=data_format,
                rng_key=pointwise_key,
                dtype=dtype,
                param_dtype=param_dtype,
            )
        self._set_steps(depthwise, pointwise)


@contextmanager
def _errors_of_steps_named(name: str) -> Iterator[None]:
    """Lets errors that the constructor of a step raises name the layer that the user makes."""
    try:
        yield
    except PaxError as error:
        error.where = error.where and re.sub(r"\b(Depthwise)?Conv[12]D\b", name, error.where)
        error.fix = error.fix and re.sub(r"\b(Depthwise)?Conv[12]D\b", name, error.fix)
        raise
