"""Flax NNX: modules with mutable variables, which are taken apart outside of ``jit`` and put together inside."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.models._network import DECAY, EPS, Models, Network, Weights
from benchmarks.models._weights import GROUPS


class MLP(nnx.Module):
    def __init__(self, weights: Weights) -> None:
        self.layers = nnx.List([_linear(layer) for layer in weights])

    def __call__(self, x: jax.Array) -> jax.Array:
        *inner, last = self.layers
        for layer in inner:
            x = nnx.relu(layer(x))
        return last(x)


class Block(nnx.Module):
    def __init__(self, p: Any, num_heads: int) -> None:
        width = p["fc1"]["weight"].shape[0]
        self.norm1 = _layer_norm(p["norm1"])
        self.attention = nnx.MultiHeadAttention(num_heads, width, decode=False, rngs=nnx.Rngs(0))
        _fill_attention(self.attention, p["attention"])
        self.norm2 = _layer_norm(p["norm2"])
        self.fc1 = _linear(p["fc1"])
        self.fc2 = _linear(p["fc2"])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x))))


class Transformer(nnx.Module):
    def __init__(self, weights: Weights, num_heads: int) -> None:
        self.layers = nnx.List([Block(p, num_heads) for p in weights["layers"]])
        self.norm = _layer_norm(weights["norm"])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class ConvNorm(nnx.Module):
    def __init__(self, kernel: jax.Array, p: Any, stride: int, padding: int) -> None:
        size, _, inputs, outputs = kernel.shape
        pads = [(padding, padding)] * 2
        self.conv = nnx.Conv(inputs, outputs, (size, size), stride, padding=pads, use_bias=False, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(outputs, momentum=DECAY, epsilon=EPS, rngs=nnx.Rngs(0))
        _fill(self.conv, kernel=kernel)
        _fill(self.norm, scale=p["scale"], bias=p["offset"])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class ResNetBlock(nnx.Module):
    def __init__(self, p: Any, stride: int) -> None:
        self.layer1 = ConvNorm(p["conv1"], p["norm1"], stride, 1)
        self.layer2 = ConvNorm(p["conv2"], p["norm2"], 1, 1)
        self.projection = ConvNorm(p["proj_conv"], p["proj_norm"], stride, 0) if "proj_conv" in p else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layer2(nnx.relu(self.layer1(x)))
        return nnx.relu(y + (x if self.projection is None else self.projection(x)))


class ResNet(nnx.Module):
    def __init__(self, weights: Weights) -> None:
        self.start = ConvNorm(weights["conv"], weights["norm"], 2, 3)
        self.blocks = nnx.List(
            [
                ResNetBlock(p, stride if index == 0 else 1)
                for group, (_, stride) in zip(weights["groups"], GROUPS, strict=True)
                for index, p in enumerate(group)
            ]
        )
        self.logits = _linear(weights["logits"])

    def __call__(self, x: jax.Array) -> jax.Array:
        max_pool: Any = nnx.max_pool
        x = max_pool(nnx.relu(self.start(x)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.logits(jnp.mean(x, (1, 2)))


class Nnx(Models):
    name = "Flax NNX"

    def mlp(self, weights: Weights) -> Network:
        return _network(MLP(weights))

    def transformer(self, weights: Weights, num_heads: int) -> Network:
        return _network(Transformer(weights, num_heads))

    def resnet(self, weights: Weights) -> Network:
        return _network(ResNet(weights))._replace(channels_last=True)


def _network(model: Any) -> Network:
    split: Any = nnx.split(model, nnx.Param, ...)
    structure, params, rest = split

    def run(params: Any, rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        model = nnx.merge(structure, params, rest, copy=True)  # made within this trace, so it may change
        y = model(x)
        return y, nnx.state(model, nnx.Not(nnx.Param))

    return Network(params, rest, run)


def _fill(module: Any, **arrays: jax.Array) -> None:
    for name, array in arrays.items():
        variable = getattr(module, name)
        setattr(module, name, type(variable)(array.reshape(variable.shape)))


def _linear(p: Any) -> nnx.Linear:
    linear = nnx.Linear(p["weight"].shape[0], p["weight"].shape[1], rngs=nnx.Rngs(0))
    _fill(linear, kernel=p["weight"], bias=p["bias"])
    return linear


def _layer_norm(p: Any) -> nnx.LayerNorm:
    norm = nnx.LayerNorm(p["scale"].size, epsilon=EPS, rngs=nnx.Rngs(0))
    _fill(norm, scale=p["scale"], bias=p["offset"])
    return norm


def _fill_attention(attention: nnx.MultiHeadAttention, p: Any) -> None:
    for name in ("query", "key", "value"):
        _fill(getattr(attention, name), kernel=p[name]["weight"], bias=p[name]["bias"])
    _fill(attention.out, kernel=p["output"]["weight"], bias=p["output"]["bias"])
