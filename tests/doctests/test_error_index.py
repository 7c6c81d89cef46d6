"""docs/thinking/debugging.md lists every error that PAX raises, and none that it does not."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pax.errors

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "thinking" / "debugging.md"
_CLASSES = frozenset({*pax.errors.__all__, "NoTransformationError"})


def _texts(node: ast.expr, function: ast.AST | None, module: ast.AST) -> list[str]:
    """What an expression for a headline can be, with `…` for what is filled in; nothing where it is unknown."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, function, module) + _texts(node.orelse, function, module)
    if isinstance(node, ast.BinOp):
        right = _texts(node.right, function, module)
        return [first + second for first in _texts(node.left, function, module) for second in right]
    if isinstance(node, ast.Name):
        for scope in (function, module):
            found = [
                text
                for assignment in (ast.walk(scope) if scope is not None else ())
                if isinstance(assignment, ast.Assign)
                and any(isinstance(target, ast.Name) and target.id == node.id for target in assignment.targets)
                for text in _texts(assignment.value, scope, module)
            ]
            if found:
                return found
    return []


def _headlines_of(module: ast.Module) -> Iterator[str]:
    functions = {
        child: function
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef)
        for child in ast.walk(function)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CLASSES and node.args:
            for text in _texts(node.args[0], functions.get(node), module):
                yield text.strip().partition("\n")[0]
        elif isinstance(node, ast.Dict):  # arguments of an error that is raised at several places
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "headline":
                    yield from _texts(value, None, module)


@cache
def _raised() -> frozenset[str]:
    """The headlines in the source of all packages."""
    return frozenset(
        headline
        for path in sorted(_ROOT.glob("packages/*/src/**/*.py"))
        for headline in _headlines_of(ast.parse(path.read_text()))
    )


def _listed(markdown: str) -> frozenset[str]:
    """The headlines that a page lists: what is bold in its last part. Stars in code are no bold."""
    index = " ".join(markdown.partition("## Every error of PAX")[2].split())
    without = re.sub(r"`[^`]*`", lambda code: "code" if "**" in code[0] else code[0], index)
    return frozenset(re.findall(r"\*\*((?:`[^`]*`|[^*`])+)\*\*", without))


def test_the_source_has_errors_of_every_kind() -> None:
    assert len(_raised()) > 350
    assert "Cannot modify a module in immutable mode." in _raised()  # by the name of a constant
    assert "Expecting … channels. Get … channels." in _raised()  # one of two, by a local name
    assert "This module has no random key: call new_state(rng) first." in _raised()  # in a dictionary of arguments


def test_the_page_lists_every_error() -> None:
    assert sorted(_raised() - _listed(_PAGE.read_text())) == []


def test_the_page_lists_no_other_error() -> None:
    assert sorted(_listed(_PAGE.read_text()) - _raised()) == []


def test_an_error_that_is_not_listed_is_found() -> None:
    source = 'def check(x):\n    if x:\n        raise ArgumentError(f"Expecting {x}.\\nMore", got="`a`")\n'
    assert list(_headlines_of(ast.parse(source))) == ["Expecting …."]
    page = "**no**\n## Every error of PAX\n\n- **Expecting\n  …**, **`a` of `b`.** see `2**3`, **c** → `**/x`.\n"
    assert _listed(page) == {"Expecting …", "`a` of `b`.", "c"}
