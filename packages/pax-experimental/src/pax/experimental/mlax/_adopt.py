"""Modules that are assigned while their owner may change: they become parts that may change, too.

Programs of this dialect write ``self.w = Parameter(True)`` and then ``self.w.data = ...``, in constructors and in
``setup``. So what is assigned joins the session of its owner, as a copy: whoever holds the original sees no change.
"""

import threading
import weakref
from typing import Any

import jax
import numpy as np

from pax.extend import is_module, is_mutable, join_session

_Copies = dict[int, tuple["weakref.ref[Any]", "weakref.ref[Any]"]]
_PLAIN = (jax.Array, np.ndarray, str, int, float, complex, bytes, type(None))


class _Local(threading.local):
    """The copies of this thread: by the id of the original, weak references to the original and its copy."""

    def __init__(self) -> None:
        self.copies: _Copies = {}


_local = _Local()


def adopt(owner: Any, value: Any) -> Any:
    """Returns what is to be assigned to an attribute of a module in place of ``value``.

    Args:
        owner: the module. If it is immutable, ``value`` is returned, and the assignment will be refused.
        value: any value; modules in it, also in containers, become copies that may change as long as ``owner`` may. A
            module that is assigned twice becomes one copy, so that sharing is found as in any other module.
    """
    if isinstance(value, _PLAIN) or not is_mutable(owner):
        return value
    leaves, structure = jax.tree.flatten(value, is_leaf=is_module)
    if not any(map(is_module, leaves)):
        return value
    return jax.tree.unflatten(structure, [_joined(owner, leaf) if is_module(leaf) else leaf for leaf in leaves])


def _joined(owner: Any, module: Any) -> Any:
    if is_mutable(module):
        return module
    copies, key = _local.copies, id(module)
    if key in copies:
        original, copied = (reference() for reference in copies[key])
        if original is module and copied is not None and is_mutable(copied):
            return copied
    copy = join_session(owner, module)
    copies[key] = weakref.ref(module, lambda dead: _forget(copies, key, dead)), weakref.ref(copy)
    return copy


def _forget(copies: _Copies, key: int, dead: Any) -> None:
    if key in copies and copies[key][0] is dead:
        del copies[key]
