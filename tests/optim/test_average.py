"""opax.params_ema and opax.evaluation_model."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Holder, Linear, Net
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.full((3, 2), 0.5, jnp.float32)}


def run(optimizer: Any, steps: int, params: Any = PARAMS, jitted: bool = True) -> tuple[list[Any], Any]:
    """Returns the parameters after each step, and the optimizer."""

    def advance(params: Any, optimizer: Any) -> Any:
        grads = jax.tree.map(lambda p: p**2 + 0.1, params)
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    step = jax.jit(advance) if jitted else advance
    found = []
    for _ in range(steps):
        params, optimizer = step(params, optimizer)
        found.append(params)
    return found, optimizer


def with_ema(decay: float = 0.9, **options: Any) -> Any:
    return opax.chain(opax.adam(0.05), opax.params_ema(decay, **options))


def assert_close(a: Any, b: Any) -> None:
    pax.assert_structure_equal(a, b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_it_is_the_average_of_optax_of_the_parameters_after_each_step(decay: float, jitted: bool) -> None:
    found, optimizer = run(with_ema(decay)(PARAMS), 7, jitted=jitted)
    average = optax.ema(decay)
    state = average.init(PARAMS)
    for params in found:
        want, state = average.update(params, state)
    assert isinstance(state, optax.EmaState)
    assert_close(optimizer[-1].evaluation_params(found[-1]), want)
    assert_close(optimizer[-1].ema, state.ema)
    assert int(optimizer[-1].count) == 7


def test_without_correction_it_starts_at_the_first_parameters() -> None:
    found, optimizer = run(with_ema(0.8, debias=False)(PARAMS), 5)
    want: Any = PARAMS
    for params in found:
        want = optax.incremental_update(params, want, 0.2)
    assert_close(optimizer[-1].evaluation_params(found[-1]), want)
    assert_close(optimizer[-1].ema, want)


def test_constant_parameters_are_their_own_average() -> None:
    """KD-90: the corrected average is not what is kept."""
    optimizer = opax.params_ema(0.9)(PARAMS)
    for _ in range(50):
        _, optimizer = opax.transform_gradients(jax.tree.map(jnp.zeros_like, PARAMS), optimizer, PARAMS)
        assert_close(optimizer.evaluation_params(PARAMS), PARAMS)


@pytest.mark.parametrize("debias", [True, False])
def test_before_the_first_step_the_average_is_the_parameters(debias: bool) -> None:
    with jax.debug_nans(True):
        got = jax.jit(lambda opt: opt.evaluation_params(PARAMS))(opax.params_ema(0.9, debias)(PARAMS))
    assert_close(got, PARAMS)


def test_updates_pass_unchanged() -> None:
    updates, _ = opax.transform_gradients(PARAMS, opax.params_ema(0.9)(PARAMS), PARAMS)
    assert updates["a"] is PARAMS["a"]


@pytest.mark.parametrize(
    ("dtype", "option", "state"), [(jnp.bfloat16, None, jnp.float32), (jnp.float32, "bfloat16", jnp.bfloat16)]
)
@pytest.mark.parametrize("debias", [True, False])
def test_dtypes(dtype: Any, option: Any, state: Any, debias: bool) -> None:
    params = {"w": jnp.ones(3, dtype)}
    with jax.numpy_dtype_promotion("strict"):
        found, optimizer = run(with_ema(debias=debias, state_dtype=option)(params), 3, params)
        got = optimizer[-1].evaluation_params(found[-1])
    assert (optimizer[-1].ema["w"].dtype, got["w"].dtype) == (state, dtype)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((optimizer, got)))


def test_an_average_of_halves_keeps_moving() -> None:
    params = jnp.ones(1, jnp.bfloat16)
    optimizer = opax.params_ema(0.999, debias=False)(params)
    step = jax.jit(opax.transform_gradients)
    for _ in range(20):
        _, optimizer = step(jnp.ones(1, jnp.bfloat16), optimizer, params)
    np.testing.assert_allclose(optimizer.ema, [0.999**20], rtol=1e-5)  # in bfloat16, 0.999 is 1


@pytest.mark.parametrize("debias", [True, False])
def test_one_trace_with_donation(debias: bool) -> None:
    def advance(params: Any, optimizer: Any) -> Any:
        updates, optimizer = opax.transform_gradients(PARAMS, optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    step = TraceCounter(advance, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, PARAMS)
    optimizer = with_ema(debias=debias)(params)
    structure = treedef(optimizer)
    for _ in range(3):
        params, optimizer = step(params, optimizer)
    assert (step.traces, treedef(optimizer)) == (1, structure)


def test_inside_of_an_accumulation_it_counts_full_steps() -> None:
    _, inside = run(opax.multi_steps(with_ema(), 2)(PARAMS), 4)
    _, after = run(opax.chain(opax.multi_steps(opax.adam(0.05), 2), opax.params_ema(0.9))(PARAMS), 4)
    assert (int(inside.inner[-1].count), int(after[-1].count)) == (2, 4)


def test_names_and_equality() -> None:
    factory = opax.params_ema(0.9)
    optimizer = factory(Linear().parameters())
    assert repr(optimizer) == "params_ema.<locals>.ParamsEma"
    assert list(optimizer.state_dict()) == ["ema", "count"]
    assert isinstance(optimizer.ema, Linear)
    assert factory == opax.params_ema(0.9, True) == pickle.loads(pickle.dumps(factory))
    assert jax.tree.leaves(optimizer.parameters()) == []


@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}])
def test_the_parameters_are_needed(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"expecting params argument\n  where: transforms\[1\] \(ParamsEma\)"):
        opax.transform_gradients(PARAMS, with_ema()(PARAMS, **options), None)


def test_the_parameters_have_to_fit() -> None:
    optimizer = opax.params_ema(0.9)(PARAMS)
    other = {"a": PARAMS["a"]}
    with pytest.raises(StructureError, match="The parameters and the optimizer's state have different structures"):
        opax.transform_gradients(other, optimizer, other)
    with pytest.raises(StructureError, match="The updates and parameters have different structures"):
        opax.transform_gradients(other, optimizer, PARAMS)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1.0,), ArgumentError, "got:   decay=1.0"),
        ((-0.1,), ArgumentError, "want:  0 <= decay < 1"),
        (("0.9",), ArgumentTypeError, "Expecting a number for `decay`"),
        ((0.9, 10), ArgumentTypeError, "Expecting a boolean for `debias`"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.params_ema(*arguments)
    assert text in str(caught.value)
    assert "where: params_ema" in str(caught.value)


# ---- evaluation_model ------------------------------------------------------------------------------------------------

KEEPERS: dict[str, tuple[Any, Any]] = {
    "average": (with_ema(), lambda opt: opt[-1]),
    "slow": (opax.lookahead(opax.adam(0.05), 2), lambda opt: opt),
    "nested": (opax.multi_steps(opax.chain(opax.clip(1.0), with_ema()), 2), lambda opt: opt.inner[1][1]),
}


@jax.jit
def advance(net: Net, optimizer: Any) -> Any:
    x = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)

    def loss(net: Net) -> Any:
        net, y = pax.purecall(net, x)
        return jnp.mean((y - 1.0) ** 2), net

    (_, net), grads = pax.value_and_grad(loss, has_aux=True)(net)
    return opax.apply_gradients(net, optimizer, grads)


def train(net: Net, optimizer: Any) -> tuple[Net, Any]:
    for _ in range(3):
        net, optimizer = advance(net, optimizer)
    return net, optimizer


@pytest.mark.parametrize("name", KEEPERS)
@pytest.mark.parametrize("jitted", [True, False])
def test_the_model_gets_the_parameters_for_evaluation(name: str, jitted: bool) -> None:
    factory, keeper = KEEPERS[name]
    net = Net()
    net, optimizer = train(net, factory(net.parameters()))
    before = net.state_dict()
    swap = jax.jit(opax.evaluation_model) if jitted else opax.evaluation_model
    new = swap(net, optimizer)
    assert_close(new.parameters(), keeper(optimizer).evaluation_params(net.parameters()))
    assert not np.array_equal(new.encoder.weight, net.encoder.weight)
    assert treedef(new) == treedef(net)
    jax.tree.map(np.testing.assert_array_equal, net.state_dict(), before)
    jax.tree.map(np.testing.assert_array_equal, (new.norm.mean, new.counter), (net.norm.mean, net.counter))


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
@pytest.mark.parametrize("inside", [opax.params_ema(0.9), opax.lookahead(opax.sgd(0.1), 2)])
def test_inside_of_flat_chains(options: dict[str, Any], inside: Any) -> None:
    net = Net()
    found = [train(net, opax.chain(opax.scale(0.1), inside)(net.parameters(), **some)) for some in ({}, options)]
    want, got = (opax.evaluation_model(*pair) for pair in found)
    assert any(isinstance(value, list) for value in found[1][1][1].state_dict().values())
    assert_close(got, want)


def test_a_flat_chain_inside_of_another() -> None:
    net = Net()
    optimizer = opax.chain(opax.clip(1.0), lambda params: with_ema()(params, flatten=True))(net.parameters())
    net, optimizer = train(net, optimizer)
    want = optimizer[1][1].evaluation_params(jax.tree.leaves(net.parameters()))
    got = opax.evaluation_model(net, optimizer)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(got.parameters()), want)


def test_frozen_parts_stay() -> None:
    net = Net()
    net = net.replace(encoder=pax.freeze_parameters(net.encoder))
    net, optimizer = train(net, with_ema()(net.parameters()))
    new = opax.evaluation_model(net, optimizer)
    assert new.encoder == net.encoder
    assert not np.array_equal(new.layers[0].weight, net.layers[0].weight)


def test_the_mode_stays() -> None:
    net = Net()
    net, optimizer = train(net, with_ema()(net.parameters()))
    assert opax.evaluation_model(net, optimizer).training
    assert not opax.evaluation_model(net, optimizer).eval().training


def test_any_class_can_keep_parameters_for_evaluation() -> None:
    class Start(opax.GradientTransformation):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.start = jax.tree.map(jnp.copy, params)

        def __call__(self, updates: Any, params: Any = None) -> Any:
            return updates

        def evaluation_params(self, params: Any) -> Any:
            return self.start

    net = Net()
    trained, optimizer = train(net, opax.chain(opax.adam(0.1), Start)(net.parameters()))
    assert_close(opax.evaluation_model(trained, optimizer).parameters(), net.parameters())


def test_none_is_an_error() -> None:
    net = Net()
    with pytest.raises(ArgumentError) as caught:
        opax.evaluation_model(net, opax.adam(0.1)(net.parameters()))
    text = str(caught.value)
    assert text.startswith(
        "No transformation of the optimizer keeps parameters for evaluation.\n  where: evaluation_model"
    )
    assert "fix:   optimizer = opax.chain(opax.adam(1e-3), opax.params_ema(0.999))(model.parameters())" in text


def test_several_are_an_error_that_names_them() -> None:
    net = Net()
    with pytest.raises(ArgumentError) as caught:
        opax.evaluation_model(net, opax.chain(opax.clip(1.0), opax.lookahead(with_ema()))(net.parameters()))
    text = str(caught.value)
    assert text.startswith("Several transformations keep parameters for evaluation.")
    assert "got:   `transforms[1]` (Lookahead), `transforms[1].inner.transforms[1]` (ParamsEma)" in text
    with pytest.raises(ArgumentError, match=r"got:   `the optimizer` \(Lookahead\), `inner` \(Lookahead\)"):
        opax.evaluation_model(net, opax.lookahead(opax.lookahead(opax.sgd()))(net.parameters()))


@pytest.mark.parametrize("options", [{}, {"flatten": True}])
def test_the_optimizer_of_another_model_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(StructureError, match="The parameters and the optimizer's state have different"):
        opax.evaluation_model(Net(), with_ema()(Linear().parameters(), **options))


def test_wrong_kinds() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX Module.\n  where: evaluation_model, `model`"):
        opax.evaluation_model({}, with_ema()({}))  # type: ignore[type-var]
    wrong: Any
    for wrong in (with_ema(), Holder()):
        with pytest.raises(ArgumentTypeError, match=r"Expecting an OPAX optimizer.\n  where: evaluation_model, `opt"):
            opax.evaluation_model(Net(), wrong)


@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}])
@pytest.mark.parametrize(
    "build",
    [
        lambda inside: opax.chain(opax.adam(0.1), opax.masked(inside, "encoder/**")),
        lambda inside: opax.chain(opax.partition(("encoder/**", inside), rest=opax.scale(0.1))),
        lambda inside: opax.chain(
            opax.partition(("norm/**", opax.clip(1.0)), ("layers/**", opax.clip(1.0)), rest=inside)
        ),
    ],
    ids=["masked", "first part", "last part"],
)
def test_an_average_of_a_part_leaves_the_others(build: Any, options: dict[str, Any]) -> None:
    net, optimizer = train(Net(), build(opax.params_ema(0.9))(Net().parameters(), **options))
    new = opax.evaluation_model(net, optimizer)
    assert not np.array_equal(new.encoder.weight, net.encoder.weight)
    assert new.replace(encoder=net.encoder) == net
