"""``Treedefs``: structures of pytrees by name, as one static value of a module."""

import copy
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import jax


class Treedefs(Mapping[str, Any]):
    """An immutable dictionary of treedefs. It pickles, which treedefs with modules in them do not.

    Made by :func:`intern_treedefs`, equal ones are one object: ``jax.jit`` compares the static values of its arguments
    at every call, and the structure of a large model takes longer to compare than all else.
    """

    __slots__ = ("__weakref__", "_items")

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return hash(tuple(self._items))

    def __repr__(self) -> str:
        return repr(self._items)

    def _examples(self) -> dict[str, Any]:
        """Returns trees of these structures. Their leaves are numbers, which no module classifies anew."""
        return {name: treedef.unflatten([0] * treedef.num_leaves) for name, treedef in self._items.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_examples, (self._examples(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Treedefs":
        return _from_examples(copy.deepcopy(self._examples(), memo))


_Table = weakref.WeakValueDictionary[Any, Treedefs]
_table: _Table = weakref.WeakValueDictionary()


def intern_treedefs(items: Mapping[str, Any]) -> Treedefs:
    """Returns the one object with these treedefs; their order is of no account.

    JAX takes equal structures for interchangeable, and so does this.
    """
    ordered = dict(sorted(items.items()))
    new = Treedefs(ordered)
    key = tuple(ordered.items())
    try:
        return _table.setdefault(key, new)
    except Exception:  # static data of the user that cannot be hashed or compared
        return new


def _from_examples(examples: dict[str, Any]) -> Treedefs:
    return intern_treedefs({name: jax.tree.structure(tree) for name, tree in examples.items()})
