"""Training without a schedule of the learning rate: averages of the iterates in its place."""

from typing import Any

import jax
import optax
import optax.contrib
from jax.typing import DTypeLike

import pax
from opax import _arguments
from opax._factory import Factory, TransformationFactory, create
from opax._from_optax import FromOptax, from_optax
from opax._optax_part import Checked
from opax._optax_recipe import recipe_of
from opax._optax_state import implicit_promotion, in_dtypes_of_state
from opax._trees import cast_like, check_alike
from opax.schedule import ScheduleOrFloat


class ScheduleFree(FromOptax):
    """Makes steps with another optimizer, and keeps the parameters between its iterates and their average.

    State:
        base_optimizer_state: the other optimizer.
        z: its iterates; a tree like the parameters, float32 where they have half precision.
        weight_sum, max_lr: float scalars, for the weights of the average.
        step_count: int32 scalar, the number of the next step.
        b1: float scalar, how near the parameters are to the average.
    """

    _factory_name = "schedule_free"

    def evaluation_params(self, params: Any) -> Any:
        """Returns the average of the iterates, in the dtypes of ``params``; see :func:`opax.evaluation_model`.

        Args:
            params: the current parameters.

        Raises:
            StructureError: the optimizer was created for other parameters.
        """
        state = self.optax_state()
        check_alike(params, state.z, what="parameters and the optimizer's state", module=self)
        state, wide = (in_dtypes_of_state(tree) for tree in (state, params))
        with implicit_promotion():
            return cast_like(optax.contrib.schedule_free_eval_params(state, wide), params)

    def __repr__(self) -> str:
        return f"{self._factory_name}.<locals>.{type(self).__name__}"


def schedule_free(
    transformation: TransformationFactory | optax.GradientTransformation,
    learning_rate: ScheduleOrFloat,
    b1: float = 0.9,
    weight_lr_power: float = 2.0,
    *,
    state_dtype: DTypeLike | None = None,
) -> Factory[ScheduleFree]:
    """Makes an optimizer that needs no decay of its learning rate, of one that would.

    Gradients are taken at ``y = b1 x + (1 - b1) z``; these are the parameters while training. The other optimizer moves
    ``z``, and ``x``, the average of ``z``, is what to evaluate: :func:`opax.evaluation_model`.

    Args:
        transformation: the other optimizer, without momentum: ``opax.sgd(0.1, momentum=0.0)``,
            ``opax.adam(1e-3, b1=0.0)``, or one of optax.
        learning_rate: the one that ``transformation`` was given; iterates count by it in the average. Without decay,
            but a warm-up is useful. A number, or a schedule (a function of the step, which is 1 in the first one).
        b1: how near the parameters are to the average, above 0 and below 1.
        weight_lr_power: iterates have the weight ``learning_rate ** weight_lr_power``, not negative.
        state_dtype: dtype of ``z``; ``None``: float32 for parameters of half precision, else theirs.

    Returns:
        A factory: call it with the parameters. The optimizer has to be called with them, too.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument of a wrong kind.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = jnp.array([3.0])
    >>> optimizer = opax.schedule_free(opax.sgd(0.5, momentum=0.0), 0.5)(params)
    >>> for _ in range(50):
    ...     gradients = 2 * (params - 1)
    ...     updates, optimizer = opax.transform_gradients(gradients, optimizer, params)
    ...     params = opax.apply_updates(params, updates)
    >>> bool(abs(optimizer.evaluation_params(params)[0] - 1) < 0.05)
    True

    References:
        Defazio et al., "The road less scheduled", 2024, https://arxiv.org/abs/2405.15682.
    """
    where, checked = "schedule_free", Checked("schedule_free")
    base: Any = transformation
    if isinstance(base, optax.GradientTransformation):
        base = from_optax(base)
    options = {
        **checked.positive(weight_lr_power=weight_lr_power),
        "b1": _arguments.number(b1, what="b1", where=where, low=_SMALLEST, below=1),
    }
    if not callable(learning_rate):
        learning_rate = _arguments.number(learning_rate, what="learning_rate", where=where, low=0)
    recipe = recipe_of(_schedule_free, (base, learning_rate), options)
    dtype = _arguments.dtype(state_dtype, where=where)
    return Factory(ScheduleFree, (("recipe", recipe), ("negate", True), ("state_dtype", dtype)))


_SMALLEST = 1e-6  # optax divides by `b1`


def _schedule_free(base: Any, learning_rate: Any, **options: Any) -> Any:
    return optax.contrib.schedule_free(_ToOptax(base).transformation(), learning_rate, **options)


class _ToOptax:
    """A transformation of opax in the form of optax; the module is its state."""

    def __init__(self, factory: TransformationFactory) -> None:
        self.factory = factory

    def init(self, params: Any) -> Any:
        return create(self.factory, params, where="schedule_free")

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        state, updates = pax.purecall(state, updates, params)
        return jax.tree.map(lambda update: -update, updates), state  # optax adds them

    def transformation(self) -> optax.GradientTransformation:
        return optax.GradientTransformation(self.init, self.update)
