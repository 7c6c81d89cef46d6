"""What the docstrings of PAX have beyond Google's sections, as reStructuredText.

The sections `Shapes`, `Parameters` (the trained arrays) and `State` become fields of these names, and arguments are
called that. What is returned is a text, also with a colon in it: types are in the signatures. Single backticks are
code, also where a letter follows: `EmptyNode`s. Signatures say `DTypeLike`, not what that stands for.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyClasslike, PyFunction, PyMethod

_SECTION = re.compile(r"^( *)(Shapes|Parameters|State|Returns|Yields):$")
_LISTS = ("Shapes", "Parameters", "State")
_ENTRY = re.compile(r"^([\w`.*/, ]+): (.*)$")


def _type(text: str) -> re.Pattern[str]:
    """A pattern of a type, whose names may stand with or without their modules."""
    return re.compile(re.sub(r"\b[A-Za-z]\w*", lambda name: rf"~?(?:\w+\.)*\b{name[0]}", re.escape(text)))


# What Sphinx writes for types, and what is shown.
_NAMED_TYPES = (
    (re.compile(r"\bjaxlib\._jax\.(?=Array\b)"), ""),
    (re.compile(r"([\w.~]+)\[Array, ('[^']*')\] \| \1\[ndarray, \2\]"), r"\1[Array, \2]"),  # JAX's arrays or NumPy's
    (_type("str | type[Any] | dtype | SupportsDType"), "~jax.typing.DTypeLike"),
    (_type("Array | ndarray | bool | number | bool | int | float | complex"), "~jax.typing.ArrayLike"),
    (_type("Callable[[Array], ArrayLike] | ArrayLike"), "~opax.schedule.ScheduleOrFloat"),
    (_type("Callable[[Array, tuple[int, ...]], Array]"), "~pax.nn.initializers.Initializer"),
)
_CODE = re.compile(r"(?<![`:\w])`([^`]+)`(?!`)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers what is below, before napoleon reads the docstrings."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    app.connect("autodoc-process-signature", _name_types)
    for described in (PyClasslike, PyFunction, PyMethod):
        for field in described.doc_field_types:
            field.label = {"parameter": "Arguments", "variable": "Attributes"}.get(field.name, field.label)
    return {"parallel_read_safe": True}


def _name_types(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    if what == "exception" and not value.__dict__.get("__init__"):
        return "", ""  # that of its base
    for pattern, short in _NAMED_TYPES:
        signature, result = (text and pattern.sub(short, text) for text in (signature, result))
    return signature, result


def _process(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    marked = _code_marked(list(_sections_as_fields(lines)))
    # Without the first line, which shows nothing, napoleon takes what stands before a colon for the type of a property.
    lines[:] = ["\\ ", *marked] if what in ("attribute", "property") else list(marked)


def _sections_as_fields(lines: list[str]) -> Iterator[str]:
    rest = list(lines)
    while rest:
        line = rest.pop(0)
        header = _SECTION.match(line)
        if header is None:
            yield line
            continue
        margin = len(header[1])
        body = []
        while rest and (not rest[0].strip() or len(rest[0]) - len(rest[0].lstrip()) > margin):
            body.append(rest.pop(0))
        texts = _entries(body) if header[2] in _LISTS else textwrap.dedent("\n".join(body)).splitlines()
        name = "returns" if header[2] == "Returns" else header[2]
        yield from ("", f"{header[1]}:{name}:", *(f"{header[1]}    {text}" for text in texts), "")


def _entries(body: list[str]) -> Iterator[str]:
    """The lines of a section: `name: text` as items of a list, with what is indented below them."""
    indented = [len(line) - len(line.lstrip()) for line in body if line.strip()]
    margin = min(indented, default=0)
    for line in body:
        text = line[margin:]
        entry = _ENTRY.match(text)
        if entry is not None:
            yield from ("", f"* **{entry[1]}** – {entry[2]}")
        elif text[:1].strip():
            yield from ("", text)
        else:
            yield "  " + text.strip() if text.strip() else ""


def _code_marked(lines: list[str]) -> Iterator[str]:
    """Double backticks in the place of single ones, outside of examples and literal blocks."""
    literal = None  # the margin of the line that a literal block belongs to
    example = False
    for line in lines:
        margin = len(line) - len(line.lstrip())
        if not line.strip():
            example = False
        elif literal is not None and margin <= literal:
            literal = None
        if line.lstrip().startswith(">>> "):
            example = True
        if example or literal is not None:
            yield line
            continue
        if line.rstrip().endswith("::"):
            literal = margin
        yield _CODE.sub(r"``\1``", line).replace("``s ", "``\\ s ") if "`" in line else line
