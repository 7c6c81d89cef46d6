"""The code of the READMEs and of docs/ runs as written, each file as one program, and prints what it says.

That is what stands after `print(...)  #`, and in blocks without a language. Notebooks are pages of docs/ with
`{code-cell}` blocks; a cell that is tagged `raises-exception` must raise. No block that could be Python is left out.
"""

import ast
import contextlib
import io
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

_ROOT = Path(__file__).parents[2]
_FILES = [
    *sorted(_ROOT.glob("*.md")),
    *sorted(_ROOT.glob("packages/*/README.md")),
    *sorted(_ROOT.glob("examples/**/*.md")),
    *(path for path in sorted(_ROOT.glob("docs/**/*.md")) if "_build" not in path.parts),
]

_FENCE = re.compile(r"^(?P<margin>[ >]*)(?P<marks>`{3,}|~{3,})(?P<kind>[^`]*)$")
_EXPECTED = re.compile(r"^print\(.*\)  # (?P<text>.+)$", re.MULTILINE)

_EXECUTED = {"python", "{code-cell}", "{code-cell} ipython3"}
# Run by tests/parity/test_coming_from.py, where these libraries are.
_OF_OTHER_LIBRARIES = {"torch", "flax", "equinox", "haiku"}
_NOT_PYTHON = {"", "sh", "toml", "text"}
# Directives of the site without code in them. `{include}` shows files that are tested on their own.
_DIRECTIVES = ("{toctree}", "{include}", "{figure}", "{image}", "{benchmark-tables}")


@dataclass(frozen=True)
class _Block:
    """A fenced block: what stands after the fence, the number of its first line (from 0), and its text."""

    kind: str
    line: int
    text: str
    indented: bool

    @property
    def raises(self) -> bool:
        return "raises-exception" in self.text[: len(self.text) - len(self._body())]

    @property
    def code(self) -> str:
        """The text at its own line numbers, without the options of a cell."""
        body = self._body()
        return "\n" * (self.line + self.text.count("\n") - body.count("\n")) + body

    def _body(self) -> str:
        options = re.match(r"---\n(.*\n)*?---\n|(:[\w-]+:.*\n)+", self.text)
        return self.text[options.end() :] if self.kind.startswith("{code-cell}") and options else self.text


def _blocks(markdown: str) -> Iterator[_Block]:
    lines = iter(enumerate(markdown.splitlines()))
    for number, line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            continue
        inside = []
        for _, text in lines:
            closing = _FENCE.match(text)
            if closing and not closing["kind"].strip() and closing["marks"].startswith(opening["marks"]):
                break
            inside.append(text + "\n")
        yield _Block(opening["kind"].strip(), number + 1, "".join(inside), bool(opening["margin"]))


def _cells(markdown: str) -> list[_Block]:
    return [block for block in _blocks(markdown) if block.kind in _EXECUTED]


def _run(markdown: str, name: str) -> str:
    """Runs the cells of a file one after the other, as a notebook does; returns what was printed."""
    main = ModuleType("__main__")
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setitem(sys.modules, "__main__", main)  # where pickle and dataclasses look for the classes of a program
        for cell in _cells(markdown):
            program = compile(cell.code, name, "exec")
            if cell.raises:
                with pytest.raises(Exception):  # noqa: B017, PT011 - the page shows which
                    exec(program, vars(main))
            else:
                exec(program, vars(main))
            jax.effects_barrier()
    return output.getvalue()


def _not_printed(markdown: str, printed: str) -> list[str]:
    """What a file says is printed, and is not: lines after `print(...)  #` up to a semicolon, and blocks of output."""
    lines = {line.rstrip() for line in printed.splitlines()}
    comments = [found for cell in _cells(markdown) for found in _EXPECTED.finditer(cell.text)]
    said = [found["text"].partition(";")[0].rstrip() for found in comments]
    shown = [line.rstrip() for block in _blocks(markdown) if block.kind == "" for line in block.text.splitlines()]
    return [text for text in said + shown if text not in lines]


def _looks_like_python(text: str) -> bool:
    """Whether a text is a program that does something, not merely words or numbers that parse as one."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return False
    doing = (ast.Import, ast.ImportFrom, ast.Assign, ast.Call, ast.FunctionDef, ast.ClassDef, ast.For, ast.With)
    return any(isinstance(node, doing) for node in ast.walk(tree))


def _unexecuted(markdown: str) -> list[str]:
    """The blocks that no test runs and that are not known to be anything else than Python."""
    found = []
    for block in _blocks(markdown):
        executed = block.kind in _EXECUTED | _OF_OTHER_LIBRARIES and not block.indented
        harmless = block.kind in _NOT_PYTHON or block.kind.startswith(_DIRECTIVES)
        if not executed and (not harmless or (block.kind == "text" and _looks_like_python(block.text))):
            found.append(f"line {block.line}: {block.kind or 'a block without a language'}")
    return found


@pytest.fixture
def _clean_settings() -> Iterator[None]:
    """Fails when a page leaves a setting of JAX changed; and shows no windows."""
    names = [
        *("jax_debug_nans", "jax_debug_infs", "jax_disable_jit", "jax_enable_x64", "jax_check_tracer_leaks"),
        *("jax_log_compiles", "jax_explain_cache_misses", "jax_default_matmul_precision"),
    ]
    before = {name: getattr(jax.config, name) for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive", UserWarning)
        yield
    after = {name: getattr(jax.config, name) for name in names}
    for name, value in before.items():
        jax.config.update(name, value)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    assert after == before


@pytest.mark.usefixtures("_clean_settings")
@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_examples_run_and_print_what_they_say(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    markdown = path.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    printed = _run(markdown, str(path))
    assert _not_printed(markdown, printed) == []


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_code_is_left_out(path: Path) -> None:
    assert _unexecuted(path.read_text(encoding="utf-8")) == []


def test_code_of_other_libraries_is_in_the_pages_that_the_parity_tests_run() -> None:
    with_such_code = {
        path.relative_to(_ROOT).parent.as_posix()
        for path in _FILES
        for block in _blocks(path.read_text(encoding="utf-8"))
        if block.kind in _OF_OTHER_LIBRARIES
    }
    assert with_such_code <= {"docs/coming_from"}


def test_every_package_shows_an_example() -> None:
    assert all(_cells(path.read_text(encoding="utf-8")) for path in _FILES if "packages" in path.parts)


def test_the_check_finds_an_output_that_is_not_what_it_says() -> None:
    markdown = (
        'text\n```python\nprint("not learnt")  # learnt\nprint(1 + 1)  # 2; a sum\n```\n```\nsomething else\n```\n'
    )
    printed = _run(markdown, "example")
    assert printed == "not learnt\n2\n"
    assert _not_printed(markdown, printed) == ["learnt", "something else"]


def test_cells_are_one_program_at_their_own_lines() -> None:
    markdown = "# Title\n```{code-cell} ipython3\nx = 1\n```\n```{code-cell}\n:tags: [a]\n\nprint(x + 1)\n```\n"
    assert _run(markdown, "example") == "2\n"
    first, second = (cell.code.splitlines() for cell in _cells(markdown))
    assert (first.index("x = 1") + 1, second.index("print(x + 1)") + 1) == (3, 8)


@pytest.mark.parametrize("options", [":tags: [raises-exception]\n", "---\ntags: [raises-exception]\n---\n"])
def test_a_cell_that_says_so_must_raise(options: str) -> None:
    cell = "```{code-cell} ipython3\n" + options + "\n1 / DIVISOR\n```\n"
    assert _run(cell.replace("DIVISOR", "0"), "example") == ""
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        _run(cell.replace("DIVISOR", "1"), "example")


def test_a_cell_that_does_not_say_so_must_not_raise() -> None:
    with pytest.raises(ZeroDivisionError):
        _run("```{code-cell} ipython3\n1 / 0  # raises-exception\n```\n", "example")


@pytest.mark.parametrize(
    "block",
    [
        "```py\nx\n```",
        "```{code-block} python\nx\n```",
        "- item\n  ```python\n  x\n  ```",
        "```text\nx = f(1)\n```",
        "~~~pycon\n>>> 1\n~~~",
        "````console\n```python\n```\n````",
        "```{code-cell} bash\nls\n```",
    ],
)
def test_the_check_finds_code_that_nobody_runs(block: str) -> None:
    assert len(_unexecuted(f"text\n\n{block}\n")) == 1


@pytest.mark.parametrize("block", ["```python\nx\n```", "```sh\nls\n```", "```\n1\n```", "```text\na picture\n```"])
def test_the_check_lets_other_blocks_be(block: str) -> None:
    assert _unexecuted(f"text\n\n{block}\n") == []
