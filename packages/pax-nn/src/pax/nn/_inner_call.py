"""Calls of a module inside of another one's call, also inside of JAX transformations that this one enters.

A module cannot change inside of a transformation that was entered after its session. So the inner module is called as a
copy, what the call changed comes out as arrays, and the outer module puts these into its own submodule. Weights that do
not change are not copied.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.tree_util as jtu
import numpy as np

import pax
from pax import Module
from pax.errors import PaxError, StructureError
from pax.extend import is_mutable, modules_in

M = TypeVar("M", bound=Module)

Changes = dict[str, Any]
"""Arrays by path: what a call has changed."""


def path_text(path: tuple[Any, ...]) -> str:
    """Returns a key path as error messages print it: ``layers[0].weight``."""
    return jtu.keystr(path).removeprefix(".")


def call_and_changes(module: Any, *args: Any, **kwargs: Any) -> tuple[Changes, Any]:
    """Calls a copy of a module.

    Returns:
        The arrays that the call has changed, and its output.

    Raises:
        StructureError: the call changed the structure of the module.
    """
    called, output = pax.purecall(module, *args, **kwargs)
    try:
        pax.assert_structure_equal(called, module)
    except StructureError as error:
        raise StructureError(
            "A call must not change the structure of a module that is called inside of a JAX transformation.",
            got=error.got,
            want="the structure of the module before the call",
            fix="keep what changes from call to call in arrays",
            module=module,
        ) from None
    pairs = zip(jtu.tree_leaves_with_path(called), jax.tree.leaves(module), strict=True)
    return {path_text(path): new for (path, new), old in pairs if new is not old}, output


def with_changes(module: M, changes: Changes, *, computed: Collection[str] = ()) -> M:
    """Returns the module with what a call of its copy has changed.

    Args:
        module: the module.
        changes: see :func:`call_and_changes`.
        computed: paths of arrays of the copy that were computed from others.

    Raises:
        StructureError: one of those has changed.
    """
    wrong = [path for path in changes if path in computed]
    if wrong:
        raise StructureError(
            "A call changed an array that is computed from other arrays.",
            where=f"array `{wrong[0]}`",
            got="a new value, which would be lost",
            want="a call that changes states only",
            module=module,
        )
    changed: M = jtu.tree_map_with_path(lambda path, leaf: changes.get(path_text(path), leaf), module)
    return changed


@contextmanager
def errors_located_in(owner: Any, attribute: str) -> Iterator[None]:
    """Lets errors that a copy of a submodule raises name the place of the submodule itself.

    Args:
        owner: the module that makes the call.
        attribute: where it has the submodule.
    """
    try:
        yield
    except PaxError as error:
        original = getattr(owner, attribute)
        twin = _twin(error, original)
        if twin is not None:
            error.module = twin
            # An enclosing `pure` function finds the path from its own root, if it is given none.
            error.path = None if is_mutable(owner) else ".".join(filter(None, (attribute, error.path)))
        raise


def _twin(error: PaxError, original: Any) -> Any:
    """Returns what stands where the module of an error stood in a copy of ``original``; ``None`` if it is elsewhere."""
    kind = type(error.module)
    if not error.path:
        return original if kind is type(original) else None
    for module in modules_in(original):
        for path, node in jtu.tree_leaves_with_path(original, is_leaf=lambda node, module=module: node is module):
            if node is module and path_text(path) == error.path and type(node) is kind:
                return module
    return None


class Skeleton:
    """A tree without its arrays; equal ones are interchangeable inside a compiled function.

    Args:
        structure: the structure of the tree.
        is_array: for each leaf, whether it is an array.
        others: all other leaves.
    """

    def __init__(self, structure: Any, is_array: tuple[bool, ...], others: tuple[Any, ...]) -> None:
        self.structure = structure
        self.is_array = is_array
        self.others = others

    def join(self, arrays: Iterable[Any]) -> Any:
        """Returns the tree with the given arrays."""
        given, kept = iter(arrays), iter(self.others)
        return jax.tree.unflatten(self.structure, [next(given) if flag else next(kept) for flag in self.is_array])

    @property
    def is_plain(self) -> bool:
        """Whether all other leaves are numbers and texts: only then are skeletons compared by value."""
        return all(type(other) in _PLAIN for other in self.others)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> Any:
        # The text tells `1`, `1.0` and `True` apart, which are equal, and 0.0 from -0.0.
        others = tuple((type(other), repr(other)) for other in self.others) if self.is_plain else id(self)
        return self.structure, self.is_array, others


_PLAIN = frozenset({bool, int, float, complex, str, bytes})


def split_arrays(tree: Any) -> tuple[list[Any], Skeleton]:
    """Splits a tree into its arrays, which JAX can transform, and the rest."""
    leaves, structure = jax.tree.flatten(tree)
    is_array = tuple(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
    arrays = [leaf for leaf, flag in zip(leaves, is_array, strict=True) if flag]
    others = tuple(leaf for leaf, flag in zip(leaves, is_array, strict=True) if not flag)
    return arrays, Skeleton(structure, is_array, others)
