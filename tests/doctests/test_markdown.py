"""The examples of the READMEs and of docs/ run as written, each file as one program, and print what they say.

That is what stands after `print(...)  #`, and in blocks without a language.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_FILES = [_ROOT / "README.md", *sorted(_ROOT.glob("packages/*/README.md")), *sorted(_ROOT.glob("docs/**/*.md"))]
_BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"^print\(.*\)  # (?P<text>.+)$", re.MULTILINE)


def _blocks(markdown: str, kind: str) -> list[re.Match[str]]:
    return [block for block in _BLOCK.finditer(markdown) if block["kind"] == kind]


def _program_of(markdown: str) -> str:
    """The code blocks of a file, at their own line numbers."""
    lines = [""] * len(markdown.splitlines())
    for block in _blocks(markdown, "python"):
        first = markdown[: block.start("text")].count("\n")
        code = block["text"].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def _run(program: str, name: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, name, "exec"), {"__name__": "__main__"})
    return output.getvalue()


def _not_printed(markdown: str, printed: str) -> list[str]:
    """What a file says is printed, and is not: lines after `print(...)  #` up to a semicolon, and blocks of output."""
    lines = {line.rstrip() for line in printed.splitlines()}
    said = [found["text"].partition(";")[0].rstrip() for found in _EXPECTED.finditer(_program_of(markdown))]
    shown = [line.rstrip() for block in _blocks(markdown, "") for line in block["text"].splitlines()]
    return [text for text in said + shown if text not in lines]


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_examples_run_and_print_what_they_say(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    markdown = path.read_text()
    monkeypatch.chdir(tmp_path)
    printed = _run(_program_of(markdown), str(path))
    assert _not_printed(markdown, printed) == []


def test_every_package_shows_an_example() -> None:
    assert all(_program_of(path.read_text()).strip() for path in _FILES if "packages" in path.parts)


def test_the_check_finds_an_output_that_is_not_what_it_says() -> None:
    markdown = (
        'text\n```python\nprint("not learnt")  # learnt\nprint(1 + 1)  # 2; a sum\n```\n```\nsomething else\n```\n'
    )
    printed = _run(_program_of(markdown), "example")
    assert printed == "not learnt\n2\n"
    assert _not_printed(markdown, printed) == ["learnt", "something else"]
