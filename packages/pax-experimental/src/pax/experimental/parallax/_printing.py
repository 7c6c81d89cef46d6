"""The text of a module: a header, and the submodules below it, each on lines of its own."""

from collections.abc import Iterable
from typing import Any

import jax.tree_util as jtu

import pax


def as_line(header: str, extra: str) -> str:
    """Returns the text of one module without its submodules, on one line."""
    return f"{header}({', '.join(extra.splitlines())})"


def as_block(header: str, extra: str, children: Iterable[tuple[str, Any]]) -> str:
    """Returns the text of a module with its submodules, each line two spaces further in than its parent.

    Args:
        header: what stands before the bracket.
        extra: what stands in it besides the submodules; one line without submodules stays on that line.
        children: the names of fields, and what they hold.
    """
    below = [f"({name}): {_indent(repr(value))}" for name, value in children]
    lines = [*extra.splitlines(), *below]
    if not below and len(lines) <= 1:
        return f"{header}({extra})"
    return "\n".join([f"{header}(", *(f"  {line}" for line in lines), ")"])


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def header_of(module: Any) -> str:
    """Returns what stands before the bracket."""
    return module._repr() if module._initialized else f"{module._repr()} uninit "


def extra_of(module: Any) -> str:
    """Returns what a module wants to show in the bracket; three dots where that is not there yet."""
    try:
        return str(module.extra_repr())
    except Exception:
        if _is_whole(module):
            raise
        return "..."  # what it wants to show is not there: in gradients, in trees of axes, in a constructor


def _is_whole(module: Any) -> bool:
    attributes = vars(module)
    leaves = [
        jtu.tree_leaves(attributes[name], is_leaf=lambda node: node is None or isinstance(node, pax.EmptyNode))
        for name in module._trained
    ]
    has_fields = all(name in attributes or hasattr(type(module), name) for name in module._declared)
    return has_fields and all(hasattr(leaf, "shape") for row in leaves for leaf in row)
