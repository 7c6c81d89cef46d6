"""Checks of arguments that are real numbers."""

from typing import Any

import numpy as np

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


def real_number(value: Any, *, what: str, where: str, want: str = "a number") -> float:
    """Returns ``value`` as a ``float``.

    Args:
        value: what the user gave: a number or a scalar array.
        what: the name of the argument.
        where: the layer or function it was given to.
        want: what the error text asks for.

    Raises:
        ArgumentTypeError: it is no number, or traced.
    """
    try:
        if not isinstance(value, str | bytes) and np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ArgumentTypeError(
        f"Expecting a number for `{what}`.", where=where, got=f"{what}={describe(value)}", want=want
    ) from None


def check_decay_rate(decay_rate: Any, *, where: str) -> float:
    """Returns the weight of the old values in a moving average.

    Raises:
        ArgumentTypeError: it is no number.
        ArgumentError: it is outside of [0, 1].
    """
    want = "0 <= decay_rate <= 1"
    rate = real_number(decay_rate, what="decay_rate", where=where, want=want)
    if not 0 <= rate <= 1:
        raise ArgumentError("Expecting a decay rate in [0, 1].", where=where, got=f"decay_rate={decay_rate}", want=want)
    return rate
