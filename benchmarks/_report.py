"""Tables for people, JSON for programs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks._figures import Figure, Verdict
from benchmarks._harness import Spread
from benchmarks._settings import Settings

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def in_words(value: float, unit: str = "s") -> str:
    """Returns a duration with three digits and a fitting unit, or a count."""
    if unit == "count":
        return f"{value:g}"
    factor, name = next(((factor, name) for factor, name in _UNITS if abs(value) >= factor), _UNITS[-1])
    return f"{value / factor:.3g} {name}"


def print_figures(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """Prints the figures of one benchmark: a column for each measure and size, a row for each library."""
    columns = list(dict.fromkeys((figure.measure, figure.size) for figure in figures))
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for measure, size in columns:
        table.add_column(f"{measure}\n{size}", justify="right")
    for library in dict.fromkeys(figure.library for figure in figures):
        found = {(figure.measure, figure.size): figure for figure in figures if figure.library == library}
        table.add_row(library, *(_cell(found[column]) if column in found else "–" for column in columns))
    console.print(table)


def _cell(figure: Figure) -> str:
    parts = [in_words(figure.value.median, figure.unit) + _percent(figure.value)]
    if figure.ratio is not None:
        parts.append(f"[bold]{figure.ratio.median:.2f}×[/bold]")
    return "  ".join(parts)


def _percent(spread: Spread) -> str:
    """Returns half the distance of the quartiles, relative to the median."""
    if spread.samples == 1 or spread.median == 0:
        return ""
    return f" ±{50 * (spread.high - spread.low) / spread.median:.0f}%"


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Prints every target, the value reached, and whether it is met."""
    table = Table(title="Targets", title_justify="left", title_style="bold")
    for name in ("benchmark", "measure", "of", "by"):
        table.add_column(name)
    for name in ("target", "reached", "met"):
        table.add_column(name, justify="right")
    for verdict in verdicts:
        figure = verdict.figure
        met = "[green]yes[/green]" if verdict.met else "[red]no[/red]"
        limit, reached = (_limit_in_words(verdict, value) for value in (verdict.target.limit, verdict.reached))
        table.add_row(figure.benchmark, figure.measure, figure.size, figure.library, f"≤ {limit}", reached, met)
    console.print(table)


def _limit_in_words(verdict: Verdict, value: float) -> str:
    return f"{value:.2f}×" if verdict.target.kind == "ratio" else in_words(value, verdict.figure.unit)


def write_json(
    path: Path,
    environment: dict[str, str],
    settings: Settings,
    figures: Sequence[Figure],
    verdicts: Sequence[Verdict],
) -> None:
    """Writes everything; times are in seconds."""
    content = {
        "environment": environment,
        "settings": dataclasses.asdict(settings),
        "figures": [dataclasses.asdict(figure) for figure in figures],
        "targets": [
            {
                "benchmark": verdict.figure.benchmark,
                "measure": verdict.figure.measure,
                "size": verdict.figure.size,
                "library": verdict.figure.library,
                "kind": verdict.target.kind,
                "limit": verdict.target.limit,
                "reached": verdict.reached,
                "met": verdict.met,
            }
            for verdict in verdicts
        ],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
