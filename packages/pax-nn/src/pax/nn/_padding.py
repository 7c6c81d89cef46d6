"""Checks of the ``padding`` argument of convolutions."""

import difflib
import operator
from collections.abc import Sequence
from typing import Any

from pax.errors import ArgumentError

Padding = str | Sequence[tuple[int, int]]

_NAMES = ("SAME", "VALID")
_WANT = '"SAME", "VALID", or a list or tuple with one (before, after) pair per spatial axis'


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
        if padding in _NAMES:
            return padding
        meant = difflib.get_close_matches(padding.upper(), _NAMES, n=1)
        raise ArgumentError(
            f"Not supported padding `{padding}`",
            where=where,
            got=f"padding={padding!r}",
            want=_WANT,
            fix=f'padding="{meant[0]}"' if meant else _example(num_axes),
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
            want=_WANT,
            fix=_example(num_axes, padding),
        ) from None
    if len(pairs) != num_axes:
        raise ArgumentError(
            "Expecting one padding pair per spatial axis.",
            where=where,
            got=f"padding={padding}",
            want=f"{num_axes} (before, after) pair(s)",
            fix=_example(num_axes),
        )
    return tuple(pairs) if isinstance(padding, tuple) else pairs


def _example(num_axes: int, given: Any = 1) -> str:
    """Returns an argument that is accepted: where numbers were given, one that takes each for both ends of an axis."""
    sizes = list(given) if isinstance(given, list | tuple) else [given] * num_axes
    if len(sizes) == 2 and num_axes == 1:
        pairs = [tuple(sizes)]
    else:
        pairs = [(size, size) for size in sizes]
    is_usable = len(pairs) == num_axes and all(isinstance(size, int) for size in sizes)
    return f"padding={pairs if is_usable else [(1, 1)] * num_axes}"
