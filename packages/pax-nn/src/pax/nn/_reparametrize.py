"""What modules share that compute a weight of a layer anew in each call."""

from typing import Any

import jax
import jax.numpy as jnp

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError, AttributeNameError
from pax.extend import describe
from pax.nn._axes import integer
from pax.nn._dtypes import promote_dtypes
from pax.nn._inner_call import call_and_changes, errors_located_in, with_changes


def check_weight(layer: Any, attribute: Any, axis: int | None, *, min_axes: int, where: str) -> tuple[Any, int]:
    """Returns the weight of a layer, and its axis of output channels, counted from the front.

    Args:
        layer: what the user gave.
        attribute: where the weight is.
        axis: the axis that the user gave; ``None``: what the ``kernel_format`` of the layer says, else the last one.
        min_axes: how many axes the weight has to have at least.
        where: the class for which this is, for error texts.

    Raises:
        ArgumentTypeError: ``layer`` is no callable module, or ``axis`` no integer.
        AttributeNameError: it has no array of this name.
        ArgumentError: the array has too few axes, is of integers, or has no such axis.
    """
    if not isinstance(layer, Module) or not callable(layer):
        raise ArgumentTypeError(
            "Expecting a layer.",
            where=where,
            got=describe(layer),
            want="a callable module",
            fix=f"{where}(pax.nn.Linear(2, 3))",
        )
    weight: Any = getattr(layer, attribute, None) if isinstance(attribute, str) else None
    own = [name for name in layer.pytree_attributes if hasattr(getattr(layer, name), "dtype")]
    if attribute not in own:
        raise AttributeNameError(
            f"The layer has no array `{attribute}`.",
            where=where,
            got=f"attribute={attribute!r} for a {type(layer).__qualname__}",
            want=" or ".join(map(repr, own)) or "a layer with arrays of its own",
        )
    if weight.ndim < min_axes or not jnp.issubdtype(weight.dtype, jnp.floating):
        raise ArgumentError(
            f"Expecting a floating array with at least {min_axes} {'axis' if min_axes == 1 else 'axes'}.",
            where=f"{where}, `{attribute}` of {type(layer).__qualname__}",
            got=describe(weight),
            want="the weight of a layer, with an axis of output channels",
        )
    if axis is None:
        kernel_format = getattr(layer, "kernel_format", None)
        return weight, kernel_format.index("O") if isinstance(kernel_format, str) else weight.ndim - 1
    axis = integer(axis, what="axis", where=where)
    if not -weight.ndim <= axis < weight.ndim:
        raise ArgumentError(
            "The weight has no such axis.",
            where=where,
            got=f"axis={axis} for {describe(weight)}",
            want=f"{-weight.ndim} <= axis < {weight.ndim}",
        )
    return weight, axis % weight.ndim


def wide(weight: jax.Array) -> jax.Array:
    """Returns a weight in float32 at least: norms of half-precision weights are no numbers for that precision."""
    return weight.astype(promote_dtypes(weight.dtype, jnp.dtype(jnp.float32)))


def call_with_weight(owner: Any, attribute: str, weight: jax.Array, args: Any, kwargs: Any, *, computed: bool) -> Any:
    """Calls ``owner.layer`` with another weight; other changes of the call arrive in ``owner.layer``.

    Args:
        owner: the module that has the layer as ``layer``.
        attribute: where the layer has its weight.
        weight: the one to call it with.
        args: of the call.
        kwargs: of the call.
        computed: whether a change of the weight in the call is an error; the layer has none of its own then.
    """
    layer = owner.layer.replace(**{attribute: weight})
    with errors_located_in(owner, "layer"):
        changes, output = call_and_changes(layer, *args, **kwargs)
    if changes:
        owner.layer = with_changes(owner.layer, changes, computed=(attribute,) if computed else ())
    return output
