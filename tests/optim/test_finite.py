"""opax.apply_if_finite."""

import functools
import pickle
from typing import Any

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
from optim.trajectories import CASES
from optim.trajectory import Trajectory, gradients, start
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"a": jnp.ones(2), "b": jnp.ones((3, 2))}
GOOD = {"a": jnp.array([0.5, -1.0]), "b": jnp.full((3, 2), 0.1)}
LIMIT = 2


def spoiled(grads: Any, value: float = np.nan) -> Any:
    """Returns gradients of which a single element is not finite."""
    leaves, structure = jax.tree.flatten(grads)
    leaves[-1] = leaves[-1].ravel().at[-1].set(value).reshape(leaves[-1].shape)
    return jax.tree.unflatten(structure, leaves)


def assert_same(a: Any, b: Any) -> None:
    pax.assert_structure_equal(a, b)
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), a, b)


def counts(optimizer: Any) -> tuple[int, bool, int]:
    return int(optimizer.notfinite_count), bool(optimizer.last_finite), int(optimizer.total_notfinite)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_gradients_that_are_not_finite_leave_everything_as_it_was(case: Trajectory) -> None:
    params = start()
    step = jax.jit(opax.transform_gradients)
    optimizer = opax.apply_if_finite(case.ours(), LIMIT)(params)
    for number in range(2):
        updates, optimizer = step(gradients(params, jnp.asarray(number)), optimizer, params)
        params = opax.apply_updates(params, updates)
    updates, new = step(spoiled(gradients(params, jnp.asarray(2))), optimizer, params)
    assert_same(new.inner, optimizer.inner)
    assert_same(updates, jax.tree.map(jnp.zeros_like, params))
    assert_same(opax.apply_updates(params, updates), params)
    assert counts(new) == (1, False, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}])
def test_any_value_in_any_mode(value: float, jitted: bool, options: dict[str, Any]) -> None:
    step = jax.jit(opax.transform_gradients) if jitted else opax.transform_gradients
    optimizer = opax.chain(opax.apply_if_finite(opax.adamw(0.1), LIMIT))(PARAMS, **options)
    updates, new = step(spoiled(GOOD, value), optimizer, PARAMS)
    assert_same(new[0].inner, optimizer[0].inner)
    assert_same(updates, jax.tree.map(jnp.zeros_like, PARAMS))


@pytest.mark.parametrize("jitted", [True, False])
def test_it_does_what_optax_does_also_past_the_limit(jitted: bool) -> None:
    ours = opax.apply_if_finite(opax.adam(0.1), LIMIT)(PARAMS)
    theirs = optax.apply_if_finite(optax.adam(0.1), LIMIT)
    state: Any = theirs.init(PARAMS)
    step = jax.jit(opax.transform_gradients) if jitted else opax.transform_gradients
    for is_good in [True, False, False, True, False, False, False, False, True, False]:
        grads = GOOD if is_good else spoiled(GOOD)
        updates, ours = step(grads, ours, PARAMS)
        want, state = theirs.update(grads, state, PARAMS)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, rtol=1e-6), updates, want)
        assert counts(ours) == (state.notfinite_count, state.last_finite, state.total_notfinite)
    assert counts(ours) == (1, False, 7)
    assert bool(jnp.isnan(updates["b"]).any()) is False
    assert bool(jnp.isnan(ours.inner[0].mu["b"]).any()) is True  # two were let through


def test_without_patience_all_is_let_through() -> None:
    updates, _ = opax.transform_gradients(spoiled(GOOD), opax.apply_if_finite(opax.sgd(), 0)(PARAMS), PARAMS)
    assert bool(jnp.isnan(updates["b"]).any())


def test_around_an_accumulation_a_mini_batch_is_left_out() -> None:
    step = jax.jit(opax.transform_gradients)
    optimizer = opax.apply_if_finite(opax.multi_steps(opax.scale(1.0), 2), LIMIT)(PARAMS)
    for grads in (GOOD, spoiled(GOOD), GOOD):
        updates, optimizer = step(grads, optimizer, PARAMS)
    assert_same(updates, GOOD)


def test_inside_of_an_accumulation_a_full_step_is_left_out() -> None:
    step = jax.jit(opax.transform_gradients)
    optimizer = opax.multi_steps(opax.apply_if_finite(opax.scale(1.0), LIMIT), 2)(PARAMS)
    for grads in (GOOD, spoiled(GOOD)):
        updates, optimizer = step(grads, optimizer, PARAMS)
    assert_same(updates, jax.tree.map(jnp.zeros_like, GOOD))
    assert (counts(optimizer.inner), bool(optimizer.has_updated)) == ((1, False, 1), True)


def test_a_tree_without_leaves_is_finite() -> None:
    updates, optimizer = opax.transform_gradients({}, opax.apply_if_finite(opax.adam(), LIMIT)({}), {})
    assert (updates, counts(optimizer)) == ({}, (0, True, 0))


@pytest.mark.parametrize("jitted", [True, False])
def test_gradients_of_single_examples(jitted: bool) -> None:
    step = jax.jit(opax.transform_gradients) if jitted else opax.transform_gradients
    private = opax.chain(opax.differentially_private_aggregate(1.0, 0.1, 0), opax.adam(0.1))
    optimizer = opax.apply_if_finite(private, LIMIT)(PARAMS)
    examples = jax.tree.map(lambda g: jnp.stack([g, -g, g]), GOOD)
    updates, optimizer = step(examples, optimizer, PARAMS)
    new, after = step(spoiled(examples), optimizer, PARAMS)
    assert_same(after.inner, optimizer.inner)
    assert_same(new, jax.tree.map(jnp.zeros_like, updates))
    pax.assert_structure_equal(new, PARAMS)


def test_updates_of_other_shapes_are_an_error_where_the_parameters_are_not_known() -> None:
    private = opax.differentially_private_aggregate(1.0, 0.1, 0)
    optimizer = opax.apply_if_finite(private, LIMIT)(PARAMS)
    with pytest.raises(StructureError, match=r"returned updates of other shapes.\n  where: ApplyIfFinite, `inner`"):
        jax.jit(opax.transform_gradients)(jax.tree.map(lambda g: jnp.stack([g, g]), GOOD), optimizer, None)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_halves(dtype: Any) -> None:
    params = jnp.ones(2, dtype)
    optimizer = opax.apply_if_finite(opax.adam(0.1), LIMIT)(params)
    for grads in (params, jnp.array([1.0, jnp.inf], dtype)):
        updates, optimizer = jax.jit(opax.transform_gradients)(grads, optimizer, params)
        assert updates.dtype == dtype
    assert (optimizer.inner[0].mu.dtype, int(optimizer.inner[0].count)) == (jnp.float32, 1)


def test_one_trace_with_donation_and_strict_promotion() -> None:
    step = TraceCounter(lambda optimizer, grads: opax.transform_gradients(grads, optimizer, PARAMS), donate_argnums=0)
    optimizer = opax.apply_if_finite(opax.adam(0.1), LIMIT)(PARAMS)
    structure = treedef(optimizer)
    with jax.numpy_dtype_promotion("strict"):
        for grads in (GOOD, spoiled(GOOD), GOOD):
            _, optimizer = step(optimizer, grads)
    assert (step.traces, counts(optimizer)) == (1, (0, True, 1))
    assert treedef(optimizer) == structure


def test_vmap_decides_for_each_model() -> None:
    batch = jax.tree.map(lambda a, b: jnp.stack([a, b]), GOOD, spoiled(GOOD))
    optimizer = opax.apply_if_finite(opax.adam(0.1), LIMIT)(PARAMS)
    updates, new = jax.vmap(lambda grads: opax.transform_gradients(grads, optimizer, PARAMS))(batch)
    np.testing.assert_array_equal(new.inner[0].count, [1, 0])
    np.testing.assert_array_equal(updates["a"][1], [0.0, 0.0])
    np.testing.assert_allclose(updates["a"][0], [0.1, -0.1], rtol=1e-5)


def test_names_and_equality() -> None:
    factory = opax.apply_if_finite(opax.adam(0.1), 3)
    optimizer = factory(Linear().parameters())
    assert repr(optimizer) == "apply_if_finite.<locals>.ApplyIfFinite"
    assert list(optimizer.state_dict()) == ["inner", "notfinite_count", "last_finite", "total_notfinite"]
    limit: Any = np.int32(3)
    assert factory == opax.apply_if_finite(opax.adam(0.1), limit) == pickle.loads(pickle.dumps(factory))


def test_an_error_inside_names_the_whole_path() -> None:
    optimizer = opax.chain(opax.apply_if_finite(opax.adamw(), LIMIT))(PARAMS)
    with pytest.raises(ArgumentError) as caught:
        jax.jit(opax.transform_gradients)(GOOD, optimizer, None)
    want = (
        "expecting params argument\n  where: transforms[0] (ApplyIfFinite), `inner`: transforms[1] (AddDecayedWeights)"
    )
    assert str(caught.value).startswith(want)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"`max_consecutive_errors` is out of range.\n  where: apply_if_finite"):
        opax.apply_if_finite(opax.sgd(), -1)
    with pytest.raises(ArgumentTypeError, match=r"Expecting an integer for `max_consecutive_errors`"):
        opax.apply_if_finite(opax.sgd(), 1.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="where: apply_if_finite"):
        opax.apply_if_finite(opax.sgd()(PARAMS), 1)(PARAMS)
