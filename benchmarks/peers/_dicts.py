"""Plain JAX: nested dictionaries and lists. The reference of the ratios."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers._library import BLOCK_KERNELS, Library, Pair, Program, Take

Tree = dict[str, Any]


class Dicts(Library):
    name = "nested dicts"
    distribution = "jax"

    def resnet(self, take: Take, blocks: Sequence[int]) -> Tree:
        return {
            "conv": {"weight": take()},
            "norm": _norm(take),
            "groups": [{"blocks": [_block(take, first=i == 0) for i in range(number)]} for number in blocks],
            "head": {"weight": take()},
        }

    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        return {"stages": [{"layers": [_layer(pair) for pair in stage]} for stage in stages]}, _run_stages

    def mlp(self, layers: Sequence[Pair]) -> Program:
        return {"layers": [_layer(pair) for pair in layers]}, _run_mlp

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        head, weight = {"weight": take()()}, jnp.ones((1,))
        return super().operations(take, blocks) | {"replace(), one layer": lambda: {**head, "weight": weight}}


def _norm(take: Take) -> Tree:
    return {"scale": take(), "bias": take(), "mean": {"value": take()}, "variance": {"value": take()}}


def _block(take: Take, *, first: bool) -> Tree:
    layers = {}
    for index in range(len(BLOCK_KERNELS)):
        layers[f"conv{index}"] = {"weight": take()}
        layers[f"norm{index}"] = _norm(take)
    if first:
        layers["projection"] = {"weight": take()}
        layers["projection_norm"] = _norm(take)
    return layers


def _layer(pair: Pair) -> Tree:
    weight, bias = pair
    return {"weight": weight, "bias": bias}


def _run_stages(model: Tree, x: jax.Array) -> jax.Array:
    total = jnp.zeros(())
    for stage in model["stages"]:
        total = total + sum((x * layer["weight"] + layer["bias"] for layer in stage["layers"]), jnp.zeros(()))
    return total


def _run_mlp(model: Tree, x: jax.Array) -> jax.Array:
    *inner, last = model["layers"]
    for layer in inner:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"])
    y: jax.Array = x @ last["weight"] + last["bias"]
    return y
