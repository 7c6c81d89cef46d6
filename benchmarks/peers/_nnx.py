"""Flax NNX. Its modules are pytrees: that is much cheaper than ``nnx.split``, and what ``trees`` measures."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.peers._adam import LEARNING_RATE, AdamState
from benchmarks.peers._library import (
    BLOCK_KERNELS,
    Library,
    Pair,
    Program,
    Step,
    Take,
    compiled_step,
    loss_of,
    repeated,
)


class Conv(nnx.Module):
    def __init__(self, take: Take, kernel_size: int = 1, padding: str = "SAME") -> None:
        self.weight = nnx.Param(take())
        self.kernel_size = kernel_size
        self.padding = padding
        self.dilation = None


class Average(nnx.Module):
    def __init__(self, take: Take, momentum: float = 0.9) -> None:
        self.value = nnx.BatchStat(take())
        self.momentum = momentum


class Norm(nnx.Module):
    def __init__(self, take: Take, eps: float = 1e-5, data_format: str = "NHWC") -> None:
        self.scale = nnx.Param(take())
        self.bias = nnx.Param(take())
        self.mean = Average(take)
        self.variance = Average(take)
        self.eps = eps
        self.data_format = data_format
        self.use_running_average = False


class Block(nnx.Module):
    def __init__(self, take: Take, *, first: bool) -> None:
        for index, kernel_size in enumerate(BLOCK_KERNELS):
            setattr(self, f"conv{index}", Conv(take, kernel_size))
            setattr(self, f"norm{index}", Norm(take))
        self.stride = 2 if first else 1
        self.projection = Conv(take) if first else None
        self.projection_norm = Norm(take) if first else None


class Group(nnx.Module):
    def __init__(self, take: Take, number: int) -> None:
        self.blocks = nnx.List([Block(take, first=index == 0) for index in range(number)])
        self.bottleneck = True


class ResNet(nnx.Module):
    def __init__(self, take: Take, blocks: Sequence[int]) -> None:
        self.conv = Conv(take, 7)
        self.norm = Norm(take)
        self.groups = nnx.List([Group(take, number) for number in blocks])
        self.head = Conv(take)
        self.num_classes = 1000


class Layer(nnx.Module):
    def __init__(self, weight: jax.Array, bias: jax.Array, activation: str | None = None) -> None:
        self.weight = nnx.Param(weight)
        self.bias = nnx.Param(bias)
        self.features = weight.size
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.weight[...] + self.bias[...]


class Stage(nnx.Module):
    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.layers = nnx.List([Layer(weight, bias) for weight, bias in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((layer(x) for layer in self.layers), jnp.zeros(()))


class Stages(nnx.Module):
    def __init__(self, stages: Sequence[Sequence[Pair]]) -> None:
        self.stages = nnx.List([Stage(pairs) for pairs in stages])

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((stage(x) for stage in self.stages), jnp.zeros(()))


class DenseLayer(nnx.Module):
    def __init__(self, weight: jax.Array, bias: jax.Array) -> None:
        self.weight = nnx.Param(weight)
        self.bias = nnx.Param(bias)
        self.features = weight.shape[-1]

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...] + self.bias[...]


class MLP(nnx.Module):
    def __init__(self, layers: Sequence[Pair]) -> None:
        self.layers = nnx.List([DenseLayer(weight, bias) for weight, bias in layers])

    def __call__(self, x: jax.Array) -> jax.Array:
        *inner, last = self.layers
        for layer in inner:
            x = jnp.tanh(layer(x))
        return last(x)


class Nnx(Library):
    name = "Flax NNX"
    distribution = "flax"

    def resnet(self, take: Take, blocks: Sequence[int]) -> ResNet:
        return ResNet(take, blocks)

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        return Stages(stages), Stages.__call__

    def mlp(self, layers: Sequence[Pair]) -> Program:
        return MLP(layers), MLP.__call__

    def steps(self, stages: Callable[[], Sequence[Sequence[Pair]]], x: jax.Array) -> dict[str, Step]:
        return {"Flax NNX": _object_step(Stages(stages()), x), "Flax NNX, split": _split_step(Stages(stages()), x)}

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        tree = self.resnet(take(), blocks)
        return {
            "construction": lambda: self.resnet(take(), blocks),
            "copy()": lambda: nnx.clone(tree),
            "eval()": tree.eval,
            "parameters()": lambda: nnx.state(tree, nnx.Param),
        }

    def jit(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        compiled: Callable[[Any], Any] = nnx.jit(function)
        return compiled

    def switched(self, tree: ResNet, training: bool) -> ResNet:
        change: Callable[[], None] = tree.train if training else tree.eval
        change()
        return tree


def _object_step(model: Stages, x: jax.Array) -> Step:
    """The step as the documentation of Flax has it: ``nnx.jit``, and an optimizer that changes the model in place."""
    loss = loss_of(Stages.__call__)
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model: Stages, optimizer: nnx.Optimizer[Stages], x: jax.Array) -> jax.Array:
        value, gradients = nnx.value_and_grad(loss)(model, x)
        optimizer.update(model, gradients)
        return cast(jax.Array, value)

    return lambda: step(model, optimizer, x).block_until_ready()


def _split_step(model: Stages, x: jax.Array) -> Step:
    """The step for those who look at its cost: the model is taken apart once, and put together while tracing."""
    structure, state = nnx.split(model)

    def loss(state: Any, x: jax.Array) -> jax.Array:
        return loss_of(Stages.__call__)(nnx.merge(structure, state), x)

    return repeated(compiled_step(loss), state, AdamState.of(state), x)
