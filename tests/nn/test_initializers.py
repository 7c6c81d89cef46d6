"""pax.nn.initializers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.precision import x64
from pax.errors import ArgumentError
from pax.nn.initializers import truncated_normal_with_stddev


def test_values_have_the_stddev_and_are_cut_at_two_sigma() -> None:
    values = np.asarray(truncated_normal_with_stddev(0.3)(jax.random.key(0), (400, 500)))
    # 200,000 values: the standard error of the standard deviation is about 0.0004.
    assert abs(values.std() - 0.3) < 0.002
    assert abs(values.mean()) < 0.003
    # The normal distribution before the cut is wider by 1 / 0.8796.
    limit = 2 * 0.3 / 0.87962566
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.99 * limit


def test_dtype_is_the_default_float() -> None:
    assert truncated_normal_with_stddev(1.0)(jax.random.key(0), (2,)).dtype == jnp.float32
    with x64():
        assert truncated_normal_with_stddev(1.0)(jax.random.key(0), (2,)).dtype == jnp.float64


@pytest.mark.parametrize("stddev", [-1.0, float("nan")])
def test_other_stddevs_are_refused(stddev: float) -> None:
    with pytest.raises(ArgumentError, match="not negative"):
        truncated_normal_with_stddev(stddev)
