"""pax.nn.MultiHeadAttention without a cache."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

HEADS, SIZE = 4, 2
MODEL = HEADS * SIZE


def layer(**options: Any) -> pax.nn.MultiHeadAttention:
    arguments = {"num_heads": HEADS, "key_size": SIZE, "w_init_scale": 1.0, "rng_key": jax.random.key(0), **options}
    return pax.nn.MultiHeadAttention(**arguments)


def inputs(*shape: int, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, y, z = (jax.random.normal(key, shape or (2, 5, MODEL), dtype) for key in jax.random.split(jax.random.key(1), 3))
    return x, y, z


def reference(attention: pax.nn.MultiHeadAttention, query: Any, key: Any, value: Any, mask: Any = None) -> np.ndarray:
    """The formulas, in float64 NumPy."""

    def project(name: str, x: Any, heads: int) -> np.ndarray:
        fc = getattr(attention, f"{name}_projection")
        y = np.asarray(x, np.float64) @ np.asarray(fc.weight, np.float64)
        y = y + np.asarray(fc.bias, np.float64) if fc.with_bias else y
        y = y.reshape(*y.shape[:-1], heads, SIZE)
        if attention.rotary and name != "value":
            angles = np.arange(y.shape[-3])[:, None] * 10000.0 ** (-np.arange(SIZE // 2) * 2 / SIZE)
            turns = np.exp(1j * angles)[:, None]
            z = (y[..., : SIZE // 2] + 1j * y[..., SIZE // 2 :]) * turns
            y = np.concatenate([z.real, z.imag], axis=-1)
        y = np.moveaxis(y, -2, -3)
        return np.repeat(y, HEADS // heads, axis=-3)

    q = project("query", query, HEADS)
    k = project("key", key, attention.num_kv_heads)
    v = project("value", value, attention.num_kv_heads)
    logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(SIZE)
    visible = np.ones(logits.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask) != 0, logits.shape)
    distance = np.arange(logits.shape[-2])[:, None] - np.arange(logits.shape[-1])
    if attention.causal:
        visible = visible & (distance >= 0)
    if attention.window is not None:
        visible = visible & (np.abs(distance) < attention.window)
    weights = np.where(visible, np.exp(np.where(visible, logits, 0)), 0)
    total = weights.sum(-1, keepdims=True)
    y = np.moveaxis(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ v, -3, -2)
    out = attention.output_projection
    y = y.reshape(*y.shape[:-2], MODEL) @ np.asarray(out.weight, np.float64)
    result: np.ndarray = y + np.asarray(out.bias, np.float64) if out.with_bias else y
    return result


# ---- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, MODEL), (2, 5, MODEL), (2, 3, 5, MODEL), (0, 5, MODEL), (2, 0, MODEL)])
def test_kd_40_it_computes_the_formula_for_any_number_of_leading_axes(shape: tuple[int, ...]) -> None:
    attention, (q, k, v) = layer(), inputs(*shape)
    np.testing.assert_allclose(attention(q, k, v), reference(attention, q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_kv_heads", [None, 2, 1])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 2), (False, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_options_are_those_of_the_formula(
    num_kv_heads: int | None, rotary: bool, causal: bool, window: int | None, masked: bool
) -> None:
    attention = layer(num_kv_heads=num_kv_heads, rotary=rotary, causal=causal, window=window)
    q, k, v = inputs()
    mask = jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])[:, None, None] if masked else None
    want = reference(attention, q, k, v, mask)
    np.testing.assert_allclose(attention(q, k, v, mask), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [(3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 2), (False, 2)])
def test_queries_and_keys_can_differ_in_number(lengths: tuple[int, int], causal: bool, window: int | None) -> None:
    attention = layer(causal=causal, window=window)
    q, _, _ = inputs(2, lengths[0], MODEL)
    _, k, v = inputs(2, lengths[1], MODEL)
    np.testing.assert_allclose(attention(q, k, v), reference(attention, q, k, v), rtol=1e-4, atol=1e-5)


def test_leading_axes_are_broadcast() -> None:
    attention, (q, k, v) = layer(), inputs(3, 2, 4, MODEL)
    want = reference(attention, q, k[:1], v[0, 0])
    np.testing.assert_allclose(attention(q, k[:1], v[0, 0]), want, rtol=1e-4, atol=1e-5)


def test_without_any_key_the_bias_comes_out() -> None:
    attention, (q, _, _) = layer(), inputs()
    y = attention(q, q[:, :0], q[:, :0])
    np.testing.assert_allclose(y, np.broadcast_to(attention.output_projection.bias, y.shape), rtol=1e-6)


@pytest.mark.parametrize(
    "shape", [(5, 5), (1, 5), (5, 1), (HEADS, 5, 5), (2, 1, 1, 5), (2, HEADS, 5, 5), (1, HEADS, 1, 5), (3, 2, 1, 5, 5)]
)
def test_a_mask_of_any_shape_that_broadcasts(shape: tuple[int, ...]) -> None:
    attention, (q, k, v) = layer(), inputs(*((3,) if len(shape) == 5 else ()), 2, 5, MODEL)
    mask = jax.random.bernoulli(jax.random.key(2), 0.6, shape)
    want = reference(attention, q, k, v, mask)
    np.testing.assert_allclose(attention(q, k, v, mask), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32, jnp.bfloat16])
def test_a_mask_of_numbers_lets_attend_where_it_is_not_zero(dtype: Any) -> None:
    attention, (x, _, _) = layer(), inputs()
    last = 3 if jnp.issubdtype(dtype, jnp.floating) else -1  # negative floats would be an additive mask
    mask = jnp.array([[1, 0, 2, 0, last], [0, 0, 0, 0, 1]], dtype)[:, None, None]
    want = attention(x, x, x, mask != jnp.zeros((), dtype))
    np.testing.assert_array_equal(attention(x, x, x, mask), want)
    np.testing.assert_array_equal(attention(x, x, x, np.asarray(mask)), want)


def test_a_mask_hides_with_causality() -> None:
    attention, (x, _, _) = layer(causal=True), inputs()
    mask = jnp.ones((5, 5)).at[:, 0].set(0)
    np.testing.assert_allclose(attention(x, x, x, mask), layer()(x, x, x, jnp.tril(mask)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [None, 2])
def test_causal_attention_sees_no_later_position(window: int | None) -> None:
    attention, (x, other, _) = layer(causal=True, window=window, rotary=True), inputs()
    changed = jnp.concatenate([x[:, :3], other[:, 3:]], axis=1)
    before, after = attention(x, x, x), attention(changed, changed, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert not jnp.allclose(before[:, 3:], after[:, 3:])


def test_a_window_hides_what_lies_further_back() -> None:
    attention, (x, other, _) = layer(causal=True, window=2), inputs()
    changed = jnp.concatenate([other[:, :2], x[:, 2:]], axis=1)
    before, after = attention(x, x, x), attention(changed, changed, changed)
    np.testing.assert_allclose(before[:, 3:], after[:, 3:], rtol=1e-5)
    assert not jnp.allclose(before[:, 2], after[:, 2])


# ---- masked rows and dtypes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("num_kv_heads", [None, 1])
def test_kd_54_rows_that_see_no_key_are_zero_in_every_dtype(dtype: Any, num_kv_heads: int | None) -> None:
    with x64(dtype == jnp.float64):
        attention, (x, _, _) = layer(param_dtype=dtype, num_kv_heads=num_kv_heads), inputs(dtype=dtype)
        mask = jnp.array([[True] * 5, [False] * 5])[:, None, None]
        y, vjp = jax.vjp(lambda x: attention(x, x, x, mask), x)
        (gradient,) = map(np.asarray, vjp(jnp.ones_like(y)))
    assert y.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(y[1], np.broadcast_to(attention.output_projection.bias, y[1].shape))
    assert np.isfinite(np.asarray(y)).all()
    assert np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


# Half-precision inputs, weights and results; about 2**-11 and 2**-8 of sizes up to 4, a few times over.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float16, 1e-2), (jnp.bfloat16, 8e-2), (jnp.float32, 1e-5), (jnp.float64, 1e-13)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_every_dtype_is_as_exact_as_it_can_be(dtype: Any, tolerance: float, causal: bool) -> None:
    with x64(dtype == jnp.float64):
        attention, (q, k, v) = layer(param_dtype=dtype, causal=causal), inputs(dtype=dtype)
        y = attention(q, k, v)
        assert y.dtype == dtype
        np.testing.assert_allclose(np.asarray(y, np.float64), reference(attention, q, k, v), atol=tolerance)


@pytest.mark.implicit_dtypes
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float16, 1e-2), (jnp.bfloat16, 8e-2)])
def test_half_precision_without_strict_promotion(dtype: Any, tolerance: float) -> None:
    attention, (x, _, _) = layer(param_dtype=dtype, causal=True), inputs(dtype=dtype)
    y, vjp = jax.vjp(lambda x: attention(x, x, x, jnp.ones((5, 5)).at[0, 0].set(0)), x)
    want = reference(attention, x, x, x, np.ones((5, 5)) - np.eye(5)[0] * np.eye(5)[0][:, None])
    np.testing.assert_allclose(np.asarray(y, np.float64), want, atol=tolerance)
    assert bool(jnp.isfinite(vjp(y)[0]).all())


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_kd_54_the_softmax_of_half_precision_is_in_float32(dtype: Any) -> None:
    # 2000 equal weights: a sum in half precision would stop growing long before.
    attention = layer(param_dtype=dtype, with_bias=False)
    attention = attention.map(lambda leaf: jnp.eye(MODEL, dtype=dtype))
    key = jnp.zeros((2000, MODEL), dtype)
    np.testing.assert_allclose(attention(key[:1], key, key + jnp.ones((), dtype)).astype(jnp.float32), 1, rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtype_is_that_of_computation_and_output(dtype: Any) -> None:
    attention, (x, _, _) = layer(dtype=dtype), inputs()
    assert attention(x, x, x).dtype == dtype
    assert attention.query_projection.weight.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32, jnp.float32])
def test_inputs_are_promoted_with_the_weights(dtype: Any) -> None:
    x = jnp.ones((5, MODEL), dtype)
    assert layer(rotary=True)(x, x, jnp.ones((5, MODEL))).dtype == jnp.float32


def test_numpy_arrays_are_inputs() -> None:
    x = np.ones((5, MODEL), np.float32)
    np.testing.assert_array_equal(layer()(x, x, x), layer()(*map(jnp.asarray, (x, x, x))))


# ---- construction ----------------------------------------------------------------------------------------------------


def test_the_weights_are_those_of_four_linear_layers_in_order() -> None:
    pax.seed_rng_key(42)
    attention = pax.nn.MultiHeadAttention(2, 3, 0.5)
    after = pax.next_rng_key()
    pax.seed_rng_key(42)
    init = jax.nn.initializers.variance_scaling(0.5, "fan_in", "normal")
    for name in ("query", "key", "value", "output"):
        fc = getattr(attention, f"{name}_projection")
        want = pax.nn.Linear(6, 6, w_init=init)
        np.testing.assert_allclose(fc.weight, want.weight, rtol=1e-6)
        np.testing.assert_allclose(fc.bias, want.bias, rtol=1e-6)
    np.testing.assert_array_equal(after, pax.next_rng_key())


def test_weights_have_the_standard_deviation_of_the_scale() -> None:
    attention = pax.nn.MultiHeadAttention(8, 32, 0.5, rng_key=jax.random.key(0))
    # 65536 values: the standard error is 0.3%.
    np.testing.assert_allclose(attention.output_projection.weight.std(), np.sqrt(0.5 / 256), rtol=0.015)


def test_a_given_key_is_split_in_four_and_draws_nothing() -> None:
    pax.seed_rng_key(3)
    attention = layer()
    after = pax.next_rng_key()
    pax.seed_rng_key(3)
    np.testing.assert_array_equal(after, pax.next_rng_key())
    init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    keys = jax.random.split(jax.random.key(0), 4)
    want = pax.nn.Linear(MODEL, MODEL, w_init=init, rng_key=keys[2])
    np.testing.assert_allclose(attention.value_projection.weight, want.weight, rtol=1e-6)


def test_repr_and_summary() -> None:
    attention = layer()
    lines = [f"({name}_proj) Linear(in_dim=8, out_dim=8, with_bias=True)" for name in ("qry", "key", "val", "out")]
    marks = ("├── ", "├── ", "├── ", "└── ")
    want = ["MultiHeadAttention(num_heads=4, key_size=2)", *map("".join, zip(marks, lines, strict=True))]
    assert attention.summary(return_list=True) == want


def test_repr_shows_options_that_are_set() -> None:
    attention = layer(
        num_kv_heads=1, causal=True, window=3, rotary=True, dropout_rate=0.1, with_bias=False, dtype=jnp.bfloat16
    )
    assert repr(attention) == (
        "MultiHeadAttention(num_heads=4, key_size=2, num_kv_heads=1, causal=True, window=3, rotary=True, "
        "dropout_rate=0.1, with_bias=False, dtype=bfloat16)"
    )


def test_sizes_are_attributes() -> None:
    attention = layer(num_kv_heads=2)
    assert (attention.num_heads, attention.key_size, attention.value_size, attention.model_size) == (4, 2, 2, 8)
    assert attention.key_projection.weight.shape == (8, 4)
    assert attention.num_kv_heads == 2


def test_without_bias_there_are_four_weights() -> None:
    assert len(jax.tree.leaves(layer(with_bias=False))) == 4


def test_all_weights_are_trained_and_nothing_else() -> None:
    attention = layer(causal=True, dropout_rate=0.5).init_cache(2, 4)
    assert len(jax.tree.leaves(attention)) == 8 + 1 + 3
    assert len(jax.tree.leaves(attention.parameters())) == 8


# ---- transformations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"causal": True, "window": 2, "rotary": True, "num_kv_heads": 2}])
def test_it_is_the_same_under_jit_vmap_and_scan(options: dict[str, Any]) -> None:
    attention, (x, _, _) = layer(**options), inputs()
    want = attention(x, x, x)
    np.testing.assert_allclose(jax.jit(lambda a, x: a(x, x, x))(attention, x), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: attention(x, x, x))(x), want, rtol=1e-5, atol=1e-6)
    _, scanned = jax.lax.scan(lambda _, x: (None, attention(x, x, x)), None, x)
    np.testing.assert_allclose(scanned, want, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    with x64():
        attention = layer(causal=True, rotary=True, num_kv_heads=2)
        x, direction, _ = inputs(4, MODEL, dtype=jnp.float64)

        @jax.jit
        def loss(scale: float) -> Any:
            y = x + scale * direction
            return (attention(y, y, y) ** 3).sum()

        numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(loss)(0.0), numeric, rtol=1e-7)
        np.testing.assert_allclose(jax.jvp(loss, (0.0,), (1.0,))[1], numeric, rtol=1e-7)


def test_two_layers_of_the_same_sizes_are_traced_once() -> None:
    call = TraceCounter(lambda attention, x: attention(x, x, x))
    x, _, _ = inputs()
    for _ in range(2):
        call(layer(causal=True, rotary=True), x)
    assert call.traces == 1


# ---- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_draws_a_new_key_in_each_call_in_train_mode() -> None:
    attention, (x, _, _) = layer(dropout_rate=0.5), inputs()
    first, y = pax.purecall(attention, x, x, x)
    second, z = pax.purecall(first, x, x, x)
    assert not jnp.allclose(y, z)
    assert first.rng_key is not None
    assert second.rng_key is not None
    assert not jnp.array_equal(jax.random.key_data(first.rng_key), jax.random.key_data(second.rng_key))


def test_dropout_drops_weights_at_its_rate_and_keeps_the_mean() -> None:
    attention = layer(dropout_rate=0.25, with_bias=False).map(
        lambda leaf: jnp.eye(MODEL) if leaf.ndim == 2 else leaf  # the key stays
    )
    key, value = jnp.zeros((1, 40_000, MODEL)), jnp.ones((1, 40_000, MODEL))
    _, y = pax.purecall(attention, key[:, :1], key, value)
    # The mean of 40,000 values 0 or 4/3 has a standard error of 0.003; each head has a mask of its own.
    np.testing.assert_allclose(y, 1, atol=0.015)
    assert len(set(np.asarray(y).ravel().tolist())) == HEADS


def test_dropout_in_eval_mode_and_at_rate_0_needs_no_key() -> None:
    x, _, _ = inputs()
    want = layer()(x, x, x)
    np.testing.assert_allclose(layer(dropout_rate=0.5).eval()(x, x, x), want, rtol=1e-5, atol=1e-6)
    assert layer().rng_key is None


def test_dropout_in_train_mode_needs_purecall() -> None:
    x, _, _ = inputs()
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        layer(dropout_rate=0.5)(x, x, x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_kv_heads", [None, 2])
def test_dropout_computes_explicitly_what_the_kernels_compute(masked: bool, num_kv_heads: int | None) -> None:
    # The smallest rate there is: nothing is dropped.
    attention = layer(dropout_rate=1e-30, causal=True, num_kv_heads=num_kv_heads)
    x, _, _ = inputs()
    mask = jnp.array([[0, 1, 1, 1, 1], [0, 0, 1, 1, 1]])[:, None, None] if masked else None
    want = reference(attention, x, x, x, mask)
    np.testing.assert_allclose(pax.purecall(attention, x, x, x, mask)[1], want, rtol=1e-4, atol=1e-5)


def test_dropout_draws_a_fifth_key() -> None:
    pax.seed_rng_key(5)
    attention = pax.nn.MultiHeadAttention(1, 2, 1.0, dropout_rate=0.5)
    pax.seed_rng_key(5)
    keys = [pax.next_rng_key() for _ in range(5)]
    np.testing.assert_array_equal(attention.rng_key, keys[4])
    key = layer(dropout_rate=0.5).rng_key
    assert key is not None
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


# ---- kernels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", [None, "xla"])
def test_the_implementation_is_that_of_jax(implementation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = jax.nn.dot_product_attention

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(jax.nn, "dot_product_attention", spy)
    # Sizes that no other test has: what is compiled already is not traced again.
    attention, (x, _, _) = layer(causal=True, window=3, implementation=implementation), inputs(1, 7, MODEL)
    attention(x, x, x)
    assert calls == [{"is_causal": True, "local_window_size": (2, 0), "implementation": implementation}]


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_heads": 0}, ArgumentError, "Expecting positive values for `num_heads`."),
        ({"key_size": 1.5}, ArgumentTypeError, "Expecting an integer for `key_size`."),
        ({"w_init_scale": 0.0}, ArgumentError, "Expecting a positive scale of the first weights."),
        ({"num_kv_heads": 3}, ArgumentError, "Expecting `num_heads` to be divisible by `num_kv_heads`."),
        ({"window": 0}, ArgumentError, "Expecting positive values for `window`."),
        ({"dropout_rate": 1.0}, ArgumentError, "Expecting a dropout rate in [0, 1)."),
        ({"rotary": True, "key_size": 3}, ArgumentError, "Rotary embeddings need an even number of features"),
        ({"rotary": True, "rotary_fraction": 0.0}, ArgumentError, "Expecting a fraction of rotary embeddings"),
        ({"rotary": True, "rotary_base": 0.0}, ArgumentError, "Expecting a positive base of rotary embeddings."),
        ({"implementation": "cuda"}, ArgumentError, "Implementation `cuda` is not supported."),
        ({"rng_key": 0}, ArgumentTypeError, "Expecting a PRNG key for `rng_key`."),
        ({"dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating dtype for `dtype`."),
        ({"param_dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating dtype for `param_dtype`."),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        layer(**options)
    assert str(caught.value).startswith(text)
    assert "\n  where: " in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "headline", "lines"),
    [
        (
            [(2, 5, 7), (2, 5, 8), (2, 5, 8)],
            "Expecting 8 features for `query`. Get 7 features.",
            ["got:   query=float32[2,5,7]", "want:  (..., length, 8), num_heads * key_size features"],
        ),
        ([(2, 5, 8), (2, 5, 8), (8,)], "Expecting 8 features for `value`. Get 1 axes.", ["got:   value=float32[8]"]),
        (
            [(2, 5, 8), (2, 5, 8), (2, 4, 8)],
            "The sizes of query, key and value do not fit together.",
            [
                "got:   query=float32[2,5,8], key=float32[2,5,8], value=float32[2,4,8]",
                "want:  the same leading axes, and the same length of key and value\n",
            ],
        ),
        ([(2, 5, 8), (3, 5, 8), (3, 5, 8)], "The sizes of query, key and value do not fit together.", []),
    ],
)
def test_inputs_are_checked(shapes: list[tuple[int, ...]], headline: str, lines: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer()(*map(jnp.ones, shapes))
    assert str(caught.value).startswith(headline + "\n  where: MultiHeadAttention\n")
    assert all(line in str(caught.value) + "\n" for line in lines)


def test_a_mask_of_another_shape_is_refused() -> None:
    x, _, _ = inputs()
    with pytest.raises(ArgumentError) as caught:
        layer()(x, x, x, jnp.ones((2, 5)))
    assert str(caught.value) == (
        "The mask cannot be broadcast to (..., num_heads, queries, keys).\n"
        "  where: MultiHeadAttention\n"
        "  got:   float32[2,5]\n"
        "  want:  a shape that broadcasts to (2, 4, 5, 5)\n"
        "  fix:   mask[:, None, None, :]   # if it is (batch, keys)"
    )


def test_a_mask_for_each_example_lacks_the_axis_of_the_heads() -> None:
    x, _, _ = inputs()
    with pytest.raises(ArgumentError, match=r"fix:   mask\[:, None\]   # if it is \(batch, queries, keys\)"):
        layer()(x, x, x, jnp.ones((2, 5, 5)))


@pytest.mark.parametrize("shape", [(3, 5), (2, 4), (4, 5, 3), (3, 5, 5)])
def test_no_axes_are_suggested_for_a_mask_of_a_wrong_length(shape: tuple[int, ...]) -> None:
    x, _, _ = inputs()
    with pytest.raises(ArgumentError, match=r"The mask cannot be broadcast") as caught:
        layer()(x, x, x, jnp.ones(shape))
    assert caught.value.fix is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("value", "text"), [(-np.inf, "negative"), (-1e4, "negative"), (np.nan, "NaN")])
def test_an_additive_mask_is_refused(value: float, text: str, dtype: Any) -> None:
    x, _, _ = inputs()
    mask = jnp.array([[0, 0, 0, 0, value]] * 2, dtype)[:, None, None]
    for call in (layer(), jax.jit(lambda x, _, __, mask=mask: layer()(x, x, x, mask))):
        with pytest.raises(ArgumentError) as caught:
            call(x, x, x, mask) if isinstance(call, pax.Module) else call(x, x, x)
        assert str(caught.value) == (
            "Expecting a mask that is not zero where to attend. Get an additive mask.\n"
            "  where: MultiHeadAttention\n"
            f"  got:   {jnp.dtype(dtype).name}[2,1,1,5] with values that are {text}\n"
            "  want:  booleans, true: attend; or numbers, zero: do not attend\n"
            "  fix:   mask == 0   # of a mask to add to the logits: 0 where to attend, -inf elsewhere"
        )


def test_the_values_of_a_traced_mask_are_not_looked_at() -> None:
    x, _, _ = inputs()
    attention = layer()
    mask = jnp.array([0.0, 0.0, -1.0, 2.0, 0.0])
    got = jax.jit(lambda mask: attention(x, x, x, mask))(mask)
    np.testing.assert_allclose(got, attention(x, x, x, mask != 0.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 1, 1, 5), (2, 3, 5, 5), (1, 2, 1, 1, 5, 5)])
def test_other_masks_are_refused(shape: tuple[int, ...]) -> None:
    x, _, _ = inputs()
    with pytest.raises(ArgumentError, match=r"The mask cannot be broadcast"):
        layer()(x, x, x, jnp.ones(shape))


def test_dropout_that_is_switched_on_later_needs_a_key() -> None:
    attention = pax.nn.MultiHeadAttention(1, 2, 1.0)
    x = jnp.ones((3, 2))
    with pytest.raises(ArgumentError, match="Dropout needs a key, and this attention was made without dropout."):
        pax.purecall(attention.replace(dropout_rate=0.5), x, x, x)
    attention = attention.replace(dropout_rate=0.5, rng_key=jax.random.key(0))
    changed, _ = pax.purecall(attention, x, x, x)
    assert changed.rng_key is not None
    assert bool(changed.rng_key != jax.random.key(0))


@pytest.mark.parametrize("what", ["w_init_scale", "rotary_base", "rotary_fraction", "dropout_rate"])
def test_options_that_are_no_numbers_are_refused(what: str) -> None:
    options: Any = {"w_init_scale": 1.0, what: "1"}
    with pytest.raises(ArgumentTypeError, match=f"Expecting a number for `{what}`.\n  where: MultiHeadAttention"):
        pax.nn.MultiHeadAttention(1, 2, **options)
