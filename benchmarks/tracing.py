"""How long does JAX take to trace and lower the loss and gradient of a transformer, before XLA compiles it?

``unrolled`` is the model with a Python loop over its layers; ``scanned`` is one layer, whose arrays have a leading
axis, in a ``jax.lax.scan``: with PAX, :class:`pax.nn.Stack`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import pax
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Spread, Timing, ratios, time_in_turns
from benchmarks._settings import Settings
from benchmarks.models import Network, models_available, transformer_weights
from benchmarks.models._pax import network, transformer
from benchmarks.models._plain import layer_norm, transformer_layer

_UNROLLED, _SCANNED, _GROWTH = "unrolled", "scanned", "scanned: deepest / shallowest"
_WIDTH, _HEADS = 64, 4
TARGETS = (
    Target(_UNROLLED, "ratio", 1.1),
    Target(_SCANNED, "ratio", 1.1),
    Target(_GROWTH, "value", 1.1),
)


def run(settings: Settings) -> list[Figure]:
    """Measures both forms at every depth, a new function each time, which JAX has not in its caches.

    The traces of what is compiled on its own inside of it stay there: functions of JAX, and inner ones of PAX.
    """
    libraries = models_available()[: settings.model_libraries]
    figures: list[Figure] = []
    scanned: dict[int, dict[str, Timing]] = {}
    for depth in settings.depths:
        weights = transformer_weights(depth, _WIDTH)
        networks = {library.name: library.transformer(weights, _HEADS) for library in libraries}
        figures += _measure(_UNROLLED, depth, networks, settings)[0]
        networks = {libraries[0].name: _plain_scan(weights), "PAX": _stack(weights)}
        new, scanned[depth] = _measure(_SCANNED, depth, networks, settings)
        figures += new
    low, high = min(settings.depths), max(settings.depths)
    for label, timing in scanned[high].items():
        growth = Spread.of(ratios(timing.cpu, scanned[low][label].cpu))
        figures.append(Figure("tracing", _GROWTH, f"{high} / {low} layers", label, growth, unit="count"))
    return figures


def _measure(
    measure: str, depth: int, networks: dict[str, Network], settings: Settings
) -> tuple[list[Figure], dict[str, Timing]]:
    cases = {label: _lowering(made) for label, made in networks.items()}
    timings = time_in_turns(cases, rounds=settings.rounds_of_tracing, seconds_a_sample=settings.seconds_a_sample)
    return timed_figures("tracing", measure, f"{depth} layers", timings, next(iter(networks))), timings


def _lowering(made: Network) -> Callable[[], object]:
    x = jax.ShapeDtypeStruct((2, 16, _WIDTH), jnp.float32)
    params, rest = jax.eval_shape(lambda: (made.params, made.rest))

    def lower() -> object:
        def loss(params: Any, rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            y, rest = made.run(params, rest, x)
            return jnp.sum(y**2), rest

        return jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, rest, x)

    return lower


def _plain_scan(weights: Any) -> Network:
    stacked = {"layers": jax.tree.map(lambda *arrays: jnp.stack(arrays), *weights["layers"]), "norm": weights["norm"]}

    def run(params: Any, rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        def layer(x: jax.Array, p: Any) -> tuple[jax.Array, None]:
            return transformer_layer(p, x, _HEADS), None

        x, _ = jax.lax.scan(layer, x, params["layers"])
        return layer_norm(params["norm"], x), rest

    return Network(stacked, None, run)


class _Layer(pax.Module):
    """One layer of ``pax.nets.Transformer``, made of its parts."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        self.parts = parts

    def __call__(self, x: jax.Array) -> jax.Array:
        parts = self.parts
        x = x + parts["attention"](parts["attn_layer_norm"](x))
        y: jax.Array = x + parts["dense_block"](parts["dense_layer_norm"](x))
        return y


class _Stacked(pax.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stack = pax.nn.Stack.from_modules([_Layer(parts) for parts in net.layers])
        self.norm = net.layer_norm_output

    def __call__(self, x: jax.Array) -> jax.Array:
        y: jax.Array = self.norm(self.stack(x))
        return y


def _stack(weights: Any) -> Network:
    return network(_Stacked(transformer(weights, _HEADS)))
