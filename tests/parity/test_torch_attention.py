"""The same numbers as PyTorch's attention, forward and backward, from the same weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax

torch = pytest.importorskip("torch")

HEADS, SIZE = 4, 8
MODEL = HEADS * SIZE
# float32, sums of about a hundred terms of size 1, in another order.
TOLERANCES: Any = {"rtol": 1e-4, "atol": 2e-5}


def _to_torch(x: Any, gradient: bool = True) -> Any:
    return torch.tensor(np.asarray(x), requires_grad=gradient)


def _inputs(queries: int = 5, keys: int = 5) -> list[jax.Array]:
    lengths = (queries, keys, keys)
    return [
        jax.random.normal(key, (2, length, MODEL))
        for key, length in zip(jax.random.split(jax.random.key(1), 3), lengths, strict=True)
    ]


def _torch_layer(attention: pax.nn.MultiHeadAttention) -> Any:
    layer = torch.nn.MultiheadAttention(MODEL, HEADS, batch_first=True)
    projections = [getattr(attention, f"{name}_projection") for name in ("query", "key", "value")]
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.tensor(np.concatenate([fc.weight.T for fc in projections])))
        layer.in_proj_bias.copy_(torch.tensor(np.concatenate([fc.bias for fc in projections])))
        layer.out_proj.weight.copy_(torch.tensor(np.asarray(attention.output_projection.weight.T)))
        layer.out_proj.bias.copy_(torch.tensor(np.asarray(attention.output_projection.bias)))
    return layer


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 6)])
@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_attention(queries: int, keys: int, masked: bool) -> None:
    attention = pax.nn.MultiHeadAttention(HEADS, SIZE, 1.0, rng_key=jax.random.key(0))
    arrays = _inputs(queries, keys)
    mask = jax.random.bernoulli(jax.random.key(2), 0.6, (queries, keys)).at[:, 0].set(True) if masked else None

    def loss(attention: Any, arrays: Any) -> Any:
        y = attention(*arrays, mask)
        return (y**3).sum(), y

    (gradients, array_gradients), y = jax.grad(loss, argnums=(0, 1), has_aux=True)(attention, arrays)
    layer = _torch_layer(attention)
    tensors = [_to_torch(array) for array in arrays]
    # In PyTorch true means: do not attend.
    hidden = None if mask is None else torch.tensor(~np.asarray(mask))
    want, _ = layer(*tensors, attn_mask=hidden, need_weights=False)
    (want**3).sum().backward()

    np.testing.assert_allclose(y, want.detach().numpy(), **TOLERANCES)
    for got, tensor in zip(array_gradients, tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), **TOLERANCES)
    weights = np.split(layer.in_proj_weight.grad.numpy(), 3)
    biases = np.split(layer.in_proj_bias.grad.numpy(), 3)
    weights.append(layer.out_proj.weight.grad.numpy())
    biases.append(layer.out_proj.bias.grad.numpy())
    for name, weight, bias in zip(("query", "key", "value", "output"), weights, biases, strict=True):
        fc = getattr(gradients, f"{name}_projection")
        np.testing.assert_allclose(fc.weight, weight.T, **TOLERANCES)
        np.testing.assert_allclose(fc.bias, bias, **TOLERANCES)


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_scaled_dot_product_attention_in_groups(num_kv_heads: int, masked: bool) -> None:
    # Identity projections: what is left is the attention itself, causal and with groups of heads.
    attention = pax.nn.MultiHeadAttention(
        HEADS, SIZE, 1.0, causal=True, num_kv_heads=num_kv_heads, with_bias=False, rng_key=jax.random.key(0)
    ).map(lambda leaf: jnp.eye(*leaf.shape))
    arrays = _inputs()
    # Left padding; not of the first position, for which PyTorch gives NaN.
    mask = jnp.ones((2, 1, 1, 5), jnp.bool_).at[0, ..., 1:3].set(False) if masked else None
    y, vjp = jax.vjp(lambda q, k, v: attention(q, k, v, mask), *arrays)
    cotangent = jax.random.normal(jax.random.key(3), y.shape)

    tensors = [_to_torch(array) for array in arrays]
    heads = [tensors[0].reshape(2, 5, HEADS, SIZE).transpose(1, 2)]
    heads += [x[..., : num_kv_heads * SIZE].reshape(2, 5, num_kv_heads, SIZE).transpose(1, 2) for x in tensors[1:]]
    causal = np.tri(5, dtype=bool) & (np.ones((2, 1, 1, 5), bool) if mask is None else np.asarray(mask))
    want = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=torch.tensor(causal), enable_gqa=True)
    want = want.transpose(1, 2).reshape(2, 5, MODEL)
    want.backward(torch.tensor(np.asarray(cotangent)))

    np.testing.assert_allclose(y, want.detach().numpy(), **TOLERANCES)
    for got, tensor in zip(vjp(cotangent), tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), **TOLERANCES)
