"""opax.scale, opax.scale_by_schedule and opax.identity."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError


def test_identity_returns_the_object() -> None:
    updates = {"w": jnp.ones(2)}
    assert opax.identity()(updates)(updates) is updates


def test_scale_multiplies_and_needs_no_purecall() -> None:
    np.testing.assert_allclose(opax.scale(0.1)(jnp.ones(2))(jnp.array([1.0, 2.0])), [0.1, 0.2], rtol=1e-6)


def test_a_scalar_array_is_state_that_can_change_without_a_second_trace() -> None:
    step = TraceCounter(lambda optimizer: optimizer(jnp.ones(1)))
    optimizer = opax.scale(jnp.array(0.1))(jnp.ones(1))
    np.testing.assert_allclose(step(optimizer), [0.1], rtol=1e-6)
    np.testing.assert_allclose(step(optimizer.replace(scale=jnp.array(0.5))), [0.5])
    assert step.traces == 1


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, jnp.ones(2)])
def test_scale_refuses_other_things_than_numbers(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a number for `scale`.\n  where: scale"):
        opax.scale(value)


def test_the_first_step_of_a_schedule_is_count_1() -> None:
    optimizer = opax.scale_by_schedule(opax.schedule.exponential_decay(1.0, 10000))(jnp.ones(1))
    np.testing.assert_array_equal(optimizer.count, np.int32(0), strict=True)
    np.testing.assert_array_equal(optimizer.learning_rate, np.float32(1), strict=True)
    optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    np.testing.assert_allclose(updates, [0.9999307], rtol=1e-6)
    np.testing.assert_allclose(optimizer.learning_rate, 0.9999307, rtol=1e-6)
    assert int(optimizer.count) == 1


def test_schedules_get_an_int32_array() -> None:
    seen = []

    def schedule(count: jax.Array) -> float:
        seen.append((count.dtype, count.shape))
        return 0.1

    pax.purecall(opax.scale_by_schedule(schedule)(jnp.ones(1)), jnp.ones(1))
    assert seen == [(np.dtype(np.int32), ())] * 2


def test_a_schedule_that_returns_a_float_keeps_the_rate_an_array() -> None:
    """KD-95: the attribute became static."""

    def constant(count: jax.Array) -> float:
        return 0.1

    optimizer = opax.scale_by_schedule(constant)(jnp.ones(1))
    new, _ = pax.purecall(optimizer, jnp.ones(1))
    for state in (optimizer, new):
        assert (state.learning_rate.dtype, state.learning_rate.weak_type) == (np.dtype(np.float32), False)


@pytest.mark.parametrize(
    "schedule",
    [
        optax.constant_schedule(0.1),
        optax.cosine_decay_schedule(0.1, 10),
        optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10),
        optax.piecewise_constant_schedule(0.1, {3: 0.5}),
        optax.polynomial_schedule(0.1, 0.0, 2, 10),
        optax.sgdr_schedule([{"init_value": 0.0, "peak_value": 0.1, "decay_steps": 8, "warmup_steps": 2}]),
    ],
)
def test_schedules_of_optax_work_under_strict_promotion(schedule: Any) -> None:
    want = [float(schedule(jnp.array(count))) for count in range(1, 6)]
    rates = []
    with jax.numpy_dtype_promotion("strict"):
        optimizer = opax.sgd(schedule)(jnp.ones(1))
        for _ in range(5):
            optimizer, _ = pax.purecall(optimizer, jnp.ones(1))
            rates.append(float(optimizer[-1].learning_rate))
    np.testing.assert_allclose(rates, want, rtol=1e-6)


def test_x64_updates_are_scaled_in_float64() -> None:
    with x64():
        optimizer = opax.scale_by_schedule(lambda count: 0.1)(jnp.ones(1))
        _, updates = pax.purecall(optimizer, jnp.ones(1))
        assert updates.dtype == jnp.float64
        np.testing.assert_allclose(updates, [0.1], rtol=1e-12)


def test_a_schedule_has_to_be_a_function() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a schedule function[^$]*fix:   opax.scale\(0.1\)"):
        opax.scale_by_schedule(0.1)  # type: ignore[arg-type]


def test_a_schedule_has_to_return_a_scalar() -> None:
    with pytest.raises(ArgumentError, match=r"returns a scalar.\n  where: ScaleBySchedule\n  got:   float32\[2\]"):
        opax.scale_by_schedule(lambda count: jnp.ones(2))(jnp.ones(1))
