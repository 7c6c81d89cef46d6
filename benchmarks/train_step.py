"""What does a call of a compiled Adam step cost, with model and optimizer state going in and coming out?

All libraries compile the same arithmetic. ``step, empty arrays`` has arrays of no elements: XLA drops the arithmetic,
and what is left is the call: taking the trees apart, comparing them with those of the last call, passing the buffers,
putting the new trees together. ``step`` has arrays of one element, for which XLA runs several small kernels each.

Model and optimizer state are donated, each call takes what the last one returned, and waits for the loss.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks._arrays import modules_in_words, stage_arrays
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers import Pair, available

_EMPTY, _REAL = "step, empty arrays", "step"
_LARGE = frozenset(map(modules_in_words, (100, 1000)))
TARGETS = (Target(_EMPTY, "ratio", 1.15, _LARGE), Target(_REAL, "ratio", 1.15, _LARGE))


def run(settings: Settings) -> list[Figure]:
    """Measures the step for every number of modules."""
    figures = []
    for measure, shape, sizes in ((_EMPTY, (0,), settings.modules), (_REAL, (1,), settings.real_modules)):
        for modules in sizes:
            figures += _measure(measure, modules, shape, settings)
            jax.clear_caches()  # the programs of large models take a lot of memory
    return figures


def _measure(measure: str, modules: int, shape: tuple[int, ...], settings: Settings) -> list[Figure]:
    libraries, _ = available()
    arrays: Callable[[], Sequence[Sequence[Pair]]] = partial(stage_arrays, modules, shape)
    x = jnp.ones(shape)
    cases = {label: step for library in libraries for label, step in library.steps(arrays, x).items()}
    timings = time_in_turns(cases, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
    return timed_figures("train_step", measure, modules_in_words(modules), timings, libraries[0].name)
