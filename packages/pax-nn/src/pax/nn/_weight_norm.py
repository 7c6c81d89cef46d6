"""Weight normalisation: length and direction of a weight as separate parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pax import EmptyNode, Module, parameters_method
from pax.nn._reparametrize import call_with_weight, check_weight, wide

_SMALLEST_SQUARE = 1e-37
"""About the smallest normal number of float32."""


class WeightNorm(Module):
    """Calls a layer with a weight that is made of a length and a direction for each output channel.

    ``w = g * v / ||v||``, with the norm over all axes but that of the output channels. ``g`` and ``v`` are trained in
    place of ``w``, which the layer no longer has (:class:`pax.EmptyNode` is in its place). At first ``w`` is the
    weight of the layer. Norms are computed in float32 for half-precision weights.

    Shapes:
        input, output: those of the layer.
    Parameters:
        g: ``(output channels,)``, in the dtype of the weight: the lengths.
        v: the shape and dtype of the weight: the directions.
        layer: those of the layer, without the weight.
    State:
        layer: that of the layer, if it has any.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> fc = pax.nn.WeightNorm(pax.nn.Linear(3, 2))
    >>> print(fc.summary())
    WeightNorm(attribute=weight)
    └── Linear(in_dim=3, out_dim=2, with_bias=True)
    >>> fc(jnp.ones((4, 3))).shape, fc.g.shape, fc.v.shape, fc.layer.weight
    ((4, 2), (2,), (3, 2), EmptyNode)

    References:
        Salimans & Kingma, "Weight Normalization", 2016, https://arxiv.org/abs/1602.07868 (eq. 2; without the
        initialisation from data of section 3).
    """

    layer: Module
    attribute: str
    axis: int
    g: Float[Array, " out_features"]
    v: Float[Array, "..."]

    parameters = parameters_method("g", "v")

    def __init__(
        self, layer: Module, attribute: str = "weight", *, axis: int | None = None, name: str | None = None
    ) -> None:
        """Wraps a layer.

        Args:
            layer: a callable module.
            attribute: the array of the layer that is replaced by ``g`` and ``v``.
            axis: the axis of output channels of the weight; default: where the ``kernel_format`` of the layer has its
                ``O``, else the last one.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: ``layer`` is no callable module, or ``axis`` no integer.
            AttributeNameError: the layer has no array of this name.
            ArgumentError: the array is a scalar, or has no such axis.
        """
        super().__init__(name=name)
        weight, self.axis = check_weight(layer, attribute, axis, min_axes=1, where="WeightNorm")
        self.attribute = attribute
        self.v = jnp.asarray(weight)
        self.g = jnp.squeeze(self._norm(), self._other_axes()).astype(weight.dtype)
        self.layer = layer.replace(**{attribute: EmptyNode()})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer returns.

        Raises:
            MutationError: the layer changes its state, outside of ``pax.purecall`` or ``pax.pure``.
        """
        return call_with_weight(self, self.attribute, self.weight, args, kwargs, computed=True)

    @property
    def weight(self) -> jax.Array:
        """The weight with which the layer is called."""
        norm = self._norm()
        lengths = jnp.expand_dims(self.g, self._other_axes()).astype(norm.dtype)
        return (wide(self.v) * (lengths / norm)).astype(self.v.dtype)

    def _other_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.v.ndim) if axis != self.axis)

    def _norm(self) -> jax.Array:
        squares = jnp.sum(jnp.square(wide(self.v)), self._other_axes(), keepdims=True)
        # Where all is zero the norm has no derivative, and the direction is none; there, both are zero.
        tiny = jnp.full((), _SMALLEST_SQUARE, squares.dtype)
        return jnp.sqrt(jnp.maximum(squares, tiny))

    def __repr__(self) -> str:
        return self._repr({"attribute": self.attribute})
