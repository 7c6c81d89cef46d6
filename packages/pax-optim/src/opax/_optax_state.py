"""The state of an optax transformation as attributes of modules, and back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import pax
from opax._trees import state_dtype_of
from pax import EmptyNode, StateModule


def is_named_tuple(value: Any) -> bool:
    """Whether ``value`` is a tuple with named fields, as optax's states are."""
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


class OptaxState(StateModule):
    """A state inside of another one: its fields are the attributes of a module.

    A field with a name that modules have already, such as ``name``, gets an underscore: ``name_``.
    """

    _kind: Any

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, state: Any) -> None:
        """Takes the fields.

        Args:
            state: a tuple with named fields.
        """
        super().__init__()
        self._kind = type(state)
        set_fields(self, OptaxState, state)

    def parameters(self) -> Any:
        """Returns a copy with an ``EmptyNode`` in the place of every array: there is nothing to train."""
        return jax.tree.map(lambda leaf: EmptyNode(), self)

    def __repr__(self) -> str:
        return str(self._kind.__name__)


def set_fields(module: pax.Module, owner: type, state: Any) -> None:
    """Makes the fields of a named tuple attributes of a module.

    Args:
        module: the module, which may change now.
        owner: the class whose attributes keep their names.
        state: the named tuple.
    """
    for name, value in zip(_attributes(owner, type(state)), state, strict=True):
        setattr(module, name, to_modules(value))


def get_fields(module: pax.Module, owner: type, kind: Any) -> Any:
    """Returns the named tuple of class ``kind`` that :func:`set_fields` was given."""
    return kind._make(from_modules(getattr(module, name)) for name in _attributes(owner, kind))


def _attributes(owner: type, kind: Any) -> Iterator[str]:
    for field in kind._fields:
        name = field
        while hasattr(owner, name) or (name != field and name in kind._fields):
            name += "_"
        yield name


def to_modules(tree: Any) -> Any:
    """Returns ``tree`` with an :class:`OptaxState` for each outermost named tuple outside of modules."""
    return jax.tree.map(
        lambda node: OptaxState(node) if is_named_tuple(node) else node,
        tree,
        is_leaf=lambda node: is_named_tuple(node) or isinstance(node, pax.Module),
    )


def from_modules(tree: Any) -> Any:
    """Undoes :func:`to_modules`."""
    return jax.tree.map(
        lambda node: get_fields(node, OptaxState, node._kind) if isinstance(node, OptaxState) else node,
        tree,
        is_leaf=lambda node: isinstance(node, pax.Module),
    )


def as_arrays(tree: Any, apart_from: Any) -> Any:
    """Returns a state with a strongly typed array for each number in it, none of them at two places.

    Args:
        tree: the state. Leaves that are neither arrays nor numbers stay as they are.
        apart_from: arrays that must not be in it: a train step may donate the parameters and the optimizer, and no
            buffer can be donated twice.
    """
    seen = {id(leaf) for leaf in jax.tree.leaves(apart_from)}

    def convert(leaf: Any) -> Any:
        if not _is_number(leaf):
            return leaf
        result = _strong(leaf, None)
        if id(result) in seen:
            result = jnp.copy(result)
        seen.add(id(result))
        return result

    return jax.tree.map(convert, tree)


def keep_kinds(new: Iterable[Any], old: Iterable[Any]) -> list[Any]:
    """Returns the leaves of a state with the dtypes of another one, strongly typed."""
    return [_strong(x, jnp.result_type(y)) if _is_number(y) else x for x, y in zip(new, old, strict=True)]


def in_dtypes_of_state(tree: Any, state_dtype: DTypeLike | None = None) -> Any:
    """Returns a tree of arrays in the dtypes of state: by default, half precision becomes float32."""
    leaves, structure = jax.tree.flatten(tree)
    cast = [_strong(leaf, state_dtype_of(leaf, state_dtype)) if _is_number(leaf) else leaf for leaf in leaves]
    return tree if all(x is y for x, y in zip(cast, leaves, strict=True)) else jax.tree.unflatten(structure, cast)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)


def _strong(leaf: Any, dtype: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and (dtype is None or leaf.dtype == dtype) and not _is_weak(leaf):
        return leaf
    return jnp.asarray(leaf, jnp.result_type(leaf) if dtype is None else dtype)


def _is_weak(array: jax.Array) -> bool:
    return bool(getattr(array, "weak_type", False))  # arrays of keys do not tell


@contextmanager
def implicit_promotion() -> Iterator[None]:
    """The mode that optax's code is written for: it mixes dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
