"""Sizes given as one integer or as one integer per spatial axis, and axes counted from either end."""

import operator
from collections.abc import Sequence
from typing import Any

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


def integer(value: Any, *, what: str, where: str, want: str = "an int") -> int:
    """Returns ``value`` as an ``int``.

    Args:
        value: what the user gave; any integer type, NumPy's included.
        what: the name of the argument.
        where: the layer it was given to.
        want: what the error text asks for.

    Raises:
        ArgumentTypeError: it is no integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError(
            f"Expecting an integer for `{what}`.", where=where, got=describe(value), want=want
        ) from None


def positive_int(value: Any, *, what: str, where: str) -> int:
    """Returns ``value`` as an ``int``.

    Args:
        value: what the user gave; any integer type, NumPy's included.
        what: the name of the argument.
        where: the layer it was given to.

    Raises:
        ArgumentTypeError: it is no integer.
        ArgumentError: it is smaller than 1.
    """
    number = integer(value, what=what, where=where, want="an int, at least 1")
    if number < 1:
        raise ArgumentError(
            f"Expecting positive values for `{what}`.", where=where, got=str(number), want="an int, at least 1"
        )
    return number


def per_axis(value: Any, num_axes: int, *, what: str, where: str) -> Sequence[int]:
    """Returns one positive integer per spatial axis: an integer is repeated, a sequence keeps its length and type.

    Raises:
        ArgumentTypeError: ``value`` is neither an integer nor a list or tuple of integers.
        ArgumentError: a sequence of another length, or a number smaller than 1.
    """
    if not isinstance(value, list | tuple):
        return (positive_int(value, what=what, where=where),) * num_axes
    if len(value) != num_axes:
        raise ArgumentError(
            f"Expecting one value per spatial axis for `{what}`.",
            where=where,
            got=f"{what}={value}",
            want=f"an int, or {num_axes} of them",
        )
    numbers = [positive_int(number, what=what, where=where) for number in value]
    return numbers if isinstance(value, list) else tuple(numbers)


def check_data_format(data_format: Any, supported: tuple[str, str], *, where: str) -> str:
    """Returns the name of an order of axes, for example ``"NHWC"``, if it is one of the two that a layer knows.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(data_format, str) and data_format in supported:
        return data_format
    raise ArgumentError(
        f"Data format `{data_format}` is not supported. Use `{'` or `'.join(supported)}`.",
        where=where,
        got=f"data_format={data_format!r}",
        want=" or ".join(f'"{name}"' for name in supported),
    )


def channel_index(data_format: Any, *, where: str) -> int:
    """Returns the axis of the channels in arrays of any rank.

    It is 1 for ``"channels_first"`` or ``"NC..."``, and -1 for ``"channels_last"`` or ``"N...C"``.

    Raises:
        ArgumentError: another data format.
    """
    if data_format in ("channels_first", "NC..."):
        return 1
    if data_format in ("channels_last", "N...C"):
        return -1
    raise ArgumentError(
        f"Data format `{data_format}` is not supported.",
        where=where,
        got=f"data_format={data_format!r}",
        want='"channels_first" or "NC...", "channels_last" or "N...C"',
        fix=f'data_format="{"channels_first" if str(data_format)[1:2] == "C" else "channels_last"}"',
    )
