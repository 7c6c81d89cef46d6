"""The table of structures: a structure is found again by modules that agree with it only, whatever has died."""

import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from helpers.modules import Holder


class Tags(NamedTuple):
    items: list[int]


class Words(list[int]):
    """A container that is none of the builtin ones."""


class Thing:
    """An object that equals only itself."""

    def __init__(self, number: int) -> None:
        self.number = number


_VALUES: dict[str, Callable[[int], Any]] = {
    "int": lambda number: number,
    "float": lambda number: number / 7,
    "str": str,
    "tuple": lambda number: (number, (number,)),
    "list": lambda number: [number],
    "dict": lambda number: {"a": number},
    "ordered dict": lambda number: OrderedDict(a=number),
    "set": lambda number: {number},
    "frozen set": lambda number: frozenset({number}),
    "default dict": lambda number: defaultdict(list, {"a": [number]}),
    "named tuple": lambda number: Tags([number]),
    "list in a tuple": lambda number: ([number],),
    "set in a list": lambda number: [{number}],
    "list subclass": lambda number: Words([number]),
    "object": Thing,
    "object in a list": lambda number: [Thing(number)],
    "function": lambda number: lambda: number,
    "bytes": lambda number: bytes([number]),
    "slice": lambda number: slice(number),
    "complex": lambda number: complex(number),
    "range": range,
}

_each = pytest.mark.parametrize("make", _VALUES.values(), ids=_VALUES)


def _reading(value: Any) -> Any:
    """Returns what a value says of the number it was made with."""
    if isinstance(value, Thing):
        return value.number
    if isinstance(value, list | tuple) and value and isinstance(value[0], Thing):
        return value[0].number
    return value() if callable(value) else value


@_each
def test_a_copy_has_the_static_value_of_its_original_whatever_died_before(make: Callable[[int], Any]) -> None:
    structures: list[Any] = []
    for number in range(200):
        module = Holder(value=make(number))
        copy = jax.tree.map(lambda leaf: leaf, module)
        assert _reading(copy.value) == _reading(make(number))
        structures.append(jax.tree.structure(module))  # the structure lives on, the module does not
        del module, copy


@_each
def test_a_mixed_attribute_has_the_static_parts_of_its_original_whatever_died_before(
    make: Callable[[int], Any],
) -> None:
    array, structures = jnp.ones(1), []
    for number in range(200):
        module = Holder(value=[array, make(number)])
        copy = jax.tree.map(lambda leaf: leaf, module)
        assert _reading(copy.value[1]) == _reading(make(number))
        structures.append(jax.tree.structure(module))
        del module, copy


@_each
def test_structures_with_different_static_values_differ_whatever_died_before(make: Callable[[int], Any]) -> None:
    structures: list[Any] = [jax.tree.structure(Holder(value=make(number))) for number in range(100)]
    assert all(a != b for a, b in itertools.pairwise(structures))


@pytest.mark.parametrize("make", [lambda: (3, ("a", 0.1)), lambda: 0.1 + 0.2, lambda: "".join(["a", "b"])])
def test_a_module_with_a_list_is_not_classified_at_every_flattening(make: Callable[[], Any], monkeypatch: Any) -> None:
    modules = [Holder(layers=[jnp.ones(1), jnp.ones(2)], setting=make()) for _ in range(2)]
    structures = [jax.tree.structure(module) for module in modules]
    calls = []
    monkeypatch.setattr("pax._node._compute", lambda *args: calls.append(args))
    assert [jax.tree.structure(module) for module in modules] == structures
    assert calls == []
