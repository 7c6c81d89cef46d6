"""The loop of a recurrent network: a cell is called for each step of a sequence, by ``jax.lax.scan``."""

from typing import Any

import jax
import jax.numpy as jnp

import pax
from pax.errors import ArgumentError, ArgumentTypeError, PaxError, StructureError
from pax.extend import describe, modules_in


def scan_cell(
    cell: Any,
    state: Any,
    x: jax.Array,
    batch: tuple[int, ...],
    mask: jax.Array | None,
    *,
    reverse: bool,
    unroll: int | bool,
    remat: bool,
) -> tuple[Any, Any, Any]:
    """Runs a cell over the first axis of ``x``.

    Args:
        cell: the cell; it stays as it is.
        state: its state before the first step.
        x: ``(time, *batch, ...)``.
        batch: the sizes of the batch axes.
        mask: ``(time, *batch)``; where it is false the state is held, and the output is zero.
        reverse: whether to go from the last step to the first.
        unroll: as in ``jax.lax.scan``.
        remat: whether the backward pass computes each step again.

    Returns:
        ``(cell, state, outputs)``; the cell is the same object if no step changed it.
    """
    leaves = jax.tree.leaves(cell)
    state = jax.tree.map(jnp.asarray, state)
    changing = _probe(cell, state, x, batch, masked=mask is not None)

    def step(carry: tuple[list[Any], Any], inputs: tuple[jax.Array, jax.Array | None]) -> tuple[Any, Any]:
        changed, state = carry
        now, valid = inputs
        new_cell, (new_state, y) = pax.purecall(_with_leaves(cell, changing, changed), state, now)
        new_leaves = jax.tree.leaves(new_cell)
        if valid is not None:
            new_state = jax.tree.map(lambda new, old: jnp.where(_like(valid, new), new, old), new_state, state)
            y = jax.tree.map(lambda leaf: jnp.where(_like(valid, leaf), leaf, jnp.zeros_like(leaf)), y)
        return ([new_leaves[index] for index in changing], new_state), y

    if remat:
        step = jax.checkpoint(step, prevent_cse=False)  # the loop itself keeps XLA from merging the two computations
    carry = [leaves[index] for index in changing], state
    (changed, state), ys = jax.lax.scan(step, carry, (x, mask), reverse=reverse, unroll=unroll)
    return _with_leaves(cell, changing, changed) if changing else cell, state, ys


def _with_leaves(cell: Any, indices: list[int], values: list[Any]) -> Any:
    """Returns a copy of the cell with some of its leaves replaced."""
    leaves, structure = jax.tree.flatten(cell)
    for index, value in zip(indices, values, strict=True):
        leaves[index] = value
    return jax.tree.unflatten(structure, leaves)


def _like(valid: jax.Array, leaf: jax.Array) -> jax.Array:
    """Adds axes to ``valid`` until it has as many as ``leaf``."""
    return jnp.expand_dims(valid, tuple(range(valid.ndim, leaf.ndim)))


def _probe(cell: Any, state: Any, x: jax.Array, batch: tuple[int, ...], *, masked: bool) -> list[int]:
    """Traces one step, checks that it can be repeated, and finds out which leaves of the cell change.

    The others stay out of the carry of the scan: weights in there would be saved once for each step for the backward
    pass.

    Raises:
        ArgumentTypeError: the cell returns something else than a pair.
        StructureError: a step changes the structure, a shape or a dtype of the state or of the cell.
        ArgumentError: an array of the output, or with a mask of the state, does not begin with the batch axes.
    """
    changing: list[int] = []
    new_structure: Any = None

    def look(probed: Any, state: Any, now: jax.Array) -> Any:
        nonlocal new_structure
        before = jax.tree.leaves(probed)
        new_cell, result = _located_call(probed, state, now, cell)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ArgumentTypeError(
                "A cell has to return its new state and its output.",
                module=cell,
                got=describe(result),
                want="(new_state, output)",
            )
        new_state, y = result
        after, new_structure = jax.tree.flatten(new_cell)
        if len(after) == len(before):
            changing.extend(index for index, (a, b) in enumerate(zip(after, before, strict=True)) if a is not b)
        return new_state, y, [after[index] for index in changing], [before[index] for index in changing]

    new_state, y, after, before = jax.eval_shape(look, cell, state, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    if new_structure != jax.tree.structure(cell):
        raise StructureError("A step changes the structure of the cell.", module=cell, why=_WHY)
    _check_same(new_state, jax.eval_shape(lambda state: state, state), cell, "state")
    _check_same(after, before, cell, "arrays of the cell")
    if masked:
        _check_batch(new_state, batch, cell, "state")
    _check_batch(y, batch, cell, "output")
    return changing


def _located_call(probed: Any, state: Any, now: jax.Array, original: Any) -> tuple[Any, Any]:
    """Calls a copy of a cell; an error names the place in the original, which the caller knows."""

    @pax.pure
    def call(probed: Any, state: Any, now: jax.Array) -> tuple[Any, Any]:
        try:
            return probed, probed(state, now)
        except PaxError as error:
            for copy, module in zip(modules_in(probed), modules_in(original), strict=False):
                if error.module is copy:
                    error.module = module
                    break
            raise

    result: tuple[Any, Any] = call(probed, state, now)
    return result


_WHY = "the steps are computed by a loop, so that each has to get the same kind of things"


def _check_same(new: Any, old: Any, cell: Any, what: str) -> None:
    got: Any = jax.tree.structure(new)
    want: Any = jax.tree.structure(old)
    if got != want:
        headline = f"A step changes the structure of the {what}."
        raise StructureError(headline, module=cell, got=str(got), want=str(want), why=_WHY)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(old), strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise StructureError(
                f"A step changes the shape or the dtype of the {what}.",
                module=cell,
                where=f"{what}{jax.tree_util.keystr(path)}",
                got=describe(a),
                want=describe(b),
                fix="state = cell.initial_state(batch_size, dtype), or new_state.astype(state.dtype) in the cell"
                if a.shape == b.shape
                else None,
                why=_WHY,
            )


def _check_batch(tree: Any, batch: tuple[int, ...], cell: Any, what: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if leaf.shape[: len(batch)] != batch:
            raise ArgumentError(
                "The output of a cell has to begin with the batch axes."
                if what == "output"
                else "With `lengths` or `mask`, the arrays of a state have to begin with the batch axes.",
                module=cell,
                where=f"{what}{jax.tree_util.keystr(path)}",
                got=describe(leaf),
                want=f"({', '.join(map(str, batch))}, ...)",
            )
