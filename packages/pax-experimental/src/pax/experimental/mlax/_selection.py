"""What `Module.filter`, `Module.partition` and `Module.combine` do.

The unit is a leaf parameter, which is kept or dropped as a whole. The arrays of PAX modules that are no part of this
dialect are offered to predicates as if each was in a leaf parameter; other arrays without one are never selected.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import pax
from pax.errors import ArgumentTypeError, StructureError
from pax.experimental.mlax._parameter import Parameter, emptied, is_leaf_param
from pax.extend import describe, is_module

M = TypeVar("M", bound=pax.Module)
Path = tuple[Any, ...]


class AttributeKey(str):
    """The step of a path into an attribute: equal to its name, and printed as ``.name`` by ``keystr``.

    >>> import jax
    >>> step = AttributeKey("weight")
    >>> step == "weight", jax.tree_util.keystr((step,))
    (True, '.weight')
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name as a plain string, as keys of JAX have it."""
        return str.__str__(self)

    def __str__(self) -> str:
        return f".{self.name}"


class _Unit(NamedTuple):
    path: Path
    node: Any
    offered: Parameter | None
    """What predicates see; ``None`` if they do not."""


class Split:
    """A module cut into selected and other units.

    Args:
        module: a module.
        predicate: takes ``(path, parameter)``.
        dialect: the classes whose arrays are in parameters.
    """

    def __init__(self, module: Any, predicate: Callable[[Path, Parameter], Any], dialect: tuple[type, ...]) -> None:
        self._structure = jtu.tree_structure(module, is_leaf=is_leaf_param)
        self._units = _units_of(module, dialect)
        self._mask = [unit.offered is not None and bool(predicate(unit.path, unit.offered)) for unit in self._units]

    def part(self, selected: bool) -> Any:
        """Returns the module with the selected units only, or with the others only."""
        kept = [
            _keep(unit.node) if flag is selected else _drop(unit.node)
            for unit, flag in zip(self._units, self._mask, strict=True)
        ]
        return jtu.tree_unflatten(self._structure, kept)


def _keep(node: Any) -> Any:
    return node.copy() if isinstance(node, Parameter) else node


def _drop(node: Any) -> Any:
    return emptied(node) if isinstance(node, Parameter) else pax.EmptyNode()


def _units_of(root: Any, dialect: tuple[type, ...]) -> list[_Unit]:
    """Returns all units of a module, in pytree order."""
    units: list[_Unit] = []
    trained: set[int] | None = None

    def collect(owner: Any, prefix: Path) -> None:
        nonlocal trained
        content, _ = jtu.tree_flatten_with_path(owner, is_leaf=lambda node: node is not owner and is_module(node))
        for below, node in content:
            path = (*prefix, *map(_readable, below))
            if is_leaf_param(node):
                units.append(_Unit(path, node, node))
            elif is_module(node):
                collect(node, path)
            elif isinstance(owner, dialect):
                units.append(_Unit(path, node, None))
            else:
                if trained is None:
                    trained = set(map(id, jax.tree.leaves(root.parameters())))
                units.append(_Unit(path, node, _as_parameter(node, id(node) in trained)))

    collect(root, ())
    return units


def _readable(key: Any) -> Any:
    return AttributeKey(key.name) if isinstance(key, jtu.GetAttrKey) else key


def _as_parameter(leaf: Any, trainable: bool) -> Parameter:
    """Returns a parameter around any leaf, also one that stands for an array."""
    template = Parameter(trainable, jnp.zeros(()))
    wrapped: Parameter = jax.tree.unflatten(jax.tree.structure(template), [leaf])
    return wrapped


def check_predicate(predicate: Any, *, where: str, example: str) -> None:
    """Raises ``ArgumentTypeError`` unless a predicate can be called."""
    if not callable(predicate) or is_module(predicate):
        raise ArgumentTypeError(
            "A predicate has to be a function.",
            where=where,
            got=describe(predicate),
            want="a function of a parameter, for paths of (path, parameter)",
            fix=example,
        )


def combine(module: M, rest: tuple[Any, ...]) -> M:
    """Returns a copy of a module in which what it lacks comes from the first of ``rest`` that has it.

    Raises:
        StructureError: a module has another class or another structure.
    """
    for other in rest:
        if type(other) is not type(module):
            raise StructureError(
                "These modules do not fit together.",
                where="combine",
                got=describe(other),
                want=f"a {type(module).__qualname__}, like the module itself",
                fix="trainables.combine(rest), with the parts that module.partition() returns",
                module=module,
            )
    combined: M = pax.combine(module, *rest).copy()
    return combined
