"""What does Adam of opax cost, against optax on nested dictionaries and on one flat tuple of arrays?

``step`` is the call of a compiled train step, model and optimizer going in, donated, and coming out: with arrays of one
element, and with empty arrays, for which only the call is left. ``… / flat tuple`` are the same times, relative to
those of the tuple, which no tree can beat; in a Flattener the model is kept as a list of leaves, too. ``trace`` is how
long JAX takes to trace the optimizer alone, gradients given, in a function that it has not seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import opax
import pax
from benchmarks._arrays import modules_in_words, stage_arrays
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers._adam import LEARNING_RATE
from benchmarks.peers._dicts import Dicts
from benchmarks.peers._flat import Flat
from benchmarks.peers._library import Run, loss_of
from benchmarks.peers._pax import Stages
from pax.experimental import Flattener

_EMPTY, _REAL, _TRACE, _TO_LIMIT = "step, empty arrays", "step", "trace", " / flat tuple"
_DICTS, _LIMIT, _FLAT = "optax, nested dicts", "optax, flat tuple", "PAX, flatten=True"
_FLATTENER = "PAX, flatten=True, in a Flattener"
_LARGE = frozenset(map(modules_in_words, (100, 1000)))
TARGETS = (
    Target(_EMPTY, "ratio", 1.1, _LARGE),
    Target(_REAL, "ratio", 1.1, _LARGE),
    Target(_EMPTY + _TO_LIMIT, "ratio", 1.05, _LARGE, frozenset({_FLAT, _FLATTENER})),
    Target(_REAL + _TO_LIMIT, "ratio", 1.05, _LARGE, frozenset({_FLAT, _FLATTENER})),
    Target(_TRACE, "ratio", 1.3, _LARGE),
)

Update = Callable[[Any, Any, Any], tuple[Any, Any]]


class _Case(NamedTuple):
    """A model, its optimizer, how to run the one and to apply the other: ``(model, optimizer, gradients)`` to both."""

    model: Any
    optimizer: Any
    run: Run
    update: Update
    in_a_flattener: bool = False


def run(settings: Settings) -> list[Figure]:
    """Measures for every number of modules."""
    figures = []
    for measure, shape, sizes in ((_EMPTY, (0,), settings.modules), (_REAL, (1,), settings.real_modules)):
        for modules in sizes:
            size, steps = modules_in_words(modules), _steps(_cases(modules, shape))
            timings = time_in_turns(steps, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
            figures += timed_figures("optimizers", measure, size, timings, _DICTS)
            limit = {label: timings[label] for label in (_LIMIT, _FLAT, _FLATTENER)}
            figures += timed_figures("optimizers", measure + _TO_LIMIT, size, limit, _LIMIT)
            jax.clear_caches()  # the programs of large models take a lot of memory
    for modules in settings.modules:
        cases = {label: case for label, case in _cases(modules, (1,)).items() if not case.in_a_flattener}
        traces = {label: _tracing(case) for label, case in cases.items()}
        timings = time_in_turns(traces, rounds=settings.rounds_of_tracing, seconds_a_sample=settings.seconds_a_sample)
        figures += timed_figures("optimizers", _TRACE, modules_in_words(modules), timings, _DICTS)
    return figures


def _steps(cases: dict[str, _Case]) -> dict[str, Callable[[], jax.Array]]:
    steps = {label: _advance(case) for label, case in cases.items()}
    _check({label: [float(advance()) for _ in range(3)] for label, advance in steps.items()})
    return steps


def _cases(modules: int, shape: tuple[int, ...]) -> dict[str, _Case]:
    """Returns the cases, each with arrays of its own, since the steps donate them."""

    def arrays() -> Any:
        return stage_arrays(modules, shape)

    def optax_case(library: Dicts | Flat) -> _Case:
        model, run = library.stages(arrays())
        return _Case(model, optax.adam(LEARNING_RATE).init(model), run, _update_optax)

    def opax_case(factory: Any, *, in_a_flattener: bool = False, **options: Any) -> _Case:
        model = Stages(arrays())
        optimizer = factory(model.parameters(), **options)
        return _Case(model, optimizer, Stages.__call__, opax.apply_gradients, in_a_flattener)

    return {
        _DICTS: optax_case(Dicts()),
        _LIMIT: optax_case(Flat()),
        "PAX": opax_case(opax.adam(LEARNING_RATE)),
        _FLAT: opax_case(opax.adam(LEARNING_RATE), flatten=True),
        _FLATTENER: opax_case(opax.adam(LEARNING_RATE), in_a_flattener=True, flatten=True),
        "PAX, from_optax": opax_case(opax.from_optax(optax.adam, LEARNING_RATE)),
    }


def _update_optax(model: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
    updates, state = optax.adam(LEARNING_RATE).update(gradients, state, model)
    return optax.apply_updates(model, updates), state


def _advance(case: _Case) -> Callable[[], jax.Array]:
    loss, x = loss_of(case.run), jnp.ones(jax.tree.leaves(case.model)[0].shape)

    def step(model: Any, optimizer: Any, x: jax.Array) -> Any:
        gradient = pax.value_and_grad if isinstance(model, pax.Module) else jax.value_and_grad
        value, gradients = gradient(loss)(model, x)
        return *case.update(model, optimizer, gradients), value

    if case.in_a_flattener:
        return _advance_flattened(Flattener(model=case.model, optimizer=case.optimizer), step, x)
    compiled = jax.jit(step, donate_argnums=(0, 1))
    model, optimizer = case.model, case.optimizer

    def advance() -> jax.Array:
        nonlocal model, optimizer
        model, optimizer, value = compiled(model, optimizer, x)
        found: jax.Array = value.block_until_ready()
        return found

    return advance


def _advance_flattened(flats: Flattener, step: Callable[..., Any], x: jax.Array) -> Callable[[], jax.Array]:
    def flattened(flats: Flattener, x: jax.Array) -> tuple[Flattener, jax.Array]:
        model, optimizer, value = step(flats.model, flats.optimizer, x)
        return flats.update(model=model, optimizer=optimizer), value

    compiled = jax.jit(flattened, donate_argnums=0)

    def advance() -> jax.Array:
        nonlocal flats
        flats, value = compiled(flats, x)
        found: jax.Array = value.block_until_ready()
        return found

    return advance


def _tracing(case: _Case) -> Callable[[], object]:
    model, optimizer = jax.eval_shape(lambda: (case.model, case.optimizer))

    def trace() -> object:
        return jax.jit(lambda *trees: case.update(*trees)).trace(model, optimizer, model)

    return trace


def _check(losses: dict[str, list[float]]) -> None:
    for label, found in losses.items():
        if not np.allclose(found, losses[_DICTS], rtol=1e-4, atol=0):
            raise RuntimeError(f"{label} computes something else: losses {found}, expected {losses[_DICTS]}")
