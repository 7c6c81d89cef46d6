"""The option ``state_dtype`` of all optimizers that keep running averages."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentTypeError

FACTORIES: dict[str, Callable[..., Any]] = {
    "trace": lambda **options: opax.trace(0.9, **options),
    "nesterov": lambda **options: opax.trace(0.9, nesterov=True, **options),
    "ema": lambda **options: opax.ema(0.9, **options),
    "scale_by_rms": lambda **options: opax.scale_by_rms(initial_scale=0.1, **options),
    "scale_by_stddev": lambda **options: opax.scale_by_stddev(eps=1e-4, **options),
    "scale_by_adam": lambda **options: opax.scale_by_adam(**options),
    "sgd": lambda **options: opax.sgd(**options),
    "rmsprop": lambda **options: opax.rmsprop(momentum=0.9, **options),
    "centered rmsprop": lambda **options: opax.rmsprop(centered=True, eps=1e-4, **options),
    "adam": lambda **options: opax.adam(**options),
    "adamw": lambda **options: opax.adamw(**options),
}
every_factory = pytest.mark.parametrize("name", FACTORIES)


def floats(optimizer: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(optimizer) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def grads(step: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(step).normal(1.0, size=4), jnp.float32)


@every_factory
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("param_dtype", [jnp.bfloat16, jnp.float32])
def test_state_has_that_dtype_and_updates_keep_theirs(name: str, dtype: Any, param_dtype: Any) -> None:
    params = jnp.ones(4, param_dtype)
    optimizer = FACTORIES[name](state_dtype=dtype)(params)
    step = TraceCounter(opax.transform_gradients)
    for index in range(2):
        updates, new = step(grads(index).astype(param_dtype), optimizer, params)
        assert updates.dtype == param_dtype
        for old_leaf, leaf in zip(floats(optimizer), floats(new), strict=True):
            assert (old_leaf.dtype, leaf.dtype, leaf.weak_type) == (dtype, dtype, False)
        optimizer = new
    assert step.traces == 1
    assert floats(optimizer)


@every_factory
def test_a_narrow_state_is_rounded_and_the_step_is_not(name: str) -> None:
    """From the same state, the step with bfloat16 state is that with float32 state."""
    params = jnp.ones(4)
    narrow, wide = FACTORIES[name](state_dtype=jnp.bfloat16)(params), FACTORIES[name]()(params)
    for index in range(3):
        wide = jax.tree.map(lambda new, old: new.astype(old.dtype), narrow, wide)
        (got, narrow), (want, wide) = (opax.transform_gradients(grads(index), o, params) for o in (narrow, wide))
        np.testing.assert_allclose(got, want, rtol=1e-5)
        for a, b in zip(floats(narrow), floats(wide), strict=True):
            np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))


@every_factory
def test_it_is_an_option_by_value(name: str) -> None:
    make = FACTORIES[name]
    assert make(state_dtype=jnp.float32) == make(state_dtype="float32") == make(state_dtype=np.dtype(np.float32))
    assert hash(make(state_dtype=jnp.bfloat16)) == hash(make(state_dtype="bfloat16"))
    # With the dtype that the state has anyway, the optimizers are the same.
    pax.assert_structure_equal(make(state_dtype=jnp.float32)(jnp.ones(4)), make()(jnp.ones(4)))


@every_factory
def test_strict_promotion_is_no_matter(name: str) -> None:
    with jax.numpy_dtype_promotion("strict"):
        for state_dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
            optimizer = FACTORIES[name](state_dtype=state_dtype)(jnp.ones(4))
            opax.transform_gradients(grads(0).astype(jnp.float16), optimizer, jnp.ones(4))


def test_the_state_of_single_precision_can_be_double() -> None:
    with x64():
        optimizer = opax.adam(state_dtype=jnp.float64)(jnp.ones(4, jnp.float32))
        updates, optimizer = opax.transform_gradients(grads(0), optimizer, jnp.ones(4, jnp.float32))
        assert (optimizer[0].mu.dtype, optimizer[0].nu.dtype, updates.dtype) == (jnp.float64, jnp.float64, jnp.float32)


def test_complex_state_stays_complex() -> None:
    optimizer = opax.trace(0.9, state_dtype=jnp.float32)(jnp.ones(1, jnp.complex64))
    assert optimizer.trace.dtype == jnp.complex64


@every_factory
@pytest.mark.parametrize(
    ("dtype", "got"), [(jnp.int8, "int8"), ("float33", "'float33'"), (3, "3"), (jnp.complex64, "c")]
)
def test_other_things_are_refused(name: str, dtype: Any, got: str) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a floating-point dtype for `state_dtype`") as caught:
        FACTORIES[name](state_dtype=dtype)
    assert f"got:   {got}" in str(caught.value)
