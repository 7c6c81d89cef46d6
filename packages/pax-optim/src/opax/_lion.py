"""Lion."""

import optax
from jax.typing import DTypeLike

from opax._chain import Chain, chain
from opax._factory import Factory
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


def lion(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1e-3,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer Lion: steps of the size of the learning rate, in the direction of the sign of a running mean.

    The updates are ``sign(b1 mu + (1 - b1) g)``, with ``mu = b2 mu + (1 - b2) g`` after each step; then weight decay
    and the learning rate. Good learning rates are 3 to 10 times smaller than Adam's, weight decays as much larger.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the mean in the updates, in [0, 1).
        b2: weight of the old mean in the new one, in [0, 1).
        weight_decay: each step shrinks the parameters by ``learning_rate * weight_decay``.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of the mean; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].mu`` is the mean.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([1.0, -1.0])
    >>> optimizer = opax.lion(0.5, weight_decay=0.0)(params)
    >>> updates, optimizer = opax.transform_gradients(jnp.array([3.0, -0.1]), optimizer, params)
    >>> updates
    Array([ 0.5, -0.5], dtype=float32)

    References:
        Chen et al., "Symbolic discovery of optimization algorithms", 2023, https://arxiv.org/abs/2302.06675.
    """
    checked = Checked("lion")
    return chain(
        checked.part(optax.scale_by_lion, state_dtype, **checked.decay(b1=b1, b2=b2)),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
