"""Counting what XLA compiles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

_durations: list[float] = []


def _listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _durations.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextmanager
def count_compilations() -> Iterator[Callable[[], int]]:
    """Gives a function that returns how many programs were compiled since the start of the block."""
    start = len(_durations)
    yield lambda: len(_durations) - start
