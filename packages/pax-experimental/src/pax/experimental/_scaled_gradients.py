"""`apply_scaled_gradients`: a step of an optimizer with the gradients of a scaled loss."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jmp
from jax.typing import ArrayLike

import opax
import pax
from pax.errors import ArgumentTypeError, PaxError, StructureError
from pax.experimental._loss_scale import adjust, check_loss_scale, minimum_of, unscale
from pax.extend import describe

Model = TypeVar("Model", bound=pax.Module)
Optimizer = TypeVar("Optimizer", bound=opax.GradientTransformation)
LossScale = TypeVar("LossScale")

_WHERE = "apply_scaled_gradients"


def apply_scaled_gradients(
    model: Model,
    optimizer: Optimizer,
    loss_scale: LossScale,
    grads: Model,
    *,
    previous_model: Model | None = None,
    min_loss_scale: ArrayLike | None = None,
) -> tuple[Model, Optimizer, LossScale]:
    """Updates a model with the gradients of a scaled loss, and adjusts the loss scale.

    Small gradients are zero in float16. So the loss is multiplied by a large number, the loss scale, before gradients
    are taken (``loss_scale.scale(loss)``), and the gradients are divided by it afterwards, which is done here. Divided
    gradients of float16 or bfloat16 parameters are float32; other gradients keep their dtype. The loss itself should be
    float32: a float16 number above 2 is infinite when it is multiplied by 2**15.

    What follows depends on the kind of the loss scale.

    - ``jmp.DynamicLossScale``: if a gradient is infinite or NaN, the loss scale was too large. Then the step is left
      out: parameters and optimizer stay as they were, bit for bit, and the loss scale is divided by ``factor``. After
      ``period`` steps in a row that were not left out it is multiplied by ``factor``. It keeps its dtype, and does
      not grow past what that can hold, or past 2**126.
    - ``jmp.StaticLossScale``, ``jmp.NoOpLossScale``: a plain step, whatever the gradients are.

    What the forward pass did to the *states* of the model is not undone by a step that is left out: batch statistics
    may be infinite by then, and stay so. Pass the model from before the forward pass as ``previous_model``, and the
    states are taken from there in this case, random keys and counters included.

    Where every device has gradients of its own (``jax.shard_map``), average them first, so that all decide alike.

    Args:
        model: the model, with the states after the forward pass. Its parameters are those that the gradients belong to.
        optimizer: any opax optimizer, created for ``model.parameters()``.
        loss_scale: a loss scale of ``jmp``. A static one is data of the program for ``jax.jit``: make it outside.
        grads: gradients of the scaled loss as ``pax.grad`` returns them, a module of the class of the model; of
            gradients of a whole module, its ``parameters()``.
        previous_model: the model from before the forward pass, of the same structure, shapes and dtypes.
        min_loss_scale: what a dynamic loss scale does not go below, above 0; by default its own ``min_loss_scale``,
            usually 1. A loss scale that passes through ``jax.jit`` forgets its own, and has 1 from then on.

    Returns:
        ``(model, optimizer, loss_scale)``, the new ones.

    Raises:
        ArgumentTypeError: ``model`` or ``previous_model`` is no module, ``optimizer`` is no optimizer (a factory is
            not yet one), ``loss_scale`` no loss scale.
        ArgumentError: the numbers of the loss scale are out of range, or no scalars.
        StructureError: ``grads`` or ``previous_model`` does not fit the model.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jmp
        >>> import opax
        >>> net = pax.Linear(2, 2)
        >>> optimizer = opax.adam(1e-4)(net.parameters())
        >>> loss_scale = jmp.DynamicLossScale(jnp.float16(2**15))
        >>> grads = net.parameters()  # of a scaled loss
        >>> net, optimizer, loss_scale = apply_scaled_gradients(net, optimizer, loss_scale, grads)
        >>> float(loss_scale.loss_scale), loss_scale.loss_scale.dtype
        (32768.0, dtype('float16'))

        (``print(loss_scale.loss_scale)`` shows 32770.0, the shortest number that float16 rounds to this one, and with
        NumPy 2.3 and later 3.277e+04.) In a training step:

        >>> @jax.jit
        ... def train_step(net, optimizer, loss_scale, x):
        ...     def loss_fn(model):
        ...         model, y = pax.purecall(model, x)
        ...         return loss_scale.scale(jnp.mean(y**2)), model
        ...
        ...     grads, model = pax.grad(loss_fn, has_aux=True)(net)
        ...     return apply_scaled_gradients(model, optimizer, loss_scale, grads, previous_model=net)
        >>> net, optimizer, loss_scale = train_step(net, optimizer, loss_scale, jnp.ones((3, 2)))
        >>> int(loss_scale.counter)
        2

    References:
        Micikevicius et al., Mixed precision training, https://arxiv.org/abs/1710.03740.
    """
    _check(model, optimizer, grads)
    check_loss_scale(loss_scale, f"{_WHERE}, `loss_scale`")
    if previous_model is not None:
        _check_previous(model, previous_model)
    gradients = unscale(loss_scale, grads.parameters())
    if not isinstance(loss_scale, jmp.DynamicLossScale):
        return *_step(model, optimizer, gradients), loss_scale
    minimum = minimum_of(loss_scale, min_loss_scale, _WHERE)
    is_finite = jmp.all_finite(gradients)
    new_model, new_optimizer = _step(model, optimizer, gradients, all_finite=is_finite)
    if previous_model is not None:
        restored = previous_model.update_parameters(new_model.parameters())
        new_model = jax.tree.map(lambda a, b: a if a is b else jnp.where(is_finite, a, b), new_model, restored)
    return new_model, new_optimizer, adjust(loss_scale, is_finite, minimum)


def _step(model: Any, optimizer: Any, gradients: Any, **options: Any) -> Any:
    """Calls `opax.apply_gradients`, with errors that name the function that the user called."""
    try:
        return opax.apply_gradients(model, optimizer, gradients, **options)
    except PaxError as error:
        if error.where is not None and error.where.startswith("apply_gradients"):
            error.where = f"{_WHERE}{error.where.removeprefix('apply_gradients')}"
        raise


def _check(model: Any, optimizer: Any, grads: Any) -> None:
    if not isinstance(model, pax.Module) or isinstance(model, opax.GradientTransformation):
        raise ArgumentTypeError(
            "Expecting a PAX Module.",
            where=f"{_WHERE}, `model`",
            got=describe(model),
            want="the model, its optimizer, the loss scale, the gradients, in this order",
        )
    if not isinstance(optimizer, opax.GradientTransformation):
        raise ArgumentTypeError(
            "Expecting an OPAX optimizer.",
            where=f"{_WHERE}, `optimizer`",
            got=describe(optimizer),
            want="a module such as opax.adam(1e-3)(params)",
            fix="optimizer = opax.adam(1e-3)(model.parameters())  # a factory needs the parameters first\n"
            "optimizer = opax.from_optax(transformation)(model.parameters())",
        )
    if type(grads) is not type(model):
        got, want = describe(grads), describe(model)
        raise StructureError(
            "Expecting gradients of the class of the model.",
            where=f"{_WHERE}, `grads`",
            got=got if got != want else repr(grads),  # one of two classes of the same name has a policy
            want=want if got != want else repr(model),
            fix="grads = pax.grad(loss_fn)(model, ...)",
        )


def _check_previous(model: pax.Module, previous: Any) -> None:
    where = f"{_WHERE}, `previous_model`"
    fix = "keep the model that is passed to the loss function, and pass it here"
    if not isinstance(previous, pax.Module):
        raise ArgumentTypeError(
            "Expecting a PAX Module.", where=where, got=describe(previous), want=describe(model), fix=fix
        )
    try:
        pax.assert_structure_equal(previous, model)
    except StructureError as error:
        raise StructureError(
            "The model and the one from before the forward pass have different structures.",
            where=where,
            got=error.got,
            want=error.want,
            fix=fix,
        ) from None
    for (path, old), new in zip(jax.tree.leaves_with_path(previous), jax.tree.leaves(model), strict=True):
        if (jnp.shape(old), jnp.result_type(old)) != (jnp.shape(new), jnp.result_type(new)):
            raise StructureError(
                "The model and the one from before the forward pass have different arrays.",
                where=f"{where}, {jax.tree_util.keystr(path).removeprefix('.')}",
                got=describe(old),
                want=describe(new),
                fix=fix,
            )
