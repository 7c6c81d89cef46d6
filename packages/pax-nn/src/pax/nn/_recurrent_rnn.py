"""A cell applied to each step of a sequence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Num

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._recurrent_cells import Cell, check_cell
from pax.nn._recurrent_scan import scan_cell


class RNN(Module):
    """Runs a recurrent cell over a sequence.

    ``state, y[t] = cell(state, x[t])`` for each step ``t``, by ``jax.lax.scan``: time to trace and compile does not
    depend on the length. The cell is any module with ``cell(state, x) -> (state, output)`` and
    ``initial_state(batch_size)``, for example :class:`LSTM`, :class:`GRU`, :class:`VanillaRNN` or
    :class:`StackedCells`. It may change in its steps (a cell with dropout does, in train mode): the changes are kept,
    and a call then needs ``pax.purecall``.

    Examples of different lengths in one batch are given with ``lengths`` or ``mask``. A step that is no part of the
    sequence holds the state, and its output is zero; what stands in the input there has no effect on anything. So the
    final state of each example is that after its last valid step, or in reverse, after its first.

    Shapes:
        input: ``(*batch, time, features)``, or ``(time, *batch, features)`` with ``time_major``; any number of batch
            axes, none included.
        output: the same axes with the features of the cell's output. With ``reverse``, too, the output at ``t`` belongs
            to the input at ``t``.
    Parameters:
        those of ``cell``.
    State:
        that of ``cell``; the recurrent state is an argument and, with ``return_state``, a result.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> rnn = pax.nn.RNN(pax.nn.LSTM(3, 5))
    >>> rnn(jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    >>> state, y = rnn(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]), return_state=True)
    >>> state.hidden.shape, bool((y[1, 4:] == 0).all()), bool((state.hidden[1] == y[1, 3]).all())
    ((2, 5), True, True)
    """

    cell: Any
    time_major: bool
    reverse: bool
    return_state: bool
    num_feature_axes: int
    unroll: int | bool
    remat: bool

    def __init__(
        self,
        cell: Cell,
        *,
        time_major: bool = False,
        reverse: bool = False,
        return_state: bool = False,
        num_feature_axes: int = 1,
        unroll: int | bool = 1,
        remat: bool = False,
        name: str | None = None,
    ) -> None:
        """Takes a cell; it draws nothing.

        Args:
            cell: the module that computes one step.
            time_major: whether the time axis of inputs, outputs and masks is the first one; else it follows the batch
                axes.
            reverse: whether to go from the end of the sequence to its start.
            return_state: whether a call returns ``(state, outputs)``, as cells do, instead of the outputs alone, as
                layers in a :class:`Sequential` do.
            num_feature_axes: number of axes of the input of one step behind the batch axes, for cells on images, say.
            unroll: number of steps in one round of the compiled loop, at least 1; ``True`` for all. More of them run
                faster and take longer to compile.
            remat: whether the backward pass computes each step again from its state instead of storing what happened
                in it: less memory for long sequences, more time.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: ``cell`` is no recurrent cell, or a number is no integer.
            ArgumentError: a number smaller than 1.
        """
        super().__init__(name=name)
        check_cell(cell, what="cell", where="RNN")
        self.cell = cell
        self.time_major = time_major
        self.reverse = reverse
        self.return_state = return_state
        self.num_feature_axes = positive_int(num_feature_axes, what="num_feature_axes", where="RNN")
        self.unroll = unroll if isinstance(unroll, bool) else positive_int(unroll, what="unroll", where="RNN")
        self.remat = remat

    def __call__(
        self,
        x: Num[AnyArray, "*axes features"],
        state: Any = None,
        *,
        lengths: Int[AnyArray, "*batch"] | None = None,
        mask: Bool[AnyArray, "*batch_and_time"] | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Applies the cell to each step.

        Args:
            x: the sequences.
            state: the state before the first step; default: ``cell.initial_state``, called with an integer if there is
                one batch axis, else with a tuple of the batch axes.
            lengths: number of valid steps of each example, ``(*batch,)``, integers in [0, time]; default: all.
            mask: which steps are valid, booleans with the batch and time axes of ``x``; instead of ``lengths``.
            return_state: overrides that of the constructor.

        Returns:
            The outputs of all steps, or ``(final state, outputs)``.

        Raises:
            ArgumentError: ``x`` has too few axes, or ``lengths`` or ``mask`` do not fit it, or both are given.
            ArgumentTypeError: ``lengths`` are no integers, ``mask`` are no booleans, or the cell returns no pair.
            StructureError: the cell changes the structure, a shape or a dtype of the state.
            MutationError: the cell changes in a step, outside of ``pax.purecall`` or ``pax.pure``.
        """
        x = as_array(x, module=self)
        if x.ndim < 1 + self.num_feature_axes:
            raise ArgumentError(
                f"Expecting an input with at least {1 + self.num_feature_axes} axes. Get {x.ndim} axes.",
                module=self,
                got=describe(x),
                want="(time, *batch, *features)" if self.time_major else "(*batch, time, *features)",
                fix="x[None]   # one step",
            )
        time_axis = 0 if self.time_major else x.ndim - 1 - self.num_feature_axes
        steps = jnp.moveaxis(x, time_axis, 0)
        batch = steps.shape[1 : x.ndim - self.num_feature_axes]
        self._check_features(x, batch, lengths, mask)
        valid = self._valid_steps(steps, batch, lengths, mask)
        if valid is not None:
            # Also in the backward pass: 0 times the derivative at a NaN would be NaN.
            present = jnp.expand_dims(valid, tuple(range(valid.ndim, x.ndim)))
            steps = jnp.where(present, steps, jnp.zeros_like(steps))
        if state is not None:
            check_no_lengths(state, self.cell, batch, module=self)
        else:
            state = self.cell.initial_state(batch[0] if len(batch) == 1 else batch)
        cell, state, ys = scan_cell(
            self.cell, state, steps, batch, valid, reverse=self.reverse, unroll=self.unroll, remat=self.remat
        )
        if cell is not self.cell:
            self.cell = cell
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, time_axis), ys)
        wanted = self.return_state if return_state is None else return_state
        return (state, ys) if wanted else ys

    def _check_features(self, x: jax.Array, batch: tuple[int, ...], lengths: Any, mask: Any) -> None:
        """Refuses an input whose last axis is that of the time, as far as this can be told."""
        without = x.shape[1:] if self.time_major else x.shape[:-1]
        masked = (lengths is not None and np.shape(lengths) == without != batch) or (
            mask is not None and np.shape(mask) == x.shape
        )
        size = getattr(self.cell, "input_dim", None)
        is_index = jnp.issubdtype(x.dtype, jnp.integer)
        numbers = is_index and x.ndim == 2 and isinstance(size, int) and x.shape[-1] != size
        if self.num_feature_axes == 1 and (masked or numbers):
            raise ArgumentError(
                "Expecting an input with an axis of features.",
                module=self,
                got=describe(x),
                want="(time, *batch, features)" if self.time_major else "(*batch, time, features)",
                fix="pax.nn.Embed(vocab_size, input_dim)(x)   # makes features of the numbers of tokens"
                if is_index
                else "x[..., None]   # one feature",
            )

    def _valid_steps(
        self, steps: jax.Array, batch: tuple[int, ...], lengths: AnyArray | None, mask: AnyArray | None
    ) -> jax.Array | None:
        """Returns booleans ``(time, *batch)``, or ``None`` if all steps are valid."""
        if lengths is not None and mask is not None:
            raise ArgumentError(
                "Expecting `lengths` or `mask`, not both.", module=self, fix="mask = mask & (time < lengths[:, None])"
            )
        if lengths is not None:
            lengths = as_array(lengths, module=self)
            self._check_option(lengths, batch, jnp.integer, "lengths", "integers")
            if not is_tracer(lengths):
                self._check_range(np.asarray(lengths), steps.shape[0])
            time = jnp.arange(steps.shape[0], dtype=jnp.int32)
            return jnp.expand_dims(time, range(1, 1 + len(batch))) < lengths.astype(jnp.int32)[None]
        if mask is None:
            return None
        mask = as_array(mask, module=self)
        shape = (steps.shape[0], *batch) if self.time_major else (*batch, steps.shape[0])
        self._check_option(mask, shape, jnp.bool_, "mask", "booleans")
        return mask if self.time_major else jnp.moveaxis(mask, -1, 0)

    def _check_option(self, array: jax.Array, shape: tuple[int, ...], kind: Any, what: str, kinds: str) -> None:
        want = f"{kinds} of the shape {shape}"
        if not jnp.issubdtype(array.dtype, kind):
            raise ArgumentTypeError(
                f"Expecting {kinds} for `{what}`.", module=self, where=what, got=describe(array), want=want
            )
        if array.shape != shape:
            raise ArgumentError(
                f"Expecting `{what}` to fit the input.", module=self, where=what, got=describe(array), want=want
            )

    def _check_range(self, lengths: np.ndarray, num_steps: int) -> None:
        if lengths.size and (lengths.min() < 0 or lengths.max() > num_steps):
            raise ArgumentError(
                "Expecting lengths between 0 and the number of steps.",
                module=self,
                where="lengths",
                got=f"lengths between {lengths.min()} and {lengths.max()}",
                want=f"integers in [0, {num_steps}]",
            )

    def __repr__(self) -> str:
        options = {"time_major": self.time_major, "reverse": self.reverse}
        return self._repr({name: True for name, value in options.items() if value} or None)


def check_no_lengths(state: Any, cell: Any, batch: tuple[int, ...] | None, *, module: Any) -> None:
    """Refuses lengths in the place of the state.

    Args:
        state: what was given as the state.
        cell: the cell, whose states could be such numbers, too; ``None``: they cannot.
        batch: the sizes of the batch axes, which lengths have; ``None``: whatever they are.
        module: the layer, for the error text.

    Raises:
        ArgumentTypeError: ``state`` is an array of integers, and states of the cell are not.
    """
    if not isinstance(state, jax.Array | np.ndarray) or not jnp.issubdtype(state.dtype, jnp.integer):
        return
    if batch is not None and state.shape != batch:
        return
    if cell is not None:
        usual = cell.initial_state(batch[0] if batch is not None and len(batch) == 1 else batch)
        if isinstance(usual, jax.Array | np.ndarray) and jnp.issubdtype(usual.dtype, jnp.integer):
            return
    raise ArgumentTypeError(
        "Expecting a state. Get integers, as for `lengths`.",
        module=module,
        where="state",
        got=describe(state),
        want="a state of the cell" if cell is not None else "a tuple of two states",
        fix="rnn(x, lengths=lengths)",
    )
