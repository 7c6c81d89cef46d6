"""Momentum, and the optimizer that consists of it."""

from typing import Any

import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._precision import keep_dtypes, widen
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
    nesterov: bool
    trace: Any

    def __init__(
        self, params: Any, decay_rate: float, nesterov: bool = False, state_dtype: DTypeLike | None = None
    ) -> None:
        """Starts with zeros.

        Args:
            params: the tree of parameters.
            decay_rate: what remains of the trace in each step.
            nesterov: whether the updates look a step ahead.
            state_dtype: of the trace.
        """
        super().__init__(params)
        self.decay_rate = decay_rate
        self.nesterov = nesterov
        self.trace = zeros_like(params, state_dtype)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the new trace, or with ``nesterov`` the one that would follow, in the dtypes of ``updates``."""
        check_alike(updates, self.trace, what="updates and the optimizer's state", module=self)
        state = optax.TraceState(widen(self.trace, updates))
        moved, state = optax.trace(self.decay_rate, self.nesterov).update(widen(updates, self.trace), state)
        self.trace = keep_dtypes(state.trace, self.trace)
        return cast_like(moved, updates)


def trace(decay_rate: float, nesterov: bool = False, *, state_dtype: DTypeLike | None = None) -> Factory[Trace]:
    """Makes a transformation that adds up decaying updates: momentum.

    ``t = g + decay_rate * t``; the updates are ``t`` (Polyak's heavy ball, no dampening), or with ``nesterov``
    ``g + decay_rate * t``, with the new ``t``.

    Args:
        decay_rate: what remains of the trace in each step, not negative.
        nesterov: look a step ahead.
        state_dtype: dtype of the trace, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: ``decay_rate`` is negative.
        ArgumentTypeError: ``decay_rate`` is no number, ``nesterov`` no boolean, or ``state_dtype`` no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.trace(0.5)(jnp.zeros(1))
    >>> for _ in range(3):
    ...     optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    >>> updates
    Array([1.75], dtype=float32)

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013,
        https://proceedings.mlr.press/v28/sutskever13.html; computed by ``optax.trace``.
    """
    return Factory(
        Trace,
        (
            ("decay_rate", _arguments.number(decay_rate, what="decay_rate", where="trace", low=0)),
            ("nesterov", _arguments.flag(nesterov, what="nesterov", where="trace")),
            ("state_dtype", _arguments.dtype(state_dtype, where="trace")),
        ),
    )


def sgd(
    learning_rate: ScheduleOrFloat = 1e-2,
    momentum: float = 0.9,
    nesterov: bool = False,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer "stochastic gradient descent with momentum": ``trace``, then the learning rate.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        momentum: what remains of the previous steps, not negative; 0 is gradient descent.
        nesterov: take the momentum that the next step would have: Nesterov's method, in the form that PyTorch has.
        state_dtype: dtype of the momentum, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].trace`` is the momentum.

    Raises:
        ArgumentError: ``momentum`` is negative.
        ArgumentTypeError: an argument that is neither a number nor (the learning rate) a function; ``nesterov`` is no
            boolean, or ``state_dtype`` no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> print(opax.sgd(0.1)({"w": jnp.ones(2)}).summary())
    chain.<locals>.Chain
    ├── trace.<locals>.Trace
    └── scale.<locals>.Scale
    """
    # Checked here, so that errors speak of the argument by its name.
    momentum = _arguments.number(momentum, what="momentum", where="sgd", low=0)
    return chain(trace(momentum, nesterov, state_dtype=state_dtype), scale_by_learning_rate(learning_rate))
