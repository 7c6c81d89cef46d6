"""Steps that are left out because of infinite gradients or NaN."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax import _arguments
from opax._factory import Factory, TransformationFactory
from opax._transformation import GradientTransformation
from opax._wrapping import Wrapper, choose, create_inner, step_of, unchanged


class ApplyIfFinite(Wrapper):
    """Leaves out the steps of another transformation whose updates are not finite.

    State:
        inner: the other transformation.
        notfinite_count: int32 scalar, how many of the last updates in a row were not finite.
        last_finite: boolean scalar, whether the last updates were finite; true before the first.
        total_notfinite: int32 scalar, how many of all updates were not finite.
    """

    _factory_name = "apply_if_finite"

    max_consecutive_errors: int
    notfinite_count: jax.Array
    last_finite: jax.Array
    total_notfinite: jax.Array

    def __init__(self, params: Any, transformation: TransformationFactory, max_consecutive_errors: int) -> None:
        """Creates the transformation.

        Args:
            params: the tree of parameters.
            transformation: the factory of the transformation.
            max_consecutive_errors: how many steps in a row may be left out.

        Raises:
            ArgumentTypeError: ``transformation`` does not return a ``GradientTransformation``.
        """
        super().__init__(params)
        self.max_consecutive_errors = max_consecutive_errors
        self.inner = create_inner(transformation, params, where="apply_if_finite")
        self.notfinite_count = jnp.zeros((), jnp.int32)
        self.last_finite = jnp.ones((), bool)
        self.total_notfinite = jnp.zeros((), jnp.int32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the updates of ``inner``, or zeros if ``updates`` are not finite, in the dtypes of ``updates``."""
        is_finite = jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(updates)], bool).all()
        failed = jnp.asarray(~is_finite, jnp.int32)
        self.notfinite_count = jnp.where(is_finite, 0, optax.safe_increment(self.notfinite_count))
        self.last_finite = is_finite
        self.total_notfinite = jnp.where(failed > 0, optax.safe_increment(self.total_notfinite), self.total_notfinite)

        def take_step(inner: GradientTransformation, updates: Any, params: Any) -> Any:
            return step_of(self, inner, updates, params, like=unmoved)

        def leave_out(inner: GradientTransformation, updates: Any, params: Any) -> Any:
            return unchanged(inner, inner, self), unmoved

        unmoved = _zeros(updates, params)
        is_taken = is_finite | (self.notfinite_count > self.max_consecutive_errors)
        self.inner, updates = choose(is_taken, take_step, leave_out, self.inner, updates, params)
        return updates


def _zeros(updates: Any, params: Any) -> Any:
    """Returns zeros in the shapes of the parameters: gradients of single examples have one more axis."""
    leaves, structure = jax.tree.flatten(updates)
    shaped = jax.tree.leaves(params)
    if len(shaped) != len(leaves):
        shaped = leaves
    zeros = [jnp.zeros(jnp.shape(p), jnp.result_type(u)) for p, u in zip(shaped, leaves, strict=True)]
    return jax.tree.unflatten(structure, zeros)


def apply_if_finite(transformation: TransformationFactory, max_consecutive_errors: int) -> Factory[ApplyIfFinite]:
    """Makes a transformation that leaves out steps whose gradients hold an infinite number or NaN.

    Then the state of ``transformation`` stays as it was, and the updates are zero: nothing changes, bit for bit. Only
    the counts of this wrapper do. If more than ``max_consecutive_errors`` steps in a row would be left out, something
    is wrong for good: from then on, as in optax, the gradients are let through as they are, until finite ones come. So
    the error shows in the parameters instead of a training that stands still.

    The state of the model is not the optimizer's: moving averages of batch normalization may be infinite after such a
    batch. To go back to the old ones, use the model from before the call of the loss function.

    Around :func:`opax.multi_steps` a mini-batch is left out, inside of it a full step.

    Args:
        transformation: what :func:`opax.adam` and the like return, or anything else that :func:`opax.chain` takes.
        max_consecutive_errors: how many steps in a row may be left out, 0 or above.

    Returns:
        A factory: call it with the parameters. ``optimizer.total_notfinite`` counts what was left out or infinite.

    Raises:
        ArgumentError: ``max_consecutive_errors`` is negative.
        ArgumentTypeError: ``max_consecutive_errors`` is no integer; (when called with parameters) ``transformation``
            makes no transformation.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([1.0])
    >>> optimizer = opax.apply_if_finite(opax.adam(0.1), 3)(params)
    >>> updates, optimizer = opax.transform_gradients(jnp.array([jnp.nan]), optimizer, params)
    >>> float(updates[0]), int(optimizer.inner[0].count), int(optimizer.notfinite_count)
    (0.0, 0, 1)

    References:
        As ``optax.apply_if_finite``.
    """
    where, what = "apply_if_finite", "max_consecutive_errors"
    limit = _arguments.whole_number(max_consecutive_errors, what=what, where=where, low=0)
    return Factory(ApplyIfFinite, (("transformation", transformation), (what, limit)))
