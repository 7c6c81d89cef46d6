"""Graph modules as text, DOT, Mermaid and SVG."""

import functools
import re
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.experimental.graph import GraphModule, InputNode, build_graph_module

X = jnp.zeros((3, 8))


def residual(x: Any) -> Any:
    """The documented example."""
    y = x >> pax.nn.Linear(8, 8) >> jax.nn.relu
    return (y | x) >> jax.lax.add


def awkward(x: Any, y: Any) -> Any:
    """All kinds of steps, constants and outputs, with names that need escapes."""
    a = (x & y) >> pax.nn.Lambda(lambda pair: pair[0], name='say "hi" \\ <b>&amp;`#1`\nnew line')
    return {'k"ey': a * 2.5 - jnp.ones((1, 8)), "pair": (x | a, [a])}


NET = build_graph_module(residual)(X)
AWKWARD = build_graph_module(awkward)(X, X)


def _edges_of_dot(dot: str) -> list[tuple[str, str]]:
    labels = dict(re.findall(r'^  (\w+) \[label="((?:[^"\\]|\\.)*)"', dot, re.MULTILINE))
    return [(labels[a], labels[b]) for a, b in re.findall(r"^  (\w+) -> (\w+)", dot, re.MULTILINE)]


def test_text() -> None:
    assert NET.to_text().splitlines() == [
        "graph(x):",
        "  %0 = modules[0](x)        # Linear(in_dim=8, out_dim=8, with_bias=True)",
        "  %1 = modules[1](%0)       # relu",
        "  %2 = modules[2]((%1, x))  # identity",
        "  %3 = modules[3](*%2)      # add",
        "  return %3",
    ]


def test_text_with_shapes() -> None:
    lines = NET.to_text(np.zeros((5, 8), np.float32)).splitlines()
    assert lines[0] == "graph(x: float32[5,8]):"
    assert lines[3].endswith("# identity -> (float32[5,8], float32[5,8])")
    assert lines[4].endswith("# add -> float32[5,8]")


def test_text_of_containers_and_constants() -> None:
    text = AWKWARD.to_text()
    assert text.splitlines()[0] == "graph(x, y):"
    assert text.splitlines()[1].endswith('# say "hi" \\ <b>&amp;`#1` new line')
    assert "modules[1](%0, 2.5)" in text
    assert "modules[2](%1, float32[1,8])" in text
    assert text.splitlines()[-1] == "  return {'k\"ey': %2, 'pair': (%3, [%0])}"


def test_a_graph_without_steps() -> None:
    x = InputNode(1)
    net = GraphModule([x], (x,))
    assert net.to_text() == "graph(x):\n  return (x,)"
    assert _edges_of_dot(net.to_dot()) == [("x", "output[0]")]


def test_dot_shows_what_flows_where() -> None:
    dot = NET.to_dot()
    linear = "Linear\\nin_dim=8, out_dim=8, with_bias=True"
    assert dot.startswith("digraph {")
    assert _edges_of_dot(dot) == [("x", linear), (linear, "relu"), ("relu", "add"), ("x", "add"), ("add", "output")]
    assert dot.count('headlabel="1"') == dot.count('headlabel="2"') == 1
    assert "float32" not in dot


def test_dot_with_shapes() -> None:
    for x in (jnp.zeros((5, 8)), jax.ShapeDtypeStruct((5, 8), jnp.float32)):
        assert NET.to_dot(x).count("float32[5,8]") == 5
        assert NET.to_dot(x=x) == NET.to_dot(x)


def test_shapes_of_a_stateful_graph_leave_it_as_it_is() -> None:
    net = build_graph_module(lambda x: x >> pax.nn.BatchNorm2D(8) >> pax.nn.Dropout(0.5))(jnp.zeros((1, 1, 3, 8)))
    before = jax.tree.map(np.asarray, net)
    assert net.to_dot(jnp.zeros((1, 1, 4, 8))).count("float32[1,1,4,8]") == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, before, net))


def test_shapes_with_values_of_other_kinds() -> None:
    net = build_graph_module(lambda x, how: (x | how) >> (lambda x, how: (getattr(jnp, how)(x), how)))(X, "sum")
    assert net.to_text(X, "mean").splitlines()[-2].endswith("-> (float32[], 'mean')")


def test_steps_that_collect_arguments_are_drawn_if_they_are_an_output() -> None:
    net = build_graph_module(lambda x: x | -x)(1)
    assert _edges_of_dot(net.to_dot()) == [("x", "neg"), ("x", "identity"), ("neg", "identity"), ("identity", "output")]
    both = build_graph_module(lambda x: (a := x | -x, a >> jax.lax.add))(1)
    assert ("identity", "add") in _edges_of_dot(both.to_dot())


def test_names_are_escaped_in_dot() -> None:
    dot = AWKWARD.to_dot(X, X)
    labels = re.findall(r'label="((?:[^"\\]|\\.)*)"[,\]]', dot)
    assert any('say \\"hi\\" \\\\ <b>&amp;amp;`#1`' in label for label in labels)
    assert "output['k\\\"ey']" in labels
    # Nothing but quoted texts, braces and options: without those texts no quotes are left.
    assert '"' not in re.sub(r'"(?:[^"\\]|\\.)*"', "", dot)
    assert all(line.startswith("  ") for line in dot.splitlines()[1:-1])


def test_mermaid() -> None:
    assert NET.to_mermaid().splitlines() == [
        "flowchart TD",
        '    v0(["x"])',
        '    v1["Linear(in_dim=8, out_dim=8, with_bias=True)"]',
        '    v2("relu")',
        '    v4("add")',
        '    out0(["output"])',
        "    v0 --> v1",
        "    v1 --> v2",
        '    v2 -->|"(1)"| v4',
        '    v0 -->|"(2)"| v4',
        "    v4 --> out0",
    ]
    assert '-->|"(1) float32[3,8]"|' in NET.to_mermaid(X)


def test_names_are_escaped_in_mermaid() -> None:
    text = AWKWARD.to_mermaid()
    assert "say #quot;hi#quot; \\ #lt;b#gt;#amp;amp;#96;#35;1#96;<br/>new line" in text
    assert all(line.count('"') in (0, 2) for line in text.splitlines())


def test_an_unused_input_is_drawn_and_an_unused_constant_is_not() -> None:
    net = build_graph_module(lambda x, y: x + 1)(1, 2)
    assert '"y"' in net.to_dot()
    assert _edges_of_dot(net.to_dot()) == [("x", "add"), ("1", "add"), ("add", "output")]


class _ExecutableNotFoundError(RuntimeError):
    """As in the package graphviz."""


def _graphviz(pipe: Any) -> Any:
    module: Any = types.ModuleType("graphviz")
    module.ExecutableNotFound = _ExecutableNotFoundError
    module.Source = lambda dot: types.SimpleNamespace(pipe=lambda **options: pipe(dot, **options))
    return module


def test_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(dot: str, *, format: str, encoding: str) -> str:
        return f"<{format}>{len(dot)}</{format}>"

    monkeypatch.setitem(sys.modules, "graphviz", _graphviz(pipe))
    assert NET.to_svg(X) == f"<svg>{len(NET.to_dot(X))}</svg>"
    assert NET._repr_svg_() == f"<svg>{len(NET.to_dot())}</svg>"


def test_svg_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(ModuleNotFoundError, match="pip install graphviz"):
        NET.to_svg()
    assert NET._repr_svg_() is None


def test_svg_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(dot: str, **options: str) -> str:
        raise _ExecutableNotFoundError

    monkeypatch.setitem(sys.modules, "graphviz", _graphviz(pipe))
    with pytest.raises(FileNotFoundError, match=r"the program `dot`.*apt install graphviz"):
        NET.to_svg()
    assert NET._repr_svg_() is None


def test_svg_by_graphviz() -> None:
    pytest.importorskip("graphviz")
    try:
        svg = AWKWARD.to_svg(X, X)
    except FileNotFoundError:
        pytest.skip("the program dot is absent")
    assert svg.count("<polygon") + svg.count("<ellipse") > 5


def test_svg_in_notebooks_is_left_out_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        def __init__(self, dot: str) -> None:
            raise RuntimeError("dot failed")

    fake = types.SimpleNamespace(Source=Source, ExecutableNotFound=OSError)
    monkeypatch.setitem(sys.modules, "graphviz", fake)
    net = build_graph_module(lambda x: x >> jnp.sin)(1.0)
    assert net._repr_svg_() is None
    with pytest.raises(RuntimeError, match="dot failed"):
        net.to_svg()


def test_partials_are_shown_by_their_function() -> None:
    net = build_graph_module(lambda x: x >> functools.partial(functools.partial(jnp.sum, axis=0), keepdims=True))(
        jnp.ones(3)
    )
    assert "# sum" in net.to_text()


def test_long_texts_are_cut() -> None:
    net = build_graph_module(lambda x: x >> pax.nn.Linear(3, 3, name="name" * 30))(jnp.ones((1, 3)))
    note = net.to_text().splitlines()[1].partition("# ")[2]
    assert (len(note), note[-1]) == (60, "…")


@pytest.mark.parametrize("sign", ["\r", "\u2028", "\x85"])
def test_line_breaks_in_names_are_escaped(sign: str) -> None:
    x = InputNode(jnp.ones(3), name=f"a{sign}b")
    net = GraphModule([x], x >> pax.nn.Lambda(jnp.sin, name=f"c{sign}d"))
    for text in (net.to_text(), net.to_mermaid(), net.to_dot()):
        assert sign not in text
    assert len(net.to_text().splitlines()) == 3
    y = InputNode(jnp.ones(3), name="a\nb")
    assert len(GraphModule([y], y >> jnp.sin).to_text().splitlines()) == 3
