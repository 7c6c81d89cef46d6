"""Shared arrays and modules, class attributes with arrays or modules, `__slots__`."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from pax.errors import SharedNodeError, UnregisteredFieldError, UnsupportedModuleError

# ---- shared modules --------------------------------------------------------------------------------------------------


def test_a_module_at_two_places_is_refused() -> None:
    linear = Linear(2, 2)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Holder(a=Holder(b=linear), layers=[1, linear])
    assert isinstance(caught.value, SharedNodeError)
    assert str(caught.value).startswith(
        "The module `Linear(in=2, out=2)` is shared between two nodes of the pytree.\n"
        "This is not allowed to prevent potential silence bugs.\n"
    )
    assert "where: `a.b` and `layers[1]`" in str(caught.value)
    assert "fix:   use a copy at the second place: module.copy() shares the arrays" in str(caught.value)


def test_a_module_without_arrays_at_two_places_is_refused() -> None:
    empty = pax.Module()
    with pytest.raises(SharedNodeError, match="where: `a` and `b`"):
        Holder(a=empty, b=empty)


def test_a_copy_with_arrays_of_its_own_may_stand_beside_a_module() -> None:
    linear = Linear()
    holder = Holder(a=linear, b=jax.tree.map(jnp.copy, linear))
    assert len(jax.tree.leaves(holder)) == 4


# ---- shared arrays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "shape", "dtype", "value"),
    [
        (lambda: jnp.array([1.0, 2.0]), "(2,)", "float32", "[1. 2.]"),
        (lambda: np.array([1, 2]), "(2,)", "int64", "[1 2]"),
        (lambda: jnp.zeros((30, 30)), "(30, 30)", "float32", "float32[30,30]"),
        (lambda: jax.random.key(0), "()", "key<fry>", "key<fry>[]"),
    ],
    ids=["jax", "numpy", "large", "typed key"],
)
def test_an_array_at_two_places_is_refused(array: Callable[[], Any], shape: str, dtype: str, value: str) -> None:
    shared = array()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Holder(a=shared, b=[Holder(c=shared)])
    assert str(caught.value).startswith(
        f"Detected a shared ndarray. This is not allowed.\nShape={shape}\nDtype={dtype}\nValue={value}\n"
    )
    assert "where: `a` and `b[0].c`" in str(caught.value)
    assert "fix:   use a copy at the second place: array.copy()" in str(caught.value)


def test_equal_values_in_two_arrays_are_fine() -> None:
    assert len(jax.tree.leaves(Holder(a=jnp.ones(2), b=jnp.ones(2)))) == 2


def test_one_tracer_may_stand_at_two_places() -> None:
    doubled = jax.jit(lambda x: Holder(a=x, b=x))(jnp.ones(2))
    assert doubled.a.tolist() == doubled.b.tolist() == [1.0, 1.0]


def test_empty_nodes_may_stand_at_many_places() -> None:
    empty = pax.EmptyNode()
    assert Holder(a=empty, b=[empty, empty]).pytree_attributes == ("a", "b")


def _shared() -> Any:
    """A module whose arrays JAX has made one."""
    array = jnp.ones(2)
    return jax.tree.map(lambda _: array, ParameterHolder(a=jnp.ones(2), b=jnp.ones(2)))


_HARMLESS: dict[str, Callable[[Any], Any]] = {
    "parameters": lambda m: m.parameters(),
    "merge": lambda m: m | m,
    "update": lambda m: m.update_parameters(m),
    "pure": pax.pure(lambda m: m),
    "modes": lambda m: m.eval(),
    "replace": lambda m: m.replace(name="new"),
    "set_attribute": lambda m: m.set_attribute("rate", 3),
    "apply": lambda m: m.apply(lambda below: below),
    "map": lambda m: m.map(lambda x: x),
    "freeze": pax.freeze_parameters,
    "state dict": lambda m: m.load_state_dict(m.state_dict()),
}


@pytest.mark.parametrize("operation", _HARMLESS.values(), ids=_HARMLESS)
def test_a_tree_that_jax_made_may_hold_an_array_twice(operation: Callable[[Any], Any]) -> None:
    result = operation(_shared())
    assert result.a is result.b


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.replace(a=m.b),
        lambda m: m.set_attribute("c", m.b),
        lambda m: m.replace_node(m.a, m.b),
    ],
    ids=["replace", "set_attribute", "replace_node"],
)
def test_a_change_that_makes_an_array_shared_is_refused(change: Callable[[Any], Any]) -> None:
    with pytest.raises(SharedNodeError, match="where: `"):
        change(Holder(a=jnp.ones(2), b=jnp.zeros(2)))


def test_an_assignment_in_a_pure_function_that_makes_an_array_shared_is_refused_at_its_end() -> None:
    reached = []

    @pax.pure
    def change(holder: Holder) -> None:
        holder.a = holder.b
        reached.append(True)

    with pytest.raises(SharedNodeError, match="where: `a` and `b`"):
        change(Holder(a=jnp.ones(2), b=jnp.zeros(2)))
    assert reached == [True]


def test_an_assignment_that_makes_a_module_shared_is_refused() -> None:
    @pax.pure
    def change(net: Net) -> None:
        net.layers[0] = net.layers[2]

    with pytest.raises(SharedNodeError, match=r"where: `layers\[0\]` and `layers\[2\]`"):
        change(Net())


def test_a_list_changed_in_place_is_checked_by_the_next_pure_function() -> None:
    holder = Holder(values=[jnp.ones(2)])
    holder.values.append(holder.values[0])
    with pytest.raises(SharedNodeError, match=r"where: `values\[0\]` and `values\[1\]`"):
        pax.pure(lambda m: m)(holder)


def test_scan_bugs_returns_the_module() -> None:
    net = Net()
    assert net.scan_bugs() is net


def test_scan_bugs_finds_an_array_shared_by_a_list_changed_in_place() -> None:
    holder = Holder(values=[jnp.ones(2)])
    holder.values.append(holder.values[0])
    with pytest.raises(SharedNodeError):
        holder.scan_bugs()


# ---- class attributes ------------------------------------------------------------------------------------------------


def test_a_class_attribute_with_an_array_is_refused() -> None:
    class Wrong(pax.Module):
        table = jnp.ones(3)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Wrong()
    assert isinstance(caught.value, UnregisteredFieldError)
    assert str(caught.value).startswith(f"\nUnregistered field `{Wrong.__qualname__}.table`:\n    value=")
    assert "\ncontains a ndarray leaf.\n" in str(caught.value)
    assert "attribute `table` of the class" in str(caught.value)
    assert "fix:   assign it in `__init__`: self.table = ..." in str(caught.value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: Linear(), "module"),
        (lambda: [1, {"a": Linear()}], "module"),
        (lambda: np.zeros(2), "ndarray"),
        (lambda: {"a": (jnp.ones(1),)}, "ndarray"),
        (lambda: jax.random.key(0), "ndarray"),
    ],
    ids=["module", "module in containers", "numpy", "array in containers", "typed key"],
)
def test_a_class_attribute_with_arrays_or_modules_anywhere_is_refused(value: Callable[[], Any], kind: str) -> None:
    class Wrong(pax.Module):
        field = value()

    with pytest.raises(UnregisteredFieldError, match=f"contains a {kind} leaf"):
        Wrong()


def test_a_class_attribute_of_a_base_is_checked() -> None:
    class Base(pax.Module):
        table = jnp.ones(3)

    class Derived(Base): ...

    with pytest.raises(UnregisteredFieldError):
        Derived()


def test_a_class_attribute_set_later_is_checked() -> None:
    class Late(pax.Module): ...

    Late()
    Late.table = jnp.ones(3)
    with pytest.raises(UnregisteredFieldError):
        Late()


def test_a_class_attribute_covered_by_an_instance_attribute_is_fine() -> None:
    class Covered(pax.Module):
        table = jnp.ones(3)

        def __init__(self) -> None:
            self.table = jnp.zeros(3)

    assert Covered().table.sum() == 0


@pytest.mark.parametrize(
    "value",
    [[1, 2], 3, "text", math.sin, jax.nn.relu, Linear, None, {"a": 1}],
    ids=["list", "int", "text", "builtin", "jitted function", "class", "None", "dict"],
)
def test_a_class_attribute_without_arrays_is_fine(value: Any) -> None:
    class Fine(pax.Module):
        field: ClassVar[Any] = value

    assert Fine().field is not Fine


def test_annotated_fields_without_value_are_fine() -> None:
    class Fine(pax.Module):
        weight: jax.Array

    assert Fine().pytree_attributes == ()


def test_properties_are_not_evaluated() -> None:
    class Fine(pax.Module):
        @property
        def table(self) -> jax.Array:
            raise RuntimeError

        @cached_property
        def other(self) -> jax.Array:
            raise RuntimeError

    assert Fine().scan_bugs().training


def test_a_property_may_return_an_array() -> None:
    class Fine(pax.Module):
        @property
        def table(self) -> jax.Array:
            return jnp.ones(3)

    assert Fine().scan_bugs().table.shape == (3,)


def test_scan_bugs_checks_the_classes_of_submodules() -> None:
    class Late(pax.Module): ...

    holder = Holder(a=[Late()])
    Late.table = jnp.ones(3)
    with pytest.raises(UnregisteredFieldError):
        holder.scan_bugs()


# ---- slots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [(), ("a",)], ids=["empty", "a name"])
def test_slots_are_refused(slots: tuple[str, ...]) -> None:
    class Slotted(pax.Module):
        __slots__ = slots

    with pytest.raises(ValueError, match=r"`__slots__` is not supported by PAX modules.") as caught:
        Slotted()
    assert isinstance(caught.value, UnsupportedModuleError)
    assert "fix:   remove `__slots__` from" in str(caught.value)


def test_slots_of_a_base_module_are_refused() -> None:
    class Slotted(pax.Module):
        __slots__ = ()

    class Derived(Slotted): ...

    with pytest.raises(UnsupportedModuleError):
        Derived()


def test_slots_of_a_mix_in_that_is_no_module_are_fine() -> None:
    class Mixin:
        __slots__ = ()

    class Fine(Mixin, pax.Module): ...

    assert Fine().training


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_may_be_one_array() -> None:
    def loss(holder: ParameterHolder) -> jax.Array:
        return jnp.sum(holder.a + holder.b)

    holder = ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2))
    gradients = pax.grad(loss)(holder)
    assert gradients.parameters().a.tolist() == [1.0, 1.0]


def test_gradients_that_are_one_tracer_have_parameters() -> None:
    @jax.jit
    def step(net: Holder, x: jax.Array) -> Any:
        gradients = pax.grad(lambda net: (net.a.scale + net.b.scale).sum() * x)(net)
        return net | gradients.parameters()

    net = step(Holder(a=Norm(), b=Norm()), jnp.array(2.0))
    assert (net.a.scale.tolist(), net.b.scale.tolist()) == ([2.0, 2.0], [2.0, 2.0])


def test_a_counter_is_checked_after_every_call() -> None:
    class Shares(Counter):
        def __call__(self, x: Any = None) -> Any:
            self.count = x
            self.other = x
            return x

    with pytest.raises(SharedNodeError, match="where: `count` and `other`"):
        pax.purecall(Shares(), jnp.ones(3))
