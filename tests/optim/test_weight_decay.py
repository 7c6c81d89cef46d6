"""opax.add_decayed_weights."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Linear, Net
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError, StructureError

MODES = pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["plain", "flat", "loose"])
PARAMS = {"a": jnp.full(2, 2.0), "b": jnp.full((2, 3), 2.0)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def is_matrix(leaf: Any) -> bool:
    return bool(leaf.ndim > 1)


def test_it_adds_a_multiple_of_the_parameters() -> None:
    updates = opax.add_decayed_weights(0.1)({"w": jnp.ones(1)})({"w": jnp.array([1.0])}, {"w": jnp.array([2.0])})
    np.testing.assert_allclose(updates["w"], [1.2], rtol=1e-6)


def test_decay_is_computed_in_the_dtype_of_updates() -> None:
    updates = opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.ones(1, jnp.bfloat16), jnp.ones(1))
    assert updates.dtype == jnp.bfloat16


@pytest.mark.parametrize("mask", [None, True])
@MODES
def test_it_needs_the_parameters(options: dict[str, Any], mask: Any) -> None:
    """KD-93: in a flat chain, the error was one of JAX's about lists."""
    optimizer = opax.chain(opax.add_decayed_weights(0.1, mask))(jnp.ones(1), **options)
    with pytest.raises(ArgumentError) as caught:
        optimizer(jnp.ones(1))
    assert str(caught.value).startswith("expecting params argument\n  where: AddDecayedWeights")
    assert "fix:   updates, optimizer = opax.transform_gradients(grads, optimizer, params)" in str(caught.value)


def test_parameters_have_to_fit_the_updates() -> None:
    with pytest.raises(StructureError, match=r"The updates and parameters have different shapes.\n  where: AddDecayed"):
        opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.ones(1), jnp.ones(2))


def test_the_factor_has_to_be_a_number() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `weight_decay`"):
        opax.add_decayed_weights("0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", ["b", is_matrix, lambda leaf: leaf.ndim > 1, {"a": False, "b": True}])
@MODES
def test_a_mask_says_which_parameters_decay(mask: Any, options: dict[str, Any]) -> None:
    optimizer = opax.chain(opax.add_decayed_weights(0.1, mask))(PARAMS, **options)
    updates = optimizer(GRADS, PARAMS)
    np.testing.assert_array_equal(updates["a"], np.ones(2, np.float32))
    np.testing.assert_allclose(updates["b"], np.full((2, 3), 1.2), rtol=1e-6)
    assert optimizer[0].mask == (False, True)
    assert repr(optimizer[0]) == "add_decayed_weights.<locals>.AddDecayedWeights"


@MODES
def test_a_mask_by_class(options: dict[str, Any]) -> None:
    params = jax.tree.map(jnp.ones_like, Net().parameters())
    updates = opax.chain(opax.add_decayed_weights(1.0, Linear))(params, **options)(params, params)
    assert float(updates.norm.scale[0]) == 1
    assert float(updates.encoder.bias[0]) == float(updates.layers[2].weight[0, 0]) == 2


@MODES
def test_adamw_with_a_mask_is_that_of_optax(options: dict[str, Any]) -> None:
    optimizer = opax.adamw(0.1, weight_decay=0.5, mask=is_matrix)(PARAMS, **options)
    theirs = optax.adamw(0.1, weight_decay=0.5, mask=jax.tree.map(is_matrix, PARAMS))
    state = theirs.init(PARAMS)
    params = want = PARAMS
    for _ in range(5):
        updates, optimizer = opax.transform_gradients(params, optimizer, params)
        params = opax.apply_updates(params, updates)
        expected, state = theirs.update(want, state, want)
        want = optax.apply_updates(want, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, want)


def test_masks_compare_and_give_one_trace() -> None:
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for mask in (is_matrix, "b", lambda leaf: leaf.ndim > 1):
        factories = [opax.adamw(0.1, mask=mask) for _ in range(2)]
        assert factories[0] == factories[1]
        assert len(set(factories)) == 1
        step(step(factories[0](PARAMS))[1])
    assert step.traces == 1
    factory = opax.adamw(0.1, mask=is_matrix)
    assert pickle.loads(pickle.dumps(factory)) == factory
    pax.assert_structure_equal(pickle.loads(pickle.dumps(factory(PARAMS))), factory(PARAMS))


def test_a_mask_keeps_dtypes() -> None:
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), GRADS)
    with jax.numpy_dtype_promotion("strict"):
        updates = opax.add_decayed_weights(0.1, is_matrix)(PARAMS)(half, PARAMS)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


def test_parameters_without_leaves_need_no_mask() -> None:
    assert opax.add_decayed_weights(0.1, "weight")({})({}, {}) == {}


def test_a_mask_of_nothing_is_an_error() -> None:
    with pytest.raises(
        SelectorError, match=r"selects nothing.\n  where: add_decayed_weights, `mask`\n  got:   'weight'"
    ):
        opax.adamw(mask="weight")(PARAMS)


def test_no_mask_is_a_transformation() -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"in the place of this transformation.\n  where: add_decayed_weights, `m"
    ):
        opax.adamw(mask=opax.sgd())


def test_other_leaves_than_those_of_the_mask_are_refused() -> None:
    optimizer = opax.add_decayed_weights(0.1, is_matrix)(PARAMS)
    other = {"a": PARAMS["a"], "c": PARAMS["b"]}
    with pytest.raises(
        StructureError, match=r"The updates have other leaves.*\n  where: AddDecayedWeights\n  got:   also"
    ):
        optimizer(other, other)
