"""The reference of docs/ describes every public name on exactly one page, and nothing else."""

import importlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = sorted((_ROOT / "docs" / "reference").glob("**/*.rst"))
_PUBLIC: dict[str, list[str]] = {
    module: table["names"]
    for module, table in tomllib.loads((_ROOT / "tests/conformance/public_names.toml").read_text()).items()
}
_DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto(?:module|class|function|data|exception)):: ([\w.]+)$", re.MULTILINE)
_TABLE = re.compile(r"^\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)", re.MULTILINE)


def _value(name: str) -> Any:
    """The object of a full name, such as ``pax.nn.Linear`` or ``pax.nn``."""
    if name in _PUBLIC:
        return importlib.import_module(name)
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _described(text: str) -> Iterator[str]:
    """The full names of what a page describes."""
    current = ""
    for directive, name in _DIRECTIVE.findall(text):
        if directive == "currentmodule":
            current = name
        else:
            yield name if directive == "automodule" else f"{current}.{name}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_DESCRIBED = [name for path in _PAGES for name in _described(_read(path))]
# By object: `pax.nn.Linear` is described as `pax.Linear`, `opax.optimizer.adam` as `opax.adam`.
_TIMES = Counter(id(_value(name)) for name in _DESCRIBED)


@pytest.mark.parametrize("module", sorted(_PUBLIC))
def test_public_names_are_described_once(module: str) -> None:
    times = {name: _TIMES[id(_value(f"{module}.{name}"))] for name in _PUBLIC[module]}
    assert {name: count for name, count in times.items() if count != 1} == {}
    assert _TIMES[id(_value(module))] == 1


def test_nothing_else_is_described() -> None:
    public = {id(_value(f"{module}.{name}")) for module, names in _PUBLIC.items() for name in names}
    public |= {id(_value(module)) for module in _PUBLIC}
    assert [name for name in _DESCRIBED if id(_value(name)) not in public] == []


@pytest.mark.parametrize("path", _PAGES, ids=lambda path: path.name)
def test_tables_list_what_the_page_describes(path: Path) -> None:
    text = _read(path)
    listed = [name for table in _TABLE.findall(text) for name in table.split()]
    described = [name.rpartition(".")[2] for name in _described(text)]
    assert [name for name in described if name in listed] == listed


def test_every_page_is_in_a_table_of_contents() -> None:
    reference = _ROOT / "docs" / "reference"
    listed = {
        (path.parent / name).relative_to(reference).as_posix()
        for path in _PAGES
        for block in re.findall(r"^\.\. toctree::\n(?:   :.*\n)*\n((?:   \S+\n)+)", _read(path) + "\n", re.MULTILINE)
        for name in block.split()
    }
    pages = {path.relative_to(reference).with_suffix("").as_posix() for path in _PAGES} - {"index"}
    assert listed == pages
