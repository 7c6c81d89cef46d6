"""The directive `benchmark-tables`: what `hatch run bench` wrote into `results.json`, as tables."""

import ast
import json
from pathlib import Path
from typing import Any

from benchmarks._settings import QUICK
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("benchmark-tables", _BenchmarkTables)
    return {"parallel_read_safe": True}


class _BenchmarkTables(SphinxDirective):
    """One argument: the path of `results.json`, relative to the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        figures = results["figures"]
        sections = [self._measured_with(results)]
        sections += [self._benchmark(name, figures) for name in dict.fromkeys(each["benchmark"] for each in figures)]
        return [*sections, self._targets(results["targets"])]

    def _measured_with(self, results: dict[str, Any]) -> nodes.section:
        rows = [[name, str(value)] for name, value in results["environment"].items()]
        rows.append(["rounds of each measurement", str(results["settings"]["rounds"])])
        content: list[nodes.Node] = [_table([["", ""], *rows], head=0)]
        if results["settings"]["rounds"] == QUICK.rounds:
            quick = "A quick run, with few rounds and small models: it shows the order of magnitude, and no more."
            content.insert(0, nodes.note("", nodes.paragraph(text=quick)))
        return self._section("Measured with", content)

    def _benchmark(self, name: str, figures: list[dict[str, Any]]) -> nodes.section:
        question, *rest = _docstring(name).split("\n\n")
        mine = [each for each in figures if each["benchmark"] == name]
        libraries = list(dict.fromkeys(each["library"] for each in mine))
        rows = [["", *libraries]]
        for measure, size in dict.fromkeys((each["measure"], each["size"]) for each in mine):
            found = {each["library"]: each for each in mine if (each["measure"], each["size"]) == (measure, size)}
            rows.append([f"{measure}, {size}", *(_cell(found.get(library)) for library in libraries)])
        paragraphs: list[nodes.Node] = []
        for text in [question, *rest]:
            parsed = self.parse_text_to_nodes(" ".join(text.replace("``", "`").split()))
            paragraphs += parsed
        return self._section(name.replace("_", " ").capitalize(), [*paragraphs, _table(rows)])

    def _targets(self, targets: list[dict[str, Any]]) -> nodes.section:
        rows = [["benchmark", "measure", "size", "by", "target", "reached", "met"]]
        for each in targets:
            ratio = each["kind"] == "ratio"
            limit, reached = (f"{each[key]:.2f}×" if ratio else _in_words(each[key]) for key in ("limit", "reached"))
            names = [each[key] for key in ("benchmark", "measure", "size", "library")]
            rows.append([*names, f"≤ {limit}", reached, "yes" if each["met"] else "no"])
        return self._section("Targets", [_table(rows)])

    def _section(self, title: str, content: list[nodes.Node]) -> nodes.section:
        section = nodes.section(
            "", nodes.title(text=title), *content, ids=[nodes.make_id(title)], names=[title.lower()]
        )
        self.state.document.note_implicit_target(section, section)
        return section


def _docstring(benchmark: str) -> str:
    source = (_BENCHMARKS / f"{benchmark}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or benchmark


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value, ratio = figure["value"], figure["ratio"]
    text = f"{value['median']:g}" if figure["unit"] == "count" else _in_words(value["median"])
    if value["samples"] > 1 and value["median"]:
        text += f" ±{50 * (value['high'] - value['low']) / value['median']:.0f}%"
    return text if ratio is None else f"{text} ({ratio['median']:.2f}×)"


def _in_words(seconds: float) -> str:
    factor, name = next(((factor, name) for factor, name in _UNITS if abs(seconds) >= factor), _UNITS[-1])
    return f"{seconds / factor:.3g} {name}"


def _table(rows: list[list[str]], head: int = 1) -> nodes.table:
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    lines = [
        nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in line)) for line in rows if any(line)
    ]
    if head:
        group += nodes.thead("", *lines[:head])
    group += nodes.tbody("", *lines[head:])
    return nodes.table("", group, classes=["colwidths-auto", "benchmark"])
