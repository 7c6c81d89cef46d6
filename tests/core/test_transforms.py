"""The methods of modules as functions, and the comparison of structures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm
from pax.errors import ArgumentTypeError, StructureError


def _other(net: Net) -> Any:
    return jax.tree.map(lambda x: x + 1, net)


_FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "train": (lambda net: pax.enable_train_mode(net.eval()), lambda net: net.eval().train()),
    "eval": (pax.enable_eval_mode, lambda net: net.eval()),
    "parameters": (pax.select_parameters, lambda net: net.parameters()),
    "update": (lambda net: pax.update_parameters(net, params=net), lambda net: net.update_parameters(net)),
}


@pytest.mark.parametrize(("function", "method"), _FORMS.values(), ids=_FORMS)
def test_a_function_does_what_the_method_does(function: Callable[[Any], Any], method: Callable[[Any], Any]) -> None:
    net = Net()
    assert function(net) == method(net)


def test_an_update_takes_the_parameters_of_a_full_module() -> None:
    net = Net()
    other = _other(net)
    updated = pax.update_parameters(net, params=other)
    assert updated.encoder.weight is other.encoder.weight
    assert updated.counter.count is net.counter.count


def test_the_parameters_of_an_update_are_given_by_keyword() -> None:
    with pytest.raises(TypeError, match="positional"):
        pax.update_parameters(Net(), Net())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("function", "fix"),
    [
        (pax.enable_train_mode, "pax.enable_train_mode(module)"),
        (pax.enable_eval_mode, "pax.enable_eval_mode(module)"),
        (pax.select_parameters, "pax.select_parameters(module)"),
        (lambda m: pax.update_parameters(m, params=Net()), "pax.update_parameters(module, params=params)"),
        (lambda m: pax.update_parameters(Net(), params=m), "module.update_parameters(new_module)"),
        (lambda m: pax.unfreeze_parameters(Net(), origin=m), "pax.unfreeze_parameters(module, origin=original)"),
    ],
    ids=["train", "eval", "parameters", "update", "params", "origin"],
)
def test_something_else_than_a_module_is_an_error(function: Callable[[Any], Any], fix: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        function([1, 2])
    assert str(caught.value).startswith("Expecting a PAX module.")
    assert "got:   a list of 2" in str(caught.value)
    assert f"fix:   {fix}" in str(caught.value)


# ---- assert_structure_equal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Net, Net),
        (lambda: {"a": jnp.ones(1)}, lambda: {"a": 3}),
        (lambda: pax.freeze_parameters(Net()), lambda: pax.freeze_parameters(Net())),
        (lambda: jnp.ones(1), lambda: 3),
        (lambda: jax.eval_shape(Net), Net),
    ],
    ids=["modules", "containers", "frozen", "leaves", "shapes"],
)
def test_trees_of_one_structure_pass(a: Callable[[], Any], b: Callable[[], Any]) -> None:
    assert pax.assert_structure_equal(a(), b()) is True


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (Net, lambda: pax.freeze_parameters(Net()), "encoder._frozen: got nothing, want a static value"),
        (Net, lambda: Net().eval(), "encoder._training: got True, want False"),
        (Net, lambda: Net().replace(rate=0.1), "rate: got 0.5, want 0.1"),
        (lambda: Holder(a=[Linear()]), lambda: Holder(a=[Norm()]), "a[0]: got a `Linear`, want a `Norm`"),
        (lambda: Linear(1, 1), lambda: Linear(2, 1), "in_features: got 1, want 2"),
        (Linear, lambda: Linear(name="a"), "_name: got None, want 'a'"),
        (lambda: {"a": 1}, lambda: {"b": 1}, "['a']: got 1, want nothing"),
        (lambda: [1], lambda: (1,), "the root: got a list of 1, want a tuple of 1"),
        (lambda: [1, 2], lambda: [1], "[1]: got 2, want nothing"),
        (Linear, Counter, "the root: got a `Linear`, want a `Counter`"),
        (lambda: 3, lambda: [3], "the root: got 3, want a list of 1"),
        (lambda: Net().parameters(), Net, "norm.mean: got"),
    ],
    ids=[
        "frozen",
        "mode",
        "static value",
        "class",
        "static value of the root",
        "name",
        "keys",
        "containers",
        "length",
        "root",
        "leaf",
        "empty node",
    ],
)
def test_trees_of_different_structures_raise_and_name_the_place(
    a: Callable[[], Any], b: Callable[[], Any], line: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        pax.assert_structure_equal(a(), b())
    assert isinstance(caught.value, StructureError)
    assert str(caught.value).startswith("The two trees have different structures.")
    assert line in str(caught.value)
    assert "want:  equal structures" in str(caught.value)


def test_the_listing_of_differences_ends_after_ten() -> None:
    with pytest.raises(StructureError, match="… and more"):
        pax.assert_structure_equal([Linear() for _ in range(20)], [Linear().eval() for _ in range(20)])


def test_an_attribute_with_static_parts_in_one_tree_only_is_named() -> None:
    with pytest.raises(AssertionError, match=r"parts: got static parts \('a',\), want no static parts"):
        pax.assert_structure_equal(Holder(parts=[jnp.ones(1), "a"]), Holder(parts=[jnp.ones(1), jnp.ones(1)]))
