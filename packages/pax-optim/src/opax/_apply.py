"""One step of an optimizer: gradients to updates, updates to parameters, both for a whole module."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import pax
from opax._transformation import GradientTransformation
from opax._trees import check_alike
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.extend import describe

Optimizer = TypeVar("Optimizer", bound=GradientTransformation)
Model = TypeVar("Model", bound=pax.Module)
Params = TypeVar("Params")


def transform_gradients(grads: Any, optimizer: Optimizer, params: Any) -> tuple[Any, Optimizer]:
    """Turns gradients into updates.

    Args:
        grads: a tree of gradients, of the structure of ``params``.
        optimizer: the optimizer; it is not changed.
        params: the current parameters.

    Returns:
        ``(updates, optimizer)``: a tree like ``grads`` that is to be subtracted from ``params``, and the new optimizer.

    Raises:
        ArgumentTypeError: ``optimizer`` is no :class:`opax.GradientTransformation`, or gradients of floating-point
            parameters are integers.
        StructureError: the gradients do not fit the parameters.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> optimizer = opax.sgd(0.1)(jnp.ones(1))
    >>> updates, optimizer = opax.transform_gradients(jnp.array([2.0]), optimizer, jnp.ones(1))
    >>> updates
    Array([0.2], dtype=float32)
    """
    if not isinstance(optimizer, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting an OPAX optimizer.",
            where="transform_gradients",
            got=describe(optimizer),
            want="a module such as opax.adam(1e-3)(params)",
            fix="optimizer = opax.adam(1e-3)(net.parameters())  # a factory needs the parameters first",
        )
    _check_kinds(grads, params)
    # Gradients and parameters come from outside: they need not be copied, and stay immutable.
    new_optimizer, updates = pax.module_and_value(lambda opt: opt(grads, params))(optimizer)
    return updates, new_optimizer


def _check_kinds(grads: Any, params: Any) -> None:
    found, wanted = jax.tree.leaves_with_path(grads), jax.tree.leaves(params)
    if len(found) != len(wanted):
        return  # the optimizer will say so
    for (path, grad), param in zip(found, wanted, strict=True):
        if jnp.issubdtype(jnp.result_type(grad), jnp.integer) and jnp.issubdtype(jnp.result_type(param), jnp.inexact):
            raise ArgumentTypeError(
                "Expecting gradients that are no integers: updates would be rounded to whole numbers.",
                where=f"transform_gradients, {jax.tree_util.keystr(path).removeprefix('.') or '`grads`'}",
                got=describe(grad),
                want=describe(param),
                fix="grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)",
            )


def apply_updates(params: Params, updates: Any) -> Params:
    """Returns ``params - updates``.

    Args:
        params: a tree of arrays.
        updates: a tree of the same structure and shapes.

    Returns:
        A tree like ``params``, with its dtypes.

    Raises:
        StructureError: the trees have different structures or shapes.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.apply_updates({"w": jnp.ones(2)}, {"w": jnp.array([0.25, 0.5])})
    {'w': Array([0.75, 0.5 ], dtype=float32)}
    """
    _check(
        updates,
        params,
        what="updates and parameters",
        where="apply_updates",
        fix="updates, optimizer = opax.transform_gradients(grads, optimizer, params)  # of these parameters",
    )
    return jax.tree.map(_subtract, params, updates)  # type: ignore[no-any-return]  # a tree of the kind of params


def _check(got: Any, want: Any, *, what: str, where: str, fix: str) -> None:
    try:
        check_alike(got, want, what=what, where=where)
    except StructureError as error:
        error.fix = fix
        raise


def _subtract(param: ArrayLike, update: ArrayLike) -> jax.Array:
    dtype = jnp.result_type(param)
    return jnp.asarray(param) - jnp.asarray(update, dtype)


def apply_gradients(
    model: Model, optimizer: Optimizer, grads: Model, all_finite: ArrayLike | None = None
) -> tuple[Model, Optimizer]:
    """Updates the parameters of a model.

    Args:
        model: the model, a module; it is not changed. Its non-trainable state stays as it is.
        optimizer: the optimizer, created for ``model.parameters()``; it is not changed.
        grads: gradients as ``pax.grad`` returns them, a module of the same class; of a whole module its
            ``parameters()``.
        all_finite: a boolean scalar, of Python, NumPy or JAX; where it is false, model and optimizer are returned
            unchanged, bit for bit. The states of ``model``, such as batch statistics, are those of the model that was
            passed: pass the one from before the loss function to go back to the states before it.

    Returns:
        ``(model, optimizer)``, the new ones.

    Raises:
        ArgumentTypeError: ``model`` is no module, ``optimizer`` no optimizer, or ``all_finite`` not boolean.
        ArgumentError: ``all_finite`` is no scalar.
        StructureError: ``grads`` does not fit the model.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> model = pax.nn.Linear(2, 1)
    >>> optimizer = opax.adam(1e-2)(model.parameters())
    >>> grads = pax.grad(lambda model, x: jnp.mean(model(x) ** 2))(model, jnp.ones((4, 2)))
    >>> model, optimizer = opax.apply_gradients(model, optimizer, grads)
    >>> int(optimizer[0].count)
    1
    """
    if isinstance(model, GradientTransformation) or isinstance(grads, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting a PAX Module.",
            where=f"apply_gradients, `{'model' if isinstance(model, GradientTransformation) else 'grads'}`",
            got="an optimizer",
            want="the model, its optimizer, the gradients, in this order",
            fix="model, optimizer = opax.apply_gradients(model, optimizer, grads)",
        )
    if not isinstance(model, pax.Module):
        raise ArgumentTypeError("Expecting a PAX Module.", where="apply_gradients, `model`", got=describe(model))
    if type(grads) is not type(model):
        raise StructureError(
            "Expecting gradients of the class of the model.",
            where="apply_gradients, `grads`",
            got=describe(grads),
            want=describe(model),
            fix="grads = pax.grad(loss_fn)(model, ...)",
        )
    params = model.parameters()
    gradients = grads.parameters()
    try:
        updates, new_optimizer = transform_gradients(gradients, optimizer, params)
        new_params = apply_updates(params, updates)
    except StructureError:
        # Whatever the optimizer says of it. Not before: with `strict=False` small differences are allowed.
        _check(
            gradients,
            params,
            what="gradients and the parameters of the model",
            where="apply_gradients, `grads`",
            fix="grads = pax.grad(loss_fn)(model, ...)  # of the model as it is now: mode, frozen parts",
        )
        raise
    if all_finite is not None:
        new_params, new_optimizer = _select(all_finite, (new_params, new_optimizer), (params, optimizer))
    return model.update_parameters(new_params), new_optimizer


def _select(condition: ArrayLike, new: Any, old: Any) -> Any:
    try:
        keep_new = jnp.asarray(condition)
    except (TypeError, ValueError):
        keep_new = None
    if keep_new is None or keep_new.dtype != bool:
        # A number would be taken for true: the mean of flags, say, where only a few are.
        raise ArgumentTypeError(
            "Expecting a boolean for `all_finite`.",
            where="apply_gradients, `all_finite`",
            got=describe(condition),
            want="True, False, or bool[]",
            fix="all_finite = jnp.all(jnp.array([jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]))",
        )
    if keep_new.ndim != 0:
        raise ArgumentError(
            "Expecting a scalar for `all_finite`.",
            where="apply_gradients, `all_finite`",
            got=describe(condition),
            want="bool[]",
            fix="jnp.all(all_finite)",
        )
    return jax.tree.map(lambda a, b: jnp.where(keep_new, a, b), new, old)
