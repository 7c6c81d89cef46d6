"""Attention. PyTorch's boolean masks say what is hidden, all others what is seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pax
from parity.case import Case, haiku, nnx, normal, torch
from parity.peers import haiku_layer, nnx_layer, torch_layer

_HEADS, _SIZE = 2, 4
_MODEL = _HEADS * _SIZE
_QUERIES, _KEYS = 3, 5
# Every query sees something: what a query gets that sees nothing differs between libraries.
_MASK = (
    np.array([[[1, 0, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], [[1] * 5, [0, 1, 1, 1, 1], [0, 1, 0, 1, 0]]]) == 1
)


def _make(**options: Any) -> Any:
    return lambda: pax.nn.MultiHeadAttention(_HEADS, _SIZE, 1.0, rng_key=jax.random.key(3), **options)


def _inputs() -> tuple[Any, ...]:
    return (normal(2, _QUERIES, _MODEL), normal(2, _KEYS, _MODEL, seed=1), normal(2, _KEYS, _MODEL, seed=2))


def _masked(module: Any, query: Any, key: Any, value: Any) -> Any:
    return module(query, key, value, mask=_MASK[:, None])


def _torch(mask: Any) -> Any:
    def theirs(w: Any, query: Any, key: Any, value: Any) -> Any:
        layer = torch.nn.MultiheadAttention(_MODEL, _HEADS, batch_first=True)
        parts = [f"{name}_projection" for name in ("query", "key", "value")]
        weights = {
            "in_proj_weight": torch.cat([w[f"{part}.weight"].T for part in parts]),
            "in_proj_bias": torch.cat([w[f"{part}.bias"] for part in parts]),
            "out_proj.weight": w["output_projection.weight"].T,
            "out_proj.bias": w["output_projection.bias"],
        }
        hidden = None if mask is None else torch.tensor(~np.repeat(mask, _HEADS, axis=0))
        layer = layer.to(query.dtype)
        return torch.func.functional_call(layer, weights, (query, key, value), {"attn_mask": hidden})[0]

    return theirs


def _haiku(mask: Any) -> Any:
    def call(query: Any, key: Any, value: Any) -> Any:
        layer = haiku.MultiHeadAttention(_HEADS, _SIZE, model_size=_MODEL, w_init=jax.nn.initializers.zeros)
        return layer(query, key, value, mask=None if mask is None else mask[:, None])

    def theirs(w: Any, *inputs: Any) -> Any:
        names = {"query": "query", "key": "key", "value": "value", "linear": "output"}
        weights = {
            f"multi_head_attention/{there}": {"w": w[f"{here}_projection.weight"], "b": w[f"{here}_projection.bias"]}
            for there, here in names.items()
        }
        return haiku_layer(call, weights, *inputs)

    return theirs


def _nnx(mask: Any) -> Any:
    def theirs(w: Any, query: Any, key: Any, value: Any) -> Any:
        weights = {}
        for name in ("query", "key", "value"):
            weights[f"{name}.kernel"] = w[f"{name}_projection.weight"].reshape(_MODEL, _HEADS, _SIZE)
            weights[f"{name}.bias"] = w[f"{name}_projection.bias"].reshape(_HEADS, _SIZE)
        weights["out.kernel"] = w["output_projection.weight"].reshape(_HEADS, _SIZE, _MODEL)
        weights["out.bias"] = w["output_projection.bias"]
        options: Any = {"deterministic": True, "decode": False}
        layer = nnx_layer(lambda rngs: nnx.MultiHeadAttention(_HEADS, _MODEL, **options, rngs=rngs), weights)
        return layer(query, key, value, mask=None if mask is None else jnp.asarray(mask[:, None]))

    return theirs


_PEERS = {"PyTorch": _torch, "Haiku": _haiku, "Flax NNX": _nnx}
# Flax takes the softmax of float64 in float32.
_TOLERANCES = {"Flax NNX": {"float64": 1e-6}}
_PLAIN = [
    Case(
        "pax.nn.MultiHeadAttention",
        peer,
        _make(),
        theirs(None),
        _inputs,
        tolerances=_TOLERANCES.get(peer),
    )
    for peer, theirs in _PEERS.items()
]
_WITH_MASK = [
    Case(
        "pax.nn.MultiHeadAttention",
        peer,
        _make(),
        theirs(_MASK),
        _inputs,
        _masked,
        variant="mask",
        tolerances=_TOLERANCES.get(peer),
    )
    for peer, theirs in _PEERS.items()
]


# ---- what only PyTorch's function has --------------------------------------------------------------------------------


def _self_attention(module: Any, x: Any) -> Any:
    return module(x, x, x)


def _torch_function(w: Any, x: Any, kv_heads: int, **options: Any) -> Any:
    def heads(name: str, number: int) -> Any:
        part = torch_layer(
            torch.nn.Linear(_MODEL, number * _SIZE),
            {"weight": w[f"{name}_projection.weight"].T, "bias": w[f"{name}_projection.bias"]},
            x,
        )
        return part.unflatten(-1, (number, _SIZE)).transpose(1, 2)

    function = torch.nn.functional.scaled_dot_product_attention
    parts = heads("query", _HEADS), heads("key", kv_heads), heads("value", kv_heads)
    y = function(*parts, enable_gqa=True, **options).transpose(1, 2).flatten(-2)
    return y @ w["output_projection.weight"] + w["output_projection.bias"]


def _torch_window(w: Any, x: Any) -> Any:
    distance = torch.arange(6)[:, None] - torch.arange(6)
    return _torch_function(w, x, _HEADS, attn_mask=(distance >= 0) & (distance < 3))


_OPTIONS = [
    Case(
        "pax.nn.MultiHeadAttention",
        "PyTorch",
        _make(causal=True, num_kv_heads=1),
        lambda w, x: _torch_function(w, x, 1, is_causal=True),
        lambda: (normal(2, 6, _MODEL),),
        _self_attention,
        variant="causal, one head of keys",
    ),
    Case(
        "pax.nn.MultiHeadAttention",
        "PyTorch",
        _make(causal=True, window=3),
        _torch_window,
        lambda: (normal(2, 6, _MODEL),),
        _self_attention,
        variant="causal, window",
    ),
]

CASES = [*_PLAIN, *_WITH_MASK, *_OPTIONS]
EXCUSED = {
    "pax.nn.init_cache": "has no maths; tests/nn compares decoding with the forward pass",
    "pax.nn.KVCache": "has no maths; tests/nn compares decoding with the forward pass",
    "pax.nn.rotary_embedding": "no peer has such a function; tests/nn has the formula",
}
