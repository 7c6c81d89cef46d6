"""The Parallax dialect: the network of its documents, step by step, and what its losses are."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.nn.initializers as init
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.treedefs import treedef
from pax.experimental.parallax import Module, Parameter, ParamInit


class Dense(Module):
    weight: Parameter
    bias: Parameter

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = ParamInit((out_size, in_size), init.xavier_normal())
        self.bias = ParamInit((out_size,), init.normal())

    def forward(self, input: Any) -> Any:
        return self.weight @ input + self.bias

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class Dropout(Module):
    rate: float

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, input: Any) -> Any:
        if self.mode != "train":
            return input
        keep = jax.random.bernoulli(self.rng, self.rate, input.shape)
        return jnp.where(keep, input / self.rate, 0)


class BinaryNetwork(Module):
    dense1: Dense
    dense2: Dense
    dense3: Dense
    dropout: Dropout

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.dense1 = Dense(input_size, hidden_size)
        self.dense2 = Dense(hidden_size, hidden_size)
        self.dense3 = Dense(hidden_size, 1)
        self.dropout = Dropout(0.2)

    def forward(self, input: Any) -> Any:
        x = self.dropout(jnp.tanh(self.dense1(input)))
        x = jnp.tanh(self.dense2(x))
        x = jnp.tanh(self.dense2(x))  # same parameters twice
        return jax.nn.sigmoid(self.dense3(jnp.tanh(x)))[0]


_UNINIT = """\
BinaryNetwork uninit (
  (dense1): Dense uninit (5, 10)
  (dense2): Dense uninit (10, 10)
  (dense3): Dense uninit (10, 1)
  (dropout): Dropout uninit ()
)"""
_INIT = """\
BinaryNetwork(
  (dense1): Dense(5, 10)
  (dense2): Dense(10, 10)
  (dense3): Dense(10, 1)
  (dropout): Dropout()
)"""

_SEED_0 = {
    True: [0.49647, 0.45440, 0.34210, 0.33614, 0.30556, 0.23640, 0.23490, 0.19194, 0.14143, 0.12073],
    False: [0.49836, 0.43533, 0.37211, 0.24533, 0.23620, 0.25021, 0.15109, 0.18802, 0.15877, 0.10121],
}


@pytest.fixture(params=[True, False], ids=["partitionable keys", "keys of old"])
def partitionable(request: pytest.FixtureRequest) -> Iterator[bool]:
    config: Any = jax.config
    before = config.jax_threefry_partitionable
    jax.config.update("jax_threefry_partitionable", request.param)
    yield request.param
    jax.config.update("jax_threefry_partitionable", before)


def _ten_steps(rng: Any, mode: str) -> tuple[Any, Any]:
    """The losses of ten steps, and those of the same models without dropout."""
    x = jnp.zeros(5)

    def step(carry: Any, _: None) -> Any:
        layer, rng = carry
        rng, iter_rng = jax.random.split(rng)
        layer = layer.new_state(iter_rng, mode=mode)
        losses = layer(x), layer.new_state(iter_rng, mode="eval")(x)
        layer = jax.tree.map(lambda p, g: p - 0.3 * g, layer, layer.grad(x))
        return (layer, rng), losses

    layer: Any = BinaryNetwork(5, 10).initialized(rng)
    losses: tuple[Any, Any] = jax.lax.scan(step, (layer.new_state(rng, mode), rng), None, length=10)[1]
    return losses


def test_the_losses_of_seed_0_are_the_originals(partitionable: bool) -> None:
    losses, _ = jax.jit(_ten_steps, static_argnums=1)(jax.random.PRNGKey(0), "train")
    np.testing.assert_allclose(losses, _SEED_0[partitionable], atol=1e-4, rtol=0)


def test_training_works_for_100_seeds() -> None:
    keys = jax.vmap(jax.random.PRNGKey)(jnp.arange(100))
    losses, clean = jax.jit(jax.vmap(lambda key: _ten_steps(key, "train")))(keys)
    assert losses.shape == (100, 10)
    assert (losses[:, -1] < 0.5 * losses[:, 0]).all()
    assert (jnp.diff(clean) < 0).all()
    strictly = (jnp.diff(losses) < 0).all(axis=1)
    assert 5 < strictly.sum() < 50  # the masks differ from step to step


def test_training_in_eval_mode_decreases_for_100_seeds() -> None:
    keys = jax.vmap(jax.random.PRNGKey)(jnp.arange(100))
    losses, _ = jax.jit(jax.vmap(lambda key: _ten_steps(key, "eval")))(keys)
    assert (jnp.diff(losses) < 0).all()
    assert (losses[:, -1] < 0.4 * losses[:, 0]).all()


# ---- what must hold at each step -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def declared() -> Any:
    return BinaryNetwork(5, 10)


@pytest.fixture(scope="module")
def layer(declared: Any) -> Any:
    return declared.initialized(jax.random.PRNGKey(0))


@pytest.fixture(scope="module")
def stateful(layer: Any) -> Any:
    return layer.new_state(jax.random.PRNGKey(1), "train")


def _nodes(layer: Any) -> list[Any]:
    return [layer, layer.dense1, layer.dense2, layer.dense3, layer.dropout]


def test_printing(declared: Any, layer: Any) -> None:
    assert repr(declared) == _UNINIT
    assert repr(layer) == _INIT
    assert repr(declared) == _UNINIT


def test_shapes(layer: Any) -> None:
    assert [layer.dense1.weight.shape, layer.dense2.weight.shape, layer.dense3.weight.shape] == [
        (10, 5),
        (10, 10),
        (1, 10),
    ]
    assert [layer.dense1.bias.shape, layer.dense2.bias.shape, layer.dense3.bias.shape] == [(10,), (10,), (1,)]


def test_the_leaves_of_an_initialized_model_are_its_parameters(layer: Any) -> None:
    assert len(jax.tree.leaves(layer)) == 6
    assert {id(leaf) for leaf in jax.tree.leaves(layer.parameters())} == {id(leaf) for leaf in jax.tree.leaves(layer)}


def test_the_keys_of_parameters_follow_the_names(declared: Any) -> None:
    key = jax.random.PRNGKey(3)
    dense = declared.dense1.initialized(key)
    bias_key, weight_key = jax.random.split(jax.random.split(key)[0])
    np.testing.assert_array_equal(dense.bias, init.normal()(bias_key, (10,)))
    np.testing.assert_array_equal(dense.weight, init.xavier_normal()(weight_key, (10, 5)))
    whole = declared.initialized(key)
    of_modules = jax.random.split(jax.random.split(key)[1], 4)
    np.testing.assert_array_equal(whole.dense1.weight, declared.dense1.initialized(of_modules[0]).weight)
    np.testing.assert_array_equal(whole.dense3.weight, declared.dense3.initialized(of_modules[2]).weight)


def test_every_node_has_the_mode_and_a_key_of_its_own(layer: Any, stateful: Any) -> None:
    assert [node.mode for node in _nodes(stateful)] == ["train"] * 5
    assert len({tuple(node.rng.tolist()) for node in _nodes(stateful)}) == 5
    again = layer.new_state(jax.random.PRNGKey(1), "train")
    for one, other in zip(_nodes(stateful), _nodes(again), strict=True):
        np.testing.assert_array_equal(one.rng, other.rng)
    children = jax.random.split(jax.random.PRNGKey(1), 4)
    np.testing.assert_array_equal([node.rng for node in _nodes(stateful)[1:]], children)
    for dense in ("dense1", "dense2", "dense3"):
        assert getattr(stateful, dense).weight is getattr(layer, dense).weight
    assert [node.rng for node in _nodes(layer)] == [None] * 5


def test_the_output_is_repeatable_and_in_eval_mode_independent_of_the_key(layer: Any, stateful: Any) -> None:
    x = jnp.ones(5)
    assert stateful(x).shape == ()
    assert 0 < stateful(x) < 1
    assert stateful(x) == stateful(x)
    outputs = {float(layer.new_state(jax.random.PRNGKey(seed), mode="eval")(x)) for seed in range(3)}
    assert len(outputs) == 1
    assert float(stateful(x)) not in outputs


def test_the_gradient(stateful: Any) -> None:
    grad = stateful.grad(jnp.zeros(5))
    assert type(grad) is BinaryNetwork
    assert repr(grad) == repr(stateful)
    assert grad.mode == "train"
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grad))
    assert len(jax.tree.leaves(grad)) == 6
    assert not grad.dense1.weight.any()
    assert grad.dense1.bias.any()


def test_a_layer_used_twice_receives_the_sum(stateful: Any) -> None:
    def with_two(first: Any, second: Any) -> Any:
        x = stateful.dropout(jnp.tanh(stateful.dense1(jnp.zeros(5))))
        x = jnp.tanh(second(jnp.tanh(first(x))))
        return jax.nn.sigmoid(stateful.dense3(jnp.tanh(x)))[0]

    dense2 = stateful.dense2.replace(_rng=stateful.dense2.parameters()._rng)  # without its key, which is no float
    one, two = jax.grad(with_two, argnums=(0, 1))(dense2, dense2)
    grad = stateful.grad(jnp.zeros(5)).dense2
    np.testing.assert_allclose(grad.weight, one.weight + two.weight, rtol=1e-5, atol=1e-7)


def test_an_update_changes_the_parameters_alone(stateful: Any) -> None:
    x = jnp.ones(5)
    new = jax.tree.map(lambda p, g: p - 0.3 * g, stateful, stateful.grad(x))
    assert treedef(new) == treedef(stateful)
    for old, node in zip(_nodes(stateful), _nodes(new), strict=True):
        assert node.rng is old.rng
        assert node.mode == "train"
    assert new.dropout.rate == 0.2
    for dense in ("dense1", "dense2", "dense3"):
        assert (getattr(new, dense).bias != getattr(stateful, dense).bias).any()
    assert new(x) < stateful(x)


@pytest.mark.parametrize("rate", [0.3, np.float32(0.3), np.float64(0.3), jnp.float32(0.3)], ids=lambda r: str(type(r)))
@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key], ids=["raw", "typed"])
def test_any_rate_and_any_key_can_be_used(layer: Any, rate: Any, make_key: Any) -> None:
    stateful = layer.new_state(make_key(1))
    update = jax.jit(lambda layer, rate: jax.tree.map(lambda p, g: p - rate * g, layer, layer.grad(jnp.ones(5))))
    grad = stateful.grad(jnp.ones(5))
    eager = jax.tree.map(lambda p, g: p - rate * g, stateful, grad)
    for new in (eager, update(stateful, rate)):
        assert new.dropout.rng.dtype == stateful.dropout.rng.dtype
        np.testing.assert_array_equal(
            jax.random.uniform(new.dropout.rng, (3,)), jax.random.uniform(stateful.dropout.rng, (3,))
        )
        np.testing.assert_allclose(new.dense3.bias, stateful.dense3.bias - 0.3 * grad.dense3.bias, rtol=1e-5)
