"""What do models of the mlax and Parallax dialects cost, against the same model of PAX's own layers?

``eager call`` is the forward pass outside of ``jit``: of a batch, in Parallax of one vector. ``gradient step`` is the
call of a compiled step of gradient descent on empty batches, for which mostly the call is left: model and keys going in
and coming out. mlax has a module for every parameter, so there is more to take apart. The number of operations that XLA
leaves of that step says whether they are the same program.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pax
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Spread, time_in_turns
from benchmarks._settings import Settings
from pax.experimental import mlax, parallax

_CALL, _STEP, _OPERATIONS = "eager call", "gradient step", "operations, compiled"
_PAX = "PAX"
_WIDTH = 16
TARGETS = (Target(_OPERATIONS, "ratio", 1.1),)


class _Case(NamedTuple):
    """A model, what it takes outside of ``jit``, and how it is called with a batch."""

    model: Any
    x: jax.Array
    call: Callable[[Any, jax.Array], Any]


class _Net(parallax.Module):
    layers: parallax.ModuleTuple

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = parallax.ModuleTuple(parallax.Dense(_WIDTH, _WIDTH) for _ in range(layers))

    def forward(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def run(settings: Settings) -> list[Figure]:
    """Measures for both dialects."""
    size = f"{settings.layers} layers"
    cases = _cases(settings.layers)
    x, empty = jnp.ones((8, _WIDTH)), jnp.ones((0, _WIDTH))
    calls = {label: _eager(case) for label, case in cases.items()}
    steps = {label: _step(case, empty) for label, case in cases.items()}
    figures = []
    for measure, operations in ((_CALL, calls), (_STEP, steps)):
        timings = time_in_turns(operations, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
        figures += timed_figures("dialects", measure, size, timings, _PAX)
    counts = {label: _operations(case, x) for label, case in cases.items()}
    for label, count in counts.items():
        ratio = Spread.of([count / counts[_PAX]])
        figures.append(Figure("dialects", _OPERATIONS, size, label, Spread.of([count]), ratio, unit="count"))
    return figures


def _cases(layers: int) -> dict[str, _Case]:
    own = pax.Sequential(*(layer for _ in range(layers) for layer in (pax.Linear(_WIDTH, _WIDTH), jnp.tanh)))
    batch, vector = jnp.ones((8, _WIDTH)), jnp.ones(_WIDTH)
    key = jax.random.PRNGKey(0)
    nn = mlax.nn
    series = nn.Series(
        [layer for _ in range(layers) for layer in (nn.Linear(key, _WIDTH), nn.Bias(key, -1), nn.F(jnp.tanh))]
    )
    _, series = series(vector, None)
    net = _Net(layers).initialized(key).new_state(key)
    return {
        _PAX: _Case(own, batch, lambda model, x: model(x)),
        "mlax": _Case(series, batch, lambda model, x: model(x)),
        "Parallax": _Case(net, vector, lambda model, x: jax.vmap(model)(x)),
    }


def _eager(case: _Case) -> Callable[[], object]:
    return lambda: case.model(case.x).block_until_ready()


def _gradient_step(case: _Case) -> Callable[[Any, jax.Array], Any]:
    def loss(model: Any, x: jax.Array) -> jax.Array:
        value: jax.Array = (case.call(model, x) ** 2).sum()
        return value

    def step(model: Any, x: jax.Array) -> Any:
        gradients = pax.grad(loss)(model, x)
        new = jax.tree.map(lambda p, g: p - 0.1 * g, model.parameters(), gradients)
        return model.update_parameters(new)

    return step


def _step(case: _Case, x: jax.Array) -> Callable[[], object]:
    compiled = jax.jit(_gradient_step(case))
    model = case.model

    def advance() -> object:
        nonlocal model
        model = compiled(model, x)
        return jax.block_until_ready(model)

    advance()
    return advance


def _operations(case: _Case, x: jax.Array) -> int:
    program = jax.jit(_gradient_step(case)).lower(case.model, x).compile().as_text() or ""
    return len(re.findall(r" = \S+ [\w-]+\(", program))
