"""Transformations that multiply updates, by a number or by a schedule, or not at all."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

import pax
from opax import _arguments
from opax._factory import Factory
from opax._transformation import GradientTransformation
from opax.schedule import ScheduleFn, ScheduleOrFloat
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


class Identity(GradientTransformation):
    """Returns the updates as they are."""

    _factory_name = "identity"

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates``."""
        return updates


class Scale(GradientTransformation):
    """Multiplies updates by a number."""

    _factory_name = "scale"

    scale: ArrayLike

    def __init__(self, params: Any, scale: ArrayLike) -> None:
        """Stores the factor.

        Args:
            params: the tree of parameters.
            scale: the factor.
        """
        super().__init__(params)
        self.scale = scale

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates * scale``, in the dtypes of ``updates``."""
        return scaled(updates, self.scale)


class ScaleBySchedule(GradientTransformation):
    """Multiplies updates by a function of the number of steps.

    State:
        count: int32 scalar, steps taken.
        learning_rate: float32 scalar, the factor of the last step; before the first step, that of step 0.
    """

    _factory_name = "scale_by_schedule"

    schedule_fn: ScheduleFn
    count: jax.Array
    learning_rate: jax.Array

    def __init__(self, params: Any, schedule_fn: ScheduleFn) -> None:
        """Starts at step 0.

        Args:
            params: the tree of parameters.
            schedule_fn: returns the factor for an int32 scalar.
        """
        super().__init__(params)
        self.schedule_fn = schedule_fn
        self.count = jnp.zeros((), jnp.int32)
        self.learning_rate = jnp.asarray(self._rate(), jnp.float32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Counts a step and returns ``updates * schedule_fn(count)``; the first step has ``count = 1``."""
        self.count = optax.safe_increment(self.count)
        rate = self._rate()
        self.learning_rate = jnp.asarray(rate, jnp.float32)
        return scaled(updates, rate)

    def _rate(self) -> ArrayLike:
        # Schedules mix counts and floats freely, optax's included.
        with jax.numpy_dtype_promotion("standard"):
            rate = self.schedule_fn(self.count)
        if jnp.ndim(rate) != 0:
            raise ArgumentError(
                "Expecting a schedule that returns a scalar.", module=self, got=describe(rate), want="a number"
            )
        return rate


def scaled(updates: Any, factor: ArrayLike) -> Any:
    """Returns ``updates * factor`` in the dtypes of ``updates``."""
    return jax.tree.map(lambda g: g * jnp.asarray(factor, jnp.result_type(g)), updates)


def identity() -> Factory[Identity]:
    """Makes a transformation that changes nothing.

    Returns:
        A factory: call it with the parameters.
    """
    return Factory(Identity)


def scale(scale: ArrayLike) -> Factory[Scale]:
    """Makes a transformation that multiplies updates by a number.

    Args:
        scale: the factor. Updates are subtracted from parameters, so a learning rate is positive. A JAX scalar becomes
            part of the optimizer's state: changing its value does not compile a train step anew.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentTypeError: ``scale`` is no number and no scalar array.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.scale(0.1)(jnp.ones(2))(jnp.array([1.0, 2.0]))
    Array([0.1, 0.2], dtype=float32)
    """
    if isinstance(scale, jax.Array) and scale.ndim == 0:
        return Factory(Scale, (("scale", scale),))
    return Factory(Scale, (("scale", _arguments.number(scale, what="scale", where="scale")),))


def scale_by_schedule(schedule_fn: ScheduleFn) -> Factory[ScaleBySchedule]:
    """Makes a transformation that multiplies updates by a function of the number of steps.

    Args:
        schedule_fn: called with an int32 scalar that is 1 in the first step; returns a number or a scalar array. Any of
            optax's schedules will do. Functions are compared by identity: create the schedule once, or use one of
            :mod:`opax.schedule`, which compare by value.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentTypeError: ``schedule_fn`` is not callable.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import optax
    >>> import pax
    >>> optimizer = opax.scale_by_schedule(optax.linear_schedule(1.0, 0.0, 4))(jnp.ones(1))
    >>> optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    >>> float(optimizer.learning_rate), int(optimizer.count)
    (0.75, 1)
    """
    if not callable(schedule_fn):
        raise ArgumentTypeError(
            "Expecting a schedule function.",
            where="scale_by_schedule",
            got=describe(schedule_fn),
            want="a function of the step count",
            fix=f"opax.scale({describe(schedule_fn)})",
        )
    return Factory(ScaleBySchedule, (("schedule_fn", schedule_fn),))


def scale_by_learning_rate(learning_rate: ScheduleOrFloat) -> Factory[Any]:
    """Returns ``scale_by_schedule`` for a function, ``scale`` for a number.

    Raises:
        ArgumentTypeError: it is a module, which can be callable, too: the parameters were given in its place.
    """
    if isinstance(learning_rate, pax.Module):
        raise ArgumentTypeError(
            "Expecting a learning rate.",
            got=describe(learning_rate),
            want="a number, or a schedule: a function of the step",
            fix="optimizer = opax.adam(1e-3)(net.parameters())  # hyper-parameters first, then the parameters",
        )
    return scale_by_schedule(learning_rate) if callable(learning_rate) else scale(learning_rate)
