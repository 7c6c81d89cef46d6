"""`GraphModule` and `build_graph_module`: order, calls, states, constants, outputs, and modules as values."""

import copy
import gc
import operator
import pickle
import weakref
from functools import partial
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, SharedNodeError, StructureError
from pax.experimental.graph import CatNode, GraphModule, InputNode, Node, build_graph_module

X = jnp.arange(6.0).reshape(2, 3)


class Counter(pax.StateModule):
    """Counts its calls; returns the sum of its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)

    def __call__(self, *xs: Any) -> Any:
        self.count = self.count + 1
        return sum(jax.tree.leaves(xs))


class Affine(pax.Module):
    """A module of two arguments, or of one pair."""

    parameters = pax.parameters_method("weight")

    def __init__(self) -> None:
        super().__init__()
        self.weight = jnp.array(3.0)

    def __call__(self, x: Any, y: Any = None) -> Any:
        x, y = x if isinstance(x, tuple) else (x, y)
        return self.weight * x + y


def structure(tree: Any) -> Any:
    """Returns what `jax.jit` compares."""
    return jax.tree.structure(tree)


def residual(x: Any) -> Any:
    """The documented example, at another size."""
    y = x >> pax.nn.Linear(3, 3) >> jax.nn.relu
    return (y | x) >> jax.lax.add


def build(func: Any, *examples: Any) -> GraphModule:
    """Builds a graph with the same random numbers each time."""
    pax.seed_rng_key(1)
    return build_graph_module(func)(*examples)


# ---- the modules of a graph ------------------------------------------------------------------------------------------


def test_the_documented_summary() -> None:
    def residual_block(x: Any) -> Any:
        y = x >> pax.nn.Linear(8, 8)
        y >>= jax.nn.relu
        return (y | x) >> jax.lax.add

    net = build_graph_module(residual_block)(jnp.empty((3, 8)))
    assert net.summary().splitlines() == [
        "GraphModule",
        "├── Linear(in_dim=8, out_dim=8, with_bias=True)",
        "├── x => relu(x)",
        "├── x => identity(x)",
        "└── x => add(x)",
    ]


def test_modules_are_listed_parents_first_from_left_to_right() -> None:
    names = "abcdef"
    layers = [pax.nn.Identity(name=name) for name in names]
    x = InputNode(1)
    a = x >> layers[0]
    b = x >> layers[1]
    c = b >> layers[2]
    d = a >> layers[3]
    output = ((c & a) >> layers[4]) & (d >> layers[5])
    net = GraphModule([x], output)
    assert type(net.modules) is list
    assert [module.name for module in net.modules[:-1]] == list("bcaedf")


def test_a_node_used_twice_runs_once() -> None:
    x = InputNode(X)
    y = x >> Counter()
    net = GraphModule([x], (y + y) * y)
    net, _ = pax.purecall(net, X)
    assert len(net.modules) == 3
    assert net.modules[0].count == 1


def test_a_name_is_shown() -> None:
    x = InputNode(1)
    assert repr(GraphModule([x], x, name="net")) == "(net) GraphModule"
    assert GraphModule([x], x).name is None


@pytest.mark.parametrize("collect", [operator.and_, operator.or_, lambda x, y: x.binary_ops])
def test_modules_behind_several_values_are_trained(collect: Any) -> None:
    """KD-70: a module behind `x & y`, `x | y` or `binary_ops` is itself in the graph, with its parameters."""

    def func(x: Any, y: Any) -> Any:
        collected = collect(x, y)
        return collected >> Affine() if isinstance(collected, Node) else collected(Affine(), y)

    net = build_graph_module(func)(1.0, 2.0)
    assert [leaf.item() for leaf in jax.tree.leaves(net.parameters())] == [3.0]
    assert isinstance(net.modules[-1], Affine)
    assert net(5.0, 7.0) == 22.0
    assert jax.grad(lambda net: net(5.0, 7.0))(net).modules[-1].weight == 5.0
    assert jax.jit(lambda net: net)(net).modules[-1].weight == 3.0


@pytest.mark.parametrize("collect", [lambda x, y: x, operator.and_, operator.or_])
def test_states_change_under_purecall(collect: Any) -> None:
    """KD-70, KD-71: the state of a module behind several values is kept."""
    net = build_graph_module(lambda x, y: collect(x, y) >> Counter())(1, 2)
    assert net.modules[-1].count == 0
    for expected in (1, 2):
        net, _ = pax.purecall(net, 1, 2)
        assert net.modules[-1].count == expected
    net, _ = jax.jit(pax.purecall)(net, 1, 2)
    assert net.modules[-1].count == 3
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        net(1, 2)


def test_a_module_at_two_nodes_is_refused() -> None:
    layer = pax.nn.Linear(3, 3)
    x = InputNode(X)
    with pytest.raises(ValueError, match="is shared between two nodes of the pytree") as error:
        GraphModule([x], x >> layer >> jax.nn.relu >> layer)
    assert isinstance(error.value, SharedNodeError)
    assert "`modules[0]` and `modules[2]`" in str(error.value)
    assert 'pax.nn.Tied(net, {"modules[2]": "modules[0]"})' in str(error.value)
    net = pax.nn.Tied(GraphModule([x], x >> layer >> jax.nn.relu >> copy.deepcopy(layer)), {"modules[2]": "modules[0]"})
    assert len(jax.tree.leaves(net.parameters())) == 2
    np.testing.assert_allclose(net(X), layer(jax.nn.relu(layer(X))))


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_a_graph_computes_what_the_function_says() -> None:
    net = build(residual, X)
    x = jnp.linspace(-1.0, 2.0, 12).reshape(4, 3)
    np.testing.assert_array_equal(net(x), jax.nn.relu(net.modules[0](x)) + x)


def test_arguments_by_name() -> None:
    """KD-74: graphs take keyword arguments."""
    net = build_graph_module(lambda x, scale, shift: x * scale + shift)(1, 2, 3)
    assert net.argument_names == ("x", "scale", "shift")
    assert net(5, 6, shift=7) == net(shift=7, scale=6, x=5) == 37
    assert net.to_text().startswith("graph(x, scale, shift):")


def test_names_of_arguments() -> None:
    x, y, z = InputNode(1), InputNode(2, name="y"), InputNode(3)
    assert GraphModule([x], x).argument_names == ("x",)
    assert GraphModule([x, y, z], x).argument_names == ("x0", "y", "x2")
    assert build_graph_module(lambda a, /, *rest, b: a)(1, 2, 3, b=4).argument_names == ("a", "rest0", "rest1", "b")
    assert build_graph_module(operator.add)(1, 2)(3, 4) == 7


@pytest.mark.parametrize(
    ("args", "named"), [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1,), {"z": 2}), ((1, 2), {"y": 2}), ((1,), {"x": 1})]
)
def test_the_number_of_arguments_is_checked(args: Any, named: Any) -> None:
    """KD-74: also of those that nothing depends on."""
    net = build_graph_module(lambda x, y: x >> operator.neg)(1, 2)
    with pytest.raises(ArgumentTypeError, match=r"(?s)takes 2 arguments \(x, y\).*GraphModule.*net\(x, y\)") as error:
        net(*args, **named)
    assert isinstance(error.value, TypeError)


def test_an_error_names_the_step() -> None:
    net = build(residual, X)
    with pytest.raises(ValueError, match="Expecting 3 input features") as error:
        net(jnp.ones((2, 4)))
    assert error.value.__notes__ == ["in step 0 of a GraphModule: Linear(in_dim=3, out_dim=3, with_bias=True)"]


def test_values_are_released_after_their_last_use() -> None:
    class Big:
        """A value that can be watched."""

    alive: list[Any] = []
    watched: list[int] = []

    def make(_: Any) -> Any:
        big = Big()
        alive.append(weakref.ref(big))
        return big

    def forget(_: Any) -> int:
        return 0

    def watch(x: int) -> int:
        gc.collect()
        watched.append(sum(ref() is not None for ref in alive))
        return x

    x = InputNode(1)
    kept = x >> make
    net = GraphModule([x], (x >> make >> forget >> watch, kept))
    alive.clear()
    watched.clear()
    result = net(1)
    assert watched == [0]
    assert isinstance(result[1], Big)


def test_modules_and_steps_have_to_agree() -> None:
    net = build(residual, X)
    with pytest.raises(StructureError, match="one module for each step"):
        net.replace(modules=net.modules[:-1])(X)


# ---- outputs ---------------------------------------------------------------------------------------------------------


def test_an_input_as_output() -> None:
    x = InputNode(1)
    net = GraphModule([x], x)
    assert net.modules == []
    assert net.summary() == "GraphModule"
    assert net(X) is X


@pytest.mark.parametrize("collect", [operator.and_, operator.or_])
def test_collected_values_as_output(collect: Any) -> None:
    net = build_graph_module(lambda x, y: collect(x + y, x))(1, 2)
    assert net(3, 4) == (7, 3)
    assert net.summary().splitlines()[1:] == ["├── x => add(x)", "└── x => identity(x)"]


def test_a_tuple_of_one_value() -> None:
    x = InputNode(1)
    net = GraphModule([x], CatNode((x,)) >> len)
    assert net(5) == 1


def test_containers_of_nodes_as_output() -> None:
    def func(x: Any, y: Any) -> Any:
        total = x + y
        return {"total": total, "parts": [(x, y), x & y], 3: (total,)}

    net = build_graph_module(func)(1, 2)
    assert net(3, 4) == {"total": 7, "parts": [(3, 4), (3, 4)], 3: (7,)}
    assert list(net(3, 4)) == ["total", "parts", 3]
    assert type(net.output_node) is tuple
    assert len(net.modules) == 2


def test_outputs_have_to_be_nodes() -> None:
    """KD-75: the error says what the function returned, and where."""
    for output, text in ((3, "output of a graph\n.*3"), ((InputNode(1), {"a": []}), r"at \[1\]\['a'\]\n.*list of 0")):
        with pytest.raises(ArgumentTypeError, match=f"(?s)Expecting a node.*{text}") as error:
            build_graph_module(lambda x, output=output: output)(1)
        assert isinstance(error.value, AssertionError)


# ---- constants -------------------------------------------------------------------------------------------------------


def test_constants_are_no_parameters() -> None:
    """KD-72: a node that is no input is a constant; arrays are leaves that are not trained, numbers are static."""
    table = jnp.array([[1.0, 2.0, 3.0]])
    net = build_graph_module(lambda x: (x + table) * 2 + InputNode(table))(X)
    np.testing.assert_array_equal(net(X), (X + table) * 2 + table)
    assert net.constants == (table,)
    assert net.literals == (2,)
    assert [leaf is table for leaf in jax.tree.leaves(net)] == [True]
    assert jax.tree.leaves(net.parameters()) == []
    assert net.state_dict()["constants"][0] is table
    loaded = net.load_state_dict(jax.tree.map(lambda leaf: leaf + 1, net.state_dict()))
    np.testing.assert_array_equal(loaded(X), (X + table + 1) * 2 + table + 1)


def test_constants_of_any_kind() -> None:
    """KD-72: also in place of a forgotten input, whose call is then refused."""
    x, y = InputNode(X), InputNode("sum")
    reduce = {"sum": jnp.sum, "mean": jnp.mean}
    net = GraphModule([x], (x | y) >> (lambda x, how: reduce[how](x)))
    assert net(X) == 15.0
    assert jax.jit(lambda net, x: net(x))(net, X) == 15.0
    with pytest.raises(ArgumentTypeError, match="takes 1 argument"):
        net(X, "mean")
    mixed = InputNode({"scale": jnp.array(2.0), "shift": 1})
    net = GraphModule([x], (x | mixed) >> (lambda x, c: x * c["scale"] + c["shift"]))
    np.testing.assert_array_equal(jax.jit(lambda net, x: net(x))(net, X), X * 2 + 1)
    assert len(jax.tree.leaves(net)) == 1


def test_a_node_of_the_middle_can_be_an_input() -> None:
    x = InputNode(1)
    y = x + 1
    net = GraphModule([y], y * 3)
    assert net(5) == 15
    assert len(net.modules) == 1


def test_a_shape_is_no_constant() -> None:
    x, y = (InputNode(jax.ShapeDtypeStruct((2,), jnp.float32)) for _ in range(2))
    with pytest.raises(ArgumentError, match=r"(?s)A constant needs a value.*float32\[2\]"):
        GraphModule([x], x + y)


def test_a_graph_is_built_from_shapes() -> None:
    net = build(residual, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    assert structure(net) == structure(build(residual, X))
    np.testing.assert_array_equal(net(X), build(residual, X)(X))


# ---- a module as any other -------------------------------------------------------------------------------------------


def test_graphs_built_alike_are_traced_once() -> None:
    """KD-74: the program has no identities in it."""
    call = TraceCounter(lambda net, x: net(x))
    results = [call(build(residual, X), X) for _ in range(3)]
    assert call.traces == 1
    np.testing.assert_array_equal(results[0], results[2])
    call(build_graph_module(lambda x: x - 1000)(X), X)
    call(build_graph_module(lambda x: x - 1000)(X), X)
    assert call.traces == 2
    call(build_graph_module(lambda x: 1000 - x)(X), X)
    assert call.traces == 3


def test_the_program_is_plain_data() -> None:
    """KD-74: hashable and comparable, without nodes."""
    net = build(residual, X)
    program = (net.steps, net.output_node, net.argument_names, net.literals)
    assert hash(program) == hash(pickle.loads(pickle.dumps(program)))
    assert net.steps == (
        ("arguments", (0,), ()),
        ("arguments", (1,), (1,)),
        ("tuple", (2, 0), (2, 0)),
        ("unpack", (3,), (3,)),
    )
    assert net.output_node == 4


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: cloudpickle.loads(cloudpickle.dumps(net))],
    ids=["deepcopy", "pickle", "cloudpickle"],
)
def test_graphs_can_be_pickled(twin: Any) -> None:
    """KD-74, KD-03: graph modules can be pickled and copied deeply."""
    net = build_graph_module(lambda x: {"y": residual(x) * np.float32(2) + 1 + jnp.ones((1, 3))})(X)
    copied = twin(net)
    assert structure(copied) == structure(net)
    np.testing.assert_array_equal(copied(X)["y"], net(X)["y"])


def test_everything_reaches_the_modules() -> None:
    net = build(residual, X).eval()
    assert not net.modules[0].training
    assert net.train().modules[0].training
    assert jax.tree.leaves(pax.freeze_parameters(net).parameters()) == []
    assert list(net.state_dict()) == ["modules"]
    assert net.state_dict()["modules"][0]["weight"] is net.modules[0].weight
    doubled = net.apply(
        lambda module: module.map(lambda leaf: 2 * leaf) if isinstance(module, pax.nn.Linear) else module
    )
    np.testing.assert_array_equal(doubled.modules[0].weight, 2 * net.modules[0].weight)
    other = net.replace_node(net.modules[1], pax.nn.Lambda(jnp.tanh))
    np.testing.assert_array_equal(other(X), jnp.tanh(net.modules[0](X)) + X)


def test_graphs_nest() -> None:
    net = build_graph_module(lambda x: x >> build(residual, X) >> Counter())(X)
    new, y = pax.purecall(net, X)
    assert y.shape == (2, 3)
    assert (net.modules[1].count, new.modules[1].count) == (0, 1)
    assert isinstance(new.modules[0], GraphModule)


def test_a_graph_under_jit_is_the_plain_function() -> None:
    net = build(residual, X)

    def plain(net: GraphModule, x: Any) -> Any:
        return jax.lax.add(jax.nn.relu(net.modules[0](x)), x)

    graph, function = (jax.jit(func).lower(net, X).as_text() for func in (lambda net, x: net(x), plain))
    assert graph.replace("jit__lambda", "jit_plain") == function.replace("jit_plain_", "jit_plain")


def test_a_partial_as_a_step_is_compared_by_content() -> None:
    call = TraceCounter(lambda net, x: net(x))
    for _ in range(2):
        call(build_graph_module(lambda x: x >> partial(jnp.sum, axis=0))(X), X)
    assert call.traces == 1


def test_deep_graphs() -> None:
    """No recursion: the graph is deeper than Python's stack."""
    x = InputNode(0)
    node: Any = x
    for _ in range(2000):
        node = node + 1
    net = GraphModule([x], node)
    assert net(5) == 2005
    assert len(net.modules) == 2000
    wide = GraphModule([x], [x + 1 for _ in range(100)])
    assert wide(1) == [2] * 100


def test_the_work_of_a_build_grows_with_the_steps_alone() -> None:
    """A graph with many paths: each value is used twice, so there are 2**200 of them."""
    x = InputNode(jnp.array(1.0))
    node: Any = x
    for _ in range(200):
        node = node - node
    assert GraphModule([x], node)(3.0) == 0.0


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_inputs_have_to_be_nodes() -> None:
    x: Any = InputNode(1)
    wrong: list[Any] = [x, [1], iter([x]), None]
    for inputs in wrong:
        with pytest.raises(ArgumentTypeError, match="Expecting a list of nodes"):
            GraphModule(inputs, x)
    y: Any = InputNode(2)
    with pytest.raises(ArgumentTypeError, match=r"(?s)CatNode cannot be an input.*\[x, y\]"):
        GraphModule([x & y], (x & y) >> sum)
    assert GraphModule([args := x | y], args >> max)((5, 6)) == 6
    with pytest.raises(ArgumentError, match="only once"):
        GraphModule([x, x], x)
    with pytest.raises(ArgumentError, match="the same name"):
        GraphModule([InputNode(1, name="a"), InputNode(2, name="a")], x)


def test_an_input_that_is_a_step_has_to_be_needed() -> None:
    x: Any = InputNode(1)
    y = x >> operator.neg
    with pytest.raises(ArgumentError, match=r"(?s)does not need this input.*at \[1\].*Lambda\(neg\)"):
        GraphModule([x, y], x + x)
    assert GraphModule([x, y], y)(1, 5) == 5
    assert GraphModule([x, y], x + y)(1, 5) == 6
    assert GraphModule([x, InputNode(2)], x + x)(3, 4) == 6


def test_examples_have_to_fit() -> None:
    for examples in ((), (1, 2)):
        with pytest.raises(ArgumentTypeError, match=r"(?s)examples do not fit.*\(x\)"):
            build_graph_module(lambda x: x)(*examples)
    with pytest.raises(ArgumentTypeError, match="Expecting a function"):
        build_graph_module(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", [jnp.sin, pax.nn.Linear(3, 3), lambda x: x.sum(), list, lambda x: x > 0])
def test_a_node_used_as_an_array_gets_a_hint(use: Any) -> None:
    with pytest.raises((TypeError, AttributeError)) as error:
        build_graph_module(lambda x: use(x))(X)
    assert "a node is no array; write `x >> f`" in "".join(error.value.__notes__)
    with pytest.raises(TypeError) as error:
        build_graph_module(lambda x: x >> (lambda x, y: x))(X)
    assert not any("a node is no array" in note for note in error.value.__notes__)


def test_arguments_of_any_name() -> None:
    net = build_graph_module(lambda self, x: self + x)(1, 2)
    assert net(self=3, x=4) == 7
    assert net.to_text(self=3, x=4) == net.to_text(3, 4)


def test_a_layer_called_on_a_node_gets_a_hint() -> None:
    mistakes: list[tuple[Any, str]] = [
        (lambda x: pax.nn.Linear(3, 3)(x), "`x >> layer`"),
        (pax.nn.Linear(3, 3), "`build_graph_module(lambda x: x >> layer)`"),
    ]
    for function, text in mistakes:
        with pytest.raises(ArgumentTypeError, match=r"(?s)Expecting an array.*got: +a node") as error:
            build_graph_module(function)(X)
        assert text in "".join(error.value.__notes__)
    with pytest.raises(MutationError) as stateful:
        build_graph_module(lambda x: pax.nn.Dropout(0.5)(x))(X)
    assert "`x >> layer`" in "".join(stateful.value.__notes__)
