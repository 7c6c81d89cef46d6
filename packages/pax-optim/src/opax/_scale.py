"""Transformations that multiply updates, by a number or by a schedule, or not at all."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

import pax
from opax import _arguments
from opax._by_value import by_value
from opax._factory import Factory
from opax._precision import at_least_float32
from opax._transformation import GradientTransformation
from opax.schedule import ScheduleFn, ScheduleOrFloat
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer


class Identity(GradientTransformation):
    """Returns the updates as they are."""

    _factory_name = "identity"

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates``."""
        return updates


class Scale(GradientTransformation):
    """Multiplies updates by a number."""

    _factory_name = "scale"

    scale: float | jax.Array

    def __init__(self, params: Any, scale: float | jax.Array) -> None:
        """Stores the factor.

        Args:
            params: the tree of parameters.
            scale: the factor.
        """
        super().__init__(params)
        # A copy: a train step may donate the optimizer, and the factory can make more of them.
        self.scale = jnp.array(scale, copy=True) if isinstance(scale, jax.Array) else scale

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates * scale``, in the dtypes of ``updates``."""
        return scaled(updates, self.scale)

    @property
    def learning_rate(self) -> float | jax.Array:
        """The factor, under the name that ``scale_by_schedule`` has for it."""
        return self.scale

    @learning_rate.setter
    def learning_rate(self, value: ArrayLike) -> None:
        number = _factor(value, what="learning_rate", where=repr(self), low=0)
        # Array stays array, of the same dtype, weak or not: so nothing compiles anew.
        self.scale = jnp.where(True, number, self.scale) if isinstance(self.scale, jax.Array) else number


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

    def __init__(self, params: Any, schedule_fn: ScheduleFn, low: float = -math.inf) -> None:
        """Starts at step 0.

        Args:
            params: the tree of parameters.
            schedule_fn: returns the factor for an int32 scalar.
            low: what the schedule returns first must not be smaller.

        Raises:
            ArgumentError: the schedule returns no number, NaN in the first step, or less than ``low``.
        """
        super().__init__(params)
        self.schedule_fn = schedule_fn
        self.count = jnp.zeros((), jnp.int32)
        self.learning_rate = jnp.asarray(self._rate(self.count), jnp.float32)
        # Step 0 is never taken, and a schedule may be infinite there, or NaN.
        self._check_range(self.learning_rate, 0, low)
        first = self._rate(jnp.ones((), jnp.int32))
        self._check_range(first, 1, low, allow_nan=False)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Counts a step and returns ``updates * schedule_fn(count)``; the first step has ``count = 1``."""
        self.count = optax.safe_increment(self.count)
        rate = self._rate(self.count)
        self.learning_rate = jnp.asarray(rate, jnp.float32)
        return scaled(updates, rate)

    def _rate(self, count: jax.Array) -> ArrayLike:
        # Schedules mix counts and floats, scalars and vectors freely, optax's included.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            try:
                rate = self.schedule_fn(count)
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
                raise ArgumentError(
                    "Expecting a schedule that can be compiled.",
                    module=self,
                    where="attribute `schedule_fn`",
                    got=f"`{self.schedule_fn!r}`, which needs the value of the step while it is traced",
                    want="a function made of JAX's operations",
                    fix="jnp.where(step < 100, 0.1, 0.01), not 0.1 if step < 100 else 0.01; jnp.cos, not math.cos",
                ) from error
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not is_number and not (isinstance(rate, jax.Array | np.ndarray | np.generic) and _is_real_scalar(rate)):
            raise ArgumentError(
                "Expecting a schedule that returns a number, a scalar.",
                module=self,
                where="attribute `schedule_fn`",
                got=f"{describe(rate)} from `{self.schedule_fn!r}`",
                want="a float, an integer or an array without axes",
            )
        return rate

    def _check_range(self, rate: Any, step: int, low: float, *, allow_nan: bool = True) -> None:
        if is_tracer(rate):
            return
        value = float(rate)
        if value < low or (math.isnan(value) and not allow_nan):
            raise ArgumentError(
                "The schedule returns no learning rate." if low == 0 else "The schedule returns no number.",
                module=self,
                where="attribute `schedule_fn`",
                got=f"{value} for step {step} from `{self.schedule_fn!r}`",
                want="a number" if low == -math.inf else f"a number, {low:g} or above",
                why="updates are subtracted from the parameters: learning rates are positive" if value < low else None,
            )


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, pax.Module)


def _is_real_scalar(rate: Any) -> bool:
    return rate.ndim == 0 and (jnp.issubdtype(rate.dtype, jnp.floating) or jnp.issubdtype(rate.dtype, jnp.integer))


def scaled(updates: Any, factor: ArrayLike) -> Any:
    """Returns ``updates * factor`` in the dtypes of ``updates``."""
    return jax.tree.map(lambda g: _product(g, factor), updates)


def _product(update: Any, factor: ArrayLike) -> jax.Array:
    # float16 has no number near 1e-8, and only a few around 1e-6.
    wide = at_least_float32(update)
    return (wide * jnp.asarray(factor, wide.dtype)).astype(jnp.result_type(update))


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
    return _scale(scale, what="scale", where="scale")


def _scale(scale: ArrayLike, *, what: str, where: str, low: float = -math.inf) -> Factory[Scale]:
    return Factory(Scale, (("scale", _factor(scale, what=what, where=where, low=low)),))


def _factor(scale: ArrayLike, *, what: str, where: str, low: float = -math.inf) -> float | jax.Array:
    if isinstance(scale, np.ndarray) and scale.ndim == 0:
        scale = scale.item()
    if is_tracer(scale):
        if not _is_real_scalar(scale):
            raise ArgumentTypeError(
                f"Expecting a number for `{what}`.", where=where, got=describe(scale), want="float32[]"
            )
        return jnp.asarray(scale)
    value = _arguments.number(scale, what=what, where=where, low=low)
    return scale if isinstance(scale, jax.Array) else value


def scale_by_schedule(schedule_fn: ScheduleFn) -> Factory[ScaleBySchedule]:
    """Makes a transformation that multiplies updates by a function of the number of steps.

    Args:
        schedule_fn: called with an int32 scalar that is 1 in the first step; returns a number or a scalar array. Any of
            optax's schedules will do. Functions are compared by value: two of the same code are equal if their
            defaults and closures hold equal values. Those of optax can be pickled by cloudpickle only, those of
            :mod:`opax.schedule` by all.

    Returns:
        A factory: call it with the parameters. ``optimizer.learning_rate`` is the factor of the last step, for logging.

    Raises:
        ArgumentTypeError: ``schedule_fn`` is not callable.
        ArgumentError: (when called with parameters) ``schedule_fn`` does not return a number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import optax
    >>> import pax
    >>> optimizer = opax.scale_by_schedule(optax.linear_schedule(1.0, 0.0, 4))(jnp.ones(1))
    >>> optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    >>> float(optimizer.learning_rate), int(optimizer.count)
    (0.75, 1)
    """
    if not _is_function(schedule_fn):
        raise ArgumentTypeError(
            "Expecting a schedule function.",
            where="scale_by_schedule",
            got=describe(schedule_fn),
            want="a function of the step count; no module, which would become part of the state",
            fix="opax.scale(0.1)   # for a constant",
        )
    _check_signature(schedule_fn, where="scale_by_schedule")
    return Factory(ScaleBySchedule, (("schedule_fn", by_value(schedule_fn)),))


def _check_signature(schedule_fn: Any, *, where: str) -> None:
    """Refuses functions that are no schedule because they make one, such as ``opax.schedule.cosine_decay``."""
    try:
        signature = inspect.signature(schedule_fn)
    except (TypeError, ValueError):  # a few builtin functions have none
        return
    try:
        signature.bind(0)
    except TypeError as error:
        name = getattr(schedule_fn, "__name__", "schedule")
        raise ArgumentTypeError(
            "A schedule takes one argument, the number of steps.",
            where=where,
            got=f"{name}({', '.join(signature.parameters)}): {error}",
            want="a function of the step",
            fix=f"{name}(...)  # with its arguments, if that returns a schedule",
        ) from None


def scale_by_learning_rate(learning_rate: ScheduleOrFloat) -> Factory[Any]:
    """Returns ``scale_by_schedule`` for a function, ``scale`` for a number; neither may be negative.

    Raises:
        ArgumentError: the number is negative. A schedule is asked for its first values when parameters are given.
        ArgumentTypeError: it is neither; or a module, which can be callable, too: the parameters were given in its
            place.
    """
    if isinstance(learning_rate, pax.Module | Factory):
        raise ArgumentTypeError(
            "Expecting a learning rate.",
            where="argument `learning_rate`",
            got=describe(learning_rate),
            want="a number, or a schedule: a function of the step",
            fix="optimizer = opax.adam(1e-3)(net.parameters())  # hyper-parameters first, then the parameters",
        )
    if not callable(learning_rate):
        return _scale(learning_rate, what="learning_rate", where="argument `learning_rate`", low=0)
    _check_signature(learning_rate, where="argument `learning_rate`")
    return Factory(ScaleBySchedule, (("schedule_fn", by_value(learning_rate)), ("low", 0.0)))
