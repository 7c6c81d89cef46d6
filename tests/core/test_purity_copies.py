"""What `pure` copies apart from modules: NumPy arrays become read-only, static containers are copied."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Holder, Linear
from helpers.tally import assign

# ---- NumPy arrays ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.array.__iadd__(1),
        lambda module: module.array.__setitem__(0, 5.0),
        lambda module: module.array.fill(5.0),
        lambda module: module.nested["a"][0].__setitem__(0, 5.0),
        lambda module: np.copyto(module.array, 5.0),
    ],
    ids=["+=", "[]=", "fill", "nested", "copyto"],
)
def test_numpy_arrays_are_read_only_inside(change: Callable[[Any], Any]) -> None:
    module = Holder(array=np.zeros(3), nested={"a": [np.zeros(3)]})
    with pytest.raises(ValueError, match="read-only"):
        pax.pure(change)(module)
    assert not module.array.any()


def test_numpy_arrays_of_the_caller_stay_writable() -> None:
    array = np.zeros(3)
    pax.pure(lambda module: module)(Holder(array=array))
    assert array.flags.writeable


def test_numpy_arrays_come_back_as_the_same_objects() -> None:
    module = Holder(array=np.zeros(3), inner=Holder(array=np.ones(3)))
    result, alone = pax.pure(lambda module: (module, {"inner": module.inner.array}))(module)
    assert result.array is module.array
    assert alone["inner"] is module.inner.array


@pytest.mark.parametrize("make", [np.zeros, jnp.zeros], ids=["numpy", "jax"])
def test_a_result_comes_back_as_it_is(make: Callable[[int], Any]) -> None:
    """Also what is no pytree, such as a dictionary whose keys cannot be sorted; and one object stays one object."""
    inside: list[Any] = []

    @pax.pure
    def touch(module: Any) -> Any:
        result = {1: module, "a": (module, [module])}
        inside.append(result)
        return result

    result = touch(Holder(array=make(3)))
    assert result is inside[0]
    assert result[1] is result["a"][0] is result["a"][1][0]


def test_an_unchanged_module_with_numpy_arrays_equals_the_original() -> None:
    module = Holder(array=np.zeros(3), layers=[Linear()])
    assert pax.pure(lambda module: module)(module) == module


def test_a_numpy_array_assigned_inside_is_taken_as_it_is() -> None:
    array = np.ones(2)
    result = assign(Holder(array=np.zeros(3)), array=array)
    assert result.array is array
    assert array.flags.writeable


def test_a_read_only_numpy_array_stays_the_same_object_inside() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    assert pax.pure(lambda module: module.array is array)(Holder(array=array))


def test_numpy_arrays_are_still_leaves_inside() -> None:
    module = Holder(array=np.zeros(3))
    kinds = pax.pure(lambda module: [type(leaf) for leaf in jax.tree.leaves(module)])(module)
    assert kinds == [np.ndarray]


# ---- static containers -----------------------------------------------------------------------------------------------


class Point(NamedTuple):
    tags: list[str]


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: [1, 2], lambda value: value.append(3)),
        (lambda: {"a": 1}, lambda value: value.update(b=2)),
        (lambda: {1, 2}, lambda value: value.add(3)),
        (lambda: {"a": [1]}, lambda value: value["a"].append(2)),
        (lambda: ([1], "x"), lambda value: value[0].append(2)),
        (lambda: [[[1]]], lambda value: value[0][0].append(2)),
        (lambda: OrderedDict(a=[1]), lambda value: value["a"].append(2)),
        (lambda: defaultdict(list, a=[1]), lambda value: value["b"]),
        (lambda: Point(["a"]), lambda value: value.tags.append("b")),
    ],
    ids=["list", "dict", "set", "dict of list", "tuple of list", "nested lists", "ordered", "default", "namedtuple"],
)
def test_static_containers_are_copied(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    module = Holder(value=make())
    result = pax.pure(lambda module: (change(module.value), module)[1])(module)
    assert module.value == make()
    assert result.value != make()
    assert type(result.value) is type(make())


def test_a_static_container_in_a_mixed_attribute_is_copied() -> None:
    module = Holder(value=[jnp.ones(1), "a", {"k": ["b"]}])

    @pax.pure
    def touch(module: Any) -> Any:
        module.value[2]["k"].append("c")
        module.value[1] = "z"
        return module

    result = touch(module)
    assert module.value[1:] == ["a", {"k": ["b"]}]
    assert result.value[1:] == ["z", {"k": ["b", "c"]}]


def test_other_static_objects_are_shared() -> None:
    thing = object()
    assert pax.pure(lambda module: module.thing)(Holder(thing=thing)) is thing


def test_a_container_put_in_does_not_stay_connected_to_the_caller() -> None:
    log = ["a"]
    result = assign(Holder(log=[]), log=log)
    log.append("b")
    assert result.log == ["a"]


def test_two_results_do_not_share_static_containers() -> None:
    module = Holder(log=["a"])
    first, second = (pax.pure(lambda module: module)(module) for _ in range(2))
    first.log.append("b")
    assert (second.log, module.log) == (["a"], ["a"])
