"""What was wrong in the original PAX and must not come back: one test or more for each known defect of its core.

A test is named for its defect, ``test_kd_06_…``. Defects 2, 12 to 17, 24 and 35 are those of optimizers and of
`pax.experimental`; here stands what pax-core contributes to their mending.
"""

import copy
import functools
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from pax import _jax_compat
from pax.errors import (
    ArgumentError,
    ArgumentTypeError,
    AttributeNameError,
    MutationError,
    PaxError,
    SharedNodeError,
    StateDictError,
    StructureError,
)


def _definition(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def _subclasses(cls: type) -> set[type]:
    below: set[type] = set(type.__subclasses__(cls))
    return below.union(*map(_subclasses, below))


def _call(self: Any, x: Any) -> Any:
    return x


# ---- KD-01: transforms made classes ----------------------------------------------------------------------------------

_TRANSFORMS: dict[str, Callable[[Net], Net]] = {
    "freeze": lambda net: pax.freeze_parameters(net),
    "freeze a part": lambda net: pax.freeze_parameters(net, "encoder/weight"),
    "replace_method": lambda net: net.replace_method(__call__=_call),
}
_each_transform = pytest.mark.parametrize("transform", _TRANSFORMS.values(), ids=_TRANSFORMS)


@_each_transform
def test_kd_01_a_transform_makes_no_class_per_call(transform: Callable[[Net], Net]) -> None:
    net = Net()
    transform(net)
    before = _subclasses(pax.Module)
    for _ in range(50):
        transform(net)
    assert _subclasses(pax.Module) == before


@_each_transform
def test_kd_01_equally_transformed_modules_are_traced_once(transform: Callable[[Net], Net]) -> None:
    touch = TraceCounter(jax.tree.leaves)
    for _ in range(3):
        touch(transform(Net()))
    assert touch.traces == 1


@_each_transform
def test_kd_01_equally_transformed_modules_can_be_merged(transform: Callable[[Net], Net]) -> None:
    net = Net()
    a, b = transform(net), transform(net.map(lambda leaf: leaf + 1))
    assert (a | b) == b


@_each_transform
def test_kd_01_class_name_and_summary_stay(transform: Callable[[Net], Net]) -> None:
    net = transform(Net(name="n"))
    assert isinstance(net, Net)
    assert type(net).__name__ == "Net"
    assert net.summary() == Net(name="n").summary()


# ---- KD-02: every factory call made a class --------------------------------------------------------------------------


class Momentum(pax.StateModule):
    """What an optimizer needs of pax-core: hyper-parameters as static data of a class of the module level."""

    def __init__(self, params: Any, decay: float = 0.9, schedule: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.decay = decay
        self.schedule = schedule
        self.trace = jax.tree.map(jnp.zeros_like, params)

    def __call__(self, gradients: Any) -> Any:
        self.trace = jax.tree.map(lambda g, t: g + self.decay * t, gradients, self.trace)
        return self.trace


def test_kd_02_a_module_with_hyperparameters_as_static_data_is_traced_once() -> None:
    step = TraceCounter(lambda optimizer, gradients: pax.purecall(optimizer, gradients))
    gradients = Linear().parameters()
    for _ in range(3):
        step(Momentum(Linear().parameters(), decay=0.5, schedule=jnp.cos), gradients)
    assert step.traces == 1


def test_kd_02_another_hyperparameter_is_traced_again() -> None:
    step = TraceCounter(lambda optimizer, gradients: pax.purecall(optimizer, gradients))
    gradients = Linear().parameters()
    for decay in (0.5, 0.9):
        step(Momentum(Linear().parameters(), decay=decay), gradients)
    assert step.traces == 2


def test_kd_02_a_restored_module_matches_the_live_one() -> None:
    live, _ = pax.purecall(Momentum(Net().parameters(), schedule=jax.nn.relu), Net().parameters())
    restored = pickle.loads(pickle.dumps(live))
    assert _definition(restored) == _definition(live)
    assert restored.schedule is jax.nn.relu


# ---- KD-03: pickling -------------------------------------------------------------------------------------------------


@dataclass
class Data(pax.Module):
    """A dataclass module."""

    weight: Any
    sizes: Any = None
    inner: Any = None


_PICKLED: dict[str, Callable[[], Any]] = {
    "frozen": lambda: pax.freeze_parameters(Net()),
    "a part frozen": lambda: pax.freeze_parameters(Net(), "encoder"),
    "methods replaced": lambda: Net().replace_method(__call__=_call),
    "frozen, methods replaced": lambda: pax.freeze_parameters(Net().replace_method(__call__=_call)),
    "jax.nn.relu": lambda: Net(jax.nn.relu),
    "jax.nn.relu, static": lambda: Holder(f=jax.nn.relu, g=jax.nn.gelu),
    "jnp.tanh in containers": lambda: Holder(f=[jnp.tanh, {"a": (jax.nn.silu,)}]),
    "a partial of jax.nn.leaky_relu": lambda: Holder(f=functools.partial(jax.nn.leaky_relu, negative_slope=0.1)),
    "initializer": lambda: Holder(f=jax.nn.initializers.zeros),
    "dataclass": lambda: Data(jnp.ones(2), [1, 2], Linear()),
    "optimizer-like": lambda: Momentum(Net().parameters()),
    "parameters": lambda: Net().parameters(),
    "eval": lambda: Net().eval(),
    "random keys": lambda: pax.RngSeq(seed=0),
    "numbers for arrays": lambda: jax.tree.map(lambda _: 0, Net()),
}


@pytest.mark.parametrize("make", _PICKLED.values(), ids=_PICKLED)
@pytest.mark.parametrize(
    "twin", [lambda module: pickle.loads(pickle.dumps(module)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_kd_03_modules_can_be_pickled_and_deep_copied(make: Callable[[], Any], twin: Callable[[Any], Any]) -> None:
    module = make()
    copied = twin(module)
    assert _definition(copied) == _definition(module)
    for a, b in zip(_leaves(copied), _leaves(module), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- KD-04: assert for arguments -------------------------------------------------------------------------------------

_MISTAKES: dict[str, str] = {
    "replace": "Holder(a=1).replace(b=2)",
    "operator %": "Holder() % 3",
    "purecall of no module": "pax.purecall(3, 4)",
    "purecall of what cannot be called": "pax.purecall(Holder(), 4)",
    "module_and_value of what cannot be called": "pax.module_and_value(Holder())",
    "module_and_value of no module": "pax.module_and_value(lambda m: m)(3)",
    "seed": "pax.seed_rng_key('a')",
    "parameters_method": "Unnamed().parameters()",
    "structures": "pax.assert_structure_equal(Linear(), Linear().eval())",
    "grad": "pax.grad(lambda m: 0.0)(3.0)",
    "value_and_grad": "pax.value_and_grad(lambda m: 0.0)(3.0)",
    "apply": "Linear().apply(lambda m: None)",
    "enable_eval_mode": "pax.enable_eval_mode(3)",
    "freeze": "pax.freeze_parameters(3)",
    "update_parameters": "Linear().update_parameters(3)",
    "replace_method": "Linear().replace_method(__call__=3)",
    "number of keys": "pax.RngSeq(seed=0).next_rng_key(-1)",
    "key": "pax.RngSeq(rng_key=[0, 1])",
}


class Unnamed(pax.Module):
    """Says that an attribute is trained which it does not have."""

    parameters = pax.parameters_method("zz")


@pytest.mark.parametrize("mistake", _MISTAKES.values(), ids=_MISTAKES)
def test_kd_04_a_mistake_raises_an_error_with_a_text(mistake: str) -> None:
    with pytest.raises(PaxError) as caught:
        eval(mistake)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, ValueError | TypeError | AttributeError)
    assert caught.value.headline


def test_kd_04_mistakes_are_found_without_assert_statements() -> None:
    code = f"""
import pax, sys
from helpers.modules import Holder, Linear
assert False  # is not executed
class Unnamed(pax.Module):
    parameters = pax.parameters_method("zz")
for mistake in {list(_MISTAKES.values())!r}:
    try:
        eval(mistake)
    except pax.errors.PaxError as error:
        print(mistake, type(error).__name__)
"""
    process = subprocess.run(
        [sys.executable, "-O", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.rsplit(" ", 1)[0] for line in process.stdout.splitlines()]
    assert found == list(_MISTAKES.values()), process.stderr


def test_kd_04_a_missing_trained_attribute_is_named() -> None:
    with pytest.raises(AttributeNameError, match=r"^Expecting an attribute with name `zz`\."):
        Unnamed().parameters()


# ---- KD-05: the error named nothing ----------------------------------------------------------------------------------


def test_kd_05_the_immutability_error_names_class_attribute_and_path() -> None:
    @pax.pure
    def train(net: Net) -> None:
        def inner(x: jax.Array) -> jax.Array:
            net.layers[2].bias = x
            return x

        jax.jit(inner)(jnp.ones(1))

    with pytest.raises(MutationError) as caught:
        train(Net())
    first, second, where, *_ = str(caught.value).splitlines()
    assert first == "Cannot modify a module in immutable mode."
    assert second == "Please do this computation inside a function decorated by `pax.pure`."
    assert where == "  where: layers[2] (Linear), attribute `bias`"


# ---- KD-06: static containers were shared with the copy --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([], lambda value: value.append(3)),
        ({}, lambda value: value.update(a=3)),
        (set(), lambda value: value.add(3)),
        ([[1], {"a": [2]}], lambda value: value[1]["a"].append(3)),
        (([1],), lambda value: value[0].append(3)),
    ],
    ids=["list", "dict", "set", "nested", "in a tuple"],
)
def test_kd_06_a_static_container_changed_in_pure_does_not_change_the_original(
    value: Any, change: Callable[[Any], Any]
) -> None:
    module = Holder(log=copy.deepcopy(value))

    @pax.pure
    def touch(module: Any) -> Any:
        change(module.log)
        return module

    result = touch(module)
    assert module.log == value
    assert result.log != value


def test_kd_06_other_static_objects_are_shared_as_documented() -> None:
    thing = object()
    assert pax.pure(lambda module: module)(Holder(thing=thing)).thing is thing


# ---- KD-07: NumPy arrays could be changed in place -------------------------------------------------------------------


def test_kd_07_a_numpy_array_cannot_be_changed_in_place_in_pure() -> None:
    module = Holder(a=np.zeros(2))

    @pax.pure
    def touch(module: Any) -> None:
        module.a += 1

    with pytest.raises(ValueError, match="read-only"):
        touch(module)
    assert module.a.tolist() == [0, 0]


def test_kd_07_a_numpy_array_can_be_replaced_in_pure() -> None:
    module = Holder(a=np.zeros(2))

    @pax.pure
    def touch(module: Any) -> Any:
        module.a = module.a + 1
        return module

    assert touch(module).a.tolist() == [1, 1]
    assert module.a.tolist() == [0, 0]


# ---- KD-08: classification went stale --------------------------------------------------------------------------------


def test_kd_08_an_item_of_a_list_can_be_assigned_outside_of_pure() -> None:
    net = Net()
    net.layers[0] = pax.freeze_parameters(net.layers[0])
    net.layers[1] = jnp.sin
    assert len(_leaves(net.parameters())) == 5
    assert net.copy().layers[1] is jnp.sin


@pytest.mark.parametrize("prepare", [lambda m: m, lambda m: m.copy()], ids=["built", "copied"])
def test_kd_08_a_number_appended_to_a_list_of_arrays_stays_a_static_number(prepare: Callable[[Any], Any]) -> None:
    module = prepare(Holder(items=[jnp.ones(1)]))
    module.items.append(3)
    result = jax.jit(lambda module: module)(module)
    assert type(result.items[1]) is int
    assert len(_leaves(module)) == 1


# ---- KD-09: an array appended to a static list was no leaf -----------------------------------------------------------


def test_kd_09_an_array_appended_to_a_static_list_is_a_leaf() -> None:
    module = ParameterHolder(items=[])
    module.items.append(jnp.ones(2))
    assert len(_leaves(module)) == 1
    assert len(_leaves(module.parameters())) == 1
    assert module.pytree_attributes == ("items",)


def test_kd_09_an_array_appended_to_a_static_list_gets_a_gradient() -> None:
    module = ParameterHolder(items=[])
    module.items.append(jnp.ones(2))
    gradients = pax.grad(lambda module: (3 * module.items[0]).sum())(module)
    assert gradients.items[0].tolist() == [3, 3]


def test_kd_09_an_array_appended_to_a_static_list_is_no_constant_of_jit() -> None:
    module = ParameterHolder(items=[])
    module.items.append(jnp.ones(()))
    first = jax.jit(lambda module: module.items[0] + 1)
    assert first(module) == 2.0
    assert first(module.map(lambda leaf: leaf * 5)) == 6.0


def test_kd_09_scan_bugs_looks_into_containers_that_were_static() -> None:
    array = jnp.ones(2)
    module = Holder(items=[], array=array)
    module.items.append(array)
    with pytest.raises(SharedNodeError, match="Detected a shared ndarray"):
        module.scan_bugs()


# ---- KD-10: containers shared between instances ----------------------------------------------------------------------


class Defaults(pax.Module):
    """Falls into a classical trap of Python."""

    def __init__(self, layers: list[Any] = []) -> None:  # noqa: B006
        super().__init__()
        self.layers = layers


def test_kd_10_instances_do_not_share_a_mutable_default_argument() -> None:
    first, second = Defaults(), Defaults()
    first.layers.append(Linear())
    assert second.layers == []
    assert Defaults().layers == []


def test_kd_10_instances_do_not_share_a_list_of_their_caller() -> None:
    layers = [Linear()]
    first, second = Defaults(layers), Defaults(layers)
    first.layers.append(3)
    assert (len(second.layers), len(layers)) == (1, 1)


# ---- KD-11: set_attribute did not check ------------------------------------------------------------------------------


def test_kd_11_set_attribute_finds_a_shared_array() -> None:
    module = Linear()
    with pytest.raises(SharedNodeError) as caught:
        module.set_attribute("again", module.weight)
    assert str(caught.value).startswith("Detected a shared ndarray. This is not allowed.")
    assert "`weight` and `again`" in str(caught.value)


def test_kd_11_set_attribute_finds_a_shared_module() -> None:
    linear = Linear()
    with pytest.raises(SharedNodeError, match=r"`a\.weight` and `b\[0\]\.weight`"):
        Holder(a=linear).set_attribute("b", [linear])


# ---- KD-18: assert_structure_equal let things pass -------------------------------------------------------------------

_UNEQUAL: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "frozen": (lambda: Linear(), lambda: pax.freeze_parameters(Linear())),
    "a part frozen": (lambda: Net(), lambda: pax.freeze_parameters(Net(), "encoder/bias")),
    "mode of a submodule": (lambda: Net(), lambda: Net().replace(norm=Net().norm.eval())),
    "nested": (lambda: Holder(a=[Net()]), lambda: Holder(a=[Net(jnp.sin)])),
    "class": (lambda: Linear(), lambda: Counter()),
    "dictionaries": (lambda: {"a": 1}, lambda: {"b": 1}),
    "lists": (lambda: [1, 2], lambda: [1]),
    "module and number": (lambda: Linear(), lambda: 3),
    "None and number": (lambda: None, lambda: 3),
    "methods": (lambda: Linear(), lambda: Linear().replace_method(__call__=_call)),
}


@pytest.mark.parametrize(("a", "b"), _UNEQUAL.values(), ids=_UNEQUAL)
def test_kd_18_unequal_structures_are_an_assertion_error(a: Callable[[], Any], b: Callable[[], Any]) -> None:
    for one, other in ((a(), b()), (b(), a())):
        with pytest.raises(AssertionError) as caught:
            pax.assert_structure_equal(one, other)
        assert isinstance(caught.value, StructureError)


@pytest.mark.parametrize("make", [a for a, _ in _UNEQUAL.values()], ids=_UNEQUAL)
def test_kd_18_equal_structures_are_true(make: Callable[[], Any]) -> None:
    assert pax.assert_structure_equal(make(), make()) is True


def test_kd_18_the_error_names_the_path() -> None:
    with pytest.raises(AssertionError, match=r"layers\[0\]\.in_features"):
        pax.assert_structure_equal(Net(), Net().replace_node(lambda net: net.layers[0], Linear(4, 3)))


# ---- KD-20: dataclasses ----------------------------------------------------------------------------------------------


def test_kd_20_dataclass_modules_are_compared_as_modules() -> None:
    module = Data(jnp.ones(2), 3)
    assert module == module.copy()
    assert module != Data(jnp.ones(2), 3)
    assert module != module.eval()


def test_kd_20_equality_of_dataclass_modules_sees_attributes_that_are_no_fields() -> None:
    module = Data(jnp.ones(2), 3)
    assert module.set_attribute("extra", 1) != module.set_attribute("extra", 2)


def test_kd_20_dataclass_modules_have_a_hash() -> None:
    module = Data(jnp.ones(2), [3])
    assert hash(module) == hash(module.copy())
    assert len({module, module.copy()}) == 1


@pytest.mark.parametrize(
    "transform",
    [lambda m: m.eval(), lambda m: m.apply(lambda inner: inner), lambda m: m.parameters(), pax.freeze_parameters],
    ids=["eval", "apply", "parameters", "freeze"],
)
def test_kd_20_two_dataclass_children_with_arrays_do_not_disturb(transform: Callable[[Any], Any]) -> None:
    module = Holder(children=[Data(jnp.ones(2)), Data(jnp.ones(2))])
    assert len(transform(module).submodules()) == 2


# ---- KD-21: hidden correlation of keys -------------------------------------------------------------------------------


def _in_new_thread(work: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def _seeded_key(seed: int) -> jax.Array:
    pax.seed_rng_key(seed)
    return pax.next_rng_key()


def test_kd_21_new_threads_draw_different_keys() -> None:
    keys = [tuple(_in_new_thread(pax.next_rng_key).tolist()) for _ in range(4)]
    assert len(set(keys)) == 4


def test_kd_21_a_thread_does_not_disturb_the_sequence_of_another() -> None:
    pax.seed_rng_key(42)
    first = pax.next_rng_key()
    _in_new_thread(lambda: _seeded_key(7))
    second = pax.next_rng_key()
    assert [int(key[1]) for key in (first, second)] == [686579304, 119540832]


def test_kd_21_a_seeded_thread_draws_the_documented_sequence() -> None:
    key = _in_new_thread(lambda: _seeded_key(0))
    assert int(key[1]) == 906691060


def test_kd_21_keys_drawn_under_a_trace_are_documented_to_be_constants() -> None:
    pax.seed_rng_key(1)
    draw = jax.jit(lambda x: jax.random.normal(pax.next_rng_key()) + x)
    assert draw(0.0) == draw(0.0)
    assert "constant of the compiled function" in " ".join((pax.next_rng_key.__doc__ or "").split())


# ---- KD-22: seeds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [np.int32(3), np.int64(3), np.uint8(3)], ids=["int32", "int64", "uint8"])
def test_kd_22_numpy_integers_are_seeds(seed: Any) -> None:
    pax.seed_rng_key(3)
    expected = pax.next_rng_key()
    pax.seed_rng_key(seed)
    assert jnp.array_equal(pax.next_rng_key(), expected)


@pytest.mark.parametrize("seed", [True, np.True_, 1.0, "a", None], ids=repr)
def test_kd_22_other_seeds_are_refused_with_a_text(seed: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A seed has to be an integer") as caught:
        pax.seed_rng_key(seed)
    assert isinstance(caught.value, AssertionError)


# ---- KD-23: time that grew with the square of the size ---------------------------------------------------------------


def _calls(action: Callable[[], Any]) -> int:
    """Returns how many functions, Python's and C's, an action calls."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    action()  # fills caches
    gc.collect()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


class Wide(pax.Module):
    """Has many attributes, half of them arrays."""

    def __init__(self, size: int) -> None:
        super().__init__()
        array = np.zeros(())
        for index in range(size):
            setattr(self, f"static{index}", index)
            setattr(self, f"array{index}", array.copy())


@pax.pure
def _assign_each(module: Wide, size: int) -> Wide:
    for index in range(size):
        setattr(module, f"static{index}", -index)
    return module


@pax.pure
def _identity(tree: Any) -> Any:
    return tree


def _tree_of(size: int) -> Any:
    return Holder(layers=[Holder(inner=Holder(array=np.zeros(()), index=index)) for index in range(size)])


_LINEAR: dict[str, Callable[[int], Callable[[], Any]]] = {
    "construct with many attributes": lambda size: lambda: Wide(size),
    "assign many attributes": lambda size: functools.partial(_assign_each, Wide(size), size),
    "construct a tree": lambda size: lambda: _tree_of(size),
    "pure": lambda size: functools.partial(_identity, _tree_of(size)),
    "eval": lambda size: _tree_of(size).eval,
    "parameters": lambda size: _tree_of(size).parameters,
    "apply": lambda size: functools.partial(_tree_of(size).apply, lambda module: module),
    "scan_bugs of a wide module": lambda size: Wide(size).scan_bugs,
    "freeze": lambda size: functools.partial(pax.freeze_parameters, _tree_of(size)),
    "state_dict": lambda size: _tree_of(size).state_dict,
    "summary": lambda size: _tree_of(size).summary,
    "map": lambda size: functools.partial(_tree_of(size).map, lambda leaf: leaf),
    "partition": lambda size: functools.partial(pax.partition, _tree_of(size), "**/array"),
}


@pytest.mark.parametrize("make", _LINEAR.values(), ids=_LINEAR)
def test_kd_23_the_work_grows_with_the_size_and_not_with_its_square(make: Callable[[int], Callable[[], Any]]) -> None:
    small, large = _calls(make(50)), _calls(make(200))
    assert large < 5 * small  # four times the size; its square would be sixteen times


def test_kd_23_apply_does_not_compare_submodules() -> None:
    class Incomparable(pax.Module):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compared")

        __hash__ = pax.Module.__hash__

    module = Holder(layers=[Incomparable(), Incomparable()])
    assert len(module.apply(lambda inner: inner).layers) == 2
    assert len(module.eval().layers) == 2


# ---- KD-25: key paths ------------------------------------------------------------------------------------------------


def test_kd_25_key_paths_are_attribute_names() -> None:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(Net())]
    assert paths == [
        ".encoder.weight",
        ".encoder.bias",
        ".norm.scale",
        ".norm.mean",
        ".counter.count",
        ".layers[0].weight",
        ".layers[0].bias",
        ".layers[2].weight",
        ".layers[2].bias",
    ]


# ---- KD-26: trace depth ----------------------------------------------------------------------------------------------


@pytest.fixture
def _no_trace_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JAX that offers no trace state anywhere."""
    homes: list[Any] = [jax.core]
    for name in ("jax.extend.core", "jax._src.core"):
        homes.append(__import__(name, fromlist=["core"]))
    for home in homes:
        monkeypatch.setitem(vars(home), "get_opaque_trace_state", None)


@pytest.mark.usefixtures("_no_trace_state")
def test_kd_26_without_a_trace_state_there_is_a_warning_and_no_failure() -> None:
    with pytest.warns(RuntimeWarning, match="checks the purity of modules per thread only"):
        trace_state = _jax_compat._find_trace_state()
    assert trace_state() == trace_state()


def test_kd_26_the_trace_state_tells_traces_apart() -> None:
    states = [_jax_compat.trace_state()]
    jax.jit(lambda: states.append(_jax_compat.trace_state()))()
    jax.eval_shape(lambda: states.append(_jax_compat.trace_state()))
    states.append(_jax_compat.trace_state())
    assert states[0] == states[3]
    assert states[1] != states[0]
    assert states[2] not in (states[0], states[1])


def test_kd_26_with_jit_disabled_the_original_stays_unchanged() -> None:
    counter = Counter()

    @pax.pure
    def outer(counter: Counter) -> Counter:
        jax.jit(lambda: counter())()
        return counter

    with jax.disable_jit():
        assert outer(counter).count == 1
    assert counter.count == 0


# ---- KD-27: state dictionaries ---------------------------------------------------------------------------------------


def test_kd_27_missing_and_unexpected_entries_are_all_named_with_their_paths() -> None:
    net = Net()
    state = net.state_dict()
    del state["encoder"]["weight"]
    del state["layers"][0]["bias"]
    state["norm"]["extra"] = jnp.ones(1)
    state["other"] = 3
    with pytest.raises(StateDictError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "missing: encoder.weight, layers[0].bias" in text
    assert "unexpected: " in text
    assert "norm.extra" in text
    assert "other" in text
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (jnp.ones((3, 2)), "float32[3,2]"),
        (jnp.ones((2, 3), jnp.int32), "int32[2,3]"),
        (3.0, "3.0"),
        ("text", "'text'"),
        ([jnp.ones((2, 3))], "a list of 1"),
    ],
    ids=["shape", "dtype", "number", "text", "list"],
)
def test_kd_27_what_does_not_fit_is_refused(value: Any, got: str) -> None:
    linear = Linear(2, 3)
    with pytest.raises(StateDictError) as caught:
        linear.load_state_dict({**linear.state_dict(), "weight": value})
    assert f"weight: got {got}, want float32[2,3]" in str(caught.value)


@pytest.mark.parametrize(
    "value", [2.5, np.float32(2.5), np.float64(2.5), np.array(2.5)], ids=["float", "float32", "float64", "array"]
)
def test_kd_27_numbers_and_numpy_arrays_become_arrays_of_the_same_dtype(value: Any) -> None:
    loaded = Holder(scale=jnp.ones(())).load_state_dict({"scale": value})
    assert isinstance(loaded.scale, jax.Array)
    assert loaded.scale.dtype == jnp.float32
    assert loaded.scale.item() == 2.5
    assert loaded.pytree_attributes == ("scale",)


# ---- KD-28: merging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "merge", [lambda a, b: a | b, lambda a, b: a.update_parameters(b)], ids=["|", "update_parameters"]
)
def test_kd_28_arrays_of_other_shapes_cannot_be_merged(merge: Callable[[Any, Any], Any]) -> None:
    net = Net()
    other = net.replace_node(lambda net: net.layers[0].weight, jnp.ones((3, 7)))
    with pytest.raises(StructureError, match=r"layers\[0\]\.weight: got float32\[3,7\], want float32\[3,3\]"):
        merge(net, other)


@pytest.mark.parametrize(
    ("other", "place"),
    [
        (lambda: Net().replace(norm=Norm().eval()), "norm._training: got False, want True"),
        (lambda: Net(jnp.sin), "layers"),
        (lambda: Net().set_attribute("extra", jnp.ones(1)), "extra"),
        (lambda: Linear(), "got `Linear`"),
    ],
    ids=["mode", "static part", "attribute", "class"],
)
def test_kd_28_a_difference_of_structures_is_named_briefly(other: Callable[[], Any], place: str) -> None:
    with pytest.raises(StructureError) as caught:
        _ = Net() | other()
    text = str(caught.value)
    assert text.startswith("These modules cannot be merged: their structures differ.")
    assert place.removeprefix("got ").strip("`") in text
    assert len(text) < 1000


# ---- KD-29: unfreezing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frozen", "origin"),
    [
        (lambda: Linear(3, 3), lambda: Linear(2, 2)),
        (lambda: Holder(a=Linear(2, 2)), lambda: Holder(b=Linear(2, 2))),
        (lambda: Holder(a=jnp.ones(2)), lambda: Norm(2).replace(mean=None)),
        (lambda: Net(), lambda: Linear()),
    ],
    ids=["shapes", "names", "class", "number of leaves"],
)
def test_kd_29_leaves_are_not_poured_into_another_network(frozen: Callable[[], Any], origin: Callable[[], Any]) -> None:
    with pytest.raises(StructureError):
        pax.unfreeze_parameters(pax.freeze_parameters(frozen()), origin=origin())


def test_kd_29_unfreezing_takes_the_structure_of_the_original() -> None:
    net = Net()
    thawed = pax.unfreeze_parameters(pax.freeze_parameters(net.eval()), origin=net)
    assert thawed == net


# ---- KD-30: apply ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, 3, "text", jnp.ones(2)], ids=["None", "number", "text", "array"])
def test_kd_30_a_function_that_returns_no_module_is_found_where_it_happens(result: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="has to return a module") as caught:
        Net().apply(lambda module: result if isinstance(module, Norm) else module)
    assert "where: norm (Norm)" in str(caught.value)


# ---- KD-31: gradients ------------------------------------------------------------------------------------------------

_GRADS = pytest.mark.parametrize("transform", [pax.grad, pax.value_and_grad], ids=["grad", "value_and_grad"])


@_GRADS
def test_kd_31_the_first_argument_has_to_be_a_module(transform: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PAX's Module at the first argument"):
        transform(lambda x: x)(3.0)


@_GRADS
def test_kd_31_argnums_are_refused(transform: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="argnums"):
        transform(lambda module, x: x, argnums=1)


@_GRADS
def test_kd_31_the_result_is_named_like_the_function(transform: Any) -> None:
    def my_loss(module: Any) -> Any:
        return 0.0

    assert transform(my_loss).__name__ == "my_loss"


@_GRADS
def test_kd_31_options_of_jax_are_passed_on(transform: Any) -> None:
    module = ParameterHolder(count=jnp.array(3))
    with pytest.raises(TypeError):
        transform(lambda module: 2.0 * module.count.astype(jnp.float32))(module)
    result = transform(lambda module: 2.0 * module.count.astype(jnp.float32), allow_int=True)(module)
    gradients = result[1] if transform is pax.value_and_grad else result
    assert gradients.count.dtype == jax.dtypes.float0


# ---- KD-32: build_update_fn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [lambda model: model, lambda model: (0.0, model), lambda model: (0.0, (0.0, 3)), lambda model: 0.0],
    ids=["model", "loss and model", "no module", "loss"],
)
def test_kd_32_a_wrong_result_of_the_loss_function_is_explained(result: Callable[[Any], Any]) -> None:
    pytest.importorskip("opax")
    update = pax.build_update_fn(result)
    with pytest.raises(ArgumentError) as caught:
        update(Linear(), Counter())
    assert "want:  (loss, (aux, model))" in str(caught.value)


# ---- KD-33: scan -----------------------------------------------------------------------------------------------------


def test_kd_33_an_output_of_rank_one_is_explained() -> None:
    with pytest.raises(ArgumentError, match=r"needs a batch and a time axis") as caught:
        pax.scan(lambda carry, x: (carry, x.sum()), 0.0, jnp.ones((2, 3)), time_major=False)
    assert "ys" in str(caught.value)
    assert "float32[3]" in str(caught.value)


def test_kd_33_an_input_of_rank_one_is_explained() -> None:
    with pytest.raises(ArgumentError, match=r"needs a batch and a time axis") as caught:
        pax.scan(lambda carry, x: (carry, x), 0.0, {"a": jnp.ones(3)}, time_major=False)
    assert "xs, ['a']" in str(caught.value)


# ---- KD-34: replace --------------------------------------------------------------------------------------------------


def test_kd_34_replacing_an_unknown_attribute_names_it() -> None:
    with pytest.raises(AttributeNameError, match="`foo` is no attribute of this module") as caught:
        Linear().replace(foo=1)
    assert "weight" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_kd_34_name_and_mode_can_be_replaced() -> None:
    linear = Linear().replace(name="fc", training=False)
    assert (linear.name, linear.training) == ("fc", False)
    assert repr(linear) == "(fc) Linear(in=2, out=2)"


# ---- KD-35: a check hid an exception ---------------------------------------------------------------------------------


def test_kd_35_the_end_of_a_session_does_not_hide_an_exception() -> None:
    module: Any = Holder(value=1)

    def share_and_fail() -> None:
        with pax.extend.mutation_session([module]):
            module.value = module.copy  # which the end of the session would refuse
            raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"):
        share_and_fail()


def test_kd_35_the_end_of_pure_does_not_hide_an_exception() -> None:
    @pax.pure
    def share_and_fail(module: Any) -> None:
        module.b = module.a
        raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"):
        share_and_fail(Holder(a=jnp.ones(1), b=jnp.ones(1)))


# ---- KD-36: empty nodes ----------------------------------------------------------------------------------------------


def test_kd_36_empty_nodes_can_be_hashed() -> None:
    assert len({pax.EmptyNode(), pax.EmptyNode()}) == 1


# ---- KD-37: properties were evaluated --------------------------------------------------------------------------------


def test_kd_37_construction_evaluates_no_property() -> None:
    evaluated: list[str] = []

    class Lazy(pax.Module):
        @property
        def costly(self) -> Any:
            evaluated.append("property")
            raise RuntimeError("evaluated too early")

        @functools.cached_property
        def kept(self) -> Any:
            evaluated.append("cached property")
            raise RuntimeError("evaluated too early")

    module = Lazy()
    pax.pure(lambda module: module)(module.scan_bugs().replace(_name="a"))
    assert evaluated == []


def test_kd_37_a_property_may_return_an_array() -> None:
    class Derived(pax.Module):
        @property
        def table(self) -> jax.Array:
            return jnp.ones(2)

    assert Derived().table.shape == (2,)
    assert _leaves(Derived()) == []


# ---- KD-38: shared tracers -------------------------------------------------------------------------------------------


def _same_array_twice(net: Any) -> Any:
    """A loss of which the gradients of two biases are one and the same."""
    return (net.a + net.b).sum()


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_kd_38_equal_gradients_are_no_shared_arrays(wrap: Callable[[Any], Any]) -> None:
    module = ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2))

    @wrap
    def gradients_of(module: Any) -> Any:
        gradients = pax.grad(_same_array_twice)(module)
        return gradients.parameters().map(lambda leaf: leaf)

    gradients = gradients_of(module)
    assert gradients.a.tolist() == gradients.b.tolist() == [1, 1]


def test_kd_38_one_tracer_at_two_places_passes_through_pure() -> None:
    @jax.jit
    def step(module: Any, x: jax.Array) -> Any:
        twice = jax.tree.map(lambda _: x, module)
        return pax.pure(lambda module: module)(twice).parameters()

    result = step(ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2)), jnp.full(2, 3.0))
    assert result.a.tolist() == result.b.tolist() == [3, 3]


def test_kd_38_a_tree_from_jax_with_one_array_twice_passes_through_pure() -> None:
    array = jnp.ones(2)
    twice = jax.tree.map(lambda _: array, ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2)))
    assert pax.pure(lambda module: module)(twice).a is array


def test_kd_38_a_module_that_a_user_builds_is_still_checked() -> None:
    array = jnp.ones(2)
    with pytest.raises(SharedNodeError):
        ParameterHolder(a=array, b=array)
