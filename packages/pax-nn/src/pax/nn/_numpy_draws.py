"""Drawing first values with NumPy instead of JAX."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pax.extend import is_tracer


@runtime_checkable
class NumpyInitializer(Protocol):
    """An initializer that can draw with NumPy, too: with this method, your own takes part in :func:`use_numpy`."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws with JAX."""

    def draw_with_numpy(
        self, generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> np.ndarray:
        """Returns a new array of this shape and dtype.

        Args:
            generator: draws from nothing else.
            shape: of the array.
            dtype: floating.
        """


class _Mode(threading.local):
    numpy = False


_mode = _Mode()


@contextlib.contextmanager
def use_numpy() -> Iterator[None]:
    """Lets the layers that are made inside of a ``with`` block draw their weights with NumPy, on the CPU.

    JAX compiles a program for every shape of array that it draws; for a large model that takes seconds. NumPy compiles
    nothing. The distributions are the same, the values are others: NumPy has another generator. It is seeded with the
    key that the layer draws from, so the values depend on ``rng_key`` and :func:`pax.seed_rng_key` as they do outside,
    and are the same on every device; NumPy may change its streams between versions.

    This is for the initializers of :mod:`pax.nn.initializers`, which all layers have as default, for
    ``jax.nn.initializers.zeros`` and ``ones``, and for every :class:`NumpyInitializer`. Other initializers run as they
    do outside, with other keys. Where keys are traced, under ``jax.eval_shape`` or ``jax.jit``, JAX draws.

    It applies to the thread that enters it, may be nested, and ends with the ``with`` block.

    >>> import pax
    >>> pax.seed_rng_key(42)
    >>> with pax.nn.initializers.use_numpy():
    ...     fc = pax.nn.Linear(1000, 1000)
    >>> round(float(fc.weight.std()), 3)
    0.032
    """
    before = _mode.numpy
    _mode.numpy = True
    try:
        yield
    finally:
        _mode.numpy = before


def draws_with_numpy(key: jax.Array) -> bool:
    """Returns whether :func:`use_numpy` is on, and ``key`` has a value that NumPy can see."""
    return _mode.numpy and not is_tracer(key)


def generator_from(key: jax.Array) -> np.random.Generator:
    """Returns a generator that is seeded with a key."""
    return np.random.Generator(np.random.SFC64(_words(key).tolist()))


def split_with_numpy(key: jax.Array, number: int) -> list[jax.Array]:
    """Returns keys of the same kind as ``key``, other ones than ``jax.random.split`` does; compiles nothing."""
    words = _words(key)
    # The last word keeps these numbers apart from those that seed the generator of the same key.
    state = np.random.SeedSequence([*words.tolist(), number]).generate_state(number * words.size)
    rows = [jax.device_put(row) for row in state.reshape(number, words.size)]
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return rows
    impl = jax.random.key_impl(key)
    return [jax.random.wrap_key_data(row, impl=impl) for row in rows]


def _words(key: jax.Array) -> np.ndarray:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)
