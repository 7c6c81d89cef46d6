"""opax.clip, opax.clip_by_global_norm, opax.clip_by_block_rms and opax.adaptive_clip."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


def test_clip_limits_elements_and_keeps_nan() -> None:
    got = opax.clip(1.0)(jnp.ones(4))(jnp.array([-5.0, 0.5, 2.0, jnp.nan]))
    np.testing.assert_array_equal(got, [-1.0, 0.5, 1.0, np.nan])


def test_complex_numbers_are_not_clipped_one_by_one() -> None:
    params = {"w": jnp.ones(1, jnp.complex64)}
    with pytest.raises(ArgumentTypeError, match=r"where: Clip, \['w'\](.|\n)*clip_by_global_norm"):
        opax.clip(1.0)(params)(params)


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


def test_half_precision_is_scaled_down_far() -> None:
    _, updates = clip_norm(1.0, jnp.full((1000, 1000), 1000.0, jnp.float16))
    np.testing.assert_allclose(np.float32(updates), 1e-3, rtol=1e-3)


def test_a_nan_makes_all_updates_nan() -> None:
    """KD-91: as documented."""
    _, updates = clip_norm(1.0, {"a": jnp.ones(1), "b": jnp.array([jnp.nan])})
    assert bool(jnp.isnan(updates["a"]).all())


def test_without_leaves_the_norm_is_0() -> None:
    """KD-91: a tree without leaves was a ValueError."""
    optimizer, updates = clip_norm(1.0, {})
    assert (float(optimizer.global_norm), updates) == (0.0, {})


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_norm_is_a_strong_float32_and_computed_in_it(dtype: Any) -> None:
    """KD-91: it was weakly typed at first, and in bfloat16 for such gradients."""
    before = opax.clip_by_global_norm(1.0)(jnp.zeros(1))
    # 60,000 squared is no float16.
    optimizer, updates = clip_norm(1.0, jnp.array([60000.0], dtype))
    for state in (before, optimizer):
        assert (state.global_norm.dtype, state.global_norm.weak_type) == (jnp.float32, False)
    np.testing.assert_allclose(optimizer.global_norm, 60000.0, rtol=1e-2)
    np.testing.assert_allclose(np.asarray(updates, np.float32), [1.0], rtol=1e-2)


def test_the_second_step_is_not_traced_anew() -> None:
    """KD-91."""
    step = TraceCounter(pax.purecall)
    optimizer = opax.clip_by_global_norm(1.0)(jnp.ones(2))
    for _ in range(3):
        optimizer, _ = step(optimizer, jnp.ones(2))
    assert step.traces == 1


@pytest.mark.parametrize("factory", [opax.clip, opax.clip_by_global_norm])
def test_there_is_no_warning(factory: Any) -> None:
    """KD-92: the names of jnp.clip's limits were deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, updates = pax.purecall(factory(1.0)(jnp.ones(1)), jnp.array([2.0]))
    np.testing.assert_array_equal(updates, [1.0])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_the_rms_of_each_array_is_limited(dtype: Any) -> None:
    updates = {"large": jnp.array([0.0, 6e4], dtype), "small": jnp.array([0.5, -0.5], dtype), "zero": jnp.zeros(2)}
    got = opax.clip_by_block_rms(2.0)(updates)(updates)
    np.testing.assert_allclose(got["large"], [0.0, 2 * np.sqrt(2)], rtol=1e-3)  # 60,000 squared is no float16
    np.testing.assert_array_equal(got["small"], [0.5, -0.5])
    np.testing.assert_array_equal(got["zero"], [0.0, 0.0])
    assert got["large"].dtype == dtype


def test_a_nan_in_one_array_leaves_the_others() -> None:
    updates = [jnp.array([jnp.nan, 1.0]), jnp.array([2.0])]
    got = opax.clip_by_block_rms(1.0)(updates)(updates)
    np.testing.assert_array_equal(got[0], [np.nan, np.nan])
    np.testing.assert_array_equal(got[1], [1.0])


def random(*shape: int, seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((), ()),
        ((5,), (0,)),
        ((4, 3), (0,)),
        ((2, 4, 3), (0,)),
        ((2, 2, 4, 3), (0, 1, 2)),
        ((2, 1, 2, 4, 3), (0, 1, 2, 3)),
    ],
)
def test_units_are_limited_by_their_parameters(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    params, updates = random(*shape, seed=0), random(*shape, seed=1)
    got = opax.adaptive_clip(0.5, 1e-3)(params)(updates, params)
    norm, limit = (np.sqrt(np.sum(np.square(x), axes, keepdims=True)) for x in (updates, params))
    np.testing.assert_allclose(got, updates * np.minimum(1, 0.5 * np.maximum(limit, 1e-3) / norm), rtol=1e-5)
    assert np.any(got != updates)
    assert got.shape == shape


def test_parameters_of_zero_can_move() -> None:
    params, updates = jnp.zeros(2), jnp.array([3.0, 4.0])
    np.testing.assert_allclose(opax.adaptive_clip(0.1, 0.5)(params)(updates, params), [0.03, 0.04], rtol=1e-5)


def test_adaptive_clipping_of_half_precision_is_computed_in_float32() -> None:
    params, updates = jnp.full(4, 300.0, jnp.float16), jnp.full(4, 6e4, jnp.float16)
    got = opax.adaptive_clip(1.0)(params)(updates, params.astype(jnp.float32))
    np.testing.assert_array_equal(got, params, strict=True)


@pytest.mark.parametrize("flatten", [False, True])
def test_adaptive_clipping_needs_the_parameters(flatten: bool) -> None:
    optimizer = opax.chain(opax.adaptive_clip(0.1))(jnp.ones(1), flatten=flatten)
    with pytest.raises(ArgumentError) as caught:
        optimizer(jnp.ones(1))
    assert str(caught.value).startswith("expecting params argument\n  where: AdaptiveClip")


def test_parameters_have_to_fit_the_updates() -> None:
    with pytest.raises(StructureError, match=r"have different shapes.\n  where: AdaptiveClip"):
        opax.adaptive_clip(0.1)(jnp.ones(1))(jnp.ones(1), jnp.ones(2))


@pytest.mark.parametrize("factory", [opax.clip, opax.clip_by_global_norm, opax.clip_by_block_rms, opax.adaptive_clip])
def test_a_negative_limit_is_refused(factory: Any) -> None:
    with pytest.raises(ArgumentError, match=f"is out of range.\n  where: {factory.__name__}"):
        factory(-1.0)


def test_limits_that_would_divide_by_zero_are_refused() -> None:
    with pytest.raises(ArgumentError, match="`threshold` is out of range"):
        opax.clip_by_block_rms(0.0)
    with pytest.raises(ArgumentError, match="`eps` is out of range"):
        opax.adaptive_clip(0.1, eps=0.0)
