"""Nothing is left behind: no tracers, no reference cycles, no modules, no structures, no classes."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from pax._structure import Structure

Operation = Callable[[Net], Any]


@pytest.fixture(autouse=True, scope="module")
def _frozen_heap() -> Iterator[None]:
    """Sets aside what is there before these tests: collections become fast, and see what the tests make only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _weight_loss(net: Net, x: jax.Array) -> jax.Array:
    return (net.encoder(x) ** 2).sum()


def _double(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf * 2, tree)


def _change(net: Net) -> Net:
    @pax.pure
    def change(net: Net) -> Net:
        net.rate = 0.25
        net.layers.append(Linear(1, 1))
        net.counter()
        return net

    return change(net)


def _refused(net: Net) -> None:
    try:
        net.rate = 0.25
    except ValueError:
        return
    raise AssertionError("an immutable module has changed")


OPERATIONS: dict[str, Operation] = {
    "construct": lambda net: Net(),
    "flatten and unflatten": lambda net: jax.tree.map(lambda leaf: leaf, net),
    "read attributes of a copy": lambda net: net.copy().layers[0].weight,
    "copy": lambda net: net.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "pure": lambda net: pax.pure(lambda net: net)(net),
    "pure that changes": _change,
    "a refused change": _refused,
    "purecall": lambda net: pax.purecall(net.counter),
    "module_and_value": lambda net: pax.module_and_value(net.counter.__call__)(),
    "eval": lambda net: net.eval(),
    "train": lambda net: net.train(),
    "parameters": lambda net: net.parameters(),
    "update_parameters": lambda net: net.update_parameters(net.parameters()),
    "|": lambda net: net | net.parameters(),
    "replace": lambda net: net.replace(rate=0.75),
    "set_attribute": lambda net: net.set_attribute("extra", 3),
    "replace_node": lambda net: net.replace_node(net.encoder, Linear(2, 3)),
    "replace_node by function": lambda net: net.replace_node(lambda net: net.encoder, Linear(2, 3)),
    "replace_method": lambda net: net.replace_method(__call__=_weight_loss),
    "map": lambda net: net.map(lambda leaf: leaf),
    "apply": lambda net: net.apply(lambda module: module),
    "freeze": lambda net: pax.freeze_parameters(net),
    "freeze a part": lambda net: pax.freeze_parameters(net, "encoder/*"),
    "unfreeze": lambda net: pax.unfreeze_parameters(pax.freeze_parameters(net)),
    "filter": lambda net: pax.filter(net, "layers/**"),
    "partition and combine": lambda net: pax.combine(*pax.partition(net)),
    "state_dict": lambda net: net.load_state_dict(net.state_dict()),
    "summary": lambda net: net.summary(),
    "equality and hash": lambda net: (net == net.copy(), hash(net)),
    "scan_bugs": lambda net: net.scan_bugs(),
    "submodules": lambda net: net.submodules(),
    "assert_structure_equal": lambda net: pax.assert_structure_equal(net, net.copy()),
    "RngSeq": lambda net: pax.module_and_value(pax.RngSeq(seed=0).next_rng_key)(),
}

_each = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


# ---- tracers ---------------------------------------------------------------------------------------------------------

_TRACEABLE = {name: operation for name, operation in OPERATIONS.items() if name not in ("deepcopy", "pickle")}


def _arrays(result: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)]


@pytest.mark.parametrize("operation", _TRACEABLE.values(), ids=_TRACEABLE)
@pytest.mark.parametrize("transform", [jax.jit, jax.eval_shape], ids=["jit", "eval_shape"])
def test_no_operation_leaks_a_tracer(operation: Operation, transform: Any) -> None:
    net = Net()
    with jax.checking_leaks():
        if transform is jax.jit:
            jax.jit(lambda net: _arrays(operation(_double(net))))(net)
        else:
            jax.eval_shape(lambda net: _arrays(operation(_double(net))), net)
    assert net.encoder.weight.shape == (2, 3)


def test_a_jitted_training_step_leaks_no_tracer() -> None:
    def loss(net: Net, x: jax.Array) -> tuple[jax.Array, Net]:
        net, y = pax.purecall(net, x)
        return (y**2).sum(), net

    @jax.jit
    def step(net: Net, x: jax.Array) -> tuple[Net, jax.Array]:
        (value, net), gradients = pax.value_and_grad(loss, has_aux=True)(net, x)
        return net.update_parameters(net.parameters().map(lambda p, g: p - 0.1 * g, gradients)), value

    net, x = Net(), jnp.array([[1.0, 2.0], [3.0, 5.0]])
    with jax.checking_leaks():
        net, first = step(net, x)
        net, second = step(net, x)
    assert second < first
    assert net.counter.count == 2


@pytest.mark.parametrize("name", ["vmap", "scan", "checkpoint", "grad"])
def test_a_purecall_under_a_transformation_leaks_no_tracer(name: str) -> None:
    net: Any = Linear(2, 2).set_attribute("seen", jnp.zeros(()))
    x = jnp.ones((3, 2))

    def call(net: Any, x: jax.Array) -> Any:
        def inside(net: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            net.seen = x.sum()
            return net, net(x[None]).sum()

        return pax.pure(inside)(net, x)

    run: dict[str, Callable[[], Any]] = {
        "vmap": lambda: jax.vmap(call, in_axes=(None, 0))(net, x),
        "scan": lambda: jax.lax.scan(call, net, x),
        "checkpoint": lambda: jax.checkpoint(call)(net, x[0]),
        "grad": lambda: pax.grad(lambda net, x: call(net, x)[::-1], has_aux=True)(net, x[0]),
    }
    with jax.checking_leaks():
        run[name]()
    assert net.seen == 0.0


def test_a_failure_under_jit_leaves_no_tracer_in_the_module() -> None:
    net = Net()

    @pax.pure
    def fail(net: Net, x: jax.Array) -> None:
        net.encoder.bias = x
        raise RuntimeError("enough")

    with jax.checking_leaks(), pytest.raises(RuntimeError):
        jax.jit(fail)(net, jnp.ones(3))
    assert isinstance(net.encoder.bias, jax.Array)
    assert not isinstance(net.encoder.bias, jax.core.Tracer)


# ---- objects ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@_each
@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_module_dies_with_its_last_reference(operation: Operation) -> None:
    net = Net()
    operation(net)
    reference = weakref.ref(net)
    del net
    assert reference() is None


@_each
@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_result_dies_with_its_last_reference(operation: Operation) -> None:
    net = Net()
    result = operation(net)
    references = [
        weakref.ref(module)
        for module in jax.tree.leaves(result, is_leaf=lambda node: isinstance(node, pax.Module))
        if isinstance(module, pax.Module) and module is not net
    ]
    del result
    if operation is OPERATIONS["submodules"]:
        del net
    assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_copy_with_attributes_filled_in_dies_with_its_last_reference() -> None:
    net = Net().copy()
    assert net.layers[0].weight.shape == (3, 3)
    reference = weakref.ref(net)
    del net
    assert reference() is None


@pytest.mark.usefixtures("_no_garbage_collection")
def test_the_copy_inside_of_pure_dies_with_the_call() -> None:
    references: list[weakref.ref[Any]] = []
    pax.pure(lambda net: references.append(weakref.ref(net)))(Net())
    assert references[0]() is None


@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_module_with_a_numpy_array_dies_after_a_pure_call() -> None:
    module = Holder(array=np.zeros(3))
    array = weakref.ref(module.array)
    pax.pure(lambda module: module)(module)
    del module
    assert array() is None


def test_a_compiled_function_keeps_no_module_alive() -> None:
    net = Net()
    reference = weakref.ref(net)
    compiled = jax.jit(lambda net: net.encoder.weight)
    compiled(net)
    del net
    gc.collect()
    assert reference() is None


def _collected_after(action: Callable[[], Any], rounds: int) -> int:
    """Returns how many objects the garbage collector finds after an action has run, which are those in cycles."""
    action()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            action()
        return gc.collect()
    finally:
        gc.enable()


@_each
def test_no_operation_makes_a_reference_cycle(operation: Operation) -> None:
    net = Net()
    cycles = _collected_after(lambda: operation(net), rounds=20)
    assert cycles < 20, f"{cycles} objects in cycles after 20 rounds"


@_each
def test_no_operation_makes_objects_that_stay(operation: Operation) -> None:
    net = Net()
    for _ in range(3):
        operation(net)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(30):
            operation(net)
        grown = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert grown < 30, f"{grown} more objects after 30 rounds"


def test_the_check_for_cycles_finds_one() -> None:
    def make_cycle() -> None:
        cycle: list[Any] = []
        cycle.append(cycle)

    assert _collected_after(make_cycle, rounds=20) >= 20


# ---- structures and classes ------------------------------------------------------------------------------------------


def _all_subclasses(cls: type) -> set[type]:
    below: set[type] = set(type.__subclasses__(cls))
    return below.union(*map(_all_subclasses, below))


def _classes() -> int:
    return len(_all_subclasses(pax.Module))


def _structures() -> int:
    gc.collect()
    return sum(isinstance(thing, Structure) for thing in gc.get_objects())


@_each
def test_no_operation_makes_classes_again_and_again(operation: Operation) -> None:
    net = Net()
    operation(net)
    before = _classes()
    for _ in range(10):
        operation(net)
    assert _classes() == before


def test_freezing_makes_no_class() -> None:
    """KD-01."""
    net = Net()
    before = _classes()
    frozen = [pax.freeze_parameters(net) for _ in range(50)]
    assert _classes() == before
    assert {type(module) for module in frozen} == {Net}


@_each
def test_no_operation_leaves_structures_behind(operation: Operation) -> None:
    net = Net()
    operation(net)
    before = _structures()
    for _ in range(10):
        operation(net)
    assert _structures() == before


def test_structures_die_with_their_modules() -> None:
    before = _structures()
    modules = [Holder(size=size, weight=jnp.ones(1)) for size in range(500)]
    assert _structures() == before + 500
    del modules
    assert _structures() == before


def test_equal_modules_share_one_structure() -> None:
    before = _structures()
    modules = [Holder(size=3).eval().copy() for _ in range(100)]
    assert _structures() == before + 1
    assert len(modules) == 100


@pytest.mark.parametrize(
    "make",
    [lambda: [1], lambda: {"a": [1]}, lambda: ([1], 2), lambda: {1, 2}, lambda: jnp.tanh, lambda: "text"],
    ids=["list", "dict", "tuple", "set", "function", "str"],
)
def test_equal_modules_with_this_static_value_share_one_structure(make: Callable[[], Any]) -> None:
    before = _structures()
    modules = [Holder(value=make()).copy() for _ in range(100)]
    assert _structures() == before + 1
    assert len(modules) == 100


def test_modules_of_local_classes_die_with_their_last_reference() -> None:
    """JAX's registry of pytree nodes keeps every registered class; PAX must not keep the *modules* of it."""

    class Local(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counter = Counter()

    module = Local()
    reference = weakref.ref(module)
    child = weakref.ref(module.counter)
    del module
    assert (reference(), child()) == (None, None)
