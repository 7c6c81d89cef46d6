"""`purecall` and `module_and_value`: the updated module together with the output."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear
from helpers.tally import Tally, rename
from pax.errors import ArgumentTypeError, MutationError

# ---- purecall --------------------------------------------------------------------------------------------------------


def test_purecall_returns_the_updated_module_and_the_output() -> None:
    tally = Tally()
    updated, output = pax.purecall(tally, 2, twice=True)
    assert (int(updated.count), int(output), int(tally.count)) == (4, 4, 0)
    assert type(updated) is Tally


def test_purecall_lets_modules_in_its_arguments_change() -> None:
    class Caller(pax.Module):
        def __call__(self, other: Tally) -> Tally:
            other.note = "changed"
            return other

    tally = Tally()
    _, other = pax.purecall(Caller(), tally)
    assert (other.note, tally.note) == ("changed", "new")


def test_purecall_of_a_module_that_changes_nothing_gives_an_equal_module() -> None:
    linear = Linear(2, 3)
    updated, output = pax.purecall(linear, jnp.ones((1, 2)))
    assert updated == linear
    assert output.shape == (1, 3)


def test_purecall_works_with_what_the_class_defines() -> None:
    counter = Counter().replace_method(__call__=lambda self: "replaced")
    assert pax.purecall(counter)[1] == "replaced"


@pytest.mark.parametrize("thing", [3, len, None, [Tally()], Tally])
def test_purecall_refuses_what_is_no_module(thing: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PAX module") as caught:
        pax.purecall(thing, 1)
    assert isinstance(caught.value, AssertionError)
    assert "fix:   module, output = pax.purecall(module, x)" in str(caught.value)


def test_purecall_refuses_a_module_that_is_not_callable() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a callable module") as caught:
        pax.purecall(Holder(), 1)
    assert "where: Holder" in str(caught.value)
    assert "define `__call__`" in str(caught.value)


# ---- module_and_value ------------------------------------------------------------------------------------------------


def test_module_and_value_of_a_bound_method() -> None:
    tally = Tally()
    updated, value = pax.module_and_value(tally.add)(3)
    assert (int(updated.count), int(updated.inner.count), value) == (3, 1, "added 3")
    assert tally.count == 0


def test_module_and_value_of_a_module() -> None:
    tally = Tally()
    updated, value = pax.module_and_value(tally)(3, twice=True)
    assert (int(updated.count), int(value), int(tally.count)) == (6, 6, 0)


def test_module_and_value_of_a_function() -> None:
    def add_twice(module: Tally, amount: int, *, times: int) -> str:
        for _ in range(times):
            module.add(amount)
        return "done"

    tally = Tally()
    updated, value = pax.module_and_value(add_twice)(tally, 3, times=2)
    assert (int(updated.count), value, int(tally.count)) == (6, "done", 0)


def test_module_and_value_decorates_a_method() -> None:
    tally = Tally()
    updated, value = tally.step(2)
    assert (int(updated.count), value, int(tally.count)) == (2, "stepped", 0)


def test_module_and_value_keeps_the_metadata_of_a_function() -> None:
    assert pax.module_and_value(rename).__name__ == "rename"


def test_module_and_value_works_under_jit() -> None:
    step = jax.jit(lambda tally: pax.module_and_value(tally.add)(2)[0])
    assert step(step(Tally())).count == 4


def test_module_and_value_returns_a_module_that_is_immutable() -> None:
    updated, _ = pax.module_and_value(Tally().add)(1)
    with pytest.raises(MutationError):
        updated.note = "changed"


def test_module_and_value_refuses_a_module_that_is_not_callable() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a callable module") as caught:
        pax.module_and_value(Holder())
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("thing", [3, "text", None, [Tally()]])
def test_module_and_value_refuses_what_cannot_be_called(thing: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a module or a module's method") as caught:
        pax.module_and_value(thing)
    assert isinstance(caught.value, ValueError)


def test_module_and_value_of_a_function_needs_a_module_as_first_argument() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PAX module") as caught:
        pax.module_and_value(lambda module: module)(3)
    assert isinstance(caught.value, AssertionError)
