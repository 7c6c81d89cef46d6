"""opax.add_decayed_weights."""

import jax.numpy as jnp
import numpy as np
import pytest

import opax
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


def test_it_adds_a_multiple_of_the_parameters() -> None:
    updates = opax.add_decayed_weights(0.1)({"w": jnp.ones(1)})({"w": jnp.array([1.0])}, {"w": jnp.array([2.0])})
    np.testing.assert_allclose(updates["w"], [1.2], rtol=1e-6)


def test_decay_is_computed_in_the_dtype_of_updates() -> None:
    updates = opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.ones(1, jnp.bfloat16), jnp.ones(1))
    assert updates.dtype == jnp.bfloat16


@pytest.mark.parametrize("flatten", [False, True])
def test_it_needs_the_parameters(flatten: bool) -> None:
    """KD-93."""
    optimizer = opax.chain(opax.add_decayed_weights(0.1))(jnp.ones(1), flatten=flatten)
    with pytest.raises(ArgumentError) as caught:
        optimizer(jnp.ones(1))
    assert str(caught.value).startswith("expecting params argument\n  where: AddDecayedWeights")
    assert "fix:   optimizer, updates = pax.purecall(optimizer, gradients, params)" in str(caught.value)


def test_parameters_have_to_fit_the_updates() -> None:
    with pytest.raises(StructureError, match=r"The updates and parameters have different shapes.\n  where: AddDecayed"):
        opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.ones(1), jnp.ones(2))


def test_the_factor_has_to_be_a_number() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `weight_decay`"):
        opax.add_decayed_weights("0.1")  # type: ignore[arg-type]
