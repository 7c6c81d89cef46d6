"""Haiku: functions that make modules, transformed into functions of dictionaries of parameters and state."""

# The library may be absent where types are checked; everything of it is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.models._network import DECAY, EPS, Models, Network, Weights
from benchmarks.models._weights import GROUPS


class Haiku(Models):
    name = "Haiku"

    def mlp(self, weights: Weights) -> Network:
        sizes = [layer["bias"].size for layer in weights]

        def forward(x: jax.Array) -> jax.Array:
            for index, size in enumerate(sizes):
                x = hk.Linear(size, name=f"fc{index}")(x)
                x = jax.nn.relu(x) if index < len(sizes) - 1 else x
            return x

        params = {f"fc{index}": _dense(layer) for index, layer in enumerate(weights)}
        return _network(forward, params, jnp.zeros((1, weights[0]["weight"].shape[0])))

    def transformer(self, weights: Weights, num_heads: int) -> Network:
        layers = weights["layers"]
        width = weights["norm"]["scale"].size

        def forward(x: jax.Array) -> jax.Array:
            causal = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1]), bool))
            for index in range(len(layers)):
                y = _layer_norm(f"layer{index}_norm1")(x)
                attention = hk.MultiHeadAttention(
                    num_heads, width // num_heads, w_init=jnp.zeros, name=f"layer{index}_attention"
                )
                x = x + attention(y, y, y, mask=causal)
                y = _layer_norm(f"layer{index}_norm2")(x)
                y = jax.nn.gelu(hk.Linear(4 * width, name=f"layer{index}_fc1")(y))
                x = x + hk.Linear(width, name=f"layer{index}_fc2")(y)
            return _layer_norm("norm")(x)

        params = {"norm": _norm(weights["norm"])}
        for index, p in enumerate(layers):
            for name in ("norm1", "norm2"):
                params[f"layer{index}_{name}"] = _norm(p[name])
            for name in ("fc1", "fc2"):
                params[f"layer{index}_{name}"] = _dense(p[name])
            for name, part in (("query", "query"), ("key", "key"), ("value", "value"), ("linear", "output")):
                params[f"layer{index}_attention/{name}"] = _dense(p["attention"][part])
        return _network(forward, params, jnp.zeros((1, 2, width)))

    def resnet(self, weights: Weights) -> Network:
        def forward(x: jax.Array) -> jax.Array:
            x = jax.nn.relu(_conv_norm(x, "start", 64, 7, 2, 3))
            x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
            x = hk.max_pool(x, (3, 3, 1), (2, 2, 1), "VALID")
            for number, (group, (channels, stride)) in enumerate(zip(weights["groups"], GROUPS, strict=True)):
                for index, p in enumerate(group):
                    name, step = f"group{number}_block{index}", stride if index == 0 else 1
                    shortcut = x
                    if "proj_conv" in p:
                        shortcut = _conv_norm(x, f"{name}_projection", channels, 1, step, 0)
                    x = jax.nn.relu(_conv_norm(x, f"{name}_layer1", channels, 3, step, 1))
                    x = jax.nn.relu(_conv_norm(x, f"{name}_layer2", channels, 3, 1, 1) + shortcut)
            return hk.Linear(weights["logits"]["bias"].size, name="logits")(jnp.mean(x, (1, 2)))

        params = {"logits": _dense(weights["logits"]), **_conv_params("start", weights["conv"], weights["norm"])}
        for number, group in enumerate(weights["groups"]):
            for index, p in enumerate(group):
                name = f"group{number}_block{index}"
                params |= _conv_params(f"{name}_layer1", p["conv1"], p["norm1"])
                params |= _conv_params(f"{name}_layer2", p["conv2"], p["norm2"])
                if "proj_conv" in p:
                    params |= _conv_params(f"{name}_projection", p["proj_conv"], p["proj_norm"])
        return _network(forward, params, jnp.zeros((2, 32, 32, 3)))._replace(channels_last=True)


def _network(forward: Callable[[jax.Array], jax.Array], params: Any, x: jax.Array) -> Network:
    transformed: Any = hk.transform_with_state(forward)
    made, state = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), x)
    params = {
        module: {name: params[module][name].reshape(a.shape) for name, a in p.items()} for module, p in made.items()
    }
    state = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)

    def run(params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        return transformed.apply(params, state, None, x)

    return Network(params, state, run)


def _dense(p: Any) -> dict[str, jax.Array]:
    return {"w": p["weight"], "b": p["bias"]}


def _norm(p: Any) -> dict[str, jax.Array]:
    return {"scale": p["scale"], "offset": p["offset"]}


def _layer_norm(name: str) -> hk.LayerNorm:
    return hk.LayerNorm(-1, create_scale=True, create_offset=True, eps=EPS, name=name)


def _conv_norm(x: jax.Array, name: str, channels: int, size: int, stride: int, padding: int) -> jax.Array:
    pads = [(padding, padding)] * 2
    x = hk.Conv2D(channels, size, stride, padding=pads, with_bias=False, name=f"{name}_conv")(x)
    return hk.BatchNorm(True, True, DECAY, EPS, name=f"{name}_norm")(x, is_training=True)


def _conv_params(name: str, kernel: jax.Array, norm: Any) -> dict[str, Any]:
    return {f"{name}_conv": {"w": kernel}, f"{name}_norm": _norm(norm)}
