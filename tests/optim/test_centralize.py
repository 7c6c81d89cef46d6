"""opax.centralize."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import opax
from pax.errors import ArgumentError


@pytest.mark.parametrize(("kept_axis", "others"), [(0, (1, 2, 3)), (-1, (0, 1, 2))])
def test_the_mean_over_all_axes_but_one_is_subtracted(kept_axis: int, others: tuple[int, ...]) -> None:
    updates = jnp.asarray(np.random.default_rng(0).normal(2.0, size=(2, 3, 4, 5)), jnp.float32)
    got = opax.centralize(kept_axis)(updates)(updates)
    np.testing.assert_allclose(got, updates - updates.mean(others, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(got.mean(others), np.zeros(updates.shape[kept_axis]), atol=1e-6)


def test_the_first_axis_is_kept_by_default() -> None:
    assert opax.centralize() == opax.centralize(0)


@pytest.mark.parametrize("kept_axis", [0, -1])
def test_vectors_and_scalars_are_not_changed(kept_axis: int) -> None:
    updates = [jnp.array(3.0), jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0], jnp.bfloat16)]
    got = opax.centralize(kept_axis)(updates)(updates)
    for a, b in zip(got, updates, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_the_mean_of_half_precision_is_made_in_float32() -> None:
    updates = jnp.array([[1.0, 1.0, 1.0, 1.0078125]], jnp.bfloat16)
    got = opax.centralize()(updates)(updates)
    assert got.dtype == jnp.bfloat16
    want = np.array([[-1, -1, -1, 3]]) * 0.0078125 / 4
    np.testing.assert_array_equal(got.astype(jnp.float32), want.astype(np.float32))


@pytest.mark.parametrize("kept_axis", [1, -2, True, 0.5, None])
def test_other_axes_are_refused(kept_axis: Any) -> None:
    with pytest.raises(ArgumentError, match=r"`kept_axis` has to be the first or the last axis.\n  where: centralize"):
        opax.centralize(kept_axis)
