"""``initialized`` and ``new_state`` for trees in which Parallax modules are among others."""

from typing import Any, TypeVar

import jax

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.parallax._declared import lacks_parameters
from pax.experimental.parallax._module import is_dialect, with_parameters, with_state
from pax.extend import check_key, describe, modules_in

T = TypeVar("T")


def initialized(tree: T, rng: jax.Array) -> T:
    """Returns a module or a container of modules with the parameters of all Parallax modules in it made.

    A container splits its key over its items; a plain PAX module splits its key over the nearest Parallax modules
    below it, in pytree order. Modules that are initialized stay as they are.

    Args:
        tree: for example a `pax.Sequential` with Parallax modules in it.
        rng: a key.

    Raises:
        ArgumentTypeError: there is no Parallax module in the tree.
        ArgumentError: all of them are initialized.

    >>> import jax, pax
    >>> from pax.experimental import parallax
    >>> net = pax.Sequential(parallax.Dense(3, 4), jax.nn.relu, pax.Linear(4, 1))
    >>> print(parallax.initialized(net, jax.random.key(0)).summary())
    Sequential
    ├── Dense(3, 4)
    ├── x => relu(x)
    └── Linear(in_dim=4, out_dim=1, with_bias=True)
    """
    check_key(rng)
    modules = _dialect_modules(tree, "initialized")
    if not any(map(lacks_parameters, modules)):
        raise ArgumentError(
            "All Parallax modules of this tree are already initialized.",
            where="pax.experimental.parallax.initialized",
            got=describe(tree),
            fix="call it on what was just built",
        )
    made: T = with_parameters(tree, rng)
    return made


def new_state(tree: T, rng: jax.Array, mode: str | None = None) -> T:
    """Returns a module or a container of modules with new keys, and perhaps another mode, in all Parallax modules.

    Keys are split as by :func:`initialized`, with one difference: the keys of plain PAX modules, of `pax.RngSeq` and
    `pax.Dropout` among others, count like Parallax modules, and are replaced, too; see :meth:`Module.new_state`.

    Args:
        tree: for example a `pax.Sequential` with Parallax modules in it.
        rng: a key.
        mode: "train", or any other text; plain PAX modules are set to training or evaluation mode. ``None`` leaves all
            modules in the mode they have.

    Raises:
        ArgumentTypeError: there is no Parallax module in the tree; or ``mode`` is no text.
        ArgumentError: ``mode`` is "train" misspelt, such as "Train" and "training".

    >>> import jax, pax
    >>> from pax.experimental import parallax
    >>> net = parallax.new_state(pax.Sequential(parallax.Dropout(0.5), pax.Dropout(0.5)), jax.random.key(0), "eval")
    >>> [layer.training for layer in net]
    [False, False]
    """
    check_key(rng)
    _dialect_modules(tree, "new_state")
    stateful: T = with_state(tree, rng, mode)
    return stateful


def _dialect_modules(tree: Any, function: str) -> list[Any]:
    modules = [module for module in modules_in(tree) if is_dialect(module)]
    if not modules:
        raise ArgumentTypeError(
            "There is no Parallax module in this.",
            where=f"pax.experimental.parallax.{function}",
            got=describe(tree),
            want="a module that is, or holds, a pax.experimental.parallax.Module",
        )
    return modules
