"""Batch normalisation."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from pax import Module, parameters_method
from pax.errors import ArgumentError
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, promote_dtypes
from pax.nn._ema import EMA
from pax.nn._inputs import check_channels


class _BatchNorm(Module):
    """Batch normalisation; the subclasses say for which data formats."""

    _data_formats: ClassVar[tuple[str, str]]

    num_channels: int
    data_format: str
    create_scale: bool
    create_offset: bool
    eps: float
    decay_rate: float
    reduced_axes: tuple[int, ...]
    scale: Float[Array, "..."] | None
    offset: Float[Array, "..."] | None
    ema_mean: EMA
    ema_var: EMA

    parameters = parameters_method("scale", "offset")

    def __init__(
        self,
        num_channels: int,
        create_scale: bool,
        create_offset: bool,
        decay_rate: float,
        eps: float,
        data_format: str,
        *,
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        where = type(self).__name__
        if data_format not in self._data_formats:
            raise ArgumentError(
                "expecting a correct `data_format`",
                where=where,
                got=f"data_format={data_format}",
                want=" or ".join(self._data_formats),
            )
        if not 0 <= decay_rate <= 1:
            raise ArgumentError(
                "Expecting a decay rate in [0, 1].",
                where=where,
                got=f"decay_rate={decay_rate}",
                want="0 <= decay_rate <= 1",
            )
        self.num_channels = positive_int(num_channels, what="num_channels", where=where)
        self.data_format = data_format
        self.create_scale = create_scale
        self.create_offset = create_offset
        self.eps = eps
        self.decay_rate = decay_rate
        self.reduced_axes = tuple(axis for axis, letter in enumerate(data_format) if letter != "C")
        shape = tuple(self.num_channels if letter == "C" else 1 for letter in data_format)
        self.scale = jnp.ones(shape) if create_scale else None
        self.offset = jnp.zeros(shape) if create_offset else None
        self.ema_mean = EMA(jnp.zeros(shape), decay_rate, debias=True)
        self.ema_var = EMA(jnp.ones(shape), decay_rate, debias=True)

    def __call__(self, x: Num[AnyArray, "..."]) -> Float[Array, "..."]:
        """Normalises ``x``: by its own statistics in train mode, by the averaged ones in eval mode.

        Args:
            x: a batch with ``num_channels`` channels, its axes as ``data_format`` says.

        Returns:
            An array of the same shape, in the promoted dtype of ``x``, ``scale`` and ``offset``.

        Raises:
            ArgumentError: another number of axes or of channels.
            MutationError: in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        x = as_array(x)
        check_channels(self, x, self.num_channels, data_format=self.data_format, dtype="float")
        dtype = promote_dtypes(x.dtype, self.ema_mean.averages.dtype, jnp.dtype(jnp.float32))
        wide = x.astype(dtype)
        if self.training:
            # Squared deviations, not E[x²] - E[x]²: that cancels to nonsense where the mean is large.
            mean = jnp.mean(wide, self.reduced_axes, keepdims=True)
            variance = jnp.mean(jnp.square(wide - mean), self.reduced_axes, keepdims=True)
            self.ema_mean(mean)
            self.ema_var(variance)
        else:
            mean = self.ema_mean.averages.astype(dtype)
            variance = self.ema_var.averages.astype(dtype)
        factor = jax.lax.rsqrt(variance + self.eps)
        if self.scale is not None:
            factor = factor * self.scale.astype(dtype)
        y = (wide - mean) * factor
        if self.offset is not None:
            y = y + self.offset.astype(dtype)
        return y.astype(self._output_dtype(x))

    def _output_dtype(self, x: Array) -> jnp.dtype:
        own = [array.dtype for array in (self.scale, self.offset) if array is not None]
        if not own and not jnp.issubdtype(x.dtype, jnp.inexact):
            own = [self.ema_mean.averages.dtype]
        return promote_dtypes(x.dtype, *own)

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "num_channels": self.num_channels,
            "create_scale": self.create_scale,
            "create_offset": self.create_offset,
            "data_format": self.data_format,
            "decay_rate": self.decay_rate,
        }
        return self._repr(info)

    def summary(self, return_list: bool = False) -> Any:
        """Returns the one line of ``repr``; the two averages are not listed.

        Args:
            return_list: return a list of lines instead of a string.
        """
        return [repr(self)] if return_list else repr(self)


class BatchNorm1D(_BatchNorm):
    """Normalises each channel of a batch of sequences to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, over all axes but the channels. Train mode uses the mean
    and the (biased) variance of the batch and updates the averages; eval mode uses the averages, which are 0 and 1
    before the first update. Statistics are computed in float32 for half-precision inputs.

    Shapes:
        input: ``(N, W, num_channels)``, with ``data_format="NCW"`` ``(N, num_channels, W)``.
        output: the same shape, in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: one value per channel, broadcastable to the input (``(1, 1, num_channels)`` for ``"NWC"``);
            ``None`` where not created.
    State:
        ema_mean, ema_var: :class:`EMA` of the batch statistics. The first update replaces the initial values.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.BatchNorm1D(3)
    >>> norm, y = pax.purecall(norm, jnp.ones((4, 2, 3)))
    >>> norm.ema_mean.averages.shape
    (1, 1, 3)
    >>> norm.eval()(jnp.ones((4, 2, 3))).shape
    (4, 2, 3)

    References:
        Ioffe & Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167. The averaged variance is the
        biased one (divided by N), where the paper's algorithm 2 multiplies it by N / (N - 1).
    """

    _data_formats = ("NWC", "NCW")

    def __init__(
        self,
        num_channels: int,
        create_scale: bool = True,
        create_offset: bool = True,
        decay_rate: float = 0.9,
        eps: float = 1e-5,
        data_format: str = "NWC",
        *,
        name: str | None = None,
    ) -> None:
        """Makes a layer that scales by 1 and shifts by 0.

        Args:
            num_channels: number of channels.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            decay_rate: weight of the old averages in an update, in [0, 1].
            eps: added to the variance, inside the root.
            data_format: ``"NWC"`` or ``"NCW"``.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: another data format, or a decay rate outside of [0, 1].
        """
        super().__init__(num_channels, create_scale, create_offset, decay_rate, eps, data_format, name=name)


class BatchNorm2D(_BatchNorm):
    """Normalises each channel of a batch of images to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, over all axes but the channels. Train mode uses the mean
    and the (biased) variance of the batch and updates the averages; eval mode uses the averages, which are 0 and 1
    before the first update. Statistics are computed in float32 for half-precision inputs.

    Shapes:
        input: ``(N, H, W, num_channels)``, with ``data_format="NCHW"`` ``(N, num_channels, H, W)``.
        output: the same shape, in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: one value per channel, broadcastable to the input (``(1, 1, 1, num_channels)`` for ``"NHWC"``);
            ``None`` where not created.
    State:
        ema_mean, ema_var: :class:`EMA` of the batch statistics. The first update replaces the initial values.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.BatchNorm2D(3)
    >>> norm
    BatchNorm2D(num_channels=3, create_scale=True, create_offset=True, data_format=NHWC, decay_rate=0.9)
    >>> norm, y = pax.purecall(norm, jnp.ones((4, 8, 8, 3)))
    >>> y.shape
    (4, 8, 8, 3)

    References:
        Ioffe & Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167. The averaged variance is the
        biased one (divided by N), where the paper's algorithm 2 multiplies it by N / (N - 1).
    """

    _data_formats = ("NHWC", "NCHW")

    def __init__(
        self,
        num_channels: int,
        create_scale: bool = True,
        create_offset: bool = True,
        decay_rate: float = 0.9,
        eps: float = 1e-5,
        data_format: str = "NHWC",
        *,
        name: str | None = None,
    ) -> None:
        """Makes a layer that scales by 1 and shifts by 0.

        Args:
            num_channels: number of channels.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            decay_rate: weight of the old averages in an update, in [0, 1].
            eps: added to the variance, inside the root.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: another data format, or a decay rate outside of [0, 1].
        """
        super().__init__(num_channels, create_scale, create_offset, decay_rate, eps, data_format, name=name)
