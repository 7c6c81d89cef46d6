"""Updates without their mean."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax._factory import Factory
from opax._precision import at_least_float32
from opax._transformation import GradientTransformation
from pax.errors import ArgumentError
from pax.extend import describe


class Centralize(GradientTransformation):
    """Subtracts from the updates of each output unit their mean."""

    _factory_name = "centralize"

    kept_axis: int

    def __init__(self, params: Any, kept_axis: int) -> None:
        """Stores the axis.

        Args:
            params: the tree of parameters.
            kept_axis: the axis of output units.
        """
        super().__init__(params)
        self.kept_axis = kept_axis

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates`` minus their means over all axes but one; vectors and scalars as they are."""
        return jax.tree.map(self._centralized, updates)

    def _centralized(self, update: Any) -> jax.Array:
        first = (
            jnp.moveaxis(at_least_float32(update), self.kept_axis, 0) if jnp.ndim(update) > 1 else jnp.asarray(update)
        )
        centralized, _ = optax.centralize().update(first, optax.EmptyState())
        back = jnp.moveaxis(centralized, 0, self.kept_axis) if jnp.ndim(update) > 1 else centralized
        return back.astype(jnp.result_type(update))


def centralize(kept_axis: int = 0) -> Factory[Centralize]:
    """Makes a transformation that subtracts their mean from the updates of each output unit (gradient centralization).

    The mean of an array of two or more axes is taken over all axes but one; vectors and scalars are not changed.

    Args:
        kept_axis: the axis of output units: 0 as in optax, where weights are taken for ``(out, ...)``; -1 for the
            layers of ``pax.nn``, whose weights are ``(..., out)``.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: ``kept_axis`` is neither 0 nor -1.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.centralize()(jnp.zeros((2, 3)))(jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]]))
    Array([[-1.,  0.,  1.],
           [-2., -1.,  3.]], dtype=float32)

    References:
        Yong et al., "Gradient centralization", 2020, https://arxiv.org/abs/2004.01461 (eq. 1); computed by
        ``optax.centralize``.
    """
    if isinstance(kept_axis, bool) or kept_axis not in (0, -1):
        raise ArgumentError(
            "`kept_axis` has to be the first or the last axis.",
            where="centralize",
            got=describe(kept_axis),
            want="0 or -1",
        )
    return Factory(Centralize, (("kept_axis", kept_axis),))
