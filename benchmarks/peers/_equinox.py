"""Equinox, with ``jax.jit`` where its modules hold nothing but arrays and static fields, and with ``filter_jit``."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.peers._adam import AdamState, adam
from benchmarks.peers._library import BLOCK_KERNELS, Library, Pair, Program, Run, Step, Take, loss_of, repeated


class Conv(eqx.Module):
    weight: jax.Array
    kernel_size: int = eqx.field(static=True, default=1)
    padding: str = eqx.field(static=True, default="SAME")
    dilation: int | None = eqx.field(static=True, default=None)


class Average(eqx.Module):
    value: jax.Array
    momentum: float = eqx.field(static=True, default=0.9)


class Norm(eqx.Module):
    scale: jax.Array
    bias: jax.Array
    mean: Average
    variance: Average
    eps: float = eqx.field(static=True, default=1e-5)
    data_format: str = eqx.field(static=True, default="NHWC")


class Block(eqx.Module):
    conv0: Conv
    norm0: Norm
    conv1: Conv
    norm1: Norm
    conv2: Conv
    norm2: Norm
    projection: Conv | None
    projection_norm: Norm | None
    stride: int = eqx.field(static=True, default=1)


class Group(eqx.Module):
    blocks: list[Block]
    bottleneck: bool = eqx.field(static=True, default=True)


class ResNet(eqx.Module):
    conv: Conv
    norm: Norm
    groups: list[Group]
    head: Conv
    num_classes: int = eqx.field(static=True, default=1000)


class Layer(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    features: int = eqx.field(static=True)
    activation: str | None = eqx.field(static=True, default=None)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.weight + self.bias


class Stage(eqx.Module):
    layers: list[Layer]

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((layer(x) for layer in self.layers), jnp.zeros(()))


class Stages(eqx.Module):
    stages: list[Stage]

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((stage(x) for stage in self.stages), jnp.zeros(()))


class DenseLayer(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    features: int = eqx.field(static=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight + self.bias


class MLP(eqx.Module):
    layers: list[DenseLayer]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)


class Equinox(Library):
    name = "Equinox"
    distribution = "equinox"

    def resnet(self, take: Take, blocks: Sequence[int]) -> ResNet:
        groups = [Group([_block(take, first=index == 0) for index in range(number)]) for number in blocks]
        return ResNet(Conv(take(), 7), _norm(take), groups, Conv(take()))

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        return Stages([Stage([Layer(*pair, pair[0].size) for pair in pairs]) for pairs in stages]), Stages.__call__

    def mlp(self, layers: Sequence[Pair]) -> Program:
        return MLP([DenseLayer(weight, bias, weight.shape[-1]) for weight, bias in layers]), MLP.__call__

    def steps(self, stages: Callable[[], Sequence[Sequence[Pair]]], x: jax.Array) -> dict[str, Step]:
        model, run = self.stages(stages())
        filtered = repeated(_filtered_step(loss_of(run)), model, AdamState.of(model), x)
        return super().steps(stages, x) | {"Equinox, filter_jit": filtered}

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        tree = self.resnet(take(), blocks)
        weight = jnp.ones((1,))
        return super().operations(take, blocks) | {
            "parameters()": lambda: eqx.filter(tree, eqx.is_inexact_array),
            "replace(), one layer": lambda: eqx.tree_at(lambda layer: layer.weight, tree.head, weight),
            "replace_node(), one weight": lambda: eqx.tree_at(lambda root: root.head.weight, tree, weight),
        }


def _filtered_step(loss: Run) -> Callable[..., tuple[Stages, AdamState, jax.Array]]:
    @eqx.filter_jit(donate="all-except-first")
    def step(x: jax.Array, model: Stages, state: AdamState) -> tuple[Stages, AdamState, jax.Array]:
        value, gradients = eqx.filter_value_and_grad(loss)(model, x)
        model, state = adam(model, gradients, state)
        return model, state, value

    return lambda model, state, x: step(x, model, state)


def _norm(take: Take) -> Norm:
    return Norm(take(), take(), Average(take()), Average(take()))


def _block(take: Take, *, first: bool) -> Block:
    layers: dict[str, Any] = {"projection": None, "projection_norm": None}
    for index, kernel_size in enumerate(BLOCK_KERNELS):
        layers[f"conv{index}"] = Conv(take(), kernel_size)
        layers[f"norm{index}"] = _norm(take)
    if first:
        layers |= {"projection": Conv(take()), "projection_norm": _norm(take), "stride": 2}
    return Block(**layers)
