"""Optimizers with a learning rate for each element, made of the sizes of its gradients: AdaGrad and its heirs."""

from typing import Any

import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._chain import Chain, chain
from opax._clipping import clip_by_block_rms
from opax._ema import ema
from opax._factory import Factory
from opax._optax_part import Checked
from opax._scale import scale_by_learning_rate
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


def adagrad(
    learning_rate: ScheduleOrFloat = 1e-2,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer AdaGrad: gradients, divided by the root of the sum of all their squares so far.

    ``s = s + g²``; the updates are ``learning_rate * g / sqrt(s + eps)``.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        initial_accumulator_value: where the sum of squares starts, not negative.
        eps: added inside the root, not negative.
        state_dtype: dtype of the sum; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].sum_of_squares`` is the sum.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.ones(1)
    >>> optimizer = opax.adagrad(1.0, initial_accumulator_value=0.0)(params)
    >>> for _ in range(4):
    ...     updates, optimizer = opax.transform_gradients(jnp.array([3.0]), optimizer, params)
    >>> round(float(updates[0]), 4)
    0.5

    References:
        Duchi et al., "Adaptive subgradient methods", 2011, https://jmlr.org/papers/v12/duchi11a.html.
    """
    checked = Checked("adagrad")
    options = checked.positive(initial_accumulator_value=initial_accumulator_value, eps=eps)
    return chain(checked.part(optax.scale_by_rss, state_dtype, **options), scale_by_learning_rate(learning_rate))


def adadelta(
    learning_rate: ScheduleOrFloat = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer AdaDelta: gradients, scaled by the size of past updates over that of past gradients.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        rho: weight of the old means of squares, in [0, 1).
        eps: added inside both roots; it makes the first step possible. Not negative.
        weight_decay: multiple of the parameters that is added to the gradients.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of both means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[1].e_g`` and ``optimizer[1].e_x`` are the means of squares
        of gradients and of updates.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> print(opax.adadelta()({"w": jnp.ones(2)}).summary())
    chain.<locals>.Chain
    ├── add_decayed_weights.<locals>.AddDecayedWeights
    ├── from_optax.<locals>.FromOptax(scale_by_adadelta)
    └── scale.<locals>.Scale

    References:
        Zeiler, "ADADELTA: an adaptive learning rate method", 2012, https://arxiv.org/abs/1212.5701.
    """
    checked = Checked("adadelta")
    return chain(
        add_decayed_weights(weight_decay, mask),
        checked.part(optax.scale_by_adadelta, state_dtype, **checked.decay(rho=rho), **checked.positive(eps=eps)),
        scale_by_learning_rate(learning_rate),
    )


def adafactor(
    learning_rate: ScheduleOrFloat = 1e-2,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    weight_decay: float | None = None,
    eps: float = 1e-30,
    factored: bool = True,
    *,
    mask: Selector | None = None,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer Adafactor: like Adam, but of a matrix's squares only the means of rows and columns are kept.

    In this order: scaling by the factored means; limit of each array's root mean square; learning rate; multiplication
    by each parameter's own root mean square (at least 0.001); running mean; weight decay, which is *not* multiplied by
    the learning rate. An option that is off leaves its step out.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one). Relative
            to the size of each parameter, unless ``multiply_by_parameter_scale=False``.
        min_dim_size_to_factor: arrays whose two largest dimensions have at least this size are factored, above 0.
        decay_rate: the means forget with ``1 - step ** -decay_rate``; not negative.
        multiply_by_parameter_scale: whether the learning rate is relative.
        clipping_threshold: largest root mean square of an array's updates, above 0; ``None``: no limit.
        momentum: weight of the old mean of updates, in [0, 1); ``None``: no mean.
        weight_decay: part of the parameters that goes in each step; ``None``: none.
        eps: added to the squares of gradients, not negative.
        factored: whether to factor at all.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all.
        state_dtype: dtype of the means; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].v_row``, ``.v_col`` and (where not factored) ``.v`` are
        the means of squares.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> optimizer = opax.adafactor(min_dim_size_to_factor=4)({"w": jnp.ones((8, 4))})
    >>> optimizer[0].v_row["w"].shape, optimizer[0].v_col["w"].shape
    ((4,), (8,))

    References:
        Shazeer & Stern, "Adafactor", 2018, https://arxiv.org/abs/1804.04235.
    """
    where, checked = "adafactor", Checked("adafactor")
    parts: list[Any] = [
        checked.part(
            optax.scale_by_factored_rms,
            state_dtype,
            factored=_arguments.flag(factored, what="factored", where=where),
            min_dim_size_to_factor=_arguments.whole_number(
                min_dim_size_to_factor, what="min_dim_size_to_factor", where=where, low=1
            ),
            epsilon=checked.positive(eps=eps)["eps"],
            **checked.positive(decay_rate=decay_rate),
        )
    ]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    parts.append(scale_by_learning_rate(learning_rate))
    if _arguments.flag(multiply_by_parameter_scale, what="multiply_by_parameter_scale", where=where):
        parts.append(checked.part(optax.scale_by_param_block_rms))
    if momentum is not None:
        parts.append(ema(momentum, debias=False, state_dtype=state_dtype))
    if weight_decay is not None or mask is not None:
        parts.append(add_decayed_weights(0.0 if weight_decay is None else weight_decay, mask))
    return chain(*parts)
