"""Two recurrent networks on one sequence, in opposite directions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int, Num

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._dtypes import AnyArray, to_common_dtype
from pax.nn._recurrent_cells import Cell, check_cell
from pax.nn._recurrent_rnn import RNN, check_no_lengths

_MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": jnp.add,
    "mean": lambda a, b: (a + b) / 2,
    "product": jnp.multiply,
}


class Bidirectional(Module):
    """Runs one cell over a sequence from its start, another from its end, and merges their outputs.

    The output at each step knows the whole sequence. With ``lengths`` the second cell starts at the last valid step of
    each example.

    Shapes:
        input: ``(*batch, time, features)``, or ``(time, *batch, features)`` with ``time_major``.
        output: the same axes; with ``merge="concat"`` the features of the first cell's output, then those of the
            second's.
    Parameters:
        those of the cells in ``forward`` and ``backward``.
    State:
        that of the cells; the recurrent state, a tuple of those of the two cells, is an argument and, with
        ``return_state``, a result.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> rnn = pax.nn.Bidirectional(pax.nn.GRU(3, 5), pax.nn.GRU(3, 5))
    >>> rnn(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4])).shape
    (2, 7, 10)

    References:
        Schuster & Paliwal, "Bidirectional Recurrent Neural Networks", 1997, https://doi.org/10.1109/78.650093.
    """

    forward: RNN
    backward: RNN
    merge: str | None
    return_state: bool

    def __init__(
        self,
        forward_cell: Cell,
        backward_cell: Cell,
        merge: str | None = "concat",
        *,
        time_major: bool = False,
        return_state: bool = False,
        num_feature_axes: int = 1,
        unroll: int | bool = 1,
        remat: bool = False,
        name: str | None = None,
    ) -> None:
        """Takes two cells; it draws nothing.

        Args:
            forward_cell: the cell that goes from start to end.
            backward_cell: the cell that goes from end to start; another object than ``forward_cell``.
            merge: ``"concat"`` (along the last axis), ``"sum"``, ``"mean"``, ``"product"``, or ``None`` for a tuple of
                both outputs.
            time_major: as in :class:`RNN`.
            return_state: whether a call returns ``(states, outputs)`` instead of the outputs alone.
            num_feature_axes: as in :class:`RNN`.
            unroll: as in :class:`RNN`.
            remat: as in :class:`RNN`.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: a cell is none, or a number is no integer.
            ArgumentError: another value of ``merge``, or a number smaller than 1.
            SharedNodeError: the same cell is given twice.
        """
        super().__init__(name=name)
        check_cell(forward_cell, what="forward_cell", where="Bidirectional")
        check_cell(backward_cell, what="backward_cell", where="Bidirectional")
        if merge is not None and merge not in list(_MERGES):
            raise ArgumentError(
                "Expecting a known way to merge outputs for `merge`.",
                where="Bidirectional",
                got=f"merge={merge!r}",
                want=f"{', '.join(map(repr, _MERGES))} or None",
            )
        options: dict[str, Any] = {
            "time_major": time_major,
            "num_feature_axes": num_feature_axes,
            "unroll": unroll,
            "remat": remat,
        }
        self.forward = RNN(forward_cell, **options)
        self.backward = RNN(backward_cell, reverse=True, **options)
        self.merge = merge
        self.return_state = return_state

    def __call__(
        self,
        x: Num[AnyArray, "*axes features"],
        state: tuple[Any, Any] | None = None,
        *,
        lengths: Int[AnyArray, "*batch"] | None = None,
        mask: Bool[AnyArray, "*batch_and_time"] | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Applies both cells to each step.

        Args:
            x: the sequences.
            state: the first states of the two cells; default: zeros. The second one's comes before the *last* step.
            lengths: as in :class:`RNN`.
            mask: as in :class:`RNN`.
            return_state: overrides that of the constructor.

        Returns:
            The merged outputs, or ``((state of the first cell, state of the second cell), merged outputs)``.

        Raises:
            ArgumentTypeError: ``state`` is no tuple of two.
            PaxError: as in :class:`RNN`.
        """
        check_no_lengths(state, None, None, module=self)
        if state is not None and (type(state) is not tuple or len(state) != 2):
            raise ArgumentTypeError(
                "Expecting a tuple of two states.", module=self, where="state", got=describe(state), want="(a, b)"
            )
        options: dict[str, Any] = {"lengths": lengths, "mask": mask, "return_state": True}
        forward_state, ahead = self.forward(x, state and state[0], **options)
        backward_state, back = self.backward(x, state and state[1], **options)
        y = (ahead, back) if self.merge is None else _MERGES[self.merge](*to_common_dtype(ahead, back))
        wanted = self.return_state if return_state is None else return_state
        return ((forward_state, backward_state), y) if wanted else y

    def __repr__(self) -> str:
        return self._repr({"merge": self.merge, "time_major": self.forward.time_major or None})
