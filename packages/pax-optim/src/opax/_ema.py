"""A running mean of the updates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._factory import Factory
from opax._precision import keep_dtypes, widen
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, zeros_like


class EMA(GradientTransformation):
    """Replaces updates by their exponential moving average.

    State:
        count: int32 scalar, steps taken.
        ema: the average; a tree like the parameters, float32 where they have half precision; not bias-corrected.
    """

    _factory_name = "ema"

    decay_rate: float
    debias: bool
    count: jax.Array
    ema: Any

    def __init__(
        self, params: Any, decay_rate: float, debias: bool = True, state_dtype: DTypeLike | None = None
    ) -> None:
        """Starts with zeros.

        Args:
            params: the tree of parameters.
            decay_rate: weight of the old average.
            debias: whether the updates are bias-corrected.
            state_dtype: of the average.
        """
        super().__init__(params)
        self.decay_rate = decay_rate
        self.debias = debias
        self.count = jnp.zeros((), jnp.int32)
        self.ema = zeros_like(params, state_dtype)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the new average, bias-corrected with ``debias``, in the dtypes of ``updates``."""
        check_alike(updates, self.ema, what="updates and the optimizer's state", module=self)
        state = optax.EmaState(count=self.count, ema=widen(self.ema, updates))
        # optax takes a power with an integer exponent, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            average, state = optax.ema(self.decay_rate, self.debias).update(widen(updates, self.ema), state)
        self.count, self.ema = state.count, keep_dtypes(state.ema, self.ema)
        return cast_like(average, updates)


def ema(decay_rate: float, debias: bool = True, *, state_dtype: DTypeLike | None = None) -> Factory[EMA]:
    """Makes a transformation that replaces updates by their exponential moving average.

    ``e = (1 - decay_rate) g + decay_rate e``, from 0; the updates are ``e``, with ``debias`` ``e / (1 - decay_rate^t)``
    in step ``t = 1, 2, …``. The state keeps ``e`` itself.

    Args:
        decay_rate: weight of the old average, in [0, 1).
        debias: divide the updates by the sum of the weights so far, so that the first ones are not too small.
        state_dtype: dtype of the average, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters. For an average of parameters, not of updates, see ``pax.nn.EMA``.

    Raises:
        ArgumentError: ``decay_rate`` out of range.
        ArgumentTypeError: ``decay_rate`` is no number, or ``state_dtype`` no dtype.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.ema(0.5)(jnp.zeros(1))
    >>> for _ in range(2):
    ...     optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    >>> updates, optimizer.ema
    (Array([1.], dtype=float32), Array([0.75], dtype=float32))

    References:
        Kingma & Ba, "Adam", 2015, https://arxiv.org/abs/1412.6980 (section 3, the correction); computed by
        ``optax.ema``.
    """
    return Factory(
        EMA,
        (
            ("decay_rate", _arguments.number(decay_rate, what="decay_rate", where="ema", low=0, below=1)),
            ("debias", _arguments.flag(debias, what="debias", where="ema")),
            ("state_dtype", _arguments.dtype(state_dtype, where="ema")),
        ),
    )
