"""Limits for updates that grow with the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax import _arguments
from opax._factory import Factory
from opax._precision import at_least_float32
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike


class AdaptiveClip(GradientTransformation):
    """Limits the norm of the updates of each output unit to a fraction of that of its parameters."""

    _factory_name = "adaptive_clip"

    clipping: float
    eps: float

    def __init__(self, params: Any, clipping: float, eps: float) -> None:
        """Stores the limits.

        Args:
            params: the tree of parameters.
            clipping: largest ratio of the norms.
            eps: smallest norm of the parameters.
        """
        super().__init__(params)
        self.clipping = clipping
        self.eps = eps

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates``, scaled down where they are too large; a NaN makes the updates of its unit NaN."""
        _arguments.need_params(params, self)
        check_alike(updates, params, what="updates and parameters", module=self)
        leaves, structure = jax.tree.flatten(updates)
        units = [_as_unit_array(leaf) for leaf in leaves]
        weights = cast_like([_as_unit_array(leaf) for leaf in jax.tree.leaves(params)], units)
        clipped, _ = optax.adaptive_grad_clip(self.clipping, self.eps).update(units, optax.EmptyState(), weights)
        shaped = [jnp.reshape(new, jnp.shape(old)) for new, old in zip(clipped, leaves, strict=True)]
        return jax.tree.unflatten(structure, cast_like(shaped, leaves))


def _as_unit_array(leaf: Any) -> jax.Array:
    # optax knows arrays of up to four axes, newer versions five: the kernels of convolutions, output units last.
    wide = at_least_float32(leaf)
    return wide if wide.ndim < 5 else wide.reshape(-1, *wide.shape[-3:])


def adaptive_clip(clipping: float, eps: float = 1e-3) -> Factory[AdaptiveClip]:
    """Makes a transformation that limits updates to a fraction of the parameters, unit by unit.

    With ``g`` the updates and ``w`` the parameters of an output unit, ``g`` is scaled down to a norm of
    ``clipping * max(norm(w), eps)`` if its norm is above that. A vector or scalar is one unit; a matrix, or an array of
    three axes, has its units along all axes but the first, and an array of more axes along the last: that is how
    ``pax.nn.Linear`` and convolutions of two or three dimensions keep their weights.

    Args:
        clipping: largest ratio of the norms, not negative; the paper used 0.01 to 0.16, less for larger batches.
        eps: smallest norm of parameters, above 0, so that those that start at zero can move.

    Returns:
        A factory: call it with the parameters. The transformation has to be called with them, too.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([[3.0, 3.0], [4.0, 4.0]])
    >>> updates = jnp.array([[0.0, 0.0], [1.0, 4.0]])
    >>> print(opax.adaptive_clip(0.5)(params)(updates, params))
    [[0.  0. ]
     [1.  2.5]]

    References:
        Brock et al., "High-performance large-scale image recognition without normalization", 2021,
        https://arxiv.org/abs/2102.06171 (section 4.1); computed by ``optax.adaptive_grad_clip``.
    """
    where = "adaptive_clip"
    return Factory(
        AdaptiveClip,
        (
            ("clipping", _arguments.number(clipping, what="clipping", where=where, low=0)),
            ("eps", _arguments.number(eps, what="eps", where=where, low=_arguments.SMALLEST)),
        ),
    )
