"""The global key generator: sequences, seeds, threads, typed keys, and what transformations do to it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax._random import check_key
from pax.errors import ArgumentError, ArgumentTypeError

_SEQUENCES = {
    42: [686579304, 119540832, 26855093, 796233791, 295310486],
    0: [906691060, 413654000, 813847340],
}


@pytest.fixture(autouse=True)
def _restart() -> Iterator[None]:
    yield
    pax.seed_rng_key(42, typed_keys=False)


def _numbers(count: int) -> list[int]:
    return [int(pax.next_rng_key()[1]) for _ in range(count)]


def _in_thread(work: Any) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize(("seed", "numbers"), _SEQUENCES.items())
def test_a_seed_gives_its_sequence(seed: int, numbers: list[int]) -> None:
    pax.seed_rng_key(seed)
    assert _numbers(len(numbers)) == numbers


def test_keys_are_those_of_jax() -> None:
    pax.seed_rng_key(42)
    key = pax.next_rng_key()
    assert key.dtype == np.uint32
    assert key.shape == (2,)
    assert np.array_equal(key, jax.random.PRNGKey(686579304))


def test_the_main_thread_starts_with_seed_42() -> None:
    program = f"import sys; sys.path[:0] = {sys.path!r}; import pax; print(int(pax.next_rng_key()[1]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "686579304\n", done.stderr


def test_a_seed_restarts_the_sequence() -> None:
    pax.seed_rng_key(7)
    first = _numbers(3)
    pax.seed_rng_key(7)
    assert _numbers(3) == first


@pytest.mark.parametrize("seed", [np.int32(42), np.uint8(42), np.int64(42)], ids=lambda seed: type(seed).__name__)
def test_integers_of_numpy_are_seeds(seed: Any) -> None:
    pax.seed_rng_key(seed)
    assert _numbers(5) == _SEQUENCES[42]


def test_a_seed_may_be_negative() -> None:
    pax.seed_rng_key(-1)
    assert all(1 <= number <= 999_999_999 for number in _numbers(5))


@pytest.mark.parametrize("seed", ["a", 1.0, None, True, np.True_, [1]], ids=repr)
def test_other_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.seed_rng_key(seed)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).startswith("A seed has to be an integer.")
    assert "want:  an int" in str(caught.value)
    assert "fix:   pax.seed_rng_key(42)" in str(caught.value)


def test_a_refused_seed_leaves_the_sequence_alone() -> None:
    pax.seed_rng_key(42)
    with pytest.raises(ArgumentTypeError):
        pax.seed_rng_key("a")  # type: ignore[arg-type]
    assert _numbers(1) == _SEQUENCES[42][:1]


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_two_threads_that_were_not_seeded_draw_different_keys() -> None:
    assert not set(_in_thread(lambda: _numbers(5))) & set(_in_thread(lambda: _numbers(5)))


def test_a_thread_draws_other_keys_than_the_main_thread() -> None:
    assert _in_thread(lambda: _numbers(5)) != _SEQUENCES[42]


def test_a_seed_fixes_what_a_thread_draws() -> None:
    def work() -> list[int]:
        pax.seed_rng_key(42)
        return _numbers(5)

    assert _in_thread(work) == _SEQUENCES[42]


def test_a_thread_leaves_the_sequence_of_another_alone() -> None:
    pax.seed_rng_key(42)
    first = _numbers(2)
    _in_thread(lambda: pax.seed_rng_key(0))
    assert first + _numbers(3) == _SEQUENCES[42]


# ---- typed keys ------------------------------------------------------------------------------------------------------


def test_typed_keys_on_request_follow_the_same_sequence() -> None:
    pax.seed_rng_key(42, typed_keys=True)
    key = pax.next_rng_key()
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert int(jax.random.key_data(key)[1]) == 686579304


def test_typed_keys_hold_until_they_are_switched_off() -> None:
    pax.seed_rng_key(42, typed_keys=True)
    pax.seed_rng_key(42)
    assert jnp.issubdtype(pax.next_rng_key().dtype, jax.dtypes.prng_key)
    pax.seed_rng_key(42, typed_keys=False)
    assert pax.next_rng_key().dtype == np.uint32


def test_typed_keys_hold_in_all_threads() -> None:
    pax.seed_rng_key(42, typed_keys=True)
    assert jnp.issubdtype(_in_thread(pax.next_rng_key).dtype, jax.dtypes.prng_key)


# ---- transformations -------------------------------------------------------------------------------------------------


def test_a_key_drawn_in_a_compiled_function_is_a_constant_of_it() -> None:
    draw = jax.jit(lambda: pax.next_rng_key())
    assert np.array_equal(draw(), draw())


def test_the_generator_advances_while_a_function_is_traced_and_not_when_it_runs() -> None:
    pax.seed_rng_key(42)
    draw = jax.jit(lambda: pax.next_rng_key())
    for _ in range(3):
        draw()
    assert _numbers(1) == [_SEQUENCES[42][1]]


def test_all_instances_of_a_mapped_function_get_the_same_key() -> None:
    keys = jax.vmap(lambda _: pax.next_rng_key())(np.arange(3))
    assert np.array_equal(keys[0], keys[2])


def test_a_pure_function_does_not_restore_the_generator() -> None:
    pax.seed_rng_key(42)
    pax.pure(pax.next_rng_key)()
    assert _numbers(1) == [_SEQUENCES[42][1]]


# ---- keys of users ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [jax.random.key(0), jax.random.PRNGKey(0), np.zeros(2, dtype=np.uint32)], ids=["typed", "legacy", "numpy"]
)
def test_a_single_key_is_accepted_as_it_is(key: Any) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize(
    "key",
    [
        jax.random.split(jax.random.key(0)),
        jax.random.split(jax.random.PRNGKey(0)),
        np.zeros(2, dtype=np.int32),
        np.zeros((1, 2), dtype=np.uint32),
    ],
    ids=["typed keys", "legacy keys", "dtype", "rank"],
)
def test_an_array_that_is_no_single_key_is_refused(key: Any) -> None:
    with pytest.raises(ArgumentError, match=r"This array is no single PRNG key.") as caught:
        check_key(key)
    assert "want:  a key: key<fry>[] or uint32[2]" in str(caught.value)


@pytest.mark.parametrize("key", [3, None, [0, 1], "key"], ids=repr)
def test_something_else_than_an_array_is_no_key(key: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"A PRNG key has to be an array.") as caught:
        check_key(key)
    assert "fix:   jax.random.key(0), or pax.next_rng_key()" in str(caught.value)
