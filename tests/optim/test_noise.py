"""opax.add_noise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from pax.errors import ArgumentError, ArgumentTypeError


def run(optimizer: Any, updates: Any, steps: int = 1) -> list[Any]:
    found = []
    for _ in range(steps):
        optimizer, noisy = pax.purecall(optimizer, updates)
        found.append(noisy)
    return found


def test_the_variance_falls_with_the_steps() -> None:
    zeros = jnp.zeros(20_000)
    found = run(opax.add_noise(0.04, 2.0, 0)(zeros), zeros, 3)
    np.testing.assert_allclose([noise.std() for noise in found], [0.2, 0.1, 0.2 / 3], rtol=0.03)
    np.testing.assert_allclose([noise.mean() for noise in found], np.zeros(3), atol=0.005)


def test_it_is_added_to_the_updates() -> None:
    (noise,), (noisy,) = (run(opax.add_noise(1.0, 0.5, 0)(jnp.zeros(3)), jnp.full(3, value)) for value in (0.0, 100.0))
    np.testing.assert_allclose(noisy - 100.0, noise, atol=1e-4)
    assert bool(jnp.all(noise != 0))


def test_steps_leaves_and_seeds_have_noise_of_their_own() -> None:
    zeros = {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    found = run(opax.add_noise(1.0, 0.0, 0)(zeros), zeros, 2) + run(opax.add_noise(1.0, 0.0, 1)(zeros), zeros)
    values = np.concatenate([leaf for tree in found for leaf in tree.values()])
    assert len(np.unique(values)) == len(values)
    np.testing.assert_array_equal(run(opax.add_noise(1.0, 0.0, 1)(zeros), zeros)[0]["a"], found[2]["a"])


def test_the_state_is_a_count_and_a_key() -> None:
    optimizer = opax.add_noise(1.0, 0.5, 7)({"w": jnp.zeros(1)})
    assert optimizer.pytree_attributes == ("count", "rng_key")
    np.testing.assert_array_equal(optimizer.rng_key, jax.random.PRNGKey(7), strict=True)
    optimizer, _ = pax.purecall(optimizer, {"w": jnp.zeros(1)})
    np.testing.assert_array_equal(optimizer.count, np.int32(1), strict=True)


def test_a_typed_key_does_as_well() -> None:
    legacy = opax.add_noise(1.0, 0.5, 7)(jnp.zeros(2))
    typed = legacy.replace(rng_key=jax.random.key(7))
    for got, want in zip(run(typed, jnp.zeros(2), 2), run(legacy, jnp.zeros(2), 2), strict=True):
        np.testing.assert_array_equal(got, want)


def test_noise_is_that_of_a_flat_chain() -> None:
    params = {"a": jnp.zeros(3), "b": [jnp.zeros(2)]}
    factory = opax.chain(opax.add_noise(1.0, 0.5, 0))
    (tree,), (flat,) = run(factory(params), params), run(factory(params, flatten=True), params)
    jax.tree.map(np.testing.assert_array_equal, tree, flat)


def test_half_precision_has_noise_of_many_values() -> None:
    zeros = jnp.zeros(1000, jnp.bfloat16)
    (noise,) = run(opax.add_noise(0.01, 0.5, 0)(zeros), zeros)
    assert noise.dtype == jnp.bfloat16
    (wide,) = run(opax.add_noise(0.01, 0.5, 0)(zeros), zeros.astype(jnp.float32))
    np.testing.assert_array_equal(noise, wide.astype(jnp.bfloat16))


def test_a_batch_of_optimizers_has_a_batch_of_keys() -> None:
    optimizer = opax.add_noise(1.0, 0.5, 0)(jnp.zeros(2))
    keys = jax.random.split(optimizer.rng_key, 3)
    noises = jax.vmap(lambda key: pax.purecall(optimizer.replace(rng_key=key), jnp.zeros(2))[1])(keys)
    for key, noise in zip(keys, noises, strict=True):
        np.testing.assert_allclose(noise, run(optimizer.replace(rng_key=key), jnp.zeros(2))[0], rtol=1e-6)


def test_without_variance_nothing_changes() -> None:
    (same,) = run(opax.add_noise(0.0, 0.5, 0)(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_array_equal(same, np.ones(2))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1.0, 0.5, 0), ArgumentError, "`eta` is out of range.\n  where: add_noise"),
        ((1.0, -0.5, 0), ArgumentError, "`gamma` is out of range."),
        ((1.0, 0.5, 0.5), ArgumentTypeError, "A seed has to be an integer.\n  where: add_noise\n  got:   0.5"),
        ((1.0, 0.5, True), ArgumentTypeError, "A seed has to be an integer."),
        ((1.0, 0.5, 2**63), ArgumentError, "This seed is too large."),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.add_noise(*arguments)
    assert str(caught.value).startswith(text)


def test_seeds_are_integers_of_any_kind() -> None:
    seed: Any = np.int64(3)
    assert opax.add_noise(1, 0.5, seed) == opax.add_noise(1.0, 0.5, 3)
    assert opax.add_noise(1.0, 0.5, -(2**63))(jnp.zeros(1)).rng_key.shape == (2,)
