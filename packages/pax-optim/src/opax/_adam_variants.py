"""Optimizers that differ from Adam in one point."""

import optax
from jax.typing import DTypeLike

from opax._chain import Chain, chain
from opax._factory import Factory
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax.schedule import ScheduleOrFloat


def radam(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer RAdam: Adam that warms up by itself, as long as its mean of squares is not to be trusted.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        threshold: the first steps, in which the mean of squares averages over fewer gradients than this, have
            momentum only; not negative.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].mu`` is the mean of the gradients.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.ones(1)
    >>> updates, _ = opax.transform_gradients(jnp.array([2.0]), opax.radam(0.1)(params), params)
    >>> round(float(updates[0]), 4)  # at first, gradient descent
    0.2

    References:
        Liu et al., "On the variance of the adaptive learning rate", 2020, https://arxiv.org/abs/1908.03265.
    """
    checked = Checked("radam")
    options = {**checked.decay(b1=b1, b2=b2), **checked.positive(eps=eps, eps_root=eps_root, threshold=threshold)}
    return chain(checked.part(optax.scale_by_radam, state_dtype, **options), scale_by_learning_rate(learning_rate))


def amsgrad(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer AMSGrad: Adam that divides by the largest mean of squares so far, not by the last one.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        state_dtype: dtype of the means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].nu_max`` is the largest mean of squares.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> sorted(opax.amsgrad()(jnp.ones(1))[0].pytree_attributes)
    ['count', 'mu', 'nu', 'nu_max']

    References:
        Reddi et al., "On the convergence of Adam and beyond", 2018, https://arxiv.org/abs/1904.09237.
    """
    checked = Checked("amsgrad")
    options = {**checked.decay(b1=b1, b2=b2), **checked.positive(eps=eps, eps_root=eps_root)}
    return chain(checked.part(optax.scale_by_amsgrad, state_dtype, **options), scale_by_learning_rate(learning_rate))


def adabelief(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer AdaBelief: Adam that divides by how far gradients are from their mean, not by their size.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of squared distances, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added to the mean of squares in each step, not negative.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].nu`` is the mean of squared distances.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.ones(1)
    >>> updates, _ = opax.transform_gradients(jnp.array([2.0]), opax.adabelief(0.1)(params), params)
    >>> round(float(updates[0]), 4)
    0.1111

    References:
        Zhuang et al., "AdaBelief optimizer", 2020, https://arxiv.org/abs/2010.07468.
    """
    checked = Checked("adabelief")
    options = {**checked.decay(b1=b1, b2=b2), **checked.positive(eps=eps, eps_root=eps_root)}
    return chain(checked.part(optax.scale_by_belief, state_dtype, **options), scale_by_learning_rate(learning_rate))


def adamax(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer AdaMax: Adam that divides by a decaying maximum of the gradients' sizes.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: what remains of the old maximum in each step, in [0, 1).
        eps: added to the sizes, not negative.
        state_dtype: dtype of mean and maximum; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].nu`` is the maximum.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.ones(1)
    >>> updates, _ = opax.transform_gradients(jnp.array([2.0]), opax.adamax(0.1)(params), params)
    >>> round(float(updates[0]), 4)
    0.1

    References:
        Kingma & Ba, "Adam", 2015, section 7.1, https://arxiv.org/abs/1412.6980.
    """
    checked = Checked("adamax")
    options = {**checked.decay(b1=b1, b2=b2), **checked.positive(eps=eps)}
    return chain(checked.part(optax.scale_by_adamax, state_dtype, **options), scale_by_learning_rate(learning_rate))
