"""Which attributes are children of the pytree, which are static, and which are both."""

import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, ParameterHolder
from helpers.treedefs import treedef
from pax.errors import UnsupportedModuleError


class State(NamedTuple):
    hidden: Any
    cell: Any


class Chooser(pax.Module):
    """Stores its own method, wrapped as told."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self.choice = wrap(self.run)

    def run(self) -> None: ...


_PURE: dict[str, tuple[Callable[[], Any], int]] = {
    "jax array": (lambda: jnp.array(1.0), 1),
    "jax scalar": (lambda: jnp.float32(1), 1),
    "numpy array": (lambda: np.zeros(2), 1),
    "typed key": (lambda: jax.random.key(0), 1),
    "legacy key": (lambda: jax.random.PRNGKey(0), 1),
    "module": (lambda: Linear(), 2),
    "module without leaves": (lambda: pax.Module(), 0),
    "empty node": (lambda: pax.EmptyNode(), 0),
    "list": (lambda: [jnp.zeros(1), jnp.ones(1)], 2),
    "dict": (lambda: {"a": jnp.zeros(1)}, 1),
    "named tuple": (lambda: State(jnp.zeros(1), jnp.ones(1)), 2),
    "tuple of modules": (lambda: (Linear(), Linear()), 4),
    "ordered dict": (lambda: OrderedDict(b=jnp.zeros(1), a=jnp.ones(1)), 2),
    "default dict": (lambda: defaultdict(list, {"a": jnp.zeros(1)}), 1),
    "None beside an array": (lambda: [None, jnp.zeros(1)], 1),
    "nested": (lambda: {"a": [(jnp.zeros(1),)], "b": ()}, 1),
}
_MIXED: dict[str, tuple[Callable[[], Any], int]] = {
    "array and number": (lambda: [jnp.zeros(1), 3], 1),
    "module and function": (lambda: [Linear(), jax.nn.relu], 2),
    "empty node and number": (lambda: [pax.EmptyNode(), 3], 0),
    "numpy scalar beside an array": (lambda: [jnp.zeros(1), np.float32(1)], 1),
    "dict": (lambda: {"a": jnp.zeros(1), "b": "text"}, 1),
    "named tuple": (lambda: State(jnp.zeros(1), 3), 1),
}
_STATIC: dict[str, Callable[[], Any]] = {
    "float": lambda: 1.0,
    "text": lambda: "s",
    "numpy scalar": lambda: np.float32(1),
    "None": lambda: None,
    "empty list": lambda: [],
    "empty dict": lambda: {},
    "set": lambda: {1, 2},
    "list of numbers": lambda: [1, 2],
    "function": lambda: jax.nn.relu,
    "class": lambda: Linear,
    "shape": lambda: jax.ShapeDtypeStruct((2,), jnp.float32),
    "dtype": lambda: jnp.dtype("float32"),
    "treedef": lambda: treedef([0, 1]),
    "any object": lambda: types.SimpleNamespace(),
}


@pytest.mark.parametrize(("value", "leaves"), _PURE.values(), ids=_PURE)
def test_a_value_with_nothing_but_arrays_modules_and_empty_nodes_is_a_child(
    value: Callable[[], Any], leaves: int
) -> None:
    holder = Holder(value=value(), other=pax.EmptyNode())
    assert holder.pytree_attributes == ("value", "other")
    assert len(jax.tree.leaves(holder)) == leaves


@pytest.mark.parametrize(("value", "leaves"), _MIXED.values(), ids=_MIXED)
def test_a_value_with_arrays_and_other_leaves_is_mixed(value: Callable[[], Any], leaves: int) -> None:
    holder = Holder(value=value(), other=pax.EmptyNode())
    assert holder.pytree_attributes == ("other", "value")
    assert len(jax.tree.leaves(holder)) == leaves


@pytest.mark.parametrize("value", _STATIC.values(), ids=_STATIC)
def test_a_value_without_arrays_and_modules_is_static(value: Callable[[], Any]) -> None:
    holder = Holder(value=value(), other=pax.EmptyNode())
    assert holder.pytree_attributes == ("other",)
    assert jax.tree.leaves(holder) == []


def test_a_tracer_is_a_child() -> None:
    found: list[tuple[str, ...]] = []

    @jax.jit
    def build(x: jax.Array) -> Holder:
        holder = Holder(value=x)
        found.append(holder.pytree_attributes)
        return holder

    assert (build(jnp.ones(2)).value.shape, found) == ((2,), [("value",)])


_ALL = {**{name: case[0] for name, case in (_PURE | _MIXED).items()}, **_STATIC}


@pytest.mark.parametrize("value", _ALL.values(), ids=_ALL)
def test_an_attribute_of_any_kind_survives_flattening(value: Callable[[], Any]) -> None:
    holder = Holder(value=value())
    back = jax.tree.map(lambda x: x, holder)
    assert type(back.value) is type(holder.value)
    assert back == holder


_MIXED_OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "jit": jax.jit(lambda m: m),
    "tree_map": lambda m: jax.tree.map(lambda x: x, m),
    "parameters": lambda m: m.parameters(),
    "update_parameters": lambda m: m.update_parameters(m),
    "merge": lambda m: m | m,
    "eval": lambda m: m.eval(),
    "train": lambda m: m.eval().train(),
    "copy": lambda m: m.copy(),
    "state dict": lambda m: m.load_state_dict(m.state_dict()),
    "freeze": pax.freeze_parameters,
    "apply": lambda m: m.apply(lambda below: below),
    "pure": pax.pure(lambda m: m),
}


@pytest.mark.parametrize("operation", _MIXED_OPERATIONS.values(), ids=_MIXED_OPERATIONS)
def test_static_parts_of_a_mixed_attribute_stay_in_place(operation: Callable[[Any], Any]) -> None:
    empty = pax.EmptyNode()
    holder = ParameterHolder(value=[jnp.ones(2), jax.nn.relu, None, {"a": empty, "b": 3, "c": Linear()}])
    found = operation(holder).value
    assert [type(item) for item in found] == [type(item) for item in holder.value]
    assert found[1] is jax.nn.relu
    assert found[2] is None
    assert (found[3]["a"], found[3]["b"], type(found[3]["c"])) == (empty, 3, Linear)


def test_a_map_over_a_mixed_attribute_changes_its_arrays_only() -> None:
    doubled = jax.tree.map(lambda x: 2 * x, Holder(value=[jnp.ones(2), jax.nn.relu]))
    assert jnp.array_equal(doubled.value[0], 2 * jnp.ones(2))
    assert doubled.value[1] is jax.nn.relu


def test_an_attribute_becomes_a_child_when_it_gets_an_array_in_a_pure_function() -> None:
    @pax.pure
    def append(holder: Holder) -> Holder:
        holder.value.append(jnp.ones(2))
        return holder

    holder = Holder(value=[])
    assert append(holder).pytree_attributes == ("value",)
    assert holder.pytree_attributes == ()


def test_an_attribute_becomes_static_when_it_loses_its_array() -> None:
    assert Holder(value=jnp.ones(2)).replace(value=3).pytree_attributes == ()


def test_an_attribute_is_classified_at_once_when_it_is_assigned() -> None:
    @pax.pure
    def change(counter: Counter) -> int:
        counter.extra = jnp.ones(2)  # type: ignore[attr-defined]
        return len(jax.tree.leaves(counter))

    assert change(Counter()) == 2


def test_a_bound_method_of_the_module_itself_is_refused() -> None:
    with pytest.raises(UnsupportedModuleError) as caught:
        Chooser(lambda method: method)
    assert "A module cannot store one of its own bound methods." in str(caught.value)
    assert "where: Chooser, attribute `choice`" in str(caught.value)
    assert "fix:   self.choice = type(self).run" in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [lambda method: [jnp.ones(1), method], lambda method: [method], lambda method: {"a": (method,)}],
    ids=["mixed", "static list", "nested"],
)
def test_a_bound_method_of_the_module_in_a_container_is_refused(wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(UnsupportedModuleError, match="attribute `choice`"):
        Chooser(wrap)


def test_a_bound_method_of_another_object_is_static() -> None:
    text = "abc"
    assert Holder(value=text.upper).pytree_attributes == ()
