"""Schedules of optax, and other functions, as learning rates."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
from helpers.traces import TraceCounter


def half(step: Any) -> Any:
    return 0.5 * step


# Every schedule of optax, as it is.
OPTAX: dict[str, Callable[[], Any]] = {
    "constant_schedule": lambda: optax.constant_schedule(0.1),
    "cosine_decay_schedule": lambda: optax.cosine_decay_schedule(0.1, 10),
    "cosine_onecycle_schedule": lambda: optax.cosine_onecycle_schedule(10, 0.1),
    "exponential_decay": lambda: optax.exponential_decay(0.1, 2, 0.5),
    "join_schedules": lambda: optax.join_schedules([optax.constant_schedule(0.1), optax.constant_schedule(0.2)], [2]),
    "linear_onecycle_schedule": lambda: optax.linear_onecycle_schedule(10, 0.1),
    "linear_schedule": lambda: optax.linear_schedule(0.1, 0.0, 10),
    "piecewise_constant_schedule": lambda: optax.piecewise_constant_schedule(0.1, {3: 0.5}),
    "piecewise_interpolate_schedule": lambda: optax.piecewise_interpolate_schedule("cosine", 0.1, {3: 0.5, 8: 0.5}),
    "polynomial_schedule": lambda: optax.polynomial_schedule(0.1, 0.0, 2, 10),
    "sgdr_schedule": lambda: optax.sgdr_schedule(
        [{"init_value": 0.0, "peak_value": 0.1, "decay_steps": 8, "warmup_steps": 2}]
    ),
    "warmup_constant_schedule": lambda: optax.warmup_constant_schedule(0.0, 0.1, 3),
    "warmup_cosine_decay_schedule": lambda: optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10),
    "warmup_exponential_decay_schedule": lambda: optax.warmup_exponential_decay_schedule(0.0, 0.1, 3, 2, 0.5),
}
# What `optax.schedules` has besides: wrappers of optimizers, and the types that belong to them.
_NO_SCHEDULES = {
    "Schedule",
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "StatefulSchedule",
    "WrappedSchedule",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
}


def test_all_schedules_of_optax_are_tested() -> None:
    public = {name for name, value in vars(optax.schedules).items() if callable(value) and not name.startswith("_")}
    assert public - _NO_SCHEDULES <= set(OPTAX)


@pytest.mark.parametrize("name", OPTAX)
def test_schedules_of_optax_work_as_they_are(name: str) -> None:
    params = jnp.ones(1)
    with jax.numpy_rank_promotion("allow"):
        want = [float(OPTAX[name]()(jnp.array(count))) for count in range(1, 13)]
    step = TraceCounter(lambda optimizer: opax.transform_gradients(params, optimizer, params))
    rates, updates = [], []
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        optimizer = opax.sgd(OPTAX[name](), momentum=0.0)(params)
        for _ in want:
            update, optimizer = step(optimizer)
            updates.append(float(update[0]))
            rates.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(rates, want, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(updates, want, rtol=1e-5, atol=1e-8)
    assert step.traces == 1


@pytest.mark.parametrize(
    "function", [half, functools.partial(half), opax.schedule.exponential_decay(1.0, 5), jax.jit(half)]
)
def test_any_function_of_the_step_is_a_schedule(function: Any) -> None:
    _, optimizer = opax.transform_gradients(jnp.ones(1), opax.sgd(function)(jnp.ones(1)), jnp.ones(1))
    np.testing.assert_allclose(optimizer.learning_rate, function(1), rtol=1e-6)
