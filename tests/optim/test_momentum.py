"""opax.trace and opax.sgd."""

import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


def test_trace_adds_up_decaying_updates() -> None:
    optimizer = opax.trace(0.5)({"w": jnp.zeros(1)})
    found = []
    for gradient in (1.0, 2.0, 0.0):
        optimizer, updates = pax.purecall(optimizer, {"w": jnp.array([gradient])})
        found.append(float(updates["w"][0]))
        np.testing.assert_array_equal(optimizer.trace["w"], updates["w"])
    assert found == [1.0, 2.5, 1.25]


def test_a_trace_of_half_precision_is_float32() -> None:
    optimizer = opax.trace(0.9)(jnp.zeros(1, jnp.float16))
    optimizer, updates = pax.purecall(optimizer, jnp.ones(1, jnp.float16))
    assert (optimizer.trace.dtype, updates.dtype) == (jnp.float32, jnp.float16)


def test_sgd_is_a_trace_and_a_scale_even_without_momentum() -> None:
    for momentum in (0.9, 0.0):
        assert opax.sgd(0.1, momentum)(jnp.ones(1)).summary() == (
            "chain.<locals>.Chain\n├── trace.<locals>.Trace\n└── scale.<locals>.Scale"
        )


def test_a_negative_momentum_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"`momentum` is out of range.\n  where: sgd"):
        opax.sgd(0.1, momentum=-0.5)


def test_updates_of_another_structure_are_refused() -> None:
    with pytest.raises(StructureError, match="The updates and the optimizer's state have different structures"):
        pax.purecall(opax.trace(0.9)([jnp.ones(1)]), (jnp.ones(1),))


def test_nesterov_looks_a_step_ahead() -> None:
    """KD-98: there was no Nesterov momentum."""
    optimizer = opax.sgd(1.0, 0.5, nesterov=True)(jnp.zeros(1))
    found = []
    for gradient in (1.0, 2.0, 0.0):
        optimizer, updates = pax.purecall(optimizer, jnp.array([gradient]))
        found.append((float(optimizer[0].trace[0]), float(updates[0])))
    assert found == [(1.0, 1.5), (2.5, 3.25), (1.25, 0.625)]


def test_a_number_is_no_choice_of_nesterov() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a boolean for `nesterov`.\n  where: trace\n  got:   0.99"):
        opax.sgd(0.1, 0.9, 0.99)  # type: ignore[arg-type]
