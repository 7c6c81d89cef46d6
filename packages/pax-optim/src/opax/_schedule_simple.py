"""Schedules of one piece."""

from opax import _arguments
from opax._arguments import SMALLEST
from opax._schedules import Constant, Cosine, ExponentialDecay, Polynomial, Schedule


def constant(value: float) -> Schedule:
    """Makes a schedule that is ``value`` at each step.

    Args:
        value: the value.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> float(schedule.constant(0.5)(7))
    0.5
    """
    return make_constant("constant", "value", value)


def linear(initial_value: float, end_value: float, steps: float) -> Schedule:
    """Makes a schedule that goes from one value to another in a straight line.

    ``initial_value + (end_value - initial_value) * min(step / steps, 1)``.

    Args:
        initial_value: the value at step 0.
        end_value: the value from step ``steps`` on.
        steps: number of steps, above 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> [float(schedule.linear(1.0, 0.0, 4)(step)) for step in (0, 1, 4, 9)]
    [1.0, 0.75, 0.0, 0.0]
    """
    return make_polynomial("linear", initial_value=initial_value, end_value=end_value, power=1.0, steps=steps)


def polynomial(initial_value: float, end_value: float, power: float, steps: float) -> Schedule:
    """Makes a schedule that goes from one value to another by a power of what remains.

    ``end_value + (initial_value - end_value) * (1 - min(step / steps, 1)) ** power``.

    Args:
        initial_value: the value at step 0.
        end_value: the value from step ``steps`` on.
        power: above 0; 1 is :func:`linear`, more falls faster at the begin.
        steps: number of steps, above 0.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> [float(schedule.polynomial(1.0, 0.0, 2, 4)(step)) for step in (0, 2, 4)]
    [1.0, 0.25, 0.0]
    """
    return make_polynomial("polynomial", initial_value=initial_value, end_value=end_value, power=power, steps=steps)


def cosine_decay(initial_value: float, steps: float, end_value: float = 0.0, exponent: float = 1.0) -> Schedule:
    """Makes a schedule that goes from one value to another by half a wave: slow at both ends.

    ``end_value + (initial_value - end_value) * (0.5 * (1 + cos(pi * min(step / steps, 1)))) ** exponent``.

    Args:
        initial_value: the value at step 0.
        steps: number of steps, above 0.
        end_value: the value from step ``steps`` on; optax gives it as a part ``alpha`` of the initial value.
        exponent: above 0; more falls faster at the begin.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax import schedule
    >>> [round(float(schedule.cosine_decay(1.0, 4)(step)), 3) for step in (0, 1, 2, 4, 9)]
    [1.0, 0.854, 0.5, 0.0, 0.0]

    References:
        Loshchilov & Hutter, "SGDR", 2017, https://arxiv.org/abs/1608.03983.
    """
    return make_cosine("cosine_decay", initial_value=initial_value, end_value=end_value, steps=steps, exponent=exponent)


def exponential_decay(
    initial_value: float, step_size: float, reduce_factor: float = 2.0, min_value: float | None = None
) -> Schedule:
    """Makes a schedule that divides the learning rate by ``reduce_factor`` in every ``step_size`` steps, smoothly.

    ``initial_value * reduce_factor ** (-step / step_size)``, and never below ``min_value``.

    Args:
        initial_value: the value at step 0.
        step_size: steps in which the value shrinks by ``reduce_factor``, above 0.
        reduce_factor: above 0; a factor below 1 lets the value grow.
        min_value: the smallest value to return; ``None``: no limit.

    Returns:
        A function of a number or an array; it returns a float array of the same shape.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number.

    >>> from opax.schedule import exponential_decay
    >>> rate = exponential_decay(1.0, 10)
    >>> [float(rate(step)) for step in (0, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    where = "exponential_decay"
    return ExponentialDecay(
        _arguments.number(initial_value, what="initial_value", where=where),
        _arguments.number(step_size, what="step_size", where=where, low=SMALLEST),
        _arguments.number(reduce_factor, what="reduce_factor", where=where, low=SMALLEST),
        None if min_value is None else _arguments.number(min_value, what="min_value", where=where),
    )


def make_constant(where: str, name: str, value: float) -> Constant:
    """Checks the value that the user gave to ``where``."""
    return Constant(_arguments.number(value, what=name, where=where))


def make_polynomial(where: str, *, initial_value: float, end_value: float, power: float, steps: float) -> Polynomial:
    """Checks what the user gave to ``where``."""
    return Polynomial(
        _arguments.number(initial_value, what="initial_value", where=where),
        _arguments.number(end_value, what="end_value", where=where),
        _arguments.number(power, what="power", where=where, low=SMALLEST),
        _arguments.number(steps, what="steps", where=where, low=SMALLEST),
    )


def make_cosine(where: str, *, initial_value: float, end_value: float, steps: float, exponent: float) -> Cosine:
    """Checks what the user gave to ``where``."""
    return Cosine(
        _arguments.number(initial_value, what="initial_value", where=where),
        _arguments.number(end_value, what="end_value", where=where),
        _arguments.number(steps, what="steps", where=where, low=SMALLEST),
        _arguments.number(exponent, what="exponent", where=where, low=SMALLEST),
    )
