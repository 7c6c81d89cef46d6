"""Limits for single updates, for those of an array, and for all of them together."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax import _arguments
from opax._factory import Factory
from opax._precision import at_least_float32
from opax._scale import scaled
from opax._transformation import GradientTransformation
from opax._trees import cast_like
from pax.errors import ArgumentTypeError
from pax.extend import describe


class Clip(GradientTransformation):
    """Limits each element of the updates."""

    _factory_name = "clip"

    max_delta: float

    def __init__(self, params: Any, max_delta: float) -> None:
        """Stores the limit.

        Args:
            params: the tree of parameters.
            max_delta: the limit.
        """
        super().__init__(params)
        self.max_delta = max_delta

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates`` with each element moved into ``[-max_delta, max_delta]``; NaN stays NaN.

        Raises:
            ArgumentTypeError: updates are complex.
        """
        for path, leaf in jax.tree.leaves_with_path(updates):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
                raise ArgumentTypeError(
                    "Complex numbers have no order, and cannot be clipped one by one.",
                    module=self,
                    where=jax.tree_util.keystr(path).removeprefix(".") or None,
                    got=describe(leaf),
                    want="real updates",
                    fix="opax.clip_by_global_norm(1.0)   or   opax.clip_by_block_rms(1.0)",
                )
        clipped, _ = optax.clip(self.max_delta).update(updates, optax.EmptyState())
        return clipped


class ClipByGlobalNorm(GradientTransformation):
    """Limits the norm of all updates together.

    State:
        global_norm: float32 scalar, the norm before clipping in the last step; 0 before the first one.
    """

    _factory_name = "clip_by_global_norm"

    max_global_norm: float
    global_norm: jax.Array

    def __init__(self, params: Any, max_global_norm: float) -> None:
        """Stores the limit.

        Args:
            params: the tree of parameters.
            max_global_norm: the limit.
        """
        super().__init__(params)
        self.max_global_norm = max_global_norm
        self.global_norm = jnp.zeros((), jnp.float32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates * min(1, max_global_norm / norm)``; a NaN in any of them makes all of them NaN."""
        wide = jax.tree.map(at_least_float32, updates)
        with jax.numpy_dtype_promotion("standard"):
            norm = optax.tree_utils.tree_norm(wide)
        self.global_norm = jnp.asarray(norm, jnp.float32)
        return scaled(updates, jnp.minimum(1.0, self.max_global_norm / jnp.where(norm == 0, 1.0, norm)))


class ClipByBlockRms(GradientTransformation):
    """Limits the root mean square of each array of updates."""

    _factory_name = "clip_by_block_rms"

    threshold: float

    def __init__(self, params: Any, threshold: float) -> None:
        """Stores the limit.

        Args:
            params: the tree of parameters.
            threshold: the limit.
        """
        super().__init__(params)
        self.threshold = threshold

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates / max(1, rms / threshold)``, array by array; a NaN makes its own array NaN."""
        wide = jax.tree.map(at_least_float32, updates)
        clipped, _ = optax.clip_by_block_rms(self.threshold).update(wide, optax.EmptyState())
        return cast_like(clipped, updates)


def clip(max_delta: float) -> Factory[Clip]:
    """Makes a transformation that limits each element of the updates.

    Args:
        max_delta: elements are moved into ``[-max_delta, max_delta]``; not negative.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: ``max_delta`` is negative.
        ArgumentTypeError: ``max_delta`` is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.clip(1.0)(jnp.ones(3))(jnp.array([-5.0, 0.5, 2.0]))
    Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return Factory(Clip, (("max_delta", _arguments.number(max_delta, what="max_delta", where="clip", low=0)),))


def clip_by_global_norm(max_global_norm: float) -> Factory[ClipByGlobalNorm]:
    """Makes a transformation that limits the norm of all updates together.

    The norm is the root of the sum of squares of all elements of all leaves, in float32 or wider. If it is above the
    limit, all updates are scaled down by the same factor. A single NaN makes the norm and with it all updates NaN; to
    skip such steps see ``all_finite`` of :func:`opax.apply_gradients`.

    Args:
        max_global_norm: the limit, not negative.

    Returns:
        A factory: call it with the parameters. ``optimizer.global_norm`` is the norm of the last updates, for logging.

    Raises:
        ArgumentError: ``max_global_norm`` is negative.
        ArgumentTypeError: ``max_global_norm`` is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.clip_by_global_norm(1.0)([jnp.zeros(()), jnp.zeros(())])
    >>> optimizer, (a, b) = pax.purecall(optimizer, [jnp.array(3.0), jnp.array(4.0)])
    >>> round(float(a), 3), round(float(b), 3), float(optimizer.global_norm)
    (0.6, 0.8, 5.0)
    """
    value = _arguments.number(max_global_norm, what="max_global_norm", where="clip_by_global_norm", low=0)
    return Factory(ClipByGlobalNorm, (("max_global_norm", value),))


def clip_by_block_rms(threshold: float) -> Factory[ClipByBlockRms]:
    """Makes a transformation that limits the root mean square of each array of updates.

    Arrays above the limit are scaled down to it, each on its own; the others stay as they are.

    Args:
        threshold: the limit, above 0.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: ``threshold`` is not above 0.
        ArgumentTypeError: ``threshold`` is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.clip_by_block_rms(1.0)([jnp.ones(4), jnp.ones(1)])([jnp.array([0.0, 0.0, 0.0, 8.0]), jnp.array([0.5])])
    [Array([0., 0., 0., 2.], dtype=float32), Array([0.5], dtype=float32)]

    References:
        Shazeer & Stern, "Adafactor", 2018, https://arxiv.org/abs/1804.04235 (section 6); computed by
        ``optax.clip_by_block_rms``.
    """
    value = _arguments.number(threshold, what="threshold", where="clip_by_block_rms", low=_arguments.SMALLEST)
    return Factory(ClipByBlockRms, (("threshold", value),))
