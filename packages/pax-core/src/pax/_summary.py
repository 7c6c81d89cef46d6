"""``repr`` and ``summary`` of modules."""

from collections.abc import Sequence
from typing import Any

from pax._errors import UnsupportedModuleError


def represent(module: Any, info: dict[str, Any] | None) -> str:
    """Returns ``(name) Class(key=value, …)``; ``None`` entries are left out, ``info=None`` gives no brackets."""
    name = getattr(module, "_name", None)
    text = type(module).__qualname__ if name is None else f"({name}) {type(module).__qualname__}"
    if info is None:
        return text
    return f"{text}({', '.join(f'{key}={value}' for key, value in info.items() if value is not None)})"


def head_line(module: Any) -> str:
    """Returns ``repr(module)``.

    Raises:
        UnsupportedModuleError: the ``__repr__`` of its class returns no string.
    """
    special: Any = type(module).__repr__
    text = special(module)
    if not isinstance(text, str):
        raise UnsupportedModuleError(
            f"The `{type(module)}.__repr__` method returns a `{text}` value.",
            want="a string",
            fix="return self._repr({'size': self.size}) in `__repr__`",
        )
    return text


def tree_lines(head: str, below: Sequence[Sequence[str]]) -> list[str]:
    """Returns a head line with the lines of its submodules drawn as a tree below it."""
    lines = [head]
    for index, block in enumerate(below):
        last = index == len(below) - 1
        first, rest = ("└── ", "    ") if last else ("├── ", "│   ")
        lines += [(first if number == 0 else rest) + line for number, line in enumerate(block)]
    return lines
