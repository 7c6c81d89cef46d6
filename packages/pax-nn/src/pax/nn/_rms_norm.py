"""Normalisation by the root of the mean square."""

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


class RMSNorm(ExampleNorm):
    """Divides the features of each position by the root of their mean square.

    ``y = x / sqrt(mean(x**2) + eps) * scale``, the mean over ``axis``. This is :class:`LayerNorm` without an offset and
    without the subtraction of the mean. Train and eval mode are the same.

    Shapes:
        input: ``(..., num_channels)``; any real dtype. The mean is computed in float32 at least.
        output: the same shape, in ``dtype``; by default in the promoted dtype of input and scale.
    Parameters:
        scale: ``(num_channels,)``, in ``param_dtype``; JAX's default float dtype by default. It stands for the last
            axis whatever ``axis`` is; ``None`` if not created.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> norm = pax.nn.RMSNorm(2)
    >>> norm
    RMSNorm(num_channels=2, axis=(-1,), create_scale=True)
    >>> norm(jnp.array([1.0, 7.0])).round(1).tolist()
    [0.20000000298023224, 1.399999976158142]

    References:
        Zhang & Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467. There is no
        ``eps`` in the paper; here it is inside the root.
    """

    axis: Axes

    def __init__(
        self,
        num_channels: int,
        axis: int | slice | Iterable[int] = -1,
        create_scale: bool = True,
        eps: float = 1e-6,
        scale_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Makes a layer that, by default, scales by 1.

        Args:
            num_channels: size of the last axis of the input, at least 1.
            axis: the axes of the input over which the mean is taken, negative ones counted from its end; a slice is one
                of the list of all axes.
            create_scale: whether there is a trainable scale.
            eps: added to the mean square, inside the root; not negative.
            scale_init: initializer of the scale; default: ones.
            rng_key: the key for the initializer; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of the output; default: the promoted dtype of input and scale.
            param_dtype: dtype in which the scale is stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, no usable ``axis``, a negative ``eps``, an initializer for what is not
                created, or one that returns another shape.
            ArgumentTypeError: no integer, number, key or floating dtype where one is wanted.
        """
        super().__init__(num_channels, create_scale, eps, dtype=dtype, name=name)
        axes = check_axis(axis, where="RMSNorm")
        self.axis = axes if isinstance(axes, slice) else tuple(axes)
        self._check_inits(scale=scale_init)
        (self.scale,) = self._draw(rng_key, param_dtype, scale=scale_init)

    def __call__(self, x: Num[AnyArray, "..."], scale: ArrayLike | None = None) -> Float[Array, "..."]:
        """Normalises ``x``.

        Args:
            x: ``(..., num_channels)``.
            scale: the scale to use where the layer has none of its own; any shape that broadcasts to the input.

        Returns:
            An array of the same shape.

        Raises:
            ArgumentError: another number of channels, an input without the axes to normalise over, or a ``scale`` that
                does not fit, or where the layer has its own.
        """
        x = as_array(x, module=self)
        self._check_input(x, -1, shape="...,C")
        axes = input_axes(self, self.axis, x)
        factor = self._factor("scale", scale, x, -1)
        y: Array = normalize(x, factor, None, axes=axes, eps=self.eps, dtype=self.dtype, centre=False)[0]
        return y

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "num_channels": self.num_channels,
            "axis": self.axis,
            "create_scale": self.create_scale,
            "dtype": self.dtype,
        }
        return self._repr(info)
