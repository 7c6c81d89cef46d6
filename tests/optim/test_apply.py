"""opax.apply_updates, opax.apply_gradients and opax.transform_gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Holder, Linear, Norm
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


class Net(pax.Module):
    """Two layers with parameters, and between them one that has a state as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Linear(2, 3)
        self.norm = Norm(3).replace(mean=jnp.ones(3))
        self.last = Linear(3, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.norm(self.first(x)))


def gradients(net: Net) -> Any:
    x = jax.random.normal(jax.random.key(2), (20, 2))
    return pax.grad(lambda net: jnp.sum(pax.purecall(net, x)[1] ** 2))(net)


def assert_same(a: Any, b: Any) -> None:
    pax.assert_structure_equal(a, b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_updates_are_subtracted() -> None:
    assert_same(opax.apply_updates({"w": jnp.array([1.0])}, {"w": jnp.array([0.25])}), {"w": jnp.array([0.75])})


def test_parameters_keep_their_dtype() -> None:
    assert opax.apply_updates(jnp.ones(1, jnp.bfloat16), jnp.ones(1)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("updates", "lines"),
    [
        ({"v": jnp.ones(1)}, ["['v']: got float32[1], want nothing", "['w']: got nothing, want float32[1]"]),
        ([jnp.ones(1)], ["the root: got a list of 1, want a dict of 1"]),
        (None, ["the root: got None, want a dict of 1"]),
        ({"w": pax.EmptyNode()}, ["['w']: got a `EmptyNode`, want float32[1]"]),
        ({"w": jnp.ones(2)}, ["where: apply_updates, ['w']", "got:   float32[2]", "want:  float32[1]"]),
    ],
)
def test_updates_have_to_fit_the_parameters(updates: Any, lines: list[str]) -> None:
    """KD-18: for plain containers the report itself failed."""
    with pytest.raises(StructureError) as caught:
        opax.apply_updates({"w": jnp.ones(1)}, updates)
    text = str(caught.value)
    assert text.startswith("The updates and parameters have different s")
    assert "  where: apply_updates" in text
    assert "fix:   updates, optimizer = opax.transform_gradients(grads, optimizer, params)" in text
    assert [line for line in lines if line not in text] == []


def test_empty_places_and_no_leaves() -> None:
    tree = {"x": pax.EmptyNode(), "y": None, "z": ()}
    assert opax.apply_updates(tree, tree) == tree


def test_transform_gradients_leaves_its_arguments_unchanged() -> None:
    params = Net().parameters()
    optimizer = opax.adam(0.1)(params)
    updates, new = opax.transform_gradients(params, optimizer, params=params)
    assert (int(optimizer[0].count), int(new[0].count)) == (0, 1)
    pax.assert_structure_equal(updates, params)


@pytest.mark.parametrize("optimizer", [opax.adam(0.1), {"count": 0}, Holder()])
def test_only_optimizers_transform_gradients(optimizer: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting an OPAX optimizer.\n  where: transform_gradients"):
        opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))


@pytest.mark.parametrize("full", [True, False])
def test_apply_gradients_is_one_step_on_the_parameters_only(full: bool) -> None:
    net = Net()
    optimizer = opax.sgd(0.1)(net.parameters())
    grads = gradients(net)
    whole = net.update_parameters(grads) if full else grads
    new, new_optimizer = opax.apply_gradients(net, optimizer, whole)
    want = jax.tree.map(lambda p, g: p - 0.1 * g, net.parameters(), grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), new.parameters(), want)
    np.testing.assert_array_equal(new.norm.mean, net.norm.mean, strict=True)
    assert_same(new_optimizer[0].trace, grads)


def test_frozen_parts_are_left_alone() -> None:
    net = Net()
    net = net.replace(first=pax.freeze_parameters(net.first))
    optimizer = opax.adam(0.1)(net.parameters())
    new, _ = opax.apply_gradients(net, optimizer, gradients(net))
    assert new.first == net.first
    assert not jnp.array_equal(new.last.weight, net.last.weight)


@pytest.mark.parametrize("finite", [True, np.bool_(True), np.array(True), jnp.array(True)], ids=repr)
@pytest.mark.parametrize("jitted", [True, False])
def test_where_all_is_finite_it_is_a_step(finite: Any, jitted: bool) -> None:
    """KD-94: a Python bool was an AttributeError."""
    net = Net()
    optimizer = opax.adam(0.1)(net.parameters())
    apply = jax.jit(opax.apply_gradients) if jitted else opax.apply_gradients
    got = apply(net, optimizer, gradients(net), all_finite=finite)
    want = opax.apply_gradients(net, optimizer, gradients(net))
    pax.assert_structure_equal(got, want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize("finite", [False, np.bool_(False), np.array(False), jnp.array(False)], ids=repr)
@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=str)
def test_where_not_all_is_finite_nothing_changes(finite: Any, jitted: bool, options: dict[str, Any]) -> None:
    """KD-94: a Python bool was an AttributeError."""
    net = Net()
    factory = opax.chain(opax.clip_by_global_norm(1.0), opax.adamw(opax.schedule.exponential_decay(0.1, 10)))
    net, optimizer = opax.apply_gradients(net, factory(net.parameters(), **options), gradients(net))
    spoiled = jax.tree.map(lambda g: g * jnp.nan, gradients(net))
    apply = jax.jit(opax.apply_gradients) if jitted else opax.apply_gradients
    assert_same(apply(net, optimizer, spoiled, all_finite=finite), (net, optimizer))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("finite", [None, True, False])
def test_dtypes_stay(dtype: Any, finite: Any) -> None:
    with jax.numpy_dtype_promotion("strict"):
        model = jax.tree.map(lambda p: p.astype(dtype), Linear(2, 3))
        optimizer = opax.adam(0.1)(model.parameters())
        new, new_optimizer = opax.apply_gradients(model, optimizer, model.parameters(), finite)
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(new_optimizer[0].mu)} == {jnp.dtype(jnp.float32)}
    pax.assert_structure_equal(new_optimizer, optimizer)


def test_a_step_that_is_left_out_and_one_that_is_not_are_one_trace() -> None:
    step = TraceCounter(opax.apply_gradients)
    net = Net()
    optimizer = opax.adam(0.1)(net.parameters())
    for finite in (True, False, True):
        net, optimizer = step(net, optimizer, gradients(net), jnp.array(finite))
    assert (step.traces, int(optimizer[0].count)) == (1, 2)


@pytest.mark.parametrize("finite", [jnp.ones(2, bool), [True, False], np.ones((1,), bool)], ids=repr)
def test_all_finite_is_a_scalar(finite: Any) -> None:
    net = Net()
    with pytest.raises(ArgumentError, match=r"Expecting a scalar for `all_finite`[^$]*fix:   jnp.all\(all_finite\)"):
        opax.apply_gradients(net, opax.sgd()(net.parameters()), gradients(net), all_finite=finite)


@pytest.mark.parametrize(
    ("finite", "got"), [(1, "1"), (jnp.array(0.5), "float32[]"), ("yes", "'yes'"), ({}, "a dict of 0")]
)
def test_all_finite_is_boolean(finite: Any, got: str) -> None:
    net = Net()
    with pytest.raises(ArgumentTypeError) as caught:
        opax.apply_gradients(net, opax.sgd()(net.parameters()), gradients(net), all_finite=finite)
    assert str(caught.value).startswith(
        f"Expecting a boolean for `all_finite`.\n  where: apply_gradients, `all_finite`\n  got:   {got}\n"
    )
    assert "fix:   all_finite = jnp.all(" in str(caught.value)


def test_only_modules_are_models() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX Module.\n  where: apply_gradients, `model`"):
        opax.apply_gradients({}, opax.sgd()({}), {})  # type: ignore[type-var]


def test_gradients_are_of_the_class_of_the_model() -> None:
    net = Net()
    with pytest.raises(StructureError) as caught:
        opax.apply_gradients(net, opax.sgd()(net.parameters()), net.first)
    assert str(caught.value).startswith(
        "Expecting gradients of the class of the model.\n  where: apply_gradients, `grads`\n  got:   a `Linear`"
    )
    assert "fix:   grads = pax.grad(loss_fn)(model, ...)" in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"flatten": True}], ids=str)
def test_gradients_of_a_model_in_another_mode_are_refused_and_named(options: dict[str, Any]) -> None:
    net = Net()
    with pytest.raises(StructureError) as caught:
        opax.apply_gradients(net, opax.sgd()(net.parameters(), **options), gradients(net.eval()))
    text = str(caught.value)
    assert text.startswith(
        "The gradients and the parameters of the model have different structures.\n  where: apply_gradients, `grads`"
    )
    assert "first._training: got False, want True" in text
    assert "fix:   grads = pax.grad(loss_fn)(model, ...)" in text


def test_gradients_from_before_freezing_are_refused_and_named() -> None:
    """KD-94: a bare assertion, without a text."""
    net = Net()
    grads, optimizer = gradients(net), opax.sgd()(net.parameters())
    net = net.replace(first=pax.freeze_parameters(net.first))
    with pytest.raises(StructureError, match=r"first.weight: got float32\[2,3\], want a `EmptyNode`"):
        opax.apply_gradients(net, optimizer, grads)


def test_an_optimizer_from_before_freezing_is_refused_and_named() -> None:
    net = Net()
    optimizer = opax.sgd()(net.parameters())
    net = net.replace(first=pax.freeze_parameters(net.first))
    with pytest.raises(StructureError) as caught:
        opax.apply_gradients(net, optimizer, gradients(net))
    text = str(caught.value)
    assert text.startswith("The updates and the optimizer's state have different structures.\n  where: transforms[0]")
    assert "and anew after freezing" in text


def test_a_gradient_of_another_shape_is_refused_and_named() -> None:
    net = Net()
    grads = gradients(net)
    grads = grads.replace(first=grads.first.replace(weight=jnp.ones((3, 3))))
    for options in ({}, {"flatten": True}):
        with pytest.raises(StructureError) as caught:
            opax.apply_gradients(net, opax.sgd()(net.parameters(), **options), grads)
        assert str(caught.value).startswith(
            "The gradients and the parameters of the model have different shapes.\n"
            "  where: apply_gradients, `grads`, first.weight\n  got:   float32[3,3]\n  want:  float32[2,3]\n"
        )


def test_the_order_of_the_arguments_is_named() -> None:
    net = Net()
    optimizer = opax.adam(0.1)(net.parameters())
    for arguments in ((optimizer, net, gradients(net)), (net, gradients(net), optimizer)):
        with pytest.raises(ArgumentTypeError, match="the model, its optimizer, the gradients, in this order"):
            opax.apply_gradients(*arguments)


def test_gradients_that_are_integers_are_refused() -> None:
    optimizer = opax.adam(0.1)({"w": jnp.ones(2)})
    with pytest.raises(ArgumentTypeError, match="Expecting gradients that are no integers") as caught:
        opax.transform_gradients({"w": jnp.array([1, 2])}, optimizer, {"w": jnp.ones(2)})
    assert "['w']" in str(caught.value)


def test_gradients_of_a_model_in_another_mode_are_told_the_mode() -> None:
    net = Holder(layer=Linear(2, 2))
    optimizer = opax.sgd(0.1)(net.parameters())
    net = net.eval()
    with pytest.raises(StructureError) as caught:
        opax.apply_gradients(net, optimizer, net.parameters())
    assert "fix:   model = model.train()" in str(caught.value)
    assert "create the optimizer" not in str(caught.value)
