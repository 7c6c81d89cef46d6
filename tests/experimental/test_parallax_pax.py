"""Parallax modules as PAX modules: in `pax.Sequential`, trained, frozen, saved, changed; and their optimizer."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import jax
import jax.nn.initializers as init
import jax.numpy as jnp
import jmp
import numpy as np
import pytest
from jax.example_libraries import optimizers

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, StateDictError, StructureError
from pax.experimental import parallax
from pax.experimental.parallax import Dense, Dropout, Module, Optimizer, Parameter, ParamInit


class Net(Module):
    """Two layers with dropout between them, and an array that is not trained."""

    first: Dense
    second: Dense
    dropout: Dropout
    scale: Parameter
    table: jax.Array
    depth: int

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.first = Dense(3, 8)
        self.second = Dense(8, 1)
        self.dropout = Dropout(0.8)
        self.scale = ParamInit((), init.ones)
        self.table = jnp.arange(3)
        self.depth = depth

    def forward(self, input: Any) -> Any:
        hidden = self.dropout(jnp.tanh(self.first(input + self.table)))
        return self.scale * self.second(hidden)[0]


_X = jnp.array([1.0, -2.0, 0.5])


@pytest.fixture(scope="module")
def net() -> Any:
    return Net().initialized(jax.random.PRNGKey(0)).new_state(jax.random.PRNGKey(1), "train")


def _paths(tree: Any) -> set[str]:
    return {jax.tree_util.keystr(path)[1:] for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


_PARAMETERS = {"first.weight", "first.bias", "second.weight", "second.bias", "scale"}


def test_keys_and_constant_arrays_are_leaves_that_are_not_trained(net: Any) -> None:
    keys = {"_rng", "first._rng", "second._rng", "dropout._rng"}
    assert _paths(net) == _PARAMETERS | {"table"} | keys
    assert _paths(net.parameters()) == _PARAMETERS
    assert _paths(net.grad(_X)) == _PARAMETERS


@pytest.mark.parametrize("stage", ["declared", "initialized", "with keys", "gradient", "typed keys"])
def test_every_stage_can_be_copied_and_pickled(net: Any, stage: str) -> None:
    stages: dict[str, Callable[[], Any]] = {
        "declared": Net,
        "initialized": lambda: Net().initialized(jax.random.PRNGKey(0)),
        "with keys": lambda: net,
        "gradient": lambda: net.grad(_X),
        "typed keys": lambda: net.new_state(jax.random.key(0), "predict"),
    }
    module = stages[stage]()
    for twin in (
        module.copy(),
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        cloudpickle.loads(cloudpickle.dumps(module)),
    ):
        assert treedef(twin) == treedef(module)
        assert repr(twin) == repr(module)
        assert twin.mode == module.mode
        for a, b in zip(jax.tree.leaves(twin), jax.tree.leaves(module), strict=True):
            assert bool((a == b).all())


def test_two_builds_have_one_structure() -> None:
    makes: list[Callable[[], Any]] = [Net, lambda: Net().initialized(jax.random.key(0))]
    for make in makes:
        assert treedef(make()) == treedef(make())
    assert treedef(Net(2)) != treedef(Net(3))


def test_sequential_with_all_kinds_is_trained_by_opax() -> None:
    pax.seed_rng_key(0)
    net: Any = pax.Sequential(Net().first, jnp.tanh, pax.Linear(8, 8), Dropout(0.9), Dense(8, 1))
    net = parallax.initialized(net, jax.random.key(0))
    net = parallax.new_state(net, jax.random.key(1), "train")
    optimizer = opax.adamw(0.02)(net.parameters())
    xs = jax.random.normal(jax.random.key(2), (32, 3))
    ys = jnp.sin(xs.sum(axis=1))

    def loss_fn(net: Any, key: Any) -> Any:
        outputs = jax.vmap(lambda x, key: parallax.new_state(net, key)(x))(xs, jax.random.split(key, 32))
        return ((outputs[:, 0] - ys) ** 2).mean()

    @TraceCounter
    def step(net: Any, optimizer: Any, key: Any) -> Any:
        loss, grads = pax.value_and_grad(loss_fn)(net, key)
        net, optimizer = opax.apply_gradients(net, optimizer, grads=grads.parameters())
        return parallax.new_state(net, key), optimizer, loss

    losses = []
    for key in jax.random.split(jax.random.key(3), 60):
        net, optimizer, loss = step(net, optimizer, key)
        losses.append(float(loss))
    assert step.traces == 1
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])


def test_the_update_function_of_pax_trains_it(net: Any) -> None:
    def loss_fn(model: Any, inputs: Any) -> Any:
        x, key = inputs
        loss = model.new_state(key, "eval")(x) ** 2
        return loss, (loss, model)

    update = jax.jit(pax.build_update_fn(loss_fn))
    model, optimizer = net, opax.sgd(0.05)(net.parameters())
    losses = []
    for key in jax.random.split(jax.random.key(0), 20):
        model, optimizer, loss = update(model, optimizer, (_X, key))
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.1 * np.mean(losses[:5])
    np.testing.assert_array_equal(model.rng, net.rng)


def test_frozen_parameters_get_no_gradient_and_no_update(net: Any) -> None:
    for frozen in (
        pax.freeze_parameters(net, "first/**"),
        net.replace(first=pax.freeze_parameters(net.first)),
    ):
        gradient = frozen.grad(_X)
        assert _paths(gradient) == _PARAMETERS - {"first.weight", "first.bias"}
        new = jax.tree.map(lambda p, g: p - 0.1 * g, frozen, gradient)
        assert new.first.weight is net.first.weight
        assert (new.second.weight != net.second.weight).any()
    stateful = pax.freeze_parameters(net).new_state(jax.random.key(5))
    assert jax.tree.leaves(stateful.parameters()) == []


def test_a_model_frozen_before_it_is_initialized_stays_frozen() -> None:
    made = pax.freeze_parameters(Net()).initialized(jax.random.key(0))
    assert jax.tree.leaves(made.parameters()) == []


def test_state_dictionaries(net: Any) -> None:
    other = Net().initialized(jax.random.PRNGKey(7))
    loaded = other.load_state_dict(net.state_dict())
    assert loaded(_X) == net(_X)
    state = jax.tree.map(np.asarray, net.state_dict())
    assert float(net.new_state(jax.random.PRNGKey(9)).load_state_dict(state)(_X)) == float(net(_X))
    with pytest.raises(StateDictError, match="call initialized\\(rng\\) first") as caught:
        Net().load_state_dict(net.state_dict())
    assert caught.value.module is not None
    with pytest.raises(StateDictError, match=r"first\.weight"):
        other.load_state_dict({name: part for name, part in net.state_dict().items() if name != "first"})


def test_parts_can_be_taken_and_put_back(net: Any) -> None:
    trained, rest = pax.partition(net, "**/weight")
    assert pax.combine(trained, rest) == net
    changed = net.replace_node(lambda m: m.second, Dense(8, 2).initialized(jax.random.key(0)))
    assert changed.second.weight.shape == (2, 8)
    assert changed.update_parameters(changed.parameters()) == changed
    zeros = net.parameters().map(jnp.zeros_like)
    assert (net | zeros)(_X) == 0
    assert net.apply(lambda node: node) == net


def test_the_pure_call_of_pax_works(net: Any) -> None:
    new, output = net % _X
    assert new == net
    assert output == net(_X)
    with_field = pax.pure(lambda net: _assign(net, "depth", 5))(net)
    assert with_field.depth == 5
    with pytest.raises(AttributeError, match="declares no field `deepth`"):
        pax.pure(lambda net: _assign(net, "deepth", 5))(net)


def _assign(net: Any, name: str, value: Any) -> Any:
    setattr(net, name, value)
    return net


def test_replaced_methods_keep_the_fields(net: Any) -> None:
    doubled = net.replace_method(forward=lambda self, x: 2 * type(net).forward(self, x))
    np.testing.assert_allclose(doubled(_X), 2 * net(_X))
    assert isinstance(doubled.new_state(jax.random.key(0)), Net)
    assert repr(doubled) == repr(net)


def test_a_precision_policy_applies() -> None:
    half = pax.experimental.apply_mp_policy(
        Dense(3, 2).initialized(jax.random.key(0)), mp_policy=jmp.get_policy("p=f32,c=bf16,o=f32")
    )
    dense = pax.experimental.unwrap_mp_policy(half)
    assert half(_X).dtype == jnp.float32
    assert (half(_X) != dense(_X)).any()
    np.testing.assert_allclose(half(_X), dense(_X), rtol=0.05, atol=0.01)


def test_threads_build_models_of_their_own() -> None:
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda seed: Net().initialized(jax.random.PRNGKey(seed)), [3] * 8))
    structures = {treedef(model) for model in models}
    assert len(structures) == 1
    assert all((model.first.weight == models[0].first.weight).all() for model in models)


# ---- Dense and Dropout -----------------------------------------------------------------------------------------------


def test_dense() -> None:
    dense = Dense(3, 2).initialized(jax.random.key(0))
    np.testing.assert_allclose(dense(_X), dense.weight @ _X + dense.bias)
    assert repr(dense) == "Dense(3, 2)"


def test_dense_takes_one_vector() -> None:
    dense = Dense(3, 2).initialized(jax.random.key(0))
    for batch in (jnp.ones((5, 3)), jnp.ones((3, 3)), jnp.ones((3, 2)), jnp.ones(())):
        with pytest.raises(ArgumentError, match="one vector at a time") as caught:
            dense(batch)
        assert "jax.vmap(layer)(batch)" in str(caught.value)
    assert jax.vmap(dense)(jnp.ones((5, 3))).shape == (5, 2)
    with pytest.raises(ArgumentError, match=r"Dense\(4, 2\)"):
        dense(jnp.ones(4))


def test_dropout_keeps_with_its_rate() -> None:
    ones = jnp.ones(2000)
    dropped = Dropout(0.2).new_state(jax.random.key(0), "train")(ones)
    kept = dropped != 0
    assert 0.15 < kept.mean() < 0.25
    np.testing.assert_allclose(dropped[kept], 5.0)
    assert Dropout(0.2).new_state(jax.random.key(0), "eval")(ones) is ones


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
def test_dropout_checks_its_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="probability of keeping"):
        Dropout(rate)


@pytest.mark.parametrize("rate", ["a", None, True, jnp.ones(3)])
def test_the_rate_of_dropout_is_a_number(rate: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="is a number"):
        Dropout(rate)


# ---- the optimizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hooks", [optimizers.sgd(0.05), optimizers.adam(0.02), optimizers.momentum(0.02, 0.5)])
def test_an_optimizer_state_is_a_pytree_that_trains(hooks: Any) -> None:
    state: Any = Optimizer(hooks).initialized(Net(), jax.random.key(0))

    @TraceCounter
    def step(i: Any, state: Any, key: Any) -> Any:
        model = state.get().new_state(key, "eval")  # else the masks decide what the last losses are
        loss, gradient = pax.value_and_grad(lambda m: (m(_X) - 1) ** 2)(model)
        return state.updated(i, gradient), loss

    losses = []
    for i, key in enumerate(jax.random.split(jax.random.key(1), 40)):
        state, loss = step(i, state, key)
        losses.append(float(loss))
    assert step.traces == 1
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert isinstance(state.get(), Net)
    np.testing.assert_array_equal(state.get().table, [0, 1, 2])


def test_an_optimizer_steps_like_the_line_by_hand() -> None:
    state = Optimizer(optimizers.sgd(0.1)).initialized(Net(), jax.random.key(0))
    model = state.get()
    assert _paths(model) == _PARAMETERS | {"table"}
    gradient = model.new_state(jax.random.key(1), "eval").grad(_X)  # in another mode, with keys
    want = jax.tree.map(lambda p, g: p - 0.1 * g, model.parameters(), model.eval().grad(_X).train())
    got = state.updated(0, gradient).get()
    for a, b in zip(jax.tree.leaves(got.parameters()), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert state.get() == model  # as it was


def test_equal_optimizers_have_equal_states() -> None:
    states = [Optimizer(optimizers.adam(0.1)).initialized(Net(), jax.random.key(0)) for _ in range(2)]
    assert treedef(states[0]) == treedef(states[1])
    other = Optimizer(optimizers.adam(0.2)).initialized(Net(), jax.random.key(0))
    assert treedef(states[0]) != treedef(other)


def test_the_optimizer_checks_its_arguments() -> None:
    with pytest.raises(ArgumentTypeError, match="three functions"):
        Optimizer(opax.adam(0.1))  # type: ignore[arg-type]
    optimizer = Optimizer(optimizers.sgd(0.1))
    with pytest.raises(ArgumentTypeError, match="Expecting a Parallax module"):
        optimizer.initialized(pax.Linear(1, 1), jax.random.key(0))
    state = optimizer.initialized(Dense(2, 2), jax.random.key(0))
    with pytest.raises(StructureError, match="do not belong to this model"):
        state.updated(0, Dense(2, 3).initialized(jax.random.key(0)))
    with pytest.raises(ArgumentTypeError, match="gradients of the model"):
        state.updated(0, 3)
