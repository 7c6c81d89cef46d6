"""pax.nn.Embed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError


def layer(vocab_size: int = 5, embed_dim: int = 3, **options: Any) -> pax.nn.Embed:
    return pax.nn.Embed(vocab_size, embed_dim, rng_key=jax.random.key(0), **options)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 0)])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8])
def test_each_index_becomes_a_row(shape: tuple[int, ...], dtype: Any) -> None:
    embed = layer()
    x = jax.random.randint(jax.random.key(1), shape, 0, 5).astype(dtype)
    np.testing.assert_array_equal(embed(x), np.asarray(embed.weight)[np.asarray(x)])


def test_python_integers_and_lists_are_inputs() -> None:
    embed = layer()
    np.testing.assert_array_equal(embed(2), embed.weight[2])
    np.testing.assert_array_equal(embed([[1, 2], [0, 4]]), embed(jnp.array([[1, 2], [0, 4]])))  # type: ignore[arg-type]
    np.testing.assert_array_equal(embed(np.array([1, 2])), embed.weight[1:3])


@pytest.mark.parametrize("jit", [False, True])
def test_kd_52_negative_indices_count_from_the_end_and_others_are_clamped(jit: bool) -> None:
    embed = layer()
    lookup: Any = jax.jit(lambda embed, x: embed(x)) if jit else lambda embed, x: embed(x)
    rows = lookup(embed, jnp.array([-1, -5, -6, -100, 5, 100]))
    np.testing.assert_array_equal(rows, embed.weight[np.array([4, 0, 0, 0, 4, 4])])


def test_kd_52_small_integers_reach_a_large_table() -> None:
    embed = layer(300)
    np.testing.assert_array_equal(embed(jnp.array([255], jnp.uint8)), embed.weight[255:256])
    np.testing.assert_array_equal(embed(jnp.array([-1], jnp.int8)), embed.weight[299:])


@pytest.mark.parametrize("x", [1.0, jnp.ones(2), np.ones((2, 2), np.float16), jnp.ones(1, jnp.complex64)], ids=str)
def test_kd_52_other_numbers_than_integers_are_refused(x: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        layer(name="words")(x)
    text = str(caught.value)
    assert text.startswith("Expecting integers to look up.\n  where: (words) Embed\n  got:   ")
    assert "want:  integers in [0, 5)" in text
    assert "fix:   x.astype(jnp.int32)" in text
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("mask", [[True, False, True, False, False], np.arange(5) % 3 == 0])
def test_a_boolean_array_selects_rows(mask: Any) -> None:
    embed = layer()
    np.testing.assert_array_equal(embed(mask), np.asarray(embed.weight)[np.asarray(mask)])


def test_a_mask_under_jit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"A boolean input selects rows[^$]*bool\[5\] inside of a JAX transform"):
        jax.jit(layer())(jnp.ones(5, jnp.bool_))


@pytest.mark.parametrize(
    "mask", [jnp.ones(4, jnp.bool_), True, jnp.ones((5, 3, 1), jnp.bool_)], ids=["4", "0-d", "3-d"]
)
def test_a_mask_of_another_shape_is_refused(mask: Any) -> None:
    with pytest.raises(ArgumentError, match=r"A boolean input selects rows[^$]*want:  bool\[5\][^$]*flatnonzero"):
        layer()(mask)


def test_the_default_is_a_truncated_normal_of_standard_deviation_0_01() -> None:
    """Table C-1 of the customer documents: truncated, with the standard deviation of the original."""
    weight = np.asarray(layer(400, 250).weight, np.float64)
    # 100,000 values: the standard error of the mean is 3e-5, that of the standard deviation about 2e-5.
    assert abs(weight.mean()) < 2e-4
    assert abs(weight.std() - 0.01) < 1e-4
    # Two standard deviations of the normal before the cut, which are 0.01 / 0.8796.
    assert 0.0225 < np.abs(weight).max() <= 0.02274


def test_the_initializer_gets_the_whole_key_and_a_tuple() -> None:
    calls: list[Any] = []

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        calls.append((jax.random.key_data(key).tolist(), shape))
        return jnp.full(shape, 2.0)

    layer(w_init=init)
    assert calls == [(jax.random.key_data(jax.random.key(0)).tolist(), (5, 3))]


def test_one_global_key_is_drawn() -> None:
    pax.seed_rng_key(42)
    embed = pax.nn.Embed(5, 3)
    after = pax.next_rng_key()
    pax.seed_rng_key(42)
    np.testing.assert_array_equal(embed.weight, pax.nn.Embed(5, 3, rng_key=pax.next_rng_key()).weight)
    np.testing.assert_array_equal(after, pax.next_rng_key())


def test_gradients_are_sums_over_the_places_of_an_index() -> None:
    x = jnp.array([[1, 3], [1, 7]])
    grads = pax.grad(lambda embed, x: embed(x).sum())(layer(), x)
    np.testing.assert_array_equal(grads.weight[:, 0], [0, 2, 0, 1, 1])


def test_attend_multiplies_by_each_row() -> None:
    embed = layer()
    x = jax.random.normal(jax.random.key(1), (2, 4, 3))
    np.testing.assert_allclose(embed.attend(x), np.asarray(x) @ np.asarray(embed.weight).T, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(embed.attend(x[0, 0]), embed.weight @ x[0, 0], rtol=1e-5, atol=1e-7)


def test_tied_embeddings_get_one_gradient_of_both_uses() -> None:
    embed = layer(w_init=jax.nn.initializers.normal(1.0))
    x = jnp.array([0, 2])

    def loss(lookup: jax.Array, output: jax.Array) -> jax.Array:
        return jnp.sum((lookup[x] @ output.T) ** 2)

    got = pax.grad(lambda embed: jnp.sum(embed.attend(embed(x)) ** 2))(embed).weight
    want = sum(jax.grad(loss, argnums=(0, 1))(embed.weight, embed.weight))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("x", [jnp.ones((2, 4)), jnp.array(1.0)])
def test_attend_refuses_another_size(x: jax.Array) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting 3 input features.\n  where: Embed, method `attend`"):
        layer().attend(x)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype_is_that_of_rows_and_logits(dtype: Any) -> None:
    embed = layer(dtype=dtype)
    rows = embed(jnp.array([1]))
    assert {rows.dtype, embed.attend(jnp.ones((1, 3))).dtype} == {jnp.dtype(dtype)}
    assert embed.weight.dtype == jnp.float32
    assert repr(embed) == f"Embed(vocab_size=5, embed_dim=3, dtype={jnp.dtype(dtype)})"


def test_param_dtype_is_that_of_the_table() -> None:
    embed = layer(param_dtype=jnp.bfloat16)
    assert {embed.weight.dtype, embed(jnp.array([1])).dtype} == {jnp.dtype(jnp.bfloat16)}
    assert embed.attend(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    assert embed.attend(jnp.ones(3)).dtype == jnp.float32


def test_x64_weights_are_float64() -> None:
    with x64():
        assert layer()(jnp.array([1])).dtype == jnp.float64


def test_repr() -> None:
    assert repr(pax.nn.Embed(5, 7, name="e")) == "(e) Embed(vocab_size=5, embed_dim=7)"


@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ((0, 1), ArgumentError, "Expecting positive values for `vocab_size`."),
        ((1, 0), ArgumentError, "Expecting positive values for `embed_dim`."),
        ((1, 2.0), ArgumentTypeError, "Expecting an integer for `embed_dim`."),
    ],
)
def test_sizes_are_checked(sizes: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pax.nn.Embed(*sizes)
