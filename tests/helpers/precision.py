"""JAX's 64-bit mode, for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax


@contextmanager
def x64(enabled: bool = True) -> Iterator[None]:
    """Sets the mode for the process: the context manager for it has not the same name in all versions of JAX."""
    config: Any = jax.config  # some versions of JAX declare its options, others do not
    before = config.jax_enable_x64
    jax.config.update("jax_enable_x64", enabled)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
