"""Fifty steps with opax and with optax, from the same parameters and with the same gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import opax

STEPS = 50
_RATE = 0.05  # for a transformation that has no learning rate


@dataclass(frozen=True)
class Trajectory:
    """A public name of opax and what it should compute.

    Attributes:
        of: the name in opax.
        ours: makes the factory.
        theirs: makes optax's gradient transformation; ``None`` if optax has none of that kind.
        variant: says what is special, if there are several of one name.
        optimizer: what ``theirs`` returns is to be added to the parameters, learning rate included; otherwise it is
            like gradients, and so is what ``ours`` returns.
        tolerance: largest difference allowed, relative to the largest parameter or 1.
        counterpart: how optax calls it.
        note: why the two differ in more than rounding, if they do.
    """

    of: str
    ours: Callable[[], Any]
    theirs: Callable[[], optax.GradientTransformation]
    variant: str = ""
    optimizer: bool = True
    tolerance: float = 1e-6
    counterpart: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.of}, {self.variant}" if self.variant else self.of


def start() -> dict[str, jax.Array]:
    """Returns parameters of several ranks; matrices are large enough for optimizers that treat them specially."""
    keys = jax.random.split(jax.random.key(3), 3)
    return {
        "bias": jax.random.normal(keys[0], (3,)),
        "scale": jax.random.normal(keys[1], ()),
        "weight": jax.random.normal(keys[2], (4, 3)),
    }


def gradients(params: Any, step: jax.Array) -> Any:
    """Returns the gradients of a function with valleys, different in each step, as those of batches are."""

    def value(params: Any) -> jax.Array:
        x = jax.random.normal(jax.random.fold_in(jax.random.key(7), step), (8, 4))
        y = jnp.tanh(x @ params["weight"] + params["bias"][None]) * params["scale"]
        return jnp.mean((y - jnp.sin(x[:, :3])) ** 2) + 0.1 * jnp.sum(params["weight"][0] ** 4)

    return jax.grad(value)(params)


def run_opax(case: Trajectory) -> list[Any]:
    """Returns the parameters after each step."""
    params = start()
    optimizer = case.ours()(params)

    @jax.jit
    def advance(params: Any, optimizer: Any, step: jax.Array) -> Any:
        updates, optimizer = opax.transform_gradients(gradients(params, step), optimizer, params)
        if not case.optimizer:
            updates = jax.tree.map(lambda u: _RATE * u, updates)
        return opax.apply_updates(params, updates), optimizer

    found = []
    for step in range(STEPS):
        params, optimizer = advance(params, optimizer, jnp.asarray(step))
        found.append(params)
    return found


def run_optax(case: Trajectory) -> list[Any]:
    """Returns the parameters after each step; optax counts on JAX's implicit promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return _run_optax(case)


def _run_optax(case: Trajectory) -> list[Any]:
    params = start()
    transformation = optax.with_extra_args_support(case.theirs())
    state = transformation.init(params)

    @jax.jit
    def advance(params: Any, state: Any, step: jax.Array) -> Any:
        updates, state = transformation.update(gradients(params, step), state, params)
        if not case.optimizer:
            updates = jax.tree.map(lambda u: -_RATE * u, updates)
        return optax.apply_updates(params, updates), state

    found = []
    for step in range(STEPS):
        params, state = advance(params, state, jnp.asarray(step))
        found.append(params)
    return found


def largest_difference(case: Trajectory) -> float:
    """Returns the largest difference in any step, relative to the largest parameter of that step or 1."""
    return max(
        max(float(np.max(np.abs(a - b))) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
        / max(1.0, max(float(np.max(np.abs(b))) for b in jax.tree.leaves(theirs)))
        for ours, theirs in zip(run_opax(case), run_optax(case), strict=True)
    )


def has_moved(case: Trajectory) -> bool:
    """Whether the parameters are other ones at the end."""
    last = run_optax(case)[-1]
    return any(
        bool(np.any(np.abs(a - b) > 1e-3)) for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(start()), strict=True)
    )
