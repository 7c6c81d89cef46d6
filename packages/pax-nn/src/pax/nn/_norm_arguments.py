"""Arguments of normalisation layers: the axes (an integer, several, or a slice of all axes), and ``eps``."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._numbers import real_number

Axes = Sequence[int] | slice


def check_axis(axis: Any, *, where: str) -> Axes:
    """Returns ``axis`` as a layer stores it: lists and slices as they are, everything else as a tuple of integers.

    Raises:
        ArgumentError: it is neither an integer nor a slice nor an iterable of integers, or there is none in it.
    """
    if isinstance(axis, slice):
        return axis
    try:
        numbers = [operator.index(number) for number in (axis if isinstance(axis, Iterable) else (axis,))]
    except TypeError:
        numbers = []
    if not numbers:
        raise ArgumentError(
            "`axis` should be an int, slice or iterable of ints.",
            where=where,
            got=f"axis={axis!r}",
            want="axes of the input, negative ones counted from its end",
            fix="axis=-1   # the last axis; slice(1, None) is all axes but the first",
        )
    return numbers if isinstance(axis, list) else tuple(numbers)


def input_axes(module: Any, axis: Axes, x: jax.Array) -> tuple[int, ...]:
    """Returns the axes of ``x`` that ``axis`` means, counted from 0, in ascending order.

    Raises:
        ArgumentError: ``x`` has no such axis, or it is named twice, or there is none to normalise over.
    """
    if isinstance(axis, slice):
        axes = sorted(range(x.ndim)[axis])
        headline = f"There is no axis to normalise over in an input with {x.ndim} axes."
        wrong = not axes
    else:
        headline = f"An input with {x.ndim} axes does not have all axes to normalise over."
        wrong = not all(-x.ndim <= number < x.ndim for number in axis)
        axes = sorted(number % x.ndim for number in axis) if not wrong else []
        if len(set(axes)) < len(axes):
            headline, wrong = "An axis to normalise over is named twice.", True
    if wrong:
        raise ArgumentError(
            headline,
            module=module,
            got=f"{describe(x)}, axis={axis}",
            want="different axes of the input, one at least",
            fix="x[None]   # a batch of one" if x.ndim else None,
        )
    return tuple(axes)


def check_eps(eps: Any, *, where: str) -> float:
    """Returns ``eps`` as a ``float``.

    Raises:
        ArgumentTypeError: it is no number.
        ArgumentError: it is negative or not finite.
    """
    want = "a small number, for example 1e-5; not negative"
    number = real_number(eps, what="eps", where=where, want=want)
    if not 0 <= number < float("inf"):
        raise ArgumentError("Expecting a finite `eps` that is not negative.", where=where, got=f"eps={eps}", want=want)
    return number
