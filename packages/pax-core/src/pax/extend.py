"""Hooks for libraries built on PAX: what is needed to write things like :func:`pax.pure` outside of it.

User programs do not need them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax.tree_util as jtu

from pax._checks import walk
from pax._classify import is_module as is_module
from pax._freezing import FLAG
from pax._jax_compat import is_tracer as is_tracer
from pax._mutation import Session, session_of
from pax._node import is_exposed, seal_node
from pax._paths import describe as describe
from pax._random import check_key as check_key
from pax._selection import Selector as Selector
from pax._selection import select as select
from pax._twins import Twin as Twin
from pax._twins import with_class as with_class
from pax._variants import variant_class as variant_class
from pax._variants import variant_of as variant_of

__all__ = [
    "Selector",
    "Twin",
    "check_key",
    "describe",
    "frozen_paths",
    "is_module",
    "is_mutable",
    "is_tracer",
    "join_session",
    "modules_in",
    "mutation_session",
    "select",
    "variant_class",
    "variant_of",
    "with_class",
]


@contextmanager
def mutation_session(modules: Iterable[Any]) -> Iterator[Session]:
    """Lets the given modules, and no others, change inside the block, in this thread and under the current JAX trace.

    The modules should be copies that nobody else holds. When the block ends without an error they are classified anew.

    Args:
        modules: the modules themselves; see :func:`modules_in` for those below them.

    Yields:
        The session; ``session.add(module)`` lets one more module change.
    """
    members = list(modules)
    session = Session(members, roots=members)
    with session:
        yield session
    for module in members:
        if is_exposed(module):
            seal_node(module)


def is_mutable(module: Any) -> bool:
    """Whether ``module`` may change right now, in this thread and under the current JAX trace."""
    return session_of(module) is not None


def modules_in(tree: Any) -> list[Any]:
    """Returns all modules of a pytree, parents before their submodules."""
    return walk(tree)[0]


def join_session(owner: Any, tree: Any) -> Any:
    """Lets modules that are about to become part of ``owner`` change as long as ``owner`` may.

    Without it a module that is assigned while a session is open can be changed in the next session only.

    Args:
        owner: a module that may change right now; else nothing joins.
        tree: a pytree with modules, such as one layer or a list of layers.

    Returns:
        ``tree`` with copies of its modules, to be assigned to an attribute of ``owner``. It is these that may change:
        whoever holds the modules that were passed in never sees a change.
    """
    copies = jtu.tree_map(lambda node: node.copy() if is_module(node) else node, tree, is_leaf=is_module)
    session = session_of(owner)
    if session is not None:
        for module in modules_in(copies):
            session.add(module)
    return copies


def frozen_paths(module: Any) -> tuple[str, ...] | Literal[True]:
    """Returns which own arrays of ``module`` are frozen by :func:`pax.freeze_parameters`.

    Args:
        module: a module; those below it have their own answers.

    Returns:
        ``True`` for all; else their paths from the module, such as ``"layers[0]"``.
    """
    flag: tuple[str, ...] | Literal[True] = vars(module).get(FLAG) or ()
    return flag
