"""opax.schedule."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opax.schedule import exponential_decay
from pax.errors import ArgumentError, ArgumentTypeError


@pytest.mark.parametrize(("step", "want"), [(0, 1.0), (1, 0.9330330), (10, 0.5), (20, 0.25)])
@pytest.mark.parametrize("kind", [int, float, np.int32, jnp.int32])
def test_reference_values_for_all_kinds_of_numbers(step: int, want: float, kind: type) -> None:
    np.testing.assert_allclose(exponential_decay(1.0, 10)(kind(step)), want, rtol=1e-6)


def test_it_works_on_arrays_under_jit() -> None:
    np.testing.assert_allclose(jax.jit(exponential_decay(2.0, 10, 10.0))(jnp.array([0, 10])), [2.0, 0.2], rtol=1e-6)


def test_the_minimum_limits_from_below() -> None:
    assert float(exponential_decay(1.0, 10, min_value=0.3)(20)) == pytest.approx(0.3)
    assert float(exponential_decay(1.0, 10, min_value=0.3)(10)) == pytest.approx(0.5)


def test_a_factor_below_one_grows() -> None:
    assert float(exponential_decay(1.0, 10, reduce_factor=0.5)(10)) == pytest.approx(2.0)


def test_equal_schedules_are_equal_and_picklable() -> None:
    schedule = exponential_decay(1.0, 10)
    assert schedule == exponential_decay(1, 10.0) == pickle.loads(pickle.dumps(schedule))
    assert schedule != exponential_decay(1.0, 11)


@pytest.mark.parametrize("options", [{"step_size": 0}, {"step_size": 1, "reduce_factor": -1.0}])
def test_arguments_have_ranges(options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=r"is out of range.\n  where: exponential_decay"):
        exponential_decay(1.0, **options)


def test_arguments_are_numbers() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `min_value`"):
        exponential_decay(1.0, 1.0, min_value="0")  # type: ignore[arg-type]
