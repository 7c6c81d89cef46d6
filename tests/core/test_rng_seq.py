"""`RngSeq`: a sequence of keys as a module."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError


def _draw(rng_seq: pax.RngSeq, *counts: int) -> tuple[pax.RngSeq, list[Any]]:
    """Draws once for each count; no counts: one key."""
    drawn = []
    for count in counts or (1,):
        rng_seq, keys = pax.module_and_value(rng_seq.next_rng_key)(count)
        drawn.append(keys)
    return rng_seq, drawn


def test_a_sequence_starts_from_its_seed() -> None:
    assert np.array_equal(pax.RngSeq(seed=3)._rng_key, jax.random.PRNGKey(3))


def test_a_sequence_starts_from_its_key() -> None:
    key = jax.random.PRNGKey(5)
    assert pax.RngSeq(rng_key=key)._rng_key is key


def test_a_key_has_priority_over_a_seed() -> None:
    key = jax.random.PRNGKey(5)
    assert pax.RngSeq(seed=3, rng_key=key)._rng_key is key


def test_without_seed_and_key_a_global_key_is_drawn() -> None:
    pax.seed_rng_key(42)
    assert np.array_equal(pax.RngSeq()._rng_key, jax.random.PRNGKey(686579304))


def test_a_drawn_key_comes_from_a_split() -> None:
    rng_seq, (key,) = _draw(pax.RngSeq(seed=3))
    state, expected = jax.random.split(jax.random.PRNGKey(3))
    assert np.array_equal(key, expected)
    assert np.array_equal(rng_seq._rng_key, state)


@pytest.mark.parametrize("count", [0, 2, 5])
def test_another_number_of_keys_than_one_is_a_list(count: int) -> None:
    _, (keys,) = _draw(pax.RngSeq(seed=3), count)
    assert isinstance(keys, list)
    assert len(keys) == count


def test_keys_drawn_one_after_the_other_differ() -> None:
    _, (a, b) = _draw(pax.RngSeq(seed=3), 1, 1)
    assert not np.array_equal(a, b)


def test_drawing_several_keys_at_once_is_deterministic_and_not_drawing_them_one_by_one() -> None:
    _, (at_once,) = _draw(pax.RngSeq(seed=3), 2)
    _, (again,) = _draw(pax.RngSeq(seed=3), 2)
    _, one_by_one = _draw(pax.RngSeq(seed=3), 1, 1)
    assert np.array_equal(at_once, again)
    assert not np.array_equal(at_once, one_by_one)


def test_a_sequence_moves_on_in_evaluation_mode() -> None:
    rng_seq = pax.RngSeq(seed=3).eval()
    assert not np.array_equal(_draw(rng_seq)[0]._rng_key, rng_seq._rng_key)


def test_typed_keys_stay_typed() -> None:
    _, (key,) = _draw(pax.RngSeq(rng_key=jax.random.key(3)))
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def test_drawing_needs_a_pure_function() -> None:
    with pytest.raises(MutationError, match="attribute `_rng_key`"):
        pax.RngSeq(seed=3).next_rng_key()


def test_drawing_works_under_jit() -> None:
    rng_seq = pax.RngSeq(seed=3)
    new, key = jax.jit(lambda r: pax.module_and_value(r.next_rng_key)())(rng_seq)
    expected, (expected_key,) = _draw(rng_seq)
    assert np.array_equal(key, expected_key)
    assert np.array_equal(new._rng_key, expected._rng_key)


def test_the_key_is_a_leaf_and_no_parameter() -> None:
    rng_seq = pax.RngSeq(seed=3)
    assert len(jax.tree.leaves(rng_seq)) == 1
    assert jax.tree.leaves(rng_seq.parameters()) == []


def test_a_sequence_is_shown_by_its_class() -> None:
    assert repr(pax.RngSeq(seed=3)) == "RngSeq"


@pytest.mark.parametrize("count", [-1, 1.0, True, "2", None], ids=repr)
def test_kd_61_the_number_of_keys_has_to_be_a_count(count: Any) -> None:
    with pytest.raises(ArgumentError, match=r"The number of keys has to be an integer of at least 0.") as caught:
        pax.module_and_value(pax.RngSeq(seed=3).next_rng_key)(count)
    assert "fix:   rng_seq.next_rng_key(2)" in str(caught.value)


@pytest.mark.parametrize("seed", ["a", 1.5, True], ids=repr)
def test_a_seed_has_to_be_an_integer(seed: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"A seed has to be an integer."):
        pax.RngSeq(seed=seed)


@pytest.mark.parametrize("key", [3, [0, 1]], ids=repr)
def test_kd_61_something_else_than_an_array_is_no_key(key: Any) -> None:
    with pytest.raises(ValueError, match=r"A PRNG key has to be an array."):
        pax.RngSeq(rng_key=key)


def test_an_array_that_is_no_key_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"This array is no single PRNG key.") as caught:
        pax.RngSeq(rng_key=jnp.ones(2))
    assert "got:   float32[2]" in str(caught.value)


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)], ids=["typed", "legacy"])
def test_a_key_in_the_place_of_the_seed_is_told_its_place(key: jax.Array) -> None:
    with pytest.raises(ArgumentTypeError, match=r"fix:   pax\.RngSeq\(rng_key=key\)"):
        pax.RngSeq(key)  # type: ignore[arg-type]
