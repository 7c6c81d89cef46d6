"""Muon."""

import optax.contrib
from jax.typing import DTypeLike

from opax import _arguments
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._from_optax import from_optax
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


def muon(
    learning_rate: ScheduleOrFloat = 1e-3,
    beta: float = 0.95,
    ns_steps: int = 5,
    eps: float = 1e-8,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer Muon: momentum, made orthogonal, for matrices; Adam for everything else.

    A matrix is a parameter of rank 2. Its running mean is brought near to the orthogonal matrix of the same singular
    vectors by ``ns_steps`` steps of Newton and Schulz, and scaled for its shape. To choose the parameters yourself, or
    another learning rate for the rest, use :func:`opax.partition`.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one); of both.
        beta: weight of the old mean of a matrix's gradients, in [0, 1).
        ns_steps: steps of the iteration, not negative.
        eps: keeps the iteration from dividing by zero, and Adam; not negative.
        nesterov: whether to look one step ahead.
        weight_decay: each step shrinks the parameters by ``learning_rate * weight_decay``.
        adam_b1: weight of Adam's old mean of the gradients, in [0, 1).
        adam_b2: weight of Adam's old mean of their squares, in [0, 1).
        adam_eps_root: added inside of Adam's root, not negative.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of the means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. The means are ``optimizer[0].inner_states["muon"].inner_state[0].mu``,
        and those of Adam below ``inner_states["adam"]``.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = {"weight": jnp.eye(3), "bias": jnp.zeros(3)}
    >>> optimizer = opax.muon(0.1)(params)
    >>> updates, optimizer = opax.transform_gradients(params, optimizer, params)
    >>> bool(jnp.all(jnp.abs(jnp.linalg.svd(updates["weight"])[1] - 0.1) < 0.05))  # about orthogonal
    True

    References:
        Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
        https://kellerjordan.github.io/posts/muon.
    """
    where, checked = "muon", Checked("muon")
    direction = from_optax(
        optax.contrib.muon,
        negate=True,
        state_dtype=_arguments.dtype(state_dtype, where=where),
        learning_rate=1.0,  # the real one comes last, and so that it can be read
        ns_steps=_arguments.whole_number(ns_steps, what="ns_steps", where=where, low=0),
        nesterov=_arguments.flag(nesterov, what="nesterov", where=where),
        **checked.decay(beta=beta, adam_b1=adam_b1, adam_b2=adam_b2),
        **checked.positive(eps=eps, adam_eps_root=adam_eps_root),
    )
    return chain(direction, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
