"""``Recurrent`` and ``RecurrentRng``: a layer that is applied to each step of a sequence."""

from typing import Any

import jax
import jax.numpy as jnp

import pax
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.experimental.mlax._module import Axes, Module
from pax.experimental.mlax.nn._arguments import positive
from pax.experimental.mlax.nn._children import as_layer, call_layer, needs_key
from pax.extend import check_key, describe, modules_in


class _Scanned(Module):
    """What both have: the loop.

    Args:
        cell: a layer that maps ``(x, hidden)`` to ``(y, hidden)``.
        reverse: go through the sequence from its end.
        unroll: how many steps of the loop are unrolled.

    Raises:
        ArgumentTypeError: ``cell`` is no layer, or ``unroll`` no integer.
        ArgumentError: ``unroll`` is smaller than 1.
    """

    def __init__(self, cell: Any, reverse: bool = False, unroll: int = 1) -> None:
        super().__init__()
        where = f"mlax.nn.{type(self).__name__}"
        self.cell = as_layer(cell, where=where)
        self.reverse = bool(reverse)
        self.unroll = positive(unroll, what="unroll", where=where)

    def setup(self, x: Any) -> None:
        """Does nothing: the cell is set up by the first step."""

    def _loop(self, x: Any, rng: Any, inference_mode: bool, batch_axis_name: Axes) -> tuple[Any, Any]:
        xs, hidden = self._sequence(x)
        length = _length(xs, self)
        rng = None if rng is None or not needs_key(self.cell) else check_key(rng)

        def step(cell: Any, hidden: Any, number: Any, x: Any) -> tuple[Any, Any, Any]:
            key = None if rng is None else jax.random.fold_in(rng, number)
            output, cell = call_layer(cell, (x, hidden), key, inference_mode, batch_axis_name)
            if not isinstance(output, tuple | list) or len(output) != 2:
                raise ArgumentError(
                    "A cell has to return (y, hidden).", got=describe(output), want="a tuple of two", module=self
                )
            return cell, *output

        def scanned(carry: Any, number_and_x: Any) -> tuple[Any, Any]:
            cell, y, hidden = step(*carry, *number_and_x)
            _check_carry(carry, (cell, hidden), self)
            return (cell, hidden), y

        # Numbers count the steps in the order of processing.
        numbers = jnp.arange(length)[::-1] if self.reverse else jnp.arange(length)
        first = None
        cell = self.cell
        if not all(m.initialized for m in modules_in(cell) if isinstance(m, Module)):
            if not length:
                raise ArgumentError(
                    "A sequence without steps cannot initialize the cell.",
                    got="arrays whose first axis has the size 0",
                    want="at least one step in the first call",
                    module=self,
                )
            # Its structure changes in this step, so it cannot be one of the loop.
            start = length - 1 if self.reverse else 0
            before = hidden
            cell, first, hidden = step(cell, hidden, 0, jax.tree.map(lambda leaf: leaf[start], xs))
            _check_hidden(before, hidden, self)
            others = slice(0, -1) if self.reverse else slice(1, None)
            numbers, xs = jax.tree.map(lambda leaf: leaf[others], (numbers, xs))
        if first is None or length > 1:
            (self.cell, hidden), ys = jax.lax.scan(
                scanned, (cell, hidden), (numbers, xs), reverse=self.reverse, unroll=self.unroll
            )
        else:
            self.cell, ys = cell, jax.tree.map(lambda leaf: jnp.zeros((0, *jnp.shape(leaf)), leaf.dtype), first)
        if first is not None:
            ys = jax.tree.map(
                lambda y, more: jnp.concatenate([more, y[None]] if self.reverse else [y[None], more]), first, ys
            )
        return ys, hidden

    def _sequence(self, x: Any) -> tuple[Any, Any]:
        if not isinstance(x, tuple | list) or len(x) != 2:
            raise ArgumentTypeError(
                "Expecting a sequence and a hidden state.",
                got=describe(x),
                want="a tuple (xs, hidden)",
                fix="(ys, hidden), net = net((xs, hidden), None)",
                module=self,
            )
        return jax.tree.map(jnp.asarray, tuple(x))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return self._repr({"reverse": self.reverse, "unroll": self.unroll})


class Recurrent(_Scanned):
    """Applies a cell to each step of a sequence. The cell gets no key: see `RecurrentRng`.

    The input is ``(xs, hidden)``; arrays of ``xs`` have the steps as their first axis. The output is ``(ys, hidden)``,
    with the last hidden state. ``ys`` are in the order of ``xs``, also if the loop runs in reverse. Parameters that the
    cell changes go from step to step.

    Args:
        cell: a layer that maps ``(x, hidden)`` to ``(y, hidden)``; shapes and dtypes of ``hidden`` stay the same.
        reverse: go through the sequence from its end.
        unroll: how many steps of the loop are unrolled, at least 1.

    Raises:
        ArgumentTypeError: ``cell`` is no layer, or ``unroll`` no integer.
        ArgumentError: ``unroll`` is smaller than 1.

    >>> import jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import F, Recurrent
    >>> sums = Recurrent(F(lambda x_and_sum: (sum(x_and_sum), sum(x_and_sum))))
    >>> sums((jnp.arange(4.0), 0.0), None)[0]
    (Array([0., 1., 3., 6.], dtype=float32), Array(6., dtype=float32))
    """

    def forward(
        self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()
    ) -> tuple[Any, Any]:
        """Returns ``(ys, hidden)``.

        Args:
            x: ``(xs, hidden)``.
            rng: not used.
            inference_mode: handed on.
            batch_axis_name: handed on.

        Raises:
            ArgumentTypeError: the input is no such pair, or the arrays of ``xs`` have different lengths.
            ArgumentError: the cell does not return ``(y, hidden)``, or changes the shape or dtype of ``hidden``; or
                there is no step, and the cell is not initialized.
            StructureError: the cell changes its own structure.
        """
        return self._loop(x, None, inference_mode, batch_axis_name)


class RecurrentRng(_Scanned):
    """Applies a cell to each step of a sequence: `Recurrent` with a key for each step.

    The step that is processed as number t, from 0, gets ``jax.random.fold_in(rng, t)``.

    Args:
        cell: as in `Recurrent`.
        reverse: go through the sequence from its end.
        unroll: how many steps of the loop are unrolled, at least 1.

    Raises:
        ArgumentTypeError: ``cell`` is no layer, or ``unroll`` no integer.
        ArgumentError: ``unroll`` is smaller than 1.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import FRng, RecurrentRng
    >>> walk = RecurrentRng(FRng(lambda xh, rng: (xh[1], xh[0] + xh[1] + jax.random.normal(rng))))
    >>> (path, end), walk = walk((jnp.zeros(3), 0.0), jax.random.key(0))
    >>> path.shape, bool(path[1] == jax.random.normal(jax.random.fold_in(jax.random.key(0), 0)))
    ((3,), True)
    """

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Axes = ()) -> tuple[Any, Any]:
        """Returns ``(ys, hidden)``.

        Args:
            x: ``(xs, hidden)``.
            rng: a key; ``None`` if the cell can do without.
            inference_mode: handed on.
            batch_axis_name: handed on.

        Raises:
            ArgumentTypeError: the input is no such pair, or the arrays of ``xs`` have different lengths.
            ArgumentError: the cell does not return ``(y, hidden)``, or changes the shape or dtype of ``hidden``; or
                there is no step, and the cell is not initialized.
            StructureError: the cell changes its own structure.
        """
        return self._loop(x, rng, inference_mode, batch_axis_name)


def _length(xs: Any, module: Any) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(xs)]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ArgumentTypeError(
            "Expecting sequences of one length.",
            got=", ".join(map(str, shapes)) or "no array",
            want="arrays whose first axis are the steps",
            module=module,
        )
    return int(shapes[0][0])


def _check_carry(old: Any, new: Any, module: Any) -> None:
    """Checks that the cell and its hidden state can go into the next step."""
    try:
        pax.assert_structure_equal(new[0], old[0])
    except StructureError as error:
        raise StructureError(
            "A cell must not change its structure from step to step.", got=error.got, want=error.want, module=module
        ) from None
    _check_hidden(old[1], new[1], module)


def _check_hidden(old: Any, new: Any, module: Any) -> None:
    before, after = _kinds(old), _kinds(new)
    if before != after:
        raise ArgumentError(
            "The hidden state must keep its structure, shapes and dtypes.",
            got=f"after a step {', '.join(after[0])}",
            want=", ".join(before[0]),
            module=module,
        )


def _kinds(hidden: Any) -> tuple[list[str], Any]:
    leaves, structure = jax.tree.flatten(hidden)
    return [describe(jnp.asarray(leaf)) for leaf in leaves], structure
