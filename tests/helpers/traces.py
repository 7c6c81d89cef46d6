"""Counting how often JAX traces a function."""

import functools
from collections.abc import Callable
from typing import Any

import jax


class TraceCounter:
    """A jitted function that knows how often it was traced.

    Args:
        func: what to compile.
        **options: for ``jax.jit``.
    """

    def __init__(self, func: Callable[..., Any], **options: Any) -> None:
        self.traces = 0

        @functools.wraps(func)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.traces += 1
            return func(*args, **kwargs)

        self._jitted = jax.jit(counted, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(*args, **kwargs)
