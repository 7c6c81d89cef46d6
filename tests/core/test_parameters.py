"""Which arrays are parameters: plain, parameter and state modules, `parameters_method`, `~`, and updates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.treedefs import treedef
from pax.errors import ArgumentTypeError, AttributeNameError


class StateHolder(pax.StateModule):
    """Holds an array, a list of arrays and two submodules."""

    def __init__(self) -> None:
        super().__init__()
        self.own = jnp.ones(1)
        self.many = [jnp.ones(1), {"a": jnp.ones(2)}]
        self.linear = Linear()
        self.layers = (Norm(), "text")


def _paths(module: Any) -> list[str]:
    return [jax.tree_util.keystr(path)[1:] for path, _ in jax.tree_util.tree_leaves_with_path(module)]


def test_a_plain_module_has_the_parameters_of_its_submodules_only() -> None:
    holder = Holder(own=jnp.ones(1), many=[jnp.ones(1)], linear=Linear(), layers=[Linear(), 3])
    assert _paths(holder.parameters()) == [
        "linear.weight",
        "linear.bias",
        "layers[0].weight",
        "layers[0].bias",
    ]


def test_a_parameter_module_has_its_own_arrays_too() -> None:
    holder = ParameterHolder(own=jnp.ones(1), many=[jnp.ones(1), 3], counter=Counter(), norm=Norm())
    assert _paths(holder.parameters()) == ["own", "norm.scale", "many[0]"]


def test_a_state_module_has_the_parameters_of_its_submodules() -> None:
    assert _paths(StateHolder().parameters()) == ["linear.weight", "linear.bias", "layers[0].scale"]


def test_what_is_no_parameter_becomes_an_empty_node_in_its_place() -> None:
    parameters = StateHolder().parameters()
    assert parameters.own == pax.EmptyNode()
    assert parameters.many == [pax.EmptyNode(), {"a": pax.EmptyNode()}]
    assert parameters.layers[1] == "text"


def test_parameters_are_the_very_arrays() -> None:
    linear = Linear()
    assert linear.parameters().weight is linear.weight


def test_parameters_keep_class_mode_and_static_attributes() -> None:
    parameters = Net(name="me").eval().parameters()
    assert (type(parameters), parameters.name, parameters.training, parameters.rate) == (Net, "me", False, 0.5)


def test_parameters_of_parameters_are_the_same() -> None:
    parameters = Net().parameters()
    assert parameters.parameters() == parameters


def test_if_everything_is_trained_the_parameters_equal_the_module() -> None:
    linear = Linear()
    assert linear.parameters() == linear
    assert treedef(linear.parameters()) == treedef(linear)


def test_parameters_have_the_summary_of_the_module() -> None:
    assert Net().parameters().summary() == Net().summary()


def test_the_tilde_is_short_for_parameters() -> None:
    net = Net()
    assert ~net == net.parameters()


def test_an_empty_node_stays_where_it_is() -> None:
    holder = Holder(a=pax.EmptyNode())
    assert holder.parameters() == holder


# ---- parameters_method -----------------------------------------------------------------------------------------------


def _module(method: Callable[[Any], Any], **attributes: Any) -> Any:
    class Chosen(Holder):
        parameters = method

    return Chosen(**attributes)


def _attributes() -> dict[str, Any]:
    return {
        "weight": jnp.ones(1),
        "bias": jnp.ones(2),
        "count": jnp.ones(3),
        "norm": Norm(),
        "many": [jnp.ones(1), 3],
        "nothing": None,
    }


_CHOICES: dict[str, tuple[tuple[str, ...], bool, list[str]]] = {
    "one name": (("weight",), True, ["weight", "norm.scale"]),
    "several names": (("weight", "bias"), True, ["weight", "bias", "norm.scale"]),
    "names in one text": (("weight  bias", "count"), True, ["weight", "bias", "count", "norm.scale"]),
    "no name": ((), True, ["norm.scale"]),
    "a named submodule keeps its states": (("norm",), True, ["norm.scale", "norm.mean"]),
    "a container": (("many",), True, ["norm.scale", "many[0]"]),
    "without submodules": (("weight",), False, ["weight"]),
    "a named submodule without the others": (("norm",), False, ["norm.scale", "norm.mean"]),
    "a static attribute": (("weight nothing",), True, ["weight", "norm.scale"]),
}


@pytest.mark.parametrize(("names", "submodules", "paths"), _CHOICES.values(), ids=_CHOICES)
def test_named_attributes_are_parameters(names: tuple[str, ...], submodules: bool, paths: list[str]) -> None:
    module = _module(pax.parameters_method(*names, submodules=submodules), **_attributes())
    assert _paths(module.parameters()) == paths


def test_without_submodules_an_empty_node_stands_for_each_of_them() -> None:
    module = _module(pax.parameters_method("weight", submodules=False), **_attributes())
    assert module.parameters().norm == pax.EmptyNode()


def test_an_update_leaves_submodules_alone_that_are_no_part_of_the_parameters() -> None:
    module = _module(pax.parameters_method("weight", submodules=False), **_attributes())
    updated = module.update_parameters(jax.tree.map(lambda x: x + 1, module))
    assert (updated.weight.tolist(), updated.norm.scale is module.norm.scale) == ([2.0], True)


def test_a_missing_name_is_an_error_when_the_parameters_are_asked_for() -> None:
    module = _module(pax.parameters_method("zz"), weight=jnp.ones(1))
    with pytest.raises(AttributeNameError) as caught:
        module.parameters()
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).startswith("Expecting an attribute with name `zz`.")
    assert "got:   weight" in str(caught.value)
    assert "fix:   assign self.zz in the constructor" in str(caught.value)


def test_a_method_of_a_user_counts() -> None:
    class Choosy(Holder):
        def parameters(self) -> Any:
            return pax.filter(self, "weight")

    holder = Holder(choosy=Choosy(weight=jnp.ones(1), bias=jnp.ones(1)))
    assert _paths(holder.parameters()) == ["choosy.weight"]


# ---- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_takes_parameters_and_keeps_states() -> None:
    net = Net()
    updated = net.update_parameters(jax.tree.map(lambda x: x + 1, net))
    assert jnp.array_equal(updated.norm.scale, net.norm.scale + 1)
    assert updated.norm.mean is net.norm.mean
    assert updated.counter.count is net.counter.count


def test_an_update_takes_a_module_of_parameters_too() -> None:
    net = Net()
    parameters = jax.tree.map(lambda x: x + 1, net.parameters())
    updated = net.update_parameters(parameters)
    assert updated.encoder.weight is parameters.encoder.weight
    assert treedef(updated) == treedef(net)


def test_an_update_is_a_merge_with_the_parameters() -> None:
    net, other = Net(), Net()
    assert net.update_parameters(other) == net | ~other


def test_an_update_leaves_the_module_as_it_is() -> None:
    net, other = Net(), Net()
    weight = net.encoder.weight
    net.update_parameters(other)
    assert net.encoder.weight is weight


def test_an_update_with_something_else_is_an_error() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        Net().update_parameters({"a": 1})  # type: ignore[arg-type]
    assert "got:   a dict of 1" in str(caught.value)
    assert "fix:   module.update_parameters(new_module)" in str(caught.value)


def test_a_method_that_returns_no_module_is_an_error_that_says_what_to_write() -> None:
    class Listed(pax.Module):
        def parameters(self) -> Any:
            return {"weight": 1}

    with pytest.raises(ValueError, match=r"has to return a module.(.|\n)*got:   a dict of 1(.|\n)*parameters_method"):
        Listed().parameters()


def test_names_in_a_list_are_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.parameters_method(["weight", "bias"])  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith("Names of trained attributes have to be texts.")
    assert "got:   a list of 2" in text
    assert 'fix:   parameters = pax.parameters_method("weight", "bias")' in text
