"""Haiku: modules exist while a function is transformed; parameters and state are dictionaries of two levels."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.peers._library import BLOCK_KERNELS, Library, Pair, Program, Take


class Tree(NamedTuple):
    """What a transformed function starts from."""

    params: Any
    state: Any


class Conv(hk.Module):
    def __init__(self, take: Take, kernel_size: int = 1, padding: str = "SAME", name: str | None = None) -> None:
        super().__init__(name)
        self.take = take
        self.kernel_size = kernel_size
        self.padding = padding
        self.dilation = None

    def __call__(self) -> None:
        hk.get_parameter("weight", (1,), init=_first_of(self.take))


class Average(hk.Module):
    def __init__(self, take: Take, momentum: float = 0.9, name: str | None = None) -> None:
        super().__init__(name)
        self.take = take
        self.momentum = momentum

    def __call__(self) -> None:
        hk.get_state("value", (1,), init=_first_of(self.take))


class Norm(hk.Module):
    def __init__(self, take: Take, eps: float = 1e-5, data_format: str = "NHWC", name: str | None = None) -> None:
        super().__init__(name)
        self.take = take
        self.eps = eps
        self.data_format = data_format

    def __call__(self) -> None:
        hk.get_parameter("scale", (1,), init=_first_of(self.take))
        hk.get_parameter("bias", (1,), init=_first_of(self.take))
        Average(self.take, name="mean")()
        Average(self.take, name="variance")()


class Block(hk.Module):
    def __init__(self, take: Take, *, first: bool, name: str | None = None) -> None:
        super().__init__(name)
        self.take = take
        self.first = first

    def __call__(self) -> None:
        for index, kernel_size in enumerate(BLOCK_KERNELS):
            Conv(self.take, kernel_size, name=f"conv{index}")()
            Norm(self.take, name=f"norm{index}")()
        if self.first:
            Conv(self.take, name="projection")()
            Norm(self.take, name="projection_norm")()


class Group(hk.Module):
    def __init__(self, take: Take, number: int, name: str | None = None) -> None:
        super().__init__(name)
        self.take = take
        self.number = number

    def __call__(self) -> None:
        for index in range(self.number):
            Block(self.take, first=index == 0, name=f"block{index}")()


class Layer(hk.Module):
    def __init__(self, give: Callable[[], Pair], activation: str | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.give = give
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        weight, bias = _parameters(self.give)
        return x * weight + bias


class Stage(hk.Module):
    def __init__(self, gives: Sequence[Callable[[], Pair]], name: str | None = None) -> None:
        super().__init__(name)
        self.gives = gives

    def __call__(self, x: jax.Array) -> jax.Array:
        layers = [Layer(give, name=f"layer{index}") for index, give in enumerate(self.gives)]
        return sum((layer(x) for layer in layers), jnp.zeros(()))


class DenseLayer(hk.Module):
    def __init__(self, give: Callable[[], Pair], name: str | None = None) -> None:
        super().__init__(name)
        self.give = give

    def __call__(self, x: jax.Array) -> jax.Array:
        weight, bias = _parameters(self.give)
        return x @ weight + bias


class Haiku(Library):
    name = "Haiku"
    distribution = "dm-haiku"

    def resnet(self, take: Take, blocks: Sequence[int]) -> Tree:
        def build() -> None:
            Conv(take, 7, name="conv")()
            Norm(take, name="norm")()
            for index, number in enumerate(blocks):
                Group(take, number, name=f"group{index}")()
            Conv(take, name="head")()

        transformed: Any = hk.transform_with_state(build)
        return Tree(*transformed.init(None))

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        def run(x: jax.Array) -> jax.Array:
            parts = [Stage(_hidden(pairs), name=f"stage{index}") for index, pairs in enumerate(stages)]
            return sum((part(x) for part in parts), jnp.zeros(()))

        return _transformed(run, stages[0][0][0])

    def mlp(self, layers: Sequence[Pair]) -> Program:
        def run(x: jax.Array) -> jax.Array:
            *inner, last = (DenseLayer(give, name=f"layer{index}") for index, give in enumerate(_hidden(layers)))
            for layer in inner:
                x = jnp.tanh(layer(x))
            return last(x)

        return _transformed(run, jnp.zeros((1, layers[0][0].shape[0])))


def _transformed(run: Callable[[jax.Array], jax.Array], x: jax.Array) -> Program:
    transformed: Any = hk.without_apply_rng(hk.transform(run))
    return transformed.init(None, x), transformed.apply


def _hidden(pairs: Sequence[Pair]) -> list[Callable[[], Pair]]:
    """Returns functions instead of the arrays: Haiku formats the arguments of constructors, and arrays take long."""
    return [_always(pair) for pair in pairs]


def _always(pair: Pair) -> Callable[[], Pair]:
    return lambda: pair


def _parameters(give: Callable[[], Pair]) -> Pair:
    weight, bias = give()
    return (
        hk.get_parameter("weight", weight.shape, init=lambda shape, dtype: weight),
        hk.get_parameter("bias", bias.shape, init=lambda shape, dtype: bias),
    )


def _first_of(take: Take) -> Callable[..., jax.Array]:
    return lambda shape, dtype: take()
