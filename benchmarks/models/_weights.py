"""The weights that all libraries start from, as nested dictionaries; also an example of construction in plain JAX."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]
GROUPS = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels and stride of each group of a residual network


class _Keys:
    """One key after the other."""

    def __init__(self, seed: int) -> None:
        self.key = jax.random.PRNGKey(seed)

    def __call__(self) -> jax.Array:
        key: jax.Array
        self.key, key = jax.random.split(self.key)
        return key


def mlp_weights(sizes: Sequence[int]) -> list[Any]:
    keys = _Keys(0)
    return [_dense(keys, inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]


def transformer_weights(num_layers: int, width: int) -> dict[str, Any]:
    """Returns arrays that are distributed as those of ``pax.nets.Transformer``."""
    keys = _Keys(0)
    scaled = initializers.variance_scaling(2 / num_layers, "fan_in", "normal")

    def layer() -> dict[str, Any]:
        attention = {name: _dense(keys, width, width, scaled) for name in ("query", "key", "value", "output")}
        return {
            "norm1": _norm(width),
            "attention": attention,
            "norm2": _norm(width),
            "fc1": _dense(keys, width, 4 * width, scaled),
            "fc2": _dense(keys, 4 * width, width, scaled),
        }

    return {"layers": [layer() for _ in range(num_layers)], "norm": _norm(width)}


def resnet_weights(blocks: Sequence[int], num_classes: int, *, bottleneck: bool = False) -> dict[str, Any]:
    """Returns arrays that are distributed as those of a ``pax.nets.ResNet…`` for 3 channels.

    Args:
        blocks: number of blocks in each group.
        num_classes: number of outputs.
        bottleneck: blocks of three convolutions, as in ResNet50, instead of two.
    """
    keys = _Keys(0)
    weights: dict[str, Any] = {"conv": _kernel(keys, 7, 3, 64), "norm": _norm(64), "groups": []}
    before = 64
    for number, (channels, _) in zip(blocks, GROUPS, strict=True):
        after = 4 * channels if bottleneck else channels
        group: list[dict[str, Any]] = []
        for _ in range(number):
            sizes = [(channels, 3), (channels, 3)]
            if bottleneck:
                sizes = [(channels, 1), (channels, 3), (after, 1)]
            block: dict[str, Any] = {}
            if not group and before != after:
                block |= {"proj_conv": _kernel(keys, 1, before, after), "proj_norm": _norm(after)}
            for index, (outputs, size) in enumerate(sizes, start=1):
                block |= {f"conv{index}": _kernel(keys, size, before, outputs), f"norm{index}": _norm(outputs)}
                before = outputs
            group.append(block)
        weights["groups"].append(group)
    weights["logits"] = _dense(keys, before, num_classes, initializers.zeros)
    return weights


def resnet_averages(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns the averages of the normalizations of a residual network, with the structure of its weights."""
    return {
        "norm": _averages(weights["norm"]),
        "groups": [
            [{name: _averages(part) for name, part in block.items() if "norm" in name} for block in group]
            for group in weights["groups"]
        ],
    }


def _dense(keys: _Keys, inputs: int, outputs: int, init: Initializer | None = None) -> dict[str, jax.Array]:
    normal: Initializer = initializers.normal(inputs**-0.5)
    return {"weight": (init or normal)(keys(), (inputs, outputs)), "bias": normal(keys(), (outputs,))}


def _kernel(keys: _Keys, size: int, inputs: int, outputs: int) -> jax.Array:
    shape = (size, size, inputs, outputs)
    kernel: jax.Array = initializers.variance_scaling(1.0, "fan_in", "truncated_normal")(keys(), shape)
    return kernel


def _norm(channels: int) -> dict[str, jax.Array]:
    return {"scale": jnp.ones((channels,)), "offset": jnp.zeros((channels,))}


def _averages(norm: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {"mean": jnp.zeros_like(norm["offset"]), "variance": jnp.ones_like(norm["scale"])}
