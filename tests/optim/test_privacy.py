"""opax.differentially_private_aggregate."""

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
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(())}


def per_example(batch: int = 4, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(random.normal(size=(batch, *p.shape)), jnp.float32), PARAMS)


def test_reference_values() -> None:
    grads = {"a": jnp.array([[3.0], [0.1]]), "b": jnp.array([[4.0], [0.1]])}
    optimizer = opax.differentially_private_aggregate(1.0, 0.0, 0)({"a": jnp.zeros(1), "b": jnp.zeros(1)})
    _, updates = pax.purecall(optimizer, grads)
    np.testing.assert_allclose([updates["a"], updates["b"]], [[0.35], [0.45]], rtol=1e-6)


def test_name_state_and_noise_std() -> None:
    optimizer = opax.differentially_private_aggregate(0.5, 3.0, 7)(PARAMS)
    assert repr(optimizer) == "differentially_private_aggregate.<locals>.DifferentiallyPrivateAggreate"
    assert optimizer.pytree_attributes == ("rng_key",)
    np.testing.assert_array_equal(optimizer.rng_key, jax.random.PRNGKey(7), strict=True)
    assert optimizer.noise_std == 1.5


def test_the_key_is_split_into_the_next_and_one_for_each_leaf() -> None:
    grads = per_example()
    optimizer = opax.differentially_private_aggregate(1.0, 2.0, 7)(PARAMS)
    quiet = opax.differentially_private_aggregate(1.0, 0.0, 7)(PARAMS)
    optimizer, updates = pax.purecall(optimizer, grads)
    _, means = pax.purecall(quiet, grads)
    following, *keys = jax.random.split(jax.random.PRNGKey(7), 3)
    np.testing.assert_array_equal(optimizer.rng_key, following)
    for key, name in zip(keys, ("b", "w"), strict=True):
        noise = 2.0 * jax.random.normal(key, PARAMS[name].shape)
        np.testing.assert_allclose(updates[name], means[name] + noise / 4, rtol=1e-5, atol=1e-6)


def test_a_typed_key_does_as_well() -> None:
    legacy = opax.differentially_private_aggregate(1.0, 2.0, 7)(PARAMS)
    typed = legacy.replace(rng_key=jax.random.key(7))
    for _ in range(2):
        (typed, got), (legacy, want) = (pax.purecall(optimizer, per_example()) for optimizer in (typed, legacy))
        jax.tree.map(np.testing.assert_array_equal, got, want)


def test_50_steps_are_those_of_optax() -> None:
    ours = opax.chain(opax.differentially_private_aggregate(0.7, 0.3, 5), opax.sgd(0.1, 0.9))(PARAMS)
    theirs = optax.chain(optax.contrib.differentially_private_aggregate(0.7, 0.3, 5), optax.sgd(0.1, 0.9))
    params, state, want = PARAMS, theirs.init(PARAMS), PARAMS
    step = jax.jit(opax.transform_gradients)
    update = jax.jit(theirs.update)
    for index in range(50):
        grads = per_example(seed=index)
        updates, ours = step(grads, ours, params)
        params = opax.apply_updates(params, updates)
        updates, state = update(grads, state, want)
        want = optax.apply_updates(want, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), params, want)
    assert float(jnp.abs(params["w"]).max()) > 0.1


@hypothesis.given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.01, 10))
@hypothesis.settings(max_examples=20)
def test_one_example_moves_the_sum_by_no_more_than_the_limit(seed: int, exponent: float, limit: float) -> None:
    optimizer = opax.differentially_private_aggregate(limit, 0.0, 0)(PARAMS)
    grads = jax.tree.map(lambda g: g * 10**exponent, per_example(3, seed))
    without = jax.tree.map(lambda g: g.at[1].set(0.0), grads)
    (_, one), (_, other) = (pax.purecall(optimizer, g) for g in (grads, without))
    change = [3 * np.ravel(a - b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]
    assert np.linalg.norm(np.concatenate(change)) <= limit * (1 + 1e-4)


@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}])
def test_a_train_step_with_a_module(options: Any) -> None:
    model = Linear(2, 3)
    factory = opax.chain(opax.differentially_private_aggregate(1.0, 0.1, 0), opax.adam(0.01))
    optimizer = factory(model.parameters(), **options)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)

    def loss_fn(model: Any, x: jax.Array) -> jax.Array:
        return jnp.sum((model(x[None]) - 1) ** 2)

    def train(model: Any, optimizer: Any) -> Any:
        grads = jax.vmap(pax.grad(loss_fn), in_axes=(None, 0))(model, x)
        return opax.apply_gradients(model, optimizer, grads)

    step = TraceCounter(train)
    before = loss_fn(model, x[0])
    for _ in range(20):
        model, optimizer = step(model, optimizer)
    assert step.traces == 1
    assert loss_fn(model, x[0]) < before
    assert model.weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("limit", "grads", "want"),
    [
        (1.0, [[300.0, 400.0]], [0.6, 0.8]),  # 300 squared is no float16
        (1e6, [[1000.0, 0.0]] * 100, [1000.0, 0.0]),  # nor is 100 times 1000
    ],
)
def test_norms_and_sums_of_half_precision_are_made_in_float32(limit: float, grads: Any, want: Any) -> None:
    optimizer = opax.differentially_private_aggregate(limit, 0.0, 0)(jnp.zeros(2, jnp.float16))
    _, updates = pax.purecall(optimizer, jnp.array(grads, jnp.float16))
    assert updates.dtype == jnp.float16
    np.testing.assert_allclose(updates, want, rtol=1e-3)


@pytest.mark.parametrize("params", [{}, [], [None], pax.freeze_parameters(Linear(2, 2)).parameters()])
def test_without_leaves_nothing_happens(params: Any) -> None:
    optimizer = opax.differentially_private_aggregate(1.0, 1.0, 0)(params)
    _, updates = pax.purecall(optimizer, params, params)
    pax.assert_structure_equal(updates, params)


@pytest.mark.parametrize(
    ("grads", "params", "details"),
    [
        (
            {"b": jnp.array(1.0), "w": jnp.ones((4, 2))},
            None,
            "['b']\n  got:   float32[]\n  want:  an array of shape [batch, ...]",
        ),
        ({"b": jnp.ones(4), "w": jnp.ones((5, 2))}, None, "['w']\n  got:   float32[5,2]\n  want:  a batch of 4"),
        (
            {"b": jnp.ones(0), "w": jnp.ones((0, 2))},
            None,
            "['b']\n  got:   float32[0]\n  want:  a batch of at least one",
        ),
        (
            {"b": jnp.ones(2), "w": jnp.ones((2, 3))},  # the mean over the batch, whose first axes happen to fit
            {"b": jnp.ones(2), "w": jnp.ones((2, 3))},
            "['b']\n  got:   float32[2]\n  want:  an array of shape [batch, 2]",
        ),
    ],
    ids=["scalar first", "unequal", "empty", "no per-example gradients"],
)
def test_the_batch_axis_is_checked(grads: Any, params: Any, details: str) -> None:
    """KD-96: a scalar in the first place was an IndexError."""
    optimizer = opax.differentially_private_aggregate(1.0, 1.0, 0)(grads)
    with pytest.raises(ValueError, match="Expecting per-example gradients") as caught:
        pax.purecall(optimizer, grads, params)
    assert isinstance(caught.value, ArgumentError)
    assert details in str(caught.value)
    assert "fix:   grads = jax.vmap(pax.grad(loss_fn), in_axes=(None, 0, 0))(model, x, y)" in str(caught.value)


def test_another_structure_is_refused() -> None:
    optimizer = opax.differentially_private_aggregate(1.0, 1.0, 0)(PARAMS)
    with pytest.raises(StructureError, match="The updates and parameters have different structures"):
        pax.purecall(optimizer, [jnp.ones(2)], PARAMS)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1.0, 1.0, 0), ArgumentError, "`l2_norm_clip` is out of range."),
        ((float("inf"), 0.0, 0), ArgumentError, "`l2_norm_clip` is out of range."),
        ((1.0, -1.0, 0), ArgumentError, "`noise_multiplier` is out of range."),
        ((1.0, float("nan"), 0), ArgumentError, "`noise_multiplier` is out of range."),
        ((1.0, 1.0, None), ArgumentTypeError, "A seed has to be an integer."),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.differentially_private_aggregate(*arguments)
    assert str(caught.value).startswith(f"{text}\n  where: differentially_private_aggregate")
