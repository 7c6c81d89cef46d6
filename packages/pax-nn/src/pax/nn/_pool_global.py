"""Pooling over all spatial axes."""

import jax
from jaxtyping import Array, Float, Num

from pax import Module
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._axes import channel_index
from pax.nn._dtypes import AnyArray, as_array, as_inexact


class _GlobalPool(Module):
    """The arguments of both layers for global pooling."""

    data_format: str
    keepdims: bool

    def __init__(self, data_format: str = "channels_last", keepdims: bool = False, *, name: str | None = None) -> None:
        """Stores the arguments.

        Args:
            data_format: ``"channels_last"`` or ``"N...C"``; ``"channels_first"`` or ``"NC..."``.
            keepdims: whether spatial axes stay, with length 1; by default they go.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: another data format.
        """
        super().__init__(name=name)
        channel_index(data_format, where=type(self).__name__)
        self.data_format = data_format
        self.keepdims = bool(keepdims)

    def _axes(self, x: jax.Array) -> tuple[int, ...]:
        """Returns the spatial axes of a checked input."""
        first = channel_index(self.data_format, where=type(self).__name__) == 1
        spatial = tuple(range(2, x.ndim)) if first else tuple(range(1, x.ndim - 1))
        if not spatial or any(x.shape[axis] == 0 for axis in spatial):
            raise ArgumentError(
                f"Expecting an input with at least one spatial axis. Get {x.ndim} axes."
                if not spatial
                else "Expecting an input with at least one element along each spatial axis.",
                module=self,
                got=describe(x),
                want="axes (batch, channels, spatial axes ...)"
                if first
                else "axes (batch, spatial axes ..., channels)",
                fix="x[None]   # a batch of one" if x.ndim == 2 else None,
            )
        return spatial

    def __repr__(self) -> str:
        return self._repr({"data_format": self.data_format, "keepdims": self.keepdims or None})


class GlobalAvgPool(_GlobalPool):
    """Takes the mean over all axes but those of the batch and the channels.

    Shapes:
        input: ``(N, *spatial, C)``, with ``data_format="channels_first"`` ``(N, C, *spatial)``, for one or more spatial
            axes; any numeric dtype.
        output: ``(N, C)``; with ``keepdims`` ``(N, 1, ..., C)``, or ``(N, C, 1, ...)``; float dtypes are kept (half
            precision is summed in float32), integers give JAX's default float dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.GlobalAvgPool()(jnp.ones((2, 8, 8, 4))).shape
    (2, 4)
    >>> pax.nn.GlobalAvgPool("channels_first", keepdims=True)(jnp.ones((2, 4, 8, 8))).shape
    (2, 4, 1, 1)

    References:
        Lin, Chen & Yan, "Network In Network", 2013, section 3.2, https://arxiv.org/abs/1312.4400
    """

    def __call__(self, x: Num[AnyArray, "..."]) -> Float[Array, "..."]:
        """Returns the mean of each channel of each example.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Raises:
            ArgumentError: there is no spatial axis, or an empty one.
        """
        x = as_inexact(as_array(x, module=self))
        return x.mean(self._axes(x), keepdims=self.keepdims)


class GlobalMaxPool(_GlobalPool):
    """Takes the maximum over all axes but those of the batch and the channels. Equal maxima share the gradient.

    Shapes:
        input: ``(N, *spatial, C)``, with ``data_format="channels_first"`` ``(N, C, *spatial)``, for one or more spatial
            axes; any numeric dtype.
        output: ``(N, C)``; with ``keepdims`` ``(N, 1, ..., C)``, or ``(N, C, 1, ...)``; same dtype.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.GlobalMaxPool()(jnp.array([[[1, 5], [2, 4]]]))
    Array([[2, 5]], dtype=int32)
    """

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Returns the maximum of each channel of each example.

        Args:
            x: a batch, its axes as ``data_format`` says.

        Raises:
            ArgumentError: there is no spatial axis, or an empty one.
        """
        x = as_array(x, module=self)
        return x.max(self._axes(x), keepdims=self.keepdims)
