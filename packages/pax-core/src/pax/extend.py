"""Hooks for libraries built on PAX: what is needed to write things like :func:`pax.pure` outside of it.

User programs do not need them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pax._checks import walk
from pax._jax_compat import is_tracer as is_tracer
from pax._mutation import Session, session_of
from pax._node import is_exposed, seal_node
from pax._paths import describe as describe
from pax._random import check_key as check_key
from pax._selection import Selector as Selector
from pax._selection import select as select

__all__ = ["Selector", "check_key", "describe", "is_mutable", "is_tracer", "modules_in", "mutation_session", "select"]


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
