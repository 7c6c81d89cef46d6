"""Slow weights that follow those of another optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from opax import _arguments
from opax._factory import Factory, TransformationFactory
from opax._precision import keep_dtypes, widen
from opax._trees import cast_like, check_alike
from opax._wrapping import Wrapper, copied, create_inner
from pax.errors import ArgumentError


class Lookahead(Wrapper):
    """Moves the parameters back towards slow ones after every few steps of another transformation.

    State:
        inner: the other transformation.
        slow: the slow parameters; a tree like the parameters, float32 where they have half precision.
        step: int32 scalar, steps since the slow parameters moved.
    """

    _factory_name = "lookahead"
    _is_last = True

    sync_period: int
    slow_step_size: float
    slow: Any
    step: jax.Array

    def __init__(
        self,
        params: Any,
        transformation: TransformationFactory,
        sync_period: int = 6,
        slow_step_size: float = 0.5,
        state_dtype: DTypeLike | None = None,
    ) -> None:
        """Starts with slow parameters that are equal to the others.

        Args:
            params: the tree of parameters.
            transformation: the factory of the transformation.
            sync_period: steps between two moves of the slow parameters.
            slow_step_size: how far they move.
            state_dtype: dtype of the slow parameters.

        Raises:
            ArgumentTypeError: ``transformation`` does not return a ``GradientTransformation``.
        """
        super().__init__(params)
        self.sync_period = sync_period
        self.slow_step_size = slow_step_size
        self.inner = create_inner(transformation, params, where="lookahead")
        self.slow = copied(params, state_dtype)
        self.step = jnp.zeros((), jnp.int32)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the updates of ``inner``, in each ``sync_period``-th call those that lead to the slow parameters.

        Raises:
            ArgumentError: ``params`` is missing.
            StructureError: the parameters do not fit the slow ones.
        """
        _arguments.need_params(params, self)
        check_alike(params, self.slow, what="parameters and the optimizer's state", module=self)
        fast = self.inner(updates, params)
        count = self.step + 1
        is_sync = count == self.sync_period

        slow, before = widen(self.slow, params), widen(params, self.slow)
        moved = jax.tree.map(self._moved, slow, before, cast_like(fast, slow))
        self.step = jnp.where(is_sync, 0, count)
        self.slow = keep_dtypes(jax.tree.map(lambda new, old: jnp.where(is_sync, new, old), moved, slow), self.slow)
        # The difference is exact, and so is the arrival at the slow parameters, unless the two are far apart.
        back = cast_like(jax.tree.map(jnp.subtract, before, moved), fast)
        return jax.tree.map(lambda new, old: jnp.where(is_sync, new, old), back, fast)

    def _moved(self, slow: jax.Array, param: jax.Array, update: jax.Array) -> jax.Array:
        return slow + self.slow_step_size * (param - update - slow)

    def evaluation_params(self, params: Any) -> Any:
        """Returns the slow parameters, in the dtypes of ``params``: see :func:`opax.evaluation_model`.

        Raises:
            StructureError: they have another structure than ``params``.
        """
        check_alike(params, self.slow, what="parameters and the optimizer's state", module=self)
        return cast_like(self.slow, params)


def lookahead(
    transformation: TransformationFactory,
    sync_period: int = 6,
    slow_step_size: float = 0.5,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[Lookahead]:
    """Makes a transformation that looks some steps ahead with another one, and then goes a part of the way.

    In the steps between, the fast parameters, those of the model, follow ``transformation``. In every
    ``sync_period``-th step ``slow = slow + slow_step_size (fast - slow)``, and the fast ones start again from there.

    It has to be the last of a chain: only updates that are subtracted as they are lead to the slow parameters. For the
    same reason ``transformation`` includes the learning rate: ``lookahead(opax.adam(1e-3))``. The state of
    ``transformation`` goes on across these steps.

    Args:
        transformation: what :func:`opax.adam` and the like return, or anything else that :func:`opax.chain` takes.
        sync_period: steps between two moves of the slow parameters, 1 or above.
        slow_step_size: how far they move, in [0, 1]; at 1 nothing is different from ``transformation``.
        state_dtype: dtype of the slow parameters, a floating one; ``None``: float32 for parameters of half precision,
            else theirs.

    Returns:
        A factory: call it with the parameters. ``optimizer.slow`` are the slow parameters, which are better for
        evaluation: :func:`opax.evaluation_model` puts them into the model.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of another kind; (when called with parameters) ``transformation`` makes no
            transformation.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([1.0])
    >>> optimizer = opax.lookahead(opax.sgd(0.1, momentum=0.0), sync_period=2)(params)
    >>> for _ in range(2):
    ...     updates, optimizer = opax.transform_gradients(jnp.ones(1), optimizer, params)
    ...     params = opax.apply_updates(params, updates)
    ...     print(params, optimizer.slow)
    [0.9] [1.]
    [0.9] [0.9]

    References:
        Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", 2019, https://arxiv.org/abs/1907.08610. As
        ``optax.lookahead``, which wants pairs of fast and slow parameters.
    """
    where = "lookahead"
    period = _arguments.whole_number(sync_period, what="sync_period", where=where, low=1)
    size = _arguments.number(slow_step_size, what="slow_step_size", where=where, low=0)
    if size > 1:
        raise ArgumentError(
            "`slow_step_size` is out of range.",
            where=where,
            got=f"slow_step_size={size}",
            want="0 <= slow_step_size <= 1",
        )
    return Factory(
        Lookahead,
        (
            ("transformation", transformation),
            ("sync_period", period),
            ("slow_step_size", size),
            ("state_dtype", _arguments.dtype(state_dtype, where=where)),
        ),
    )
