"""``RngSeq``: a sequence of keys as a module."""

from typing import Any

import jax

from pax._errors import ArgumentError
from pax._module import StateModule
from pax._paths import describe
from pax._random import check_key, check_seed, next_rng_key


class RngSeq(StateModule):
    """A module that holds a key and gives out new ones.

    The key is a state, not a parameter; it changes when keys are drawn, in training and evaluation mode alike.

    Args:
        seed: an integer to start from.
        rng_key: a key to start from, ``uint32[2]`` or typed; has priority over ``seed``. With neither, a global key is
            drawn.

    Raises:
        ArgumentTypeError: ``seed`` is no integer, or ``rng_key`` no array.
        ArgumentError: ``rng_key`` is an array that is no key.

    >>> import pax
    >>> rng_seq, keys = pax.module_and_value(pax.RngSeq(seed=42).next_rng_key)(2)
    >>> len(keys)
    2
    """

    _rng_key: jax.Array

    def __init__(self, seed: int | None = None, rng_key: jax.Array | None = None) -> None:
        super().__init__()
        if rng_key is not None:
            self._rng_key = check_key(rng_key)
        elif seed is not None:
            self._rng_key = jax.random.PRNGKey(check_seed(seed))
        else:
            self._rng_key = next_rng_key()

    def next_rng_key(self, num_keys: int = 1) -> Any:
        """Returns new keys; the sequence moves on, so this needs :func:`pax.module_and_value` or a pure function.

        Args:
            num_keys: how many, at least 0. Drawing several at once gives other keys than drawing them one by one.

        Returns:
            The key itself if ``num_keys`` is 1, else a list of keys.

        Raises:
            ArgumentError: ``num_keys`` is negative or no integer.
        """
        if type(num_keys) is not int or num_keys < 0:
            raise ArgumentError(
                "The number of keys has to be an integer of at least 0.",
                got=describe(num_keys),
                fix="rng_seq.next_rng_key(2)",
                module=self,
            )
        self._rng_key, *keys = jax.random.split(self._rng_key, num_keys + 1)
        return keys[0] if num_keys == 1 else keys
