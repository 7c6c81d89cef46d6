"""opax.clip and opax.clip_by_global_norm."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from pax.errors import ArgumentError


def test_clip_limits_elements_and_keeps_nan() -> None:
    got = opax.clip(1.0)(jnp.ones(4))(jnp.array([-5.0, 0.5, 2.0, jnp.nan]))
    np.testing.assert_array_equal(got, [-1.0, 0.5, 1.0, np.nan])


def clip_norm(limit: float, updates: Any) -> Any:
    return pax.purecall(opax.clip_by_global_norm(limit)(updates), updates)


def test_the_global_norm_is_limited_and_stored() -> None:
    optimizer, updates = clip_norm(1.0, {"a": jnp.array(3.0), "b": jnp.array([4.0])})
    np.testing.assert_allclose([updates["a"], updates["b"][0]], [0.6, 0.8], rtol=1e-6)
    assert float(optimizer.global_norm) == 5.0


def test_small_updates_are_not_changed() -> None:
    _, updates = clip_norm(10.0, jnp.array([3.0, 4.0]))
    np.testing.assert_array_equal(updates, [3.0, 4.0])


def test_zero_updates_stay_zero() -> None:
    _, updates = clip_norm(1.0, jnp.zeros(2))
    np.testing.assert_array_equal(updates, [0.0, 0.0])


def test_a_nan_makes_all_updates_nan() -> None:
    _, updates = clip_norm(1.0, {"a": jnp.ones(1), "b": jnp.array([jnp.nan])})
    assert bool(jnp.isnan(updates["a"]).all())


def test_without_leaves_the_norm_is_0() -> None:
    """KD-91."""
    optimizer, updates = clip_norm(1.0, {})
    assert (float(optimizer.global_norm), updates) == (0.0, {})


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_norm_is_a_strong_float32_and_computed_in_it(dtype: Any) -> None:
    before = opax.clip_by_global_norm(1.0)(jnp.zeros(1))
    # 60,000 squared is no float16.
    optimizer, updates = clip_norm(1.0, jnp.array([60000.0], dtype))
    for state in (before, optimizer):
        assert (state.global_norm.dtype, state.global_norm.weak_type) == (jnp.float32, False)
    np.testing.assert_allclose(optimizer.global_norm, 60000.0, rtol=1e-2)
    np.testing.assert_allclose(np.asarray(updates, np.float32), [1.0], rtol=1e-2)


@pytest.mark.parametrize("factory", [opax.clip, opax.clip_by_global_norm])
def test_a_negative_limit_is_refused(factory: Any) -> None:
    with pytest.raises(ArgumentError, match=f"is out of range.\n  where: {factory.__name__}"):
        factory(-1.0)
