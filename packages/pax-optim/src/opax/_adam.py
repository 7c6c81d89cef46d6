"""Adam, with and without weight decay."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._chain import Chain, chain
from opax._factory import Factory
from opax._precision import keep_dtypes, widen
from opax._scale import scale_by_learning_rate
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, zeros_like
from opax._weight_decay import add_decayed_weights
from opax.schedule import ScheduleOrFloat
from pax.extend import Selector


class ScaleByAdam(GradientTransformation):
    """Divides a running mean of the updates by the root of a running mean of their squares.

    State:
        mu: mean of the updates; a tree like the parameters, float32 where they have half precision; not bias-corrected.
        nu: mean of the squares, likewise.
        count: int32 scalar, steps taken.
    """

    _factory_name = "scale_by_adam"

    b1: float
    b2: float
    eps: float
    eps_root: float
    mu: Any
    nu: Any
    count: jax.Array

    def __init__(
        self,
        params: Any,
        b1: float,
        b2: float,
        eps: float,
        eps_root: float,
        state_dtype: DTypeLike | None = None,
    ) -> None:
        """Starts with zeros.

        Args:
            params: the tree of parameters.
            b1: weight of the old mean.
            b2: weight of the old mean of squares.
            eps: added to the root.
            eps_root: added inside the root.
            state_dtype: of the means.
        """
        super().__init__(params)
        self.b1 = b1
        self.b2 = b2
        self.eps = eps
        self.eps_root = eps_root
        self.mu = zeros_like(params, state_dtype)
        self.nu = zeros_like(params, state_dtype)
        self.count = jnp.zeros((), jnp.int32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``m / (sqrt(v + eps_root) + eps)`` with the bias-corrected means, in the dtypes of ``updates``."""
        check_alike(updates, self.mu, what="updates and the optimizer's state", module=self)
        mu, nu = widen(self.mu, updates), widen(self.nu, updates)
        state = optax.ScaleByAdamState(count=self.count, mu=mu, nu=nu)
        # optax takes a power with an integer exponent, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            adam = optax.scale_by_adam(self.b1, self.b2, self.eps, self.eps_root)
            scaled, state = adam.update(widen(updates, self.mu), state)
        self.mu, self.nu = keep_dtypes(state.mu, self.mu), keep_dtypes(state.nu, self.nu)
        self.count = state.count
        return cast_like(scaled, updates)


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[ScaleByAdam]:
    """Makes the transformation of Adam, without its learning rate.

    ``mu = (1 - b1) g + b1 mu``, ``nu = (1 - b2) g² + b2 nu``; the updates are ``m / (sqrt(v + eps_root) + eps)`` with
    the bias-corrected ``m = mu / (1 - b1^t)``, ``v = nu / (1 - b2^t)`` in step ``t = 1, 2, …``.

    Args:
        b1: weight of the old mean of the updates, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root, not negative.
        eps_root: added inside the root, not negative; above 0 when differentiating through the optimizer.
        state_dtype: dtype of both means, a floating one; ``None``: float32 for parameters of half precision, else
            theirs. In bfloat16 a mean of squares hardly falls: ``0.999 * nu`` is rounded to ``nu``.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number, or no dtype.

    References:
        Kingma & Ba, "Adam", 2015, https://arxiv.org/abs/1412.6980; computed by ``optax.scale_by_adam``.
    """
    where = "scale_by_adam"
    return Factory(
        ScaleByAdam,
        (
            ("b1", _arguments.number(b1, what="b1", where=where, low=0, below=1)),
            ("b2", _arguments.number(b2, what="b2", where=where, low=0, below=1)),
            ("eps", _arguments.number(eps, what="eps", where=where, low=0)),
            ("eps_root", _arguments.number(eps_root, what="eps_root", where=where, low=0)),
            ("state_dtype", _arguments.dtype(state_dtype, where=where)),
        ),
    )


def adam(
    learning_rate: ScheduleOrFloat = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Chain]:
    """Makes the optimizer Adam: ``scale_by_adam``, then the learning rate.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        state_dtype: dtype of both means, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer[0].mu`` is the mean of the gradients.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is neither a number nor (the learning rate) a function, or no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = {"w": jnp.array([1.0])}
    >>> optimizer = opax.adam(0.1)(params)
    >>> updates, optimizer = opax.transform_gradients({"w": jnp.array([2.0])}, optimizer, params)
    >>> round(float(opax.apply_updates(params, updates)["w"][0]), 4)
    0.9

    References:
        Kingma & Ba, "Adam", 2015, https://arxiv.org/abs/1412.6980.
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root, state_dtype=state_dtype), scale_by_learning_rate(learning_rate))


def adamw(
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
    """Makes the optimizer AdamW: ``scale_by_adam``, ``add_decayed_weights``, then the learning rate.

    Args:
        learning_rate: positive; a number, or a schedule (a function of the step, which is 1 in the first one).
        b1: weight of the old mean of the gradients, in [0, 1).
        b2: weight of the old mean of their squares, in [0, 1).
        eps: added to the root of the mean of squares, not negative.
        eps_root: added inside the root, not negative.
        weight_decay: each step shrinks the parameters by ``learning_rate * weight_decay``.
        mask: which parameters decay, see :func:`opax.add_decayed_weights`; default: all. In models of ``pax.nn``,
            ``"**/weight"`` leaves out biases and the parameters of normalizations.
        state_dtype: dtype of both means, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is neither a number nor (the learning rate) a function, or no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> print(opax.adamw(0.1)({"w": jnp.ones(2)}).summary())
    chain.<locals>.Chain
    ├── scale_by_adam.<locals>.ScaleByAdam
    ├── add_decayed_weights.<locals>.AddDecayedWeights
    └── scale.<locals>.Scale

    References:
        Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, https://arxiv.org/abs/1711.05101. As in
        optax, the decay is multiplied by the learning rate.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, state_dtype=state_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
