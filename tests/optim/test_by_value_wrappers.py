"""What wraps functions that are compared by what they hold: how it looks, and how it is pickled."""

import copy
import functools
import inspect
import pickle
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.functions import Comparable, Owner, named
from opax._by_value import ByValue, by_value
from pax.errors import ArgumentTypeError

PARAMS = {"w": jnp.ones(2)}


def holding(value: Any) -> Any:
    """Returns a new function whose closure holds ``value``."""
    return by_value(lambda: value)


def same(a: Any, b: Any) -> bool:
    """Whether two wrappers are equal; their hashes have to agree."""
    assert a != b or hash(a) == hash(b)
    return bool(a == b)


@pytest.mark.parametrize("function", [named, len, np.sin, jnp.sin, jax.jit(named), Comparable(1), Comparable, dict])
def test_what_is_comparable_is_returned_as_it_is(function: Any) -> None:
    assert by_value(function) is function
    assert by_value(by_value(function)) is function


def test_wrappers_pass_calls_through_and_look_like_the_function() -> None:
    def function(a: int, *, b: int = 2) -> tuple[int, int]:
        """Says what it does."""
        return a, b

    wrapper: Any = by_value(function)
    assert isinstance(wrapper, ByValue)
    assert wrapper(1, b=3) == (1, 3)
    assert wrapper.__wrapped__ is function
    assert (getattr(wrapper, "__name__", None), wrapper.__doc__) == ("function", "Says what it does.")
    assert inspect.signature(wrapper) == inspect.signature(function)
    assert by_value(wrapper) is wrapper
    assert wrapper != function
    with pytest.raises(ZeroDivisionError):
        by_value(lambda: 1 / 0)()


def test_bound_methods_and_partials_are_equal_by_their_parts() -> None:
    owner = Owner()
    assert same(by_value(owner.method), by_value(owner.method))
    assert not same(by_value(owner.method), by_value(Owner().method))
    assert same(by_value(Comparable(1).method), by_value(Comparable(1).method))
    assert by_value(functools.partial(named, 1.5))() == 1.5


def test_the_text_shows_the_contents_and_no_address() -> None:
    assert repr(by_value(optax.linear_schedule(1.0, 0.5, 10))) == (
        "polynomial_schedule.<locals>.schedule"
        "[end_value=0.5, init_value=1.0, power=1, transition_begin=0, transition_steps=10]"
    )
    assert repr(by_value(functools.partial(max, 1, key=(2,)))) == "max(1, key=(2,))"
    for value in (Owner(), [1, [2]], {"a": 1}, np.zeros(3), holding(3), Comparable(1).method):
        assert "0x" not in repr(holding(value))


@pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps, lambda x: pickle.dumps([{"x": x}], 2)])  # type: ignore[attr-defined]
def test_pickling_a_closure_says_what_to_do(dumps: Any) -> None:
    optimizer = opax.sgd(optax.linear_schedule(1.0, 0.0, 10))(PARAMS)
    for value in (holding(1), by_value(functools.partial(lambda x: x, 1)), optimizer):
        with pytest.raises(ArgumentTypeError) as caught:
            dumps(value)
        assert "Cannot pickle a function that another function made." in str(caught.value)
        assert "opax.schedule.cosine_decay(0.1, 100)" in str(caught.value)
        assert "cloudpickle" in str(caught.value)
    with pytest.raises(ArgumentTypeError, match="fix:   do something else,"):
        dumps(by_value(lambda: 2, fix="do something else"))


@pytest.mark.parametrize("function", [functools.partial(named, 2.0), Comparable(2).method])
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_wrappers_of_picklable_functions_are_picklable(function: Any, pickler: Any) -> None:
    wrapper = by_value(function)
    again = pickler.loads(pickler.dumps(wrapper))
    assert isinstance(wrapper, ByValue)
    assert same(again, wrapper)


def test_cloudpickle_takes_closures() -> None:
    optimizer = opax.sgd(optax.linear_schedule(1.0, 0.0, 10))(PARAMS)
    again = cloudpickle.loads(cloudpickle.dumps(optimizer))
    assert same(again[-1].schedule_fn, optimizer[-1].schedule_fn)
    pax.assert_structure_equal(again, optimizer)


def test_copies_are_the_same_object() -> None:
    function = holding([1])
    assert copy.copy(function) is function
    assert copy.deepcopy([function])[0] is function
    optimizer = opax.sgd(optax.linear_schedule(1.0, 0.0, 10))(PARAMS)
    pax.assert_structure_equal(copy.deepcopy(optimizer), optimizer)
