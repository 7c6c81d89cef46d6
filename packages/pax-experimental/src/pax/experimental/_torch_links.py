"""The links of a whole module with PyTorch's names."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import pax
from pax.errors import ArgumentError
from pax.experimental._torch_layouts import Layout, Link, is_state, layout_of
from pax.experimental._torch_names import NameMap, TorchNames, child_name, join

Leaves = dict[str, Any]
"""Arrays by their paths, written as Python code."""


def find_links(module: pax.Module, names: TorchNames | None) -> tuple[list[Link], Leaves]:
    """Returns how the arrays of a module are stored in PyTorch, and all arrays by path, in pytree order.

    Raises:
        ArgumentTypeError: ``names`` is no map of names.
        ArgumentError: it is malformed, two arrays get the same name, or PyTorch has no layer like one of the module.
        SelectorError: a pattern of ``names`` matches nothing.
    """
    search = _Search(NameMap(names))
    search.visit(module, (), search.names.find((), ""))
    leaves = {_text(path): leaf for path, leaf in jtu.tree_leaves_with_path(module)}
    search.names.check_all_used(_segments(path) for path, _ in jtu.tree_leaves_with_path(module))
    _check_distinct(search.links, module)
    return search.links, leaves


class _Search:
    """Walks through a module from the root, and gathers links."""

    def __init__(self, names: NameMap) -> None:
        self.names = names
        self.links: list[Link] = []

    def visit(self, node: Any, path: tuple[Any, ...], name: str | None) -> None:
        """Adds the links of a node that has a name in PyTorch; parts may have one of their own where it has none."""
        if is_state(node) and not self.names.names_parts_of(_segments(path)):
            return
        layout = layout_of(node)
        if layout is not None and not (layout.made_of_layers and self.names.names_parts_of(_segments(path))):
            self.layer(node, layout, path, name)
            return
        if jtu.all_leaves((node,)):
            self.leaf(node, path, name)
            return
        for below, child in jtu.tree_leaves_with_path(node, is_leaf=lambda below: below is not node):
            (segment,) = _segments(below)
            if layout is None or segment not in layout.kept:
                default = None if name is None else child_name(node, name, segment)
                self.visit(child, path + below, self.names.find(_segments(path + below), default))

    def leaf(self, leaf: Any, path: tuple[Any, ...], name: str | None) -> None:
        if name is not None and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            self.links.append(Link((_text(path),), (name,)))

    def layer(self, layer: Any, layout: Layout, path: tuple[Any, ...], name: str | None) -> None:
        why_not = None if name is None else layout.why_not(layer)
        if why_not is not None:
            raise ArgumentError(
                f"The weights of this `{type(layer).__qualname__}` have no counterpart in PyTorch.",
                module=layer,
                path=_text(path) or None,
                want="layers that PyTorch has",
                fix=f"names={{{'/'.join(_segments(path))!r}: None}} to leave it as it is, or name the parts of it",
                why=why_not,
            )
        leaves = {_text(below): (below, leaf) for below, leaf in jtu.tree_leaves_with_path(layer)}
        for link in layout.links:
            if all(place in leaves for place in link.places):
                paths = [path + leaves.pop(place)[0] for place in link.places]
                found = [None if name is None else join(name, own) for own in link.names]
                if len(found) == 1:  # a pattern may name this array
                    found = [self.names.find(_segments(paths[0]), found[0])]
                names = tuple(text for text in found if text is not None)
                if names:
                    self.links.append(replace(link, places=tuple(map(_text, paths)), names=names))
        for below, leaf in leaves.values():  # what a subclass has added
            segments = _segments(below)
            if segments[0] not in layout.kept:
                default = None if name is None else join(name, ".".join(segments))
                self.leaf(leaf, path + below, self.names.find(_segments(path + below), default))


def _check_distinct(links: list[Link], module: Any) -> None:
    places: dict[str, tuple[str, ...]] = {}
    for link in links:
        for name in link.names:
            if name in places:
                raise ArgumentError(
                    f"Two arrays get the name `{name}`.",
                    module=module,
                    got=f"{', '.join(places[name])} and {', '.join(link.places)}",
                    want="names that differ",
                    fix='names={"blocks/*": "layer{0}"}  # with the numbers of all stars of the pattern',
                )
            places[name] = link.places


def _segments(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(jtu.keystr((key,), simple=True) for key in path)


def _text(path: tuple[Any, ...]) -> str:
    return jtu.keystr(path).removeprefix(".")
