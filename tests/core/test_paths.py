"""Key paths as text, short descriptions of values, and tree differences in words."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import pax
from helpers.modules import Holder, Linear, Net
from pax._paths import differences, find_path, list_differences, path_segments, path_text
from pax.extend import describe


def _paths(tree: Any) -> list[Any]:
    return [path for path, _ in jtu.tree_leaves_with_path(tree)]


def test_key_paths_of_modules_are_python_code() -> None:
    tree = Holder(first=Linear(), table={"a": [Linear()]}, array=jnp.ones(1))
    assert [jtu.keystr(path) for path in _paths(tree)] == [
        ".first.weight",
        ".first.bias",
        ".table['a'][0].weight",
        ".table['a'][0].bias",
        ".array",
    ]


def test_positions_in_mixed_attributes_are_those_in_the_container() -> None:
    assert [jtu.keystr(path) for path in _paths(Holder(layers=[jnp.tanh, Linear()]))] == [
        ".layers[1].weight",
        ".layers[1].bias",
    ]


@pytest.mark.parametrize(
    ("tree", "texts", "segments"),
    [
        (lambda: Holder(a=[Linear()]), ["a[0].weight", "a[0].bias"], [("a", "0", "weight"), ("a", "0", "bias")]),
        (lambda: {"x": (jnp.ones(1),)}, ["['x'][0]"], [("x", "0")]),
        (lambda: jnp.ones(1), [""], [()]),
    ],
    ids=["module", "containers", "a leaf"],
)
def test_paths_have_a_text_and_segments(
    tree: Callable[[], Any], texts: list[str], segments: list[tuple[str, ...]]
) -> None:
    paths = _paths(tree())
    assert [path_text(path) for path in paths] == texts
    assert [path_segments(path) for path in paths] == segments


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (jnp.zeros((2, 3)), "float32[2,3]"),
        (jnp.array(1), "int32[]"),
        (np.zeros(2), "numpy float64[2]"),
        (jax.random.key(0), "key<fry>[]"),
        (jax.ShapeDtypeStruct((4,), jnp.float32), "float32[4]"),
        (3, "3"),
        (None, "None"),
        ("a" * 60, "'" + "a" * 36 + "..."),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "a dict of 1"),
        (jnp.tanh, "`tanh`"),
        (Linear, "`Linear`"),
        (Linear(), "a `Linear`"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_description_says_kind_and_shape_but_no_contents(value: Any, text: str) -> None:
    assert describe(value) == text


def test_a_class_describes_its_objects_itself() -> None:
    class Sized:
        shape, dtype = (2,), jnp.float32

        def __pax_describe__(self) -> str:
            return "a thing"

    assert describe(Sized()) == "a thing"


def test_a_tracer_is_described_by_dtype_and_shape() -> None:
    found: list[str] = []
    jax.jit(lambda x: found.append(describe(x)))(jnp.ones((2,)))
    assert found == ["float32[2]"]


def test_an_object_is_found_below_the_first_root_that_holds_it() -> None:
    net = Net()
    assert find_path([Linear(), net], net.layers[2].bias) == "layers[2].bias"


def test_an_object_that_is_nowhere_has_no_path() -> None:
    assert find_path([Net()], jnp.ones(1)) == ""


_DIFFERENCES: dict[str, tuple[Callable[[], Any], Callable[[], Any], list[str]]] = {
    "nothing": (Net, Net, []),
    "static value": (lambda: Net(), lambda: Net().replace(rate=0.1), ["rate: got 0.5, want 0.1"]),
    "static value below": (
        lambda: Holder(a=[Linear(1, 2)]),
        lambda: Holder(a=[Linear(2, 2)]),
        ["a[0].in_features: got 1, want 2"],
    ),
    "missing child": (
        lambda: {"a": jnp.ones(1)},
        lambda: {"a": jnp.ones(1), "b": jnp.ones(2)},
        ["['b']: got nothing, want float32[2]"],
    ),
    "unexpected child": (
        lambda: {"a": jnp.ones(1), "b": jnp.ones(2)},
        lambda: {"a": jnp.ones(1)},
        ["['b']: got float32[2], want nothing"],
    ),
    "another class": (lambda: Holder(a=Linear()), lambda: Holder(a=[1.0]), ["a"]),
    "the root": (lambda: Linear(), lambda: Holder(), ["the root: got a `Linear`, want a `Holder`"]),
    "order": (
        lambda: Holder(x=jnp.ones(1), y=jnp.ones(1)),
        lambda: Holder(y=jnp.ones(1), x=jnp.ones(1)),
        ["the root: got the order x, y, want the order y, x"],
    ),
    "data of another kind of node": (
        lambda: {"a": jtu.Partial(max, jnp.ones(1))},
        lambda: {"a": jtu.Partial(min, jnp.ones(1))},
        ["['a']: got a `Partial` with"],
    ),
    "static parts": (
        lambda: Holder(a=[jnp.ones(1), 1]),
        lambda: Holder(a=[jnp.ones(1), 2]),
        ["a: got static parts (1,), want static parts (2,)"],
    ),
}


@pytest.mark.parametrize(("got", "want", "lines"), _DIFFERENCES.values(), ids=_DIFFERENCES)
def test_differences_name_path_and_both_sides(
    got: Callable[[], Any], want: Callable[[], Any], lines: list[str]
) -> None:
    found = list_differences(differences(got(), want())).splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_all_differences_are_listed() -> None:
    got = Holder(a=Linear(1, 2), b=Linear(2, 2), c=Linear(2, 2).eval())
    want = Holder(a=Linear(2, 2), b=Linear(2, 2), c=Linear(2, 2))
    assert [path for path, _, _ in differences(got, want)] == ["a.in_features", "c._training"]


def test_arrays_of_other_shapes_are_differences_on_request() -> None:
    got, want = {"a": jnp.ones(2), "b": jnp.ones(1)}, {"a": jnp.ones(3), "b": jnp.ones(1)}
    assert list(differences(got, want)) == []
    assert list(differences(got, want, arrays=True)) == [("['a']", "float32[2]", "float32[3]")]


def test_a_long_list_of_differences_ends_early() -> None:
    got, want = ([Linear(1, 1) for _ in range(20)], [Linear(2, 1) for _ in range(20)])
    lines = list_differences(differences(got, want), limit=3).splitlines()
    assert lines[-1] == "… and more"
    assert len(lines) == 4


def test_an_empty_node_in_place_of_an_array_is_a_difference() -> None:
    holder = Holder(a=jnp.ones(1))
    assert [path for path, _, _ in differences(holder, pax.filter(Holder(a=jnp.ones(1)), lambda _: True))] == []
    assert [path for path, _, _ in differences(holder, holder.parameters())] == ["a"]


def test_classes_of_the_same_name_are_told_apart() -> None:
    def of_class(text: str | None) -> Any:
        body = {} if text is None else {"__repr__": lambda self: text}
        return type("Part", (pax.Module,), {"__qualname__": "Part", **body})()

    assert list(differences(of_class("Part(1)"), of_class("Part(2)"))) == [("", "`Part(1)`", "`Part(2)`")]
    want = ("", "a `Part`", "a `Part` of another class of this name")
    assert list(differences(of_class(None), of_class(None))) == [want]
    assert list(differences(of_class("x" * 200), of_class("y"))) == [want]
