"""opax.apply_updates, opax.apply_gradients and opax.transform_gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Holder, Linear, Norm
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
    ("updates", "text"),
    [
        ({"v": jnp.ones(1)}, "The updates and parameters have different structures.\n  where: apply_updates"),
        ({"w": jnp.ones(2)}, "The updates and parameters have different shapes.\n  where: apply_updates, ['w']"),
    ],
)
def test_updates_have_to_fit_the_parameters(updates: Any, text: str) -> None:
    with pytest.raises(StructureError) as caught:
        opax.apply_updates({"w": jnp.ones(1)}, updates)
    assert str(caught.value).startswith(text)


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


@pytest.mark.parametrize("finite", [True, False, np.bool_(True), jnp.array(False), jnp.array(True)])
@pytest.mark.parametrize("jitted", [True, False])
def test_where_not_all_is_finite_nothing_changes(finite: Any, jitted: bool) -> None:
    """KD-94: a Python bool was an AttributeError."""
    net = Net()
    optimizer = opax.adam(0.1)(net.parameters())
    grads = gradients(net)
    if not finite:
        grads = jax.tree.map(lambda g: g * jnp.nan, grads)
    apply = jax.jit(opax.apply_gradients) if jitted else opax.apply_gradients
    got = apply(net, optimizer, grads, all_finite=finite)
    want = opax.apply_gradients(net, optimizer, grads) if finite else (net, optimizer)
    pax.assert_structure_equal(got, want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_all_finite_is_a_scalar() -> None:
    net = Net()
    with pytest.raises(ArgumentError, match=r"Expecting a scalar for `all_finite`[^$]*fix:   jnp.all\(all_finite\)"):
        opax.apply_gradients(net, opax.sgd()(net.parameters()), gradients(net), all_finite=jnp.ones(2, bool))


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


def test_gradients_of_a_model_in_another_mode_are_refused_and_named() -> None:
    net = Net()
    with pytest.raises(StructureError, match="have different structures"):
        opax.apply_gradients(net, opax.sgd()(net.parameters()), gradients(net.eval()))
