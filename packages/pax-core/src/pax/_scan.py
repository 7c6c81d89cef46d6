"""``scan``: ``jax.lax.scan`` that can take the batch axis first."""

from collections.abc import Callable
from typing import Any

import jax

from pax._errors import ArgumentError
from pax._paths import describe, path_text


def _swap(tree: Any, what: str) -> Any:
    """Swaps the first two axes of every leaf."""

    def swap(path: Any, leaf: Any) -> Any:
        if jax.numpy.ndim(leaf) < 2:
            raise ArgumentError(
                "With `time_major=False` every array needs a batch and a time axis.",
                where=f"{what}{f', {path_text(path)}' if path else ''}",
                got=describe(leaf),
                want="[batch, time, ...] for xs; one value [batch, ...] a step for ys",
                fix="use time_major=True, or add a batch axis: x[None]",
            )
        return jax.numpy.swapaxes(leaf, 0, 1)

    return jax.tree_util.tree_map_with_path(swap, tree)


def scan(
    func: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None = None,
    unroll: int | bool = 1,
    time_major: bool = True,
) -> tuple[Any, Any]:
    """Scans a function over an axis, carrying a state: :func:`jax.lax.scan`.

    Args:
        func: ``func(carry, x)`` returns ``(carry, y)``; modules in it change by :func:`pax.purecall` only.
        init: the first carry, any pytree; its structure, shapes and dtypes stay the same.
        xs: a pytree of arrays ``[time, ...]``, or ``[batch, time, ...]`` with ``time_major=False``; or ``None``.
        length: the number of steps; needed only if ``xs`` is ``None``.
        unroll: how many steps to unroll in one iteration of the loop.
        time_major: ``False`` swaps the first two axes of every array of ``xs`` before, and of ``ys`` after the scan.
            The carry is not touched.

    Returns:
        ``(carry, ys)``.

    Raises:
        ArgumentError: with ``time_major=False``, an array of ``xs`` or ``ys`` has fewer than two dimensions.
    """
    if time_major:
        return jax.lax.scan(func, init, xs, length=length, unroll=unroll)
    swapped = None if xs is None else _swap(xs, "xs")
    carry, ys = jax.lax.scan(func, init, swapped, length=length, unroll=unroll)
    return carry, _swap(ys, "ys")
