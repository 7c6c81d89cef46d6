"""Recurrent cells on top of each other, as one cell."""

from collections.abc import Sequence
from typing import Any

from jax.typing import DTypeLike

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._sequential import Layer, as_modules


class StackedCells(Module):
    """Makes one recurrent cell of several: in each step, the output of a layer is the input of the next.

    Between the cells there can be other modules and functions of one argument, for example :class:`Dropout`; they are
    called in each step.

    Shapes:
        input: a state and the input of the first layer.
        output: the new state and the output of the last layer.
    Parameters:
        those of the layers.
    State:
        that of the layers; the recurrent state, a tuple of the states of the cells from first to last, is an argument
        and a result.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> cell = pax.nn.StackedCells(pax.nn.LSTM(3, 5), jnp.tanh, pax.nn.GRU(5, 4))
    >>> states, y = pax.nn.RNN(cell)(jnp.ones((2, 7, 3)), return_state=True)
    >>> y.shape, [type(state).__name__ for state in states]
    ((2, 7, 4), ['LSTMState', 'GRUState'])
    """

    layers: tuple[Module, ...]

    def __init__(self, *layers: Layer, name: str | None = None) -> None:
        """Collects the layers.

        Args:
            *layers: modules or functions, in the order in which they are called; those with a method ``initial_state``
                are called as cells, ``layer(state, x)``, all others as ``layer(x)``. At least one is a cell.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: none of the layers is a cell.
            ArgumentTypeError: a layer is not callable.
            SharedNodeError: the same module is given twice.
        """
        super().__init__(name=name)
        self.layers = as_modules(layers, where=type(self).__name__)
        if not self._cells():
            raise ArgumentError(
                "Expecting at least one recurrent cell.",
                where="StackedCells",
                got=f"{len(layers)} layers without a method `initial_state`",
                fix="StackedCells(pax.nn.LSTM(input_dim, hidden_dim), ...)",
            )

    def initial_state(self, batch_size: int | Sequence[int], *, dtype: DTypeLike | None = None) -> tuple[Any, ...]:
        """Returns the states of the cells before the first step.

        Args:
            batch_size: number of examples; a tuple for several batch axes, ``()`` for none.
            dtype: dtype of the states; default: each cell's own.

        Returns:
            A tuple of ``cell.initial_state(batch_size)``; ``dtype`` is passed on if it is given.
        """
        options = {} if dtype is None else {"dtype": dtype}
        return tuple(layer.initial_state(batch_size, **options) for layer in self._cells())

    def __call__(self, state: tuple[Any, ...], x: Any) -> tuple[tuple[Any, ...], Any]:
        """Does one step.

        Args:
            state: the states of the cells after the last step.
            x: the input of the first layer.

        Returns:
            ``(new_state, output)``.

        Raises:
            ArgumentTypeError: ``state`` is no tuple with one state for each cell.
            MutationError: a layer changes, outside of ``pax.purecall`` or ``pax.pure``.
        """
        if type(state) is not tuple or len(state) != len(self._cells()):
            raise ArgumentTypeError(
                "Expecting a tuple with the state of each cell.",
                module=self,
                got=describe(state),
                want=f"a tuple of {len(self._cells())}",
                fix="state = cell.initial_state(batch_size)",
            )
        old, new = iter(state), []
        for layer in self.layers:
            if _is_cell(layer):
                layer_state, x = layer(next(old), x)  # type: ignore[operator]  # modules need not be callable
                new.append(layer_state)
            else:
                x = layer(x)  # type: ignore[operator]  # modules need not be callable, these are
        return tuple(new), x

    def _cells(self) -> list[Any]:
        return [layer for layer in self.layers if _is_cell(layer)]


def _is_cell(layer: Any) -> bool:
    return hasattr(layer, "initial_state")
