"""Spectral normalisation of the weight of a layer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pax import Module
from pax.errors import ArgumentError
from pax.nn._axes import positive_int
from pax.nn._initialize import key_or_next
from pax.nn._numbers import real_number
from pax.nn._reparametrize import call_with_weight, check_weight, wide

_FIRST_STEPS = 15
"""Power iterations at construction, so that the first estimate is close already."""


@functools.partial(jax.jit, static_argnums=(3,), inline=True)
def _power_iteration(matrix: jax.Array, v: jax.Array, eps: jax.Array, num_steps: int) -> tuple[jax.Array, jax.Array]:
    """Returns the approximate first singular vectors ``u`` and ``v`` of a matrix."""

    def step(_: Any, vectors: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        u = _normalise(matrix @ vectors[1], eps)
        v = _normalise(matrix.T @ u, eps)
        # Of a matrix of zeros the direction stays, to go on from when it is zero no longer.
        return u, jnp.where(jnp.any(v != 0), v, vectors[1])

    start = jnp.zeros(matrix.shape[:1], matrix.dtype), v
    vectors: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, num_steps, step, start)
    return vectors


def _normalise(vector: jax.Array, eps: jax.Array) -> jax.Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), eps)


class SpectralNorm(Module):
    """Calls a layer with its weight divided by the largest singular value of it.

    ``W / sigma(W)``, ``sigma(W) = u @ W @ v``, where the weight is reshaped to a matrix with a row for each output
    channel, and ``u``, ``v`` approximate its first singular vectors. In train mode each call improves them by
    ``num_steps`` power iterations; gradients do not pass through these. In eval mode they stay as they are. A layer
    with such a weight is 1-Lipschitz (a convolution roughly so).

    Shapes:
        input, output: those of the layer.
    Parameters:
        layer: those of the layer; the weight before the division is trained.
    State:
        u: ``(output channels,)``, in the dtype of the weight, float32 at least.
        v: ``(size of the weight / output channels,)``, likewise.
        layer: the states of the layer, if it has any.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> fc = pax.nn.SpectralNorm(pax.nn.Linear(3, 2))
    >>> print(fc.summary())
    SpectralNorm(attribute=weight, num_steps=1)
    └── Linear(in_dim=3, out_dim=2, with_bias=True)
    >>> fc, y = pax.purecall(fc, jnp.ones((4, 3)))
    >>> y.shape, round(float(jnp.linalg.norm(fc.weight, 2)), 3)
    ((4, 2), 1.0)

    All layers of a model: ``model.apply(lambda m: pax.nn.SpectralNorm(m) if isinstance(m, pax.nn.Linear) else m)``.

    References:
        Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018,
        https://arxiv.org/abs/1802.05957 (algorithm 1). As in PyTorch, construction runs 15 power iterations.
    """

    layer: Module
    attribute: str
    num_steps: int
    eps: float
    axis: int
    u: Float[Array, " rows"]
    v: Float[Array, " columns"]

    def __init__(
        self,
        layer: Module,
        attribute: str = "weight",
        num_steps: int = 1,
        eps: float = 1e-12,
        *,
        axis: int | None = None,
        rng_key: jax.Array | None = None,
        name: str | None = None,
    ) -> None:
        """Wraps a layer.

        Args:
            layer: a callable module.
            attribute: the array of the layer that is normalised; it has two axes at least.
            num_steps: power iterations in each call in train mode, at least 1.
            eps: smallest norm that a vector is divided by, above 0.
            axis: the axis of output channels of the weight; default: where the ``kernel_format`` of the layer has its
                ``O``, else the last one.
            rng_key: the key for the first ``v``; default: the next key of the global generator.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: ``layer`` is no callable module, ``num_steps`` or ``axis`` no integer, ``eps`` no number,
                or ``rng_key`` no key.
            AttributeNameError: the layer has no array of this name.
            ArgumentError: the array has less than two axes or no such axis, ``num_steps`` is below 1, or ``eps`` is not
                above 0.
        """
        super().__init__(name=name)
        weight, self.axis = check_weight(layer, attribute, axis, min_axes=2, where="SpectralNorm")
        self.eps = real_number(eps, what="eps", where="SpectralNorm", want="eps > 0")
        if not self.eps > 0:
            raise ArgumentError("Expecting a small positive `eps`.", where="SpectralNorm", got=f"{eps}", want="eps > 0")
        self.layer = layer
        self.attribute = attribute
        self.num_steps = positive_int(num_steps, what="num_steps", where="SpectralNorm")
        matrix = self._matrix(weight)
        v = jax.random.normal(key_or_next(rng_key, where="SpectralNorm"), matrix.shape[1:], matrix.dtype)
        self.u, self.v = self._singular_vectors(matrix, v, _FIRST_STEPS)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer returns with its weight normalised.

        Raises:
            MutationError: in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        if self.training:
            matrix = jax.lax.stop_gradient(self._matrix(getattr(self.layer, self.attribute)))
            u, v = self._singular_vectors(matrix, self.v, self.num_steps)
            self.u, self.v = u.astype(self.u.dtype), v.astype(self.v.dtype)
        return call_with_weight(self, self.attribute, self.weight, args, kwargs, computed=False)

    @property
    def weight(self) -> jax.Array:
        """The normalised weight, as the layer is called with it in eval mode."""
        weight = getattr(self.layer, self.attribute)
        matrix = self._matrix(weight)
        u, v = (jax.lax.stop_gradient(vector).astype(matrix.dtype) for vector in (self.u, self.v))
        sigma = u @ (matrix @ v)
        # A weight of zeros stays what it is.
        return (wide(weight) / jnp.where(sigma == 0, jnp.ones_like(sigma), sigma)).astype(weight.dtype)

    def _matrix(self, weight: jax.Array) -> jax.Array:
        return jnp.moveaxis(wide(weight), self.axis, 0).reshape(weight.shape[self.axis], -1)

    def _singular_vectors(self, matrix: jax.Array, v: jax.Array, num_steps: int) -> tuple[jax.Array, jax.Array]:
        eps = jnp.asarray(self.eps, matrix.dtype)
        vectors: tuple[jax.Array, jax.Array] = _power_iteration(matrix, v.astype(matrix.dtype), eps, num_steps)
        return vectors

    def __repr__(self) -> str:
        return self._repr({"attribute": self.attribute, "num_steps": self.num_steps})
