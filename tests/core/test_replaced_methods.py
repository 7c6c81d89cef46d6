"""`replace_method`: other methods for one module, without a new class for every call."""

import gc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentTypeError, MutationError


def _double(self: Any, x: Any) -> Any:
    return 2 * x


def _triple(self: Any, x: Any) -> Any:
    return 3 * x


def test_a_method_is_replaced_in_the_new_module_only() -> None:
    linear = Linear(2, 2)
    doubled = linear.replace_method(__call__=_double)
    assert doubled(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert linear(jnp.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_a_replaced_method_sees_the_module() -> None:
    linear = Linear(2, 2).replace_method(total=lambda self: self.weight.sum())
    assert jnp.allclose(linear.total(), 0.6)  # type: ignore[attr-defined]


def test_attributes_are_shared() -> None:
    linear = Linear()
    assert linear.replace_method(__call__=_double).weight is linear.weight


def test_the_class_looks_like_that_of_the_original() -> None:
    linear = Linear(name="fc").replace_method(__call__=_double)
    assert isinstance(linear, Linear)
    assert (type(linear).__name__, type(linear).__module__) == ("Linear", Linear.__module__)
    assert linear.summary() == "(fc) Linear(in=2, out=2)"


def test_special_methods_can_be_replaced() -> None:
    linear = Linear().replace_method(__repr__=lambda self: "mine", __len__=lambda self: 7)
    assert (repr(linear), len(linear)) == ("mine", 7)  # type: ignore[arg-type]


def test_the_replacement_can_call_the_original() -> None:
    linear = Linear(2, 2).replace_method(__call__=lambda self, x: Linear.__call__(self, x) + 1)
    assert linear(jnp.zeros((1, 2))).tolist() == [[1.0, 1.0]]


def test_more_methods_can_be_replaced_later() -> None:
    linear: Any = Linear().replace_method(__call__=_double).replace_method(extra=_triple)
    assert (linear(1), linear.extra(1)) == (2, 3)


def test_a_replaced_method_can_be_replaced_again() -> None:
    linear = Linear().replace_method(__call__=_double).replace_method(__call__=_triple)
    assert linear(1) == 3  # type: ignore[arg-type]


def test_modules_with_the_same_functions_have_equal_structures() -> None:
    first, second = Linear().replace_method(__call__=_double), Linear().replace_method(__call__=_double)
    assert type(first) is type(second)
    assert treedef(first) == treedef(second)


def test_modules_with_other_functions_have_other_structures() -> None:
    first, second = Linear().replace_method(__call__=_double), Linear().replace_method(__call__=_triple)
    assert type(first) is type(second)
    assert treedef(first) != treedef(second)


def test_replacing_again_and_again_traces_once_and_leaves_no_classes() -> None:
    run = TraceCounter(lambda linear, x: linear(x))
    linear = Linear()
    run(linear.replace_method(__call__=_double), jnp.ones(1))
    gc.collect()
    before = len(pax.Module.__subclasses__()) + len(Linear.__subclasses__())
    for _ in range(10):
        run(linear.replace_method(__call__=_double), jnp.ones(1))
    gc.collect()
    assert run.traces == 1
    assert len(pax.Module.__subclasses__()) + len(Linear.__subclasses__()) == before


@pytest.mark.parametrize(
    "operation",
    [
        lambda m: m.copy(),
        lambda m: m.eval(),
        lambda m: jax.tree.map(lambda x: x, m),
        lambda m: m.replace(name="x"),
        lambda m: m.parameters(),
        pax.freeze_parameters,
        lambda m: m.apply(lambda below: below),
        lambda m: Holder(a=m).copy().a,
    ],
    ids=["copy", "eval", "tree_map", "replace", "parameters", "freeze", "apply", "submodule"],
)
def test_operations_keep_replaced_methods(operation: Callable[[Any], Any]) -> None:
    assert operation(Linear().replace_method(__call__=_double))(1) == 2


def test_a_replaced_parameters_method_counts() -> None:
    linear = Linear().replace_method(parameters=lambda self: pax.filter(self, "bias"))
    assert len(jax.tree.leaves(linear.parameters())) == 1


def test_a_replaced_parameters_method_leaves_out_what_is_frozen() -> None:
    linear = Linear().replace_method(parameters=lambda self: self)
    assert jax.tree.leaves(pax.freeze_parameters(linear).parameters()) == []


def test_a_replaced_method_changes_the_module_in_a_purecall_only() -> None:
    def count_by_ten(self: Any, x: Any = None) -> Any:
        self.count = self.count + 10
        return x

    counter = Counter().replace_method(__call__=count_by_ten)
    new, _ = pax.purecall(counter)
    assert (int(new.count), int(counter.count)) == (10, 0)
    with pytest.raises(MutationError):
        counter()


def test_an_original_and_its_variant_differ() -> None:
    linear = Linear()
    assert linear.replace_method(__call__=_double) != linear


def test_what_cannot_be_called_cannot_become_a_method() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        Net().replace_method(forward=3)  # type: ignore[arg-type]
    assert str(caught.value).startswith("`forward` cannot become a method.")
    assert "where: Net" in str(caught.value)
    assert "fix:   module.replace_method(forward=lambda self, x: ...)" in str(caught.value)
