"""What a `jmp` loss scale does in a step: divide the gradients, and adjust itself, in its own dtype."""

import dataclasses
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import jmp
from jax.typing import ArrayLike

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer

# Dividing by a number is compiled as multiplying by its inverse, and processors may take a subnormal inverse for zero.
_LARGEST = 2.0**126
_SMALLEST = 2.0**-126

_finfo: Any = jnp.finfo  # not typed
_iinfo: Any = jnp.iinfo

_MAKE = "jmp.DynamicLossScale(jmp.half_dtype()(2**15))"


def check_loss_scale(loss_scale: Any, where: str) -> None:
    """Checks that `loss_scale` is one of `jmp`, with contents that can be worked with.

    Args:
        loss_scale: what the user passed.
        where: the function and its argument, for the error.

    Raises:
        ArgumentTypeError: it is no loss scale, or the kinds of its numbers do not fit.
        ArgumentError: its numbers have a wrong shape or range.
    """
    if isinstance(loss_scale, jmp.NoOpLossScale):
        return
    if not isinstance(loss_scale, jmp.StaticLossScale | jmp.DynamicLossScale):
        raise ArgumentTypeError(
            "Expecting a loss scale of jmp.",
            where=where,
            got=describe(loss_scale),
            want="a jmp.DynamicLossScale, jmp.StaticLossScale or jmp.NoOpLossScale",
            fix=f"loss_scale = {_MAKE}",
        )
    _check_scalar(loss_scale.loss_scale, "loss_scale", where)
    _check_range(loss_scale, where)
    if isinstance(loss_scale, jmp.DynamicLossScale):
        _check_dynamic(loss_scale, where)


def _check_scalar(value: Any, name: str, where: str) -> None:
    try:
        shape, dtype = jnp.shape(value), jnp.result_type(value)
    except (TypeError, ValueError):
        shape, dtype = None, None
    if dtype is None or not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise ArgumentTypeError(
            f"Expecting a number for `{name}` of a loss scale.", where=where, got=describe(value), want="a scalar"
        )
    if shape != ():
        raise ArgumentError(
            f"Expecting a scalar for `{name}` of a loss scale.", where=where, got=describe(value), want=f"{dtype}[]"
        )


def _check_range(loss_scale: Any, where: str) -> None:
    """Checks the number itself, unless it is traced: with an infinite one, every step would be left out."""
    scale = loss_scale.loss_scale
    if is_tracer(scale):
        return
    number = float(scale)
    if not 0 < number < math.inf:
        dtype = jnp.result_type(scale)
        fix = _MAKE if isinstance(loss_scale, jmp.DynamicLossScale) else "jmp.StaticLossScale(2**15)"
        limit = f"; the largest number of {dtype} is {float(_finfo(dtype).max):g}" if number == math.inf else ""
        raise ArgumentError(
            "Expecting a loss scale that is finite and above zero.",
            where=where,
            got=f"{number} ({dtype})",
            want=f"0 < loss_scale < inf{limit}",
            fix=f"loss_scale = {fix}",
        )


def _check_dynamic(loss_scale: Any, where: str) -> None:
    scale, counter, period, factor = loss_scale.loss_scale, loss_scale.counter, loss_scale.period, loss_scale.factor
    if not jnp.issubdtype(jnp.result_type(scale), jnp.floating):
        raise ArgumentTypeError(
            "Expecting a loss scale of a floating-point dtype: an integer cannot be halved for ever.",
            where=where,
            got=describe(scale),
            want="for example float16[] or float32[]",
            fix=f"loss_scale = {_MAKE}",
        )
    _check_scalar(counter, "counter", where)
    if not jnp.issubdtype(jnp.result_type(counter), jnp.integer):
        raise ArgumentTypeError(
            "Expecting an integer for `counter` of a loss scale.", where=where, got=describe(counter), want="int32[]"
        )
    limit = int(_iinfo(jnp.result_type(counter)).max)
    if not (isinstance(period, int) and 1 <= period <= limit):
        raise ArgumentError(
            "Expecting a number of steps for `period` of a loss scale.",
            where=where,
            got=describe(period),
            want=f"an integer from 1 to {limit}, which `counter` can count to",
        )
    if not factor >= 1:
        raise ArgumentError(
            "Expecting a `factor` of a loss scale that is not below 1.", where=where, got=describe(factor), want="2"
        )


def minimum_of(loss_scale: Any, value: ArrayLike | None, where: str) -> Any:
    """Returns the lower limit of a dynamic loss scale, as a Python number where it is known, in its dtype otherwise.

    Args:
        loss_scale: a dynamic loss scale.
        value: the limit; by default the loss scale's own.
        where: the function, for the error.

    Raises:
        ArgumentTypeError: the limit is no real number.
        ArgumentError: it is no scalar, not above zero, or zero or infinite in the dtype of the loss scale.
    """
    minimum: Any = loss_scale.min_loss_scale if value is None else value
    where = f"{where}, `min_loss_scale`"
    _check_scalar(minimum, "min_loss_scale", where)
    dtype = jnp.result_type(loss_scale.loss_scale)
    if is_tracer(minimum):
        return jnp.asarray(minimum, dtype)
    number, limit = float(minimum), float(_finfo(dtype).max)
    # What rounds to zero in the dtype would end the training: gradients cannot be divided by zero. Subnormal numbers of
    # float32 are zero in compiled programs.
    least = max(float(_finfo(dtype).smallest_subnormal), _SMALLEST)
    if not least <= number <= limit:
        raise ArgumentError(
            "Expecting a smallest loss scale above zero that its dtype can hold.",
            where=where,
            got=repr(number),
            want=f"from {least:g} to {limit:g} for a loss scale of {dtype}",
        )
    return number


def unscale(loss_scale: Any, grads: Any) -> Any:
    """Returns the gradients of the loss from those of the scaled loss.

    Half-precision gradients become float32: many of them are zero in float16 once they are divided. Other dtypes stay.

    Args:
        loss_scale: a loss scale that was checked.
        grads: a tree of arrays.
    """
    if isinstance(loss_scale, jmp.NoOpLossScale):
        return grads
    return jax.tree.map(lambda grad: _divide(grad, loss_scale.loss_scale), grads)


def _divide(grad: Any, scale: Any) -> Any:
    dtype = jnp.result_type(grad)
    if not jnp.issubdtype(dtype, jnp.inexact):
        return grad
    wide = _at_least_float32(dtype)
    return jnp.asarray(grad, wide) / jnp.asarray(scale, wide)


def _at_least_float32(dtype: Any) -> Any:
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def adjust(loss_scale: Any, is_finite: jax.Array, minimum: Any) -> Any:
    """Returns the dynamic loss scale of the next step; all its dtypes stay as they are, and so do weak types.

    `jmp` compares with a float32 minimum, which fails for a float16 loss scale. It finds that a scale is too large by
    its being infinite, which a compiler that keeps float16 numbers in float32 registers need not see. And above 2**126
    compiled programs may divide by it as by infinity, which would end the training without a sign.

    Args:
        loss_scale: a dynamic loss scale that was checked. A subclass that has an `adjust` of its own does it itself.
        is_finite: whether the gradients are finite, a boolean scalar.
        minimum: what `minimum_of` returned.
    """
    if type(loss_scale).adjust is not jmp.DynamicLossScale.adjust:
        return loss_scale.adjust(is_finite)
    scale, counter = jnp.asarray(loss_scale.loss_scale), jnp.asarray(loss_scale.counter)
    # Python numbers take the dtype of the array that they meet.
    factor, period = float(loss_scale.factor), operator.index(loss_scale.period)
    largest = min(float(_finfo(scale.dtype).max), _LARGEST)
    fits = jnp.asarray(scale, _at_least_float32(scale.dtype)) <= largest / factor
    larger = jnp.where(fits & jnp.isfinite(scale * factor), scale * factor, scale)
    kept_or_larger = jnp.where(counter == period - 1, larger, scale)
    # Half of infinity is infinity: a traced scale that is too large for its dtype would never come down.
    finite = jnp.where(jnp.isinf(scale), 2.0 ** (_finfo(scale.dtype).maxexp - 1), scale)
    smaller = jnp.maximum(finite / factor, minimum)
    return dataclasses.replace(
        loss_scale,
        loss_scale=jnp.where(is_finite, kept_or_larger, smaller),
        counter=jnp.where(is_finite, (counter + 1) % period, 0),
    )
