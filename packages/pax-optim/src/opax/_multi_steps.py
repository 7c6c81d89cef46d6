"""Accumulation of gradients over several mini-batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from opax import _arguments
from opax._by_value import by_value
from opax._factory import Factory, TransformationFactory
from opax._transformation import GradientTransformation
from opax._trees import check_alike, zeros_like
from opax._wrapping import Wrapper, choose, create_inner, step_of, unchanged, zeros
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer

Every = int | Callable[[jax.Array], ArrayLike]
"""A number of mini-batches, or a function from the number of full steps to it."""


class MultiSteps(Wrapper):
    """Hands the mean of several updates to another transformation; returns zeros in between.

    State:
        inner: the other transformation.
        accumulated: sum of the updates since its last step; a tree like the parameters, float32 where they have half
            precision.
        mini_step: int32 scalar, number of the updates in this sum.
        step: int32 scalar, number of steps of ``inner``.
    """

    _factory_name = "multi_steps"

    every: Every
    accumulated: Any
    mini_step: jax.Array
    step: jax.Array

    def __init__(self, params: Any, transformation: TransformationFactory, every: Every) -> None:
        """Creates the transformation, and a sum of nothing.

        Args:
            params: the tree of parameters.
            transformation: the factory of the transformation.
            every: number of updates in one mean, or a function of the number of full steps.

        Raises:
            ArgumentTypeError: ``transformation`` does not return a ``GradientTransformation``.
            ArgumentError: ``every`` is a function that does not return a number of mini-batches.
        """
        super().__init__(params)
        self.every = every
        self.inner = create_inner(transformation, params, where="multi_steps")
        self.accumulated = zeros_like(params)
        self.mini_step = jnp.zeros((), jnp.int32)
        self.step = jnp.zeros((), jnp.int32)
        self._wanted()

    @property
    def has_updated(self) -> jax.Array:
        """Boolean scalar: whether the last call was a step of ``inner``; false before the first call."""
        return (self.mini_step == 0) & (self.step > 0)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the updates of ``inner`` for the mean in each ``every``-th call, else zeros; in their dtypes."""
        check_alike(updates, self.accumulated, what="updates and the optimizer's state", module=self)
        count = self.mini_step + 1

        def take_step(inner: GradientTransformation, total: Any, updates: Any, params: Any) -> Any:
            mean = jax.tree.map(lambda t: t / jnp.asarray(count, t.dtype), total)
            inner, result = step_of(self, inner, mean, params, like=updates)
            return inner, zeros(total), result

        def wait(inner: GradientTransformation, total: Any, updates: Any, params: Any) -> Any:
            return unchanged(inner, inner, self), total, zeros(updates)

        total = jax.tree.map(lambda t, g: t + jnp.asarray(g, t.dtype), self.accumulated, updates)
        is_full = count >= self._wanted()
        self.inner, self.accumulated, updates = choose(is_full, take_step, wait, self.inner, total, updates, params)
        self.mini_step = jnp.where(is_full, 0, count)
        self.step = self.step + jnp.asarray(is_full, jnp.int32)
        return updates

    def _wanted(self) -> ArrayLike:
        """Returns how many updates the current mean shall have."""
        if not callable(self.every):
            return self.every
        value = self.every(self.step)
        try:
            wanted = jnp.asarray(value)
        except (TypeError, ValueError):
            wanted = None
        is_real = wanted is not None and any(jnp.issubdtype(wanted.dtype, kind) for kind in (jnp.integer, jnp.floating))
        if wanted is not None and is_real and wanted.ndim == 0:
            # While JAX is tracing, nobody knows the value.
            if is_tracer(wanted) or float(wanted) >= 1:
                return wanted.astype(jnp.int32)
            got = f"{float(wanted):g}"
        else:
            got = describe(value)
        raise ArgumentError(
            "The schedule does not return a number of mini-batches.",
            module=self,
            where="`every`",
            got=got,
            want="a number, 1 or above, for each number of full steps",
            fix="opax.multi_steps(transformation, lambda step: jnp.where(step < 100, 1, 4))",
        )


def multi_steps(transformation: TransformationFactory, every: Every) -> Factory[MultiSteps]:
    """Makes a transformation that accumulates the gradients of mini-batches: a large batch in little memory.

    Every ``every``-th call hands the mean ``(g_1 + g_2 + … ) / every`` to ``transformation``, and returns its updates;
    all other calls return zeros, so the parameters do not change. The sum is taken in the order of the calls, in
    float32 or the wider dtype of the parameters, and divided once: the mean is that formula to the last bit where
    ``every`` is a power of two, and elsewhere within one unit in the last place, as the compiler multiplies by
    ``1 / every``.

    Learning rates and other schedules of ``transformation`` count full steps. Clipping around ``multi_steps`` sees the
    gradients of mini-batches, clipping inside sees their mean.

    The mean of the gradients is the gradient of the large batch if all mini-batches have the same size and the loss is
    a mean over examples. A model with batch normalization is different in one point: each mini-batch is normalized by
    its own mean and variance, and the moving averages, which are states of the model and not of the optimizer, are
    updated with every mini-batch, also in the calls that change no parameter. To keep as much of the past as with one
    large batch, take the ``every``-th root of the decay of the averages.

    Args:
        transformation: what :func:`opax.adam` and the like return, or anything else that :func:`opax.chain` takes.
        every: number of mini-batches of one step, 1 or above; or a function of the number of full steps taken so far,
            an int32 scalar that is 0 at first. The function returns a number, which is rounded down.

    Returns:
        A factory: call it with the parameters. ``optimizer.inner`` is the transformation, ``optimizer.has_updated``
        says whether the last call was a full step.

    Raises:
        ArgumentError: ``every`` is below 1.
        ArgumentTypeError: ``every`` is neither an integer nor a function; (when called with parameters)
            ``transformation`` makes no transformation.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([1.0])
    >>> optimizer = opax.multi_steps(opax.sgd(0.1), 2)(params)
    >>> for gradient in (jnp.array([1.0]), jnp.array([3.0])):
    ...     updates, optimizer = opax.transform_gradients(gradient, optimizer, params)
    ...     print(updates, optimizer.has_updated)
    [0.] False
    [0.2] True

    References:
        As ``optax.MultiSteps``, which keeps a running mean instead of a sum.
    """
    if isinstance(every, type | Factory | GradientTransformation):
        raise ArgumentTypeError(
            "Expecting a number of mini-batches for `every`.",
            where="multi_steps",
            got=describe(every),
            want="an integer, or a function of the number of full steps",
            fix="opax.multi_steps(opax.adam(1e-3), 4)  # first the transformation, then the number",
        )
    checked = (
        by_value(every) if callable(every) else _arguments.whole_number(every, what="every", where="multi_steps", low=1)
    )
    return Factory(MultiSteps, (("transformation", transformation), ("every", checked)))
