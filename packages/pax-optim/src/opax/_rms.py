"""Updates divided by the size that they usually have, and RMSprop, which consists of it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._momentum import trace
from opax._precision import keep_dtypes, widen
from opax._scale import identity, scale_by_learning_rate
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, full_like, zeros_like
from opax.schedule import ScheduleOrFloat


class ScaleByRms(GradientTransformation):
    """Divides updates by the root of a running mean of their squares.

    State:
        nu: mean of the squares; a tree like the parameters, float32 where they have half precision.
    """

    _factory_name = "scale_by_rms"

    decay_rate: float
    eps: float
    nu: Any

    def __init__(
        self, params: Any, decay_rate: float, eps: float, initial_scale: float, state_dtype: DTypeLike | None = None
    ) -> None:
        """Starts with ``initial_scale`` everywhere.

        Args:
            params: the tree of parameters.
            decay_rate: weight of the old mean.
            eps: added inside the root.
            initial_scale: the mean before the first step.
            state_dtype: of the mean.
        """
        super().__init__(params)
        self.decay_rate = decay_rate
        self.eps = eps
        self.nu = full_like(params, initial_scale, state_dtype)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates / sqrt(nu + eps)`` with the new mean, in the dtypes of ``updates``."""
        check_alike(updates, self.nu, what="updates and the optimizer's state", module=self)
        state = optax.ScaleByRmsState(nu=widen(self.nu, updates))
        scaled, state = optax.scale_by_rms(self.decay_rate, self.eps).update(widen(updates, self.nu), state)
        self.nu = keep_dtypes(state.nu, self.nu)
        return cast_like(scaled, updates)


class ScaleByStddev(GradientTransformation):
    """Divides updates by the root of a running estimate of their variance.

    State:
        mu: mean of the updates; a tree like the parameters, float32 where they have half precision.
        nu: mean of the squares, likewise.
    """

    _factory_name = "scale_by_stddev"

    decay_rate: float
    eps: float
    mu: Any
    nu: Any

    def __init__(
        self, params: Any, decay_rate: float, eps: float, initial_scale: float, state_dtype: DTypeLike | None = None
    ) -> None:
        """Starts with a mean of zero, and ``initial_scale`` as that of the squares.

        Args:
            params: the tree of parameters.
            decay_rate: weight of the old means.
            eps: added inside the root.
            initial_scale: the mean of squares before the first step.
            state_dtype: of the means.
        """
        super().__init__(params)
        self.decay_rate = decay_rate
        self.eps = eps
        self.mu = zeros_like(params, state_dtype)
        self.nu = full_like(params, initial_scale, state_dtype)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates / sqrt(nu - mu² + eps)`` with the new means, in the dtypes of ``updates``."""
        check_alike(updates, self.mu, what="updates and the optimizer's state", module=self)
        wide = widen(updates, self.mu)
        mu = optax.tree_utils.tree_update_moment(wide, widen(self.mu, updates), self.decay_rate, 1)
        nu = optax.tree_utils.tree_update_moment_per_elem_norm(wide, widen(self.nu, updates), self.decay_rate, 2)
        self.mu, self.nu = keep_dtypes(mu, self.mu), keep_dtypes(nu, self.nu)
        return cast_like(jax.tree.map(self._scaled, wide, mu, nu), updates)

    def _scaled(self, update: jax.Array, mu: jax.Array, nu: jax.Array) -> jax.Array:
        # Unlike optax.scale_by_stddev: rounding can put this difference below -eps, and the root would be NaN.
        variance = jnp.maximum((nu - mu * jnp.conj(mu)).real, 0)
        return update * jax.lax.rsqrt(variance + self.eps).astype(update.dtype)


def _arguments_of(
    where: str, decay_rate: float, eps: float, initial_scale: float, state_dtype: DTypeLike | None
) -> tuple[tuple[str, Any], ...]:
    return (
        ("decay_rate", _arguments.number(decay_rate, what="decay_rate", where=where, low=0, below=1)),
        ("eps", _arguments.number(eps, what="eps", where=where, low=0)),
        ("initial_scale", _arguments.number(initial_scale, what="initial_scale", where=where, low=0)),
        ("state_dtype", _arguments.dtype(state_dtype, where=where)),
    )


def scale_by_rms(
    decay_rate: float = 0.9, eps: float = 1e-8, initial_scale: float = 0.0, *, state_dtype: DTypeLike | None = None
) -> Factory[ScaleByRms]:
    """Makes a transformation that divides updates by the root of a running mean of their squares.

    ``nu = (1 - decay_rate) g² + decay_rate nu``; the updates are ``g / sqrt(nu + eps)``. The mean is not
    bias-corrected: with ``initial_scale=0`` the first updates are about ``1 / sqrt(1 - decay_rate)``.

    Args:
        decay_rate: weight of the old mean, in [0, 1).
        eps: added inside the root, not negative.
        initial_scale: the mean before the first step, not negative.
        state_dtype: dtype of the mean, a floating one; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number, or no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer, updates = pax.purecall(opax.scale_by_rms(0.75)(jnp.zeros(1)), jnp.array([8.0]))
    >>> updates, optimizer.nu
    (Array([2.], dtype=float32), Array([16.], dtype=float32))

    References:
        Tieleman & Hinton, "Lecture 6.5: rmsprop", 2012,
        https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; computed by ``optax.scale_by_rms``.
    """
    return Factory(ScaleByRms, _arguments_of("scale_by_rms", decay_rate, eps, initial_scale, state_dtype))


def scale_by_stddev(
    decay_rate: float = 0.9, eps: float = 1e-8, initial_scale: float = 0.0, *, state_dtype: DTypeLike | None = None
) -> Factory[ScaleByStddev]:
    """Makes a transformation that divides updates by the root of a running estimate of their variance.

    ``mu = (1 - decay_rate) g + decay_rate mu``, ``nu = (1 - decay_rate) g² + decay_rate nu``; the updates are
    ``g / sqrt(nu - mu² + eps)``. A difference that is rounded to a negative number counts as 0.

    Args:
        decay_rate: weight of the old means, in [0, 1).
        eps: added inside the root, not negative. Where gradients hardly change, it alone bounds the updates.
        initial_scale: the mean of squares before the first step, not negative.
        state_dtype: dtype of the means, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number, or no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer, updates = pax.purecall(opax.scale_by_stddev(0.5)(jnp.zeros(1)), jnp.array([8.0]))
    >>> updates, optimizer.mu, optimizer.nu
    (Array([2.], dtype=float32), Array([4.], dtype=float32), Array([32.], dtype=float32))

    References:
        Graves, "Generating sequences with recurrent neural networks", 2013, https://arxiv.org/abs/1308.0850
        (eqs. 38-41).
    """
    return Factory(ScaleByStddev, _arguments_of("scale_by_stddev", decay_rate, eps, initial_scale, state_dtype))


def rmsprop(
    learning_rate: ScheduleOrFloat = 1e-4,
    decay_rate: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    centered: bool = False,
    momentum: float | None = None,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer RMSprop: ``scale_by_rms`` or ``scale_by_stddev``, the learning rate, then ``trace``.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        decay_rate: weight of the old mean of squares, in [0, 1).
        eps: added inside the root of the mean of squares, not negative; PyTorch adds its ``eps`` to the root.
        initial_scale: the mean of squares before the first step, not negative; TensorFlow 1 starts with 1.
        centered: divide by the root of the variance, not of the mean of squares.
        momentum: what remains of the previous steps, not negative. ``None``: no momentum, and ``identity`` in its
            place. As it follows the learning rate, a change of the rate does not change what remains.
        state_dtype: dtype of means and momentum, a floating one; ``None``: float32 for parameters of half precision,
            else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].nu`` is the mean of squares.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is neither a number nor (the learning rate) a function, or no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> print(opax.rmsprop(0.1)({"w": jnp.ones(2)}).summary())
    chain.<locals>.Chain
    ├── scale_by_rms.<locals>.ScaleByRms
    ├── scale.<locals>.Scale
    └── identity.<locals>.Identity

    References:
        Tieleman & Hinton, "Lecture 6.5: rmsprop", 2012,
        https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf;
        Graves, "Generating sequences with recurrent neural networks", 2013, https://arxiv.org/abs/1308.0850
        (centered, with momentum).
    """
    scale_by = scale_by_stddev if _arguments.flag(centered, what="centered", where="rmsprop") else scale_by_rms
    return chain(
        scale_by(decay_rate, eps, initial_scale, state_dtype=state_dtype),
        scale_by_learning_rate(learning_rate),
        # After the learning rate, as in Graves's equations; optax.rmsprop has it before.
        identity() if momentum is None else trace(momentum, state_dtype=state_dtype),
    )
