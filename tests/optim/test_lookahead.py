"""opax.lookahead."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Linear
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.full((3, 2), 0.5, jnp.float32)}
GRADS = {"a": jnp.array([0.5, -1.0]), "b": jnp.full((3, 2), 0.1)}


def run(optimizer: Any, steps: int, params: Any = PARAMS, jitted: bool = True) -> tuple[Any, Any]:
    def advance(params: Any, optimizer: Any) -> Any:
        grads = jax.tree.map(lambda p: p**2 + 0.1, params)
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    step = jax.jit(advance) if jitted else advance
    for _ in range(steps):
        params, optimizer = step(params, optimizer)
    return params, optimizer


@pytest.mark.parametrize("jitted", [True, False])
def test_two_loops_as_in_the_paper(jitted: bool) -> None:
    fast = slow = np.float64(1.0)
    optimizer = opax.lookahead(opax.sgd(0.1, momentum=0.0), sync_period=3, slow_step_size=0.25)(jnp.ones(()))
    params = jnp.ones(())
    for number in range(1, 10):
        fast -= 0.1 * (fast**2 + 0.1)
        if number % 3 == 0:
            fast = slow = slow + 0.25 * (fast - slow)
        params, optimizer = run(optimizer, 1, params, jitted)
        np.testing.assert_allclose([params, optimizer.slow], [fast, slow], rtol=1e-6)
        assert int(optimizer.step) == number % 3


def test_after_the_sync_fast_and_slow_parameters_are_the_same() -> None:
    params, optimizer = run(opax.lookahead(opax.adam(0.01), 4)(PARAMS), 8)
    jax.tree.map(np.testing.assert_array_equal, params, optimizer.slow)
    params, optimizer = run(optimizer, 1, params)
    assert not np.array_equal(params["a"], optimizer.slow["a"])


@pytest.mark.parametrize(("period", "size"), [(1, 1.0), (5, 1.0)])
def test_with_the_whole_step_nothing_is_different(period: int, size: float) -> None:
    got, _ = run(opax.lookahead(opax.adam(0.01), period, size)(PARAMS), 10)
    want, _ = run(opax.adam(0.01)(PARAMS), 10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


def test_with_no_step_the_parameters_come_back() -> None:
    got, _ = run(opax.lookahead(opax.sgd(0.01), 5, 0.0)(PARAMS), 10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, PARAMS)


def test_the_state_of_the_inner_transformation_goes_on() -> None:
    _, optimizer = run(opax.lookahead(opax.adam(0.01), 2)(PARAMS), 5)
    assert int(optimizer.inner[0].count) == 5


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_all_modes_give_the_same_numbers(options: dict[str, Any]) -> None:
    factory = opax.chain(opax.lookahead(opax.adam(0.01), 2))
    got, flat = run(factory(PARAMS, **options), 3)
    want, _ = run(factory(PARAMS), 3)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert isinstance(flat[0].slow, list)


@pytest.mark.parametrize(
    ("dtype", "option", "state"),
    [
        (jnp.bfloat16, None, jnp.float32),
        (jnp.bfloat16, jnp.bfloat16, jnp.bfloat16),
        (jnp.float16, "float32", jnp.float32),
        (jnp.float32, None, jnp.float32),
        (jnp.complex64, None, jnp.complex64),
    ],
)
def test_dtypes(dtype: Any, option: Any, state: Any) -> None:
    with jax.numpy_dtype_promotion("strict"):
        params = {"w": jnp.ones(3, dtype)}
        got, optimizer = run(opax.lookahead(opax.sgd(0.01), 2, state_dtype=option)(params), 3, params)
    assert (got["w"].dtype, optimizer.slow["w"].dtype) == (dtype, state)
    assert optimizer.evaluation_params(got)["w"].dtype == dtype
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(optimizer))


def test_slow_parameters_have_buffers_of_their_own() -> None:
    def advance(params: Any, optimizer: Any) -> Any:
        updates, optimizer = opax.transform_gradients(GRADS, optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    step = TraceCounter(advance, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, PARAMS)
    # Nested, the slow parameters of both would be the same.
    optimizer = opax.lookahead(opax.lookahead(opax.adam(0.1), 2), 3)(params)
    structure = treedef(optimizer)
    for _ in range(4):
        params, optimizer = step(params, optimizer)
    assert step.traces == 1
    assert treedef(optimizer) == structure


def test_no_leaves_and_empty_places() -> None:
    params = {"x": pax.EmptyNode(), "y": None, "z": jnp.ones(())}
    for tree in ({}, params):
        got, new = run(opax.lookahead(opax.adam(0.1), 2)(tree), 3, tree)
        pax.assert_structure_equal(got, tree)
        pax.assert_structure_equal(new.slow, tree)


def test_names_and_equality() -> None:
    factory = opax.lookahead(opax.adam(0.1))
    optimizer = factory(Linear().parameters())
    assert repr(optimizer) == "lookahead.<locals>.Lookahead"
    assert list(optimizer.state_dict()) == ["inner", "slow", "step"]
    assert isinstance(optimizer.slow, Linear)
    period: Any = np.int64(6)
    assert factory == opax.lookahead(opax.adam(0.1), period, 0.5) == pickle.loads(pickle.dumps(factory))
    assert opax.lookahead(opax.sgd(), state_dtype="float32") == opax.lookahead(opax.sgd(), state_dtype=jnp.float32)
    assert jax.tree.leaves(optimizer.parameters()) == []


def test_the_parameters_are_needed() -> None:
    optimizer = opax.chain(opax.identity(), opax.lookahead(opax.sgd()))(PARAMS)
    with pytest.raises(ArgumentError) as caught:
        opax.transform_gradients(GRADS, optimizer, None)
    assert str(caught.value).startswith("expecting params argument\n  where: transforms[1] (Lookahead)\n")
    assert "fix:   updates, optimizer = opax.transform_gradients(grads, optimizer, params)" in str(caught.value)


def test_the_parameters_have_to_fit() -> None:
    optimizer = opax.lookahead(opax.scale(1.0))(PARAMS)
    with pytest.raises(StructureError, match="The parameters and the optimizer's state have different structures"):
        opax.transform_gradients({"a": GRADS["a"]}, optimizer, {"a": PARAMS["a"]})
    with pytest.raises(StructureError, match="where: Lookahead"):
        optimizer.evaluation_params({"a": PARAMS["a"]})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"sync_period": 0}, ArgumentError, "got:   sync_period=0"),
        ({"sync_period": 2.0}, ArgumentTypeError, "Expecting an integer for `sync_period`"),
        ({"slow_step_size": -0.1}, ArgumentError, "got:   slow_step_size=-0.1"),
        ({"slow_step_size": 1.5}, ArgumentError, "want:  0 <= slow_step_size <= 1"),
        ({"slow_step_size": "1"}, ArgumentTypeError, "Expecting a number for `slow_step_size`"),
        ({"state_dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating-point dtype for `state_dtype`"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.lookahead(opax.sgd(), **arguments)
    assert text in str(caught.value)
    assert "where: lookahead" in str(caught.value)
