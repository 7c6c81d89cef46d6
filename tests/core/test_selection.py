"""Selectors, `filter`, `partition` and `combine`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm
from helpers.treedefs import treedef
from pax.errors import ArgumentTypeError, SelectorError, StructureError


def _paths(tree: Any) -> list[str]:
    return [jtu.keystr(path).removeprefix(".") for path, _ in jtu.tree_leaves_with_path(tree)]


def _model() -> Holder:
    return Holder(
        blocks=[
            Holder(attn=Holder(q=Linear(2, 2), k=Linear(2, 2)), norm=Norm()),
            Holder(attn=Holder(q=Linear(2, 2), k=Linear(2, 2)), norm=Norm()),
        ],
        table={"head": Linear(2, 1), "count": Counter()},
    )


_ALL = _paths(_model())


def _containing(text: str) -> list[str]:
    return [path for path in _ALL if text in path]


def _takes_path(path: Any, leaf: Any) -> bool:
    return jtu.keystr(path).endswith("bias") and leaf.ndim == 1


def _with_default(leaf: Any, threshold: int = 1) -> bool:
    return bool(leaf.ndim > threshold)


class _Unsigned:
    """A predicate that hides its signature, as some builtin functions do."""

    @property
    def __signature__(self) -> None:
        raise ValueError

    def __call__(self, leaf: Any) -> bool:
        return bool(leaf.ndim > 1)


_SELECTORS: dict[str, tuple[Any, list[str]]] = {
    "leaf predicate": (lambda leaf: leaf.ndim > 1, _containing("weight")),
    "leaf predicate with an option": (_with_default, _containing("weight")),
    "path predicate": (_takes_path, _containing("bias")),
    "predicate whose signature is unknown": (_Unsigned(), _containing("weight")),
    "module class": (Norm, _containing("norm")),
    "module class with states": (Counter, _containing("count")),
    "base class": (pax.ParameterModule, [p for p in _ALL if "weight" in p or "bias" in p]),
    "pattern of a node": ("blocks/0/attn", _containing("blocks[0].attn")),
    "pattern with a star": ("blocks/*/norm/scale", _containing("scale")),
    "pattern with a part of a name": ("blocks/*/n*", _containing("norm")),
    "pattern with characters": ("blocks/[1]/attn", _containing("blocks[1].attn")),
    "pattern with two stars at the end": ("blocks/*/attn/**", _containing("attn")),
    "pattern with two stars at the start": ("**/bias", _containing("bias")),
    "pattern with two stars between": ("blocks/**/weight", [p for p in _containing("weight") if "blocks" in p]),
    "pattern with a dictionary key": ("table/head", _containing("head")),
    "everything": ("*", _ALL),
    "everything by two stars": ("**", _ALL),
    "one bool": (True, _ALL),
    "numpy bool": (np.True_, _ALL),
}


@pytest.mark.parametrize(("selector", "paths"), _SELECTORS.values(), ids=_SELECTORS)
def test_a_selector_selects(selector: Any, paths: list[str]) -> None:
    assert _paths(pax.filter(_model(), selector)) == paths


@pytest.mark.parametrize(("selector", "paths"), _SELECTORS.values(), ids=_SELECTORS)
def test_an_inverse_filter_keeps_the_rest(selector: Any, paths: list[str]) -> None:
    assert _paths(pax.filter(_model(), selector, inverse=True)) == [path for path in _ALL if path not in paths]


def test_a_tree_of_bools_selects() -> None:
    model = _model()
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, model)
    assert _paths(pax.filter(model, mask)) == _containing("weight")


def test_a_prefix_of_bools_selects_all_below() -> None:
    model = Holder(a=Linear(), b=[Linear(), Norm()])
    prefix = jax.tree.map(
        lambda below: isinstance(below, Norm), model, is_leaf=lambda node: isinstance(node, Linear | Norm)
    )
    assert _paths(pax.filter(model, prefix)) == ["b[1].scale", "b[1].mean"]


def test_a_prefix_of_containers_selects() -> None:
    tree = {"a": [jnp.ones(1), jnp.ones(2)], "b": jnp.ones(3)}
    assert _paths(pax.filter(tree, {"a": True, "b": False})) == ["['a'][0]", "['a'][1]"]


def test_the_path_of_a_predicate_is_that_of_jax() -> None:
    seen: list[str] = []

    def note(path: Any, leaf: Any) -> bool:
        seen.append(jtu.keystr(path))
        return True

    pax.filter(Holder(a=[Linear()], b={"c": jnp.ones(1)}), note)
    assert seen == [".a[0].weight", ".a[0].bias", ".b['c']"]


def test_a_predicate_may_return_an_array() -> None:
    assert _paths(pax.filter({"a": jnp.ones(1), "b": jnp.zeros(1)}, lambda leaf: leaf.sum() > 0)) == ["['a']"]


# ---- filter ----------------------------------------------------------------------------------------------------------


def test_a_filter_without_selector_gives_the_parameters() -> None:
    net = Net()
    assert pax.filter(net) == net.parameters()


def test_an_inverse_filter_without_selector_gives_the_states() -> None:
    assert _paths(pax.filter(Net(), inverse=True)) == ["norm.mean", "counter.count"]


def test_a_filter_puts_empty_nodes_in_place_of_the_rest() -> None:
    filtered = pax.filter(Net(), "encoder")
    assert filtered.norm.scale == pax.EmptyNode()
    assert filtered.layers[1] is jnp.tanh
    assert type(filtered) is Net


def test_a_filter_shares_the_arrays() -> None:
    net = Net()
    assert pax.filter(net, "encoder").encoder.weight is net.encoder.weight


def test_a_filter_with_path_is_a_filter() -> None:
    assert _paths(pax.filter_with_path(_model(), _takes_path)) == _containing("bias")


def test_a_filter_with_path_can_be_inverted() -> None:
    assert _paths(pax.filter_with_path({"a": 1, "b": 2}, lambda path, _: "a" in str(path), inverse=True)) == ["['b']"]


def test_a_filter_with_path_takes_a_predicate_whose_signature_is_unknown() -> None:
    assert _paths(pax.filter_with_path({"a": 1, "b": 2}, lambda *args: args[1] > 1)) == ["['b']"]


def test_a_filter_works_under_jit() -> None:
    net = jax.jit(lambda net: pax.filter(net, Norm))(Net())
    assert _paths(net) == ["norm.scale", "norm.mean"]


# ---- selectors that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    ["blocks/9", "Blocks", lambda leaf: leaf.ndim > 5, lambda path, leaf: False, Net, False],
    ids=["position", "case", "leaf predicate", "path predicate", "class", "bool"],
)
def test_a_selector_that_selects_nothing_is_an_error_that_lists_the_leaves(selector: Any) -> None:
    with pytest.raises(SelectorError) as caught:
        pax.filter(_model(), selector)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert text.startswith("The selector selects nothing.")
    assert "blocks/0/attn/q/weight: float32[2,2]" in text
    assert text.count("32[") == len(_ALL)
    assert 'a pattern as "blocks/*/attn/**"' in text


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("attn", "**/attn"),
        ("q.weight", "**/q/weight"),
        ("blocks/attn", "blocks/0/attn"),
        ("blocks/1/weight", "blocks/1/attn/q/weight"),
    ],
)
def test_a_pattern_that_leaves_out_parts_of_a_path_is_told_them(pattern: str, meant: str) -> None:
    with pytest.raises(SelectorError) as caught:
        pax.filter(_model(), pattern)
    assert f'fix:   "{meant}"  # ' in str(caught.value)
    assert _paths(pax.filter(_model(), meant))


@pytest.mark.parametrize("selectors", [["blocks/0", "blocks/1"], (Net, "blocks/1"), [Net, Linear]])
def test_several_selectors_are_no_selector(selectors: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.filter(_model(), selectors)
    text = str(caught.value)
    assert text.startswith("Several selectors are no selector.")
    assert "fix:   call it for one after the other" in text


def test_a_long_list_of_leaves_is_cut() -> None:
    with pytest.raises(SelectorError, match="… and 3 more"):
        pax.filter([jnp.ones(1) for _ in range(33)], "a")


@pytest.mark.parametrize(
    ("as_printed", "with_slashes"),
    [("blocks[0].attn", "blocks/0/attn"), ("**.weight", "**/weight"), ("blocks[*].attn.q", "blocks/*/attn/q")],
)
def test_a_path_as_errors_print_it_is_a_pattern(as_printed: str, with_slashes: str) -> None:
    assert _paths(pax.filter(_model(), as_printed)) == _paths(pax.filter(_model(), with_slashes))


def test_the_pattern_that_selects_nothing_is_shown() -> None:
    with pytest.raises(SelectorError, match="got:   'blocks/9'"):
        pax.filter(_model(), "blocks/9")


def test_a_pattern_that_selects_a_node_without_leaves_selects_nothing() -> None:
    with pytest.raises(SelectorError):
        pax.filter(Holder(a=pax.Module(), b=jnp.ones(1)), "a")


@pytest.mark.parametrize("pattern", ["", "/", "//"])
def test_a_pattern_has_to_name_something(pattern: str) -> None:
    with pytest.raises(SelectorError, match=r"A path pattern has to name something.") as caught:
        pax.filter(_model(), pattern)
    assert 'fix:   "layers/*/weight"' in str(caught.value)


@pytest.mark.parametrize(
    "selector", [3, [1, 2], {"a": "b"}, Linear(), 0.5], ids=["int", "list", "text", "module", "float"]
)
def test_something_else_is_no_selector(selector: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.filter(_model(), selector)
    assert isinstance(caught.value, TypeError)
    assert str(caught.value).startswith("This is no selector.")
    assert "jax.tree.map(lambda leaf: leaf.size > 1000, module)  # a tree of bools" in str(caught.value)


def test_a_class_that_is_no_module_class_cannot_select() -> None:
    with pytest.raises(ArgumentTypeError, match=r"A class can select only if it is a module class.") as caught:
        pax.filter(_model(), jax.Array)
    assert "fix:   lambda leaf: isinstance(leaf, Array)" in str(caught.value)


def test_a_tree_of_bools_of_another_structure_is_an_error() -> None:
    with pytest.raises(StructureError, match="The tree of bools is no prefix of the tree it selects from"):
        pax.filter({"a": jnp.ones(1)}, {"b": True})


def test_a_tree_without_parameters_needs_a_selector() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Only a module knows its parameters.") as caught:
        pax.filter({"a": jnp.ones(1)})
    assert "fix:   pax.filter(tree, lambda leaf: leaf.size > 1000)" in str(caught.value)


@pytest.mark.parametrize("use", [pax.filter_with_path, pax.partition_with_path])
def test_a_path_predicate_has_to_be_callable(use: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"A predicate has to be a function of \(path, leaf\)"):
        use(_model(), "blocks")


# ---- partition -------------------------------------------------------------------------------------------------------


def test_a_partition_without_selector_splits_parameters_from_states() -> None:
    net = Net()
    parameters, states = pax.partition(net)
    assert parameters == net.parameters()
    assert treedef(parameters) == treedef(net.parameters())
    assert _paths(states) == ["norm.mean", "counter.count"]


def test_a_partition_by_none_is_one_without_selector() -> None:
    net = Net()
    assert pax.partition(net, None) == pax.partition(net)


def test_a_partition_has_a_part_for_each_selector_and_the_rest() -> None:
    parts = pax.partition(_model(), Norm, "**/bias", lambda leaf: leaf.ndim > 1)
    assert [_paths(part) for part in parts] == [
        _containing("norm"),
        _containing("bias"),
        _containing("weight"),
        ["table['count'].count"],
    ]


def test_the_first_selector_that_matches_wins() -> None:
    first, second, rest = pax.partition(_model(), "blocks/0", "blocks/*/norm")
    assert _paths(first) == _containing("blocks[0]")
    assert _paths(second) == _containing("blocks[1].norm")
    assert _paths(rest) == [p for p in _ALL if p not in _paths(first) + _paths(second)]


def test_a_selector_whose_leaves_are_all_taken_gives_an_empty_part() -> None:
    parts = pax.partition(_model(), "blocks", Norm)
    assert _paths(parts[1]) == []


def test_a_later_selector_that_selects_nothing_in_the_tree_is_an_error() -> None:
    with pytest.raises(SelectorError):
        pax.partition(_model(), Norm, "nowhere")


def test_a_partition_with_path() -> None:
    with_bias, rest = pax.partition_with_path(_model(), _takes_path)
    assert _paths(with_bias) == _containing("bias")
    assert _paths(rest) == [path for path in _ALL if "bias" not in path]


def test_a_partition_with_several_path_predicates() -> None:
    parts = pax.partition_with_path(
        {"a": 1, "b": 2, "c": 3}, lambda path, _: "a" in str(path), lambda path, leaf: leaf < 3
    )
    assert [_paths(part) for part in parts] == [["['a']"], ["['b']"], ["['c']"]]


def test_a_partition_of_a_bare_leaf() -> None:
    parts: Any = pax.partition(jnp.ones(2), lambda leaf: leaf.size == 2)
    assert (parts[0].shape, parts[1]) == ((2,), pax.EmptyNode())


# ---- combine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selectors",
    [(), (Norm,), (Norm, "**/bias"), ("table", "blocks/0", lambda leaf: leaf.ndim > 1)],
    ids=["none", "one", "two", "three"],
)
def test_the_parts_of_a_module_combine_to_the_module(selectors: tuple[Any, ...]) -> None:
    model = _model()
    assert pax.combine(*pax.partition(model, *selectors)) == model


def test_the_order_of_parts_does_not_matter() -> None:
    model = _model()
    assert pax.combine(*reversed(pax.partition(model, Norm, "**/bias"))) == model


def test_the_first_tree_that_has_something_wins() -> None:
    first, second = Norm(), Norm()
    assert pax.combine(first.parameters(), second) == second.replace(scale=first.scale)
    assert pax.combine(first, second) == first


def test_none_is_nothing() -> None:
    assert pax.combine({"a": None, "b": 1}, {"a": 2, "b": None}) == {"a": 2, "b": 1}


def test_places_where_no_tree_has_anything_stay_empty() -> None:
    empty = pax.EmptyNode()
    assert pax.combine({"a": empty, "b": 1}, {"a": empty, "b": 2}) == {"a": empty, "b": 1}


@pytest.mark.parametrize("order", [1, -1], ids=["hole first", "hole second"])
def test_a_hole_may_stand_for_a_whole_submodule(order: int) -> None:
    whole = Holder(a=Linear(), b=jnp.ones(1))
    holed = Holder(a=pax.EmptyNode(), b=whole.b)
    assert pax.combine(*[holed, whole][::order]) == whole


def test_one_tree_combines_to_itself() -> None:
    net = Net()
    assert pax.combine(net) == net


def test_nothing_to_combine_is_an_error() -> None:
    with pytest.raises(ArgumentTypeError, match=r"There is nothing to combine.") as caught:
        pax.combine()
    assert "fix:   pax.combine(*parts)" in str(caught.value)


@pytest.mark.parametrize(
    ("second", "path"),
    [
        (lambda: Holder(a=[Linear(), Norm()]), "path `a[1]`"),
        (lambda: Holder(a=[Linear(3, 2), Linear()]), "path `a[0]`"),
        (lambda: Holder(a=[Linear()]), "path `a`"),
        (lambda: Linear(), "path `the root`"),
        (lambda: Holder(a=[Linear(), Linear()], b=jnp.ones(1)), "path `the root`"),
    ],
    ids=["class", "static value", "length", "root", "attribute"],
)
def test_trees_that_do_not_fit_are_an_error_that_names_the_path(second: Callable[[], Any], path: str) -> None:
    with pytest.raises(StructureError) as caught:
        pax.combine(Holder(a=[Linear(), Linear()]), second())
    assert str(caught.value).startswith("These trees do not fit together.")
    assert f"where: {path}" in str(caught.value)
    assert "fix:   combine parts of one tree, as pax.partition returns them" in str(caught.value)


def test_parts_go_through_jit() -> None:
    model = _model()
    norms, rest = pax.partition(model, Norm)
    combined = jax.jit(lambda a, b: pax.combine(a, b))(norms, rest)
    assert treedef(combined) == treedef(model)


def test_gradients_of_one_part_through_a_combination() -> None:
    trained, fixed = pax.partition(Net(), "encoder")

    def loss(trained: Net) -> Any:
        _, y = pax.purecall(pax.combine(trained, fixed), jnp.arange(6.0).reshape(3, 2))
        return y.sum()

    gradients = jax.grad(loss)(trained)
    assert _paths(gradients) == ["encoder.weight", "encoder.bias"]
