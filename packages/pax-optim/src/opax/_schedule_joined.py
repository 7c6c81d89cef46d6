"""Schedules of several pieces, one after the other."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from opax import _arguments
from opax._arguments import SMALLEST
from opax._by_value import by_value
from opax._schedule_simple import make_constant, make_cosine, make_polynomial
from opax._schedules import InverseSqrt, Join, Schedule, ScheduleFn
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


def warmup_cosine_decay(
    peak_value: float,
    warmup_steps: float,
    steps: float,
    initial_value: float = 0.0,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """Makes a schedule that rises in a line, then falls as :func:`cosine_decay`.

    Args:
        peak_value: the value at step ``warmup_steps``.
        warmup_steps: number of steps of the rise; 0: no rise.
        steps: number of all steps, above ``warmup_steps``.
        initial_value: the value at step 0. The first step of an optimizer is 1, so it is not 0 there.
        end_value: the value from step ``steps`` on.
        exponent: that of the cosine, above 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> rate = schedule.warmup_cosine_decay(1.0, warmup_steps=2, steps=6)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    References:
        Goyal et al., "Accurate, large minibatch SGD", 2017, https://arxiv.org/abs/1706.02677 (the warm-up);
        Loshchilov & Hutter, "SGDR", 2017, https://arxiv.org/abs/1608.03983.
    """
    where = "warmup_cosine_decay"
    peak_value = _arguments.number(peak_value, what="peak_value", where=where)
    warmup_steps, remaining = _lengths(warmup_steps, steps, where)
    decay = make_cosine(where, initial_value=peak_value, end_value=end_value, steps=remaining, exponent=exponent)
    return _warmed_up(initial_value, peak_value, warmup_steps, decay, where)


def warmup_linear_decay(
    peak_value: float, warmup_steps: float, steps: float, initial_value: float = 0.0, end_value: float = 0.0
) -> Schedule:
    """Makes a schedule that rises in a line, then falls in a line.

    Args:
        peak_value: the value at step ``warmup_steps``.
        warmup_steps: number of steps of the rise; 0: no rise.
        steps: number of all steps, above ``warmup_steps``.
        initial_value: the value at step 0.
        end_value: the value from step ``steps`` on.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> rate = schedule.warmup_linear_decay(1.0, warmup_steps=2, steps=6)
    >>> [float(rate(step)) for step in (0, 1, 2, 3, 6)]
    [0.0, 0.5, 1.0, 0.75, 0.0]

    References:
        Devlin et al., "BERT", 2019, https://arxiv.org/abs/1810.04805 (section A.2).
    """
    where = "warmup_linear_decay"
    peak_value = _arguments.number(peak_value, what="peak_value", where=where)
    warmup_steps, remaining = _lengths(warmup_steps, steps, where)
    decay = make_polynomial(where, initial_value=peak_value, end_value=end_value, power=1.0, steps=remaining)
    return _warmed_up(initial_value, peak_value, warmup_steps, decay, where)


def inverse_sqrt(peak_value: float, warmup_steps: float, initial_value: float = 0.0) -> Schedule:
    """Makes a schedule that rises in a line, then falls as the root of the step; it never ends.

    ``peak_value * sqrt(warmup_steps / step)`` after the rise.

    Args:
        peak_value: the value at step ``warmup_steps``.
        warmup_steps: number of steps of the rise, above 0.
        initial_value: the value at step 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> [float(schedule.inverse_sqrt(1.0, 4)(step)) for step in (0, 2, 4, 16)]
    [0.0, 0.5, 1.0, 0.5]

    References:
        Vaswani et al., "Attention is all you need", 2017, https://arxiv.org/abs/1706.03762 (eq. 3; there the peak is
        ``1 / sqrt(d_model * warmup_steps)``).
    """
    where = "inverse_sqrt"
    peak_value = _arguments.number(peak_value, what="peak_value", where=where)
    warmup_steps = _arguments.number(warmup_steps, what="warmup_steps", where=where, low=SMALLEST)
    return _warmed_up(initial_value, peak_value, warmup_steps, InverseSqrt(peak_value, warmup_steps), where)


def one_cycle(
    peak_value: float,
    steps: float,
    warmup_steps: float | None = None,
    initial_value: float | None = None,
    end_value: float | None = None,
) -> Schedule:
    """Makes a schedule that rises to a peak, then falls far below its begin, both as :func:`cosine_decay` does.

    Args:
        peak_value: the value at step ``warmup_steps``.
        steps: number of all steps, above ``warmup_steps``.
        warmup_steps: number of steps of the rise, above 0; by default 30% of ``steps``, rounded down.
        initial_value: the value at step 0; by default ``peak_value / 25``.
        end_value: the value from step ``steps`` on; by default ``initial_value / 10000``.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> rate = schedule.one_cycle(1.0, 10, initial_value=0.5, end_value=0.0)
    >>> [float(rate(step)) for step in (0, 3, 10)]
    [0.5, 1.0, 0.0]

    References:
        Smith & Topin, "Super-convergence", 2018, https://arxiv.org/abs/1708.07120; the defaults are those of
        ``optax.cosine_onecycle_schedule``.
    """
    where = "one_cycle"
    peak_value = _arguments.number(peak_value, what="peak_value", where=where)
    steps = _arguments.number(steps, what="steps", where=where, low=SMALLEST)
    if warmup_steps is None:
        warmup_steps = math.floor(0.3 * steps) or 0.3 * steps  # fewer than 4 steps have no whole one to rise in
    warmup_steps, remaining = _lengths(warmup_steps, steps, where, low=SMALLEST)
    first = peak_value / 25 if initial_value is None else initial_value
    rise = make_cosine(where, initial_value=first, end_value=peak_value, steps=warmup_steps, exponent=1.0)
    last = rise.initial_value / 10_000 if end_value is None else end_value
    fall = make_cosine(where, initial_value=peak_value, end_value=last, steps=remaining, exponent=1.0)
    return Join((rise, fall), (warmup_steps,))


def piecewise_constant(values: Sequence[float], boundaries: Sequence[float]) -> Schedule:
    """Makes a schedule of stairs: ``values[0]`` before step ``boundaries[0]``, ``values[1]`` from there on, and so on.

    Args:
        values: the values; one more than boundaries.
        boundaries: steps in rising order, above 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: the lengths do not fit, or the boundaries do not rise.
        ArgumentTypeError: an argument that is no sequence of numbers.

    >>> from opax import schedule
    >>> rate = schedule.piecewise_constant([1.0, 0.5, 0.25], [10, 20])
    >>> [float(rate(step)) for step in (0, 9, 10, 20, 30)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    where = "piecewise_constant"
    stairs = tuple(
        make_constant(where, f"values[{index}]", value) for index, value in enumerate(_items(values, "values", where))
    )
    return Join(stairs, _boundaries(boundaries, len(stairs), "values", where))


def join(schedules: Sequence[ScheduleFn], boundaries: Sequence[float]) -> Schedule:
    """Makes a schedule that follows the first one until the first boundary, then the second one, and so on.

    Args:
        schedules: functions of the number of steps since their begin; one more than boundaries.
        boundaries: steps in rising order, above 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape. It can be pickled if all
        ``schedules`` can.

    Raises:
        ArgumentError: the lengths do not fit, or the boundaries do not rise.
        ArgumentTypeError: an argument that is no sequence of functions, or of numbers.

    >>> from opax import schedule
    >>> rate = schedule.join([schedule.linear(0.0, 1.0, 4), schedule.exponential_decay(1.0, 10)], [4])
    >>> [float(rate(step)) for step in (0, 2, 4, 14)]
    [0.0, 0.5, 1.0, 0.5]
    """
    where = "join"
    functions = _items(schedules, "schedules", where)
    for index, function in enumerate(functions):
        if not callable(function):
            raise ArgumentTypeError(
                "Expecting schedule functions.",
                where=where,
                got=f"schedules[{index}] = {describe(function)}",
                want="functions of the step",
                fix=f"opax.schedule.constant({describe(function)})",
            )
    return Join(tuple(map(by_value, functions)), _boundaries(boundaries, len(functions), "schedules", where))


def _lengths(warmup_steps: float, steps: float, where: str, low: float = 0) -> tuple[float, float]:
    """Returns the number of steps of the rise and of what follows."""
    warmup_steps = _arguments.number(warmup_steps, what="warmup_steps", where=where, low=low)
    steps = _arguments.number(steps, what="steps", where=where, low=SMALLEST)
    if not warmup_steps < steps:
        raise ArgumentError(
            "The warm-up is not shorter than the whole schedule.",
            where=where,
            got=f"warmup_steps={warmup_steps:g}, steps={steps:g}",
            want="warmup_steps < steps, which counts the warm-up, too",
            fix=f"steps={warmup_steps:g} + the number of steps after the warm-up",
        )
    return warmup_steps, steps - warmup_steps


def _warmed_up(initial_value: float, peak_value: float, warmup_steps: float, after: Schedule, where: str) -> Schedule:
    initial_value = _arguments.number(initial_value, what="initial_value", where=where)
    if warmup_steps == 0:
        return after
    rise = make_polynomial(where, initial_value=initial_value, end_value=peak_value, power=1.0, steps=warmup_steps)
    return Join((rise, after), (warmup_steps,))


def _items(values: Any, what: str, where: str, *, may_be_empty: bool = False) -> tuple[Any, ...]:
    try:
        items = None if isinstance(values, str) else tuple(values)
    except TypeError:
        items = None
    if items is None or not (items or may_be_empty):
        raise ArgumentTypeError(f"Expecting a list for `{what}`.", where=where, got=describe(values), want="a list")
    return items


def _boundaries(boundaries: Any, pieces: int, what: str, where: str) -> tuple[float, ...]:
    items = _items(boundaries, "boundaries", where, may_be_empty=True)
    steps = tuple(
        _arguments.number(step, what=f"boundaries[{index}]", where=where, low=SMALLEST)
        for index, step in enumerate(items)
    )
    if len(steps) != pieces - 1:
        raise ArgumentError(
            f"`{what}` and `boundaries` do not fit.",
            where=where,
            got=f"{pieces} {what}, {len(steps)} boundaries",
            want="one boundary between any two",
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ArgumentError(
            "`boundaries` do not rise.",
            where=where,
            got=", ".join(f"{step:g}" for step in steps),
            want="the numbers of steps since the begin of training, in rising order",
        )
    return steps
