"""What `Module.filter`, `Module.partition` and `Module.combine` do.

The unit is a leaf parameter, which is kept or dropped as a whole. The arrays of PAX modules that are no part of this
dialect are offered to predicates as if each was in a leaf parameter; other arrays without one are never selected.
"""

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import pax
from pax.errors import ArgumentTypeError, StructureError
from pax.experimental.mlax._parameter import Parameter, is_leaf_param, portion
from pax.extend import describe, is_module

M = TypeVar("M", bound=pax.Module)
F = TypeVar("F", bound=Callable[..., Any])
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
            _part(unit.node, flag is selected, selected) for unit, flag in zip(self._units, self._mask, strict=True)
        ]
        return jtu.tree_unflatten(self._structure, kept)


def _part(node: Any, is_kept: bool, selected: bool) -> Any:
    if isinstance(node, Parameter):
        return portion(node, data=is_kept, others=not selected)  # arrays beside the data are never selected
    return node if is_kept else pax.EmptyNode()


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


def check_predicate(predicate: Any, arguments: str, *, where: str, example: str) -> None:
    """Raises ``ArgumentTypeError`` unless a predicate can be called.

    Args:
        predicate: anything.
        arguments: the names of what it is called with: ``"path, parameter"``.
        where: the method, for errors.
        example: a predicate.
    """
    if not callable(predicate) or is_module(predicate):
        raise ArgumentTypeError(
            "A predicate has to be a function.",
            where=where,
            got=describe(predicate),
            want=f"a function of ({arguments})",
            fix=example,
        )
    try:
        signature = inspect.signature(predicate)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return
    try:
        signature.bind(*arguments.split(", "))
    except TypeError:
        raise ArgumentTypeError(
            "The predicate takes other arguments.",
            where=where,
            got=f"a function of {signature}",
            want=f"a function of ({arguments})",
            fix=example,
        ) from None


class _Structural:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, module: Any, cls: Any = None) -> Any:
        return self._function if module is None else MethodType(self._function, module)


def structural(method: F) -> F:
    """Makes a method that computes nothing, so that a precision policy leaves it alone.

    Policies wrap what can be called in a class, and call it on an object of another class than the module has: it would
    not fit together with other modules of the same policy.
    """
    return _Structural(method)  # type: ignore[return-value]


def combine(module: M, rest: tuple[Any, ...]) -> M:
    """Returns a copy of a module in which what it lacks comes from the first of ``rest`` that has it.

    Raises:
        StructureError: a module has another class or another structure.
    """
    for other in rest:
        if type(other) is not type(module):
            raise _misfit(module, describe(other), f"a {type(module).__qualname__}, like the module itself")
    try:
        combined: M = pax.combine(module, *rest).copy()
    except StructureError as error:
        for other in rest:
            try:
                pax.assert_structure_equal(_hollow(other), _hollow(module))
            except StructureError as difference:
                raise _misfit(module, difference.got, "the same as in the module itself") from None
        raise _misfit(module, f"data of another kind at {error.where}", "the data of one module") from None
    return combined


def _misfit(module: Any, got: str | None, want: str) -> StructureError:
    return StructureError(
        "These modules do not fit together.",
        where="combine",
        got=got,
        want=want,
        fix="trainables.combine(rest), with the parts that one module.partition() returns",
        module=module,
    )


def _hollow(module: Any) -> Any:
    """Returns a module without data: what the parts of a partition have in common."""
    is_unit = lambda node: node is None or isinstance(node, pax.EmptyNode) or is_leaf_param(node)  # noqa: E731
    empty = lambda node: portion(node, data=False, others=False) if is_leaf_param(node) else pax.EmptyNode()  # noqa: E731
    return jax.tree.map(empty, module, is_leaf=is_unit)
