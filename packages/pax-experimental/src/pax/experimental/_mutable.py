"""`mutable`: change a copy of a module in a `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pax
from pax.errors import ArgumentTypeError
from pax.extend import describe, modules_in, mutation_session

M = TypeVar("M", bound=pax.Module)


@contextmanager
def mutable(module: M) -> Iterator[M]:
    """Gives a copy of a module that may be changed inside the ``with`` block.

    The copy and the submodules it has on entry can be changed in the block, in this thread and outside of deeper JAX
    transformations. The rules are those of `pax.pure`: submodules assigned in the block, further copies, and the
    modules of an outer ``mutable`` block are immutable. The module passed in never changes, and after the block the
    copy is immutable, too.

    Args:
        module: the module to copy.

    Yields:
        The copy: new modules and containers, the same arrays.

    Raises:
        ArgumentTypeError: ``module`` is not a module.
        SharedNodeError: at the end of the block the copy holds an array or a module twice. An exception raised in the
            block is passed on instead, without this check.

    Example:
        >>> import jax.numpy as jnp
        >>> class Scale(pax.ParameterModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = jnp.ones(2)
        >>> scale = Scale()
        >>> with mutable(scale) as doubled:
        ...     doubled.factor = 2 * doubled.factor
        >>> print(scale.factor, doubled.factor)
        [1. 1.] [2. 2.]
    """
    if not isinstance(module, pax.Module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            where="pax.experimental.mutable, argument `module`",
            got=describe(module),
            want="an instance of pax.Module",
            fix="with pax.experimental.mutable(net) as net: ...",
        )
    copy = module.copy()
    with mutation_session(modules_in(copy)):
        yield copy
    copy.scan_bugs()
