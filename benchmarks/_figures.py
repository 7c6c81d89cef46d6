"""What a benchmark returns, and the targets it is held against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks._harness import Spread, Timing, ratios


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        benchmark: the question it answers, for example "trees".
        measure: what was done, for example "flatten".
        size: on what, for example "884 modules".
        library: by whom.
        value: seconds of CPU time a call, or a count.
        ratio: ``value`` relative to the reference of the benchmark, if there is one.
        wall: seconds that passed a call, for a benchmark that takes time.
        unit: of ``value`` and ``wall``.
    """

    benchmark: str
    measure: str
    size: str
    library: str
    value: Spread
    ratio: Spread | None = None
    wall: Spread | None = None
    unit: Literal["s", "count"] = "s"


@dataclass(frozen=True)
class Target:
    """An upper limit for the figures of PAX; ``kind`` says of which of a figure's fields."""

    measure: str
    kind: Literal["ratio", "value"]
    limit: float
    sizes: frozenset[str] | None = None  # None: all


@dataclass(frozen=True)
class Verdict:
    """A target and the figure that was held against it."""

    target: Target
    figure: Figure
    reached: float

    @property
    def met(self) -> bool:
        return self.reached <= self.target.limit


def timed_figures(
    benchmark: str, measure: str, size: str, timings: Mapping[str, Timing], reference: str | None
) -> list[Figure]:
    """Returns a figure for each library; ``reference`` is the one that the others are divided by."""
    base = None if reference is None else timings[reference]
    return [
        Figure(
            benchmark,
            measure,
            size,
            library,
            value=Spread.of(timing.cpu),
            ratio=None if base is None else Spread.of(ratios(timing.cpu, base.cpu)),
            wall=Spread.of(timing.wall),
        )
        for library, timing in timings.items()
    ]


def judge(targets: Iterable[Target], figures: Iterable[Figure]) -> list[Verdict]:
    """Holds every figure of PAX, in all its variants, against the targets of its measure."""
    verdicts = []
    known = [figure for figure in figures if figure.library.startswith("PAX")]
    for target in targets:
        for figure in known:
            if figure.measure != target.measure or not (target.sizes is None or figure.size in target.sizes):
                continue
            spread = figure.ratio if target.kind == "ratio" else figure.value
            if spread is not None:
                verdicts.append(Verdict(target, figure, spread.median))
    return verdicts
