"""New modules from old ones: replace, replace_node, set_attribute, map, apply, submodules, state dictionaries."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.treedefs import treedef
from pax.errors import (
    ArgumentError,
    ArgumentTypeError,
    AttributeNameError,
    MutationError,
    SharedNodeError,
    StateDictError,
    StructureError,
)

# ---- copy ------------------------------------------------------------------------------------------------------------


def test_a_copy_has_new_modules_and_containers_and_the_same_arrays_and_objects() -> None:
    marker = object()
    holder = Holder(linear=Linear(), layers=[Linear()], marker=marker)
    copy = holder.copy()
    assert copy is not holder
    assert copy.linear is not holder.linear
    assert copy.layers is not holder.layers
    assert copy.linear.weight is holder.linear.weight
    assert copy.marker is marker


# ---- replace ---------------------------------------------------------------------------------------------------------


def test_replacing_gives_a_new_module_and_leaves_the_old_one() -> None:
    linear = Linear(2, 2)
    before = linear.bias
    new = linear.replace(bias=jnp.ones(2), in_features=7)
    assert (new.bias.tolist(), new.in_features) == ([1.0, 1.0], 7)
    assert linear.bias is before
    assert type(new) is Linear


def test_replacing_keeps_the_order_of_attributes() -> None:
    holder = Holder(a=jnp.ones(1), b=2, c=jnp.ones(3))
    assert list(vars(holder.replace(c=jnp.ones(2), a=jnp.ones(4)))) == list(vars(holder.copy()))


@pytest.mark.parametrize(
    ("value", "names"),
    [(3, ()), (jnp.ones((4, 4)), ("a",)), (Linear(), ("a",)), ([Linear(), 3], ("a",)), (None, ())],
    ids=["static", "other shape", "module", "mixed", "None"],
)
def test_replacing_takes_values_of_any_kind(value: Any, names: tuple[str, ...]) -> None:
    assert Holder(a=jnp.ones(1)).replace(a=value).pytree_attributes == names


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"_name": "x"}, "name", "x"),
        ({"name": "x"}, "name", "x"),
        ({"_training": False}, "training", False),
        ({"training": False}, "training", False),
    ],
    ids=str,
)
def test_mode_and_name_can_be_replaced(changes: dict[str, Any], attribute: str, value: Any) -> None:
    assert getattr(Linear().replace(**changes), attribute) == value


def test_replacing_an_unknown_attribute_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(AttributeNameError) as caught:
        Linear().replace(wieght=jnp.ones(1))
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, AssertionError)
    text = str(caught.value)
    assert text.startswith("`wieght` is no attribute of this module, so it cannot be replaced.")
    assert "where: Linear" in text
    assert "weight" in text.partition("want:")[2].partition("\n")[0]
    assert "fix:   module.set_attribute('wieght', value)" in text


def test_a_replaced_module_is_immutable() -> None:
    with pytest.raises(MutationError):
        Linear().replace(bias=jnp.ones(2)).bias = jnp.zeros(2)


def test_containers_given_to_replace_are_not_shared_with_the_caller() -> None:
    layers = [Linear()]
    holder = Holder(layers=[]).replace(layers=layers)
    layers.append(Linear())
    assert len(holder.layers) == 1


# ---- set_attribute ---------------------------------------------------------------------------------------------------


def test_a_new_attribute_can_be_set() -> None:
    linear = Linear()
    new = linear.set_attribute("scale", jnp.ones(1))
    assert new.pytree_attributes == ("weight", "bias", "scale")
    assert not hasattr(linear, "scale")


def test_the_private_mode_can_be_set() -> None:
    assert Linear().set_attribute("_training", False).training is False


def test_an_attribute_may_shadow_a_method() -> None:
    assert Linear().set_attribute("summary", 3).summary == 3  # type: ignore[comparison-overlap]


def test_a_property_without_setter_cannot_be_set() -> None:
    with pytest.raises(AttributeNameError) as caught:
        Linear().set_attribute("training", False)
    assert isinstance(caught.value, AttributeError)
    assert "where: Linear, attribute `training`" in str(caught.value)


def test_setting_an_array_that_is_there_already_is_refused() -> None:
    linear = Linear()
    with pytest.raises(SharedNodeError, match="where: `weight` and `more`"):
        linear.set_attribute("more", linear.weight)


# ---- replace_node ----------------------------------------------------------------------------------------------------


def test_an_array_is_replaced_by_the_very_object() -> None:
    net = Net()
    new = net.replace_node(net.layers[2].bias, jnp.ones(1))
    assert new.layers[2].bias.tolist() == [1.0]
    assert new.encoder.weight is net.encoder.weight
    assert net.layers[2].bias.tolist() == [0.0]


def test_replacing_a_node_copies_all_other_modules_and_containers() -> None:
    net = Net()
    new = net.replace_node(net.encoder.bias, jnp.ones(3))
    assert new.norm is not net.norm
    assert new.layers is not net.layers
    assert new.layers[0] is not net.layers[0]


def test_a_submodule_is_replaced_by_one_of_another_class() -> None:
    net = Net()
    new = net.replace_node(net.layers[0], Norm(3))
    assert type(new.layers[0]) is Norm
    assert new.layers[1] is jnp.tanh


def test_an_array_is_replaced_by_a_module() -> None:
    holder = Holder(a=jnp.ones(1))
    assert type(holder.replace_node(holder.a, Linear()).a) is Linear


def test_an_array_is_replaced_by_a_static_value() -> None:
    holder = Holder(a=jnp.ones(1), b=jnp.ones(2))
    assert holder.replace_node(holder.a, 3).pytree_attributes == ("b",)


def test_the_root_can_be_replaced() -> None:
    linear, other = Linear(), Counter()
    assert linear.replace_node(linear, other) is other


def test_a_function_names_the_node() -> None:
    new = Net().replace_node(lambda m: m.encoder.weight, jnp.zeros((5, 5)))
    assert new.encoder.weight.shape == (5, 5)


def test_a_function_names_several_nodes() -> None:
    new = Net().replace_node(lambda m: (m.encoder, m.layers[2].bias), (Norm(), jnp.ones(4)))
    assert type(new.encoder) is Norm
    assert new.layers[2].bias.shape == (4,)


def test_two_nodes_can_change_places() -> None:
    holder = Holder(a=jnp.ones(1), b=jnp.ones(2))
    new = holder.replace_node(lambda m: [m.a, m.b], [holder.b, holder.a])
    assert (new.a is holder.b, new.b is holder.a) == (True, True)


def test_a_callable_module_is_a_node_and_no_function() -> None:
    net = Net()
    new = net.replace_node(net.encoder, Linear(1, 1))
    assert new.encoder.weight.shape == (1, 1)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (lambda: jnp.ones(3), "The node `float32[3]` appears 0 times in the module."),
        (lambda: Linear(4, 4), "The node `Linear(in=4, out=4)` appears 0 times in the module."),
        (lambda: lambda m: m.rate, "The node `0.5` appears 0 times in the module."),
    ],
    ids=["array", "module", "function"],
)
def test_a_node_that_is_not_there_is_an_error(node: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Net().replace_node(node(), jnp.ones(1))
    assert isinstance(caught.value, ArgumentError)
    assert str(caught.value).startswith(text)
    assert "fix:   module.replace_node(lambda m: m.layers[0].weight, value)" in str(caught.value)


def test_a_node_that_is_there_twice_is_an_error() -> None:
    array = jnp.ones(2)
    shared = jax.tree.map(lambda _: array, Holder(a=jnp.ones(2), b=jnp.ones(2)))
    with pytest.raises(ArgumentError, match="appears 2 times in the module"):
        shared.replace_node(array, jnp.ones(1))


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), jnp.ones(2)], ids=["too few", "too many", "one array"])
def test_several_nodes_need_as_many_values(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Several nodes need as many values.") as caught:
        Net().replace_node(lambda m: (m.encoder, m.norm), value)
    assert "want:  a tuple of 2 values" in str(caught.value)
    assert "fix:   module.replace_node(lambda m: (m.a, m.b), (new_a, new_b))" in str(caught.value)


def test_replacing_a_node_inside_of_another_replaced_one_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="appears 0 times"):
        Net().replace_node(lambda m: (m.encoder, m.encoder.weight), (Linear(2, 3), jnp.ones(1)))


# ---- map -------------------------------------------------------------------------------------------------------------


def test_a_map_changes_arrays_and_keeps_the_rest() -> None:
    net = Net()
    new = net.map(lambda x: x + 1)
    assert (int(new.counter.count), new.rate, new.layers[1]) == (1, 0.5, jnp.tanh)
    assert treedef(new) == treedef(net)


def test_a_map_takes_the_arrays_of_other_modules() -> None:
    linear = Linear(2, 2)
    assert linear.map(jax.lax.sub, linear).weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_map_works_on_parameters() -> None:
    parameters = Net().parameters()
    updates = parameters.map(jnp.ones_like)
    new = parameters.map(jax.lax.sub, updates)
    assert treedef(new) == treedef(parameters)
    assert new.norm.scale.tolist() == [0.0, 0.0]


def test_classes_and_static_values_of_mapped_modules_may_differ() -> None:
    first, second = Holder(a=jnp.ones(2), rate=1), ParameterHolder(a=jnp.ones(2), rate=2)
    new = first.map(jax.lax.add, second)
    assert (type(new), new.rate, new.a.tolist()) == (Holder, 1, [2.0, 2.0])


@pytest.mark.parametrize(
    "other",
    [lambda: Holder(b=jnp.ones(2)), lambda: Holder(a=[jnp.ones(2)]), lambda: Holder(a=jnp.ones(2), b=jnp.ones(2))],
    ids=["name", "container", "more arrays"],
)
def test_a_mapped_module_has_to_have_the_same_arrays(other: Callable[[], Any]) -> None:
    with pytest.raises(StructureError, match=r"These modules do not have the same arrays."):
        Holder(a=jnp.ones(2)).map(jax.lax.add, other())


def test_only_modules_can_be_mapped_together() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Only modules can be mapped together with a module."):
        Holder(a=jnp.ones(2)).map(jax.lax.add, {"a": jnp.ones(2)})


# ---- apply -----------------------------------------------------------------------------------------------------------


def test_a_function_is_applied_from_the_leaves_of_the_tree_to_its_root() -> None:
    seen: list[str] = []

    def note(module: Any) -> Any:
        seen.append(module.name)
        return module

    Holder(
        name="root",
        mixed=[Linear(name="m"), 3],
        b=Holder(name="b", c=Linear(name="c")),
        d={"z": Linear(name="z"), "e": Linear(name="e")},
    ).apply(note)
    assert seen == ["c", "b", "e", "z", "m", "root"]


def test_a_function_sees_submodules_that_are_transformed_already() -> None:
    seen: list[Any] = []

    def rename(module: Any) -> Any:
        seen.append([below.name for below in module.submodules()])
        return module.replace(name="new")

    Holder(a=Linear()).apply(rename)
    assert seen == [[], ["new"]]


def test_a_function_may_return_a_module_of_another_class() -> None:
    new = Net().apply(lambda m: Norm(5) if isinstance(m, Linear) else m)
    assert [type(below) for below in new.submodules()] == [Norm, Norm, Counter, Norm, Norm]


def test_a_function_sees_copies() -> None:
    seen: list[Any] = []
    net = Net()

    def note(module: Any) -> Any:
        seen.append(module)
        return module

    net.apply(note)
    assert all(module is not net and module is not net.encoder for module in seen)


def test_the_result_for_the_root_is_the_result() -> None:
    other = Counter()
    assert Linear().apply(lambda m: other) is other


def test_a_function_cannot_change_the_copies_in_place() -> None:
    def change(module: Any) -> Any:
        module.rate = 3
        return module

    with pytest.raises(MutationError):
        Holder(rate=1).apply(change)


@pytest.mark.parametrize("method", ["apply", "apply_submodules"])
def test_a_function_that_forgets_to_return_is_an_error_that_names_the_place(method: str) -> None:
    holder = Holder(a=[Linear()])
    with pytest.raises(ArgumentTypeError) as caught:
        getattr(holder, method)(lambda m: None)
    assert str(caught.value).startswith("The function given to `apply` has to return a module.")
    assert "where: a[0] (Linear)" in str(caught.value)
    assert "got:   None" in str(caught.value)
    assert "return module" in str(caught.value).partition("fix:")[2]


def test_a_function_is_applied_to_submodules_only() -> None:
    holder = Holder(name="root", a=Holder(b=Linear()))
    new = holder.apply_submodules(lambda m: m.replace(name="new"))
    assert (new.name, new.a.name, new.a.b.name) == ("root", "new", "new")
    assert new is not holder


# ---- submodules ------------------------------------------------------------------------------------------------------


def test_submodules_are_the_nearest_modules_in_pytree_order() -> None:
    mixed, first, second = Linear(name="m"), Holder(name="1", below=Linear()), Linear(name="2")
    holder = Holder(mixed=[mixed, 3], table={"b": second, "a": first}, array=jnp.ones(1))
    assert [below.name for below in holder.submodules()] == ["1", "2", "m"]
    assert holder.submodules()[0] is first


def test_a_module_without_submodules_has_none() -> None:
    assert Linear().submodules() == []


# ---- state dictionaries ----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


def _tree() -> Holder:
    return Holder(
        modules=(Linear(1, 2), jax.nn.relu, Linear(2, 3)),
        array=jnp.ones(1),
        table={"k": jnp.ones(2)},
        pair=Pair(jnp.ones(1), Counter()),
        rate=0.5,
        empty=pax.EmptyNode(),
    )


def test_a_state_dictionary_has_the_names_of_attributes_in_pytree_order() -> None:
    assert list(_tree().state_dict()) == ["array", "table", "pair", "empty", "modules"]


def test_a_state_dictionary_keeps_containers_and_makes_dictionaries_of_modules() -> None:
    tree = _tree()
    state = tree.state_dict()
    assert [type(item) for item in state["modules"]] == [dict, type(None), dict]
    assert list(state["modules"][0]) == ["weight", "bias"]
    assert type(state["pair"]) is Pair
    assert list(state["pair"].second) == ["count"]


def test_a_state_dictionary_holds_the_very_arrays() -> None:
    tree = _tree()
    state = tree.state_dict()
    assert state["array"] is tree.array
    assert state["modules"][2]["weight"] is tree.modules[2].weight


def test_empty_nodes_stay_in_a_state_dictionary() -> None:
    assert _tree().state_dict()["empty"] == pax.EmptyNode()


def test_a_module_without_arrays_has_an_empty_state_dictionary() -> None:
    assert Holder(rate=3).state_dict() == {}


def test_loading_what_was_saved_gives_a_module_with_the_same_arrays() -> None:
    a, b = _tree(), _tree()
    assert b.load_state_dict(a.state_dict()) == a


def test_loading_leaves_the_module_as_it_is() -> None:
    a, b = Linear(), Linear()
    weight = b.weight
    b.load_state_dict(a.state_dict())
    assert b.weight is weight


def test_loading_keeps_the_structure_of_the_module() -> None:
    net = Net().eval()
    loaded = pax.freeze_parameters(net).load_state_dict(Net().state_dict())
    assert treedef(loaded) == treedef(pax.freeze_parameters(net))


def test_jax_arrays_are_taken_as_they_are_in_another_precision_too() -> None:
    half = jnp.ones((2, 2), dtype=jnp.float16)
    assert Linear().load_state_dict({"weight": half, "bias": jnp.ones(2)}).weight is half


def test_numpy_arrays_take_the_kind_and_dtype_of_what_they_replace() -> None:
    loaded = Linear().load_state_dict({"weight": np.ones((2, 2)), "bias": np.ones(2)})
    assert isinstance(loaded.weight, jax.Array)
    assert loaded.weight.dtype == jnp.float32


def test_a_numpy_array_stays_one_where_there_was_one() -> None:
    array = np.ones(2)
    assert Holder(a=np.zeros(2)).load_state_dict({"a": array}).a is array


def test_numbers_become_arrays() -> None:
    loaded = Holder(a=jnp.array(0.0), b=jnp.array(0)).load_state_dict({"a": 3, "b": np.int32(4)})
    assert (loaded.a.dtype, float(loaded.a), loaded.b.dtype, int(loaded.b)) == (jnp.float32, 3.0, jnp.int32, 4)
    assert loaded.pytree_attributes == ("a", "b")


def test_an_array_can_be_loaded_into_an_empty_place() -> None:
    assert Holder(a=pax.EmptyNode()).load_state_dict({"a": jnp.ones(2)}).a.tolist() == [1.0, 1.0]


_PROBLEMS: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "missing": (lambda d: d["encoder"].pop("weight"), ["missing: encoder.weight"]),
    "missing module": (
        lambda d: d.pop("norm"),
        ["missing: norm.scale, norm.mean"],
    ),
    "unexpected": (lambda d: d["encoder"].update(extra=jnp.ones(1)), ["unexpected: encoder.extra"]),
    "shape": (
        lambda d: d["layers"][2].update(bias=jnp.ones(9)),
        ["layers[2].bias: got float32[9], want float32[1]"],
    ),
    "kind": (
        lambda d: d["counter"].update(count=jnp.array(0.5)),
        ["counter.count: got float32[], want int32[]"],
    ),
    "no array": (lambda d: d["norm"].update(scale="text"), ["norm.scale: got 'text', want float32[2]"]),
    "a number for an array": (lambda d: d["norm"].update(scale=1.0), ["norm.scale: got 1.0, want float32[2]"]),
    "no dictionary": (lambda d: d.update(norm=jnp.ones(1)), ["norm: got float32[1], want a dictionary"]),
    "shorter": (lambda d: d["layers"].pop(), ["missing: layers[2].weight, layers[2].bias"]),
    "longer": (lambda d: d["layers"].append({}), ["unexpected: layers[3]"]),
    "a tuple": (lambda d: d.update(layers=(*d["layers"],)), ["layers: got a tuple of 3, want a list of 3 alike"]),
    "a flat name": (lambda d: d.update({"encoder.weight": 1}), ["unexpected: ['encoder.weight']"]),
    "an empty node": (lambda d: d["norm"].update(scale=pax.EmptyNode()), ["missing: norm.scale"]),
    "several": (
        lambda d: (d["encoder"].update(x=1), d["encoder"].pop("weight"), d["norm"].update(mean=jnp.ones(5))),
        ["missing: encoder.weight", "unexpected: encoder.x", "norm.mean: got float32[5], want float32[2]"],
    ),
}


@pytest.mark.parametrize(("spoil", "lines"), _PROBLEMS.values(), ids=_PROBLEMS)
def test_a_state_dictionary_that_does_not_fit_is_an_error_that_lists_everything(
    spoil: Callable[[dict[str, Any]], Any], lines: list[str]
) -> None:
    state = Net().state_dict()
    spoil(state)
    with pytest.raises(StateDictError) as caught:
        Net().load_state_dict(state)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KeyError)
    text = str(caught.value)
    assert text.startswith("The state dictionary does not fit the module.")
    assert all(line in text for line in lines)
    assert "where: Net" in text
    assert "fix:   compare it with module.state_dict()" in text


def test_every_problem_is_listed() -> None:
    with pytest.raises(StateDictError) as caught:
        Net().load_state_dict({f"x{i}": i for i in range(30)})
    assert caught.value.got is not None
    missing, unexpected = caught.value.got.splitlines()
    names = [jax.tree_util.keystr(path)[1:] for path, _ in jax.tree_util.tree_leaves_with_path(Net())]
    assert missing == f"missing: {', '.join(names)}"
    assert unexpected == f"unexpected: {', '.join(f'x{i}' for i in range(30))}"


def test_a_dictionary_and_a_named_tuple_are_compared_entry_by_entry() -> None:
    module = Holder(a={"x": jnp.ones(1), "y": jnp.ones(2)}, b=Pair(jnp.ones(3), jnp.ones(4)))
    state: dict[str, Any] = {"a": {"x": jnp.zeros(1), "z": 3}, "b": Pair(jnp.zeros(3), jnp.zeros(9))}
    loaded, skipped = module.load_state_dict(state, strict=False)
    assert skipped == {
        "a['y']": "missing, want float32[2]",
        "a['z']": "unexpected, got 3",
        "b.second": "got float32[9], want float32[4]",
    }
    assert loaded.a["x"] is state["a"]["x"]
    assert loaded.a["y"] is module.a["y"]
    assert loaded.b.first is state["b"].first
    assert loaded.b.second is module.b.second


def test_what_fits_of_a_state_dictionary_can_be_loaded() -> None:
    net, state = Net(), Net().state_dict()
    del state["encoder"]["weight"]
    state["other"] = jnp.ones(2)
    state["layers"][2]["bias"] = jnp.ones(9)
    loaded, skipped = net.load_state_dict(state, strict=False)
    assert skipped == {
        "encoder.weight": f"missing, want {pax.extend.describe(net.encoder.weight)}",
        "other": "unexpected, got float32[2]",
        "layers[2].bias": "got float32[9], want float32[1]",
    }
    assert loaded.encoder.weight is net.encoder.weight
    assert loaded.layers[2].bias is net.layers[2].bias
    assert loaded.layers[2].weight is state["layers"][2]["weight"]
    assert loaded.norm.scale is state["norm"]["scale"]
    assert net.load_state_dict(net.state_dict(), strict=False) == (net, {})


def test_something_else_than_a_dictionary_is_an_error() -> None:
    with pytest.raises(StateDictError, match="the root: got None, want a dictionary"):
        Net().load_state_dict(None)  # type: ignore[call-overload]


def test_typed_keys_are_no_floats() -> None:
    with pytest.raises(StateDictError, match=r"key: got float32\[\], want key<fry>\[\]"):
        Holder(key=jax.random.key(0)).load_state_dict({"key": jnp.array(0.0)})


def test_a_state_dictionary_of_typed_keys_can_be_loaded() -> None:
    key = jax.random.key(1)
    assert Holder(key=jax.random.key(0)).load_state_dict({"key": key}).key is key


class Celsius(pax.Module):
    """Has a property that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.kelvin = 273.0

    @property
    def celsius(self) -> float:
        """What `kelvin` is on another scale."""
        return self.kelvin - 273.0

    @celsius.setter
    def celsius(self, value: float) -> None:
        self.kelvin = value + 273.0

    @property
    def is_frost(self) -> bool:
        """Whether it is below zero."""
        return self.celsius < 0


def test_replace_takes_properties_that_can_be_set() -> None:
    old = Celsius()
    new = old.replace(celsius=20.0)
    assert (old.kelvin, new.kelvin) == (273.0, 293.0)
    with pytest.raises(AttributeNameError) as caught:
        old.replace(is_frost=True)
    assert "fix:   replace what Celsius computes `is_frost` from" in str(caught.value)


def test_an_error_about_a_module_in_apply_names_its_path() -> None:
    def refuse(module: Any) -> Any:
        if isinstance(module, Linear):
            raise ArgumentError("No.", module=module)
        return module

    with pytest.raises(ArgumentError, match=r"where: a\[1\] \(Linear\)"):
        Holder(a=[jnp.ones(1), Linear(1, 1)]).apply(refuse)


def test_a_state_dictionary_of_pytorch_is_told_its_function() -> None:
    with pytest.raises(StateDictError) as caught:
        Holder(layer=Linear()).load_state_dict({"layer.weight": jnp.ones((2, 2)), "layer.bias": jnp.ones(2)})
    assert "\n         pax.experimental.load_torch_weights(module, state)" in str(caught.value)
