"""The kinds of schedules: what they hold and how they compute it. :mod:`opax.schedule` makes them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

ScheduleFn = Callable[[jax.Array], ArrayLike]
"""From the number of steps, an int32 scalar, to the learning rate."""

ScheduleOrFloat = ScheduleFn | ArrayLike
"""A schedule, or a constant learning rate."""


@dataclass(frozen=True)
class Schedule:
    """A function of the step that is compared, hashed and pickled by its hyper-parameters."""

    def __call__(self, step: ArrayLike) -> jax.Array:
        """Returns the value.

        Args:
            step: number of steps; a number or an array of any shape.

        Returns:
            A float array of the shape of ``step``.
        """
        # Steps and boundaries may be integers or floats, as may be what a schedule of the user returns.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            steps = jnp.asarray(step)
            value = self._at(steps)
            return jnp.broadcast_to(jnp.asarray(value, jnp.result_type(float)), steps.shape)

    def _at(self, steps: jax.Array) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same at each step."""

    value: float

    def _at(self, steps: jax.Array) -> Any:
        return optax.constant_schedule(self.value)(steps)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """From one value to another by a power of what remains."""

    initial_value: float
    end_value: float
    power: float
    steps: float

    def _at(self, steps: jax.Array) -> Any:
        # optax annotates the number of steps as an integer, but divides by it only.
        length: Any = self.steps
        return optax.polynomial_schedule(self.initial_value, self.end_value, self.power, length)(steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From one value to another by half a wave."""

    initial_value: float
    end_value: float
    steps: float
    exponent: float

    def _at(self, steps: jax.Array) -> Any:
        # optax's `alpha` is relative to the initial value, which may be 0 here.
        length: Any = self.steps
        left = jnp.asarray(optax.cosine_decay_schedule(1.0, length, exponent=self.exponent)(jnp.maximum(steps, 0)))
        return self.end_value + (self.initial_value - self.end_value) * left


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Falls as ``1 / sqrt(step + shift)``."""

    initial_value: float
    shift: float

    def _at(self, steps: jax.Array) -> Any:
        return self.initial_value * jnp.sqrt(self.shift / (jnp.maximum(steps, 0) + self.shift))


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """Falls by the same factor in each step."""

    initial_value: float
    step_size: float
    reduce_factor: float
    min_value: float | None

    def _at(self, steps: jax.Array) -> Any:
        value = self.initial_value * jnp.exp2(-math.log2(self.reduce_factor) * steps / self.step_size)
        return value if self.min_value is None else jnp.maximum(value, self.min_value)


@dataclass(frozen=True)
class Join(Schedule):
    """One schedule after the other, each with the steps since its begin."""

    schedules: tuple[Callable[[Any], ArrayLike], ...]
    boundaries: tuple[float, ...]

    def _at(self, steps: jax.Array) -> Any:
        boundaries: Any = self.boundaries  # floats will do
        return optax.join_schedules(self.schedules, boundaries)(steps)
