"""Static values: when two are interchangeable, which keys they get, and how their containers are copied."""

import functools
import math
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from pax._static import copy_containers, is_changeable, static_equal, static_key


class Point(NamedTuple):
    x: Any
    y: Any


class Undecided:
    """Its comparison raises."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Vague:
    """Its comparison gives something without truth value."""

    def __eq__(self, other: object) -> Any:
        return np.array([True, True])

    __hash__ = None  # type: ignore[assignment]


class Number:
    """Compares by content, as a user's configuration may."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def _double(x: float) -> float:
    return 2 * x


_EQUAL: dict[str, tuple[Any, Any]] = {
    "ints": (10**20, 10**20),
    "text": ("a" * 2, "aa"),
    "nan": (math.nan, float("nan")),
    "infinity": (math.inf, math.inf),
    "zeros": (0.0, 0.0),
    "lists": ([1, [2.0]], [1, [2.0]]),
    "tuples": ((1, (2,)), (1, (2,))),
    "dicts in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "ordered dicts": (OrderedDict(a=1, b=2), OrderedDict(a=1, b=2)),
    "sets": ({1, 2}, {2, 1}),
    "partials": (functools.partial(_double, 1), functools.partial(_double, 1)),
    "slices": (slice(1, 2), slice(1, 2)),
    "objects with a comparison": (Number(1), Number(1)),
    "nan in a list": ([math.nan], [math.nan]),
}
_UNEQUAL: dict[str, tuple[Any, Any]] = {
    "int and float": (1, 1.0),
    "int and bool": (1, True),
    "float and bool": (0.0, False),
    "zeros of another sign": (0.0, -0.0),
    "nan and number": (math.nan, 0.0),
    "int and float in a list": ([1], [1.0]),
    "int and bool in a dict": ({"a": 1}, {"a": True}),
    "int and bool in nested containers": ({"a": [(1,)]}, {"a": [(True,)]}),
    "list and tuple": ([1], (1,)),
    "dict and ordered dict": ({"a": 1}, OrderedDict(a=1)),
    "ordered dicts in another order": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    "more entries": ([1], [1, 2]),
    "other keys": ({"a": 1}, {"b": 1}),
    "functions": (lambda x: x, lambda x: x),
    "partials of other arguments": (functools.partial(_double, 1), functools.partial(_double, 1.0)),
    "partials of other keywords": (functools.partial(_double, x=1), functools.partial(_double, x=2)),
    "comparison that raises": (Undecided(), Undecided()),
    "comparison without truth value": (Vague(), Vague()),
    "plain objects": (object(), object()),
    "text and bytes": ("a", b"a"),
    "numpy scalar and float": (np.float32(1), 1.0),
    "named tuple and tuple": (Point(1, 2), (1, 2)),
    "int and bool in a named tuple": (Point(1, 2), Point(True, 2)),
    "zeros of another sign in a named tuple": (Point(0.0, 2), Point(-0.0, 2)),
    "int and bool in a set": ({1}, {True}),
    "int and bool in a frozenset": (frozenset({1}), frozenset({True})),
    "int and bool as key": ({1: "a"}, {True: "a"}),
    "int and float as key of an ordered dict": (OrderedDict({1: "a"}), OrderedDict({1.0: "a"})),
    "default dicts of other factories": (defaultdict(list), defaultdict(int)),
}


@pytest.mark.parametrize(("a", "b"), _EQUAL.values(), ids=_EQUAL)
def test_interchangeable_values_are_equal(a: Any, b: Any) -> None:
    assert static_equal(a, b)


@pytest.mark.parametrize(("a", "b"), _UNEQUAL.values(), ids=_UNEQUAL)
def test_values_of_another_type_sign_or_content_are_unequal(a: Any, b: Any) -> None:
    assert not static_equal(a, b)
    assert not static_equal(b, a)


@pytest.mark.parametrize("value", [Undecided(), Vague()], ids=["raises", "no truth value"])
def test_a_value_without_a_usable_comparison_equals_itself(value: Any) -> None:
    assert static_equal(value, value)


@pytest.mark.parametrize(("a", "b"), _UNEQUAL.values(), ids=_UNEQUAL)
def test_unequal_values_have_unequal_keys(a: Any, b: Any) -> None:
    assert static_key(a) != static_key(b)


@pytest.mark.parametrize(
    "name", ["ints", "text", "nan", "zeros", "lists", "tuples", "ordered dicts", "partials", "slices"]
)
def test_equal_builtin_data_have_equal_hashable_keys(name: str) -> None:
    a, b = map(static_key, _EQUAL[name])
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, Undecided(), [Vague()], {"a": Undecided()}, {"a": {1}}],
    ids=["a set", "an object", "a list", "a dictionary", "a set in a dictionary"],
)
def test_every_value_has_a_hashable_key(value: Any) -> None:
    assert isinstance(hash(static_key(value)), int)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], True),
        ({}, True),
        ({1}, True),
        (OrderedDict(), True),
        (defaultdict(list), True),
        ((1, [2]), True),
        (Point(1, []), True),
        ((1, (2,)), False),
        ("text", False),
        (_double, False),
        (frozenset({1}), False),
    ],
)
def test_builtin_containers_are_changeable_also_in_tuples(value: Any, expected: bool) -> None:
    assert is_changeable(value) is expected


@pytest.mark.parametrize(
    "value",
    [
        [1, [2]],
        {"a": [1]},
        OrderedDict(b=[1], a=[2]),
        defaultdict(list, {"a": [1]}),
        {1, 2},
        (1, [2]),
        Point([1], {"a": 2}),
    ],
    ids=["list", "dict", "ordered dict", "default dict", "set", "tuple", "named tuple"],
)
def test_a_copy_has_the_type_and_content_of_the_original(value: Any) -> None:
    copy = copy_containers(value)
    assert type(copy) is type(value)
    assert copy == value


@pytest.mark.parametrize(
    "inner",
    [
        lambda box: box["a"],
        lambda box: box["a"][0],
        lambda box: box["b"][1],
        lambda box: box["c"].x,
    ],
    ids=["list", "list in list", "list in tuple", "list in named tuple"],
)
def test_a_copy_shares_no_container_at_any_depth(inner: Callable[[Any], list[int]]) -> None:
    box = {"a": [[1]], "b": (0, [1]), "c": Point([1], 2)}
    copy = copy_containers(box)
    inner(copy).append(5)
    assert 5 not in inner(box)


def test_a_copy_of_a_default_dict_keeps_its_factory() -> None:
    assert copy_containers(defaultdict(list))["new"] == []


def test_a_copy_of_an_ordered_dict_keeps_its_order() -> None:
    assert list(copy_containers(OrderedDict(b=1, a=2))) == ["b", "a"]


@pytest.mark.parametrize("value", [Number(1), _double, operator.add], ids=["object", "function", "builtin"])
def test_a_copy_shares_what_is_no_container(value: Any) -> None:
    assert copy_containers([value])[0] is value


def test_an_instance_of_a_subclass_of_list_is_shared() -> None:
    class Names(list[str]):
        pass

    names = Names(["a"])
    assert copy_containers(names) is names
