"""What does the formula of layer normalization cost in a train step of a transformer?

The model of plain JAX, 4 layers of 128 features, in which nothing but the normalization differs. ``var`` is the
textbook form with ``jnp.var``; ``centred`` takes the variance of what is already centred, and folds the reciprocal of
the root into the scale; ``one pass`` is the mean of squares minus the square of the mean, which is wrong where the mean
is large. PAX is :class:`pax.nn.LayerNorm`. Time is that on the wall.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

import pax
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.models import transformer_weights
from benchmarks.models._network import EPS
from benchmarks.models._plain import LayerNorm, layer_norm, transformer_with
from benchmarks.training import advance_of, squared_error

_STEP = "train step"
_HEADS = 4
TARGETS = (Target(_STEP, "ratio", 0.8),)


def run(settings: Settings) -> list[Figure]:
    """Measures the step with every formula."""
    weights = transformer_weights(settings.norm_layers, 128)
    x, target = jax.random.normal(jax.random.key(1), (2, 16, 64, 128))
    cases: dict[str, Callable[[], object]] = {}
    for label, norm in formulas().items():
        cases[label] = advance_of(transformer_with(norm, weights, _HEADS), x, target, squared_error)
    timings = time_in_turns(cases, rounds=settings.rounds_of_networks, seconds_a_sample=settings.seconds_of_networks)
    size = f"transformer, {settings.norm_layers} layers of 128, 16 × 64"
    figures = timed_figures("norms", _STEP, size, timings, next(iter(cases)), clock="wall")
    jax.clear_caches()
    return figures


def formulas() -> dict[str, LayerNorm]:
    """Returns ways to compute layer normalization, by label; the first is the reference."""
    return {"var": layer_norm, "centred": _centred, "one pass": _one_pass, "PAX": _pax}


def _centred(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    centred = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centred * centred, -1, keepdims=True)
    return centred * (jax.lax.rsqrt(variance + EPS) * p["scale"]) + p["offset"]


def _one_pass(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.maximum(jnp.mean(x * x, -1, keepdims=True) - mean * mean, 0)
    return (x - mean) * (jax.lax.rsqrt(variance + EPS) * p["scale"]) + p["offset"]


def _pax(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    make = partial(pax.nn.LayerNorm, x.shape[-1], -1, True, True, EPS, rng_key=jax.random.PRNGKey(0))
    y: jax.Array = jax.eval_shape(make).replace(**p)(x)
    return y
