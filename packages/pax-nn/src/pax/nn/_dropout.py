"""Dropout, as a function and as a layer."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from pax import StateModule
from pax.errors import ArgumentError
from pax.extend import describe, is_tracer
from pax.nn._dtypes import as_array, as_inexact
from pax.nn._initialize import key_or_next


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
        ArgumentError: the rate is outside of [0, 1).

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
    traced = is_tracer(dropout_rate)
    if not traced:
        check_rate(dropout_rate, where="dropout")
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
    x = as_inexact(as_array(x))
    dropped = jax.random.bernoulli(rng_key, dropout_rate, x.shape)
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
            ArgumentTypeError: no key for ``rng_key``.
        """
        super().__init__(name=name)
        check_rate(dropout_rate, where="Dropout")
        self.dropout_rate = dropout_rate
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


def check_rate(rate: float | Array, *, where: str) -> None:
    if np.ndim(rate) != 0 or not 0 <= rate < 1:
        raise ArgumentError(
            "Expecting a dropout rate in [0, 1).",
            where=where,
            got=f"dropout_rate={describe(rate)}",
            want="0 <= dropout_rate < 1, the probability of dropping an element",
        )
