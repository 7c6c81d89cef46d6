"""Depthwise convolutions: a kernel of its own for each channel."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.typing import DTypeLike

from pax.nn._axes import positive_int
from pax.nn._conv import Conv1D, Conv2D
from pax.nn._padding import Padding
from pax.nn.initializers import Initializer


class DepthwiseConv1D(Conv1D):
    """Convolves each channel of sequences by itself, with ``channel_multiplier`` kernels.

    A :class:`Conv1D` with ``feature_group_count=in_features``. Output channel ``c * channel_multiplier + m`` is input
    channel ``c`` seen through its kernel ``m``.

    Shapes:
        input: ``(N, W, in_features)``, with ``data_format="NCW"`` ``(N, in_features, W)``; any numeric dtype.
        output: ``(N, W', in_features * channel_multiplier)``, or ``(N, in_features * channel_multiplier, W')``, in
            ``dtype``; by default in the promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel, 1, in_features * channel_multiplier)`` in both data formats, in ``param_dtype``; JAX's
            default float dtype by default.
        bias: ``(in_features * channel_multiplier,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.DepthwiseConv1D(3, channel_multiplier=2, kernel_shape=5)
    >>> conv.weight.shape, conv(jnp.ones((2, 8, 3))).shape
    ((5, 1, 6), (2, 8, 6))
    """

    channel_multiplier: int

    def __init__(
        self,
        in_features: int,
        channel_multiplier: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
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
        """Draws the kernels.

        Args:
            in_features: number of input channels.
            channel_multiplier: number of output channels per input channel, at least 1.
            kernel_shape: length of the kernels: an int, or a sequence of one.
            stride: steps between two positions of the kernels, likewise.
            rate: distance between two elements of a kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or a list or tuple with one (before, after) pair.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel)``.
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
        in_features, channel_multiplier = _sizes(in_features, channel_multiplier, where=type(self).__name__)
        super().__init__(
            in_features,
            in_features * channel_multiplier,
            kernel_shape,
            stride,
            rate,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            in_features,
            name=name,
            rng_key=rng_key,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        self.channel_multiplier = channel_multiplier

    def __repr__(self) -> str:
        return self._repr(_without_groups(self._info(), self.channel_multiplier))


class DepthwiseConv2D(Conv2D):
    """Convolves each channel of images by itself, with ``channel_multiplier`` kernels.

    A :class:`Conv2D` with ``feature_group_count=in_features``. Output channel ``c * channel_multiplier + m`` is input
    channel ``c`` seen through its kernel ``m``.

    Shapes:
        input: ``(N, H, W, in_features)``, with ``data_format="NCHW"`` ``(N, in_features, H, W)``; any numeric dtype.
        output: ``(N, H', W', in_features * channel_multiplier)``, or ``(N, in_features * channel_multiplier, H', W')``,
            in ``dtype``; by default in the promoted dtype of input and weight.
    Parameters:
        weight: ``(kernel_h, kernel_w, 1, in_features * channel_multiplier)`` in both data formats, in ``param_dtype``;
            JAX's default float dtype by default.
        bias: ``(in_features * channel_multiplier,)``, same dtype, or ``None`` if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> conv = pax.nn.DepthwiseConv2D(3, channel_multiplier=2, kernel_shape=3)
    >>> conv.weight.shape
    (3, 3, 1, 6)
    >>> conv(jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 6)
    """

    channel_multiplier: int

    def __init__(
        self,
        in_features: int,
        channel_multiplier: int,
        kernel_shape: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
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
        """Draws the kernels.

        Args:
            in_features: number of input channels.
            channel_multiplier: number of output channels per input channel, at least 1.
            kernel_shape: height and width of the kernels: one int for both, or a sequence of two.
            stride: steps between two positions of the kernels, likewise.
            rate: distance between two elements of a kernel (dilation), likewise.
            padding: ``"SAME"``, ``"VALID"``, or one (before, after) pair per spatial axis, in a list or tuple.
            with_bias: whether to add a bias to each channel.
            w_init: initializer of the weight; default: a normal distribution cut at two standard deviations, whose
                values have standard deviation ``1 / sqrt(kernel_h * kernel_w)``.
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
        in_features, channel_multiplier = _sizes(in_features, channel_multiplier, where=type(self).__name__)
        super().__init__(
            in_features,
            in_features * channel_multiplier,
            kernel_shape,
            stride,
            rate,
            padding,
            with_bias,
            w_init,
            b_init,
            data_format,
            in_features,
            name=name,
            rng_key=rng_key,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        self.channel_multiplier = channel_multiplier

    def __repr__(self) -> str:
        return self._repr(_without_groups(self._info(), self.channel_multiplier))


def _sizes(in_features: Any, channel_multiplier: Any, *, where: str) -> tuple[int, int]:
    return (
        positive_int(in_features, what="in_features", where=where),
        positive_int(channel_multiplier, what="channel_multiplier", where=where),
    )


def _without_groups(info: dict[str, Any], channel_multiplier: int) -> dict[str, Any]:
    """Returns what is shown of a convolution, with the multiplier in the place of what follows from it."""
    skipped = ("in_features", "out_features", "feature_group_count")
    rest = {key: value for key, value in info.items() if key not in skipped}
    return {"in_features": info["in_features"], "channel_multiplier": channel_multiplier, **rest}
