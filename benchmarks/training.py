"""How long does a train step of a real network take, on all cores?

The same weights, the same mathematics and the same Adam in all libraries, which is checked before anything is timed:
the losses of the first steps agree. PAX has the step that its users write, with ``opax.adam``; all others share one.
Time is that on the wall: XLA has threads of its own. ResNet18 has the layout that a library has by default; that of
PAX is ``NCHW``, so plain JAX is there in both.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.models import Models, Network, mlp_weights, models_available, resnet_weights, transformer_weights
from benchmarks.peers._adam import LEARNING_RATE, AdamState, adam

_STEP = "train step"
_CHECKED_STEPS = 3
# Losses differ by rounding, which the steps of Adam make larger.
_TOLERANCE = 1e-3

TARGETS = (Target(_STEP, "ratio", 1.03),)

Advance = Callable[[], jax.Array]
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def run(settings: Settings) -> list[Figure]:
    """Measures the step of every network, in turns."""
    libraries = models_available()[: settings.model_libraries]
    figures = []
    for kind in settings.networks:
        cases = cases_of(kind, libraries, settings)
        _check(cases)
        timings = time_in_turns(
            cases, rounds=settings.rounds_of_networks, seconds_a_sample=settings.seconds_of_networks
        )
        figures += timed_figures("training", _STEP, _SIZES[kind], timings, libraries[0].name, clock="wall")
        jax.clear_caches()
    return figures


def cases_of(kind: str, libraries: tuple[Models, ...], settings: Settings) -> dict[str, Advance]:
    """Returns, by label, functions that do the next step of a training and return its loss."""
    build, x, target, loss = _NETWORKS[kind](settings)
    cases = {}
    for library in libraries:
        network = build(library)
        if library.name == "PAX":
            cases[library.name] = _advance_opax(network, x, target, loss)
            continue
        for label, variant in {library.name: network, **library.more(kind, build)}.items():
            cases[label] = advance_of(variant, x, target, loss)
    return cases


def _mlp(settings: Settings) -> tuple[Callable[[Models], Network], jax.Array, jax.Array, Loss]:
    weights = mlp_weights((64, 256, 256, 10))
    x = jax.random.normal(jax.random.key(1), (128, 64))
    return lambda library: library.mlp(weights), x, jnp.arange(128) % 10, cross_entropy


def _transformer(settings: Settings) -> tuple[Callable[[Models], Network], jax.Array, jax.Array, Loss]:
    weights = transformer_weights(4, 128)
    x, target = jax.random.normal(jax.random.key(1), (2, 16, 64, 128))
    return lambda library: library.transformer(weights, 4), x, target, squared_error


def _resnet(settings: Settings) -> tuple[Callable[[Models], Network], jax.Array, jax.Array, Loss]:
    weights = resnet_weights((2, 2, 2, 2), 10)
    x = jax.random.normal(jax.random.key(1), (16, 3, 32, 32))
    return lambda library: library.resnet(weights), x, jnp.arange(16) % 10, cross_entropy


_NETWORKS = {"mlp": _mlp, "transformer": _transformer, "resnet": _resnet}
_SIZES = {
    "mlp": "MLP, 64-256-256-10, batch 128",
    "transformer": "transformer, 4 layers of 128, 16 × 64",
    "resnet": "ResNet18, 16 images of 32 × 32",
}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -jnp.mean(chosen)


def squared_error(y: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.mean((y - target) ** 2)


def advance_of(network: Network, x: jax.Array, target: jax.Array, loss: Loss) -> Advance:
    """Returns a function that does the next train step and returns its loss."""
    x = jnp.moveaxis(x, 1, -1) if network.channels_last and x.ndim == 4 else x

    def loss_of(params: Any, rest: Any, x: jax.Array, target: jax.Array) -> tuple[jax.Array, Any]:
        y, rest = network.run(params, rest, x)
        return loss(y, target), rest

    def step(params: Any, rest: Any, state: AdamState, x: jax.Array, target: jax.Array) -> Any:
        (value, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, rest, x, target)
        params, state = adam(params, gradients, state)
        return params, rest, state, value

    compiled = jax.jit(step, donate_argnums=(0, 2))
    params, rest = jax.tree.map(jnp.copy, network.params), network.rest
    state = AdamState.of(params)

    def advance() -> jax.Array:
        nonlocal params, rest, state
        params, rest, state, value = compiled(params, rest, state, x, target)
        loss_value: jax.Array = jax.block_until_ready(value)
        return loss_value

    return advance


def _advance_opax(network: Network, x: jax.Array, target: jax.Array, loss: Loss) -> Advance:
    import opax
    import pax

    def loss_of(module: Any, x: jax.Array, target: jax.Array) -> tuple[jax.Array, Any]:
        module, y = pax.purecall(module, x)
        return loss(y, target), module

    def step(module: Any, optimizer: Any, x: jax.Array, target: jax.Array) -> Any:
        (value, module), gradients = pax.value_and_grad(loss_of, has_aux=True)(module, x, target)
        module, optimizer = opax.apply_gradients(module, optimizer, gradients)
        return module, optimizer, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    module = jax.tree.map(jnp.copy, network.rest)
    optimizer: Any = opax.adam(LEARNING_RATE)(module.parameters())

    def advance() -> jax.Array:
        nonlocal module, optimizer
        module, optimizer, value = compiled(module, optimizer, x, target)
        loss_value: jax.Array = jax.block_until_ready(value)
        return loss_value

    return advance


def _check(cases: dict[str, Advance]) -> None:
    """Does the first steps and compares the losses with those of the first case."""
    losses = {label: [float(advance()) for _ in range(_CHECKED_STEPS)] for label, advance in cases.items()}
    expected = next(iter(losses.values()))
    for label, found in losses.items():
        if not np.allclose(found, expected, rtol=_TOLERANCE, atol=0):
            raise RuntimeError(f"{label} computes something else: losses {found}, expected {expected}")
