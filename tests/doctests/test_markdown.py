"""The Python examples of the READMEs and of docs/ run as written, each file as one program, and print what they say."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_FILES = [_ROOT / "README.md", *sorted(_ROOT.glob("packages/*/README.md")), *sorted(_ROOT.glob("docs/**/*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"^print\(.*\)  # (?P<text>.+)$", re.MULTILINE)


def _program_of(markdown: str) -> str:
    """The code blocks of a file, at their own line numbers."""
    lines = [""] * len(markdown.splitlines())
    for block in _BLOCK.finditer(markdown):
        first = markdown[: block.start(1)].count("\n")
        code = block.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def _run(program: str, name: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, name, "exec"), {"__name__": "__main__"})
    return output.getvalue()


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_examples_run_and_print_what_they_say(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    program = _program_of(path.read_text())
    monkeypatch.chdir(tmp_path)
    printed = _run(program, str(path))
    for expected in _EXPECTED.finditer(program):
        assert expected["text"].partition(";")[0] in printed


def test_every_package_shows_an_example() -> None:
    assert all(_program_of(path.read_text()).strip() for path in _FILES if "packages" in path.parts)


def test_the_check_finds_an_output_that_is_not_what_it_says() -> None:
    program = _program_of("text\n```python\nprint(1 + 1)  # 3\n```\n")
    assert _run(program, "example") == "2\n"
    assert [found["text"] for found in _EXPECTED.finditer(program)] == ["3"]
