"""The step of ``x[index]``: an index as plain data, which can be compared, hashed and pickled."""

import operator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """A function that takes an item of its argument.

    Args:
        parts: the parts of the index; a slice, which has no hash in Python 3.11, as a tuple of start, stop and step.
        several: whether the index is a tuple.
    """

    parts: tuple[Any, ...]
    several: bool

    def __call__(self, value: Any) -> Any:
        """Returns the item."""
        parts = tuple(slice(*part) if isinstance(part, tuple) else part for part in self.parts)
        return value[parts if self.several else parts[0]]

    def __str__(self) -> str:
        text = ", ".join(map(_text, self.parts))
        return f"[{text}{',' * (self.several and len(self.parts) == 1)}]" if text else "[()]"


def item(index: Any) -> Item:
    """Makes an `Item` of what stands in brackets.

    Raises:
        TypeError: there is something else in it than integers, slices, strings, ``None`` and ``...``.
    """
    several = isinstance(index, tuple)
    return Item(tuple(map(_part, index if several else (index,))), several)


def _part(part: Any) -> Any:
    if part is None or part is ... or isinstance(part, str):
        return part
    if isinstance(part, slice):
        return tuple(None if end is None else _integer(end) for end in (part.start, part.stop, part.step))
    return _integer(part)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or hasattr(value, "aval"):  # True == 1, but another index; arrays are no static indices
        raise TypeError
    return operator.index(value)


def _text(part: Any) -> str:
    if part is ...:
        return "..."
    if not isinstance(part, tuple):
        return repr(part)
    start, stop, step = ("" if end is None else str(end) for end in part)
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
