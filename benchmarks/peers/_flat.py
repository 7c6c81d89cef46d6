"""Plain JAX: one tuple of all leaves. The limit: no tree can be cheaper."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers._dicts import Dicts
from benchmarks.peers._library import Library, Pair, Program, Take

Leaves = tuple[Any, ...]


class Flat(Library):
    name = "flat tuple"
    distribution = "jax"

    def resnet(self, take: Take, blocks: Sequence[int]) -> Leaves:
        return tuple(jax.tree.leaves(Dicts().resnet(take, blocks)))

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        return tuple(array for stage in stages for pair in stage for array in pair), _run_stages

    def mlp(self, layers: Sequence[Pair]) -> Program:
        return tuple(array for pair in layers for array in pair), _run_mlp

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        return {}  # a tuple has no parts that could be changed by name


def _pairs(model: Leaves) -> list[Pair]:
    return list(zip(model[::2], model[1::2], strict=True))


def _run_stages(model: Leaves, x: jax.Array) -> jax.Array:
    return sum((x * weight + bias for weight, bias in _pairs(model)), jnp.zeros(()))


def _run_mlp(model: Leaves, x: jax.Array) -> jax.Array:
    *inner, (weight, bias) = _pairs(model)
    for inner_weight, inner_bias in inner:
        x = jnp.tanh(x @ inner_weight + inner_bias)
    return x @ weight + bias
