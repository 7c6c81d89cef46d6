"""Noise added to updates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax import _arguments
from opax._factory import Factory
from opax._precision import at_least_float32
from opax._transformation import GradientTransformation
from opax._trees import cast_like


class AddNoise(GradientTransformation):
    """Adds normally distributed noise whose variance falls with the number of steps.

    State:
        count: int32 scalar, steps taken.
        rng_key: the key of the next noise, ``uint32[2]``; a typed key that takes its place works as well.
    """

    _factory_name = "add_noise"

    eta: float
    gamma: float
    count: jax.Array
    rng_key: jax.Array

    def __init__(self, params: Any, eta: float, gamma: float, seed: int) -> None:
        """Starts at step 0.

        Args:
            params: the tree of parameters.
            eta: variance in the first step.
            gamma: how fast it falls.
            seed: seeds the noise.
        """
        super().__init__(params)
        self.eta = eta
        self.gamma = gamma
        self.count = jnp.zeros((), jnp.int32)
        self.rng_key = jax.random.PRNGKey(seed)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Counts a step and returns ``updates`` plus noise, in their dtypes."""
        leaves, structure = jax.tree.flatten(updates)
        # In half precision there would be few different values of the noise.
        wide = [at_least_float32(leaf) for leaf in leaves]
        state = optax.AddNoiseState(count=self.count, rng_key=self.rng_key)
        # optax takes a power of an integer, which strict promotion forbids. The key it is given here would be for
        # `init`, and its name depends on the version.
        with jax.numpy_dtype_promotion("standard"):
            noisy, state = optax.add_noise(self.eta, self.gamma, 0).update(wide, state)
        self.count, self.rng_key = state.count, state.rng_key
        return jax.tree.unflatten(structure, cast_like(noisy, leaves))


def add_noise(eta: float, gamma: float, seed: int) -> Factory[AddNoise]:
    """Makes a transformation that adds normally distributed noise to the updates.

    Its variance in step ``t = 1, 2, …`` is ``eta / t^gamma``. It helps very deep networks out of a bad start.

    Args:
        eta: variance in the first step, not negative; the paper used 0.01, 0.3 and 1.
        gamma: how fast the variance falls, not negative; 0.55 in the paper.
        seed: seeds the noise: an integer. Equal seeds give equal noise; use another one for each optimizer.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number, or a seed that is no integer.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.add_noise(eta=0.01, gamma=0.55, seed=0)(jnp.zeros(1000))
    >>> optimizer, updates = pax.purecall(optimizer, jnp.zeros(1000))
    >>> bool(0.09 < updates.std() < 0.11), int(optimizer.count)
    (True, 1)

    References:
        Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015,
        https://arxiv.org/abs/1511.06807 (eq. 1, where ``t`` starts at 0); computed by ``optax.add_noise``.
    """
    where = "add_noise"
    return Factory(
        AddNoise,
        (
            ("eta", _arguments.number(eta, what="eta", where=where, low=0)),
            ("gamma", _arguments.number(gamma, what="gamma", where=where, low=0)),
            ("seed", _arguments.seed(seed, where=where)),
        ),
    )
