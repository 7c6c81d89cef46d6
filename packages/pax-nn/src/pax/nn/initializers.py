"""First values of weights.

An initializer is any function ``init(key, shape)`` that returns an array of that shape; those of
``jax.nn.initializers`` work as they are. Here are the ones which layers use by default and JAX does not have.
"""

import math
from collections.abc import Callable

import jax

from pax.errors import ArgumentError
from pax.extend import describe

__all__ = ["Initializer", "truncated_normal_with_stddev"]

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""``init(key, shape) -> array`` of that shape."""

# A standard normal distribution restricted to [-2, 2] has this standard deviation:
# sqrt(1 - 4 * pdf(2) / (2 * cdf(2) - 1)).
_STDDEV_AFTER_CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


def truncated_normal_with_stddev(stddev: float) -> Initializer:
    """Makes an initializer whose values have mean 0 and the standard deviation ``stddev``, without outliers.

    The values follow a normal distribution that is cut at two of *its* standard deviations, about 2.27 times
    ``stddev``. ``jax.nn.initializers.truncated_normal(stddev)`` differs: there ``stddev`` is that of the distribution
    before the cut, and the values come out 12% narrower.

    Args:
        stddev: standard deviation of the drawn values, not negative.

    Returns:
        A function ``init(key, shape)`` that returns an array of JAX's default float dtype.

    Raises:
        ArgumentError: ``stddev`` is negative or not a number.

    >>> import jax
    >>> from pax.nn.initializers import truncated_normal_with_stddev
    >>> init = truncated_normal_with_stddev(0.5)
    >>> values = init(jax.random.key(0), (100, 100))
    >>> round(float(values.std()), 1), bool(abs(values).max() < 0.5 * 2.28)
    (0.5, True)
    """
    if not stddev >= 0:
        raise ArgumentError(
            "Expecting a standard deviation that is not negative.",
            where="truncated_normal_with_stddev",
            got=describe(stddev),
            want="stddev >= 0",
        )
    return jax.nn.initializers.truncated_normal(stddev / _STDDEV_AFTER_CUT)
