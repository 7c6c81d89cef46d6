"""Momentum, and the optimizer that consists of it."""

from typing import Any

import optax

from opax import _arguments
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._scale import scale_by_learning_rate
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, zeros_like
from opax.schedule import ScheduleOrFloat


class Trace(GradientTransformation):
    """Adds up decaying updates.

    State:
        trace: a tree like the parameters, float32 where they have half precision.
    """

    _factory_name = "trace"

    decay_rate: float
    trace: Any

    def __init__(self, params: Any, decay_rate: float) -> None:
        """Starts with zeros.

        Args:
            params: the tree of parameters.
            decay_rate: what remains of the trace in each step.
        """
        super().__init__(params)
        self.decay_rate = decay_rate
        self.trace = zeros_like(params)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the new trace, ``updates + decay_rate * trace``, in the dtypes of ``updates``."""
        check_alike(updates, self.trace, what="updates and the optimizer's state", module=self)
        wide = cast_like(updates, self.trace)
        # A trace is its own update.
        self.trace, _ = optax.trace(self.decay_rate).update(wide, optax.TraceState(self.trace))
        return cast_like(self.trace, updates)


def trace(decay_rate: float) -> Factory[Trace]:
    """Makes a transformation that adds up decaying updates: momentum.

    ``t = g + decay_rate * t``; the updates are ``t`` (Polyak's heavy ball; no Nesterov, no dampening).

    Args:
        decay_rate: what remains of the trace in each step, not negative.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: ``decay_rate`` is negative.
        ArgumentTypeError: ``decay_rate`` is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.trace(0.5)(jnp.zeros(1))
    >>> for _ in range(3):
    ...     optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    >>> updates
    Array([1.75], dtype=float32)
    """
    return Factory(Trace, (("decay_rate", _arguments.number(decay_rate, what="decay_rate", where="trace", low=0)),))


def sgd(learning_rate: ScheduleOrFloat = 1e-2, momentum: float = 0.9) -> Factory[Chain]:
    """Makes the optimizer "stochastic gradient descent with momentum": ``trace``, then the learning rate.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        momentum: what remains of the previous steps, not negative; 0 is gradient descent.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].trace`` is the momentum.

    Raises:
        ArgumentError: ``momentum`` is negative.
        ArgumentTypeError: an argument that is neither a number nor (the learning rate) a function.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> print(opax.sgd(0.1)({"w": jnp.ones(2)}).summary())
    chain.<locals>.Chain
    ├── trace.<locals>.Trace
    └── scale.<locals>.Scale
    """
    return chain(trace(momentum), scale_by_learning_rate(learning_rate))
