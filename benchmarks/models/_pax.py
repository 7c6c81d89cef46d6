"""PAX, with the networks of ``pax.nets``."""

from typing import Any

import jax

import pax
from benchmarks.models._network import Models, Network, Weights


class Pax(Models):
    name = "PAX"

    def mlp(self, weights: Weights) -> Network:
        layers: list[Any] = []
        for layer in weights:
            layers += [linear(layer), jax.nn.relu]
        return network(pax.nn.Sequential(*layers[:-1]))

    def transformer(self, weights: Weights, num_heads: int) -> Network:
        return network(transformer(weights, num_heads))

    def resnet(self, weights: Weights) -> Network:
        return network(resnet(weights))


def network(module: pax.Module) -> Network:
    """Returns a network whose ``rest`` is the whole module."""

    def run(params: pax.Module, rest: pax.Module, x: jax.Array) -> tuple[jax.Array, pax.Module]:
        module, y = pax.purecall(rest.update_parameters(params), x)
        return y, module

    return Network(module.parameters(), module, run)


def linear(p: dict[str, jax.Array]) -> pax.nn.Linear:
    inputs, outputs = p["weight"].shape
    made: pax.nn.Linear = jax.eval_shape(lambda: pax.nn.Linear(inputs, outputs)).replace(**p)
    return made


def transformer(weights: Weights, num_heads: int) -> Any:
    layers = weights["layers"]
    width = layers[0]["fc1"]["weight"].shape[0]

    def filled(net: Any) -> Any:
        for layer, p in zip(net.layers, layers, strict=True):
            for name in ("query", "key", "value", "output"):
                fill(getattr(layer["attention"], f"{name}_projection"), p["attention"][name])
            fill(layer["attn_layer_norm"], p["norm1"])
            fill(layer["dense_layer_norm"], p["norm2"])
            fill(layer["dense_block"].fc1, p["fc1"])
            fill(layer["dense_block"].fc2, p["fc2"])
        fill(net.layer_norm_output, weights["norm"])
        return net

    return pax.pure(filled)(pax.nets.Transformer(width, num_heads, len(layers), 0.0))


def resnet(weights: Weights) -> Any:
    def filled(net: Any) -> Any:
        net.initial_conv.weight = weights["conv"]
        fill_norm(net.initial_batchnorm, weights["norm"])
        for group, parts in zip(net.block_groups, weights["groups"], strict=True):
            for block, p in zip(group.blocks, parts, strict=True):
                for index, (conv, norm) in enumerate(block.layers, start=1):
                    conv.weight = p[f"conv{index}"]
                    fill_norm(norm, p[f"norm{index}"])
                if "proj_conv" in p:
                    block.proj_conv.weight = p["proj_conv"]
                    fill_norm(block.proj_batchnorm, p["proj_norm"])
        fill(net.logits, weights["logits"])
        return net

    return pax.pure(filled)(pax.nets.ResNet18(3, weights["logits"]["bias"].size))


def fill(module: Any, arrays: dict[str, jax.Array]) -> None:
    for name, array in arrays.items():
        setattr(module, name, array)


def fill_norm(module: Any, arrays: dict[str, jax.Array]) -> None:
    fill(module, {name: array.reshape(getattr(module, name).shape) for name, array in arrays.items()})
