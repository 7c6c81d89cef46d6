"""Adam with Nesterov's momentum."""

import optax
from jax.typing import DTypeLike

from opax._chain import Chain, chain
from opax._factory import Factory
from opax._from_optax import FromOptax
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


def nadam(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer NAdam: Adam that looks one step ahead, as Nesterov's momentum does.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].mu`` is the mean of the gradients.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.ones(1)
    >>> updates, _ = opax.transform_gradients(jnp.array([2.0]), opax.nadam(0.1)(params), params)
    >>> round(float(updates[0]), 4)  # Adam's would be 0.1
    0.1474

    References:
        Dozat, "Incorporating Nesterov momentum into Adam", 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
        As in optax, without the schedule of ``b1``.
    """
    return chain(_moments("nadam", b1, b2, eps, eps_root, state_dtype), scale_by_learning_rate(learning_rate))


def nadamw(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer NAdamW: :func:`opax.nadam` with weight decay, as in :func:`opax.adamw`.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        weight_decay: each step shrinks the parameters by ``learning_rate * weight_decay``.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> len(opax.nadamw(1e-3)({"w": jnp.ones(2)}))
    3

    References:
        Dozat, "Incorporating Nesterov momentum into Adam", 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
        Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, https://arxiv.org/abs/1711.05101.
    """
    return chain(
        _moments("nadamw", b1, b2, eps, eps_root, state_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def _moments(
    where: str, b1: float, b2: float, eps: float, eps_root: float, state_dtype: DTypeLike | None
) -> Factory[FromOptax]:
    checked = Checked(where)
    options = {**checked.decay(b1=b1, b2=b2), **checked.positive(eps=eps, eps_root=eps_root)}
    return checked.part(optax.scale_by_adam, state_dtype, nesterov=True, **options)
