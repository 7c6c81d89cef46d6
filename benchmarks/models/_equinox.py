"""Equinox: its layers take one example, ``jax.vmap`` makes batches of them."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.models._network import DECAY, EPS, Models, Network, Weights
from benchmarks.models._weights import GROUPS

_KEY = jax.random.PRNGKey(0)


class MLP(eqx.Module):
    layers: list[eqx.nn.Linear]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        y = jax.vmap(self.fc1)(jax.vmap(self.norm2)(x))
        return x + jax.vmap(self.fc2)(jax.nn.gelu(y))


class Transformer(eqx.Module):
    layers: list[Block]
    norm: eqx.nn.LayerNorm

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return jax.vmap(self.norm)(x)


class ConvNorm(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        return self.norm(self.conv(x), state)


class ResNetBlock(eqx.Module):
    layer1: ConvNorm
    layer2: ConvNorm
    projection: ConvNorm | None

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        y, state = self.layer1(x, state)
        y, state = self.layer2(jax.nn.relu(y), state)
        if self.projection is not None:
            x, state = self.projection(x, state)
        return jax.nn.relu(x + y), state


class ResNet(eqx.Module):
    start: ConvNorm
    pool: eqx.nn.MaxPool2d
    blocks: list[ResNetBlock]
    logits: eqx.nn.Linear

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.start(x, state)
        x = self.pool(jax.nn.relu(x))
        for block in self.blocks:
            x, state = block(x, state)
        return self.logits(jnp.mean(x, (1, 2))), state


class Equinox(Models):
    name = "Equinox"

    def mlp(self, weights: Weights) -> Network:
        return _network(MLP([_linear(layer) for layer in weights]))

    def transformer(self, weights: Weights, num_heads: int) -> Network:
        layers = [
            Block(
                _layer_norm(p["norm1"]),
                _attention(p["attention"], num_heads),
                _layer_norm(p["norm2"]),
                _linear(p["fc1"]),
                _linear(p["fc2"]),
            )
            for p in weights["layers"]
        ]
        return _network(Transformer(layers, _layer_norm(weights["norm"])))

    def resnet(self, weights: Weights) -> Network:
        blocks = []
        for group, (_, stride) in zip(weights["groups"], GROUPS, strict=True):
            for index, p in enumerate(group):
                step = stride if index == 0 else 1
                layer1 = _conv_norm(p["conv1"], p["norm1"], step, 1)
                layer2 = _conv_norm(p["conv2"], p["norm2"], 1, 1)
                projection = _conv_norm(p["proj_conv"], p["proj_norm"], step, 0) if "proj_conv" in p else None
                blocks.append(ResNetBlock(layer1, layer2, projection))
        start = _conv_norm(weights["conv"], weights["norm"], 2, 3)
        model = ResNet(start, eqx.nn.MaxPool2d(3, 2, 1), blocks, _linear(weights["logits"]))
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def run(params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            model = eqx.combine(params, static)
            batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
            return batched(x, state)

        return Network(params, eqx.nn.State(model), run)


def _network(model: Any) -> Network:
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return Network(params, None, lambda params, rest, x: (jax.vmap(eqx.combine(params, static))(x), rest))


def _with(module: Any, **arrays: Any) -> Any:
    names = list(arrays)
    return eqx.tree_at(lambda module: [getattr(module, name) for name in names], module, list(arrays.values()))


def _linear(p: Any) -> eqx.nn.Linear:
    weight = p["weight"].T
    return _with(eqx.nn.Linear(weight.shape[1], weight.shape[0], key=_KEY), weight=weight, bias=p["bias"])


def _layer_norm(p: Any) -> eqx.nn.LayerNorm:
    return _with(eqx.nn.LayerNorm(p["scale"].shape, EPS), weight=p["scale"], bias=p["offset"])


def _attention(p: Any, num_heads: int) -> eqx.nn.MultiheadAttention:
    width = p["query"]["bias"].size
    biases: dict[str, Any] = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
    attention = eqx.nn.MultiheadAttention(num_heads, width, **biases, key=_KEY)
    return _with(attention, **{f"{name}_proj": _linear(p[name]) for name in ("query", "key", "value", "output")})


def _conv_norm(kernel: jax.Array, p: Any, stride: int, padding: int) -> ConvNorm:
    size, _, inputs, outputs = kernel.shape
    conv = eqx.nn.Conv2d(inputs, outputs, size, stride, padding, use_bias=False, key=_KEY)
    norm = eqx.nn.BatchNorm(outputs, "batch", EPS, momentum=DECAY, mode="batch")
    return ConvNorm(_with(conv, weight=kernel.transpose(3, 2, 0, 1)), _with(norm, weight=p["scale"], bias=p["offset"]))
