"""Plain JAX, as one writes it without a library: functions of nested dictionaries. The reference of the ratios."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models._network import DECAY, EPS, Models, Network, Weights
from benchmarks.models._weights import GROUPS, resnet_averages

LayerNorm = Callable[[dict[str, jax.Array], jax.Array], jax.Array]
Pads = str | list[tuple[int, int]]


class Plain(Models):
    name = "plain JAX"

    def mlp(self, weights: Weights) -> Network:
        return Network(weights, None, lambda params, rest, x: (run_mlp(params, x), rest))

    def transformer(self, weights: Weights, num_heads: int) -> Network:
        return transformer_with(layer_norm, weights, num_heads)

    def resnet(self, weights: Weights) -> Network:
        return Network(weights, resnet_averages(weights), functools.partial(run_resnet, layout="NCHW"))

    def more(self, kind: str, network: Callable[[Models], Network]) -> dict[str, Network]:
        if kind != "resnet":
            return {}
        run = functools.partial(run_resnet, layout="NHWC")
        return {"plain JAX, NHWC": network(self)._replace(run=run, channels_last=True)}


def dense(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ p["weight"] + p["bias"]


def run_mlp(params: list[Any], x: jax.Array) -> jax.Array:
    *inner, last = params
    for layer in inner:
        x = jax.nn.relu(dense(layer, x))
    return dense(last, x)


def layer_norm(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.var(x, -1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + EPS) * p["scale"] + p["offset"]


def transformer_with(norm: LayerNorm, weights: Weights, num_heads: int) -> Network:
    """Returns the transformer with another way to compute layer normalization."""
    return Network(weights, None, lambda params, rest, x: (run_transformer(params, x, num_heads, norm), rest))


def run_transformer(params: Any, x: jax.Array, num_heads: int, norm: LayerNorm = layer_norm) -> jax.Array:
    for layer in params["layers"]:
        x = transformer_layer(layer, x, num_heads, norm)
    return norm(params["norm"], x)


def transformer_layer(layer: Any, x: jax.Array, num_heads: int, norm: LayerNorm = layer_norm) -> jax.Array:
    x = x + attention(layer["attention"], norm(layer["norm1"], x), num_heads)
    y = jax.nn.gelu(dense(layer["fc1"], norm(layer["norm2"], x)))
    return x + dense(layer["fc2"], y)


def attention(p: Any, x: jax.Array, num_heads: int) -> jax.Array:
    batch, length, width = x.shape
    heads = (batch, length, num_heads, width // num_heads)
    query, key, value = (dense(p[name], x).reshape(heads) for name in ("query", "key", "value"))
    logits = jnp.einsum("bthd,bshd->bhts", query, key) / jnp.sqrt(width // num_heads).astype(x.dtype)
    causal = jnp.tril(jnp.ones((length, length), bool))
    attended = jax.nn.softmax(jnp.where(causal, logits, -1e30))
    y = jnp.einsum("bhts,bshd->bthd", attended, value).reshape(x.shape)
    return dense(p["output"], y)


def run_resnet(params: Any, averages: Any, x: jax.Array, *, layout: str) -> tuple[jax.Array, Any]:
    new: dict[str, Any] = {"groups": []}
    x = _conv(params["conv"], x, 2, [(3, 3), (3, 3)], layout)
    x, new["norm"] = _batch_norm(params["norm"], averages["norm"], x, layout)
    x = jax.nn.relu(x)
    window, strides = (tuple(size if letter in "HW" else 1 for letter in layout) for size in (3, 2))
    pads = [(1, 1) if letter in "HW" else (0, 0) for letter in layout]
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)
    for group, group_averages, (_, stride) in zip(params["groups"], averages["groups"], GROUPS, strict=True):
        new_group = []
        for index, (block, old) in enumerate(zip(group, group_averages, strict=True)):
            x, changed = _block(block, old, x, stride if index == 0 else 1, layout)
            new_group.append(changed)
        new["groups"].append(new_group)
    return dense(params["logits"], jnp.mean(x, (layout.index("H"), layout.index("W")))), new


def _block(p: Any, old: Any, x: jax.Array, stride: int, layout: str) -> tuple[jax.Array, Any]:
    new = {}
    shortcut = x
    if "proj_conv" in p:
        shortcut = _conv(p["proj_conv"], x, stride, "VALID", layout)
        shortcut, new["proj_norm"] = _batch_norm(p["proj_norm"], old["proj_norm"], shortcut, layout)
    x = _conv(p["conv1"], x, stride, [(1, 1), (1, 1)], layout)
    x, new["norm1"] = _batch_norm(p["norm1"], old["norm1"], x, layout)
    x = _conv(p["conv2"], jax.nn.relu(x), 1, [(1, 1), (1, 1)], layout)
    x, new["norm2"] = _batch_norm(p["norm2"], old["norm2"], x, layout)
    return jax.nn.relu(x + shortcut), new


def _conv(kernel: jax.Array, x: jax.Array, stride: int, padding: Pads, layout: str) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=(layout, "HWIO", layout)
    )


def _batch_norm(p: Any, old: Any, x: jax.Array, layout: str) -> tuple[jax.Array, Any]:
    axes = tuple(axis for axis, letter in enumerate(layout) if letter != "C")
    mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
    shape = [-1 if letter == "C" else 1 for letter in layout]
    scale, offset = p["scale"].reshape(shape), p["offset"].reshape(shape)
    y = (x - mean.reshape(shape)) / jnp.sqrt(variance.reshape(shape) + EPS) * scale + offset
    new = {"mean": mean, "variance": variance}
    return y, {name: DECAY * old[name] + (1 - DECAY) * new[name] for name in old}
