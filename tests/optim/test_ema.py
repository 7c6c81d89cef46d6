"""opax.ema."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Linear
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


def test_the_average_of_a_constant_is_that_constant() -> None:
    """KD-90: the debiased average was kept, and debiased once more in each step: 1, 5.26, 17.8, 47, 103.5, ..."""
    optimizer = opax.ema(0.9)({"w": jnp.zeros(2)})
    for step in range(1, 31):
        optimizer, updates = pax.purecall(optimizer, {"w": jnp.ones(2)})
        np.testing.assert_allclose(updates["w"], np.ones(2), rtol=1e-5)
        np.testing.assert_allclose(optimizer.ema["w"], np.full(2, 1 - 0.9**step), rtol=1e-5)
        assert int(optimizer.count) == step


def test_without_correction_the_updates_are_the_state() -> None:
    optimizer = opax.ema(0.5, debias=False)(jnp.zeros(1))
    found = []
    for gradient in (4.0, 0.0, 8.0):
        optimizer, updates = pax.purecall(optimizer, jnp.array([gradient]))
        np.testing.assert_array_equal(updates, optimizer.ema)
        found.append(float(updates[0]))
    assert found == [2.0, 1.0, 4.5]


def test_the_state_is_a_count_and_a_tree_like_the_parameters() -> None:
    optimizer = opax.ema(0.9)(Linear(2, 3).parameters())
    assert optimizer.pytree_attributes == ("count", "ema")
    np.testing.assert_array_equal(optimizer.count, np.int32(0), strict=True)
    assert isinstance(optimizer.ema, Linear)


def test_the_average_of_half_precision_is_float32() -> None:
    # In float16, 0.999 * e + 0.001 * g stays at e long before it is g.
    optimizer = opax.ema(0.999, debias=False)(jnp.zeros(1, jnp.float16))
    ones = jnp.ones((5000, 1), jnp.float16)
    optimizer, updates = jax.jit(lambda optimizer: jax.lax.scan(pax.purecall, optimizer, ones))(optimizer)
    np.testing.assert_allclose(optimizer.ema, [1 - 0.999**5000], rtol=1e-4)
    assert updates.dtype == jnp.float16


def test_updates_of_another_structure_are_refused() -> None:
    with pytest.raises(StructureError, match="The updates and the optimizer's state have different structures"):
        pax.purecall(opax.ema(0.9)([jnp.ones(1)]), (jnp.ones(1),))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1.0,), ArgumentError, "`decay_rate` is out of range.\n  where: ema\n  got:   decay_rate=1.0"),
        ((-0.1,), ArgumentError, "`decay_rate` is out of range."),
        ((0.9, 0.99), ArgumentTypeError, "Expecting a boolean for `debias`.\n  where: ema\n  got:   0.99"),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.ema(*arguments)
    assert str(caught.value).startswith(text)
