"""Learning rates that depend on the number of steps.

A schedule is any function of an int32 scalar (1 in the first step) that returns a number; all of optax's can be used.
Those here compare by value and can be pickled, so optimizers that hold them do and can, too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from opax import _arguments

ScheduleFn = Callable[[jax.Array], ArrayLike]
"""From the number of steps, an int32 scalar, to the learning rate."""

ScheduleOrFloat = ScheduleFn | ArrayLike
"""A schedule, or a constant learning rate."""

__all__ = ["ScheduleFn", "ScheduleOrFloat", "exponential_decay"]


@dataclass(frozen=True)
class _ExponentialDecay:
    initial_value: float
    step_size: float
    reduce_factor: float
    min_value: float | None

    def __call__(self, step: ArrayLike) -> jax.Array:
        steps = jnp.asarray(step, jnp.result_type(float))
        value = self.initial_value * jnp.exp2(-math.log2(self.reduce_factor) * steps / self.step_size)
        return value if self.min_value is None else jnp.maximum(value, self.min_value)


def exponential_decay(
    initial_value: float, step_size: float, reduce_factor: float = 2.0, min_value: float | None = None
) -> Callable[[ArrayLike], jax.Array]:
    """Makes a schedule that divides the learning rate by ``reduce_factor`` in every ``step_size`` steps, smoothly.

    ``initial_value * reduce_factor ** (-step / step_size)``, and never below ``min_value``.

    Args:
        initial_value: the value at step 0.
        step_size: steps in which the value shrinks by ``reduce_factor``, above 0.
        reduce_factor: above 0; a factor below 1 lets the value grow.
        min_value: the smallest value to return; ``None``: no limit.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax.schedule import exponential_decay
    >>> rate = exponential_decay(1.0, 10)
    >>> [float(rate(step)) for step in (0, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    where, smallest = "exponential_decay", math.ulp(0.0)
    return _ExponentialDecay(
        _arguments.number(initial_value, what="initial_value", where=where),
        _arguments.number(step_size, what="step_size", where=where, low=smallest),
        _arguments.number(reduce_factor, what="reduce_factor", where=where, low=smallest),
        None if min_value is None else _arguments.number(min_value, what="min_value", where=where),
    )
