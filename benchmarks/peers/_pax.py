"""PAX, and PAX with opax and the layers of pax-nn where they are installed."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import pax
from benchmarks.peers._adam import LEARNING_RATE
from benchmarks.peers._library import BLOCK_KERNELS, Library, Pair, Program, Step, Take, loss_of, repeated


class Conv(pax.ParameterModule):
    def __init__(self, take: Take, kernel_size: int = 1, padding: str = "SAME") -> None:
        super().__init__()
        self.weight = take()
        self.kernel_size = kernel_size
        self.padding = padding
        self.dilation = None


class Average(pax.StateModule):
    def __init__(self, take: Take, momentum: float = 0.9) -> None:
        super().__init__()
        self.value = take()
        self.momentum = momentum


class Norm(pax.ParameterModule):
    def __init__(self, take: Take, eps: float = 1e-5, data_format: str = "NHWC") -> None:
        super().__init__()
        self.scale = take()
        self.bias = take()
        self.mean = Average(take)
        self.variance = Average(take)
        self.eps = eps
        self.data_format = data_format


class Block(pax.Module):
    def __init__(self, take: Take, *, first: bool) -> None:
        super().__init__()
        for index, kernel_size in enumerate(BLOCK_KERNELS):
            setattr(self, f"conv{index}", Conv(take, kernel_size))
            setattr(self, f"norm{index}", Norm(take))
        self.stride = 2 if first else 1
        self.projection = Conv(take) if first else None
        self.projection_norm = Norm(take) if first else None


class Group(pax.Module):
    def __init__(self, take: Take, number: int) -> None:
        super().__init__()
        self.blocks = [Block(take, first=index == 0) for index in range(number)]
        self.bottleneck = True


class ResNet(pax.Module):
    def __init__(self, take: Take, blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv = Conv(take, 7)
        self.norm = Norm(take)
        self.groups = [Group(take, number) for number in blocks]
        self.head = Conv(take)
        self.num_classes = 1000

    def __call__(self, x: int) -> int:
        return x


class Layer(pax.ParameterModule):
    def __init__(self, weight: jax.Array, bias: jax.Array, activation: str | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.features = weight.size
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.weight + self.bias


class Stage(pax.Module):
    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.layers = [Layer(weight, bias) for weight, bias in pairs]

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((layer(x) for layer in self.layers), jnp.zeros(()))


class Stages(pax.Module):
    def __init__(self, stages: Sequence[Sequence[Pair]]) -> None:
        super().__init__()
        self.stages = [Stage(pairs) for pairs in stages]

    def __call__(self, x: jax.Array) -> jax.Array:
        return sum((stage(x) for stage in self.stages), jnp.zeros(()))


class DenseLayer(pax.ParameterModule):
    def __init__(self, weight: jax.Array, bias: jax.Array) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.features = weight.shape[-1]

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight + self.bias


class MLP(pax.Module):
    layers: list[Callable[[jax.Array], jax.Array]]

    def __init__(self, layers: Sequence[Callable[[jax.Array], jax.Array]]) -> None:
        super().__init__()
        self.layers = list(layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)


class Pax(Library):
    name = "PAX"
    distribution = "pax-core"

    def resnet(self, take: Take, blocks: Sequence[int]) -> ResNet:
        return ResNet(take, blocks)

    def trees(self, take: Take, blocks: Sequence[int]) -> dict[str, ResNet]:
        built = self.resnet(take, blocks)
        used = built.copy()
        _read_everything(used)
        return {"PAX": built.copy(), "PAX, as built": built, "PAX, after use": used}

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        return Stages(stages), Stages.__call__

    def mlp(self, layers: Sequence[Pair]) -> Program:
        return MLP([DenseLayer(weight, bias) for weight, bias in layers]), MLP.__call__

    def more_mlps(self, layers: Sequence[Pair]) -> dict[str, Program]:
        if importlib.util.find_spec("pax.nn") is None:
            return {}
        linear = [
            pax.nn.Linear(weight.shape[0], weight.shape[1]).replace(weight=weight, bias=bias[0])
            for weight, bias in layers
        ]
        return {"PAX, pax.nn.Linear": (MLP(linear), MLP.__call__)}

    def steps(self, stages: Callable[[], Sequence[Sequence[Pair]]], x: jax.Array) -> dict[str, Step]:
        steps = super().steps(stages, x)
        if importlib.util.find_spec("opax") is not None:
            steps["PAX, opax.adam"] = _opax_step(Stages(stages()), x, flatten=False)
            steps["PAX, opax.adam flat"] = _opax_step(Stages(stages()), x, flatten=True)
        return steps

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        tree = self.resnet(take(), blocks)
        parameters = tree.parameters()
        weight = jnp.ones((1,))
        identity = pax.pure(lambda module: module)
        return super().operations(take, blocks) | {
            "pure(identity)": lambda: identity(tree),
            "purecall()": lambda: pax.purecall(tree, 0),
            "eval()": tree.eval,
            "parameters()": tree.parameters,
            "update_parameters()": lambda: tree.update_parameters(parameters),
            "freeze_parameters()": lambda: pax.freeze_parameters(tree),
            "replace(), one layer": lambda: tree.head.replace(weight=weight),
            "replace_node(), one weight": lambda: tree.replace_node(tree.head.weight, weight),
        }

    def switched(self, tree: ResNet, training: bool) -> ResNet:
        return tree.train() if training else tree.eval()

    def frozen(self, tree: ResNet) -> ResNet:
        return pax.freeze_parameters(tree)


def _opax_step(model: Stages, x: jax.Array, *, flatten: bool) -> Step:
    import opax

    loss = loss_of(Stages.__call__)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(model: Stages, optimizer: Any, x: jax.Array) -> tuple[Stages, Any, jax.Array]:
        value, gradients = pax.value_and_grad(loss)(model, x)
        model, optimizer = opax.apply_gradients(model, optimizer, gradients)
        return model, optimizer, value

    return repeated(step, model, opax.adam(LEARNING_RATE)(model.parameters(), flatten=flatten), x)


def _read_everything(module: pax.Module) -> None:
    vars(module)
    for child in module.submodules():
        _read_everything(child)
