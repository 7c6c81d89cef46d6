"""Checks of the ``padding`` argument of convolutions."""

import operator
from collections.abc import Sequence
from typing import Any

from pax.errors import ArgumentError

Padding = str | Sequence[tuple[int, int]]


def check_padding(padding: Any, num_axes: int, *, where: str) -> Padding:
    """Returns ``padding`` as given, with its numbers as ``int``.

    Args:
        padding: ``"SAME"``, ``"VALID"``, or one pair (before, after) per spatial axis.
        num_axes: the number of spatial axes.
        where: the layer that got it.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(padding, str):
        if padding in ("SAME", "VALID"):
            return padding
        raise ArgumentError(
            f"Not supported padding `{padding}`",
            where=where,
            want='"SAME", "VALID", or one (before, after) pair per spatial axis',
            fix=_example(num_axes),
        )
    try:
        pairs = [(operator.index(before), operator.index(after)) for before, after in padding]
    except (TypeError, ValueError):
        is_tuple = isinstance(padding, tuple)
        raise ArgumentError(
            "Tuple type padding is not supported. Use `[ (int, int) ]` instead."
            if is_tuple
            else f"Not supported padding `{padding}`",
            where=where,
            got=f"padding={padding}",
            want="one (before, after) pair per spatial axis",
            fix=_example(num_axes),
        ) from None
    if len(pairs) != num_axes:
        raise ArgumentError(
            "Expecting one padding pair per spatial axis.",
            where=where,
            got=f"padding={padding}",
            want=f"{num_axes} pair(s)",
            fix=_example(num_axes),
        )
    return tuple(pairs) if isinstance(padding, tuple) else pairs


def _example(num_axes: int) -> str:
    return f"padding={[(1, 1)] * num_axes}"
