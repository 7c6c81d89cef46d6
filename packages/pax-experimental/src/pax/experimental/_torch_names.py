"""Names of PyTorch for the nodes of a module, by patterns of paths."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pax
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError
from pax.extend import describe

TorchNames = Mapping[str, str | None]
"""Pattern of paths in the module -> name in PyTorch. See :func:`pax.experimental.load_torch_weights`."""

_NUMBER = re.compile(r"\{(\d+)(?:\*(\d+))?([+-]\d+)?\}")
"""`{0*3+1}`: the number of the star, a factor, and what is added."""

_TRANSPARENT: tuple[tuple[type[pax.Module], str], ...] = ((pax.nn.Sequential, "modules"), (pax.nn.Remat, "module"))
"""Attributes that PyTorch's names do not show: `modules[0]` of a `Sequential` is `0` there."""


class NameMap:
    """A parsed map of names.

    Args:
        names: see :data:`TorchNames`.

    Raises:
        ArgumentTypeError: it is no dictionary of texts.
        ArgumentError: a name is malformed or counts more stars than its pattern has, or a pattern has `**`.
    """

    def __init__(self, names: TorchNames | None) -> None:
        if names is not None and not isinstance(names, Mapping):
            raise ArgumentTypeError(
                "Expecting a dictionary for `names`.",
                got=describe(names),
                want="PyTorch's names by patterns of paths",
                fix='names={"blocks/*/conv": "layer{0}.conv"}',
            )
        self._entries = [(pattern, _parse(pattern, name), name) for pattern, name in (names or {}).items()]
        self._unused = {pattern: None for pattern, _, _ in self._entries}
        self._prefix = next((name for _, segments, name in self._entries if not segments), None) or ""

    def find(self, path: tuple[str, ...], default: str | None) -> str | None:
        """Returns the name of the node at ``path``: that of the first pattern that matches all of it, or the default.

        The name of the root is in front of all others; the default has it already.

        Raises:
            ArgumentError: it is to be computed from what is no number, or the result is negative.
        """
        for pattern, segments, name in self._entries:
            stars = _match(segments, path)
            if stars is not None:
                self._unused.pop(pattern, None)
                filled = None if name is None else _fill_in(name, stars, pattern)
                return join(self._prefix, filled) if filled and segments else self._prefix if filled == "" else filled
        return default

    def names_parts_of(self, path: tuple[str, ...]) -> bool:
        """Whether some pattern is for nodes below ``path``."""
        size = len(path)
        return any(len(parts) > size and _match(parts[:size], path) is not None for _, parts, _ in self._entries)

    def check_all_used(self, paths: Iterable[tuple[str, ...]]) -> None:
        """Raises an error if some pattern has matched nothing.

        Args:
            paths: those of all arrays; the error lists them, with stars for numbers.

        Raises:
            SelectorError: it has.
        """
        if self._unused:
            places = dict.fromkeys("/".join("*" if part.isdecimal() else part for part in path) for path in paths)
            raise SelectorError(
                "A pattern of `names` matches nothing, or what other patterns have named before it.",
                got=", ".join(map(repr, self._unused)),
                want="patterns of paths, or of their first segments:\n" + "\n".join(places),
                fix='names={"blocks/*/conv": "layer{0}.conv"}  # each star stands for one segment',
            )


def child_name(parent: Any, name: str, segment: str) -> str:
    """Returns the name of a child that no pattern matches."""
    if any(isinstance(parent, cls) and segment == attribute for cls, attribute in _TRANSPARENT):
        return name
    return join(name, segment)


def join(name: str, segment: str) -> str:
    """Returns the name of something in a node: put in the place of the star of its name, or behind it."""
    if "*" in name:
        return name.replace("*", segment)
    return f"{name}.{segment}" if name else segment


def _parse(pattern: Any, name: Any) -> tuple[str, ...]:
    if not isinstance(pattern, str) or not (name is None or isinstance(name, str)):
        raise ArgumentTypeError(
            "`names` has an entry that is no text.",
            got=f"{describe(pattern)}: {describe(name)}",
            want="a pattern of paths, and a name or None",
            fix='names={"blocks/*/conv": "layer{0}.conv"}',
        )
    text = re.sub(r"\[['\"]?([^]'\"]*)['\"]?\]", r"/\1", pattern)  # `layers[0].fc` is `layers/0/fc`
    segments = tuple(part for part in (text if "/" in pattern else text.replace(".", "/")).split("/") if part)
    stars = "".join(segments).count("*")
    wrong = [found[0] for found in _NUMBER.finditer(name or "") if int(found[1]) >= stars]
    if wrong or "**" in segments:
        raise ArgumentError(
            f"The name `{name}` counts stars that the pattern does not have."
            if wrong
            else "A pattern of `names` has a star that stands for any number of segments.",
            got=f"{pattern!r}: {name!r}",
            want=f"{{0}} to {{{stars - 1}}}" if wrong and stars else "stars, and {0} for what the first stands for",
            fix='names={"blocks/*/conv": "layer{0}.conv"}',
        )
    rest = _NUMBER.sub("0", name or "")
    if "{" in rest or "}" in rest or (rest and "" in rest.split(".")):
        raise ArgumentError(
            f"The name `{name}` is malformed.",
            got=f"{pattern!r}: {name!r}",
            want="segments with dots between them; in braces the number of a star, also with a factor and a summand",
            fix='names={"blocks/*/conv": "layer{0+1}.conv", "convs/*": "features.{0*3}"}',
        )
    return segments


def _match(segments: tuple[str, ...], path: tuple[str, ...]) -> list[str] | None:
    """Returns what the stars of a pattern stand for, or ``None``."""
    if len(segments) != len(path):
        return None
    stars: list[str] = []
    for segment, part in zip(segments, path, strict=True):
        found = re.fullmatch("(.*)".join(map(re.escape, segment.split("*"))), part)
        if found is None:
            return None
        stars += found.groups()
    return stars


def _fill_in(name: str, stars: list[str], pattern: str) -> str:
    def text(found: re.Match[str]) -> str:
        star = stars[int(found[1])]
        if found[2] is None and found[3] is None:
            return star
        if not star.isdecimal():
            raise ArgumentError(
                f"`{found[0]}` computes with a star that stands for no number.",
                got=f"{pattern!r}: {name!r}, where the star is {star!r}",
                want=f"{{{found[1]}}}, or a star for the positions in a list or tuple",
            )
        number = int(star) * int(found[2] or 1) + int(found[3] or 0)
        if number < 0:
            raise ArgumentError(
                f"`{found[0]}` gives a negative number.",
                got=f"{pattern!r}: {name!r}, where the star is {star!r}",
                want="0 or more",
                fix='names={"blocks/0": "stem", "blocks/*": "layer{0-1}"}  # the first pattern that matches counts',
            )
        return str(number)

    return _NUMBER.sub(text, name)
