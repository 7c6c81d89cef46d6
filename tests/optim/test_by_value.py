"""Functions that are compared by what they hold."""

import copy
import functools
import gc
import re
import weakref
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opax
from helpers.functions import Comparable, Owner, named
from helpers.traces import TraceCounter
from opax._by_value import ByValue, by_value

Pair = namedtuple("Pair", "first second")  # one without types
PARAMS = {"w": jnp.ones(2)}
FACTOR = 2.0


def holding(value: Any) -> Callable[[], Any]:
    """Returns a new function whose closure holds ``value``."""
    return by_value(lambda: value)


def same(a: Any, b: Any) -> bool:
    """Whether two wrappers are equal; their hashes have to agree."""
    assert (a == b) == (b == a) == (not a != b)
    if a == b:
        assert hash(a) == hash(b)
    return bool(a == b)


class Rude:
    """Raises when it is compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not for comparing")

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: optax.constant_schedule(0.1),
        lambda: optax.cosine_decay_schedule(0.1, 100),
        lambda: optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10),
        lambda: optax.piecewise_constant_schedule(0.1, {3: 0.5}),
        lambda: optax.sgdr_schedule([{"init_value": 0.0, "peak_value": 0.1, "decay_steps": 8, "warmup_steps": 2}]),
        lambda: functools.partial(named),
        lambda: lambda count: 0.1,
    ],
)
def test_three_equal_optimizers_are_one_trace(schedule: Any) -> None:
    step = TraceCounter(lambda optimizer: opax.transform_gradients(PARAMS, optimizer, PARAMS))
    factories = [opax.scale_by_schedule(schedule()) for _ in range(3)]
    assert len(set(factories)) == 1
    for factory in factories:
        _, optimizer = step(factory(PARAMS))
        step(optimizer)
    assert step.traces == 1
    assert callable(factories[0](PARAMS).schedule_fn)


def test_other_hyper_parameters_are_another_trace() -> None:
    step = TraceCounter(lambda optimizer: opax.transform_gradients(PARAMS, optimizer, PARAMS)[0]["w"])
    rates = [opax.sgd(optax.linear_schedule(0.0, 1.0, steps), 0.0)(PARAMS) for steps in (1, 2)]
    np.testing.assert_allclose([step(rate)[0] for rate in rates], [1.0, 0.5])
    assert step.traces == 2


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        float("nan"),
        -0.0,
        1j,
        "text",
        b"bytes",
        (1, [2.0, {"a": None}]),
        Pair(1, (2,)),
        {1, 2},
        frozenset({"a"}),
        np.float32(1.5),
        np.arange(3),
        jnp.arange(3),
        jnp.asarray(2.0),
        Comparable(3),
        named,
        len,
        np.sum,
        jnp.float32,
        functools.partial(named, 1.0),
        Comparable(3).method,
        jax.jit(named),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value)),
)
def test_copies_are_equal(value: Any) -> None:
    is_function = callable(value) and not isinstance(value, Comparable)
    again = value if is_function else copy.deepcopy(value)
    assert same(holding(value), holding(again))
    assert not same(holding(value), holding("something else"))
    assert holding(value)() is value


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, np.int32(1), np.int64(1), np.float32(1), 1 + 0j, "1", b"1"),
        (0.0, -0.0, 0, False, None),
        ((1,), [1], {1}, frozenset({1}), {1: 1}, Pair(1, 1)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),  # the order counts: a loop over it may compute something else
        (np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), jnp.zeros(2), np.array([0.0, -0.0])),
        (jnp.asarray(1.0), jnp.asarray(np.float32(1.0))),  # weakly typed and not
        (Comparable(1), Comparable(2)),
        (Comparable(1).method, Comparable(2).method),
        (Owner(), Owner(), Owner().method, Owner().method),
        (functools.partial(named, 1), functools.partial(named, 1.0), functools.partial(named, x=1), named),
        (jax.jit(lambda: 1), jax.jit(lambda: 1)),
        (object(), object(), Rude(), Rude()),
        (holding(1), holding(2), holding(1.0)),
        (np.array([object()]), np.array([object()])),
    ],
)
def test_different_contents_are_different(values: tuple[Any, ...]) -> None:
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            assert same(holding(a), holding(b)) == (i == j)


def test_functions_within_are_compared_in_the_same_way() -> None:
    def outer(rate: float) -> Any:
        def inner(step: float) -> float:
            return rate * step

        return [inner, functools.partial(inner), {"inner": inner}]

    assert same(holding(outer(0.5)), holding(outer(0.5)))
    assert not same(holding(outer(0.5)), holding(outer(0.25)))
    assert same(by_value(functools.partial(outer(0.5)[0])), by_value(functools.partial(outer(0.5)[0])))
    assert same(holding(holding(1)), holding(holding(1)))


def test_defaults_and_attributes_count() -> None:
    def make(a: float = 1.0, b: float = 2.0, note: str = "") -> Any:
        def function(x: float = a, *, y: float = b) -> float:
            return x + y

        if note:
            function.note = note  # type: ignore[attr-defined]
        return by_value(function)

    variants: list[dict[str, Any]] = [{}, {"a": 3.0}, {"b": 3.0}, {"a": 1}, {"note": "x"}]
    for i, first in enumerate(variants):
        for j, second in enumerate(variants):
            assert same(make(**first), make(**second)) == (i == j)


def test_the_code_counts() -> None:
    functions = [by_value(lambda: 1), by_value(lambda: 1.0), by_value(lambda: True), by_value(lambda x: 1)]
    assert len(set(functions)) == 4


def test_global_variables_that_a_function_uses_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Any:
        return by_value(lambda x: x * FACTOR)

    before = make()
    assert same(before, make())
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert not same(before, make())


def test_recursion_ends() -> None:
    def make(limit: int) -> Any:
        def even(x: int) -> bool:
            return x < limit or odd(x - 1)

        def odd(x: int) -> bool:
            return x >= limit and even(x - 1)

        return by_value(even)

    assert same(make(1), make(1))
    assert not same(make(1), make(2))
    assert "..." in repr(make(1))
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    assert same(holding(cyclic), holding(cyclic))


def test_a_very_deep_or_large_content_is_no_error() -> None:
    def deep(levels: int) -> Any:
        value: Any = ()
        for _ in range(levels):
            value = (value,)
        return value

    assert same(holding(deep(40)), holding(deep(40)))
    values: list[Any] = [deep(5000), [[] for _ in range(20_000)]]
    for value in values:
        assert same(holding(value), holding(value))
    large = np.zeros(10_000)
    assert same(holding(large), holding(large))
    assert not same(holding(large), holding(large.copy()))


def test_a_variable_without_a_value_makes_a_function_equal_to_itself_only() -> None:
    def make() -> Any:
        def function() -> Any:
            return later

        found = by_value(function)
        assert "later=?" in repr(found)
        later = 1
        return found

    assert not same(make(), make())
    first = make()
    assert same(first, first)
    assert first() == 1


def test_a_function_stays_equal_to_itself_when_it_writes_to_its_closure() -> None:
    # As optax's cosine does in its first call: an int becomes a float.
    schedule = optax.cosine_decay_schedule(0.1, 100)
    before = by_value(schedule)
    schedule(jnp.asarray(1))
    assert by_value(schedule) is before
    assert same(by_value(optax.cosine_decay_schedule(0.1, 100)), before)


def test_nothing_keeps_wrappers_alive() -> None:
    function = holding(1)
    reference = weakref.ref(function)
    del function
    gc.collect()
    assert reference() is None


_atoms = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=True)
    | st.text(max_size=2)
    | st.sampled_from([named, len])
    | st.floats(-1, 1).map(lambda x: functools.partial(named, x))
)
_contents = st.recursive(
    _atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | inner.map(holding)
    ),
    max_leaves=8,
)


def _like(value: Any) -> Any:
    """Returns a copy of each container and function, with another identity."""
    if isinstance(value, ByValue):
        return holding(_like(value()))
    if isinstance(value, functools.partial):
        return functools.partial(value.func, *map(_like, value.args))
    if isinstance(value, list | tuple):
        return type(value)(map(_like, value))
    if isinstance(value, dict):
        return {name: _like(item) for name, item in value.items()}
    return float(repr(value)) if isinstance(value, float) else value


def _text(value: Any) -> str:
    """Returns what tells two contents apart."""
    if isinstance(value, ByValue):
        return f"holding({_text(value())})"
    if isinstance(value, functools.partial):
        return f"partial({', '.join(map(_text, value.args))})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{name!r}: {_text(item)}' for name, item in value.items())})"
    return repr(value)


@settings(max_examples=200, deadline=None)
@given(_contents, _contents)
def test_equality_is_that_of_contents(a: Any, b: Any) -> None:
    assert same(holding(a), holding(_like(a)))
    assert same(holding(a), holding(b)) == (_text(a) == _text(b))
    assert repr(holding(a)).startswith("holding.<locals>.<lambda>[value=")
