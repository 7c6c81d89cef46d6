"""Finding the learning rate of an optimizer, for logging, and changing it."""

from collections.abc import Sequence
from typing import Any

import jax

from opax._transformation import GradientTransformation
from pax.errors import ArgumentError


def find_learning_rate(transformation: Any) -> float | jax.Array | None:
    """Returns the attribute ``learning_rate`` of a transformation, or that of its ``inner`` one, if there is any."""
    try:
        rate: float | jax.Array | None = getattr(transformation, "learning_rate", None)
    except ArgumentError:  # a property, as that of chains, which found nothing
        return None
    inner = getattr(transformation, "inner", None)
    if rate is None and isinstance(inner, GradientTransformation):
        return find_learning_rate(inner)
    return rate


def last_learning_rate(transforms: Sequence[Any], module: GradientTransformation) -> float | jax.Array:
    """Returns what :func:`find_learning_rate` finds in the last transformation that has any.

    Raises:
        ArgumentError: none has; ``module`` is the one that was asked.
    """
    for transform in reversed(transforms):
        rate = find_learning_rate(transform)
        if rate is not None:
            return rate
    raise ArgumentError(
        "The optimizer has no learning rate.",
        module=module,
        where="attribute `learning_rate`",
        got=f"the transformations: {', '.join(map(repr, transforms))}" if transforms else "no transformations",
        want="one that has a single learning rate, such as opax.scale_by_schedule or opax.scale",
        fix="optimizer[i].learning_rate, of one that has it; in a partition, optimizer[i][j].learning_rate",
    )


def with_learning_rate(transforms: Sequence[Any], rate: Any, module: GradientTransformation) -> list[Any]:
    """Returns the transformations with another learning rate in that one which :func:`last_learning_rate` asks.

    Raises:
        ArgumentError: none has any, or it follows a schedule.
    """
    last_learning_rate(transforms, module)
    index = max(i for i, transform in enumerate(transforms) if find_learning_rate(transform) is not None)
    if not _is_settable(transforms[index]):
        raise ArgumentError(
            "This learning rate is no constant.",
            module=module,
            where="attribute `learning_rate`",
            got=f"another learning rate for {transforms[index]!r}, which computes it",
            want="an optimizer with a constant learning rate",
            fix="opax.adam(jnp.array(1e-3))  # an array: changing it compiles nothing anew",
        )
    return [t.replace(learning_rate=rate) if i == index else t for i, t in enumerate(transforms)]


def _is_settable(transform: Any) -> bool:
    own = getattr(type(transform), "learning_rate", None)
    return isinstance(own, property) and own.fset is not None
