"""Parallax modules: keys, modes and copies, eagerly and inside of JAX's transformations."""

from typing import Any

import jax
import jax.nn.initializers as init
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError
from pax.experimental import parallax
from pax.experimental.parallax import Dense, Dropout, Module, ModuleTuple, Parameter, ParameterTuple, ParamInit


class Net(Module):
    """A stochastic layer twice in a tuple, and a layer with parameters."""

    layers: ModuleTuple
    dense: Dense
    keep: float

    def __init__(self) -> None:
        super().__init__()
        self.layers = ModuleTuple(Dropout(0.5), Dropout(0.5))
        self.dense = Dense(8, 1)
        self.keep = 0.5

    def forward(self, input: Any) -> Any:
        for layer in self.layers:
            input = layer(input)
        return self.dense(input)[0]


_X = jnp.ones(8)


@pytest.fixture(scope="module")
def net() -> Any:
    return Net().initialized(jax.random.PRNGKey(0))


def _data(key: Any) -> list[int]:
    return np.asarray(jax.random.key_data(key)).tolist()  # type: ignore[no-any-return]


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key], ids=["raw", "typed"])
def test_keys_are_split_by_name_and_position(net: Any, make_key: Any) -> None:
    key = make_key(5)
    stateful = net.new_state(key)
    assert stateful.rng is key
    dense_key, layers_key = jax.random.split(key)
    assert _data(stateful.dense.rng) == _data(dense_key)
    assert [_data(layer.rng) for layer in stateful.layers] == [_data(k) for k in jax.random.split(layers_key)]
    assert stateful.rng.dtype == key.dtype


def test_new_keys_replace_all_and_leave_the_receiver_alone(net: Any) -> None:
    first, second = (net.new_state(jax.random.key(seed)) for seed in (1, 2))
    nodes = [[node, node.dense, *node.layers] for node in (first, second, second.new_state(jax.random.key(1)))]
    keys = [[_data(node.rng) for node in row] for row in nodes]
    assert keys[0] == keys[2]
    assert all(a != b for a, b in zip(keys[0], keys[1], strict=True))
    assert net.rng is None
    assert net.dense.rng is None
    assert first.dense.weight is net.dense.weight


def test_keys_can_come_before_parameters() -> None:
    key, other = jax.random.key(0), jax.random.key(1)
    early, late = (
        Net().new_state(other, "eval").initialized(key),
        Net().initialized(key).new_state(other, "eval"),
    )
    assert treedef(early) == treedef(late)
    for a, b in zip(jax.tree.leaves(early), jax.tree.leaves(late), strict=True):
        assert a.dtype == b.dtype
        assert (a == b).all()


def test_a_call_does_not_use_the_key_up(net: Any) -> None:
    stateful = net.new_state(jax.random.key(3))
    assert stateful(_X) == stateful(_X)
    layer = stateful.layers[0]
    np.testing.assert_array_equal(layer(_X), layer(_X))


def test_a_missing_key_is_explained(net: Any) -> None:
    with pytest.raises(TypeError, match=r"This module has no random key: call new_state\(rng\) first") as caught:
        net(_X)
    assert "Dropout" in str(caught.value)
    with pytest.raises(ArgumentTypeError, match="new_state"):
        jax.jit(lambda net: net(_X))(net)
    assert net.eval()(_X).shape == ()


def test_other_type_errors_are_not_touched() -> None:
    dense = Dense(2, 2).initialized(jax.random.key(0))
    with pytest.raises(TypeError, match="argument"):
        dense(jnp.ones(2), 3)
    with pytest.raises(TypeError, match="scalar"):
        dense.grad(jnp.ones(2))


def test_of_two_missing_steps_both_are_named() -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"call initialized\(rng\), and after it call new_state\(rng\)"
    ) as caught:
        Net()(_X)
    assert caught.value.fix is not None
    assert ".initialized(jax.random.key(0)).new_state(" in caught.value.fix


class Drawing(pax.Module):
    """A plain PAX module with a sequence of keys, and a Parallax module below it."""

    seq: pax.RngSeq
    inner: Dropout
    constant: jax.Array

    def __init__(self, key: Any) -> None:
        super().__init__()
        self.seq = pax.RngSeq(rng_key=key)
        self.inner = Dropout(0.5)
        self.constant = jax.random.PRNGKey(3)  # no key state: it is not called rng_key

    def __call__(self) -> Any:
        return jax.random.normal(self.seq.next_rng_key())


@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key], ids=["raw", "typed"])
@pytest.mark.parametrize("make_own", [jax.random.PRNGKey, jax.random.key], ids=["own raw", "own typed"])
def test_keys_of_plain_modules_are_replaced_in_their_form(make_key: Any, make_own: Any) -> None:
    built = pax.Sequential(Drawing(make_own(0)), pax.Dropout(0.5, rng_key=make_own(1)), pax.RngSeq(rng_key=make_own(2)))
    first, second = (parallax.new_state(built, make_key(seed), "train") for seed in (1, 2))
    keys = [
        [_data(key) for key in (m[0].seq._rng_key, m[0].inner.rng, m[1].rng_key, m[2]._rng_key)]
        for m in (first, second)
    ]
    assert len({tuple(key) for row in keys for key in row}) == 8
    assert first[0].seq._rng_key.dtype == first[1].rng_key.dtype == make_own(0).dtype
    assert first[0].inner.rng.dtype == make_key(0).dtype
    np.testing.assert_array_equal(first[0].constant, built[0].constant)
    assert [treedef(first[i]) for i in (1, 2)] == [treedef(built[i]) for i in (1, 2)]
    again = parallax.new_state(built, make_key(1), "train")
    assert treedef(again) == treedef(first)
    assert pax.purecall(first[0])[1] == pax.purecall(again[0])[1] != pax.purecall(second[0])[1]


def test_dropout_of_pax_draws_anew_in_trees_and_in_fields() -> None:
    class Holder(Module):
        drop: pax.Dropout

        def __init__(self) -> None:
            super().__init__()
            self.drop = pax.Dropout(0.5)

        def forward(self, input: Any) -> Any:
            return self.drop(input)

    trees: list[Any] = [pax.Sequential(Dropout(1.0), pax.Dropout(0.5)), Holder()]
    for tree in trees:
        masks = [pax.purecall(parallax.new_state(tree, jax.random.key(i), "train"), jnp.ones(64))[1] for i in (1, 2, 1)]
        assert (masks[0] != masks[1]).any()
        np.testing.assert_array_equal(masks[0], masks[2])


def test_stacked_keys_of_plain_modules_get_one_each() -> None:
    key = jax.random.key(0)
    ensemble = pax.Ensemble(lambda: pax.Sequential(Dropout(0.5).new_state(key), pax.Dropout(0.5)), 3)
    stateful: Any = jax.jit(parallax.new_state)(ensemble, jax.random.key(1))
    assert treedef(stateful) == treedef(parallax.new_state(stateful, jax.random.key(2)))
    assert len({tuple(_data(stateful[index][1].rng_key)) for index in range(3)}) == 3


def test_keys_of_another_algorithm_keep_it() -> None:
    net = pax.Sequential(Dropout(0.5), pax.RngSeq(rng_key=jax.random.key(0, impl="rbg")))
    first, second = (parallax.new_state(net, jax.random.key(seed))[1]._rng_key for seed in (1, 2))
    assert first.dtype == jax.random.key(0, impl="rbg").dtype
    assert _data(first) != _data(second)


# ---- split -----------------------------------------------------------------------------------------------------------


def test_split_gives_copies_with_keys_of_their_own(net: Any) -> None:
    stateful = net.new_state(jax.random.key(4), "train")
    copies = stateful.split(3)
    assert [_data(copy.rng) for copy in copies] == [_data(key) for key in jax.random.split(stateful.rng, 3)]
    assert all(copy.dense.weight is stateful.dense.weight for copy in copies)
    inner = [_data(copy.layers[0].rng) for copy in (stateful, *copies)]
    assert len(set(map(tuple, inner))) == 4  # children get new keys, too
    assert [copy.mode for copy in copies] == ["train"] * 3
    one, two = (copy.layers[0](jnp.ones(64)) for copy in copies[:2])
    assert (one != two).any()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, None])
def test_split_checks_its_number(net: Any, n: Any) -> None:
    with pytest.raises(ArgumentError, match="number of copies"):
        net.new_state(jax.random.key(0)).split(n)


def test_split_needs_a_key(net: Any) -> None:
    with pytest.raises(ArgumentError, match=r"call new_state\(rng\) first"):
        net.split(2)


# ---- modes -----------------------------------------------------------------------------------------------------------


def _modes(net: Any) -> list[tuple[str, bool]]:
    return [(node.mode, node.training) for node in (net, net.dense, *net.layers)]


def test_modes(net: Any) -> None:
    key = jax.random.key(0)
    assert _modes(net) == [("train", True)] * 4
    assert _modes(net.new_state(key, "eval")) == [("eval", False)] * 4
    predicting = net.new_state(key, mode="predict")
    assert _modes(predicting) == [("predict", False)] * 4
    assert _modes(predicting.new_state(key)) == [("predict", False)] * 4
    assert _modes(predicting.train()) == [("train", True)] * 4
    assert _modes(predicting.eval()) == [("eval", False)] * 4
    assert treedef(predicting.train()) == treedef(net.new_state(key, "train"))
    assert Module(training=False).mode == "eval"


def test_without_a_mode_each_node_keeps_its_own(net: Any) -> None:
    mixed = net.replace(dense=net.dense.new_state(jax.random.key(0), "frozen"))
    assert [mode for mode, _ in _modes(mixed.new_state(jax.random.key(1)))] == ["train", "frozen", "train", "train"]


@pytest.mark.parametrize("mode", [True, 3, b"train"])
def test_a_mode_is_a_text(net: Any, mode: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A mode is a text"):
        net.new_state(jax.random.key(0), mode)


@pytest.mark.parametrize("mode", ["Train", "TRAIN", "training", "Training"])
def test_a_misspelt_mode_is_refused(net: Any, mode: str) -> None:
    for call in (net.new_state, lambda key, mode: parallax.new_state(pax.Sequential(net), key, mode)):
        with pytest.raises(ArgumentError, match='did you mean "train"'):
            call(jax.random.key(0), mode)
    assert net.new_state(jax.random.key(0), "trained").mode == "trained"


def test_an_outer_module_sets_both_views(net: Any) -> None:
    outer = pax.Sequential(net.new_state(jax.random.key(0), "predict"))
    assert _modes(outer.eval()[0]) == [("eval", False)] * 4
    assert _modes(outer.train()[0]) == [("train", True)] * 4


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_gradient_and_model_need_not_have_the_same_keys(net: Any) -> None:
    first, second = (net.new_state(jax.random.key(seed)) for seed in (1, 2))
    gradient = first.grad(_X)
    for model in (net, first, second):
        new = jax.tree.map(lambda p, g: p - 0.3 * g, model, gradient)
        assert new.rng is model.rng
        np.testing.assert_array_equal(new.dense.weight, net.dense.weight - 0.3 * gradient.dense.weight)


def test_grad_takes_any_arguments() -> None:
    class Product(Dense):
        def forward(self, input: Any, other: Any, *, factor: float = 1.0) -> Any:  # type: ignore[override]
            return factor * jnp.vdot(self.weight @ input, other)

    layer = Product(3, 2).initialized(jax.random.key(0))
    gradient = layer.grad(jnp.arange(3.0), jnp.arange(2.0), factor=2.0)
    np.testing.assert_allclose(gradient.weight, 2 * jnp.outer(jnp.arange(2.0), jnp.arange(3.0)))


def test_a_module_that_changes_itself_has_no_gradient_by_grad() -> None:
    class Changing(Module):
        block: pax.Sequential

        def __init__(self) -> None:
            super().__init__()
            self.block = pax.Sequential(pax.Linear(3, 3), pax.BatchNorm1D(3), pax.Dropout(0.5))

        def forward(self, input: Any) -> Any:
            return (self.block(input) ** 2).sum()

    net: Any = Changing().initialized(jax.random.key(0)).new_state(jax.random.key(1), "train")
    x = jnp.arange(12.0).reshape(4, 1, 3)
    with pytest.raises(MutationError, match="changes itself while `grad` differentiates") as caught:
        net.grad(x)
    assert caught.value.place is not None
    assert caught.value.place.startswith("block.modules[1].ema_mean")
    for line in str(caught.value.fix).splitlines():  # the advice works
        names: dict[str, Any] = {"pax": pax, "net": net, "x": x}
        exec(line, names)
        assert jnp.abs(names["gradient"].block[0].weight).sum() > 0
    assert names["net"].block[1] != net.block[1]
    assert net.eval().grad(x).block[0].weight.shape == (3, 3)


def test_an_assignment_in_forward_is_explained_as_such() -> None:
    class Assigning(Dense):
        def forward(self, input: Any) -> Any:
            self.weight = 2 * self.weight
            return super().forward(input)[0]

    with pytest.raises(MutationError, match="Cannot assign `weight`: this `.*Assigning` is already initialized"):
        Assigning(3, 2).initialized(jax.random.key(0)).grad(jnp.ones(3))


def test_jax_differentiates_a_model_without_keys(net: Any) -> None:
    evaluated = net.eval()
    gradient = jax.grad(lambda net: net(_X))(evaluated)
    np.testing.assert_array_equal(gradient.dense.weight, evaluated.grad(_X).dense.weight)


# ---- transformations -------------------------------------------------------------------------------------------------


def _step(net: Any, key: Any) -> Any:
    net = net.new_state(key, mode="train")
    return jax.tree.map(lambda p, g: p - 0.1 * g, net, net.grad(_X))


def test_sixty_steps_are_traced_once(net: Any) -> None:
    step = TraceCounter(_step)
    masked = jax.jit(lambda net: net.layers[0](jnp.ones(64)))
    model = net.new_state(jax.random.key(0))
    masks = set()
    for key in jax.random.split(jax.random.key(1), 60):
        model = step(model, key)
        masks.add(np.asarray(masked(model)).tobytes())
    assert step.traces == 1
    assert len(masks) == 60  # never the keys of an earlier call


def test_keys_given_outside_of_jit_are_not_constants(net: Any) -> None:
    loss = TraceCounter(lambda net, x: net(x))
    x = jnp.arange(8.0)
    models = [net.new_state(jax.random.key(seed), "train") for seed in range(5)]
    values = [float(loss(model, x)) for model in models]
    assert loss.traces == 1
    np.testing.assert_allclose(values, [float(model(x)) for model in models], rtol=1e-5)
    assert len(set(values)) > 1


def test_models_built_apart_are_traced_once() -> None:
    make = TraceCounter(lambda net, key: net.initialized(key))
    for seed in range(3):
        make(Net(), jax.random.key(seed))
    assert make.traces == 1


def test_everything_works_with_traced_keys() -> None:
    key = jax.random.PRNGKey(0)
    declared = Net()
    want = declared.initialized(key).new_state(key, "train")

    def make(key: Any) -> Any:
        return declared.initialized(key).new_state(key, "train")

    for got in (jax.jit(make)(key), jax.tree.map(lambda leaf: leaf[0], jax.vmap(make)(key[None]))):
        assert treedef(got) == treedef(want)
        np.testing.assert_allclose(got(_X), want(_X), rtol=1e-5)
    abstract = jax.eval_shape(make, key)
    assert treedef(abstract) == treedef(want)


def test_a_loop_in_jax_gives_each_step_new_keys(net: Any) -> None:
    keys = jax.random.split(jax.random.key(2), 4)
    start = net.new_state(keys[0], "train")
    last, outputs = jax.lax.scan(lambda net, key: (_step(net, key), net(_X)), start, keys)
    looped = start
    for key in keys:
        looped = _step(looped, key)
    np.testing.assert_allclose(last.dense.weight, looped.dense.weight, rtol=1e-5, atol=1e-6)
    assert outputs.shape == (4,)


def test_a_batch_of_copies_under_vmap(net: Any) -> None:
    stateful = net.new_state(jax.random.key(0))
    outputs = jax.vmap(lambda key, x: stateful.new_state(key)(x), in_axes=(0, None))(
        jax.random.split(jax.random.key(1), 16), _X
    )
    assert len(set(np.asarray(outputs).tolist())) > 4


@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key], ids=["raw", "typed"])
def test_stacked_modules_get_a_key_each(make_key: Any) -> None:
    def member() -> Any:
        return Net().initialized(pax.next_rng_key()).new_state(make_key(0), "train")

    ensemble = pax.Ensemble(member, 3)
    for seed in (1, 2):
        ensemble = parallax.new_state(ensemble, make_key(seed))
        keys = ensemble.parameters() | ensemble  # all arrays
        leaves = [leaf for leaf in jax.tree.leaves(keys) if leaf.dtype == make_key(0).dtype]
        assert len(leaves) == 4
        for leaf in leaves:
            assert len({tuple(_data(key)) for key in leaf}) == 3
        assert ensemble(_X).shape == (3,)
        stacked = [ensemble[index].layers[0](jnp.ones(64)) for index in range(3)]
        assert (stacked[0] != stacked[1]).any()


# ---- the functions ---------------------------------------------------------------------------------------------------


def test_the_functions_reach_into_plain_modules() -> None:
    built = pax.Sequential(Dense(3, 4), jax.nn.relu, pax.Dropout(0.5), Dropout(0.5))
    net: Any = parallax.initialized(built, jax.random.key(0))
    first = built[0].initialized(jax.random.split(jax.random.key(0))[0])
    np.testing.assert_array_equal(net[0].weight, first.weight)
    stateful = parallax.new_state(net, jax.random.key(1), "eval")
    assert [layer.training for layer in stateful] == [False] * 4
    keys = jax.random.split(jax.random.key(1), 3)  # one for pax.Dropout, between them in pytree order
    assert [_data(key) for key in (stateful[0].rng, stateful[2].rng_key, stateful[3].rng)] == [_data(k) for k in keys]
    assert stateful(jnp.ones(3)).shape == (4,)
    training = parallax.new_state(stateful, jax.random.key(1), "train")
    assert [layer.training for layer in training] == [True] * 4
    kept = parallax.new_state(stateful, jax.random.key(2))
    assert [layer.training for layer in kept] == [False] * 4


def test_the_functions_say_what_they_lack() -> None:
    for function in (parallax.initialized, parallax.new_state):
        for tree in (pax.Linear(1, 1), 3):
            with pytest.raises(ArgumentTypeError, match="no Parallax module"):
                function(tree, jax.random.key(0))
    net = parallax.initialized(pax.Sequential(Dense(1, 1)), jax.random.key(0))
    with pytest.raises(ValueError, match="already initialized"):
        parallax.initialized(net, jax.random.key(0))


def test_plain_modules_as_children() -> None:
    class Mixed(Module):
        fc: pax.Linear
        block: pax.Sequential
        scale: Parameter

        def __init__(self) -> None:
            super().__init__()
            self.fc = pax.Linear(3, 4)
            self.block = pax.Sequential(Dense(4, 2), Dropout(0.5), pax.BatchNorm1D(2))
            self.scale = ParamInit((), init.ones)

        def forward(self, input: Any) -> Any:
            return self.scale * self.block[1](self.block[0](self.fc(input))).sum()

    declared = Mixed()
    mixed = declared.initialized(jax.random.key(0))
    assert mixed.fc == declared.fc
    assert repr(mixed.block[0]) == "Dense(4, 2)"
    evaluated = mixed.new_state(jax.random.key(1), "eval")
    assert [evaluated.fc.training, *(layer.training for layer in evaluated.block)] == [False] * 4
    gradient = evaluated.grad(jnp.ones(3))
    assert gradient.fc.weight.shape == (3, 4)
    assert len(jax.tree.leaves(gradient)) == 7


def test_a_trained_part_can_be_put_into_a_declared_model() -> None:
    trained = Dense(8, 1).initialized(jax.random.key(9))
    net = Net().replace(dense=trained).initialized(jax.random.key(0))
    assert net.dense.weight is trained.weight


# ---- a stack of recurrent cells --------------------------------------------------------------------------------------


class Cell(Module):
    """A gated cell, with its parameters in tuples."""

    weights: ParameterTuple
    biases: ParameterTuple

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weights = ParameterTuple([ParamInit((2 * size, size), init.xavier_normal()) for _ in range(4)])
        self.biases = ParameterTuple([ParamInit((size,), init.zeros) for _ in range(4)])

    @jax.jit
    def forward(self, state: Any, x: Any) -> Any:
        hidden, memory = state
        both = jnp.concatenate([hidden, x])
        pre = [both @ weight + bias for weight, bias in zip(self.weights, self.biases, strict=True)]
        keep, add, out = map(jax.nn.sigmoid, pre[:3])
        memory = keep * memory + add * jnp.tanh(pre[3])
        return out * jnp.tanh(memory), memory


class Stack(Module):
    """Cells one above the other."""

    cells: ModuleTuple
    readout: Dense

    def __init__(self, size: int, depth: int) -> None:
        super().__init__()
        self.cells = ModuleTuple([Cell(size) for _ in range(depth)])
        self.readout = Dense(size, size)

    def forward(self, sequence: Any) -> Any:
        def step(states: Any, x: Any) -> Any:
            new = []
            for cell, state in zip(self.cells, states, strict=True):
                state = cell(state, x)
                x = state[0]
                new.append(state)
            return new, self.readout(x)

        zeros = jnp.zeros(sequence.shape[1:])
        return jax.lax.scan(step, [(zeros, zeros) for _ in self.cells], sequence)[1]


def test_a_stack_of_cells_learns_with_one_trace() -> None:
    sequence = jnp.sin(jnp.outer(jnp.arange(12.0), jnp.linspace(0.2, 1.0, 4)))

    def loss(model: Any, data: Any) -> Any:
        return ((model(data[:-1]) - data[1:]) ** 2).sum()

    @TraceCounter
    def step(model: Any, data: Any) -> Any:
        value, gradient = pax.value_and_grad(jax.jit(loss))(model, data)
        return jax.tree.map(lambda p, g: p - 0.02 * g, model, gradient), value

    model: Any = Stack(4, 2).initialized(jax.random.PRNGKey(0))
    losses = []
    for _ in range(101):
        model, value = step(model, sequence)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    assert step.traces == 1
