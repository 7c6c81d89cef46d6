"""Which leaves of the parameters a transformation is for, by the selectors of ``pax.partition``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

import pax
from opax._by_value import by_value
from opax._factory import Factory
from opax._transformation import GradientTransformation
from pax.errors import ArgumentTypeError, SelectorError, StructureError
from pax.extend import Selector, describe, select

# A chain with `flatten=True` hands lists of leaves to its transformations; selectors still speak of the tree.
_named: ContextVar[tuple[Any, Any] | None] = ContextVar("_named", default=None)


@contextmanager
def naming(given: Any, tree: Any) -> Iterator[None]:
    """Makes ``tree`` what selectors look at when they are given ``given``, inside the block."""
    token = _named.set((given, tree))
    try:
        yield
    finally:
        _named.reset(token)


@contextmanager
def as_leaves(params: Any) -> Iterator[list[Any]]:
    """Gives the leaves of ``params`` as a list for which :func:`selected` still knows the tree, inside the block."""
    leaves = jax.tree.leaves(params)
    with naming(leaves, tree_of(params)):
        yield leaves


@contextmanager
def part_of(params: Any, mask: Sequence[bool]) -> Iterator[Any]:
    """Gives ``params`` with empty nodes where ``mask`` is false; see :func:`as_leaves`."""
    part = keep(params, mask)
    tree = tree_of(params)
    with naming(part, part if tree is params else keep(tree, mask)):
        yield part


def tree_of(params: Any) -> Any:
    """Returns the tree of which ``params`` are the leaves, in a block of :func:`as_leaves`, else ``params``."""
    named = _named.get()
    return named[1] if named is not None and named[0] is params else params


def check_selector(selector: Any, *, where: str) -> None:
    """Refuses a transformation in the place of a selector, as which its factory would be a predicate.

    Raises:
        ArgumentTypeError: it is one.
    """
    if isinstance(selector, Factory | GradientTransformation) or (
        isinstance(selector, type) and issubclass(selector, GradientTransformation)
    ):
        raise ArgumentTypeError(
            "Expecting a selector in the place of this transformation.",
            where=where,
            got=repr(selector),
            want='what pax.partition takes: a pattern as "encoder/**", a module class, a predicate, or a tree of bools',
            fix='opax.masked(opax.adam(1e-3), "encoder/**")   or   opax.partition(("encoder/**", opax.adam(1e-3)))',
        )


def comparable(selector: Selector) -> Selector:
    """Returns a selector that compares by value if it is a predicate; others do."""
    if callable(selector) and not isinstance(selector, pax.Module):
        return by_value(
            selector, fix='select by a pattern such as "encoder/**", or define the predicate at module level'
        )
    return selector


def selected(params: Any, selector: Selector, *, where: str) -> tuple[bool, ...]:
    """Returns for each leaf of ``params`` whether it is selected; of no leaves, none need be.

    Args:
        params: the tree of parameters, or its leaves; see :func:`as_leaves`.
        selector: what :func:`pax.filter` takes.
        where: who asks.

    Raises:
        SelectorError: none is; the message lists the leaves there are.
        ArgumentTypeError: ``selector`` is none.
    """
    tree = tree_of(params)
    if not jax.tree.leaves(tree):
        return ()
    try:
        return tuple(select(tree, selector))
    except (SelectorError, ArgumentTypeError, StructureError) as error:
        error.where = where
        raise


def keep(tree: Any, mask: Sequence[bool]) -> Any:
    """Returns ``tree`` with an ``EmptyNode`` in place of each leaf for which ``mask`` is false."""
    leaves, structure = jax.tree.flatten(tree)
    kept = [leaf if flag else pax.EmptyNode() for leaf, flag in zip(leaves, mask, strict=True)]
    return jax.tree.unflatten(structure, kept)


def put_back(part: Any, tree: Any, mask: Sequence[bool], *, module: GradientTransformation) -> Any:
    """Returns ``tree`` with the leaves of ``part`` where ``mask`` is true: the inverse of :func:`keep`.

    Raises:
        StructureError: ``part``, which a transformation in ``module`` returned, has another number of leaves.
    """
    leaves, structure = jax.tree.flatten(tree)
    new = jax.tree.leaves(part)
    if len(new) != sum(mask):
        raise StructureError(
            "A transformation has to return as many updates as it gets.",
            module=module,
            got=f"{len(new)} updates",
            want=f"{sum(mask)}",
        )
    rest = iter(new)
    return jax.tree.unflatten(
        structure, [next(rest) if flag else leaf for leaf, flag in zip(leaves, mask, strict=True)]
    )


def leaf_paths(tree: Any) -> tuple[str, ...]:
    """Returns the path of each leaf, as ``encoder.layers[0].weight``."""
    return tuple(jax.tree_util.keystr(path).removeprefix(".") for path, _ in jax.tree.leaves_with_path(tree))


def check_leaves(tree: Any, paths: tuple[str, ...], *, what: str, module: GradientTransformation) -> None:
    """Checks that ``tree`` has its leaves where the parameters had them for which ``module`` was created.

    Args:
        tree: updates or parameters.
        paths: of the leaves at that time.
        what: the name of the tree.
        module: the transformation.

    Raises:
        StructureError: it has others.
    """
    found = leaf_paths(tree)
    if found == paths:
        return
    more, fewer = [path for path in found if path not in paths], [path for path in paths if path not in found]
    raise StructureError(
        f"The {what} have other leaves than the parameters for which the optimizer was created.",
        module=module,
        got=_list([f"also `{path}`" for path in more] + [f"no `{path}`" for path in fewer]) or "another order",
        want=f"{len(paths)} leaves: {_list([f'`{path}`' for path in paths], limit=5, between=', ')}",
        fix="create the optimizer anew after freezing, unfreezing or replacing a part of the model:\n"
        "optimizer = factory(model.parameters())",
    )


def _list(texts: Sequence[str], limit: int = 10, between: str = "\n") -> str:
    more = [f"… and {len(texts) - limit} more"] if len(texts) > limit else []
    return between.join([*texts[:limit], *more])


def describe_leaves(params: Any, mask: Sequence[bool]) -> str:
    """Lists the leaves for which ``mask`` is true, a line each: path, dtype and shape."""
    leaves = zip(jax.tree.leaves_with_path(tree_of(params)), mask, strict=True)
    return _list(
        [f"{jax.tree_util.keystr(path).removeprefix('.')}: {describe(x)}" for (path, x), flag in leaves if flag]
    )
