"""What transformations around other transformations share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

import pax
from opax._factory import create
from opax._learning_rate import find_learning_rate, with_learning_rate
from opax._transformation import GradientTransformation
from opax._trees import state_dtype_of
from pax.errors import AttributeNameError, PaxError, StructureError
from pax.extend import describe, is_tracer

Step = tuple[GradientTransformation, Any]


class Wrapper(GradientTransformation):
    """A transformation around another one, ``inner``."""

    inner: Any  # a transformation; those that are chains can be indexed

    @property
    def learning_rate(self) -> ArrayLike:
        """The learning rate of ``inner``, as :func:`opax.chain` finds it.

        Raises:
            AttributeError: it has none.
        """
        rate = find_learning_rate(self.inner)
        if rate is None:  # an `AttributeError`, so that a chain goes on to the transformation before this one
            raise AttributeNameError("The optimizer has no learning rate.", module=self)
        return rate

    @learning_rate.setter
    def learning_rate(self, value: ArrayLike) -> None:
        self.inner = with_learning_rate([self.inner], value, self)[0]


def create_inner(factory: Any, params: Any, *, where: str) -> GradientTransformation:
    """Creates the transformation inside of a wrapper: see ``create``."""
    try:
        return create(factory, params, where=where)
    except PaxError as error:
        if error.module is not None:
            error.path = f"inner.{error.path}" if error.path else "inner"
        raise


def step_of(outer: pax.Module, inner: GradientTransformation, updates: Any, params: Any, like: Any) -> Step:
    """Calls a transformation on a copy of it, so that the call can stand in one branch of a condition.

    Args:
        outer: the transformation around it, which is named in errors.
        inner: the transformation.
        updates: its input.
        params: the current parameters, or ``None``.
        like: the structure, shapes and dtypes that its output shall have.

    Returns:
        ``(inner, updates)``, the state strongly typed and with the dtypes it had.

    Raises:
        StructureError: the call changes the structure of the state, or returns updates of other shapes.
    """
    try:
        new, result = pax.purecall(inner, updates, params)
    except PaxError as error:  # the path so far begins below `inner`
        error.where, error.module, error.path = f"`inner`: {error.place or repr(inner)}", outer, None
        raise
    wanted, structure = jax.tree.flatten(like)
    leaves = jax.tree.leaves(result)
    if list(map(jnp.shape, leaves)) != list(map(jnp.shape, wanted)):
        raise StructureError(
            "A transformation returned updates of other shapes.",
            module=outer,
            where=f"`inner`, {inner!r}",
            got=_shapes(leaves),
            want=_shapes(wanted),
            fix="updates, optimizer = opax.transform_gradients(grads, optimizer, params)  # with the parameters",
        )
    return unchanged(new, inner, outer), jax.tree.unflatten(
        structure, [_as(x, y) for x, y in zip(leaves, wanted, strict=True)]
    )


def _shapes(leaves: list[Any]) -> str:
    return ", ".join([describe(leaf) for leaf in leaves[:5]] + ["…"] * (len(leaves) > 5)) or "nothing"


def unchanged(new: GradientTransformation, old: GradientTransformation, outer: pax.Module) -> GradientTransformation:
    """Returns ``new`` strongly typed and with the dtypes of ``old``.

    Raises:
        StructureError: they have different structures.
    """
    try:
        pax.assert_structure_equal(new, old)
    except StructureError as error:
        raise StructureError(
            "A transformation changed the structure of its state.",
            module=outer,
            where=f"`inner`, {old!r}",
            got=error.got,
            want=error.want,
            fix="give all attributes their final structure in `__init__`",
            why="both branches of a compiled condition have to return the same structure",
        ) from None
    result: GradientTransformation = jax.tree.map(_as, new, old)
    return result


def _as(new: Any, old: Any) -> Any:
    is_extended = jnp.issubdtype(old.dtype, jax.dtypes.extended)  # keys; they have one dtype only
    return new if is_extended else jnp.asarray(new, old.dtype)


def choose(condition: jax.Array, then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    """Is ``jax.lax.cond``; outside of ``jax.jit``, where that would compile in each call, it is a plain ``if``."""
    if is_tracer(condition):
        return jax.lax.cond(condition, then, otherwise, *operands)
    return (then if condition else otherwise)(*operands)


def zeros(tree: Any) -> Any:
    """Returns updates that change nothing."""
    return jax.tree.map(jnp.zeros_like, tree)


def copied(params: Any, dtype: DTypeLike | None = None) -> Any:
    """Returns the parameters in buffers of their own, in the dtypes of ``zeros_like``.

    A train step may donate model and optimizer together, and no buffer can be donated twice.
    """
    return jax.tree.map(lambda p: jnp.array(p, state_dtype_of(p, dtype), copy=True), params)
