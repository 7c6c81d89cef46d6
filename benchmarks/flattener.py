"""What does a train step cost with model and optimizer in a Flattener, against one flat tuple of all arrays?

``step`` is the call of a compiled Adam step, the flattener going in, donated, and coming out: with arrays of one
element, and with empty arrays, for which only the call is left. The limit is the same step with the leaves of model and
optimizer as one tuple, which no tree can beat; inside, it is the same program. ``update`` is ``flattener.update`` with
a new model and optimizer, and ``read`` what it takes to get both out again, outside of compiled functions.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import opax
import pax
from benchmarks._arrays import modules_in_words, stage_arrays
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Timing, time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers._adam import LEARNING_RATE
from benchmarks.peers._library import loss_of
from benchmarks.peers._pax import Stages
from pax.experimental import Flattener

_EMPTY, _REAL = "step, empty arrays", "step"
_LIMIT, _FLATTENED = "flat tuple", "PAX, in a Flattener"
_LARGE = frozenset(map(modules_in_words, (100, 1000)))
TARGETS = (
    Target(_EMPTY, "ratio", 1.05, _LARGE, frozenset({_FLATTENED})),
    Target(_REAL, "ratio", 1.05, _LARGE, frozenset({_FLATTENED})),
)

# At 1,000 modules two runs of one program differ by a tenth, by where its arrays happen to lie: the rounds are shared
# out among runs with arrays of their own.
_RUNS = 4

Step = Callable[[], jax.Array]
Program = tuple[Callable[[Any, jax.Array], tuple[Any, jax.Array]], Callable[[], Any]]


def run(settings: Settings) -> list[Figure]:
    """Measures for every number of modules."""
    figures = []
    for measure, shape, sizes in ((_EMPTY, (0,), settings.modules), (_REAL, (1,), settings.real_modules)):
        for modules in sizes:
            timings = _measure(modules, shape, settings)
            figures += timed_figures("flattener", measure, modules_in_words(modules), timings, _LIMIT)
            jax.clear_caches()  # the programs of large models take a lot of memory
    for modules in settings.modules:
        for measure, operation in _operations(modules).items():
            timings = time_in_turns(
                {_FLATTENED: operation}, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample
            )
            figures += timed_figures("flattener", measure, modules_in_words(modules), timings, None)
    return figures


def _measure(modules: int, shape: tuple[int, ...], settings: Settings) -> dict[str, Timing]:
    x = jnp.ones(shape)
    programs = {
        label: (jax.jit(step, donate_argnums=0), make) for label, (step, make) in _programs(modules, shape).items()
    }
    runs = []
    for number in range(_RUNS):
        labels = list(programs)[:: 1 if number % 2 else -1]
        steps = {label: _advance(programs[label][0], programs[label][1](), x) for label in labels}
        _check({label: [float(step()) for _ in range(3)] for label, step in steps.items()})
        rounds = -(-settings.rounds // _RUNS)
        runs.append(time_in_turns(steps, rounds=rounds, seconds_a_sample=settings.seconds_a_sample))
    return {
        label: Timing(
            cpu=tuple(time for timings in runs for time in timings[label].cpu),
            wall=tuple(time for timings in runs for time in timings[label].wall),
        )
        for label in programs
    }


def _parts(modules: int, shape: tuple[int, ...]) -> tuple[Stages, Any]:
    model = Stages(stage_arrays(modules, shape))
    return model, opax.adam(LEARNING_RATE)(model.parameters())


def _train(model: Stages, optimizer: Any, x: jax.Array) -> tuple[Stages, Any, jax.Array]:
    value, gradients = pax.value_and_grad(loss_of(Stages.__call__))(model, x)
    model, optimizer = opax.apply_gradients(model, optimizer, gradients)
    return model, optimizer, value


def _programs(modules: int, shape: tuple[int, ...]) -> dict[str, Program]:
    """Returns steps, and what makes the states they start with: new arrays each time, since the steps donate them."""
    structure = jax.tree.structure(_parts(modules, shape))

    def plain(parts: tuple[Stages, Any], x: jax.Array) -> tuple[tuple[Stages, Any], jax.Array]:
        model, optimizer, value = _train(*parts, x)
        return (model, optimizer), value

    def limit(leaves: tuple[jax.Array, ...], x: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
        parts, value = plain(jax.tree.unflatten(structure, leaves), x)
        return tuple(jax.tree.leaves(parts)), value

    def flattened(flats: Flattener, x: jax.Array) -> tuple[Flattener, jax.Array]:
        model, optimizer, value = _train(flats.model, flats.optimizer, x)
        return flats.update(model=model, optimizer=optimizer), value

    def flats() -> Flattener:
        model, optimizer = _parts(modules, shape)
        return Flattener(model=model, optimizer=optimizer)

    return {
        _LIMIT: (limit, lambda: tuple(jax.tree.leaves(_parts(modules, shape)))),
        _FLATTENED: (flattened, flats),
        "PAX": (plain, lambda: _parts(modules, shape)),
    }


def _advance(compiled: Callable[..., Any], state: Any, x: jax.Array) -> Step:
    def advance() -> jax.Array:
        nonlocal state
        state, value = compiled(state, x)
        found: jax.Array = value.block_until_ready()
        return found

    return advance


def _operations(modules: int) -> dict[str, Callable[[], object]]:
    model, optimizer = _parts(modules, (0,))
    flats = Flattener(model=model, optimizer=optimizer)
    return {
        "update, model and optimizer": lambda: flats.update(model=model, optimizer=optimizer),
        "read, model and optimizer": lambda: (flats.model, flats.optimizer),
    }


def _check(losses: dict[str, list[float]]) -> None:
    for label, found in losses.items():
        if found != losses[_LIMIT]:
            raise RuntimeError(f"{label} computes something else: losses {found}, expected {losses[_LIMIT]}")
