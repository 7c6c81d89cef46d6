"""One Adam step, written once, over the leaves of any tree."""

from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

LEARNING_RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8


class AdamState(NamedTuple):
    """Two moments, trees like the parameters, and the number of steps done."""

    mu: Any
    nu: Any
    steps: jax.Array

    @classmethod
    def of(cls, params: Any) -> Self:
        return cls(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params), jnp.zeros(()))


def adam(params: Any, gradients: Any, state: AdamState) -> tuple[Any, AdamState]:
    """Returns the new parameters and the new state."""
    steps = state.steps + 1
    correction1, correction2 = 1 - B1**steps, 1 - B2**steps
    leaves, structure = jax.tree.flatten(params)
    new = [
        _update(p, g, mu, nu, correction1, correction2)
        for p, g, mu, nu in zip(
            leaves, jax.tree.leaves(gradients), jax.tree.leaves(state.mu), jax.tree.leaves(state.nu), strict=True
        )
    ]
    params, mu, nu = (jax.tree.unflatten(structure, column) for column in zip(*new, strict=True))
    return params, AdamState(mu, nu, steps)


@partial(jax.jit, inline=True)  # leaves nothing behind; makes tracing of a thousand leaves faster
def _update(
    p: jax.Array, g: jax.Array, mu: jax.Array, nu: jax.Array, correction1: jax.Array, correction2: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = B1 * mu + (1 - B1) * g
    nu = B2 * nu + (1 - B2) * g * g
    return p - LEARNING_RATE * (mu / correction1) / (jnp.sqrt(nu / correction2) + EPS), mu, nu
