"""The LSTM cell."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import Module
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, optional_float_dtype, promote_dtypes
from pax.nn._linear import Linear
from pax.nn._numbers import real_number
from pax.nn._recurrent_cells import check_step, concatenate, first_state
from pax.nn.initializers import Initializer


class LSTMState(NamedTuple):
    """State of :class:`LSTM`: ``hidden`` and ``cell``, each ``(*batch, hidden_dim)``."""

    hidden: Float[Array, "*batch hidden_dim"]
    cell: Float[Array, "*batch hidden_dim"]


@functools.partial(jax.jit, static_argnames="forget_gate_bias", inline=True)
def _update(gates: jax.Array, cell: jax.Array, *, forget_gate_bias: float) -> tuple[jax.Array, jax.Array]:
    """Returns the new hidden values, in the dtype of the gates, and the new cell values, in the wider dtype."""
    dtype = promote_dtypes(gates.dtype, cell.dtype)
    entry, candidate, forget, exit_ = jnp.split(gates, 4, axis=-1)
    kept = jax.nn.sigmoid(forget + forget_gate_bias).astype(dtype) * cell.astype(dtype)
    cell = kept + (jax.nn.sigmoid(entry) * jnp.tanh(candidate)).astype(dtype)
    return jax.nn.sigmoid(exit_) * jnp.tanh(cell).astype(gates.dtype), cell


class LSTM(Module):
    """A cell with a long and a short memory: what it holds is changed by gates, by addition.

    With the four parts ``i, g, f, o = split(fc(concat(x, hidden)), 4)``::

        cell = sigmoid(f + forget_gate_bias) * cell + sigmoid(i) * tanh(g)
        hidden = sigmoid(o) * tanh(cell)

    Shapes:
        input: a state and ``(*batch, input_dim)``; any number of batch axes, none included.
        output: the new state and ``(*batch, hidden_dim)``. The state keeps its dtypes, so that the cell can be scanned;
            the output is in ``dtype``, by default in the promoted dtype of input, hidden values and weight.
    Parameters:
        fc: :class:`Linear` ``(input_dim + hidden_dim, 4 * hidden_dim)``. The parts of the output are in the order above
            (PyTorch's order is i, f, g, o).
    State:
        none in the module: the state is an argument and a result, an :class:`LSTMState`.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> cell = pax.nn.LSTM(3, 5)
    >>> state, y = cell(cell.initial_state(2), jnp.ones((2, 3)))
    >>> y.shape, state.hidden.shape, state.cell.shape
    ((2, 5), (2, 5), (2, 5))

    References:
        Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997, https://doi.org/10.1162/neco.1997.9.8.1735; with the
        forget gate of Gers et al., "Learning to Forget", 2000, https://doi.org/10.1162/089976600300015015.
    """

    input_dim: int
    hidden_dim: int
    forget_gate_bias: float
    dtype: jnp.dtype | None
    fc: Linear

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        w_init: Initializer | None = None,
        forget_gate_bias: float = 0.0,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            input_dim: size of the last axis of the input, at least 1.
            hidden_dim: size of hidden values, cell values and output, at least 1.
            w_init: initializer of the weight of ``fc``; default: that of :class:`Linear`.
            forget_gate_bias: added to the forget gate; 1 makes the cell remember at the start of the training. It is
                not trained.
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input, hidden values and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializers return.

        Raises:
            ArgumentError: a size smaller than 1, or an initializer that returns another shape.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.input_dim = positive_int(input_dim, what="input_dim", where="LSTM")
        self.hidden_dim = positive_int(hidden_dim, what="hidden_dim", where="LSTM")
        self.forget_gate_bias = real_number(forget_gate_bias, what="forget_gate_bias", where="LSTM")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="LSTM")
        self.fc = Linear(
            self.input_dim + self.hidden_dim,
            4 * self.hidden_dim,
            w_init=w_init,
            rng_key=rng_key,
            name="lstm_fc",
            dtype=dtype,
            param_dtype=param_dtype,
        )

    def initial_state(self, batch_size: int | Sequence[int], *, dtype: DTypeLike | None = None) -> LSTMState:
        """Returns the state before the first step: zeros.

        Args:
            batch_size: number of examples; a tuple for several batch axes, ``()`` for none.
            dtype: dtype of the state; default: that of the weights.

        Returns:
            A state with ``hidden`` and ``cell`` of the shape ``(*batch, hidden_dim)``.

        Raises:
            ArgumentError: a negative size.
            ArgumentTypeError: a size that is no integer, or no floating dtype.
        """
        weight = self.fc.weight
        # Two arrays: a state that holds one array twice could not be donated.
        return LSTMState(*(first_state(batch_size, self.hidden_dim, dtype, weight, where="LSTM") for _ in range(2)))

    def __call__(
        self, state: LSTMState, x: Num[AnyArray, "*batch input_dim"]
    ) -> tuple[LSTMState, Float[Array, "*batch hidden_dim"]]:
        """Does one step.

        Args:
            state: the state after the last step.
            x: ``(*batch, input_dim)``.

        Returns:
            ``(new_state, output)``; the output is the new hidden values.

        Raises:
            ArgumentError: a wrong size of ``x``, or a state that does not fit it.
            ArgumentTypeError: ``state`` is no ``LSTMState``.
        """
        x = check_step(self, state, LSTMState, x)
        gates = self.fc(concatenate(x, state.hidden))
        hidden, cell = _update(gates, state.cell, forget_gate_bias=self.forget_gate_bias)
        return LSTMState(hidden.astype(state.hidden.dtype), cell.astype(state.cell.dtype)), hidden

    def __repr__(self) -> str:
        return self._repr({"input_dim": self.input_dim, "hidden_dim": self.hidden_dim, "dtype": self.dtype})
