"""Modules in notebooks: a tree with shapes, dtypes and marks, and never the contents of arrays.

The tree is plain data, which treescope draws if it is installed, and a few lines of HTML otherwise.
"""

import html
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pax._classify import is_module
from pax._empty import is_empty
from pax._leaf_kinds import leaf_kinds
from pax._node import own_content
from pax._paths import describe, path_text
from pax._variants import base_class

_OPEN_LEVELS = 2
"""How deep the HTML tree is unfolded at first."""


@dataclass
class ModuleTree:
    """A module in words.

    Args:
        module_class: its class.
        head: the name given to it, its class and its mode.
        settings: static attributes that are not ``None``, by name.
        children: arrays as text, and modules, by path from the module.
    """

    module_class: type
    head: str
    settings: dict[str, "Words"] = field(default_factory=dict)
    children: dict[str, "Words | ModuleTree"] = field(default_factory=dict)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
        repr_lib = importlib.import_module("treescope.repr_lib")
        return repr_lib.render_object_constructor(
            object_type=self.module_class,
            attributes={**self.settings, **self.children},
            path=path,
            subtree_renderer=subtree_renderer,
        )


@dataclass(frozen=True)
class Words:
    """A text that stands for a value."""

    text: str

    def __treescope_repr__(self, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
        parts = importlib.import_module("treescope.rendering_parts")
        return parts.text(self.text)


def module_tree(module: Any) -> ModuleTree:
    """Returns the tree of a module. It runs no code of its class but ``parameters``, and does not fail if that does."""
    try:
        kinds: Iterator[str] = iter(leaf_kinds(module))
    except Exception:  # of a user's method, while a notebook shows the value of a cell
        kinds = iter(())
    return _tree(module, kinds)


def _tree(module: Any, kinds: Iterator[str]) -> ModuleTree:
    cls = base_class(type(module))
    structure = module._pax_flat[1]
    name = structure.statics.get("_name")
    head = cls.__qualname__ if name is None else f"({name}) {cls.__qualname__}"
    if structure.statics.get("_training") is False:
        head += ", in evaluation mode"
    settings = {
        key: Words(_setting(value))
        for key, value in structure.statics.items()
        if value is not None and not key.startswith("_")
    }
    children: dict[str, Words | ModuleTree] = {}
    for path, value in own_content(module):
        if is_module(value):
            children[path_text(path)] = _tree(value, kinds)
        elif is_empty(value):
            children[path_text(path)] = Words("empty")
        else:
            kind = next(kinds, None)
            children[path_text(path)] = Words(describe(value) if kind is None else f"{describe(value)} ({kind})")
    return ModuleTree(cls, head, settings, children)


def _setting(value: Any) -> str:
    """Returns a static value in a few words; short tuples and lists of numbers and strings in full."""
    try:
        if type(value) in (tuple, list) and _is_plain(value) and len(text := repr(value)) <= 40:
            return text
        return describe(value)
    except Exception:  # of a user's class
        return f"a `{type(value).__qualname__}`"


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return len(value) <= 8 and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, complex, str)


def module_html(module: Any) -> str:
    """Returns the HTML of a module: by treescope, if that is installed and works."""
    tree = module_tree(module)
    drawn = _drawn_by_treescope(tree) if importlib.util.find_spec("treescope") is not None else None
    if drawn is None:
        drawn = f'<div class="pax-module" style="font-family:monospace">{"".join(_html("", tree, 0))}</div>'
    return drawn


def _drawn_by_treescope(tree: ModuleTree) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # treescope looks at all names of NumPy, the deprecated ones, too
            drawn: str = importlib.import_module("treescope").render_to_html(tree)
            return drawn
    except Exception:  # a version whose interface is another
        return None


def _html(path: str, tree: "ModuleTree | Words", level: int) -> Iterator[str]:
    label = f"{html.escape(path)}: " if path else ""
    if isinstance(tree, Words):
        yield f"<div>{label}{html.escape(tree.text)}</div>"
        return
    settings = ", ".join(f"{key}={value.text}" for key, value in tree.settings.items())
    head = f"{label}<b>{html.escape(tree.head)}</b> <small>{html.escape(settings)}</small>"
    if not tree.children:
        yield f"<div>{head}</div>"
        return
    yield f"<details{' open' * (level < _OPEN_LEVELS)}><summary>{head}</summary>"
    yield '<div style="margin-left:1.5em">'
    for key, child in tree.children.items():
        yield from _html(key, child, level + 1)
    yield "</div></details>"
