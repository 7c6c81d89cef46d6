"""Finding the learning rate of an optimizer, for logging."""

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
        fix="optimizer[0].learning_rate  # ask the transformation that has it; of several groups, one of them",
    )
