"""`EmptyNode`: a node without leaves, and its absorbing arithmetic."""

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Holder, Net, Norm
from helpers.treedefs import treedef

_E = pax.EmptyNode()


def test_an_empty_node_has_no_leaves() -> None:
    assert jax.tree.leaves(_E) == []


def test_an_empty_node_is_shown_by_its_name() -> None:
    assert repr(_E) == "EmptyNode"


def test_all_empty_nodes_are_equal_with_one_hash() -> None:
    assert pax.EmptyNode() == pax.EmptyNode()
    assert len({pax.EmptyNode(), pax.EmptyNode()}) == 1


@pytest.mark.parametrize("other", [None, 0, (), "EmptyNode", pax.Module()], ids=repr)
def test_an_empty_node_equals_nothing_else(other: Any) -> None:
    assert pax.EmptyNode() != other


def test_an_empty_node_is_true() -> None:
    assert bool(_E)


def test_an_empty_node_takes_no_arguments() -> None:
    with pytest.raises(TypeError):
        pax.EmptyNode(3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node)), jax.jit(lambda node: node)],
    ids=["copy", "deepcopy", "pickle", "jit"],
)
def test_a_copy_of_an_empty_node_is_one(duplicate: Callable[[Any], Any]) -> None:
    assert duplicate(_E) == _E


def test_an_empty_node_reserves_a_place_in_the_order_of_attributes() -> None:
    reserved = Holder(bias=pax.EmptyNode(), weight=jnp.ones(2))
    assert reserved.pytree_attributes == ("bias", "weight")
    assert reserved.replace(bias=jnp.ones(1)).pytree_attributes == ("bias", "weight")


def test_an_array_in_place_of_an_empty_node_changes_the_structure() -> None:
    reserved = Holder(bias=pax.EmptyNode())
    assert treedef(reserved) != treedef(reserved.replace(bias=jnp.ones(1)))


# ---- arithmetic ------------------------------------------------------------------------------------------------------

_SCALARS: dict[str, Any] = {
    "int": 3,
    "float": 0.1,
    "numpy scalar": np.float32(0.1),
    "numpy array": np.arange(3.0),
    "numpy key": np.array([1, 2], dtype=np.uint32),
    "jax scalar": jnp.float32(0.1),
    "jax array": jnp.arange(3),
}
_VALUES = pytest.mark.parametrize("value", _SCALARS.values(), ids=_SCALARS)


def _traced(function: Callable[[Any], Any], value: Any) -> Any:
    return jax.jit(function)(value)


def _eager(function: Callable[[Any], Any], value: Any) -> Any:
    return function(value)


_BOTH = pytest.mark.parametrize("run", [_eager, _traced], ids=["eager", "jit"])


@_BOTH
@_VALUES
@pytest.mark.parametrize(
    "operation",
    [lambda s: s * _E, lambda s: _E * s, lambda s: _E / s, lambda s: _E**2],
    ids=["scalar * empty", "empty * scalar", "empty / scalar", "power"],
)
def test_scaling_an_empty_node_gives_an_empty_node(
    operation: Callable[[Any], Any], value: Any, run: Callable[[Any, Any], Any]
) -> None:
    assert run(operation, value) == _E


@pytest.mark.parametrize("operation", [operator.neg, operator.pos, abs], ids=["negative", "positive", "absolute"])
def test_a_sign_of_an_empty_node_is_an_empty_node(operation: Callable[[Any], Any]) -> None:
    assert operation(_E) == _E


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul], ids=["+", "-", "*"])
def test_two_empty_nodes_combine_to_an_empty_node(operation: Callable[[Any, Any], Any]) -> None:
    assert operation(_E, _E) == _E


@_BOTH
@_VALUES
@pytest.mark.parametrize(
    "operation",
    [lambda p: p + _E, lambda p: _E + p, lambda p: p - _E, lambda p: p - 0.1 * _E],
    ids=["value + empty", "empty + value", "value - empty", "value - scaled empty"],
)
def test_adding_or_subtracting_an_empty_node_gives_the_value(
    operation: Callable[[Any], Any], value: Any, run: Callable[[Any, Any], Any]
) -> None:
    result, expected = run(operation, value), run(lambda same: same, value)
    assert type(result) is type(expected)
    assert np.array_equal(result, expected)


def test_a_numpy_key_minus_an_empty_node_is_the_very_key() -> None:
    key = np.array([1, 2], dtype=np.uint32)
    assert key - 0.3 * _E is key


@pytest.mark.parametrize("value", [3, 0.1, np.float32(0.1), np.arange(3.0), jnp.arange(3)], ids=repr)
def test_subtracting_a_value_from_an_empty_node_gives_its_negative(value: Any) -> None:
    assert np.array_equal(_E - value, -value)


@pytest.mark.parametrize("rate", [0.1, np.float32(0.1), jnp.float32(0.1)], ids=["python", "numpy", "jax"])
@_BOTH
def test_the_plain_update_rule_keeps_what_is_not_trained(rate: Any, run: Callable[[Any, Any], Any]) -> None:
    net = Holder(norm=Norm(), rng=pax.RngSeq(seed=0), key=np.array([1, 2], dtype=np.uint32))

    def step(rate: Any) -> Any:
        gradients = net.parameters().map(jnp.ones_like)
        return jax.tree.map(lambda p, g: p - rate * g, net, gradients)

    updated = run(step, rate)
    assert treedef(updated) == treedef(net)
    assert np.allclose(updated.norm.scale, [0.9, 0.9])
    assert updated.norm.mean.tolist() == [0.0, 0.0]
    assert np.array_equal(updated.rng._rng_key, net.rng._rng_key)
    assert (updated.key.dtype, updated.key.tolist()) == (np.uint32, [1, 2])


def test_the_plain_update_rule_keeps_typed_keys() -> None:
    net = Holder(norm=Norm(), rng=pax.RngSeq(rng_key=jax.random.key(0)))
    updated = jax.tree.map(lambda p, g: p - 0.1 * g, net, net.parameters())
    assert updated.rng._rng_key is net.rng._rng_key


def test_empty_nodes_pass_through_jit_and_maps() -> None:
    parameters = Net().parameters()
    assert treedef(jax.jit(lambda p: jax.tree.map(lambda x: 2 * x, p))(parameters)) == treedef(parameters)
