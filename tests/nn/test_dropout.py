"""pax.nn.Dropout and pax.nn.dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

KEY = jax.random.key(0)


def test_seed_42_gives_the_reference_mask() -> None:
    pax.seed_rng_key(42)
    _, y = pax.purecall(pax.nn.Dropout(0.5), jnp.ones(8))
    np.testing.assert_array_equal(y, [2, 2, 2, 2, 2, 0, 0, 2])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_and_scaled_exactly(rate: float) -> None:
    y = np.asarray(pax.nn.dropout(KEY, rate, jnp.ones(100_000)))
    # Standard error of the fraction: at most 0.0016.
    assert abs((y == 0).mean() - rate) < 0.008
    np.testing.assert_array_equal(np.unique(y), [0, np.float32(1 / (1 - rate))])


def test_the_scale_of_rate_0_9_is_10() -> None:
    assert float(pax.nn.dropout(KEY, 0.9, jnp.ones(1000)).max()) == 10.0


def test_rate_0_returns_the_object_and_needs_no_key() -> None:
    x = object()
    assert pax.nn.dropout(None, 0, x) is x  # type: ignore[arg-type]
    assert pax.nn.Dropout(0.0)(x) is x


def test_eval_mode_returns_the_object() -> None:
    x = object()
    assert pax.nn.Dropout(0.5).eval()(x) is x  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "want"), [(jnp.float16, jnp.float16), (jnp.bfloat16, jnp.bfloat16), (jnp.int8, jnp.float32)]
)
@pytest.mark.parametrize("rate", [0.5, jnp.array(0.5)])
def test_float_dtypes_are_kept(dtype: Any, want: Any, rate: Any) -> None:
    assert pax.nn.dropout(KEY, rate, jnp.ones(4, dtype)).dtype == want


def test_numpy_input() -> None:
    y = pax.nn.dropout(KEY, 0.5, np.ones(8))  # type: ignore[arg-type]
    np.testing.assert_array_equal(y, pax.nn.dropout(KEY, 0.5, jnp.ones(8)))


def test_kd_51_the_rate_may_be_traced() -> None:
    x = jnp.ones(1000)
    traced = jax.jit(pax.nn.dropout)(KEY, 0.25, x)
    np.testing.assert_allclose(traced, pax.nn.dropout(KEY, 0.25, x), rtol=1e-6)
    np.testing.assert_array_equal(jax.jit(pax.nn.dropout)(KEY, 0.0, x), x)


def test_each_call_draws_anew_and_stores_the_first_half_of_the_key() -> None:
    drop = pax.nn.Dropout(0.5)
    state, use = jax.random.split(drop.rng_key)
    x = jnp.ones(64)
    new, y = pax.purecall(drop, x)
    np.testing.assert_array_equal(new.rng_key, state)
    np.testing.assert_array_equal(y, pax.nn.dropout(use, 0.5, x))
    assert not jnp.array_equal(pax.purecall(new, x)[1], y)


def test_train_mode_needs_purecall() -> None:
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        pax.nn.Dropout(0.5)(jnp.ones(8))


@pytest.mark.parametrize("key", [jax.random.key(5), jax.random.PRNGKey(5)], ids=["typed", "legacy"])
def test_kd_51_the_key_can_be_given(key: jax.Array) -> None:
    pax.seed_rng_key(3)
    drop = pax.nn.Dropout(0.5, rng_key=key)
    assert drop.rng_key is key
    after = pax.next_rng_key()
    pax.seed_rng_key(3)
    np.testing.assert_array_equal(after, pax.next_rng_key())
    np.testing.assert_array_equal(
        pax.purecall(drop, jnp.ones(8))[1], pax.nn.dropout(jax.random.split(key)[1], 0.5, jnp.ones(8))
    )


@pytest.mark.parametrize("key", [3, jnp.ones(2), jax.random.split(jax.random.key(0))], ids=["int", "float", "two"])
def test_kd_51_other_things_than_one_key_are_refused(key: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PRNG key for `rng_key`.\n  where: Dropout"):
        pax.nn.Dropout(0.5, rng_key=key)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_one_global_key_is_drawn_whatever_the_rate(rate: float) -> None:
    pax.seed_rng_key(3)
    pax.nn.Dropout(rate)
    after = pax.next_rng_key()
    pax.seed_rng_key(3)
    pax.next_rng_key()
    np.testing.assert_array_equal(after, pax.next_rng_key())


def test_the_key_is_state() -> None:
    drop = pax.nn.Dropout(0.5)
    assert jax.tree.leaves(drop.parameters()) == []
    assert drop.parameters().rng_key == pax.EmptyNode()


def test_repr() -> None:
    assert repr(pax.nn.Dropout(0.5, name="d")) == "(d) Dropout(dropout_rate=0.5)"


def test_it_works_in_scan() -> None:
    _, ys = jax.lax.scan(pax.purecall, pax.nn.Dropout(0.5), jnp.ones((3, 32)))
    assert not jnp.array_equal(ys[0], ys[1])


def test_gradients_are_the_mask() -> None:
    x = jnp.ones(8)
    y = pax.nn.dropout(KEY, 0.5, x)
    np.testing.assert_array_equal(jax.grad(lambda x: pax.nn.dropout(KEY, 0.5, x).sum())(x), y)


@pytest.mark.parametrize("rate", [1.0, 2.0, -0.1, float("nan")])
def test_kd_51_other_rates_are_refused(rate: float) -> None:
    """Rate 1, where nothing is left to scale up, is refused as in the original."""
    for make, where in (
        (lambda: pax.nn.Dropout(rate), "Dropout"),
        (lambda: pax.nn.dropout(KEY, rate, jnp.ones(2)), "dropout"),
    ):
        with pytest.raises(ArgumentError) as caught:
            make()
        assert str(caught.value).startswith(
            f"Expecting a dropout rate in [0, 1).\n  where: {where}\n  got:   dropout_rate={rate}"
        )


def test_a_missing_key_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"needs a PRNG key[^$]*fix:   dropout\(jax.random.key\(0\)"):
        pax.nn.dropout(None, 0.5, jnp.ones(2))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_rates_of_numpy_do_not_change_the_dtype(dtype: Any) -> None:
    assert pax.nn.dropout(KEY, np.float64(0.5), jnp.ones(4, dtype)).dtype == dtype
    drop = pax.nn.Dropout(np.float64(0.5))
    assert type(drop.dropout_rate) is float
    assert pax.purecall(drop, jnp.ones(4, dtype))[1].dtype == dtype


@pytest.mark.parametrize("rate", ["0.5", None, [0.5]])
def test_rates_are_numbers(rate: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `dropout_rate`.\n  where: Dropout"):
        pax.nn.Dropout(rate)


def test_what_is_no_key_or_no_array_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PRNG key for `rng_key`.\n  where: dropout"):
        pax.nn.dropout(0, 0.5, jnp.ones(2))  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="Expecting an array.\n  where: dropout\n  got:   'x'"):
        pax.nn.dropout(KEY, 0.5, "x")  # type: ignore[arg-type]
