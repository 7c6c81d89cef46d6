"""Decoding with a cache of keys and values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

LENGTH, HEADS, SIZE = 6, 4, 2
MODEL = HEADS * SIZE
# A number of bits of what is computed in another order.
TOLERANCES = {jnp.float32: 1e-5, jnp.bfloat16: 3e-2}
# True: a real position. One sequence is padded on the left, one has a hole.
PADDING = jnp.array([[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1]], jnp.bool_)[:, None, None]


def layer(**options: Any) -> pax.nn.MultiHeadAttention:
    return pax.nn.MultiHeadAttention(HEADS, SIZE, 1.0, causal=True, rng_key=jax.random.key(0), **options)


def tokens(dtype: Any = jnp.float32, *batch: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (*(batch or (2,)), LENGTH, MODEL), dtype)


def decode(decoder: Any, x: jax.Array, chunks: list[int], mask: Any = None) -> jax.Array:
    outputs, start = [], 0
    for size in chunks:
        new = x[..., start : start + size, :]
        decoder, y = pax.purecall(decoder, new, new, new, mask)
        outputs.append(y)
        start += size
    return jnp.concatenate(outputs, axis=-2)


@pytest.mark.parametrize("num_kv_heads", [None, 2, 1])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("prefill", [1, 3, 5])
def test_decoding_token_by_token_is_the_full_forward_pass(
    num_kv_heads: int | None, rotary: bool, window: int | None, padded: bool, dtype: Any, prefill: int
) -> None:
    attention = layer(num_kv_heads=num_kv_heads, rotary=rotary, window=window, param_dtype=dtype)
    x, mask = tokens(dtype), PADDING if padded else None
    y = decode(attention.init_cache(2, LENGTH), x, [prefill] + [1] * (LENGTH - prefill), mask)
    want = attention(x, x, x, mask)
    assert y.dtype == want.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), want.astype(jnp.float32), atol=TOLERANCES[dtype])


@pytest.mark.parametrize("chunks", [[6], [2, 4], [1, 2, 3], [0, 6]])
def test_any_number_of_tokens_can_come_at_once(chunks: list[int]) -> None:
    attention, x = layer(rotary=True, window=3), tokens()
    y = decode(attention.init_cache(2, LENGTH), x, chunks)
    np.testing.assert_allclose(y, attention(x, x, x), atol=1e-5)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_the_batch_has_any_number_of_axes(batch: tuple[int, ...]) -> None:
    attention = layer()
    x = jax.random.normal(jax.random.key(1), (*batch, LENGTH, MODEL))
    np.testing.assert_allclose(decode(attention.init_cache(batch, 8), x, [3, 1, 2]), attention(x, x, x), atol=1e-5)


def test_a_longer_cache_changes_nothing() -> None:
    attention, x = layer(rotary=True), tokens()
    mask = jnp.pad(PADDING, [(0, 0)] * 3 + [(0, 3)], constant_values=True)
    y = decode(attention.init_cache(2, LENGTH + 3), x, [2, 1, 3], mask)
    np.testing.assert_allclose(y, attention(x, x, x, PADDING), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"rotary": True, "window": 2, "num_kv_heads": 1, "param_dtype": jnp.bfloat16}])
def test_decoding_in_a_scan_is_the_full_forward_pass(options: dict[str, Any]) -> None:
    attention = layer(**options)
    x = tokens(attention.key_projection.weight.dtype)
    decoder, first = pax.purecall(attention.init_cache(2, LENGTH), *(x[:, :2],) * 3)

    def step(decoder: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        return pax.purecall(decoder, *(x[:, None],) * 3)

    decoder, rest = jax.lax.scan(step, decoder, x[:, 2:].swapaxes(0, 1))
    y = jnp.concatenate([first, rest[:, :, 0].swapaxes(0, 1)], axis=1)
    tolerance = TOLERANCES[jnp.bfloat16 if options else jnp.float32]
    np.testing.assert_allclose(y.astype(jnp.float32), attention(x, x, x).astype(jnp.float32), atol=tolerance)
    assert decoder.cache is not None
    assert int(decoder.cache.index) == LENGTH


def test_each_number_of_new_tokens_is_traced_once() -> None:
    call = TraceCounter(lambda decoder, x: pax.purecall(decoder, x, x, x))
    decoder, x = layer(rotary=True).init_cache(2, LENGTH), tokens()
    decoder, _ = call(decoder, x[:, :2])
    for position in range(2, LENGTH):
        decoder, _ = call(decoder, x[:, position : position + 1])
    assert call.traces == 2


def test_vmap_over_sequences() -> None:
    attention, x = layer(rotary=True), tokens()
    y = jax.vmap(lambda x: decode(attention.init_cache((), LENGTH), x, [4, 2]))(x)
    np.testing.assert_allclose(y, attention(x, x, x), atol=1e-5)


@pytest.mark.parametrize("dropout_rate", [0.0, 0.5])
def test_eval_mode_decodes_without_dropout(dropout_rate: float) -> None:
    attention, x = layer(dropout_rate=dropout_rate).eval(), tokens()
    np.testing.assert_allclose(decode(attention.init_cache(2, LENGTH), x, [5, 1]), layer()(x, x, x), atol=1e-5)


def test_gradients_pass_through_decoding() -> None:
    attention, x = layer(), tokens()
    got = jax.jit(jax.grad(lambda x: (decode(attention.init_cache(2, LENGTH), x, [4, 2]) ** 2).sum()))(x)
    want = jax.jit(jax.grad(lambda x: (attention(x, x, x) ** 2).sum()))(x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_is_state_and_not_trained() -> None:
    decoder = layer().init_cache(2, LENGTH)
    assert jax.tree.leaves(decoder.parameters().cache) == []
    moved = decoder.update_parameters(decoder.parameters().map(lambda leaf: leaf + 1))
    assert moved.cache == decoder.cache


def test_init_cache_leaves_the_layer_unchanged_and_shares_its_weights() -> None:
    attention = layer()
    decoder = attention.init_cache(2, LENGTH)
    assert attention.cache is None
    assert decoder.query_projection.weight is attention.query_projection.weight
    assert decoder.replace(cache=None) == attention


def test_a_new_cache_takes_the_place_of_a_used_one() -> None:
    decoder, x = layer().init_cache(2, LENGTH), tokens()
    used, _ = pax.purecall(decoder, x, x, x)
    np.testing.assert_allclose(decode(used.init_cache(2, LENGTH), x, [6]), layer()(x, x, x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "dtype", "want"),
    [
        ({}, None, jnp.float32),
        ({"param_dtype": jnp.bfloat16}, None, jnp.bfloat16),
        ({"dtype": jnp.float16}, None, jnp.float16),
        ({}, jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_the_dtype_of_the_cache(options: dict[str, Any], dtype: Any, want: Any) -> None:
    decoder, x = layer(**options).init_cache(2, LENGTH, dtype=dtype), tokens()
    updated, y = pax.purecall(decoder, x, x, x)
    assert decoder.cache is not None
    assert updated.cache is not None
    assert {decoder.cache.keys.dtype, decoder.cache.values.dtype, updated.cache.keys.dtype} == {jnp.dtype(want)}
    assert y.dtype == (options.get("dtype") or jnp.float32)


def test_repr_and_summary_show_the_cache() -> None:
    lines = layer(num_kv_heads=2).init_cache(3, LENGTH).summary(return_list=True)
    want = "KVCache(batch_shape=(3,), max_length=6, num_heads=2, head_size=2, dtype=float32)"
    assert want in {line.removeprefix("├── ").removeprefix("└── ") for line in lines}


def test_a_cached_call_needs_purecall() -> None:
    x = tokens()
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        layer().init_cache(2, LENGTH)(x, x, x)


def test_append_returns_everything_and_the_first_new_position() -> None:
    cache = pax.nn.KVCache((), 3, 1, 1)
    new = jnp.array([[[1.0]], [[2.0]]])
    cache, _ = pax.module_and_value(cache.append)(new[:1], new[:1])
    cache, (keys, values, start) = pax.module_and_value(cache.append)(new, 2 * new)
    np.testing.assert_array_equal(keys.ravel(), [1, 1, 2])
    np.testing.assert_array_equal(values.ravel(), [1, 2, 4])
    assert (int(start), int(cache.index)) == (1, 3)


# ---- a full cache ----------------------------------------------------------------------------------------------------


def test_an_overflow_is_an_error() -> None:
    decoder, x = layer().init_cache(2, 7), tokens()
    decoder, _ = pax.purecall(decoder, x, x, x)
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(decoder, x[:, :2], x[:, :2], x[:, :2])
    text = str(caught.value)
    assert text.startswith("The cache is full.\n  where: cache (KVCache)")
    assert "  got:   2 new positions, after 6\n  want:  at most 7 together\n  fix:   init_cache(" in text


def test_more_positions_than_the_cache_has_are_an_error_under_jit_too() -> None:
    decoder, x = layer().init_cache(2, 3), tokens()
    with pytest.raises(ArgumentError, match=r"The cache is full[^$]*got:   6 new positions, after some"):
        jax.jit(pax.purecall)(decoder, x, x, x)


def test_an_overflow_under_jit_gives_nan_from_then_on() -> None:
    decoder, x = layer(window=2).init_cache(2, 4), tokens()
    step = jax.jit(pax.purecall)
    results = []
    for position in range(0, LENGTH, 2):
        decoder, y = step(decoder, *(x[:, position : position + 2],) * 3)
        results.append(y)
    assert [bool(jnp.isnan(y).all()) for y in results] == [False, False, True]
    assert bool(jnp.isnan(step(decoder, *(x[:, :2],) * 3)[1]).all())


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_only_causal_attention_has_a_cache() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.MultiHeadAttention(1, 2, 1.0).init_cache(1, 2)
    assert str(caught.value).startswith("A cache needs causal attention.\n  where: MultiHeadAttention\n")
    assert str(caught.value).endswith("fix:   MultiHeadAttention(..., causal=True)")


def test_another_batch_shape_is_refused() -> None:
    x = tokens()
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(layer().init_cache(3, LENGTH), x, x, x)
    text = str(caught.value)
    assert text.startswith("The new keys and values do not fit the cache.\n  where: cache (KVCache)")
    assert (
        "got:   keys=float32[2,6,4,2], values=float32[2,6,4,2]\n  want:  float32[3,6,4,2]\n  fix:   init_cache(" in text
    )


def test_a_mask_of_the_new_positions_only_is_refused() -> None:
    x = tokens()
    with pytest.raises(ArgumentError, match=r"want:  a shape that broadcasts to \(2, 4, 2, 6\)"):
        pax.purecall(layer().init_cache(2, LENGTH), x[:, :2], x[:, :2], x[:, :2], jnp.ones((2, 1, 1, 2)))


def test_a_key_for_each_query_is_wanted() -> None:
    x = tokens()
    with pytest.raises(ArgumentError, match="same length of key and value, and, with a cache, of query"):
        pax.purecall(layer().init_cache(2, LENGTH), x[:, :2], x, x)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0, 1, 1, 1), ArgumentError, "Expecting positive values for `batch_shape`."),
        (((1, 1.5), 1, 1, 1), ArgumentTypeError, "Expecting an integer for `batch_shape`."),
        ((1, 0, 1, 1), ArgumentError, "Expecting positive values for `max_length`."),
        ((1, 1, 0, 1), ArgumentError, "Expecting positive values for `num_heads`."),
        ((1, 1, 1, 0), ArgumentError, "Expecting positive values for `head_size`."),
    ],
)
def test_sizes_are_checked(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.nn.KVCache(*arguments)
    assert str(caught.value).startswith(text)


def test_what_is_no_array_cannot_be_appended() -> None:
    cache = pax.nn.KVCache((), max_length=4, num_heads=1, head_size=2)
    with pytest.raises(ArgumentTypeError, match="Expecting an array.\n  where: KVCache\n  got:   'x'"):
        pax.module_and_value(cache.append)("x", "x")
