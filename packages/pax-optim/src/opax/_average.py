"""A moving average of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from opax import _arguments
from opax._apply import apply_updates
from opax._factory import Factory
from opax._precision import keep_dtypes, widen
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, zeros_like
from opax._wrapping import copied


class ParamsEma(GradientTransformation):
    """Keeps an exponential moving average of the parameters; does not change the updates.

    State:
        ema: the average; a tree like the parameters, float32 where they have half precision; not bias-corrected.
        count: int32 scalar, parameters in the average.
    """

    _factory_name = "params_ema"
    _is_last = True
    _keeps_updates = True

    decay: float
    debias: bool
    ema: Any
    count: jax.Array

    def __init__(self, params: Any, decay: float, debias: bool = True, state_dtype: DTypeLike | None = None) -> None:
        """Starts with zeros if the bias is corrected, else with the parameters.

        Args:
            params: the tree of parameters.
            decay: weight of the old average.
            debias: whether to correct the bias towards the start.
            state_dtype: dtype of the average.
        """
        super().__init__(params)
        self.decay = decay
        self.debias = debias
        self.ema = zeros_like(params, state_dtype) if debias else copied(params, state_dtype)
        self.count = jnp.zeros((), jnp.int32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Takes ``params - updates`` into the average, and returns ``updates`` as they are.

        Raises:
            ArgumentError: ``params`` is missing.
            StructureError: parameters or updates do not fit the average.
        """
        _arguments.need_params(params, self)
        check_alike(params, self.ema, what="parameters and the optimizer's state", module=self)
        new = widen(apply_updates(params, updates), self.ema)
        average = optax.incremental_update(new, widen(self.ema, params), 1 - self.decay)
        self.ema = keep_dtypes(average, self.ema)
        self.count = optax.safe_increment(self.count)
        return updates

    def evaluation_params(self, params: Any) -> Any:
        """Returns the average, in the dtypes of ``params``: see :func:`opax.evaluation_model`.

        With ``debias`` it is bias-corrected; before the first step it is ``params``.

        Raises:
            StructureError: it has another structure than ``params``.
        """
        check_alike(params, self.ema, what="parameters and the optimizer's state", module=self)
        if not self.debias:
            return cast_like(self.ema, params)
        # optax takes a power with an integer exponent, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            wide = widen(self.ema, params)
            average = optax.tree_utils.tree_bias_correction(wide, self.decay, jnp.maximum(self.count, 1))
        return jax.tree.map(lambda a, p: jnp.where(self.count == 0, p, a), cast_like(average, params), params)


def params_ema(decay: float, debias: bool = True, *, state_dtype: DTypeLike | None = None) -> Factory[ParamsEma]:
    """Makes a transformation that keeps an exponential moving average of the parameters, for evaluation.

    ``ema = decay ema + (1 - decay) p`` with the parameters ``p`` after each step. With ``debias`` it starts at 0 and is
    divided by ``1 - decay^t`` when it is used, so that the start has no more weight than it should; otherwise it starts
    at the first parameters. The updates pass unchanged: training is the same as without it.

    It has to be the last of a chain, ``chain(opax.adam(1e-3), opax.params_ema(0.999))``: the updates that it sees are
    taken for those that will be subtracted. Inside of :func:`opax.multi_steps` it counts full steps, after it every
    mini-batch.

    Args:
        decay: weight of the old average, in [0, 1).
        debias: correct the bias towards 0 of the first steps. It counts steps for all parameters alike: set it to
            ``False`` if an average will be taken over for a model of which more is trained.
        state_dtype: dtype of the average, a floating one; ``None``: float32 for parameters of half precision, else
            theirs.

    Returns:
        A factory: call it with the parameters. The transformation has to be called with them, too.
        :func:`opax.evaluation_model` puts the average into the model.

    Raises:
        ArgumentError: ``decay`` out of range.
        ArgumentTypeError: an argument of another kind.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([1.0])
    >>> optimizer = opax.chain(opax.sgd(0.5, momentum=0.0), opax.params_ema(0.5))(params)
    >>> for _ in range(2):
    ...     updates, optimizer = opax.transform_gradients(jnp.ones(1), optimizer, params)
    ...     params = opax.apply_updates(params, updates)
    >>> round(float(optimizer[-1].evaluation_params(params)[0]), 4)  # of 0.5 and 0.0
    0.1667

    References:
        Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992,
        https://doi.org/10.1137/0330046; bias correction as in Kingma & Ba, "Adam", 2015. Computed by
        ``optax.incremental_update``.
    """
    where = "params_ema"
    return Factory(
        ParamsEma,
        (
            ("decay", _arguments.number(decay, what="decay", where=where, low=0, below=1)),
            ("debias", _arguments.flag(debias, what="debias", where=where)),
            ("state_dtype", _arguments.dtype(state_dtype, where=where)),
        ),
    )
