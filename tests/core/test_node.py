"""Modules as pytree nodes: order, round trips, foreign leaves, abstract trees, containers changed in place."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from helpers.treedefs import treedef

# ---- order -----------------------------------------------------------------------------------------------------------


def test_children_come_in_the_order_of_definition_mixed_ones_last() -> None:
    holder = Holder(mixed=[jnp.zeros(1), 3], b=jnp.zeros(2), a=jnp.zeros(3))
    assert [leaf.shape for leaf in jax.tree.leaves(holder)] == [(2,), (3,), (1,)]


def test_after_a_round_trip_static_attributes_come_first_and_children_keep_their_order() -> None:
    holder = jax.tree.map(lambda x: x, Holder(b=jnp.zeros(2), rate=0.5, a=jnp.zeros(3)))
    names = [name for name in vars(holder) if not name.startswith("_")]
    assert names == ["rate", "b", "a"]


def test_a_new_attribute_goes_to_the_end() -> None:
    holder = Holder(b=jnp.zeros(2)).set_attribute("a", jnp.zeros(3))
    assert holder.pytree_attributes == ("b", "a")


def test_an_attribute_that_was_static_comes_before_the_old_children_when_it_gets_an_array() -> None:
    holder = Holder(weight=jnp.ones(2), bias=None).replace(bias=jnp.ones(1))
    assert holder.pytree_attributes == ("bias", "weight")


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Net, Linear, Counter, Norm, pax.Module, lambda: Net().eval()])
def test_flattening_and_unflattening_gives_an_equal_module(make: Callable[[], Any]) -> None:
    module = make()
    leaves, structure = jax.tree.flatten(module)
    back = jax.tree.unflatten(structure, leaves)
    assert back == module
    assert back is not module
    assert vars(back).keys() == vars(module).keys()


def test_a_round_trip_through_the_dictionary_keeps_the_structure() -> None:
    net = jax.tree.map(lambda x: x, Net())
    assert net.layers[1] is jnp.tanh
    assert treedef(net) == treedef(Net())


def test_modules_and_containers_of_a_copy_are_new_and_arrays_are_the_same() -> None:
    net = Net()
    twin = jax.tree.map(lambda x: x, net)
    assert twin.encoder is not net.encoder
    assert twin.layers is not net.layers
    assert twin.encoder.weight is net.encoder.weight


def test_key_paths_and_plain_flattening_agree() -> None:
    net = Net()
    with_paths = [leaf for _, leaf in jtu.tree_leaves_with_path(net)]
    assert all(a is b for a, b in zip(with_paths, jax.tree.leaves(net), strict=True))


def test_an_attribute_whose_name_a_class_attribute_has_comes_back() -> None:
    class Defaults(pax.Module):
        rate = 0.1
        array: Any = None

        def __init__(self) -> None:
            self.rate = 0.5
            self.array = jnp.ones(2)

    back = jax.tree.map(lambda x: 2 * x, Defaults())
    assert (back.rate, back.array.tolist()) == (0.5, [2.0, 2.0])


# ---- foreign leaves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leaf",
    [None, "text", object(), 3, [], {"a": 1}, jax.ShapeDtypeStruct((2,), jnp.float32)],
    ids=["None", "text", "object", "int", "list", "dict", "shape"],
)
def test_a_module_can_be_unflattened_with_any_leaves(leaf: Any) -> None:
    structure = treedef(Linear())
    module = jax.tree.unflatten(structure, [leaf, leaf])
    assert isinstance(module, Linear)
    assert module.weight is leaf


@pytest.mark.parametrize("leaf", ["text", 3, 0.5, np.float32(1), jax.ShapeDtypeStruct((2,), jnp.float32)])
def test_foreign_leaves_stay_leaves_also_after_their_attributes_were_read(leaf: Any) -> None:
    net = jax.tree.map(lambda _: leaf, Net())
    assert net.encoder.weight is leaf
    assert net.layers[0].bias is leaf
    assert treedef(net) == treedef(Net())


def test_a_map_to_none_removes_all_leaves_and_keeps_the_structure_around_them() -> None:
    axes = jax.tree.map(lambda _: None, Net())
    assert axes.encoder.weight is None
    assert jax.tree.leaves(axes) == []


def test_unflattening_runs_no_constructor() -> None:
    runs = []

    class Loud(pax.Module):
        def __init__(self) -> None:
            runs.append(1)
            self.array = jnp.ones(1)

    jax.tree.map(lambda x: x, Loud())
    assert runs == [1]


def test_unflattening_runs_no_checks() -> None:
    array = jnp.ones(2)
    shared = jax.tree.map(lambda _: array, Linear())
    assert shared.weight is shared.bias


# ---- abstract trees --------------------------------------------------------------------------------------------------


class Rich(Net):
    """A net that has arrays in containers of its own, too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {"a": jnp.ones(1), "b": [jnp.ones(2)]}
        self.many = [jnp.ones(3), (jnp.ones(4), None)]
        self.mixed = [jnp.ones(5), "text", {"c": jnp.ones(6), "d": 7}]
        self.statics = [1, 2]


def _abstract() -> Any:
    return jax.eval_shape(Rich)


def _zeros() -> Any:
    return jax.tree.map(lambda _: 0, Rich())


def _read(module: Any) -> Any:
    """Reads all attributes of all modules: containers are handed out."""
    for below in pax.extend.modules_in(module):
        vars(below)
    return module


_ABSTRACT = pytest.mark.parametrize(
    "make",
    [_abstract, _zeros, lambda: _read(_abstract()), lambda: _read(_zeros())],
    ids=["eval_shape", "tree of numbers", "eval_shape that was read", "tree of numbers that was read"],
)


def test_a_constructor_under_eval_shape_gives_shapes_in_place_of_arrays() -> None:
    linear = jax.eval_shape(lambda: Linear(2, 3))
    assert isinstance(linear, Linear)
    assert isinstance(linear.weight, jax.ShapeDtypeStruct)
    assert linear.weight.shape == (2, 3)
    assert repr(linear) == "Linear(in=2, out=3)"


@_ABSTRACT
def test_an_abstract_module_has_the_structure_of_a_real_one(make: Callable[[], Any]) -> None:
    assert treedef(make()) == treedef(Rich())


@_ABSTRACT
def test_an_abstract_module_knows_its_parameters(make: Callable[[], Any]) -> None:
    assert treedef(make().parameters()) == treedef(Rich().parameters())


@_ABSTRACT
def test_an_abstract_module_can_be_merged_with_its_parameters(make: Callable[[], Any]) -> None:
    module = make()
    assert treedef(module | module.parameters()) == treedef(Rich())


@_ABSTRACT
def test_an_abstract_module_can_be_updated(make: Callable[[], Any]) -> None:
    module = make()
    assert treedef(module.update_parameters(module)) == treedef(Rich())


@_ABSTRACT
def test_replacing_a_static_attribute_of_an_abstract_module_keeps_its_leaves(make: Callable[[], Any]) -> None:
    assert treedef(make().replace(rate=0.1)) == treedef(Rich().replace(rate=0.1))


@_ABSTRACT
def test_replacing_a_submodule_of_an_abstract_module_keeps_the_other_leaves(make: Callable[[], Any]) -> None:
    module = make()
    changed = module.replace_node(module.encoder, Linear(2, 3))
    assert isinstance(changed.encoder.weight, jax.Array)
    assert treedef(changed) == treedef(Rich())


def test_one_shape_of_an_abstract_module_can_be_replaced() -> None:
    module = _abstract()
    changed = module.replace_node(module.norm.scale, jnp.zeros(2))
    assert treedef(changed) == treedef(Rich())
    assert changed.norm.scale.tolist() == [0.0, 0.0]


@_ABSTRACT
@pytest.mark.parametrize(
    "operation",
    [
        lambda m: m.eval().train(),
        lambda m: m.copy(),
        lambda m: m.apply(lambda below: below),
        pax.pure(lambda m: m),
        lambda m: pax.combine(*pax.partition(m)),
        lambda m: pax.unfreeze_parameters(pax.freeze_parameters(m)),
    ],
    ids=["modes", "copy", "apply", "pure", "partition", "freeze"],
)
def test_operations_on_an_abstract_module_keep_its_structure(
    make: Callable[[], Any], operation: Callable[[Any], Any]
) -> None:
    assert treedef(operation(make())) == treedef(Rich())


@_ABSTRACT
def test_the_leaves_of_an_abstract_module_are_the_same_before_and_after_a_copy(make: Callable[[], Any]) -> None:
    module = make()
    twin = _read(jax.tree.map(lambda leaf: leaf, module))
    assert all(a is b for a, b in zip(jax.tree.leaves(twin), jax.tree.leaves(module), strict=True))


@_ABSTRACT
def test_an_abstract_module_can_be_changed_in_a_pure_function(make: Callable[[], Any]) -> None:
    @pax.pure
    def change(module: Any) -> Any:
        module.rate = 0.1
        module.statics.append(3)
        return module

    changed = change(make())
    assert treedef(changed) == treedef(Rich().replace(rate=0.1, statics=[1, 2, 3]))


@_ABSTRACT
def test_an_abstract_module_can_be_filled_with_arrays(make: Callable[[], Any]) -> None:
    filled = make() | Rich()
    assert treedef(filled) == treedef(Rich())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(filled))


@_ABSTRACT
def test_an_abstract_module_survives_a_deep_copy(make: Callable[[], Any]) -> None:
    assert treedef(copy.deepcopy(make())) == treedef(Rich())


def test_an_item_of_a_container_in_a_tree_of_numbers_can_be_assigned() -> None:
    axes = jax.tree.map(lambda _: 0, Holder(values=[jnp.ones(1), jnp.ones(2)]))
    axes.values[1] = None
    assert jax.tree.leaves(axes) == [0]


def test_a_tree_of_axes_made_from_a_module_drives_vmap() -> None:
    stacked = jax.vmap(lambda bias: Linear(2, 2).replace(bias=bias))(jnp.arange(6.0).reshape(3, 2))
    axes = jax.tree.map(lambda _: 0, stacked)
    result = jax.vmap(lambda linear, x: linear(x), in_axes=(axes, None))(stacked, jnp.zeros((1, 2)))
    assert result[:, 0].tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_vmap_of_a_constructor_gives_stacked_parameters() -> None:
    def build(key: jax.Array) -> ParameterHolder:
        return ParameterHolder(weight=jax.random.normal(key, (2, 2)))

    stacked = jax.vmap(build)(jax.random.split(jax.random.key(0), 3))
    assert stacked.weight.shape == (3, 2, 2)
    assert not jnp.array_equal(stacked.weight[0], stacked.weight[1])


# ---- containers changed in place -------------------------------------------------------------------------------------


def test_an_item_assigned_outside_of_pure_is_seen() -> None:
    net = Net()
    net.layers[0] = pax.freeze_parameters(net.layers[0])
    assert jax.tree.leaves(net.parameters().layers[0]) == []
    assert len(jax.tree.leaves(net.parameters().layers[2])) == 2


def test_an_item_assigned_in_a_copy_leaves_the_original_alone() -> None:
    net = Net()
    twin = net.copy()
    twin.layers[0] = Linear(1, 1)
    assert net.layers[0].weight.shape == (3, 3)


def test_an_item_assigned_after_a_flattening_is_seen_by_the_next_one() -> None:
    holder = Holder(layers=[Linear(1, 1)])
    assert len(jax.tree.leaves(holder)) == 2
    holder.layers.append(Linear(1, 1))
    assert len(jax.tree.leaves(holder)) == 4


def test_a_number_appended_to_a_list_of_arrays_becomes_static() -> None:
    holder = Holder(values=[jnp.ones(1)])
    holder.values.append(3)
    assert jax.jit(lambda m: m)(holder).values[1] == 3
    assert len(jax.tree.leaves(holder)) == 1


def test_an_array_appended_to_a_static_list_becomes_a_leaf() -> None:
    holder = Holder(values=[])
    holder.values.append(jnp.ones(1))
    assert len(jax.tree.leaves(holder)) == 1
    assert holder.pytree_attributes == ("values",)


def test_a_container_changed_in_place_after_a_round_trip_is_seen() -> None:
    holder = jax.tree.map(lambda x: x, Holder(values={"a": jnp.ones(1)}))
    holder.values["b"] = jnp.ones(2)
    assert [leaf.shape for leaf in jax.tree.leaves(holder)] == [(1,), (2,)]


def test_a_container_changed_in_place_inside_of_pure_changes_the_copy_only() -> None:
    @pax.pure
    def append(holder: Holder) -> Holder:
        holder.values.append(jnp.ones(2))
        holder.statics.append("x")
        return holder

    holder = Holder(values=[jnp.ones(1)], statics=[])
    changed = append(holder)
    assert (len(jax.tree.leaves(changed)), changed.statics) == (2, ["x"])
    assert (len(jax.tree.leaves(holder)), holder.statics) == (1, [])


def test_a_container_changed_in_place_inside_of_pure_is_seen_at_once() -> None:
    @pax.pure
    def count(holder: Holder) -> tuple[int, int]:
        before = len(jax.tree.leaves(holder))
        holder.values.append(jnp.ones(2))
        return before, len(jax.tree.leaves(holder))

    assert count(Holder(values=[])) == (0, 1)


def test_a_container_changed_in_place_below_the_argument_of_pure_is_seen() -> None:
    @pax.pure
    def change(net: Net) -> Net:
        net.layers[0] = Linear(3, 3, name="new")
        return net

    assert change(Net()).layers[0].name == "new"


def test_a_container_that_was_passed_to_the_constructor_is_not_shared_with_the_caller() -> None:
    values = [jnp.ones(1)]
    holder = Holder(values=values)
    values.append(jnp.ones(2))
    assert len(jax.tree.leaves(holder)) == 1


def test_a_default_list_is_not_shared_between_modules() -> None:
    class Trap(pax.Module):
        def __init__(self, layers: list[Any] = []) -> None:  # noqa: B006 - the trap
            self.layers = layers
            self.layers.append(1)

    trap = Trap()
    trap.layers.append(2)
    assert trap.layers[-1] == 2
    assert 2 not in Trap().layers


def test_a_changed_container_compiles_anew_and_back_again_does_not() -> None:
    run = TraceCounter(lambda holder: holder)
    holder = Holder(values=[jnp.ones(1)])
    run(holder)
    holder.values.append(jnp.ones(1))
    run(holder)
    holder.values.pop()
    run(holder)
    assert run.traces == 2


@pytest.mark.parametrize("attribute", ["values", "statics"])
def test_reading_a_container_does_not_change_the_structure(attribute: str) -> None:
    holder = Holder(values=[jnp.ones(1), 2, Linear()], statics=[1, {"a": 2}])
    before = treedef(holder)
    for module in (holder, holder.copy(), jax.jit(lambda m: m)(holder)):
        getattr(module, attribute)
        assert treedef(module) == before
