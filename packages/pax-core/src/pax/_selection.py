"""Selecting leaves of a tree: the selector language, ``filter``, ``partition`` and ``combine``."""

import fnmatch
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax.tree_util as jtu
import numpy as np

from pax._classify import is_module
from pax._empty import EmptyNode, is_empty
from pax._errors import ArgumentTypeError, SelectorError, StructureError
from pax._paths import KeyPath, describe, flatten_up_to, map_pair, one_level, path_segments, path_text

T = TypeVar("T")

Selector = Any
"""What selects leaves: a predicate, a module class, a path pattern, or a prefix tree of bools. See :func:`filter`."""

_FORMS = 'a predicate on leaves or on (path, leaf), a module class, a pattern as "blocks/*/attn/**", or a tree of bools'


def select(tree: Any, selector: Selector) -> list[bool]:
    """Returns for each leaf of ``tree``, in pytree order, whether ``selector`` selects it.

    Raises:
        SelectorError: it selects nothing, or is malformed.
        ArgumentTypeError: it is no selector.
    """
    if isinstance(selector, type):
        mask = _select_class(tree, selector)
    elif isinstance(selector, str):
        mask = _select_pattern(tree, selector)
    elif callable(selector) and not is_module(selector):
        mask = _select_predicate(tree, selector)
    else:
        mask = _select_prefix(tree, selector)
    if not any(mask):
        raise SelectorError(
            "The selector selects nothing.",
            got=repr(selector) if isinstance(selector, str) else describe(selector),
            want="a selector of at least one of these leaves:\n" + _list_leaves(tree),
            fix=_meant(tree, selector) if isinstance(selector, str) else f"select by {_FORMS}",
        )
    return mask


def _select_class(tree: Any, cls: type) -> list[bool]:
    if not hasattr(cls, "_pax_structures"):
        name = cls.__name__.rpartition(".")[2]  # JAX has classes whose name is a path
        raise ArgumentTypeError(
            "A class can select only if it is a module class.",
            got=describe(cls),
            want="a subclass of pax.Module",
            fix=f"lambda leaf: isinstance(leaf, {name})",
        )
    marked = jtu.tree_map(
        lambda node: jtu.tree_map(lambda _: isinstance(node, cls), node),
        tree,
        is_leaf=lambda node: isinstance(node, cls),
    )
    return list(jtu.tree_leaves(marked))


def _select_predicate(tree: Any, predicate: Callable[..., Any]) -> list[bool]:
    if _takes_path(predicate):
        return [bool(predicate(path, leaf)) for path, leaf in jtu.tree_leaves_with_path(tree)]
    return [bool(predicate(leaf)) for leaf in jtu.tree_leaves(tree)]


def _takes_path(predicate: Callable[..., Any]) -> bool:
    """Whether a predicate requires two positional arguments."""
    try:
        parameters = inspect.signature(predicate).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is p.empty and p.kind in positional for p in parameters) == 2


def _select_pattern(tree: Any, pattern: str) -> list[bool]:
    wanted = _pattern_segments(pattern)
    if not wanted:
        raise SelectorError(
            "A path pattern has to name something.", got=repr(pattern), want='"*" for all', fix='"layers/*/weight"'
        )
    return [_matches(path_segments(path), wanted) for path, _ in jtu.tree_leaves_with_path(tree)]


def _pattern_segments(pattern: str) -> list[str]:
    """Splits a pattern, written with slashes or as Python code: ``layers/0/weight`` or ``layers[0].weight``."""
    text = re.sub(r"\[(\d+|\*|'[^']*')\]", lambda found: "/" + found[1].strip("'"), pattern)
    return [segment for segment in (text if "/" in pattern else text.replace(".", "/")).split("/") if segment]


def _meant(tree: Any, pattern: str) -> str:
    """Returns what to write in place of a pattern that selects nothing: one with the parts that it leaves out."""
    wanted = _pattern_segments(pattern)
    paths = [path_segments(path) for path, _ in jtu.tree_leaves_with_path(tree)]
    if any(_matches(path, ["**", *wanted]) for path in paths):
        return f'"**/{"/".join(wanted)}"  # at any depth; a pattern names all parts of a path'
    for path in paths:
        found = 0
        for depth, segment in enumerate(path, 1):
            found += fnmatch.fnmatchcase(segment, wanted[found])
            if found == len(wanted):
                return f'"{"/".join(path[:depth])}"  # a pattern names all parts of a path'
    return f"select by {_FORMS}"


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern matches a path, or the path of a node above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _select_prefix(tree: Any, prefix: Any) -> list[bool]:
    flags, structure = jtu.tree_flatten(prefix)
    wrong = [flag for flag in flags if not isinstance(flag, bool | np.bool_)]
    if wrong and isinstance(prefix, tuple | list) and all(isinstance(flag, str | type) for flag in wrong):
        raise ArgumentTypeError(
            "Several selectors are no selector.",
            got=f"a {type(prefix).__name__} of {len(prefix)}",
            want=f"one of them: {_FORMS}",
            fix="call it for one after the other; or give a predicate on (path, leaf)",
        )
    if wrong or not flags:
        raise ArgumentTypeError(
            "This is no selector.",
            got=describe(wrong[0]) if wrong else describe(prefix),
            want=_FORMS,
            fix="jax.tree.map(lambda leaf: leaf.size > 1000, module)  # a tree of bools",
        )
    try:
        below = flatten_up_to(structure, tree)
    except ValueError as error:
        raise StructureError(
            "The tree of bools is no prefix of the tree it selects from.",
            got=describe(prefix),
            want=describe(tree),
            fix="make it by jax.tree.map(function, module), or use a predicate",
        ) from error
    return [bool(flag) for flag, node in zip(flags, below, strict=True) for _ in jtu.tree_leaves(node)]


def _list_leaves(tree: Any, limit: int = 30) -> str:
    found = [f"{'/'.join(path_segments(path))}: {describe(leaf)}" for path, leaf in jtu.tree_leaves_with_path(tree)]
    more = [f"… and {len(found) - limit} more"] if len(found) > limit else []
    return "\n".join(found[:limit] + more) or "(it has no leaves)"


def keep(tree: T, mask: Sequence[bool]) -> T:
    """Returns ``tree`` with an ``EmptyNode`` in place of every leaf whose flag is false."""
    leaves, structure = jtu.tree_flatten(tree)
    kept: T = jtu.tree_unflatten(structure, [x if flag else EmptyNode() for x, flag in zip(leaves, mask, strict=True)])
    return kept


def _parameters(tree: Any) -> Any:
    if not is_module(tree):
        raise ArgumentTypeError(
            "Only a module knows its parameters.",
            got=describe(tree),
            want="a module, or a selector as second argument",
            fix="pax.filter(tree, lambda leaf: leaf.size > 1000)",
        )
    return tree.parameters()


def _without(tree: Any, taken: Any) -> Any:
    """Returns ``tree`` with an ``EmptyNode`` wherever ``taken``, which may lack whole submodules, has a leaf."""
    return map_pair(lambda t, x: x if is_empty(t) else EmptyNode(), taken, tree, is_leaf=is_empty)


def filter(tree: T, selector: Selector = None, *, inverse: bool = False) -> T:
    """Keeps the selected leaves of a tree and puts an :class:`EmptyNode` in place of all others.

    A selector is one of

    * a predicate on leaves: ``lambda leaf: leaf.size > 1000``;
    * a predicate on paths and leaves, that is, a function with two required arguments; the path is JAX's tuple of keys;
    * a module class: everything inside of modules of that class;
    * a path pattern: ``"blocks/*/attn/**"``. Segments are attribute names, list positions and dictionary keys; ``*``
      stands for one segment (or a part of one), ``**`` for any number. A pattern that matches a node selects all below
      it. Paths as errors print them, ``"layers[0].weight"``, are patterns, too;
    * a tree of bools of the same structure, or a prefix of it; a single bool is one, too.

    Args:
        tree: a module, or any other pytree.
        selector: what to keep; default: what ``tree.parameters()`` keeps.
        inverse: keep what is not selected instead.

    Returns:
        A tree of the same structure, with empty nodes; arrays are shared, not copied.

    Raises:
        SelectorError: the selector selects nothing; the message lists the leaves there are.
        ArgumentTypeError: ``selector`` is none of the above, or is left out while ``tree`` is no module.

    >>> import jax, pax
    >>> net = pax.Module().set_attribute("scale", jax.numpy.ones(3)).set_attribute("shift", jax.numpy.zeros(3))
    >>> pax.filter(net, "sc*").shift
    EmptyNode
    """
    if selector is None:
        selected = _parameters(tree)
        kept: T = _without(tree, selected) if inverse else selected
        return kept
    return keep(tree, [flag is not inverse for flag in select(tree, selector)])


def filter_with_path(tree: T, predicate: Callable[[KeyPath, Any], Any], *, inverse: bool = False) -> T:
    """Keeps the leaves for which ``predicate(path, leaf)`` holds, as :func:`filter` does.

    Args:
        tree: a module, or any other pytree.
        predicate: called once per leaf, in pytree order, with JAX's key path (``jax.tree_util.keystr`` prints it).
        inverse: keep the others instead.

    Raises:
        SelectorError: no leaf is selected.
    """
    return keep(tree, [flag is not inverse for flag in select(tree, _path_predicate(predicate))])


def _path_predicate(predicate: Callable[[KeyPath, Any], Any]) -> Callable[[KeyPath, Any], Any]:
    if not callable(predicate):
        raise ArgumentTypeError(
            "A predicate has to be a function of (path, leaf).",
            got=describe(predicate),
            fix='lambda path, leaf: "bias" in jax.tree_util.keystr(path)',
        )
    return lambda path, leaf: predicate(path, leaf)


def partition(tree: T, *selectors: Selector) -> tuple[T, ...]:
    """Splits a tree into disjoint parts of the same structure; :func:`combine` puts them together again.

    Args:
        tree: a module, or any other pytree.
        *selectors: see :func:`filter`; a leaf goes to the first selector that selects it. Without selectors, or with a
            single ``None``, the first part is ``tree.parameters()``.

    Returns:
        One tree per selector, and last the rest. Leaves of other parts are empty nodes.

    Raises:
        SelectorError: a selector selects nothing in ``tree``.

    >>> import jax.numpy as jnp, pax
    >>> big, rest = pax.partition({"a": jnp.ones(3), "b": jnp.ones(1)}, lambda leaf: leaf.size > 1)
    >>> rest["a"], big["b"]
    (EmptyNode, EmptyNode)
    """
    if selectors in ((), (None,)):
        selected = _parameters(tree)
        return selected, _without(tree, selected)
    masks = [select(tree, selector) for selector in selectors]
    owners = [next((i for i, flag in enumerate(flags) if flag), len(masks)) for flags in zip(*masks, strict=True)]
    return tuple(keep(tree, [owner == part for owner in owners]) for part in range(len(masks) + 1))


def partition_with_path(tree: T, *predicates: Callable[[KeyPath, Any], Any]) -> tuple[T, ...]:
    """Splits a tree as :func:`partition` does, by predicates of ``(path, leaf)``.

    Raises:
        SelectorError: a predicate selects nothing in ``tree``.
    """
    return partition(tree, *map(_path_predicate, predicates))


def combine(*trees: T) -> T:
    """Puts the parts of a partition together: the first tree that has something at a place wins.

    ``EmptyNode`` and ``None`` are nothing. (Note that in ``a | b`` the *right* side wins.)

    Args:
        *trees: at least one; all of the same structure, up to empty places, which may stand for whole submodules.

    Raises:
        StructureError: the structures do not fit; the message names the path.
        ArgumentTypeError: no tree is given.
    """
    if not trees:
        raise ArgumentTypeError("There is nothing to combine.", got="no tree", fix="pax.combine(*parts)")
    result = trees[0]
    for tree in trees[1:]:
        result = _fill_in(result, tree, ())
    return result


def _is_hole(value: Any) -> bool:
    return value is None or is_empty(value)


def _fill_in(first: Any, second: Any, path: KeyPath) -> Any:
    """Returns ``first`` with its holes filled from ``second``."""
    try:
        return map_pair(lambda a, b: b if _is_hole(a) and b is not None else a, first, second, is_leaf=_is_hole)
    except ValueError:
        pass  # a hole of the second tree stands for a subtree, or the structures differ: look node by node
    if _is_hole(first) or _is_hole(second):
        return second if _is_hole(first) else first
    (children, structure), (others, other_structure) = one_level(first), one_level(second)
    if not children or type(first) is not type(second) or structure != other_structure:
        raise StructureError(
            "These trees do not fit together.",
            where=f"path `{path_text(path) or 'the root'}`",
            got=describe(second) if type(first) is not type(second) else f"another {describe(second)}",
            want=f"the structure of the first tree: {describe(first)}",
            fix="combine parts of one tree, as pax.partition returns them",
        )
    filled = [_fill_in(a, b, (*path, key)) for (key, a), (_, b) in zip(children, others, strict=True)]
    return jtu.tree_unflatten(structure, filled)
