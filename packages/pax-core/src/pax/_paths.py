"""Key paths as readable names, short descriptions of values, and the differences of two trees in words."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

KeyPath = tuple[Any, ...]


def path_text(path: KeyPath) -> str:
    """Returns a key path as Python code relative to its root: ``layers[0].weight``; the root itself is ``""``."""
    return jtu.keystr(path).removeprefix(".")


def path_segments(path: KeyPath) -> tuple[str, ...]:
    """Returns one string per key: ``("layers", "0", "weight")``."""
    return tuple(jtu.keystr((key,), simple=True) for key in path)


def describe(value: Any) -> str:
    """Describes a value in a few words without its contents: ``float32[2,3]`` for arrays, else its kind.

    Args:
        value: anything. A class says itself what its objects are by a method ``__pax_describe__(self) -> str``.

    Returns:
        ``dtype[shape]`` for arrays, tracers and ``jax.ShapeDtypeStruct``, the class for modules, ``repr`` for short
        builtin data, the name for functions.
    """
    describe_itself = getattr(type(value), "__pax_describe__", None)
    if describe_itself is not None:
        return str(describe_itself(value))
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, tuple):
        text = f"{dtype}[{','.join(map(str, shape))}]"
        return f"numpy {text}" if isinstance(value, np.ndarray) else text
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    name = getattr(value, "__qualname__", None)
    return f"`{name}`" if isinstance(name, str) else f"a `{type(value).__qualname__}`"


def same_structure(a: Any, b: Any) -> bool:
    """Whether two treedefs are equal (some JAX versions do not declare their class as a type)."""
    return bool(a == b)


def flatten_up_to(structure: Any, tree: Any) -> list[Any]:
    """Returns what ``tree`` has at the leaves of ``structure``.

    Raises:
        ValueError: ``structure`` is no prefix of the tree.
    """
    below: list[Any] = structure.flatten_up_to(tree)
    return below


def map_pair(func: Callable[[Any, Any], Any], first: Any, second: Any, is_leaf: Callable[[Any], bool]) -> Any:
    """Applies ``func`` to the leaves of one tree and what another has at their places.

    ``jax.tree.map`` does the same, but looks for the reason of a mismatch, and in JAX 0.10 fails while it does.

    Raises:
        ValueError: the first tree is no prefix of the second.
    """
    leaves, structure = jtu.tree_flatten(first, is_leaf=is_leaf)
    return jtu.tree_unflatten(structure, map(func, leaves, flatten_up_to(structure, second)))


def one_level(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Returns the (key, child) pairs of one pytree node and its one-level treedef; a leaf has no children."""
    pairs, treedef = jtu.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if not jtu.treedef_is_leaf(treedef):
        return [(path[0], child) for path, child in pairs], treedef
    return [], treedef


def find_path(roots: Iterable[Any], target: Any) -> str:
    """Returns the path of the very object ``target`` below the first root that holds it, or ``""``."""
    for root in roots:
        for path, node in jtu.tree_leaves_with_path(root, is_leaf=lambda node: node is target):
            if node is target:
                return path_text(path)
    return ""


def differences(got: Any, want: Any, *, arrays: bool = False, path: KeyPath = ()) -> Iterator[tuple[str, str, str]]:
    """Yields ``(path, got, want)`` for every place where two pytrees differ in structure.

    Args:
        got: a pytree.
        want: the pytree it should be like.
        arrays: compare the shapes and dtypes of leaves, too.
        path: where both trees are.
    """
    if same_structure(jtu.tree_structure(got), jtu.tree_structure(want)):
        if arrays:
            pairs = zip(jtu.tree_leaves_with_path(got), jtu.tree_leaves(want), strict=True)
            for (below, a), b in pairs:
                if (np.shape(a), jax.dtypes.result_type(a)) != (np.shape(b), jax.dtypes.result_type(b)):
                    yield path_text(path + below), describe(a), describe(b)
        return
    if type(got) is not type(want):
        yield path_text(path), *_told_apart(got, want)
        return
    (children, structure), (others, other_structure) = one_level(got), one_level(want)
    names = [key for key, _ in children]
    other_names = [key for key, _ in others]
    if names == other_names:
        if structure != other_structure:
            yield from _node_differences(got, want, structure, other_structure, path)
        for (key, child), (_, other) in zip(children, others, strict=True):
            yield from differences(child, other, arrays=arrays, path=(*path, key))
        return
    for key, child in children:
        if key not in other_names:
            yield path_text((*path, key)), describe(child), "nothing"
    for key, other in others:
        if key not in names:
            yield path_text((*path, key)), "nothing", describe(other)
    if sorted(map(str, names)) == sorted(map(str, other_names)):
        yield (
            path_text(path),
            f"the order {', '.join(path_text((k,)) for k in names)}",
            (f"the order {', '.join(path_text((k,)) for k in other_names)}"),
        )


def _told_apart(got: Any, want: Any) -> tuple[str, str]:
    """Describes two nodes of different classes, which can have the same name: with and without a precision policy."""
    texts = describe(got), describe(want)
    if texts[0] != texts[1]:
        return texts
    longer = tuple(f"`{text}`" for text in (repr(got), repr(want)) if len(text) <= 120)
    if len(longer) == 2 and longer[0] != longer[1]:
        return longer
    return texts[0], f"{texts[1]} of another class of this name"


def _node_differences(
    got: Any, want: Any, structure: Any, other_structure: Any, path: KeyPath
) -> Iterator[tuple[str, str, str]]:
    """Names the attributes of one node that differ, where the node's data can say so, else the data as a whole."""
    data, other = structure.node_data()[1], other_structure.node_data()[1]
    compare = getattr(data, "differences", None)
    if compare is None:
        yield path_text(path), f"{describe(got)} with {data}", f"{describe(want)} with {other}"
        return
    for name, a, b in compare(other):
        yield path_text((*path, jtu.GetAttrKey(name))), a, b


def list_differences(found: Iterator[tuple[str, str, str]], limit: int = 10) -> str:
    """Formats the first ``limit`` differences, a line each."""
    lines = []
    for count, (path, got, want) in enumerate(found):
        if count == limit:
            lines.append("… and more")
            break
        lines.append(f"{path or 'the root'}: got {got}, want {want}")
    return "\n".join(lines)
