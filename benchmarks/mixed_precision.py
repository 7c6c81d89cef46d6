"""What does a mixed-precision policy cost, against casts written by hand?

``eager call`` is a model outside of ``jit``, up to its result; ``… more than by hand`` is what a policy adds to it, for
each layer with a policy, and ``… without casts`` the same where everything has the wanted dtype already. The rest is
counted in the program of a compiled call: casts as JAX hands them to XLA, and what XLA leaves of all operations.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pax
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Spread, Timing, time_in_turns
from benchmarks._settings import Settings
from pax.experimental import apply_mp_policy, default_mp_policy

_CALL, _MORE, _NO_CASTS = "eager call", "more than by hand, a layer", "without casts, a layer"
_CASTS, _OPERATIONS = "casts, lowered", "operations, compiled"
_LINEAR, _MLP, _CONV = "Linear", "Linear, LayerNorm, Linear", "Conv2D, BatchNorm2D"
_HAND, _POLICY = "by hand", "PAX"
TARGETS = (
    Target(_MORE, "value", 30e-6),
    Target(_NO_CASTS, "value", 30e-6, frozenset({_LINEAR, _MLP})),  # convolutions take too long to see the difference
    Target(_CASTS, "ratio", 1.0),
    Target(_OPERATIONS, "ratio", 1.0),
)

Forward = Callable[[Any, jax.Array], Any]


class _Case(NamedTuple):
    """A model without policies, how to call it with casts, an input, and how many of its layers get a policy."""

    model: Any
    by_hand: Forward
    x: jax.Array
    layers: int


def run(settings: Settings) -> list[Figure]:
    """Measures and counts for every model."""
    figures = []
    for name, case in _cases().items():
        wrapped = case.model.apply(default_mp_policy)
        full = apply_mp_policy(case.model, "f32", where="**")
        calls = {
            _HAND: _call(case.by_hand, case.model, case.x),
            _POLICY: _call(_forward, wrapped, case.x),
            "float32": _call(_forward, case.model, case.x),
            "float32, policy": _call(_forward, full, case.x),
        }
        timings = time_in_turns(calls, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
        pair = {label: timings[label] for label in (_HAND, _POLICY)}
        figures += timed_figures("mixed_precision", _CALL, name, pair, _HAND)
        more = {_MORE: (_POLICY, _HAND), _NO_CASTS: ("float32, policy", "float32")}
        for measure, (label, reference) in more.items():
            added = _added(timings[label], timings[reference], case.layers)
            figures.append(Figure("mixed_precision", measure, name, _POLICY, added))
        figures += _counts(name, _text(case.by_hand, case.model, case.x), _text(_forward, wrapped, case.x))
    return figures


def _cases() -> dict[str, _Case]:
    """Returns the models; batch norms in evaluation mode, since what is measured is the call."""
    rows, image = jnp.ones((8, 32)), jnp.ones((2, 8, 8, 3))
    linear = pax.Linear(32, 32)
    mlp = pax.Sequential(pax.Linear(32, 32), pax.LayerNorm(32, -1, True, True), jax.nn.relu, pax.Linear(32, 8))
    conv = pax.Sequential(pax.Conv2D(3, 8, 3), pax.BatchNorm2D(8), jax.nn.relu).eval()
    return {
        _LINEAR: _Case(linear, _half, rows, 1),
        _MLP: _Case(mlp, _mlp_by_hand, rows, 3),
        _CONV: _Case(conv, _conv_by_hand, image, 2),
    }


def _half(layer: Any, x: jax.Array) -> Any:
    """Calls a layer in half precision."""
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), layer)
    return half(x.astype(jnp.float16)).astype(jnp.float32)


def _mlp_by_hand(model: Any, x: jax.Array) -> Any:
    first, norm, relu, last = model.modules
    return _half(last, relu(norm(_half(first, x))))


def _conv_by_hand(model: Any, x: jax.Array) -> Any:
    conv, norm, relu = model.modules
    return relu(norm(_half(conv, x)))


def _forward(model: Any, x: jax.Array) -> Any:
    return model(x)


def _call(forward: Forward, model: Any, x: jax.Array) -> Callable[[], object]:
    return lambda: forward(model, x).block_until_ready()


def _added(timing: Timing, reference: Timing, layers: int) -> Spread:
    """Returns what is added to the CPU time of each round, for one layer; a nanosecond if nothing is."""
    return Spread.of([max((a - b) / layers, 1e-9) for a, b in zip(timing.cpu, reference.cpu, strict=True)])


def _text(forward: Forward, model: Any, x: jax.Array) -> tuple[str, str]:
    lowered = jax.jit(forward).lower(model, x)
    return lowered.as_text(), lowered.compile().as_text() or ""


def _counts(name: str, by_hand: tuple[str, str], wrapped: tuple[str, str]) -> list[Figure]:
    figures = []
    patterns = {_CASTS: r"stablehlo\.convert", _OPERATIONS: r" = \S+ [\w-]+\("}
    for (measure, pattern), texts in zip(patterns.items(), zip(by_hand, wrapped, strict=True), strict=True):
        reference = len(re.findall(pattern, texts[0]))
        for label, text in zip((_HAND, _POLICY), texts, strict=True):
            count = len(re.findall(pattern, text))
            ratio = Spread.of([count / reference])
            value = Spread.of([count])
            figures.append(Figure("mixed_precision", measure, name, label, value, ratio, unit="count"))
    return figures
