"""Checks of hyper-parameters."""

import math
import numbers
from typing import Any

import jax

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer


def number(value: Any, *, what: str, where: str, low: float = -math.inf, below: float = math.inf) -> float:
    """Returns a real number as a ``float``, so that ``1`` and ``1.0`` make the same optimizer.

    Args:
        value: what the user gave.
        what: the name of the argument.
        where: the function that got it.
        low: smallest number allowed.
        below: all numbers have to be smaller than this.

    Raises:
        ArgumentTypeError: it is no real number.
        ArgumentError: it is out of range or NaN.
    """
    is_scalar = isinstance(value, jax.Array) and value.ndim == 0 and not is_tracer(value)
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or is_scalar):
        raise ArgumentTypeError(
            f"Expecting a number for `{what}`.", where=where, got=describe(value), want=_range(what, low, below)
        )
    result = float(value)
    if not (low <= result < below or (below == math.inf and result == math.inf)):
        raise ArgumentError(
            f"`{what}` is out of range.", where=where, got=f"{what}={result}", want=_range(what, low, below)
        )
    return result


def _range(what: str, low: float, below: float) -> str:
    if low == -math.inf:
        return "a real number"
    return f"{low:g} <= {what}" if below == math.inf else f"{low:g} <= {what} < {below:g}"
