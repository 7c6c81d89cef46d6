"""Pickle, cloudpickle, copy and deepcopy of every kind of module."""

import copy
import functools
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from helpers.treedefs import treedef


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Mlp(pax.Module):
    """Layers of the given sizes."""

    features: list[int]

    def __post_init__(self) -> None:
        self.layers = [Linear(a, b) for a, b in zip(self.features, self.features[1:], strict=False)]


@dataclass
class Defaults(pax.Module):
    """A default hides its attribute from lazy filling."""

    rate: float = 0.5
    bias: Any = None


class Momentum(pax.StateModule):
    """Like an optimizer: trees of states that mirror parameters, a step count, and static settings."""

    def __init__(self, parameters: Any, schedule: Callable[[Any], Any]) -> None:
        super().__init__()
        self.velocity = jax.tree.map(jnp.zeros_like, parameters)
        self.count = jnp.array(0)
        self.learning_rate = 0.1
        self.schedule = schedule


class Cached(Norm):
    """Has a derived value that is kept."""

    @functools.cached_property
    def size(self) -> int:
        return self.scale.size


class Outer:
    class Nested(pax.Module):
        def __init__(self) -> None:
            self.array = jnp.ones(1)


def _schedule(step: Any) -> Any:
    return 0.1 * step


def _double(self: Any, x: Any) -> Any:
    return 2 * x


_MODULES: dict[str, Callable[[], Any]] = {
    "plain": lambda: Linear(2, 3, name="fc"),
    "empty": pax.Module,
    "nested": Net,
    "in evaluation mode": lambda: Net().eval(),
    "frozen": lambda: pax.freeze_parameters(Net()),
    "partly frozen": lambda: pax.freeze_parameters(Net(), "encoder/weight"),
    "parameters": lambda: Net().parameters(),
    "dataclass": lambda: Mlp([1, 2, 3]),
    "dataclass with defaults": lambda: Defaults(bias=jnp.ones(2)),
    "mixed with jax.nn.relu": lambda: Holder(layers=[Linear(), jax.nn.relu, (jnp.tanh, 3), Linear()]),
    "static functions": lambda: Holder(a=jax.nn.relu, b=jnp.sin, c=jax.lax.add, d=_schedule, e=jax.nn.gelu, f=len),
    "partials": lambda: Holder(a=functools.partial(jax.nn.leaky_relu, negative_slope=0.1)),
    "named tuples": lambda: Holder(a=Pair(jnp.ones(1), 3), b=Pair(1, [2]), c=OrderedDict(b=jnp.ones(1), a=2)),
    "typed key": lambda: Holder(key=jax.random.key(3)),
    "rng sequence": lambda: pax.RngSeq(seed=3),
    "numpy arrays": lambda: Holder(a=np.arange(3), b=[np.ones(1)]),
    "bfloat16": lambda: Holder(a=jnp.ones(2, dtype=jnp.bfloat16)),
    "empty node": lambda: Holder(a=pax.EmptyNode(), b=[pax.EmptyNode(), 3]),
    "replaced method": lambda: Linear().replace_method(__call__=_double),
    "frozen with a replaced method": lambda: pax.freeze_parameters(Linear().replace_method(__call__=_double)),
    "ints in place of arrays": lambda: jax.tree.map(lambda _: 3, Net()),
    "shapes in place of arrays": lambda: jax.eval_shape(Net),
    "like an optimizer": lambda: Momentum(Net().parameters(), _schedule),
    "nested class": Outer.Nested,
    "static containers": lambda: Holder(a=[1, {"b": (2,)}], c={1, 2}, d={}),
    "changed in place": lambda: _appended(),
}


def _appended() -> Any:
    holder = Holder(values=[jnp.ones(1)])
    holder.values.append(Linear())
    return holder


_COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "pickle protocol 2": lambda m: pickle.loads(pickle.dumps(m, protocol=2)),
    "cloudpickle": lambda m: pickle.loads(cloudpickle.dumps(m)),
    "deepcopy": copy.deepcopy,
}


def _value(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return (np.asarray(leaf).dtype, np.asarray(leaf).tolist()) if hasattr(leaf, "__array__") else leaf


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
@pytest.mark.parametrize("make", _MODULES.values(), ids=_MODULES)
def test_a_copy_has_the_structure_and_the_values_of_the_module(
    make: Callable[[], Any], duplicate: Callable[[Any], Any]
) -> None:
    module = make()
    twin = duplicate(module)
    assert type(twin) is type(module)
    assert treedef(twin) == treedef(module)
    assert [_value(leaf) for leaf in jax.tree.leaves(twin)] == [_value(leaf) for leaf in jax.tree.leaves(module)]
    assert twin.summary() == module.summary()


@pytest.mark.parametrize("make", _MODULES.values(), ids=_MODULES)
def test_a_shallow_copy_equals_the_module(make: Callable[[], Any]) -> None:
    module = make()
    twin = copy.copy(module)
    assert twin is not module
    assert twin == module


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_copy_makes_no_second_trace(duplicate: Callable[[Any], Any]) -> None:
    run = TraceCounter(lambda net: net.encoder.weight)
    net = pax.freeze_parameters(Net(jax.nn.relu), "encoder")
    run(net)
    run(duplicate(net))
    assert run.traces == 1


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_copy_shares_neither_arrays_nor_containers(duplicate: Callable[[Any], Any]) -> None:
    holder = Holder(linear=Linear(), array=np.zeros(2), names=["a"])
    twin = duplicate(holder)
    twin.names.append("b")
    twin.array[0] = 5
    assert twin.linear.weight is not holder.linear.weight
    assert (holder.names, holder.array.tolist()) == (["a"], [0.0, 0.0])


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_copy_can_be_called_and_trained(duplicate: Callable[[Any], Any]) -> None:
    net = duplicate(Net(jax.nn.relu))
    updated, y = pax.purecall(net, jnp.ones((3, 2)))
    assert (y.shape, int(updated.counter.count)) == ((3, 1), 1)
    assert len(jax.tree.leaves(updated.parameters())) == 7


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_copy_keeps_replaced_methods(duplicate: Callable[[Any], Any]) -> None:
    assert duplicate(Linear().replace_method(__call__=_double))(4) == 8


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_functions_of_jax_are_the_same_objects_in_a_copy(duplicate: Callable[[Any], Any]) -> None:
    twin = duplicate(Holder(layers=[Linear(), jax.nn.relu], activation=jax.nn.silu))
    assert twin.layers[1] is jax.nn.relu
    assert twin.activation is jax.nn.silu


def test_functions_of_jax_are_pickled_by_their_public_names() -> None:
    data = pickle.dumps(Holder(layers=[Linear(), jax.nn.relu], activation=jax.nn.silu, sine=jnp.sin))
    assert b"jax.nn" in data
    assert b"jax._src.nn" not in data


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_module_in_a_container_is_copied_with_it(duplicate: Callable[[Any], Any]) -> None:
    tree = duplicate({"model": Net(), "optimizer": Momentum(Net().parameters(), _schedule), "step": 3})
    assert tree["step"] == 3
    assert tree["optimizer"].velocity.encoder.weight.shape == (2, 3)


def test_a_lambda_survives_cloudpickle() -> None:
    twin = pickle.loads(cloudpickle.dumps(Holder(layers=[Linear(), lambda x: x + 1])))
    assert twin.layers[1](1) == 2


def test_a_local_class_survives_cloudpickle() -> None:
    class Local(pax.ParameterModule):
        def __init__(self) -> None:
            self.weight = jnp.ones(2)

        def __call__(self, x: Any) -> Any:
            return x * self.weight

    twin = pickle.loads(cloudpickle.dumps(Local()))
    assert twin(3.0).tolist() == [3.0, 3.0]


def test_a_lambda_cannot_be_pickled_by_pickle() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Holder(function=lambda x: x))


def test_deepcopy_keeps_a_lambda_as_it_is() -> None:
    holder = Holder(function=lambda x: x)
    assert copy.deepcopy(holder).function is holder.function


def test_deepcopy_copies_an_object_that_occurs_twice_once() -> None:
    net = Net()
    first, second = copy.deepcopy([net, net])
    assert first is second


def test_a_frozen_copy_can_be_unfrozen() -> None:
    twin = pickle.loads(pickle.dumps(pax.freeze_parameters(Net())))
    assert treedef(pax.unfreeze_parameters(twin)) == treedef(Net())


@pytest.mark.parametrize("duplicate", _COPIES.values(), ids=_COPIES)
def test_a_module_with_a_cached_value_is_copied_without_it(duplicate: Callable[[Any], Any]) -> None:
    cached = Cached(4)
    assert cached.size == 4
    twin = duplicate(cached)
    assert "size" not in vars(twin)
    assert twin.size == 4


def test_a_module_pickled_in_one_process_is_loaded_in_another(tmp_path: Any) -> None:
    path = tmp_path / "net.pickle"
    path.write_bytes(pickle.dumps(pax.freeze_parameters(Holder(a=ParameterHolder(w=jnp.arange(3.0)), f=jax.nn.relu))))
    program = (
        f"import pickle, sys; sys.path[:0] = {sys.path!r}; import helpers.modules\n"
        f"m = pickle.load(open({str(path)!r}, 'rb')); import jax\n"
        "print(m.a.w.tolist(), m.f is jax.nn.relu, len(jax.tree.leaves(m.parameters())))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[0.0, 1.0, 2.0] True 0\n", done.stderr


def test_weak_types_of_unpickled_arrays_stay_with_them() -> None:
    """In JAX 0.7 to 0.10, what is computed with an unpickled weak array first is weak for all arrays of the process."""
    shape = 7, 11, 13  # of no other test: the operations have not been compiled yet
    holder = pickle.loads(pickle.dumps(Holder(value=[Holder(value=jnp.full(shape, 2))])))
    weak, strong = holder.value[0].value, jnp.zeros(shape, jnp.int32)
    assert (weak.weak_type, (weak + 1).weak_type) == (True, True)
    assert not (strong + 1).weak_type


def test_a_counter_goes_on_counting_after_pickling() -> None:
    counter, _ = pax.purecall(Counter())
    counter, _ = pax.purecall(pickle.loads(pickle.dumps(counter)))
    assert counter.count == 2
