"""Checks of what users give: hyper-parameters, and the parameters in a call."""

import math
import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import pax
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer

SMALLEST = math.ulp(0.0)  # as `low`, for "above 0"


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
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or _is_real_scalar(value)):
        raise ArgumentTypeError(
            f"Expecting a number for `{what}`.", where=where, got=describe(value), want=_range(what, low, below)
        )
    try:
        result = float(value)
    except OverflowError:  # of an integer
        result = math.inf if value > 0 else -math.inf
    if not (low <= result < below or (below == math.inf and result == math.inf)):
        raise ArgumentError(
            f"`{what}` is out of range.", where=where, got=f"{what}={result}", want=_range(what, low, below)
        )
    return result


def _is_real_scalar(value: Any) -> bool:
    is_array = isinstance(value, jax.Array | np.ndarray) and value.ndim == 0 and not is_tracer(value)
    return is_array and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))


def _range(what: str, low: float, below: float) -> str:
    if low == -math.inf:
        return "a real number"
    if low == SMALLEST:
        return f"0 < {what}"
    return f"{low:g} <= {what}" if below == math.inf else f"{low:g} <= {what} < {below:g}"


def whole_number(value: Any, *, what: str, where: str, low: int) -> int:
    """Returns an integer as an ``int``.

    Raises:
        ArgumentTypeError: it is none.
        ArgumentError: it is below ``low``.
    """
    want = f"an integer, {low} <= {what}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"Expecting an integer for `{what}`.", where=where, got=describe(value), want=want)
    if value < low:
        raise ArgumentError(f"`{what}` is out of range.", where=where, got=f"{what}={int(value)}", want=want)
    return int(value)


def flag(value: Any, *, what: str, where: str) -> bool:
    """Returns ``value`` as a ``bool``.

    Args:
        value: what the user gave.
        what: the name of the argument.
        where: the function that got it.

    Raises:
        ArgumentTypeError: it is no boolean: a number, for example, that was meant for the argument before it.
    """
    if not isinstance(value, bool | np.bool_):
        raise ArgumentTypeError(
            f"Expecting a boolean for `{what}`.", where=where, got=describe(value), want="True or False"
        )
    return bool(value)


def seed(value: Any, *, where: str) -> int:
    """Returns ``value`` as an ``int``.

    Args:
        value: what the user gave.
        where: the function that got it.

    Raises:
        ArgumentTypeError: it is no integer.
        ArgumentError: it has more than 64 bits.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ArgumentTypeError("A seed has to be an integer.", where=where, got=describe(value), want="an int")
    if not -(2**63) <= number < 2**63:
        raise ArgumentError("This seed is too large.", where=where, got=f"seed={number}", want="an int of 64 bits")
    return number


def dtype(value: DTypeLike | None, *, where: str) -> np.dtype[Any] | None:
    """Returns the dtype of an optimizer's state in the one form that compares by value, or ``None``.

    Args:
        value: what the user gave for ``state_dtype``.
        where: the function that got it.

    Raises:
        ArgumentTypeError: it is no dtype, or not one of real floating-point numbers.
    """
    if value is None:
        return None
    try:
        found = jnp.dtype(value)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise ArgumentTypeError(
            "Expecting a floating-point dtype for `state_dtype`.",
            where=where,
            got=describe(value) if found is None else str(found),
            want="jnp.float32, jnp.bfloat16, …; None: float32 for parameters of half precision, else their own dtype",
        )
    return found


def need_params(params: Any, module: pax.Module) -> None:
    """Raises ``ArgumentError`` for a transformation that was called without parameters."""
    if params is None:
        raise ArgumentError(
            "expecting params argument",
            module=module,
            got="params=None",
            want="the current parameters",
            fix="updates, optimizer = opax.transform_gradients(grads, optimizer, params)",
        )
