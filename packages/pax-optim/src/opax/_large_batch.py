"""Optimizers for large batches, which scale the updates of each array by the array's norm: LAMB and LARS."""

import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._adam import scale_by_adam
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._masked import masked
from opax._momentum import trace
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


def lamb(
    learning_rate: ScheduleOrFloat = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer LAMB: AdamW, with the updates of each array scaled to the norm of the array.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one). A step
            changes each array by about this part of its norm.
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        weight_decay: multiple of the parameters that is added before the scaling.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([3.0, 4.0])
    >>> updates, _ = opax.transform_gradients(jnp.ones(2), opax.lamb(0.1)(params), params)
    >>> round(float(jnp.linalg.norm(updates)), 4)  # a tenth of the norm of the parameters
    0.5

    References:
        You et al., "Large batch optimization for deep learning", 2020, https://arxiv.org/abs/1904.00962.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, state_dtype=state_dtype),
        add_decayed_weights(weight_decay, mask),
        Checked("lamb").part(optax.scale_by_trust_ratio),
        scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: ScheduleOrFloat = 1e-2,
    momentum: float = 0.9,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    *,
    mask: Selector | None = None,
    trust_mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer LARS: the gradients of each array scaled to the norm of the array, with momentum.

    In this order: weight decay, scaling by ``trust_coefficient * norm(parameter) / (norm(gradient) + eps)``, learning
    rate, momentum (after the learning rate, as in the paper and in optax).

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        momentum: what remains of the previous steps, not negative.
        trust_coefficient: how far an array may move, relative to its norm; not negative.
        eps: added to the norm of the gradients, not negative.
        nesterov: whether to look one step ahead.
        weight_decay: multiple of the parameters that is added to the gradients.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        trust_mask: which gradients are scaled, likewise; biases and normalizations are often left out of both.
        state_dtype: dtype of the momentum; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[-1].trace`` is the momentum.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = {"w": jnp.full((2, 2), 2.0), "b": jnp.ones(2)}
    >>> optimizer = opax.lars(0.1, mask="w", trust_mask="w")(params)
    >>> updates, _ = opax.transform_gradients(params, optimizer, params)
    >>> round(float(updates["w"][0, 0]), 6), round(float(updates["b"][0]), 6)
    (0.0002, 0.1)

    References:
        You et al., "Large batch training of convolutional networks", 2017, https://arxiv.org/abs/1708.03888.
    """
    checked = Checked("lars")
    trust = checked.part(
        optax.scale_by_trust_ratio, None, **checked.positive(trust_coefficient=trust_coefficient, eps=eps)
    )
    return chain(
        add_decayed_weights(weight_decay, mask),
        trust if trust_mask is None else masked(trust, trust_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, _arguments.flag(nesterov, what="nesterov", where="lars"), state_dtype=state_dtype),
    )
