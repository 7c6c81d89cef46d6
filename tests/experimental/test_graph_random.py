"""Random graphs compute what the same steps compute as a plain function: also transformed, pickled and copied."""

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import pax
from pax.experimental.graph import GraphModule, InputNode

SHAPE = (3, 3)


class Drift(pax.Module):
    """Adds a state, which it changes, to the mean of its arguments."""

    parameters = pax.parameters_method("scale")

    def __init__(self) -> None:
        super().__init__()
        self.scale = jnp.full(SHAPE, 0.5)
        self.drift = jnp.ones(SHAPE)

    def __call__(self, x: Any, *ys: Any) -> Any:
        xs = (*x, *ys) if isinstance(x, tuple) else (x, *ys)
        self.drift = self.drift * 0.5
        return self.scale * sum(xs) / len(xs) + self.drift


def stretch(pair: Any) -> Any:
    """A function of one tuple."""
    x, *rest = pair
    return jnp.tanh(x) - sum(rest)


def mix(x: Any, y: Any) -> Any:
    """A function of two arguments."""
    return x * 0.25 + jnp.sin(y)


class Step(NamedTuple):
    """One step: a key of `PLAIN`, and the numbers of the values that it may take."""

    kind: str
    operands: tuple[int, int]


UNARY: dict[str, Callable[..., Any]] = {
    "function": lambda module, x: x >> jnp.tanh,
    "linear": lambda module, x: x >> module,
    "drift": lambda module, x: x >> module,
    "negative": lambda module, x: -x,
    "times two": lambda module, x: x * 0.5,
    "from three": lambda module, x: 3 - x,
    "plus array": lambda module, x: np.full(SHAPE, 0.25, np.float32) + x,
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda module, x, y: x + y,
    "subtract": lambda module, x, y: x - y,
    "multiply": lambda module, x, y: x * y * 0.1,
    "matmul": lambda module, x, y: x @ y * 0.1,
    "binary_ops": lambda module, x, y: x.binary_ops(mix, y),
    "args": lambda module, x, y: (x | y) >> mix,
    "cat": lambda module, x, y: (x & y) >> stretch,
    "three": lambda module, x, y: (x & (y & x)) >> stretch,
    "module of a tuple": lambda module, x, y: (x & y) >> module,
    "module of arguments": lambda module, x, y: (x | y | x) >> module,
    "module of two": lambda module, x, y: x.binary_ops(module, y),
}
PLAIN: dict[str, Callable[..., Any]] = {
    "function": lambda module, x, y: jnp.tanh(x),
    "linear": lambda module, x, y: module(x),
    "drift": lambda module, x, y: module(x),
    "negative": lambda module, x, y: -x,
    "times two": lambda module, x, y: x * 0.5,
    "from three": lambda module, x, y: 3 - x,
    "plus array": lambda module, x, y: np.full(SHAPE, 0.25, np.float32) + x,
    "add": lambda module, x, y: x + y,
    "subtract": lambda module, x, y: x - y,
    "multiply": lambda module, x, y: x * y * 0.1,
    "matmul": lambda module, x, y: x @ y * 0.1,
    "binary_ops": lambda module, x, y: mix(x, y),
    "args": lambda module, x, y: mix(x, y),
    "cat": lambda module, x, y: stretch((x, y)),
    "three": lambda module, x, y: stretch((x, y, x)),
    "module of a tuple": lambda module, x, y: module((x, y)),
    "module of arguments": lambda module, x, y: module(x, y, x),
    "module of two": lambda module, x, y: module(x, y),
}
MODULES: dict[str, Callable[[int], Any]] = {
    "linear": lambda index: pax.nn.Linear(3, 3, rng_key=jax.random.key(index)),
    **dict.fromkeys(("drift", "module of a tuple", "module of arguments", "module of two"), lambda _: Drift()),
}


class Case(NamedTuple):
    """A random graph: how many inputs it has, its steps, and the values that it returns."""

    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


@st.composite
def cases(draw: Any) -> Case:
    """Draws a graph; each step takes any earlier values."""
    inputs = draw(st.integers(1, 3))
    steps = []
    for index in range(draw(st.integers(0, 7))):
        operands = st.integers(0, inputs + index - 1)
        steps.append(Step(draw(st.sampled_from(sorted(PLAIN))), (draw(operands), draw(operands))))
    outputs = draw(st.lists(st.integers(0, inputs + len(steps) - 1), min_size=1, max_size=3))
    return Case(inputs, tuple(steps), tuple(outputs))


class Plain(pax.Module):
    """The same steps without a graph."""

    modules: list[Any]

    def __init__(self, case: Case, modules: list[Any]) -> None:
        super().__init__()
        self.case = case
        self.modules = modules

    def __call__(self, *xs: Any) -> Any:
        values = list(xs)
        for step, module in zip(self.case.steps, self.modules, strict=True):
            values.append(PLAIN[step.kind](module, *(values[number] for number in step.operands)))
        return {f"out{index}": values[number] for index, number in enumerate(self.case.outputs)}


def build(case: Case) -> tuple[GraphModule, Plain]:
    """Returns a graph module and the plain one."""
    modules = [MODULES[step.kind](index) if step.kind in MODULES else None for index, step in enumerate(case.steps)]
    inputs: list[Any] = [InputNode(x) for x in arguments(case)]
    values = list(inputs)
    for step, module in zip(case.steps, modules, strict=True):
        first, second = (values[number] for number in step.operands)
        if step.kind in UNARY:
            values.append(UNARY[step.kind](module, first))
        else:
            values.append(BINARY[step.kind](module, first, second))
    output = {f"out{index}": values[number] for index, number in enumerate(case.outputs)}
    return GraphModule(inputs, output), Plain(case, copy.deepcopy(modules))


def arguments(case: Case, seed: int = 0) -> list[Any]:
    """Returns arguments for a call."""
    draws = [np.random.default_rng((seed, index)).normal(size=SHAPE) for index in range(case.inputs)]
    return [jnp.asarray(draw, jnp.float32) for draw in draws]


def structure(tree: Any) -> Any:
    """Returns what `jax.jit` compares."""
    return jax.tree.structure(tree)


def assert_close(got: Any, want: Any) -> None:
    """Checks values, and that both trees are alike."""
    assert structure(got) == structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


def drifts(module: Any) -> list[Any]:
    """Returns the states in a module."""
    return [node.drift for node in pax.extend.modules_in(module) if isinstance(node, Drift)]


@hypothesis.settings(max_examples=60)
@hypothesis.given(cases())
def test_a_graph_is_the_plain_function(case: Case) -> None:
    net, plain = build(case)
    xs = arguments(case, 1)
    new, got = pax.purecall(net, *xs)
    _, want = pax.purecall(plain, *xs)
    assert_close(got, want)
    assert len(net.modules) == len(net.steps)
    assert [drift.item(0) for drift in drifts(net)] == [1.0] * len(drifts(net))
    assert [drift.item(0) for drift in drifts(new)] == [0.5] * len(drifts(net))


@hypothesis.settings(max_examples=60)
@hypothesis.given(cases())
def test_two_builds_and_copies_are_alike(case: Case) -> None:
    net, other = build(case)[0], build(case)[0]
    assert structure(net) == structure(other)
    xs = arguments(case, 2)
    want = pax.purecall(net, *xs)
    for twin in (other, pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()):
        assert_close(pax.purecall(twin, *xs), want)


@hypothesis.settings(max_examples=30)
@hypothesis.given(cases())
def test_pictures_have_every_step_that_is_not_hidden(case: Case) -> None:
    net, _ = build(case)
    xs = arguments(case)
    shapes = net.to_text(*xs)
    assert shapes.count(" = modules[") == len(net.steps)
    dot = net.to_dot(*xs)
    arrows = dot.count(" -> ")
    assert net.to_mermaid().count("-->") == arrows
    hidden = shapes.count("# identity")
    assert dot.count("shape=") == len(net.steps) - hidden + case.inputs + len(case.outputs) + dot.count("dashed")


@hypothesis.settings(max_examples=12)
@hypothesis.given(cases())
def test_transformed_graphs_are_the_transformed_function(case: Case) -> None:
    net, plain = build(case)
    xs = arguments(case, 3)

    def loss(module: Any, *xs: Any) -> Any:
        _, output = pax.purecall(module, *xs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(output))

    def run(module: Any, *xs: Any) -> Any:
        return pax.purecall(module, *xs)[1]

    assert_close(jax.jit(run)(net, *xs), run(plain, *xs))
    every = tuple(range(1, len(xs) + 1))
    assert_close(jax.grad(loss, every)(net, *xs), jax.grad(loss, every)(plain, *xs))
    batch = [jnp.stack([x, x * 2, x - 1]) for x in xs]
    axes = (None, *(0 for _ in xs))
    assert_close(jax.vmap(run, axes)(net, *batch), jax.vmap(run, axes)(plain, *batch))


@hypothesis.settings(max_examples=12)
@hypothesis.given(cases())
def test_gradients_of_parameters(case: Case) -> None:
    net, plain = build(case)
    xs = arguments(case, 4)

    def loss(parameters: Any, module: Any) -> Any:
        _, output = pax.purecall(module.update_parameters(parameters), *xs)
        return sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(output))

    def total(module: Any) -> Any:
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(module.parameters(), module)))

    np.testing.assert_allclose(total(net), total(plain), rtol=1e-3, atol=1e-3)  # what the output does not need gets 0
