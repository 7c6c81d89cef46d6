"""Layer normalisation."""

from collections.abc import Iterable
from typing import Any

import jax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Num

from pax.nn._dtypes import AnyArray, as_array
from pax.nn._example_norm import ExampleNorm
from pax.nn._norm_arguments import Axes, check_axis, input_axes
from pax.nn._normalize import normalize
from pax.nn.initializers import Initializer


class LayerNorm(ExampleNorm):
    """Normalises the features of each example, or of each position, to mean 0 and variance 1.

    ``y = (x - mean) / sqrt(variance + eps) * scale + offset``, mean and (biased) variance over ``axis``. Train and eval
    mode are the same.

    Shapes:
        input: ``(..., num_channels)``; any real dtype. Statistics are computed in float32 at least.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input, scale and offset.
    Parameters:
        scale, offset: ``(num_channels,)``, in ``param_dtype``; JAX's default float dtype by default. They stand for the
            last axis whatever ``axis`` is; ``None`` where not created.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.LayerNorm(3, -1, True, True)
    >>> norm
    LayerNorm(num_channels=3, axis=(-1,), create_scale=True, create_offset=True)
    >>> norm(jnp.array([1.0, 2.0, 3.0])).round(2).tolist()
    [-1.2200000286102295, 0.0, 1.2200000286102295]

    References:
        Ba, Kiros & Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450.
    """

    axis: Axes
    create_offset: bool
    offset: Float[Array, " num_channels"] | None

    def __init__(
        self,
        num_channels: int,
        axis: int | slice | Iterable[int],
        create_scale: bool,
        create_offset: bool,
        eps: float = 1e-5,
        scale_init: Initializer | None = None,
        offset_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Makes a layer that, by default, scales by 1 and shifts by 0.

        Args:
            num_channels: size of the last axis of the input, at least 1.
            axis: the axes of the input over which mean and variance are taken, negative ones counted from its end; a
                slice is one of the list of all axes.
            create_scale: whether there is a trainable scale.
            create_offset: whether there is a trainable offset.
            eps: added to the variance, inside the root; not negative.
            scale_init: initializer of the scale; default: ones.
            offset_init: initializer of the offset; default: zeros.
            rng_key: the key for the initializers; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input, scale and offset.
            param_dtype: dtype in which scale and offset are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, no usable ``axis``, a negative ``eps``, an initializer for what is not
                created, or one that returns another shape.
            ArgumentTypeError: no integer, number, key or floating dtype where one is wanted.
        """
        super().__init__(num_channels, create_scale, eps, dtype=dtype, name=name)
        axes = check_axis(axis, where="LayerNorm")
        self.axis = axes if isinstance(axes, slice) else tuple(axes)
        self.create_offset = create_offset
        self._check_inits(scale=scale_init, offset=offset_init)
        self.scale, self.offset = self._draw(rng_key, param_dtype, scale=scale_init, offset=offset_init)

    def __call__(
        self, inputs: Num[AnyArray, "..."], scale: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> Float[Array, "..."]:
        """Normalises ``inputs``.

        Args:
            inputs: ``(..., num_channels)``.
            scale: the scale to use where the layer has none of its own; any shape that broadcasts to the input.
            offset: the offset to use where the layer has none of its own, likewise.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: another number of channels, an input without the axes to normalise over, or a ``scale`` or
                ``offset`` that does not fit, or where the layer has its own.
        """
        x = as_array(inputs, module=self)
        self._check_input(x, -1, shape="...,C")
        axes = input_axes(self, self.axis, x)
        own = self._factor("scale", scale, x, -1), self._factor("offset", offset, x, -1)
        y: Array = normalize(x, *own, axes=axes, eps=self.eps, dtype=self.dtype)[0]
        return y

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "num_channels": self.num_channels,
            "axis": self.axis,
            "create_scale": self.create_scale,
            "create_offset": self.create_offset,
            "dtype": self.dtype,
        }
        return self._repr(info)
