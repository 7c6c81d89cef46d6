"""When `jax.jit` traces again: never for an equal structure, always for another one."""

import copy
import functools
import gc
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from helpers.traces import TraceCounter


def _traces(*modules: Any) -> int:
    """Returns how often a function is traced that is called on all these modules, each called twice."""
    total = TraceCounter(jax.tree.leaves)
    for module in modules * 2:
        total(module)
    return total.traces


def _definition(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _call(self: Any, x: Any) -> Any:
    return x


def _other_call(self: Any, x: Any) -> Any:
    return x + 1


@pax.pure
def _assign(module: Any, name: str, value: Any) -> Any:
    setattr(module, name, value)
    return module


def _in_place(module: Any, change: Callable[[Any], Any]) -> Any:
    """Changes a module's containers outside of `pure`, and returns it."""
    change(module)
    return module


class Named(Net):
    """Another class with the same attributes."""


@dataclass
class Data(pax.Module):
    """A dataclass module."""

    weight: jax.Array
    sizes: list[int]
    rate: float = 0.5


# ---- no second trace -------------------------------------------------------------------------------------------------

_X = jnp.ones((2, 2))

# Each gives modules that are traced once altogether.
ONE_TRACE: dict[str, Callable[[], tuple[Any, ...]]] = {
    "built apart": lambda: (Net(), Net(), Net()),
    "other values of arrays": lambda: (Net(), Net().map(lambda leaf: leaf + 1)),
    "copy": lambda: (Net(), Net().copy(), copy.copy(Net()), copy.deepcopy(Net())),
    "pickle": lambda: (Net(), pickle.loads(pickle.dumps(Net()))),
    "pickle of a copy": lambda: (Net(), pickle.loads(pickle.dumps(Net().copy()))),
    "output of jit": lambda: (Net(), jax.jit(lambda net: net)(Net())),
    "output of jit, attributes read": lambda: (net := jax.jit(lambda net: net)(Net()), net if net.layers else None),
    "attributes read": lambda: (net := Net().copy(), net if vars(net) else None, Net()),
    "tree.map": lambda: (Net(), jax.tree.map(lambda leaf: leaf * 2, Net())),
    "output of grad": lambda: (
        gradients := pax.grad(lambda net, x: net.encoder(x).sum())(Net(), _X),
        pax.grad(lambda net, x: net.encoder(x).sum() * 2)(Net(), _X),
        gradients.parameters(),
    ),
    "pure": lambda: (Net(), pax.pure(lambda net: net)(Net())),
    "purecall": lambda: (Net(), pax.purecall(Net(), _X)[0], pax.purecall(pax.purecall(Net(), _X)[0], _X)[0]),
    "purecall in jit": lambda: (Net(), jax.jit(pax.purecall)(Net(), _X)[0]),
    "scan carry": lambda: (
        Counter(),
        jax.lax.scan(lambda counter, x: pax.purecall(counter, x), Counter(), _X)[0],
    ),
    "eval twice": lambda: (Net().eval(), Net().eval().eval()),
    "eval and train": lambda: (Net(), Net().eval().train(), pax.enable_train_mode(pax.enable_eval_mode(Net()))),
    "frozen twice": lambda: (
        pax.freeze_parameters(Net()),
        pax.freeze_parameters(Net()),
        pax.freeze_parameters(pax.freeze_parameters(Net())),
    ),
    "frozen and unfrozen": lambda: (Net(), pax.unfreeze_parameters(pax.freeze_parameters(Net()))),
    "unfrozen by origin": lambda: (net := Net(), pax.unfreeze_parameters(pax.freeze_parameters(net), origin=net)),
    "a part frozen": lambda: (
        pax.freeze_parameters(Net(), "encoder/weight"),
        pax.freeze_parameters(Net(), lambda path, leaf: jax.tree_util.keystr(path) == ".encoder.weight"),
        pax.freeze_parameters(pax.freeze_parameters(Net(), "encoder/weight"), "encoder/weight"),
    ),
    "frozen part by part": lambda: (
        pax.freeze_parameters(pax.freeze_parameters(Net(), "encoder/weight"), "encoder/bias"),
        pax.freeze_parameters(Net(), "encoder"),
    ),
    "frozen and in eval mode, in any order": lambda: (
        pax.freeze_parameters(Net().eval()),
        pax.freeze_parameters(Net()).eval(),
    ),
    "frozen, pickled": lambda: (
        pax.freeze_parameters(Net()),
        pickle.loads(pickle.dumps(pax.freeze_parameters(Net()))),
    ),
    "replace_method": lambda: (
        Linear().replace_method(__call__=_call),
        Linear().replace_method(__call__=_call),
        Linear().replace_method(__call__=_other_call).replace_method(__call__=_call),
        pickle.loads(pickle.dumps(Linear().replace_method(__call__=_call))),
    ),
    "replace_method, two at once or one by one": lambda: (
        Linear().replace_method(__call__=_call, extra=_other_call),
        Linear().replace_method(extra=_other_call).replace_method(__call__=_call),
    ),
    "replace by the same": lambda: (Net(), Net().replace(rate=0.5), (net := Net()).replace(encoder=net.encoder)),
    "replace there and back": lambda: (Net(), Net().replace(rate=0.1).replace(rate=0.5)),
    "set_attribute to the same": lambda: (Net(), Net().set_attribute("rate", 0.5)),
    "replace_node": lambda: (Net(), Net().replace_node(lambda net: net.encoder, Linear(2, 3))),
    "map": lambda: (Net(), Net().map(lambda leaf: leaf)),
    "apply": lambda: (Net(), Net().apply(lambda module: module), Net().apply_submodules(lambda module: module)),
    "state_dict": lambda: (Net(), Net().load_state_dict(Net().state_dict())),
    "parameters": lambda: (Net().parameters(), ~Net(), Net().parameters().parameters()),
    "update_parameters": lambda: (Net(), Net().update_parameters(Net()), Net() | Net().parameters()),
    "partition and combine": lambda: (Net(), pax.combine(*pax.partition(Net()))),
    "partition": lambda: (pax.partition(Net(), "encoder")[1], pax.filter(Net(), "encoder", inverse=True)),
    "appended and removed again": lambda: (
        Holder(layers=[Linear()]),
        _in_place(Holder(layers=[Linear()]), lambda m: (m.layers.append(Linear()), m.layers.pop())),
    ),
    "frozen in place in a list": lambda: (
        _in_place(Net(), lambda net: net.layers.__setitem__(0, pax.freeze_parameters(net.layers[0]))),
        _in_place(Net(), lambda net: net.layers.__setitem__(0, pax.freeze_parameters(net.layers[0]))),
    ),
    "dataclass": lambda: (
        Data(jnp.ones(2), [1, 2]),
        Data(jnp.zeros(2), [1, 2]),
        Data(jnp.ones(2), [1, 2]).copy().replace(rate=0.5),
        pickle.loads(pickle.dumps(Data(jnp.ones(2), [1, 2]))),
    ),
    "equal lists": lambda: (Holder(w=_X, value=[1, [2, "a"]]), Holder(w=_X, value=[1, [2, "a"]])),
    "equal dicts": lambda: (Holder(w=_X, value={"a": 1, "b": 2}), Holder(w=_X, value={"b": 2, "a": 1})),
    "equal sets": lambda: (Holder(w=_X, value={1, 2, 3}), Holder(w=_X, value={3, 2, 1})),
    "equal floats": lambda: (Holder(w=_X, value=float("nan")), Holder(w=_X, value=float("nan"))),
    "equal partials": lambda: (
        Holder(w=_X, value=functools.partial(jax.nn.leaky_relu, negative_slope=0.2)),
        Holder(w=_X, value=functools.partial(jax.nn.leaky_relu, negative_slope=0.2)),
    ),
    "importable functions": lambda: (Holder(w=_X, value=jax.nn.relu), Holder(w=_X, value=jax.nn.relu)),
    "dtypes": lambda: (Holder(w=_X, value=np.dtype("float32")), Holder(w=_X, value=np.dtype("float32"))),
    "static attributes in another order": lambda: (Holder(w=_X, a=1, b=2), Holder(b=2, w=_X, a=1)),
    "equal mixed attributes": lambda: (Holder(value=[_X, 1, "a"]), Holder(value=[_X, 1, "a"])),
    "random keys": lambda: (
        pax.RngSeq(seed=1),
        pax.RngSeq(seed=2),
        pax.module_and_value(pax.RngSeq(0).next_rng_key)()[0],
    ),
}


@pytest.mark.parametrize("make", ONE_TRACE.values(), ids=ONE_TRACE)
def test_equal_structures_are_traced_once(make: Callable[[], tuple[Any, ...]]) -> None:
    assert _traces(*make()) == 1


@pytest.mark.parametrize("make", ONE_TRACE.values(), ids=ONE_TRACE)
def test_equal_structures_have_equal_tree_definitions(make: Callable[[], tuple[Any, ...]]) -> None:
    definitions = [_definition(module) for module in make()]
    assert set(definitions) == {definitions[0]}
    assert not any(definition != definitions[0] for definition in definitions)


def test_switching_modes_back_and_forth_traces_each_mode_once() -> None:
    modules = []
    net = Net()
    for _ in range(5):
        net = net.eval()
        modules.append(net)
        net = net.train()
        modules.append(net)
    assert _traces(*modules) == 2


def test_freezing_and_unfreezing_back_and_forth_traces_each_once() -> None:
    modules = []
    net = Net()
    for _ in range(5):
        modules += [net, pax.freeze_parameters(net)]
        net = pax.unfreeze_parameters(modules[-1])
    assert _traces(*modules) == 2


def test_a_training_loop_is_traced_once() -> None:
    def loss(net: Net, x: jax.Array) -> tuple[jax.Array, Net]:
        net, y = pax.purecall(net, x)
        return (y**2).sum(), net

    def step(net: Net, x: jax.Array) -> Net:
        (_, net), gradients = pax.value_and_grad(loss, has_aux=True)(net, x)
        return net.update_parameters(net.parameters().map(lambda p, g: p - 0.1 * g, gradients))

    counted = TraceCounter(step)
    net, x = Net(), jnp.array([[1.0, 2.0], [3.0, 5.0]])
    for _ in range(4):
        net = counted(net, x)
    assert counted.traces == 1
    assert net.counter.count == 4


def test_a_module_survives_the_garbage_collection_of_its_twin_without_a_second_trace() -> None:
    total = TraceCounter(lambda module: module.encoder.weight.sum())
    total(Net())
    gc.collect()
    total(Net())
    assert total.traces == 1


# ---- a second trace --------------------------------------------------------------------------------------------------


class Weird:
    """A static value whose comparison gives no bool."""

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])

    __hash__ = None  # type: ignore[assignment]


# Each gives modules that are traced once each.
TRACED_EACH: dict[str, Callable[[], tuple[Any, ...]]] = {
    "a static value": lambda: (Net(), Net().replace(rate=0.25)),
    "a static value, assigned": lambda: (Net(), _assign(Net(), "rate", 0.25)),
    "a static value of a submodule": lambda: (
        Net(),
        Net().replace_node(lambda net: net.norm, Net().norm.replace(_name="n")),
    ),
    "another name": lambda: (Net(), Net(name="a"), Net(name="b")),
    "another class": lambda: (Net(), Named()),
    "mode": lambda: (Net(), Net().eval()),
    "mode of one submodule": lambda: (Net(), Net().replace(norm=Net().norm.eval())),
    "frozen": lambda: (Net(), pax.freeze_parameters(Net())),
    "parts frozen": lambda: (
        Net(),
        pax.freeze_parameters(Net(), "encoder"),
        pax.freeze_parameters(Net(), "encoder/weight"),
        pax.freeze_parameters(Net(), "encoder/bias"),
    ),
    "methods": lambda: (
        Linear(),
        Linear().replace_method(__call__=_call),
        Linear().replace_method(__call__=_other_call),
        Linear().replace_method(other=_call),
    ),
    "another function": lambda: (Net(jnp.tanh), Net(jnp.sin)),
    "another lambda": lambda: (Holder(w=_X, f=lambda x: x), Holder(w=_X, f=lambda x: x)),
    "parameters": lambda: (Net(), Net().parameters()),
    "another shape": lambda: (Linear(2, 2).replace(in_features=0), Linear(3, 2).replace(in_features=0)),
    "another dtype": lambda: (Holder(w=jnp.ones(2)), Holder(w=jnp.ones(2, jnp.int32))),
    "an attribute more": lambda: (Net(), Net().set_attribute("extra", 1)),
    "a layer more": lambda: (Holder(layers=[Linear()]), Holder(layers=[Linear(), Linear()])),
    "pytree attributes in another order": lambda: (Holder(a=_X, b=_X + 1), Holder(b=_X + 1, a=_X)),
    "int, float and bool": lambda: (Holder(w=_X, v=1), Holder(w=_X, v=1.0), Holder(w=_X, v=True)),
    "int, float and bool in a list": lambda: (Holder(w=_X, v=[1]), Holder(w=_X, v=[1.0]), Holder(w=_X, v=[True])),
    "signs of zero": lambda: (Holder(w=_X, v=0.0), Holder(w=_X, v=-0.0)),
    "list and tuple": lambda: (Holder(w=_X, v=[1, 2]), Holder(w=_X, v=(1, 2))),
    "dict and ordered dict": lambda: (Holder(w=_X, v={"a": 1}), Holder(w=_X, v=OrderedDict(a=1))),
    "str and bytes": lambda: (Holder(w=_X, v="a"), Holder(w=_X, v=b"a")),
    "None and nothing": lambda: (Holder(w=_X, v=None), Holder(w=_X)),
    "None and an empty node": lambda: (Holder(w=_X, v=None), Holder(w=_X, v=pax.EmptyNode())),
    "a static part of a mixed attribute": lambda: (Holder(v=[_X, 1]), Holder(v=[_X, 2])),
    "the place of a static part": lambda: (Holder(v=[_X, 1]), Holder(v=[1, _X])),
    "values that cannot be compared": lambda: (Holder(w=_X, v=Weird()), Holder(w=_X, v=Weird())),
    "keywords of a partial": lambda: (
        Holder(w=_X, v=functools.partial(jax.nn.leaky_relu, negative_slope=0.2)),
        Holder(w=_X, v=functools.partial(jax.nn.leaky_relu, negative_slope=0.3)),
    ),
    "dataclass fields": lambda: (Data(_X, [1]), Data(_X, [2]), Data(_X, [1], 0.25)),
}


@pytest.mark.parametrize("make", TRACED_EACH.values(), ids=TRACED_EACH)
def test_different_structures_are_traced_each(make: Callable[[], tuple[Any, ...]]) -> None:
    modules = make()
    assert _traces(*modules) == len(modules)


def test_a_value_that_cannot_be_compared_equals_itself() -> None:
    value = Weird()
    assert _traces(Holder(w=_X, v=value), Holder(w=_X, v=value)) == 1


# ---- changes in place ------------------------------------------------------------------------------------------------

IN_PLACE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "append to a static list": (lambda: Holder(w=_X, v=[1]), lambda m: m.v.append(2)),
    "set an item of a static list": (lambda: Holder(w=_X, v=[1]), lambda m: m.v.__setitem__(0, 2)),
    "an inner static list": (lambda: Holder(w=_X, v=[[1]]), lambda m: m.v[0].append(2)),
    "a list in a static tuple": (lambda: Holder(w=_X, v=([1],)), lambda m: m.v[0].append(2)),
    "a static dict": (lambda: Holder(w=_X, v={"a": 1}), lambda m: m.v.update(b=2)),
    "a static set": (lambda: Holder(w=_X, v={1}), lambda m: m.v.add(2)),
    "the static part of a mixed list": (lambda: Holder(v=[_X, 1]), lambda m: m.v.__setitem__(1, 2)),
    "a static list inside of a mixed list": (lambda: Holder(v=[_X, [1]]), lambda m: m.v[1].append(2)),
    "a number appended to a list of arrays": (lambda: Holder(v=[_X]), lambda m: m.v.append(2)),
    "an array appended to a list of arrays": (lambda: Holder(v=[_X]), lambda m: m.v.append(jnp.ones(1))),
    "an array appended to a static list": (lambda: Holder(w=_X, v=[]), lambda m: m.v.append(jnp.ones(1))),
    "an array in a static dict": (lambda: Holder(w=_X, v={}), lambda m: m.v.update(a=jnp.ones(1))),
    "a layer in a list": (lambda: Holder(v=[Linear()]), lambda m: m.v.__setitem__(0, Linear(1, 1))),
    "a layer of a submodule": (lambda: Holder(m=Holder(v=[Linear()])), lambda m: m.m.v.append(Linear())),
}


@pytest.mark.parametrize(
    "prepare", [lambda m: m, lambda m: m.copy(), lambda m: jax.jit(lambda m: m)(m)], ids=["built", "copied", "jitted"]
)
@pytest.mark.parametrize(("make", "change"), IN_PLACE.values(), ids=IN_PLACE)
def test_a_change_in_place_is_traced_again(
    make: Callable[[], Any], change: Callable[[Any], Any], prepare: Callable[[Any], Any]
) -> None:
    total = TraceCounter(jax.tree.leaves)
    module = prepare(make())
    total(module)
    change(module)
    total(module)
    total(module)
    assert total.traces == 2


@pytest.mark.parametrize(("make", "change"), IN_PLACE.values(), ids=IN_PLACE)
def test_a_change_in_place_leaves_twins_and_copies_alone(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    module, twin = make(), make()
    copied = module.copy()
    definition = _definition(twin)
    change(module)
    assert _definition(twin) == definition
    assert _definition(copied) == definition
    assert _definition(twin.copy()) == definition
    assert _definition(module) != definition
