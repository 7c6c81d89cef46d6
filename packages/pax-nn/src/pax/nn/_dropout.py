"""Dropout, as a function and as a layer."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from pax import StateModule
from pax.errors import ArgumentError
from pax.extend import describe, is_tracer
from pax.nn._dtypes import as_array, as_inexact
from pax.nn._initialize import key_or_next
from pax.nn._numbers import real_number


def dropout(
    rng_key: jax.Array | None, dropout_rate: float | Float[Array, ""], x: Num[Array, "*shape"]
) -> Num[Array, "*shape"]:
    """Replaces a random part of ``x`` by zeros and scales up the rest so that the expectation stays the same.

    Args:
        rng_key: the key to draw from; not used, and may be ``None``, if the rate is the number 0.
        dropout_rate: probability of *dropping* an element, in [0, 1). It may be a traced scalar, whose range is not
            checked.
        x: any numeric array.

    Returns:
        ``x`` itself if the rate is the number 0. Else an array of the same shape: 0 or ``x / (1 - dropout_rate)``, in
        the dtype of ``x``, or JAX's default float dtype for integers.

    Raises:
        ArgumentError: the rate is outside of [0, 1), or there is no key.
        ArgumentTypeError: the rate is no number, or the key no key.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import pax
    >>> y = pax.nn.dropout(jax.random.key(0), 0.5, jnp.ones(1000))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]

    References:
        Srivastava et al., "Dropout", 2014, https://jmlr.org/papers/v15/srivastava14a.html; scaled in training instead
        of at test time.
    """
    if not is_tracer(dropout_rate):
        dropout_rate = check_rate(dropout_rate, where="dropout")
        if dropout_rate == 0:
            return x
    if rng_key is None:
        raise ArgumentError(
            "Dropout at a rate above 0 needs a PRNG key.",
            where="dropout",
            got="rng_key=None",
            want="one key: key<fry>[] or uint32[2]",
            fix="dropout(jax.random.key(0), dropout_rate, x)",
        )
    key = key_or_next(rng_key, where="dropout")
    x = as_inexact(as_array(x, where="dropout"))
    dropped = jax.random.bernoulli(key, dropout_rate, x.shape)
    keep_rate = 1 - dropout_rate
    if isinstance(keep_rate, jax.Array):
        keep_rate = keep_rate.astype(x.dtype)
    return jnp.where(dropped, jnp.zeros((), x.dtype), x / keep_rate)


class Dropout(StateModule):
    """Drops a random part of its input in train mode; in eval mode it returns the input itself.

    Shapes:
        input: any.
        output: the same shape; see :func:`dropout` for the dtype.
    Parameters:
        none.
    State:
        rng_key: replaced in every call in train mode at a rate above 0.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> drop = pax.nn.Dropout(0.5)
    >>> drop, y = pax.purecall(drop, jnp.ones(8))
    >>> drop.eval()(y) is y
    True
    """

    dropout_rate: float
    rng_key: jax.Array

    def __init__(self, dropout_rate: float, *, name: str | None = None, rng_key: jax.Array | None = None) -> None:
        """Takes the first key.

        Args:
            dropout_rate: probability of *dropping* an element, in [0, 1).
            name: shown before the class in summaries.
            rng_key: the key to start from; default: the next key of the global generator, whatever the rate is.

        Raises:
            ArgumentError: the rate is outside of [0, 1).
            ArgumentTypeError: the rate is no number, or no key for ``rng_key``.
        """
        super().__init__(name=name)
        self.dropout_rate = check_rate(dropout_rate, where="Dropout")
        self.rng_key = key_or_next(rng_key, where="Dropout")

    def __call__(self, x: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
        """Applies dropout with a fresh key, in train mode.

        Args:
            x: any numeric array.

        Returns:
            An array of the same shape; ``x`` itself in eval mode or at rate 0.

        Raises:
            MutationError: in train mode at a rate above 0, outside of ``pax.purecall`` or ``pax.pure``.
        """
        if not self.training or self.dropout_rate == 0:
            return x
        self.rng_key, key = jax.random.split(self.rng_key)
        return dropout(key, self.dropout_rate, x)

    def __repr__(self) -> str:
        return self._repr({"dropout_rate": self.dropout_rate})


def check_rate(rate: Any, *, where: str) -> float:
    """Returns a rate as a ``float``: NumPy's float64 would take part in the promotion of dtypes.

    Raises:
        ArgumentTypeError: it is no number.
        ArgumentError: it is outside of [0, 1).
    """
    want = "0 <= dropout_rate < 1, the probability of dropping an element"
    number = real_number(rate, what="dropout_rate", where=where, want=want)
    if not 0 <= number < 1:
        raise ArgumentError(
            "Expecting a dropout rate in [0, 1).",
            where=where,
            got=f"dropout_rate={describe(rate)}",
            want=want,
        )
    return number
