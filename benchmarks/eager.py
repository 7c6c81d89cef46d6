"""What does a module cost when it is called outside of ``jit``?"""

from collections.abc import Callable

import jax.numpy as jnp

from benchmarks._arrays import dense_arrays
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers import Program, Run, available

_BATCH, _FEATURES = 8, 32
TARGETS = (Target("eager forward", "ratio", 1.15),)


def run(settings: Settings) -> list[Figure]:
    """Measures the forward pass of an MLP with small layers, up to its result."""
    libraries, _ = available()
    layers = dense_arrays(settings.layers, _FEATURES)
    x = jnp.ones((_BATCH, _FEATURES))
    programs: dict[str, Program] = {}
    for library in libraries:
        programs |= {library.name: library.mlp(layers), **library.more_mlps(layers)}

    def case(model: object, forward: Run) -> Callable[[], object]:
        return lambda: forward(model, x).block_until_ready()

    cases = {label: case(model, forward) for label, (model, forward) in programs.items()}
    timings = time_in_turns(cases, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
    return timed_figures("eager", "eager forward", f"{settings.layers} layers", timings, libraries[0].name)
