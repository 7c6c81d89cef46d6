"""``Structure``: everything of a module that is not a leaf, made once and shared by all modules that agree in it."""

import weakref
from collections.abc import Iterator
from typing import Any

import jax.tree_util as jtu

from pax._static import copy_containers, is_changeable, static_equal, static_key


class MixedLayout:
    """Where the static leaves of a mixed attribute are, and what they are.

    Args:
        skeleton: the structure of the value around all leaves, static and other.
        positions: the flat positions of the static leaves.
        values: the static leaves.
    """

    __slots__ = ("positions", "skeleton", "values")

    def __init__(self, skeleton: Any, positions: tuple[int, ...], values: tuple[Any, ...]) -> None:
        self.skeleton = skeleton
        self.positions = positions
        self.values = values

    def strip(self, leaves: list[Any]) -> Any:
        """Returns the value with ``None`` in place of the static leaves: what JAX sees as the child."""
        kept = list(leaves)
        for position in self.positions:
            kept[position] = None
        return jtu.tree_unflatten(self.skeleton, kept)

    def restore(self, child: Any) -> Any:
        """Returns the value with the static leaves put back into a child that JAX has rebuilt."""
        leaves = self.skeleton.flatten_up_to(child)
        for position, value in zip(self.positions, self.values, strict=True):
            leaves[position] = value
        return jtu.tree_unflatten(self.skeleton, leaves)

    def key(self) -> Any:
        return self.skeleton, self.positions, static_key(self.values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MixedLayout)
            and self.positions == other.positions
            and self.skeleton == other.skeleton
            and static_equal(self.values, other.values)
        )

    def __hash__(self) -> int:
        return hash(self.positions)

    def __reduce__(self) -> Any:  # replaced by the encoding in `_pickling.py`; a treedef itself cannot be pickled
        raise TypeError("a MixedLayout is pickled through its module")


class Structure:
    """The static side of a flattened module, immutable, interned per class: equality is almost always identity.

    Args:
        cls: the class it belongs to.
        names: pytree attributes: wholly pytree first, then mixed, each in the order of definition.
        mixed: the layouts of the mixed ones.
        statics: static attributes; builtin containers belong to the structure alone.
        volatile: some attribute is, or holds, a container that can change in place.
    """

    __slots__ = ("__weakref__", "changeable", "eager", "keys", "mixed", "names", "statics", "volatile")

    def __init__(
        self, cls: type, names: tuple[str, ...], mixed: dict[str, MixedLayout], statics: dict[str, Any], volatile: bool
    ) -> None:
        self.names = names
        self.mixed = mixed
        self.statics = statics
        self.volatile = volatile
        self.keys = tuple(map(jtu.GetAttrKey, names))
        self.changeable = tuple(name for name, value in statics.items() if is_changeable(value))
        # A class attribute of the same name would hide an attribute that is filled in on first access.
        self.eager = any(hasattr(cls, name) for name in (*names, *statics))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Structure)
            and self.names == other.names
            and self.mixed == other.mixed
            and static_equal(self.statics, other.statics)
        )

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.statics.items() if value is not None)

    def own_statics(self) -> dict[str, Any]:
        """Returns the static attributes for one module: containers are that module's own."""
        if not self.changeable:
            return self.statics
        return {
            name: copy_containers(value) if name in self.changeable else value for name, value in self.statics.items()
        }

    def with_static(self, cls: Any, name: str, value: Any) -> "Structure":
        """Returns the structure with one static attribute set, or removed where ``value`` is ``...``."""
        statics = dict(self.statics)
        if value is ...:
            statics.pop(name, None)
        else:
            statics[name] = value
        return intern_structure(cls, self.names, self.mixed, statics, self.volatile)

    def differences(self, other: "Structure") -> Iterator[tuple[str, str, str]]:
        """Yields ``(attribute, here, there)`` for attributes in which two structures of one class differ."""
        for name in dict.fromkeys((*self.statics, *self.names, *other.statics, *other.names)):
            here, there = self._kind(name), other._kind(name)
            a, b = self.statics.get(name), other.statics.get(name)
            if here != there:
                yield name, here, there
            elif not static_equal(a, b):
                yield name, f"{a!r}", f"{b!r}"
            elif self.mixed.get(name) != other.mixed.get(name):
                yield name, self._static_parts(name), other._static_parts(name)

    def _static_parts(self, name: str) -> str:
        return f"static parts {self.mixed[name].values!r}" if name in self.mixed else "no static parts"

    def _kind(self, name: str) -> str:
        if name in self.names:
            return "arrays or modules"
        return "a static value" if name in self.statics else "nothing"


class StructureTable(weakref.WeakValueDictionary[Any, Structure]):
    """The structures of one class that are in use. Pickles as empty: it is a cache."""

    def __reduce__(self) -> tuple[Any, ...]:
        return StructureTable, ()


def intern_structure(
    cls: Any,
    names: tuple[str, ...],
    mixed: dict[str, MixedLayout],
    statics: dict[str, Any],
    volatile: bool,
) -> Structure:
    """Returns the one structure of ``cls`` with this content; static containers are copied when it is new."""
    key = (
        names,
        volatile,
        frozenset((name, static_key(value)) for name, value in statics.items()),
        tuple((name, layout.key()) for name, layout in mixed.items()) if mixed else (),
    )
    table: StructureTable = cls._pax_structures
    found = table.get(key)
    if found is None:
        owned = {name: copy_containers(value) if is_changeable(value) else value for name, value in statics.items()}
        found = table.setdefault(key, Structure(cls, names, mixed, owned, volatile))
    return found
