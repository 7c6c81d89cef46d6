"""opax.multi_steps."""

import functools
import pickle
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Linear
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"a": jnp.ones(2), "b": jnp.ones((3, 2))}


class Recorder(opax.GradientTransformation):
    """Keeps the updates of its last call."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.last = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        self.last = updates
        return updates


class Weak(opax.GradientTransformation):
    """Its state starts weakly typed, and becomes wider in a call."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.count = jnp.asarray(0)
        self.half = jnp.zeros((), jnp.bfloat16)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        self.count = self.count + 1
        self.half = jnp.asarray(self.half, jnp.float32) + 1.0
        return updates


class Growing(opax.GradientTransformation):
    """Its state gets another structure in the first call."""

    def __call__(self, updates: Any, params: Any = None) -> Any:
        self.last = updates
        return updates


def gradients(count: int, like: Any = PARAMS, seed: int = 0) -> list[Any]:
    keys = jax.random.split(jax.random.key(seed), count)
    return [jax.tree.map(lambda p, key=key: jax.random.normal(key, p.shape, p.dtype), like) for key in keys]


def run(optimizer: Any, grads: list[Any], params: Any, jitted: bool = True) -> tuple[Any, Any, list[Any]]:
    step = jax.jit(opax.transform_gradients) if jitted else opax.transform_gradients
    found = []
    for grad in grads:
        updates, optimizer = step(grad, optimizer, params)
        params = opax.apply_updates(params, updates)
        found.append(updates)
    return params, optimizer, found


def assert_same(a: Any, b: Any) -> None:
    pax.assert_structure_equal(a, b)
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), a, b)


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 7])
def test_the_mean_is_exact(every: int, jitted: bool) -> None:
    grads = gradients(every)
    _, optimizer, updates = run(opax.multi_steps(Recorder, every)(PARAMS), grads, PARAMS, jitted)
    want = jax.tree.map(lambda *g: functools.reduce(np.add, map(np.asarray, g)) / np.float32(every), *grads)
    # XLA multiplies by the reciprocal, which is exact for powers of two.
    alike = functools.partial(np.testing.assert_array_max_ulp, maxulp=0 if every in (1, 2, 4) else 1)
    jax.tree.map(alike, optimizer.inner.last, want)
    assert_same(updates[-1], optimizer.inner.last)


@pytest.mark.parametrize("factory", [opax.sgd(0.1), opax.adam(0.1), opax.adamw(0.1, weight_decay=0.1)])
@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}])
def test_a_full_step_is_one_step_on_the_mean(factory: Any, options: dict[str, Any]) -> None:
    grads = gradients(6)
    params, optimizer, _ = run(opax.chain(opax.multi_steps(factory, 3))(PARAMS, **options), grads, PARAMS)
    means = [jax.tree.map(lambda a, b, c: (a + b + c) / 3, *grads[i : i + 3]) for i in (0, 3)]
    want, alone, _ = run(opax.chain(factory)(PARAMS, **options), means, PARAMS)
    # Two programs: the compiler may contract one multiplication and addition more in one than in the other.
    jax.tree.map(functools.partial(np.testing.assert_array_max_ulp, maxulp=1), params, want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7, atol=1e-9), optimizer[0].inner, alone.transforms[0]
    )


def test_in_between_nothing_moves_but_the_sum() -> None:
    start = opax.multi_steps(opax.adamw(0.1), 3)(PARAMS)
    params, optimizer, updates = run(start, gradients(2), PARAMS)
    assert_same(params, PARAMS)
    assert_same(optimizer.inner, start.inner)
    assert_same(updates, [jax.tree.map(jnp.zeros_like, PARAMS)] * 2)
    assert (int(optimizer.mini_step), int(optimizer.step)) == (2, 0)


def test_counts() -> None:
    optimizer = opax.multi_steps(opax.adam(0.1), 2)(PARAMS)
    assert not optimizer.has_updated
    found = []
    for grad in gradients(5):
        _, optimizer = opax.transform_gradients(grad, optimizer, PARAMS)
        found.append((int(optimizer.mini_step), int(optimizer.step), bool(optimizer.has_updated)))
    assert found == [(1, 0, False), (0, 1, True), (1, 1, False), (0, 2, True), (1, 2, False)]
    assert int(optimizer.inner[0].count) == 2
    assert [str(count.dtype) for count in (optimizer.mini_step, optimizer.step)] == ["int32", "int32"]


@pytest.mark.parametrize(
    "every",
    [
        lambda step: step + 1,
        lambda step: jnp.asarray(step + 1, jnp.float32) + 0.7,
        optax.piecewise_constant_schedule(1.0, {1: 2.0, 2: 1.5}),
    ],
    ids=["integers", "floats are rounded down", "a schedule of optax"],
)
@pytest.mark.parametrize("jitted", [True, False])
def test_every_can_be_a_function_of_the_number_of_full_steps(every: Any, jitted: bool) -> None:
    grads = [jnp.full((), value) for value in (8.0, 1.0, 2.0, 3.0, 4.0, 5.0)]
    _, optimizer, updates = run(opax.multi_steps(opax.scale(1.0), every)(jnp.zeros(())), grads, jnp.zeros(()), jitted)
    assert [float(update) for update in updates] == [8.0, 0.0, 1.5, 0.0, 0.0, 4.0]
    assert int(optimizer.step) == 3


@pytest.mark.parametrize("jitted", [True, False])
def test_a_schedule_may_be_constant(jitted: bool) -> None:
    _, optimizer, _ = run(opax.multi_steps(opax.sgd(), lambda step: 2)(PARAMS), gradients(4), PARAMS, jitted)
    assert int(optimizer.step) == 2


def test_an_error_at_creation_names_the_whole_path() -> None:
    inner = opax.chain(opax.clip(1.0), opax.multi_steps(opax.sgd(), lambda step: 0))
    with pytest.raises(ArgumentError, match=r"where: transforms\[0\].inner.transforms\[1\] \(MultiSteps\), `every`"):
        opax.chain(opax.multi_steps(inner, 2))(PARAMS)


def test_halves_are_added_up_in_float32() -> None:
    params = jnp.zeros(1, jnp.bfloat16)
    optimizer = opax.multi_steps(Recorder, 257)(params)
    grads = [jnp.ones(1, jnp.bfloat16)] * 257
    _, optimizer, updates = run(optimizer, grads, params)  # in bfloat16, 256 + 1 is 256
    assert optimizer.accumulated.dtype == jnp.float32
    assert float(optimizer.inner.last[0]) == 1.0
    assert updates[-1].dtype == jnp.bfloat16


@hypothesis.given(
    every=st.integers(1, 4),
    shapes=st.lists(st.sampled_from([(), (2,), (2, 3), (0,)]), max_size=3),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]),
)
@hypothesis.settings(max_examples=15)
def test_any_tree(every: int, shapes: list[Any], dtype: Any) -> None:
    params = [{"x": jnp.ones(shape, dtype), "y": None, "z": pax.EmptyNode()} for shape in shapes]
    optimizer = opax.multi_steps(opax.adam(0.1), every)(params)
    got, new, updates = run(optimizer, gradients(every, params), params, jitted=False)
    pax.assert_structure_equal((got, new), (params, optimizer))
    assert [leaf.dtype for leaf in jax.tree.leaves(updates)] == [dtype] * len(shapes) * every
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(new))
    assert bool(new.has_updated)


def test_one_trace_with_donation() -> None:
    def advance(params: Any, optimizer: Any, grads: Any) -> Any:
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    step = TraceCounter(advance, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, PARAMS)
    optimizer = opax.multi_steps(opax.adam(0.1), 2)(params)
    structure = treedef(optimizer)
    for grads in gradients(5):
        params, optimizer = step(params, optimizer, grads)
    assert step.traces == 1
    assert treedef(optimizer) == structure
    want, *_ = run(opax.multi_steps(opax.adam(0.1), 2)(PARAMS), gradients(5), PARAMS)
    jax.tree.map(functools.partial(np.testing.assert_array_max_ulp, maxulp=1), params, want)


def test_scan_and_vmap_give_what_calls_give() -> None:
    factory = opax.multi_steps(opax.adam(0.1), 2)
    grads = gradients(5)
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)
    want, *_ = run(factory(PARAMS), grads, PARAMS)

    def advance(carry: Any, grads: Any) -> Any:
        params, optimizer = carry
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return (opax.apply_updates(params, updates), optimizer), None

    def train(grads: Any) -> Any:
        (params, _), _ = jax.lax.scan(advance, (PARAMS, factory(PARAMS)), grads)
        return params

    both = jax.vmap(train)(jax.tree.map(lambda g: jnp.stack([g, 2 * g]), stacked))
    for found in (train(stacked), jax.tree.map(lambda p: p[0], both)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7), found, want)


def test_strict_promotion() -> None:
    with jax.numpy_dtype_promotion("strict"):
        params = {"w": jnp.ones(2, jnp.bfloat16), "z": jnp.ones(1, jnp.complex64)}
        for every in (2, lambda step: 1 + step):
            run(opax.multi_steps(opax.sgd(0.1), every)(params), [params] * 3, params)


def test_equal_factories_are_one_for_jit_and_can_be_pickled() -> None:
    def build(pieces: int) -> Any:
        return opax.multi_steps(opax.adam(0.1), optax.piecewise_constant_schedule(1, {2: pieces}))

    two: Any = np.int64(2)
    assert opax.multi_steps(opax.adam(0.1), 2) == opax.multi_steps(opax.adam(0.1), two)
    assert build(2) == build(2) != build(3)
    assert treedef(build(2)(PARAMS)) == treedef(build(2)(PARAMS))
    factory = opax.multi_steps(opax.adam(0.1), 2)
    assert pickle.loads(pickle.dumps(factory)) == factory
    assert {factory: 1}[opax.multi_steps(opax.adam(0.1), 2)] == 1


def test_names() -> None:
    optimizer = opax.multi_steps(opax.adam(0.1), 2)(Linear().parameters())
    assert repr(optimizer) == "multi_steps.<locals>.MultiSteps"
    assert list(optimizer.state_dict()) == ["inner", "accumulated", "mini_step", "step"]
    assert isinstance(optimizer.accumulated, Linear)
    assert jax.tree.leaves(optimizer.parameters()) == []


def test_the_state_of_the_inner_transformation_keeps_its_types() -> None:
    step = TraceCounter(lambda optimizer: opax.transform_gradients(PARAMS, optimizer, PARAMS)[1])
    optimizer = step(opax.multi_steps(Weak, 2)(PARAMS))
    for _ in range(3):
        optimizer = step(optimizer)
    assert (int(optimizer.inner.count), float(optimizer.inner.half)) == (2, 2.0)
    assert (optimizer.inner.half.dtype, optimizer.inner.count.weak_type) == (jnp.bfloat16, False)
    assert step.traces <= 2  # the first one for the weak type that the user made


@pytest.mark.parametrize("jitted", [True, False])
def test_a_state_that_changes_its_structure_is_an_error(jitted: bool) -> None:
    with pytest.raises(StructureError) as caught:
        run(opax.chain(opax.identity(), opax.multi_steps(Growing, 1))(PARAMS), gradients(1), PARAMS, jitted)
    text = str(caught.value)
    assert text.startswith(
        "A transformation changed the structure of its state.\n  where: transforms[1] (MultiSteps), "
    )
    assert "fix:   give all attributes their final structure in `__init__`" in text


@pytest.mark.parametrize("jitted", [True, False])
def test_an_error_inside_names_the_whole_path(jitted: bool) -> None:
    inner = opax.chain(opax.identity(), opax.add_decayed_weights(0.1))
    optimizer = opax.chain(opax.identity(), opax.multi_steps(inner, 1))(PARAMS)
    step = jax.jit(opax.transform_gradients) if jitted else opax.transform_gradients
    with pytest.raises(ArgumentError) as caught:
        step(PARAMS, optimizer, None)
    want = "expecting params argument\n  where: transforms[1] (MultiSteps), `inner`: transforms[1] (AddDecayedWeights)"
    assert str(caught.value).startswith(want)


def test_gradients_have_to_fit() -> None:
    optimizer = opax.multi_steps(opax.sgd(), 2)(PARAMS)
    with pytest.raises(StructureError, match=r"have different structures.\n  where: MultiSteps"):
        opax.transform_gradients({"a": PARAMS["a"]}, optimizer, PARAMS)


@pytest.mark.parametrize("every", [0, -1])
def test_every_is_at_least_one(every: int) -> None:
    with pytest.raises(ArgumentError, match=rf"out of range.\n  where: multi_steps\n  got:   every={every}"):
        opax.multi_steps(opax.sgd(), every)


@pytest.mark.parametrize("every", [2.0, True, None, "2"])
def test_every_is_an_integer(every: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting an integer for `every`.\n  where: multi_steps"):
        opax.multi_steps(opax.sgd(), every)


@pytest.mark.parametrize("every", [opax.sgd(), opax.sgd()(PARAMS), Recorder])
def test_every_is_no_transformation(every: Any) -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"Expecting a number of mini-batches[^$]*fix:   opax.multi_steps\(opax"
    ):
        opax.multi_steps(2, every)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("every", "got"),
    [
        (lambda step: 0, "0"),
        (lambda step: jnp.nan, "nan"),
        (lambda step: step > 0, "bool[]"),
        (lambda step: jnp.ones(2, jnp.int32), "int32[2]"),
        (lambda step: None, "None"),
        (lambda step: "2", "'2'"),
        (lambda step: 1j, "1j"),
    ],
)
def test_a_schedule_returns_a_number_of_mini_batches(every: Any, got: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        opax.multi_steps(opax.sgd(), every)(PARAMS)
    text = str(caught.value)
    assert text.startswith(
        "The schedule does not return a number of mini-batches.\n  where: MultiSteps, `every`\n  got: "
    )
    assert got in text.splitlines()[2]


@pytest.mark.parametrize("inner", [3, opax.sgd()(PARAMS), lambda params: params])
def test_only_transformations_are_wrapped(inner: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="where: multi_steps"):
        opax.multi_steps(inner, 2)(PARAMS)


@pytest.mark.parametrize(
    "wrap",
    [lambda inner: opax.multi_steps(inner, 2), lambda inner: opax.apply_if_finite(inner, 2), opax.lookahead],
    ids=["multi_steps", "apply_if_finite", "lookahead"],
)
def test_the_learning_rate_of_a_wrapper_is_that_inside(wrap: Any) -> None:
    schedule = opax.schedule.exponential_decay(0.4, 1)
    optimizer = wrap(opax.adam(schedule))(PARAMS)
    assert float(optimizer.learning_rate) == pytest.approx(0.4)
    _, optimizer, _ = run(optimizer, gradients(2), PARAMS)
    steps = int(optimizer.inner[-1].count)
    assert float(optimizer.learning_rate) == pytest.approx(0.4 * 0.5**steps)
    assert opax.chain(opax.clip(1.0), wrap(opax.sgd(0.1)))(PARAMS).learning_rate == 0.1
    assert wrap(opax.sgd(0.1))(PARAMS).replace(learning_rate=0.2).inner.learning_rate == 0.2
    assert opax.chain(opax.scale(0.1), wrap(opax.clip(1.0)))(PARAMS).learning_rate == 0.1
    with pytest.raises(AttributeError, match="has no attribute 'learning_rate'"):
        _ = wrap(opax.clip(1.0))(PARAMS).learning_rate
