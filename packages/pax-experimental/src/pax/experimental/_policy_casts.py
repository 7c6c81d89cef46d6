"""Precision policies in a comparable form, and the casts that they stand for."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import jmp
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_module, is_tracer

Names = tuple[str, str, str]
"""The names of the dtypes of parameters, computation and output. Equal policies have equal names."""

_WANT = 'a jmp.Policy of floating dtypes, or its text, as "p=f32,c=f16,o=f32"'
_FIX = "jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.float16, output_dtype=jnp.float32)"
_ARRAYS = (jax.Array, np.ndarray)  # a union is slower
_ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None)})


class Dtypes(NamedTuple):
    """The dtypes that arrays are cast to."""

    param: np.dtype[Any]
    compute: np.dtype[Any]
    output: np.dtype[Any]


def policy_names(policy: Any, *, where: str) -> Names:
    """Returns the names of the dtypes of a policy.

    Args:
        policy: a policy of ``jmp``, with dtypes in any form, or a text that ``jmp.get_policy`` knows.
        where: the public function, for errors.

    Raises:
        ArgumentTypeError: it is neither.
        ArgumentError: the text is no policy, or a dtype is none, or is not floating.
    """
    where = f"{where}, argument `mp_policy`"
    if isinstance(policy, str):
        try:
            policy = jmp.get_policy(policy)
        except ValueError as error:
            raise ArgumentError(
                "This text is no mixed-precision policy.",
                where=where,
                got=repr(policy),
                want=_WANT,
                fix='mp_policy = "p=f32,c=f16,o=f32"  # the dtypes of parameters, computation and output',
                why=str(error),
            ) from error
    if not isinstance(policy, jmp.Policy):
        raise ArgumentTypeError(
            "Expecting a mixed-precision policy.", where=where, got=describe(policy), want=_WANT, fix=_FIX
        )
    param, compute, output = (
        _floating_name(getattr(policy, name), f"{where}, `{name}`")
        for name in ("param_dtype", "compute_dtype", "output_dtype")
    )
    return param, compute, output


def _floating_name(dtype: Any, where: str) -> str:
    try:
        if dtype is None:  # NumPy takes it for float64
            raise TypeError
        known = jnp.dtype(dtype)
    except TypeError:
        raise ArgumentError(
            "A mixed-precision policy needs dtypes.", where=where, got=describe(dtype), want=_WANT, fix=_FIX
        ) from None
    if not jnp.issubdtype(known, jnp.floating):
        raise ArgumentError(
            "A mixed-precision policy needs floating dtypes.",
            where=where,
            got=known.name,
            want=_WANT,
            fix=_FIX,
            why="only floating arrays are cast; integers, bools, complex numbers and keys stay as they are",
        )
    return str(known.name)


@functools.cache
def policy_of(names: Names) -> jmp.Policy:
    """Returns the policy with dtypes as ``jmp`` has them: scalar types of ``jax.numpy``."""
    return jmp.Policy(*(getattr(jnp, name, jnp.dtype(name).type) for name in names))


def policy_letters(names: Names) -> str:
    """Returns three letters for a ``repr``: F is full (32 or 64 bits), H half (16) and Q quarter (8 or fewer)."""
    sizes = [jnp.dtype(name).itemsize for name in names]
    return "".join("Q" if size < 2 else "H" if size == 2 else "F" for size in sizes)


def dtypes_of(names: Names) -> Dtypes:
    """Returns the dtypes of a policy as JAX has them at present: float64 is float32 unless 64 bits are enabled."""
    return _dtypes_of(names, bool(jax.config.read("jax_enable_x64")) if "float64" in names else False)


@functools.cache
def _dtypes_of(names: Names, wide: bool) -> Dtypes:
    return Dtypes(*(jnp.dtype("float32" if name == "float64" and not wide else name) for name in names))


@functools.cache
def is_floating(dtype: Any) -> bool:
    """Whether arrays of a dtype are cast."""
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array, or stands for one."""
    return isinstance(value, _ARRAYS)


def cast_array(array: Any, dtype: Any) -> Any:
    """Returns a floating array in another precision; any other array, and one that has it, as it is."""
    if array.dtype == dtype or not is_floating(array.dtype):
        return array
    return array.astype(dtype) if is_tracer(array) or isinstance(array, np.ndarray) else _convert(array, dtype)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _convert(array: jax.Array, dtype: Any) -> jax.Array:
    """Outside of ``jit``, this is a third of the time of ``array.astype``; inside, it leaves no trace."""
    return array.astype(dtype)


def cast(value: Any, dtype: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Casts the floating arrays of any value.

    Modules stay the very objects: what they hold follows their own policies, and they may have to change. So do
    containers in which nothing had to be cast.

    Args:
        value: a value.
        dtype: what to cast to.
        other: applied to what is neither an array nor a container.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if is_array(value):
        return cast_array(value, dtype)
    if kind is tuple or kind is list:
        items = [cast(item, dtype, other) for item in value]
        return value if _are_same(items, value) else kind(items)
    if kind is dict:  # not by JAX: it sorts the keys, and some cannot be sorted
        values = [cast(item, dtype, other) for item in value.values()]
        return value if _are_same(values, value.values()) else dict(zip(value, values, strict=True))
    if isinstance(value, pax.Module) or jtu.all_leaves((value,)):
        return value if other is None else other(value)
    children, structure = _one_level(value)
    items = [cast(child, dtype, other) for child in children]
    return value if _are_same(items, children) else jtu.tree_unflatten(structure, items)


def map_leaves(func: Callable[[Any], Any], value: Any) -> Any:
    """Applies a function to what is no container, modules included, in new containers.

    Unlike ``jax.tree.map`` this keeps the order of dictionaries: it decides in which order a method goes through a
    static one, of functions for example.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return kind([map_leaves(func, item) for item in value])
    if kind is dict:
        return {key: map_leaves(func, item) for key, item in value.items()}
    if kind in _ATOMS or is_array(value) or is_module(value) or jtu.all_leaves((value,)):
        return func(value)
    children, structure = _one_level(value)
    return jtu.tree_unflatten(structure, [map_leaves(func, child) for child in children])


def is_same_tree(one: Any, other: Any) -> bool:
    """Whether two values are equal containers, dictionaries in the same order, of the very same leaves and modules."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict and list(one) != list(other):
        return False
    if kind is dict or kind is list or kind is tuple:
        ones, others = (one.values(), other.values()) if kind is dict else (one, other)
        return len(one) == len(other) and all(map(is_same_tree, ones, others))
    if kind in _ATOMS or is_array(one) or is_module(one) or jtu.all_leaves((one,)):
        return one is other
    (children, structure), (others, other_structure) = _one_level(one), _one_level(other)
    return bool(structure == other_structure) and all(map(is_same_tree, children, others))


def _one_level(value: Any) -> tuple[list[Any], Any]:
    return jtu.tree_flatten(value, is_leaf=lambda node: node is not value)


def _are_same(items: Any, others: Any) -> bool:
    return all(a is b for a, b in zip(items, others, strict=True))
