"""Examples in docstrings are doctests, which pytest runs: there are none in another form, and none are skipped."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SOURCES = sorted(_ROOT.glob("packages/*/src/**/*.py"))

# Literal blocks that parse as Python, and why no test runs them.
_LITERAL_CODE = {
    "pax/nn/_recurrent_gru.py": "formulas",
    "pax/nn/_recurrent_lstm.py": "formulas",
    "pax/nets/_torchvision.py": "needs torchvision",
    "pax/experimental/_torch_weights.py": "needs PyTorch and torchvision; tests/parity does the same",
}

_OTHER_FORMS = re.compile(r"^ *(```|~~~|\.\. code)|doctest: *\+SKIP", re.MULTILINE)
_LITERAL = re.compile(r"::\n\n(?P<text>(?:(?: +\S.*)?\n)+)")


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def _statements(text: str) -> bool:
    """Whether a text is Python that assigns, imports or defines something."""
    try:
        body = ast.parse(textwrap.dedent(text)).body
    except SyntaxError:
        return False
    return any(not isinstance(node, ast.Expr) for node in body)


def _not_run(docstring: str) -> list[str]:
    literal = [found["text"] for found in _LITERAL.finditer(docstring + "\n")]
    return _OTHER_FORMS.findall(docstring) + [text for text in literal if _statements(text)]


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(_ROOT / "packages")))
def test_examples_are_doctests(path: Path) -> None:
    found = [block for text in _docstrings(path.read_text(encoding="utf-8")) for block in _not_run(text)]
    assert bool(found) == path.as_posix().endswith(tuple(_LITERAL_CODE)), found


@pytest.mark.parametrize(
    "docstring",
    [
        "Does.\n\n    ```\n    f()\n    ```",
        ".. code-block:: python",
        ">>> f()  # doctest: +SKIP",
        "So::\n\n    x = f(1)\n",
    ],
)
def test_the_check_finds_examples_that_are_not_run(docstring: str) -> None:
    assert _not_run(docstring) != []


@pytest.mark.parametrize("docstring", [">>> x = f(1)", "A tree::\n\n    Net\n    └── Linear\n", "Shown as ``x::``."])
def test_the_check_lets_other_docstrings_be(docstring: str) -> None:
    assert _not_run(docstring) == []
