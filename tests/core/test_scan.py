"""`scan`: `jax.lax.scan`, with the batch axis first on request."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Linear
from pax.errors import ArgumentError

_X = jnp.arange(12.0).reshape(3, 2, 2)


def _accumulate(carry: jax.Array, x: Any) -> tuple[jax.Array, Any]:
    carry = carry + x
    return carry, carry


def test_a_scan_is_that_of_jax() -> None:
    carry, ys = pax.scan(_accumulate, jnp.zeros((2, 2)), _X)
    expected_carry, expected_ys = jax.lax.scan(_accumulate, jnp.zeros((2, 2)), _X)
    assert jnp.array_equal(carry, expected_carry)
    assert jnp.array_equal(ys, expected_ys)


def test_the_batch_axis_may_come_first() -> None:
    carry, ys = pax.scan(_accumulate, jnp.zeros((2, 2)), _X.swapaxes(0, 1), time_major=False)
    expected_carry, expected_ys = jax.lax.scan(_accumulate, jnp.zeros((2, 2)), _X)
    assert jnp.array_equal(carry, expected_carry)
    assert jnp.array_equal(ys, expected_ys.swapaxes(0, 1))


def test_all_arrays_of_a_tree_are_swapped() -> None:
    def step(carry: int, x: dict[str, jax.Array]) -> tuple[int, dict[str, jax.Array]]:
        return carry, {"sum": x["a"] + x["b"]}

    xs = {"a": jnp.ones((4, 5)), "b": jnp.ones((4, 5))}
    _, ys = pax.scan(step, 0, xs, time_major=False)
    assert ys["sum"].shape == (4, 5)


def test_the_carry_is_not_touched() -> None:
    carry, _ = pax.scan(lambda c, x: (c, x), jnp.zeros((7, 8)), _X, time_major=False)
    assert carry.shape == (7, 8)


def test_a_scan_over_nothing_needs_a_length() -> None:
    _, ys = pax.scan(lambda c, x: (c + 1, jnp.full((2,), c)), 0, None, length=3, time_major=False)
    assert ys.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("unroll", [2, True])
def test_a_scan_can_be_unrolled(unroll: int | bool) -> None:
    carry, _ = pax.scan(_accumulate, jnp.zeros((2, 2)), _X, unroll=unroll)
    assert jnp.array_equal(carry, _X.sum(axis=0))


def test_the_order_of_arguments() -> None:
    carry, _ = pax.scan(lambda c, x: (c + 1, c), 0, None, 5, 1, True)
    assert carry == 5


def test_a_module_can_be_carried_by_purecall() -> None:
    counter, ys = pax.scan(lambda counter, x: pax.purecall(counter, x), Counter(), jnp.arange(10))
    assert counter.count == 10
    assert ys.tolist() == list(range(10))


def test_a_module_can_be_closed_over_if_it_does_not_change() -> None:
    linear = Linear(2, 2)
    _, ys = pax.scan(lambda c, x: (c, linear(x)), 0, _X)
    assert jnp.allclose(ys[1], linear(_X[1]), rtol=1e-6)


def test_an_input_without_a_time_axis_is_an_error_that_names_it() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.scan(lambda c, x: (c, x), 0, {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}, time_major=False)
    text = str(caught.value)
    assert text.startswith("With `time_major=False` every array needs a batch and a time axis.")
    assert "where: xs, ['b']" in text
    assert "got:   float32[3]" in text
    assert "fix:   use time_major=True, or add a batch axis: x[None]" in text


def test_an_output_without_a_batch_axis_is_an_error() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.scan(lambda c, x: (c, x.sum()), 0, _X, time_major=False)
    assert "where: ys" in str(caught.value)
    assert "one value [batch, ...] a step for ys" in str(caught.value)


def test_utils_has_the_same_function() -> None:
    assert pax.utils.scan is pax.scan
