"""A picture of the ratios."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from benchmarks._figures import Figure, Verdict

_COLORS = colormaps["tab20"]


def plot_ratios(path: Path, figures: Sequence[Figure], verdicts: Sequence[Verdict]) -> bool:
    """Draws all figures that have a ratio, one row each, and the targets as ticks; returns whether there was one."""
    found = [figure for figure in figures if figure.ratio is not None]
    rows = list(dict.fromkeys((figure.measure, figure.size) for figure in found))
    if not rows:
        return False
    canvas = Canvas(figsize=(9, 1.5 + 0.45 * len(rows)), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    for index, library in enumerate(dict.fromkeys(figure.library for figure in found)):
        of_library = [figure for figure in found if figure.library == library]
        axes.scatter(
            [figure.ratio.median for figure in of_library if figure.ratio is not None],
            [rows.index((figure.measure, figure.size)) for figure in of_library],
            label=library,
            color=_COLORS(index % _COLORS.N),
            marker="D" if library.startswith("PAX") else "o",
            zorder=3,
        )
    limits = {
        (rows.index((verdict.figure.measure, verdict.figure.size)), verdict.target.limit)
        for verdict in verdicts
        if verdict.target.kind == "ratio"
    }
    axes.scatter(
        [limit for _, limit in limits],
        [row for row, _ in limits],
        marker="|",
        s=300,
        color="black",
        label="target of PAX",
        zorder=2,
    )
    axes.set_yticks(range(len(rows)), [f"{measure}, {size}" for measure, size in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"time relative to {found[0].library} (smaller is faster)")
    axes.grid(axis="x", which="both", alpha=0.3)
    canvas.legend(loc="outside right upper")
    canvas.savefig(path, dpi=150)
    return True
