"""Equal modules share one structure: what makes two structures equal, and that the table of them does not grow."""

import functools
import gc
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Holder, Linear, Net, ParameterHolder
from helpers.traces import TraceCounter
from helpers.treedefs import treedef


class Undecided:
    """Its comparison raises, and it has no hash."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Setting:
    """Compares by content and has no hash."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def _structure(**attributes: Any) -> Any:
    return treedef(Holder(**attributes))


_UNDECIDED = Undecided()
_SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "the same value": (lambda: 3, lambda: 3),
    "nan": (lambda: math.nan, lambda: float("nan")),
    "lists built apart": (lambda: [1, {"a": (2,)}], lambda: [1, {"a": (2,)}]),
    "dicts in another order": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "sets": (lambda: {1, 2}, lambda: {2, 1}),
    "one function": (lambda: jax.nn.relu, lambda: jax.nn.relu),
    "partials of one function": (
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    ),
    "objects that compare equal": (lambda: Setting(1), lambda: Setting(1)),
    "one object whose comparison raises": (lambda: _UNDECIDED, lambda: _UNDECIDED),
    "mixed containers": (lambda: [jnp.ones(1), "a", 2], lambda: [jnp.zeros(1), "a", 2]),
}
_DIFFERENT: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "values": (lambda: 3, lambda: 4),
    "int and float": (lambda: 1, lambda: 1.0),
    "int and bool": (lambda: 1, lambda: True),
    "zeros of another sign": (lambda: 0.0, lambda: -0.0),
    "int and bool in a list": (lambda: [1], lambda: [True]),
    "list and tuple": (lambda: [1], lambda: (1,)),
    "functions built apart": (lambda: lambda x: x, lambda: lambda x: x),
    "partials of other arguments": (
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
    ),
    "objects that compare unequal": (lambda: Setting(1), lambda: Setting(2)),
    "objects whose comparison raises": (Undecided, Undecided),
    "static and child": (lambda: 3, lambda: jnp.ones(1)),
    "array and list": (lambda: jnp.ones(1), lambda: [jnp.ones(1)]),
    "static parts of mixed containers": (lambda: [jnp.ones(1), 1], lambda: [jnp.ones(1), 1.0]),
    "places of static parts": (lambda: [jnp.ones(1), 1], lambda: [1, jnp.ones(1)]),
    "array and empty node": (lambda: jnp.ones(1), lambda: pax.EmptyNode()),
}


@pytest.mark.parametrize(("a", "b"), _SAME.values(), ids=_SAME)
def test_modules_with_interchangeable_attributes_have_equal_structures(
    a: Callable[[], Any], b: Callable[[], Any]
) -> None:
    assert _structure(value=a()) == _structure(value=b())


@pytest.mark.parametrize(("a", "b"), _DIFFERENT.values(), ids=_DIFFERENT)
def test_modules_with_other_attributes_have_unequal_structures(a: Callable[[], Any], b: Callable[[], Any]) -> None:
    assert _structure(value=a()) != _structure(value=b())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda: Holder(x=1), lambda: ParameterHolder(x=1)),
        (lambda: Holder(x=1), lambda: Holder(x=1, name="a")),
        (lambda: Holder(x=1), lambda: Holder(x=1).eval()),
        (lambda: Holder(x=1), lambda: Holder(x=1, y=2)),
        (lambda: Holder(x=jnp.ones(1)), lambda: Holder(y=jnp.ones(1))),
        (lambda: Holder(x=jnp.ones(1), y=jnp.ones(1)), lambda: Holder(y=jnp.ones(1), x=jnp.ones(1))),
        (lambda: Holder(x=Linear()), lambda: Holder(x=Linear().eval())),
        (lambda: Holder(x=1), lambda: pax.freeze_parameters(Holder(x=1))),
    ],
    ids=["class", "name", "mode", "more attributes", "other names", "order of children", "submodule", "frozen"],
)
def test_structures_differ_in(a: Callable[[], Any], b: Callable[[], Any]) -> None:
    assert treedef(a()) != treedef(b())


def test_the_order_of_static_attributes_does_not_matter() -> None:
    assert _structure(a=1, b=2, c=jnp.ones(1)) == _structure(b=2, c=jnp.ones(1), a=1)


def test_a_static_value_comes_back_with_its_own_type() -> None:
    holders = [Holder(value=value) for value in (1, 1.0, True, -0.0, 0.0)]
    back = [jax.tree.map(lambda x: x, holder).value for holder in holders]
    assert [repr(value) for value in back] == ["1", "1.0", "True", "-0.0", "0.0"]


@pytest.mark.parametrize(
    "value",
    [[1, 2], {"a": [1]}, {1, 2}, Setting(1), _UNDECIDED],
    ids=["list", "dict", "set", "object", "object whose comparison raises"],
)
def test_structures_with_values_that_have_no_hash_work_with_jit(value: Any) -> None:
    identity = TraceCounter(lambda m: m)
    for _ in range(2):
        result = identity(Holder(value=value, array=jnp.ones(1)))
    assert identity.traces == 1
    assert type(result.value) is type(value)


def test_the_hash_of_a_treedef_ignores_static_values() -> None:
    assert hash(_structure(value=[1], array=jnp.ones(1))) == hash(_structure(value={"a": 2}, array=jnp.ones(1)))


def test_models_built_apart_trace_once() -> None:
    run = TraceCounter(lambda net: net)
    for _ in range(3):
        run(Net())
    assert run.traces == 1


def test_a_function_made_anew_for_every_model_traces_every_time() -> None:
    run = TraceCounter(lambda holder: holder)
    for _ in range(3):
        run(Holder(function=lambda x: x))
    assert run.traces == 3


def test_modules_with_equal_static_lists_do_not_share_them() -> None:
    first, second = Holder(value=[1, 2]), Holder(value=[1, 2])
    first.value.append(3)
    assert (first.value, second.value) == ([1, 2, 3], [1, 2])


def test_a_static_list_changed_in_place_changes_the_structure() -> None:
    holder = Holder(value=[1, 2])
    before = treedef(holder)
    holder.value.append(3)
    assert treedef(holder) != before
    assert before == _structure(value=[1, 2])


def test_equal_structures_of_one_class_are_one_object() -> None:
    first, second = Linear(3, 3), Linear(3, 3)
    nodes = [treedef(module).node_data() for module in (first, second)]
    assert nodes[0] is not None
    assert nodes[1] is not None
    assert nodes[0][1] is nodes[1][1]


def test_the_table_of_structures_does_not_grow() -> None:
    class Local(Holder):
        pass

    gc.collect()
    before = len(Local._pax_structures)  # type: ignore[attr-defined]
    for number in range(100):
        Local(value=number, array=jnp.ones(1)).eval()
    gc.collect()
    assert len(Local._pax_structures) == before  # type: ignore[attr-defined]


def test_a_structure_lives_as_long_as_a_module_that_uses_it() -> None:
    class Local(Holder):
        pass

    modules = [Local(value=number) for number in range(5)]
    gc.collect()
    assert len(Local._pax_structures) >= len(modules)  # type: ignore[attr-defined]


def test_subclasses_have_tables_of_their_own() -> None:
    class Base(pax.Module): ...

    class Derived(Base): ...

    assert treedef(Base()) != treedef(Derived())


def test_the_structure_shows_static_attributes_in_the_text_of_a_treedef() -> None:
    assert "rate=0.5" in str(_structure(rate=0.5, array=jnp.ones(1)))
