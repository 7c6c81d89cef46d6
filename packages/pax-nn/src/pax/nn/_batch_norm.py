"""Batch normalisation of sequences, images and volumes."""

from jax.typing import DTypeLike

from pax.nn._batch_norm_nd import BatchNormND
from pax.nn._normalize import AxisNames


class BatchNorm1D(BatchNormND):
    """Normalises each channel of a batch of sequences to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, over all axes but the channels. Train mode uses the mean
    and the (biased) variance of the batch and updates the averages; eval mode uses the averages, which are 0 and 1
    before the first update. Statistics are computed in float32 for half-precision inputs.

    A batch that is spread over devices is normalised as a whole: under plain ``jit`` with sharded arrays as it is, in
    ``jax.shard_map`` or ``jax.vmap`` over parts of the batch with ``axis_name``.

    Shapes:
        input: ``(N, W, num_channels)``, with ``data_format="NCW"`` ``(N, num_channels, W)``.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: one value per channel, broadcastable to the input (``(1, 1, num_channels)`` for ``"NWC"``),
            in ``param_dtype``, JAX's default float dtype by default; ``None`` where not created.
    State:
        ema_mean, ema_var: :class:`EMA` of the batch statistics, in ``param_dtype``, at least float32. The first update
            replaces the initial values.

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
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        axis_name: AxisNames | None = None,
    ) -> None:
        """Makes a layer that scales by 1 and shifts by 0.

        Args:
            num_channels: number of channels.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            decay_rate: weight of the old averages in an update, in [0, 1].
            eps: added to the variance, inside the root; not negative.
            data_format: ``"NWC"`` or ``"NCW"``.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: JAX's default float dtype.
            axis_name: names of axes of ``vmap`` or ``shard_map`` over whose parts the batch is spread: mean and
                variance are those of all parts together. Default: none.

        Raises:
            ArgumentError: a size smaller than 1, another data format, a negative ``eps``, or a decay rate outside of
                [0, 1].
            ArgumentTypeError: no integer, number, name or floating dtype where one is wanted.
        """
        super().__init__(
            num_channels,
            create_scale,
            create_offset,
            decay_rate,
            eps,
            data_format,
            name=name,
            dtype=dtype,
            param_dtype=param_dtype,
            axis_name=axis_name,
        )


class BatchNorm2D(BatchNormND):
    """Normalises each channel of a batch of images to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, over all axes but the channels. Train mode uses the mean
    and the (biased) variance of the batch and updates the averages; eval mode uses the averages, which are 0 and 1
    before the first update. Statistics are computed in float32 for half-precision inputs.

    A batch that is spread over devices is normalised as a whole: under plain ``jit`` with sharded arrays as it is, in
    ``jax.shard_map`` or ``jax.vmap`` over parts of the batch with ``axis_name``.

    Shapes:
        input: ``(N, H, W, num_channels)``, with ``data_format="NCHW"`` ``(N, num_channels, H, W)``.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: one value per channel, broadcastable to the input (``(1, 1, 1, num_channels)`` for ``"NHWC"``),
            in ``param_dtype``, JAX's default float dtype by default; ``None`` where not created.
    State:
        ema_mean, ema_var: :class:`EMA` of the batch statistics, in ``param_dtype``, at least float32. The first update
            replaces the initial values.

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
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        axis_name: AxisNames | None = None,
    ) -> None:
        """Makes a layer that scales by 1 and shifts by 0.

        Args:
            num_channels: number of channels.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            decay_rate: weight of the old averages in an update, in [0, 1].
            eps: added to the variance, inside the root; not negative.
            data_format: ``"NHWC"`` or ``"NCHW"``.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: JAX's default float dtype.
            axis_name: names of axes of ``vmap`` or ``shard_map`` over whose parts the batch is spread: mean and
                variance are those of all parts together. Default: none.

        Raises:
            ArgumentError: a size smaller than 1, another data format, a negative ``eps``, or a decay rate outside of
                [0, 1].
            ArgumentTypeError: no integer, number, name or floating dtype where one is wanted.
        """
        super().__init__(
            num_channels,
            create_scale,
            create_offset,
            decay_rate,
            eps,
            data_format,
            name=name,
            dtype=dtype,
            param_dtype=param_dtype,
            axis_name=axis_name,
        )


class BatchNorm3D(BatchNormND):
    """Normalises each channel of a batch of volumes or videos to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, over all axes but the channels. Train mode uses the mean
    and the (biased) variance of the batch and updates the averages; eval mode uses the averages, which are 0 and 1
    before the first update. Statistics are computed in float32 for half-precision inputs.

    A batch that is spread over devices is normalised as a whole: under plain ``jit`` with sharded arrays as it is, in
    ``jax.shard_map`` or ``jax.vmap`` over parts of the batch with ``axis_name``.

    Shapes:
        input: ``(N, D, H, W, num_channels)``, with ``data_format="NCDHW"`` ``(N, num_channels, D, H, W)``.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: one value per channel, broadcastable to the input (``(1, 1, 1, 1, num_channels)`` for
            ``"NDHWC"``), in ``param_dtype``, JAX's default float dtype by default; ``None`` where not created.
    State:
        ema_mean, ema_var: :class:`EMA` of the batch statistics, in ``param_dtype``, at least float32. The first update
            replaces the initial values.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.BatchNorm3D(3)
    >>> norm
    BatchNorm3D(num_channels=3, create_scale=True, create_offset=True, data_format=NDHWC, decay_rate=0.9)
    >>> norm, y = pax.purecall(norm, jnp.ones((4, 2, 8, 8, 3)))
    >>> y.shape
    (4, 2, 8, 8, 3)

    References:
        Ioffe & Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167. The averaged variance is the
        biased one (divided by N), where the paper's algorithm 2 multiplies it by N / (N - 1).
    """

    _data_formats = ("NDHWC", "NCDHW")

    def __init__(
        self,
        num_channels: int,
        create_scale: bool = True,
        create_offset: bool = True,
        decay_rate: float = 0.9,
        eps: float = 1e-5,
        data_format: str = "NDHWC",
        *,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        axis_name: AxisNames | None = None,
    ) -> None:
        """Makes a layer that scales by 1 and shifts by 0.

        Args:
            num_channels: number of channels.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            decay_rate: weight of the old averages in an update, in [0, 1].
            eps: added to the variance, inside the root; not negative.
            data_format: ``"NDHWC"`` or ``"NCDHW"``.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: JAX's default float dtype.
            axis_name: names of axes of ``vmap`` or ``shard_map`` over whose parts the batch is spread: mean and
                variance are those of all parts together. Default: none.

        Raises:
            ArgumentError: a size smaller than 1, another data format, a negative ``eps``, or a decay rate outside of
                [0, 1].
            ArgumentTypeError: no integer, number, name or floating dtype where one is wanted.
        """
        super().__init__(
            num_channels,
            create_scale,
            create_offset,
            decay_rate,
            eps,
            data_format,
            name=name,
            dtype=dtype,
            param_dtype=param_dtype,
            axis_name=axis_name,
        )
