"""Timing in turns, and the arithmetic of medians.

What counts is the CPU time of the calling thread: on a quiet machine it is the time that passes, and on a busy one it
does not hold the other programs against whoever is being measured. The time that passes is recorded, too.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one entry a round: of CPU time of the calling thread, and by the clock on the wall."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of several samples."""

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], 1)
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high, len(samples))


def ratios(samples: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Returns the ratio of each round: what slows down a whole round cancels out."""
    return [a / b for a, b in zip(samples, reference, strict=True)]


def time_in_turns(
    cases: Mapping[str, Callable[[], object]], *, rounds: int, seconds_a_sample: float
) -> dict[str, Timing]:
    """Measures all cases in every round, each round beginning with another case.

    Args:
        cases: what to call, by label.
        rounds: number of samples for each case, at least 1.
        seconds_a_sample: about how long one sample takes; a case is called as often as that needs, and once more.
    """
    labels = list(cases)
    calls = {label: _calls_for(case, seconds_a_sample) for label, case in cases.items()}
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    with without_collector():
        for number in range(rounds):
            start = number % len(labels)
            for label in labels[start:] + labels[:start]:
                samples[label].append(_sample(cases[label], calls[label]))
            gc.collect()
    return {label: Timing(*zip(*samples[label], strict=True)) for label in labels}


@contextmanager
def without_collector() -> Iterator[None]:
    """Keeps the garbage collector from running at a moment of its choice.

    What is alive at the start is frozen, so that the explicit collections between rounds are short.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _sample(case: Callable[[], object], calls: int) -> tuple[float, float]:
    """Returns CPU time and time passed, a call.

    A call before that is not counted: it brings the case back into the processor's caches.
    """
    repetitions = range(calls)
    case()
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in repetitions:
        case()
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return cpu / calls, wall / calls


def _calls_for(case: Callable[[], object], seconds: float) -> int:
    """Warms a case up and returns how many calls take about ``seconds`` when nothing disturbs them."""
    case()  # compiles, fills caches
    calls = 1
    while True:
        fastest = min(_sample(case, calls)[1] for _ in range(3)) * calls
        if fastest >= seconds / 8 or calls > 1_000_000:
            return max(1, round(calls * seconds / fastest))
        calls *= 4
