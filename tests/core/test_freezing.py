"""Frozen parts of a module: whole, by every selector, undone, and that freezing makes no new structures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentTypeError, SelectorError, StructureError


def _trained(module: Any) -> list[str]:
    return [jtu.keystr(path).removeprefix(".") for path, _ in jtu.tree_leaves_with_path(module.parameters())]


def _model() -> Holder:
    return Holder(
        layers=[Linear(2, 2), jnp.tanh, Linear(2, 2)],
        norm=Norm(),
        own=ParameterHolder(a=jnp.ones(1), b=[jnp.ones(2), 3, jnp.ones(3)]),
    )


_ALL = _trained(_model())

_SELECTORS: dict[str, tuple[Any, str | list[str]]] = {
    "leaf predicate": (lambda leaf: leaf.ndim > 1, ["layers[0].weight", "layers[2].weight"]),
    "path predicate": (
        lambda path, leaf: "bias" in jtu.keystr(path),
        ["layers[0].bias", "layers[2].bias"],
    ),
    "module class": (Norm, ["norm.scale"]),
    "pattern of a module": ("layers/0", ["layers[0].weight", "layers[0].bias"]),
    "pattern of an array": ("layers/*/weight", ["layers[0].weight", "layers[2].weight"]),
    "pattern of one array in a container": ("own/b/2", ["own.b[2]"]),
    "pattern of a container": ("own/b", ["own.b[0]", "own.b[2]"]),
    "everything": (True, _ALL),
    "none given": (None, _ALL),
}


# ---- freezing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("selector", "frozen"), _SELECTORS.values(), ids=_SELECTORS)
def test_what_is_selected_is_no_longer_a_parameter(selector: Any, frozen: list[str]) -> None:
    assert _trained(pax.freeze_parameters(_model(), selector)) == [path for path in _ALL if path not in frozen]


@pytest.mark.parametrize(("selector", "frozen"), _SELECTORS.values(), ids=_SELECTORS)
def test_what_is_selected_can_be_unfrozen_again(selector: Any, frozen: list[str]) -> None:
    thawed = pax.unfreeze_parameters(pax.freeze_parameters(_model()), selector)
    assert _trained(thawed) == [path for path in _ALL if path in frozen]


@pytest.mark.parametrize(("selector", "frozen"), _SELECTORS.values(), ids=_SELECTORS)
def test_freezing_and_unfreezing_the_same_gives_the_same_module(selector: Any, frozen: list[str]) -> None:
    model = _model()
    assert pax.unfreeze_parameters(pax.freeze_parameters(model, selector), selector) == model


def test_a_tree_of_bools_freezes() -> None:
    model = _model()
    frozen = pax.freeze_parameters(model, jax.tree.map(lambda leaf: leaf.ndim > 1, model))
    assert _trained(frozen) == [path for path in _ALL if "weight" not in path]


@pytest.mark.parametrize("selector", [None, "encoder", Norm, "**/weight"], ids=str)
def test_two_frozen_copies_have_one_structure(selector: Any) -> None:
    first, second = pax.freeze_parameters(Net(), selector), pax.freeze_parameters(Net(), selector)
    assert treedef(first) == treedef(second)


@pytest.mark.parametrize("selector", [None, "encoder", Norm, "**/weight"], ids=str)
def test_models_frozen_apart_trace_once(selector: Any) -> None:
    run = TraceCounter(lambda net: net.parameters())
    for _ in range(3):
        run(pax.freeze_parameters(Net(), selector))
    assert run.traces == 1


def test_freezing_in_steps_is_freezing_at_once() -> None:
    steps = pax.freeze_parameters(pax.freeze_parameters(Net(), "encoder/weight"), "encoder/bias")
    assert treedef(steps) == treedef(pax.freeze_parameters(Net(), "encoder"))


def test_the_order_of_freezing_does_not_matter() -> None:
    model = Net()
    one = pax.freeze_parameters(pax.freeze_parameters(model, "encoder/weight"), Norm)
    other = pax.freeze_parameters(pax.freeze_parameters(model, Norm), "encoder/weight")
    assert one == other


def test_freezing_twice_is_freezing_once() -> None:
    frozen = pax.freeze_parameters(Net())
    assert pax.freeze_parameters(frozen) == frozen


def test_freezing_leaves_the_module_itself_trained() -> None:
    model = _model()
    pax.freeze_parameters(model)
    assert _trained(model) == _ALL


def test_a_frozen_module_has_the_same_class_arrays_name_and_text() -> None:
    net = Net(name="me")
    frozen = pax.freeze_parameters(net)
    assert type(frozen) is Net
    assert frozen.name == "me"
    assert frozen.summary() == net.summary()
    assert all(a is b for a, b in zip(jax.tree.leaves(frozen), jax.tree.leaves(net), strict=True))


def test_a_frozen_module_differs_in_structure() -> None:
    net = Net()
    assert pax.freeze_parameters(net) != net


def test_a_frozen_module_computes_as_before_and_its_states_change() -> None:
    net, x = Net(), jnp.arange(6.0).reshape(3, 2)
    updated, y = pax.purecall(pax.freeze_parameters(net), x)
    _, expected = pax.purecall(net, x)
    assert jnp.array_equal(y, expected)
    assert (int(updated.counter.count), updated.norm.mean.tolist()) == (1, [2.0, 3.0])


def test_a_module_stays_frozen_after_a_change() -> None:
    updated, _ = pax.purecall(pax.freeze_parameters(Net()), jnp.ones((3, 2)))
    assert _trained(updated) == []


@pytest.mark.parametrize(
    "operation",
    [
        lambda m: m.copy(),
        lambda m: m.eval(),
        lambda m: jax.jit(lambda x: x)(m),
        lambda m: m.replace(name="new"),
        lambda m: m.apply(lambda below: below),
        lambda m: m.map(lambda x: x),
        lambda m: m | m,
        lambda m: m.load_state_dict(m.state_dict()),
    ],
    ids=["copy", "eval", "jit", "replace", "apply", "map", "merge", "state dict"],
)
def test_operations_keep_what_is_frozen(operation: Callable[[Any], Any]) -> None:
    frozen = pax.freeze_parameters(_model(), "layers")
    assert _trained(operation(frozen)) == _trained(frozen)


def test_a_frozen_module_gets_no_gradients() -> None:
    net = Holder(a=Linear(2, 2), b=pax.freeze_parameters(Linear(2, 2)))
    gradients = pax.grad(lambda net, x: net.b(net.a(x)).sum())(net, jnp.ones((1, 2)))
    assert gradients.b.weight == pax.EmptyNode()
    assert gradients.a.weight.shape == (2, 2)


def test_a_new_layer_in_place_of_a_frozen_one_is_trained() -> None:
    net = pax.freeze_parameters(Holder(layers=[Linear(), Linear()]))
    net.layers[-1] = Linear(2, 1)
    assert _trained(net) == ["layers[1].weight", "layers[1].bias"]


def test_the_parameters_of_a_partly_frozen_module_can_be_updated() -> None:
    net = pax.freeze_parameters(Net(), "encoder/weight")
    updated = net.update_parameters(jax.tree.map(lambda x: x + 1, net))
    assert updated.encoder.weight is net.encoder.weight
    assert jnp.array_equal(updated.encoder.bias, net.encoder.bias + 1)


def test_what_is_frozen_is_left_out_of_a_method_of_a_user() -> None:
    class Choosy(Holder):
        def parameters(self) -> Any:
            return pax.filter(self, "[ab]")

    holder = pax.freeze_parameters(Choosy(a=jnp.ones(1), b=jnp.ones(1), c=jnp.ones(1)), "b")
    assert _trained(holder) == ["a"]


def test_freezing_states_only_changes_no_parameters() -> None:
    assert _trained(pax.freeze_parameters(Net(), "counter")) == _trained(Net())


def test_a_selector_that_selects_nothing_is_an_error() -> None:
    with pytest.raises(SelectorError, match=r"The selector selects nothing.") as caught:
        pax.freeze_parameters(Net(), "decoder")
    assert "encoder/weight: float32[2,3]" in str(caught.value)


@pytest.mark.parametrize("change", [pax.freeze_parameters, pax.unfreeze_parameters])
def test_only_modules_can_be_frozen(change: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX module.") as caught:
        change({"a": 1})
    assert f"fix:   pax.{change.__name__}(module)" in str(caught.value)


def test_a_module_without_arrays_can_be_frozen() -> None:
    assert pax.freeze_parameters(pax.Module()) != pax.Module()


def test_the_flags_of_freezing_are_not_in_the_way_of_array_names() -> None:
    assert "_frozen" not in pax.freeze_parameters(_model()).state_dict()


def test_a_module_with_replaced_methods_can_be_unfrozen_by_its_origin() -> None:
    origin = Holder(a=Linear().replace_method(__call__=lambda self, x: x))
    assert _trained(pax.unfreeze_parameters(pax.freeze_parameters(origin), origin=origin)) == ["a.weight", "a.bias"]


# ---- unfreezing ------------------------------------------------------------------------------------------------------


def test_unfreezing_without_origin_gives_the_structure_of_a_trained_module() -> None:
    net = Net()
    assert pax.unfreeze_parameters(pax.freeze_parameters(net)) == net


def test_unfreezing_with_an_origin_takes_its_structure_and_the_arrays_of_the_module() -> None:
    origin = Net()
    changed = pax.freeze_parameters(jax.tree.map(lambda x: x + 1, origin)).eval()
    restored = pax.unfreeze_parameters(changed, origin=origin)
    assert treedef(restored) == treedef(origin)
    assert restored.encoder.weight is changed.encoder.weight
    assert restored.training


def test_unfreezing_keeps_what_the_origin_has_frozen() -> None:
    origin = pax.freeze_parameters(Net(), "encoder")
    assert _trained(pax.unfreeze_parameters(pax.freeze_parameters(Net()), origin=origin)) == _trained(origin)


def test_an_origin_has_to_be_given_by_keyword() -> None:
    net = Net()
    with pytest.raises(ArgumentTypeError):
        pax.unfreeze_parameters(pax.freeze_parameters(net), net)


def test_an_origin_and_a_selector_exclude_each_other() -> None:
    net = Net()
    with pytest.raises(ArgumentTypeError, match=r"Give either a selector or the original module.") as caught:
        pax.unfreeze_parameters(net, "encoder", origin=net)
    assert "fix:   pax.unfreeze_parameters(module, origin=original)" in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "got", "want"),
    [
        (lambda: Holder(a=Linear(3, 3)), "a.weight: float32[2,2]", "a.weight: float32[3,3]"),
        (lambda: Holder(a=ParameterHolder(weight=jnp.ones((2, 2)), bias=jnp.ones(2))), "Linear", "ParameterHolder"),
        (lambda: Holder(a=Linear(), b=Linear()), "", "b.weight: float32[2,2]"),
        (lambda: Holder(a=Linear(), b=jnp.ones(1)), "", "b: float32[1]"),
    ],
    ids=["shapes", "class", "more modules", "more arrays"],
)
def test_an_origin_of_another_structure_is_an_error(origin: Callable[[], Any], got: str, want: str) -> None:
    with pytest.raises(StructureError) as caught:
        pax.unfreeze_parameters(pax.freeze_parameters(Holder(a=Linear())), origin=origin())
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert text.startswith("The module does not have the structure of the original.")
    assert got in text.partition("got:")[2].partition("want:")[0]
    assert want in text.partition("want:")[2].partition("fix:")[0]
    assert "fix:   pass the module that was frozen as `origin`, or leave `origin` out" in text
    assert "in another order" not in text


def test_an_origin_of_the_same_leaves_in_other_places_is_an_error() -> None:
    module = Holder(a=jnp.ones(1), b=Counter())
    with pytest.raises(StructureError):
        pax.unfreeze_parameters(module, origin=Holder(a=jnp.ones(1), c=Counter()))
