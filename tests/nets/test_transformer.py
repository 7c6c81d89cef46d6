"""pax.nets.Transformer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

DIM, HEADS, LENGTH = 8, 2, 4


def net(dropout_rate: float = 0.0, num_layers: int = 2, **options: Any) -> pax.nets.Transformer:
    return pax.nets.Transformer(DIM, HEADS, num_layers, dropout_rate, **{"rng_key": jax.random.key(0), **options})


def tokens(*batch: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (*batch, LENGTH, DIM))


def reference(transformer: pax.nets.Transformer, h: Any, mask: Any) -> np.ndarray:
    """The formulas, in float64 NumPy."""

    def linear(fc: Any, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x @ np.asarray(fc.weight, np.float64) + np.asarray(fc.bias, np.float64)
        return y

    def norm(layer: Any, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        y: np.ndarray = x * np.asarray(layer.scale, np.float64) + np.asarray(layer.offset, np.float64)
        return y

    def gelu(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return y

    def heads(x: np.ndarray) -> np.ndarray:
        return np.swapaxes(x.reshape(*x.shape[:-1], HEADS, -1), -2, -3)

    h = np.asarray(h, np.float64)
    visible = np.tri(LENGTH, dtype=bool) & (np.asarray(mask)[:, None, None] != 0)
    for layer in transformer.layers:
        x, attention = norm(layer["attn_layer_norm"], h), layer["attention"]
        q, k, v = (heads(linear(getattr(attention, f"{name}_projection"), x)) for name in ("query", "key", "value"))
        weights = np.exp(q @ np.swapaxes(k, -1, -2) / np.sqrt(DIM // HEADS)) * visible
        total = weights.sum(-1, keepdims=True)
        y = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ v
        h = h + linear(attention.output_projection, np.swapaxes(y, -2, -3).reshape(h.shape))
        block = layer["dense_block"]
        h = h + linear(block.fc2, gelu(linear(block.fc1, norm(layer["dense_layer_norm"], h))))
    return norm(transformer.layer_norm_output, h)


def test_seed_42_gives_the_reference_values() -> None:
    pax.seed_rng_key(42)
    transformer = pax.nets.Transformer(4, 2, 1, 0.0)
    y = transformer(jnp.arange(12.0).reshape(1, 3, 4) / 10)
    want = [0.3205895, 0.8242859, 0.5594611, -1.7043364]
    np.testing.assert_allclose(y, np.broadcast_to(want, (1, 3, 4)), rtol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.int32, jnp.float32])
def test_it_computes_the_formulas(dtype: Any) -> None:
    transformer, h = net(), tokens(2)
    mask = jnp.array([[0, 0, 1, 1], [1, 1, 1, 0]], dtype)
    np.testing.assert_allclose(transformer(h, mask), reference(transformer, h, mask), rtol=1e-4, atol=1e-5)
    no_mask = reference(transformer, h, np.ones((2, LENGTH)))
    np.testing.assert_allclose(transformer(h), no_mask, rtol=1e-4, atol=1e-5)


def test_keys_are_drawn_in_order() -> None:
    pax.seed_rng_key(7)
    transformer = pax.nets.Transformer(4, 2, 2, 0.1)
    after = pax.next_rng_key()
    pax.seed_rng_key(7)
    keys = [pax.next_rng_key() for _ in range(1 + 2 * 8 + 1 + 1)]
    np.testing.assert_array_equal(transformer.rng_seq._rng_key, keys[0])
    init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    for i, layer in enumerate(transformer.layers):
        query = pax.nn.Linear(4, 4, w_init=init, rng_key=keys[1 + 8 * i])
        fc2 = pax.nn.Linear(16, 4, w_init=init, rng_key=keys[8 + 8 * i])
        np.testing.assert_allclose(layer["attention"].query_projection.weight, query.weight, rtol=1e-6)
        np.testing.assert_allclose(layer["dense_block"].fc2.weight, fc2.weight, rtol=1e-6)
    np.testing.assert_array_equal(after, keys[-1])


def test_a_given_key_draws_nothing() -> None:
    pax.seed_rng_key(3)
    transformer = net()
    after = pax.next_rng_key()
    pax.seed_rng_key(3)
    np.testing.assert_array_equal(after, pax.next_rng_key())
    weights = [leaf for leaf in jax.tree.leaves(transformer.parameters()) if leaf.ndim == 2]
    assert len({np.asarray(leaf).tobytes() for leaf in weights}) == 12


def test_summary() -> None:
    linear = "Linear(in_dim={}, out_dim={}, with_bias=True)".format
    norm = "LayerNorm(num_channels=8, axis=(-1,), create_scale=True, create_offset=True)"
    assert net(num_layers=1).summary().split("\n") == [
        "Transformer",
        "├── RngSeq",
        "├── CausalSelfAttention(num_heads=2, key_size=4)",
        *(
            f"│   {mark} ({name}_proj) {linear(8, 8)}"
            for mark, name in zip(["├──", "├──", "├──", "└──"], ["qry", "key", "val", "out"], strict=True)
        ),
        f"├── {norm}",
        "├── DenseBlock",
        f"│   ├── {linear(8, 32)}",
        f"│   └── {linear(32, 8)}",
        f"├── {norm}",
        f"└── {norm}",
    ]


def test_attributes() -> None:
    transformer = net()
    assert [set(layer) for layer in transformer.layers] == [
        {"attention", "attn_layer_norm", "dense_layer_norm", "dense_block"}
    ] * 2
    assert isinstance(transformer.layers[0]["attention"], pax.nn.MultiHeadAttention)
    assert isinstance(transformer.rng_seq, pax.RngSeq)
    assert isinstance(transformer.layer_norm_output, pax.nn.LayerNorm)


def test_its_attention_takes_the_query_for_key_and_value() -> None:
    attention, h = net().layers[0]["attention"], tokens(2)
    np.testing.assert_array_equal(attention(h), attention(h, h, h))


# ---- masks -----------------------------------------------------------------------------------------------------------


def test_kd_55_left_padding_leaks_nothing_from_later_positions() -> None:
    transformer, h = net(), tokens(2)
    mask = jnp.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    changed = h.at[:, -1].set(9.0)
    before, after = transformer(h, mask), transformer(changed, mask)
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])


def test_padding_changes_nothing_at_real_positions() -> None:
    transformer, h = net(), tokens(2)
    mask = jnp.array([[0, 0, 1, 1], [1, 1, 1, 0]])
    changed = jnp.where(mask[..., None] == 0, jnp.array(9.0), h)
    real = np.asarray(mask) == 1
    got, want = np.asarray(transformer(changed, mask)), np.asarray(transformer(h, mask))
    np.testing.assert_array_equal(got[real], want[real])
    np.testing.assert_allclose(want[0, 2:], transformer(h[:1, 2:])[0], rtol=1e-4, atol=1e-5)


def test_a_sequence_of_padding_only_has_finite_values_and_gradients() -> None:
    transformer, h = net(), tokens(2)
    mask = jnp.zeros((2, LENGTH))
    gradients = jax.jit(pax.grad(lambda t: (t(h, mask) ** 2).sum()))(transformer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_no_position_sees_later_ones() -> None:
    transformer, h = net(), tokens(2)
    gradient = jax.jit(jax.grad(lambda h: transformer(h)[:, 1].sum()))(h)
    np.testing.assert_array_equal(gradient[:, 2:], jnp.zeros_like(gradient[:, 2:]))


# ---- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: net(0.0), lambda: net(0.5).eval()], ids=["rate 0", "eval"])
def test_kd_55_without_dropout_no_key_is_used_and_no_purecall_needed(make: Any) -> None:
    transformer, h = make(), tokens(2)
    y = transformer(h)
    updated, z = pax.purecall(transformer, h)
    np.testing.assert_array_equal(y, z)
    assert updated == transformer


def test_dropout_uses_two_keys_per_layer_and_needs_purecall() -> None:
    transformer, h = net(0.5), tokens(2)
    updated, y = pax.purecall(transformer, h)
    rng_seq, _ = pax.module_and_value(transformer.rng_seq.next_rng_key)(4)
    np.testing.assert_array_equal(jax.random.key_data(rng_seq._rng_key), jax.random.key_data(updated.rng_seq._rng_key))
    assert not jnp.allclose(y, pax.purecall(updated, h)[1])
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        transformer(h)


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (3, 2)])
def test_any_number_of_leading_axes(batch: tuple[int, ...]) -> None:
    transformer, h = net(), tokens(*batch)
    mask = jnp.ones((*batch, LENGTH)).at[..., 0].set(0)
    flat = transformer(h.reshape(-1, LENGTH, DIM), mask.reshape(-1, LENGTH))
    np.testing.assert_allclose(transformer(h, mask), flat.reshape(h.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"rotary": True, "window": 2, "num_kv_heads": 1}])
@pytest.mark.parametrize("padded", [False, True])
def test_decoding_token_by_token_is_the_full_forward_pass(options: dict[str, Any], padded: bool) -> None:
    transformer, h = net(**options), tokens(2)
    mask = jnp.array([[0, 0, 1, 1], [1, 1, 1, 1]]) if padded else None
    decoder, outputs = transformer.init_cache(2, LENGTH), []
    decode = jax.jit(pax.purecall)
    for new in (h[:, :2], h[:, 2:3], h[:, 3:]):
        decoder, y = decode(decoder, new, mask)
        outputs.append(y)
    np.testing.assert_allclose(np.concatenate(outputs, 1), transformer(h, mask), rtol=1e-4, atol=1e-5)


def test_remat_computes_the_same() -> None:
    h = tokens(2)
    value_and_grad = jax.jit(pax.value_and_grad(lambda t, h: (pax.purecall(t, h)[1] ** 2).sum()))
    results = [value_and_grad(net(0.5, remat=remat), h) for remat in (False, True)]
    for got, want in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_remat_keeps_less_for_the_backward_pass() -> None:
    def residuals(transformer: Any) -> int:
        _, vjp = jax.vjp(lambda h: transformer(h), tokens(2))
        return sum(leaf.size for leaf in jax.tree.leaves(vjp) if leaf.ndim > 2)

    assert residuals(net(remat=True)) < residuals(net()) / 2


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
def test_half_precision(option: str) -> None:
    options: dict[str, Any] = {option: jnp.bfloat16}
    transformer = net(**options)
    h = tokens(2).astype(jnp.float32 if option == "dtype" else jnp.bfloat16)
    y = transformer(h)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(transformer.parameters())} == {
        jnp.dtype(jnp.float32 if option == "dtype" else jnp.bfloat16)
    }
    # Values up to 3, with 8 bits each, through two layers.
    np.testing.assert_allclose(y.astype(jnp.float32), net()(tokens(2)), atol=0.15)


def test_layers_are_traced_once_whatever_their_number() -> None:
    calls = []
    original = jax.nn.gelu

    def gelu(x: Any, approximate: bool = True) -> Any:
        calls.append(x)
        return original(x, approximate=approximate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.nn, "gelu", gelu)
        jax.jit(lambda t, h: t(h)).trace(net(num_layers=5), jnp.ones((3, LENGTH, DIM)))
    assert len(calls) == 1


def test_a_layer_with_state_works_too() -> None:
    transformer, h = net(num_layers=1), tokens(2)
    old = transformer.layers[0]["attention"]
    attention = type(old)(HEADS, DIM // HEADS, 1.0, dropout_rate=0.5, rng_key=jax.random.key(0))
    transformer = transformer.replace(layers=[{**transformer.layers[0], "attention": attention}])
    updated, _ = pax.purecall(transformer, h)
    assert updated != transformer


def test_a_second_network_is_not_traced_again() -> None:
    call = TraceCounter(lambda transformer, h: pax.purecall(transformer, h)[1])
    for rng_key in jax.random.split(jax.random.key(0)):
        call(net(0.5, rng_key=rng_key), tokens(2))
    assert call.traces == 1


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((8, 2, 0, 0.0), ArgumentError, "Expecting positive values for `num_layers`."),
        ((0, 2, 1, 0.0), ArgumentError, "Expecting positive values for `dim`."),
        ((8, 0, 1, 0.0), ArgumentError, "Expecting positive values for `num_heads`."),
        ((8, 2, 1.5, 0.0), ArgumentTypeError, "Expecting an integer for `num_layers`."),
        ((8, 3, 1, 0.0), ArgumentError, "Expecting `dim` to be divisible by `num_heads`."),
        ((8, 2, 1, 1.0), ArgumentError, "Expecting a dropout rate in [0, 1)."),
    ],
)
def test_kd_55_arguments_are_checked_at_construction(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.nets.Transformer(*arguments)
    assert str(caught.value).startswith(f"{text}\n  where: Transformer\n")


@pytest.mark.parametrize(
    ("h", "mask", "headline", "line"),
    [
        (jnp.ones((2, 4, 7)), None, "Expecting 8 features. Get 7 features.", "want:  (B, T, 8)"),
        (jnp.ones(8), None, "Expecting an input with at least 2 axes. Get 1 axes.", "want:  (B, T, 8)"),
        (jnp.ones((2, 4, 8)), jnp.ones(4), "The mask does not fit the input.", "each position: (2, 4)"),
        (jnp.ones((2, 4, 8)), jnp.ones((2, 3)), "The mask does not fit the input.", "each position: (2, 4)"),
        (
            jnp.ones((2, 4, 8)),
            jnp.array([[0, 0, 0, -jnp.inf]] * 2),
            "Expecting a mask that is not zero where to attend. Get an additive mask.",
            "fix:   mask == 0",
        ),
    ],
)
def test_inputs_are_checked(h: Any, mask: Any, headline: str, line: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        net()(h, mask)
    assert str(caught.value).startswith(f"{headline}\n  where: Transformer\n")
    assert line in str(caught.value)
