"""Instance normalisation."""

from typing import Any

import jax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Num

from pax.nn._axes import channel_index
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._example_norm import ExampleNorm
from pax.nn._normalize import normalize
from pax.nn.initializers import Initializer


class InstanceNorm(ExampleNorm):
    """Normalises each channel of each example to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, mean and (biased) variance over all axes but the first
    and the channels; so it is :class:`GroupNorm` with one channel in a group. Train and eval mode are the same.

    Shapes:
        input: ``(N, ..., num_channels)``, with ``data_format="channels_first"`` ``(N, num_channels, ...)``, with one or
            more axes at the dots; any real dtype. Statistics are computed in float32 at least.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: ``(num_channels,)``, in ``param_dtype``; JAX's default float dtype by default. ``None`` where not
            created.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.InstanceNorm(2)
    >>> norm
    InstanceNorm(num_channels=2, create_scale=True, create_offset=True, data_format=channels_last)
    >>> norm(jnp.array([[[1.0, 10.0], [3.0, 30.0]]])).round(2).tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]

    References:
        Ulyanov, Vedaldi & Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016,
        https://arxiv.org/abs/1607.08022.
    """

    create_offset: bool
    data_format: str
    channel_index: int
    offset: Float[Array, " num_channels"] | None

    def __init__(
        self,
        num_channels: int,
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
            num_channels: number of channels, at least 1.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            eps: added to the variance, inside the root; not negative.
            scale_init: initializer of the scale; default: ones.
            offset_init: initializer of the offset; default: zeros.
            data_format: ``"channels_last"`` or ``"N...C"``, ``"channels_first"`` or ``"NC..."``.
            rng_key: the key for the initializers; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, another data format, a negative ``eps``, an initializer for what is
                not created, or one that returns another shape.
            ArgumentTypeError: no integer, number, key or floating dtype where one is wanted.
        """
        super().__init__(num_channels, create_scale, eps, dtype=dtype, name=name)
        self.create_offset = create_offset
        self.channel_index = channel_index(data_format, where="InstanceNorm")
        self.data_format = data_format
        self._check_inits(scale=scale_init, offset=offset_init)
        self.scale, self.offset = self._draw(rng_key, param_dtype, scale=scale_init, offset=offset_init)

    def __call__(
        self, x: Num[AnyArray, "..."], scale: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> Float[Array, "..."]:
        """Normalises ``x``.

        Args:
            x: a batch with ``num_channels`` channels, at the axis that ``data_format`` says.
            scale: the scale to use where the layer has none of its own: ``(num_channels,)``, or more axes that
                broadcast to the input (one scale per example and channel, as in the transfer of styles).
            offset: the offset to use where the layer has none of its own, likewise.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: fewer than three axes, another number of channels, or a ``scale`` or ``offset`` that does not
                fit, or where the layer has its own.
        """
        x = as_array(x, module=self)
        self._check_input(x, self.channel_index, shape="*,C,*,..." if self.channel_index == 1 else "*,*,...,C")
        channel_axis = self.channel_index % x.ndim
        own = (
            self._factor("scale", scale, x, channel_axis),
            self._factor("offset", offset, x, channel_axis),
        )
        axes = tuple(axis for axis in range(1, x.ndim) if axis != channel_axis)
        y: Array = normalize(x, *own, axes=axes, eps=self.eps, dtype=self.dtype)[0]
        return y

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "num_channels": self.num_channels,
            "create_scale": self.create_scale,
            "create_offset": self.create_offset,
            "data_format": self.data_format,
            "dtype": self.dtype,
        }
        return self._repr(info)
