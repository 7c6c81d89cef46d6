"""What a benchmark returns, and the targets it is held against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from benchmarks._harness import Spread, Timing, ratios


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        benchmark: the question it answers, for example "trees".
        measure: what was done, for example "flatten".
        size: on what, for example "884 modules".
        library: by whom.
        value: seconds of CPU time a call (on the wall, where XLA's threads do the work), or a count.
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

    @classmethod
    def count(cls, benchmark: str, measure: str, size: str, library: str, value: float) -> Self:
        """Returns a figure that was counted, not timed."""
        return cls(benchmark, measure, size, library, Spread.of([value]), unit="count")


@dataclass(frozen=True)
class Target:
    """An upper limit for the figures of PAX; ``kind`` says of which of a figure's fields.

    ``sizes`` and ``libraries`` restrict it; ``None``: it holds for all sizes, and for PAX in all its variants.
    """

    measure: str
    kind: Literal["ratio", "value"]
    limit: float
    sizes: frozenset[str] | None = None
    libraries: frozenset[str] | None = None


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
    benchmark: str,
    measure: str,
    size: str,
    timings: Mapping[str, Timing],
    reference: str | None,
    *,
    clock: Literal["cpu", "wall"] = "cpu",
) -> list[Figure]:
    """Returns a figure for each library.

    Args:
        benchmark: see :class:`Figure`; so for ``measure`` and ``size``.
        measure: see :class:`Figure`.
        size: see :class:`Figure`.
        timings: by library.
        reference: the one that the others are divided by.
        clock: what counts. CPU time is that of the calling thread: of no use where XLA computes on its own threads.
    """
    counted = {library: timing.cpu if clock == "cpu" else timing.wall for library, timing in timings.items()}
    base = None if reference is None else counted[reference]
    return [
        Figure(
            benchmark,
            measure,
            size,
            library,
            value=Spread.of(counted[library]),
            ratio=None if base is None else Spread.of(ratios(counted[library], base)),
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
            if not (target.libraries is None or figure.library in target.libraries):
                continue
            spread = figure.ratio if target.kind == "ratio" else figure.value
            if spread is not None:
                verdicts.append(Verdict(target, figure, spread.median))
    return verdicts
