"""The global key generator of each thread, and checks of user-given keys and seeds."""

import itertools
import operator
import random
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pax._errors import ArgumentError, ArgumentTypeError
from pax._paths import describe

_DEFAULT_SEED = 42
_thread_numbers = itertools.count(1)


class _Generator(threading.local):
    """The state of one thread; ``__init__`` runs on a thread's first use."""

    def __init__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.random = random.Random(_DEFAULT_SEED)
        else:
            # A string seeds by its SHA-512: sequences of different threads are unrelated, and the same in every run.
            self.random = random.Random(f"pax thread {next(_thread_numbers)}")


_generator = _Generator()
_typed_keys = False


def seed_rng_key(seed: int, *, typed_keys: bool | None = None) -> None:
    """Restarts this thread's sequence of global keys.

    The main thread starts as after ``seed_rng_key(42)``. Every other thread starts with a sequence of its own, numbered
    by the order in which threads first draw; call ``seed_rng_key`` in a thread to fix what it draws.

    Args:
        seed: any integer; equal seeds give equal sequences, on every platform.
        typed_keys: ``True`` makes :func:`next_rng_key` return typed keys (``jax.random.key``) from now on, in all
            threads; ``False`` goes back to ``uint32[2]`` keys; ``None`` leaves it as it is.

    Raises:
        ArgumentTypeError: ``seed`` is no integer.

    >>> import pax
    >>> pax.seed_rng_key(42)
    >>> pax.next_rng_key()
    Array([        0, 686579304], dtype=uint32)
    """
    global _typed_keys
    _generator.random = random.Random(check_seed(seed))
    if typed_keys is not None:
        _typed_keys = bool(typed_keys)


def next_rng_key() -> jax.Array:
    """Returns the next key of this thread's global sequence.

    The generator is Python state. Inside ``jax.jit`` it advances while the function is *traced*, not when it runs, so a
    key drawn there is a constant of the compiled function; inside ``jax.vmap`` all instances get the same key. Pass
    keys, or a :class:`pax.RngSeq`, as arguments into transformed functions that need fresh randomness.

    Returns:
        A ``uint32[2]`` key, or a typed key after ``seed_rng_key(..., typed_keys=True)``.
    """
    return _key_of(_generator.random.randint(1, 999_999_999))


def _key_of(number: int) -> jax.Array:
    """Returns ``jax.random.key(number)`` or ``jax.random.PRNGKey(number)``, without compiling for JAX's usual keys."""
    config: Any = jax.config  # some versions of JAX declare its options, others do not
    if config.jax_default_prng_impl != "threefry2x32" or config.jax_enable_custom_prng:
        return jax.random.key(number) if _typed_keys else jax.random.PRNGKey(number)
    # Such a key is the number itself: its upper 32 bits, which are 0 here, and the lower ones.
    data: jax.Array = jax.device_put(np.array([0, number], np.uint32))
    return jax.random.wrap_key_data(data, impl="threefry2x32") if _typed_keys else data


def check_seed(seed: Any) -> int:
    """Returns ``seed`` as an ``int``.

    Raises:
        ArgumentTypeError: it is a bool or no integer.
    """
    if not isinstance(seed, bool | np.bool_):
        try:
            return operator.index(seed)
        except TypeError:
            pass
    raise ArgumentTypeError(
        "A seed has to be an integer.",
        got=describe(seed),
        want="an int",
        fix="pax.RngSeq(rng_key=key)  # a key is no seed" if isinstance(seed, jax.Array) else "pax.seed_rng_key(42)",
    )


def check_key(key: Any) -> Any:
    """Returns ``key`` if it can be a single PRNG key, typed or legacy.

    Raises:
        ArgumentTypeError: it is no array.
        ArgumentError: it is an array of another dtype or shape.
    """
    if not isinstance(key, jax.Array | np.ndarray):
        raise ArgumentTypeError(
            "A PRNG key has to be an array.",
            got=describe(key),
            want="a key: key<fry>[] or uint32[2]",
            fix="jax.random.key(0), or pax.next_rng_key()",
        )
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not (key.ndim == 0 if typed else key.dtype == np.uint32 and key.ndim == 1):
        raise ArgumentError(
            "This array is no single PRNG key.",
            got=describe(key),
            want="a key: key<fry>[] or uint32[2]",
            fix="jax.random.key(0), or pax.next_rng_key()",
        )
    return key
