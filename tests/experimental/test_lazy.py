"""`LazyModule`: parts are created once, when they are needed, and can be used at once; `init` computes nothing."""

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, SharedNodeError
from pax.experimental import LazyModule, lazy_init, mutable

_X = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 2, 3)
_SPEC = jax.ShapeDtypeStruct(_X.shape, _X.dtype)


@pytest.fixture(autouse=True)
def _seed() -> None:
    pax.seed_rng_key(42)


@dataclass
class MLP(LazyModule):
    """The documented example."""

    features: Sequence[int]

    def __call__(self, x: Any) -> Any:
        sizes = zip(self.features[:-1], self.features[1:], strict=True)
        for i, (in_dim, out_dim) in enumerate(sizes):
            fc = self.get_or_create(f"fc{i}", lambda: pax.Linear(in_dim, out_dim))  # noqa: B023
            x = jax.nn.relu(fc(x))
        return x


class Inner(LazyModule):
    """A lazy module for use in another one."""

    def __call__(self, x: Any) -> Any:
        return self.get_or_create("out", lambda: pax.Linear(x.shape[-1], 2))(x)


class Stateful(LazyModule):
    """Layers with states, an array, a container, and a lazy module, all created and used in one call."""

    def __call__(self, x: Any, scale: float = 1.0) -> Any:
        x = self.get_or_create("fc", lambda: pax.Linear(x.shape[-1], 4))(x)
        x = self.get_or_create("norm", lambda: pax.BatchNorm1D(4))(x)
        x = self.get_or_create("drop", lambda: pax.Dropout(0.5))(x)
        layers: list[Any] = self.get_or_create("layers", lambda: [pax.Dropout(0.1), Inner()])
        for layer in layers:
            x = layer(x)
        return scale * x * self.get_or_create("gain", lambda: jnp.ones((1, 1, 2)))


class Of(LazyModule):
    """One part, made by a given function."""

    def __init__(self, create: Any, part: Any = "part") -> None:
        super().__init__()
        self.create = create
        self.part_name = part

    def __call__(self, x: Any) -> Any:
        value = self.get_or_create(self.part_name, self.create)
        return value(x) if callable(value) else value


# ---- creating --------------------------------------------------------------------------------------------------------


def test_the_documented_example() -> None:
    mlp = MLP([1, 2, 3])
    assert mlp.summary() == "MLP(features=[1, 2, 3])"
    created, _ = mlp % jnp.ones((1, 1))
    assert created.summary().splitlines() == [
        "MLP(features=[1, 2, 3])",
        "├── Linear(in_dim=1, out_dim=2, with_bias=True)",
        "└── Linear(in_dim=2, out_dim=3, with_bias=True)",
    ]
    assert mlp.summary() == "MLP(features=[1, 2, 3])"
    assert created(jnp.ones((1, 1))).shape == (1, 3)


def test_a_second_call_creates_nothing() -> None:
    net, _ = MLP([3, 4, 2]) % _X
    again, _ = net % _X
    assert again == net


def test_stateful_parts_can_be_called_in_the_call_that_creates_them() -> None:
    """KD-24: a Dropout or BatchNorm was immutable until the next call."""
    net, y = Stateful() % _X
    assert y.shape == (5, 2, 2)
    assert (net.norm.ema_mean.averages != 0).any()
    assert treedef(net) == treedef((net % _X)[0])


def test_a_lazy_module_in_a_list_that_another_one_creates() -> None:
    """KD-24: here two calls deep."""
    net, _ = Stateful() % _X
    assert net.layers[1].summary().splitlines() == ["Inner", "└── Linear(in_dim=4, out_dim=2, with_bias=True)"]


def test_the_states_are_those_of_a_module_that_existed_before() -> None:
    net, _ = Of(lambda: pax.BatchNorm1D(3)) % _X
    norm, _ = pax.BatchNorm1D(3) % _X
    for a, b in zip(jax.tree.leaves(net.part), jax.tree.leaves(norm), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("create", "leaves"),
    [
        (lambda: jnp.ones(3), 1),
        (lambda: np.ones(3), 1),
        (lambda: {"a": jnp.ones(3), "b": [jnp.zeros(1)]}, 2),
        (lambda: (pax.RngSeq(seed=1), "text"), 1),
        (lambda: "text", 0),
        (lambda: None, 0),
        (list, 0),
    ],
)
def test_anything_can_be_created(create: Callable[[], Any], leaves: int) -> None:
    net, value = Of(create) % 0
    assert len(jax.tree.leaves(net)) == leaves
    assert treedef(net.part) == treedef(value)
    assert (net % 0)[0] == net


def test_any_existing_attribute_is_returned() -> None:
    assert Of(None, "training")(0) is True
    assert Of(None, "part_name")(0) == "part_name"
    assert Of(None, "name")(0) is None


def test_loop_variables_are_taken_at_once() -> None:
    net, _ = MLP([3, 5, 7]) % _X
    assert [layer.out_dim for layer in (net.fc0, net.fc1)] == [5, 7]


def test_parts_are_copies_of_what_the_function_returns() -> None:
    """A module that the user holds must not change when the part does."""
    norm = pax.BatchNorm1D(3)
    before = jax.tree.leaves(norm)
    net, _ = Of(lambda: norm) % _X
    assert (net.part.ema_mean.averages != 0).any()
    assert all(a is b for a, b in zip(jax.tree.leaves(norm), before, strict=True))


def test_a_part_cannot_be_created_twice_under_two_names() -> None:
    class Twice(LazyModule):
        def __call__(self, x: Any) -> Any:
            first = self.get_or_create("first", lambda: pax.Linear(3, 3))
            return self.get_or_create("second", lambda: first)(x)

    with pytest.raises(SharedNodeError):
        _ = Twice() % _X


def test_parts_are_created_in_a_mutable_block() -> None:
    with mutable(Stateful()) as net:
        net(_X)
    assert net.fc.out_dim == 4
    assert net.scan_bugs() is net


def test_parts_are_created_within_other_modules() -> None:
    net, _ = pax.Sequential(pax.Linear(3, 4), Inner(), jax.nn.relu, Inner()) % _X
    assert [net[1].out.in_dim, net[3].out.in_dim] == [4, 2]
    assert net.eval()(_X).shape == (5, 2, 2)


def test_what_a_module_in_evaluation_mode_creates_is_in_that_mode() -> None:
    called, y = Stateful().eval() % _X
    modules = [called.fc, called.norm, called.drop, *called.layers, called.layers[1].out]
    assert [module.training for module in modules] == [False] * 6
    pax.seed_rng_key(42)
    expected = Stateful().init(_SPEC).eval()
    assert treedef(called) == treedef(expected) == treedef(Stateful().eval().init(_SPEC))
    np.testing.assert_array_equal(y, expected(_X))
    # The modes of the parts are their own as long as the module trains.
    part = Of(lambda: pax.Dropout(0.5).eval()).init(_SPEC).part
    assert not part.training


def test_names_and_modes() -> None:
    net = Inner(name="head", training=False)
    assert (repr(net), net.training) == ("(head) Inner", False)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_creating_in_an_immutable_module_is_an_error_that_says_what_to_do() -> None:
    calls: list[int] = []
    net = Of(lambda: calls.append(1))
    with pytest.raises(MutationError) as caught:
        net(_X)
    text = str(caught.value)
    assert text.startswith("Cannot modify a module in immutable mode.\nPlease do this computation inside a function")
    assert "net, y = net % x" in text
    assert "net = net.init(x)" in text
    assert calls == []  # and no key was drawn


def test_creating_under_a_deeper_trace_is_an_error() -> None:
    class Deep(LazyModule):
        def __call__(self, x: Any) -> Any:
            return jax.jit(lambda x: self.get_or_create("fc", lambda: pax.Linear(3, 3))(x))(x)

    with pytest.raises(MutationError):
        _ = Deep() % _X


def test_what_is_not_callable_is_refused_only_if_it_is_needed() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Expect a callable function") as caught:
        _ = Of(pax.EmptyNode()) % _X
    assert isinstance(caught.value, AssertionError)
    assert Of(3, "training")(0) is True


def test_an_exception_leaves_the_module_unchanged() -> None:
    def fail() -> Any:
        raise KeyError("mine")

    net = Of(fail)
    structure = treedef(net)
    for attempt in (lambda: net % _X, lambda: net.init(_X)):
        with pytest.raises(KeyError, match="mine"):
            attempt()
    assert treedef(net) == structure
    caught = []

    class Careful(LazyModule):
        def __call__(self, x: Any) -> Any:
            try:
                self.get_or_create("fc", fail)
            except KeyError:
                caught.append(hasattr(self, "fc"))
            return self.get_or_create("fc", lambda: pax.Linear(3, 3))(x)

    assert (Careful() % _X)[0].fc.in_dim == 3
    assert caught == [False]


@pytest.mark.parametrize("name", ["map", "summary", "get_or_create", "init", "__call__"])
def test_names_of_methods_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"`{name}` is a method of this class"):
        _ = Of(lambda: pax.Linear(3, 3), name) % _X


def test_a_name_is_a_string() -> None:
    with pytest.raises(ArgumentTypeError, match="a string"):
        _ = Of(lambda: pax.Linear(3, 3), 3) % _X


# ---- after the first call --------------------------------------------------------------------------------------------


def _loss(model: Any, x: Any) -> Any:
    model, y = pax.purecall(model, x)
    return (y**2).mean(), (None, model)


def test_it_is_trained_like_any_other() -> None:
    net = Stateful().init(_X)
    step = TraceCounter(pax.build_update_fn(_loss))
    optimizer = opax.adam(1e-2)(net.parameters())
    before = net
    for _ in range(3):
        net, optimizer, _ = step(net, optimizer, _X)
    assert step.traces == 1
    assert (net.fc.weight != before.fc.weight).all()
    assert (net.gain == before.gain).all()  # an own array of a plain module is no parameter


def test_it_can_be_created_under_jit() -> None:
    net, y = jax.jit(lambda net, x: net % x)(Stateful(), _X)
    pax.seed_rng_key(42)
    want, want_y = Stateful() % _X
    assert treedef(net) == treedef(want)
    np.testing.assert_allclose(y, want_y, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(net.drop.rng_key, want.drop.rng_key)


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_it_can_be_pickled(twin: Callable[[Any], Any]) -> None:
    for net in (Stateful(), Stateful().init(_X)):
        copied = twin(net)
        assert treedef(copied) == treedef(net)
        for a, b in zip(jax.tree.leaves(copied), jax.tree.leaves(net), strict=True):
            np.testing.assert_array_equal(a, b)


def test_dataclass_modules_compare_and_hash_like_modules() -> None:
    net, other = MLP([3, 4]).init(_X), MLP([3, 4]).init(_X)
    assert net != other
    assert net == net.copy()
    assert hash(net) == hash(other)


# ---- init ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [_X, jnp.asarray(_X), _SPEC], ids=["NumPy", "JAX", "ShapeDtypeStruct"])
def test_init_creates_what_a_call_creates(inputs: Any) -> None:
    called, _ = Stateful() % _X
    after = pax.next_rng_key()
    pax.seed_rng_key(42)
    net = Stateful().init(inputs)
    assert treedef(net) == treedef(called)
    assert list(vars(net)) == list(vars(called))
    assert net.summary() == called.summary()
    for a, b in zip(jax.tree.leaves(net.parameters()), jax.tree.leaves(called.parameters()), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(pax.next_rng_key(), after)


def test_init_leaves_states_as_they_were_created() -> None:
    net = Of(lambda: pax.BatchNorm1D(3)).init(_SPEC)
    for a, b in zip(jax.tree.leaves(net.part), jax.tree.leaves(pax.BatchNorm1D(3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_init_computes_nothing_of_the_forward_pass() -> None:
    ran: list[int] = []

    class Costly(LazyModule):
        def __call__(self, x: Any) -> Any:
            jax.debug.callback(lambda: ran.append(1))
            return self.get_or_create("fc", lambda: pax.Linear(10, 2))(x)

    # 40 TB, if there were an array of it
    assert Costly().init(jax.ShapeDtypeStruct((10**12, 10), jnp.float32)).fc.in_dim == 10
    jax.effects_barrier()
    assert ran == []


def test_init_can_be_abstract_itself() -> None:
    abstract = jax.eval_shape(lambda: Stateful().init(_SPEC))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(abstract))
    net = Stateful().init(_SPEC)
    assert treedef(abstract) == treedef(net)
    assert [leaf.shape for leaf in jax.tree.leaves(abstract)] == [leaf.shape for leaf in jax.tree.leaves(net)]
    assert treedef(abstract.init(_SPEC)) == treedef(net)


def test_init_of_an_abstract_module_creates_only_shapes() -> None:
    size = 10**7

    abstract = jax.eval_shape(
        lambda: Of(lambda: pax.Linear(size, size)).init(jax.ShapeDtypeStruct((1, size), "float32"))
    )
    assert abstract.part.weight.shape == (size, size)


def test_init_under_jit_gives_the_same_values() -> None:
    net = jax.jit(lambda: Stateful().init(_SPEC))()
    pax.seed_rng_key(42)
    want = Stateful().init(_SPEC)
    assert treedef(net) == treedef(want)
    for a, b in zip(jax.tree.leaves(net), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_init_keeps_what_is_there() -> None:
    net = Stateful().init(_SPEC)
    assert net.init(_SPEC) == net
    trained, _ = net % _X
    assert trained.init(_SPEC) == trained


def test_init_passes_other_arguments_on() -> None:
    class Switched(LazyModule):
        def __call__(self, x: Any, deep: bool, *, mode: str, extra: Any = None) -> Any:
            assert isinstance(deep, bool)
            if deep:
                x = self.get_or_create("deep", lambda: pax.Linear(3, 3))(x)
            return self.get_or_create(mode, lambda: pax.Linear(3, extra["n"].shape[0]))(x)

    net = Switched().init(_SPEC, True, mode="wide", extra={"n": jnp.ones(4)})
    assert (net.deep.out_dim, net.wide.out_dim) == (3, 4)


def test_init_takes_modules_and_keys_as_inputs() -> None:
    class Uses(LazyModule):
        def __call__(self, key: Any, layer: Any, x: Any) -> Any:
            return self.get_or_create("fc", lambda: pax.Linear(3, 2))(layer(x)) + jax.random.normal(key)

    layer = pax.Linear(3, 3)
    net = Uses().init(jax.random.key(0), layer, _SPEC)
    assert net.fc.in_dim == 3
    spec = jax.eval_shape(lambda: jax.random.key(0))
    assert jax.eval_shape(lambda: Uses().init(spec, layer, _SPEC)).fc.in_dim == 3


def test_lazy_modules_within_ordinary_ones() -> None:
    def make() -> Any:
        pax.seed_rng_key(3)
        return pax.Sequential(pax.Linear(3, 4), pax.BatchNorm1D(4), Stateful(), MLP([2, 5]), jax.nn.relu)

    net, called = lazy_init(make(), _SPEC), (make() % _X)[0]
    assert treedef(net) == treedef(called)
    assert net.summary() == called.summary()
    for a, b in zip(jax.tree.leaves(net.parameters()), jax.tree.leaves(called.parameters()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (net[1].ema_mean.averages == 0).all()
    assert (called[1].ema_mean.averages != 0).any()


def test_parts_that_are_called_by_purecall() -> None:
    class Outer(LazyModule):
        def __call__(self, x: Any) -> Any:
            inner = self.get_or_create("inner", Stateful)
            self.inner, y = inner % x
            self.calls = 1
            return y

    net, called = Outer().init(_SPEC), (Outer() % _X)[0]
    assert treedef(net) == treedef(called)
    assert net.calls == 1
    assert net.inner.drop.rng_key.shape == (2,)


def test_init_within_init() -> None:
    class Outer(LazyModule):
        second: Any

        def __call__(self, x: Any) -> Any:
            first = self.get_or_create("first", lambda: Inner().init(x))
            self.get_or_create("second", Inner)
            self.second = self.second.init(first(x))
            return self.second(first(x))

    net, called = Outer().init(_SPEC), (Outer() % _X)[0]
    assert treedef(net) == treedef(called)
    assert (net.first.out.in_dim, net.second.out.in_dim) == (3, 2)
    assert not any("created" in name for module in pax.extend.modules_in(net) for name in vars(module))


def test_init_of_what_has_nothing_to_create() -> None:
    net = pax.Sequential(pax.Linear(3, 4), pax.BatchNorm1D(4))
    assert lazy_init(net, _SPEC) == net


def test_parts_that_depend_on_values_are_refused() -> None:
    class Mean(LazyModule):
        def __call__(self, x: Any) -> Any:
            return x - self.get_or_create("mean", lambda: x.mean())

    with pytest.raises(ArgumentError, match="depends on the values of the inputs") as caught:
        Mean().init(_X)
    assert "`mean`" in str(caught.value)
    assert "net, y = net % x" in str(caught.value)
    assert (Mean() % _X)[0].mean.shape == ()


def test_arrays_that_the_pass_assigns_are_refused() -> None:
    class Memory(LazyModule):
        def __call__(self, x: Any) -> Any:
            self.last = x
            return x

    with pytest.raises(ArgumentError, match="depends on the values"):
        Memory().init(_X)


@pytest.mark.parametrize("module", [3, pax.Module()], ids=["no module", "not callable"])
def test_what_cannot_be_called_cannot_be_initialized(module: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a"):
        lazy_init(module, _X)


def test_init_leaks_no_tracers() -> None:
    with jax.checking_leaks():
        net = Stateful().init(_X)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(net))


def test_an_initialized_module_takes_no_part_in_a_later_init() -> None:
    """What `init` notes about parts while it runs must not stay on the module."""
    net = Stateful().init(_X)
    assert not any("created" in name for module in pax.extend.modules_in(net) for name in vars(module))


def test_threads_initialize_apart() -> None:
    found: list[Any] = []

    def work(seed: int) -> None:
        pax.seed_rng_key(seed)
        found.append((seed, Stateful().init(_SPEC)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, net in found:
        pax.seed_rng_key(seed)
        np.testing.assert_array_equal(net.fc.weight, Stateful().init(_SPEC).fc.weight)
    assert len(found) == 4


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_parts_of_a_module_in_evaluation_mode_are_in_that_mode() -> None:
    for net in (Stateful().eval().init(_X), (Stateful().eval() % _X)[0]):
        assert not any(module.training for module in pax.extend.modules_in(net))
    assert all(module.training for module in pax.extend.modules_in(Stateful().init(_X)))


def test_parts_of_a_frozen_module_are_frozen() -> None:
    frozen = pax.freeze_parameters(pax.Sequential(Stateful(), Inner()))
    for net in (lazy_init(frozen, _X), (frozen % _X)[0]):
        assert jax.tree.leaves(net.parameters()) == []
        assert pax.unfreeze_parameters(net).parameters()[0].layers[1].out.weight.shape == (4, 2)


# ---- plausible mistakes ----------------------------------------------------------------------------------------------


def test_a_module_is_no_function_that_creates_one() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Expect a callable function") as caught:
        _ = Of(pax.Linear(2, 2)) % _X
    assert "self.get_or_create('part', lambda: pax.Linear(3, 4))" in str(caught.value)


def test_a_class_that_needs_arguments_gets_a_note() -> None:
    with pytest.raises(TypeError) as caught:
        Of(pax.Linear).init(_X)
    assert "self.get_or_create('part', lambda: Linear(...))" in "".join(caught.value.__notes__)

    def fail() -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine") as caught:
        Of(fail).init(_X)
    assert "get_or_create" not in "".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize(
    ("value", "fix"), [(Inner, r"lazy_init\(MyModule\(\), x\)"), (jnp.sin, r"lazy_init\(net, x\)")]
)
def test_only_modules_can_be_initialized(value: Any, fix: str) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"^Expecting a PAX module[\s\S]*{fix}"):
        lazy_init(value, _X)


@pytest.mark.parametrize("inputs", [((2, 8, 8, 1),), (), (2, 8, 8, 1)])
def test_a_shape_is_no_input(inputs: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        Inner().init(*inputs)
    assert "jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: bool(x.sum() > 0),
        lambda x: int(x.max()),
        np.asarray,
        lambda x: x[x > 0],
        lambda x: range(x.astype(int)[0, 0, 0]),
    ],
    ids=["bool", "int", "numpy", "mask", "index"],
)
def test_a_call_that_looks_at_values_cannot_be_traced(look: Callable[[Any], Any]) -> None:
    class Looks(LazyModule):
        def __call__(self, x: Any) -> Any:
            look(x)
            return self.get_or_create("fc", lambda: pax.Linear(3, 3))(x)

    with pytest.raises(ArgumentError, match="needs the values of its inputs") as caught:
        Looks().init(_SPEC)
    assert "net, y = net % x" in str(caught.value)
    assert (Looks() % jnp.asarray(_X))[0].fc.in_dim == 3
