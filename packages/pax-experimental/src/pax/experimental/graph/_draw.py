"""Graph modules as text and pictures: DOT, Mermaid and SVG."""

import functools
import importlib
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pax.experimental.graph._evaluate import identity
from pax.experimental.graph._program import Step, name_outputs
from pax.extend import describe
from pax.nn import Lambda

_WIDTH = 36
_LONGEST = 60
_BREAKS = {ord(sign): repr(sign)[1:-1] for sign in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
_ALL_BREAKS = _BREAKS | {ord("\n"): "\\n"}
_CALL = re.compile(r"((?:\(.*?\) )?[^\s(]+)\((.*)\)", re.DOTALL)  # `Linear(in_dim=3)`, `(name) Linear(in_dim=3)`


@dataclass(frozen=True)
class Vertex:
    """One box: its key, its text, its kind (the keys of `_DOT_STYLES`), and a longer text."""

    key: str
    text: str
    kind: str
    details: str


@dataclass(frozen=True)
class Edge:
    """One arrow: the keys of two boxes, which argument it is if there are several, and what flows along it."""

    source: str
    target: str
    position: str
    text: str


@dataclass(frozen=True)
class Drawing:
    """All boxes and arrows of a graph."""

    vertices: list[Vertex]
    edges: list[Edge]


def draw(net: Any, values: Sequence[Any] | None) -> Drawing:
    """Returns the boxes and arrows of a graph module.

    The steps that only collect the arguments of another step are left out.

    Args:
        net: the graph module.
        values: all its values, for what is written at the arrows.
    """
    names, first = _names(net), _first_result(net)
    arguments = len(net.argument_names)
    flows = [""] * (first + len(net.steps)) if values is None else [_kind(value) for value in values]
    flows[arguments:first] = [""] * (first - arguments)  # constants say what they are themselves
    packs = _packs(net, first)
    used = {number for _, numbers, _ in net.steps for number in numbers} | {n for _, n in name_outputs(net.output_node)}
    vertices = [
        Vertex(f"v{number}", names[number], "input" if number < arguments else "constant", names[number])
        for number in range(first)
        if number in used or number < arguments
    ]
    edges = []
    for index, (_, numbers, _) in enumerate(net.steps):
        if first + index in packs:
            continue
        module = net.modules[index]
        vertices.append(Vertex(f"v{first + index}", _label(module), _sort(module), module.summary()))
        sources = [source for number in numbers for source in packs.get(number, (number,))]
        for position, source in enumerate(sources, 1):
            shown = str(position) if len(sources) > 1 else ""
            edges.append(Edge(f"v{source}", f"v{first + index}", shown, flows[source]))
    for index, (path, number) in enumerate(name_outputs(net.output_node)):
        vertices.append(Vertex(f"out{index}", f"output{path}", "output", f"output{path}"))
        edges.append(Edge(f"v{number}", f"out{index}", "", flows[number]))
    return Drawing(vertices, edges)


def write_text(net: Any, values: Sequence[Any] | None) -> str:
    """Returns the steps of a graph module, a line each; with what the values are, if they are given."""
    names, first = [name.translate(_ALL_BREAKS) for name in _names(net)], _first_result(net)
    calls, notes = [], []
    for index, (passing, numbers, _) in enumerate(net.steps):
        taken = ", ".join(names[number] for number in numbers)
        taken = {"arguments": taken, "unpack": f"*{taken}", "tuple": f"({taken}{',' * (len(numbers) == 1)})"}[passing]
        calls.append(f"  {names[first + index]} = modules[{index}]({taken})")
        kind = "" if values is None else f" -> {_kind(values[first + index])}"
        notes.append(f"# {_shortened(' '.join(_label(net.modules[index]).split()))}{kind}")
    width = max(map(len, calls), default=0)
    kinds = [""] * first if values is None else [f": {_kind(value)}" for value in values]
    head = ", ".join(f"{name}{kinds[index]}" for index, name in enumerate(names[: len(net.argument_names)]))
    lines = [f"{call:<{width}}  {note}" for call, note in zip(calls, notes, strict=True)]
    return "\n".join([f"graph({head}):", *lines, f"  return {_output_text(net.output_node, names)}"])


_DOT_STYLES = {
    "input": 'shape=ellipse, style=filled, fillcolor="#e8f0e4"',
    "output": 'shape=ellipse, style=filled, fillcolor="#e8f0e4"',
    "constant": "shape=box, style=dashed",
    "module": 'shape=box, style="rounded,filled", fillcolor="#dbe7f6"',
    "function": 'shape=box, style="rounded,filled", fillcolor="#f6f6f6"',
}


def write_dot(drawing: Drawing) -> str:
    """Returns a drawing in the DOT language."""
    lines = [
        "digraph {",
        '  node [fontname="Helvetica", fontsize=11, margin="0.2,0.08"]',
        '  edge [fontname="Helvetica", fontsize=9]',
    ]
    for vertex in drawing.vertices:
        call = _CALL.fullmatch(vertex.text) if vertex.kind == "module" else None
        text = "\n".join(line for part in (call.groups() if call else [vertex.text]) for line in _wrapped(part))
        style = f"{_DOT_STYLES[vertex.kind]}, tooltip={_dot_quoted(vertex.details)}"
        lines.append(f"  {vertex.key} [label={_dot_quoted(text)}, {style}]")
    for edge in drawing.edges:
        texts = [f"label={_dot_quoted('  ' + edge.text)}"] if edge.text else []
        texts += [f'headlabel="{edge.position}", labeldistance=1.6'] if edge.position else []
        options = f" [{', '.join(texts)}]" if texts else ""
        lines.append(f"  {edge.source} -> {edge.target}{options}")
    return "\n".join([*lines, "}"])


_MERMAID_SHAPES = {
    "input": ("([", "])"),
    "output": ("([", "])"),
    "constant": ("[/", "/]"),
    "module": ("[", "]"),
    "function": ("(", ")"),
}


def write_mermaid(drawing: Drawing) -> str:
    """Returns a drawing as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for vertex in drawing.vertices:
        left, right = _MERMAID_SHAPES[vertex.kind]
        lines.append(f"    {vertex.key}{left}{_mermaid_quoted(vertex.text)}{right}")
    for edge in drawing.edges:
        text = " ".join(filter(None, [edge.position and f"({edge.position})", edge.text]))
        label = f"|{_mermaid_quoted(text)}|" if text else ""
        lines.append(f"    {edge.source} -->{label} {edge.target}")
    return "\n".join(lines)


def render_svg(dot: str) -> str:
    """Returns the SVG that Graphviz makes of a DOT text.

    Raises:
        ModuleNotFoundError: the package ``graphviz`` is absent.
        FileNotFoundError: the program ``dot`` is absent.
    """
    try:
        graphviz = importlib.import_module("graphviz")
    except ModuleNotFoundError:
        message = "SVG pictures need the package graphviz, which is not installed: pip install graphviz"
        raise ModuleNotFoundError(message, name="graphviz") from None
    try:
        svg: str = graphviz.Source(dot).pipe(format="svg", encoding="utf-8")
    except graphviz.ExecutableNotFound:
        raise FileNotFoundError(
            "SVG pictures need the program `dot` of Graphviz, which is not on the path: "
            "apt install graphviz, brew install graphviz, or https://graphviz.org/download"
        ) from None
    return svg


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH) or [text]


def _dot_quoted(text: str) -> str:
    escaped = text.translate(_BREAKS).replace("&", "&amp;")  # Graphviz reads entities, though no other HTML
    escaped = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid_quoted(text: str) -> str:
    text = text.translate(_BREAKS)
    for old, new in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(old, new)
    return '"' + text.replace("\n", "<br/>") + '"'


def _first_result(net: Any) -> int:
    """Returns the number of the value of the first step."""
    return len(net.argument_names) + len(net.constants) + len(net.literals)


def _names(net: Any) -> list[str]:
    """Returns a short name for each value."""
    names = [*net.argument_names, *map(_kind, net.constants), *map(_kind, net.literals)]
    return names + [f"%{index}" for index in range(len(net.steps))]


def _kind(value: Any) -> str:
    """Describes a value; several ones, in tuples and lists, one by one."""
    if type(value) in (tuple, list):
        left, right = "()" if type(value) is tuple else "[]"
        return f"{left}{', '.join(map(_kind, value))}{right}"
    return describe(value)


def _output_text(output: Any, names: list[str]) -> str:
    if isinstance(output, int):
        return names[output]
    items = [_output_text(item, names) for item in output[-1]]
    if output[0] == "dict":
        return "{" + ", ".join(f"{key!r}: {item}" for key, item in zip(output[1], items, strict=True)) + "}"
    if output[0] == "list":
        return f"[{', '.join(items)}]"
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def _label(module: Any) -> str:
    """Returns the name of a function, and the head line of any other module."""
    if isinstance(module, Lambda):
        return module.name or _function_name(module.func)
    return repr(module)


def _function_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else describe(function)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _sort(module: Any) -> str:
    return "function" if isinstance(module, Lambda) else "module"


def _packs(net: Any, first: int) -> dict[int, tuple[int, ...]]:
    """Returns the steps that only collect arguments, as (number of the value: numbers that it holds)."""
    steps: Sequence[Step] = net.steps
    packs = {
        first + index: numbers
        for index, (passing, numbers, _) in enumerate(steps)
        if passing == "tuple" and isinstance(net.modules[index], Lambda) and net.modules[index].func is identity
    }
    shown = {number for _, number in name_outputs(net.output_node)}
    shown |= {number for passing, numbers, _ in steps for number in numbers if passing != "unpack"}
    return {number: held for number, held in packs.items() if number not in shown}
