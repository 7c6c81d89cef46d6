"""The plain recurrent cell."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import Module
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, optional_float_dtype
from pax.nn._linear import Linear
from pax.nn._recurrent_cells import check_step, concatenate, first_state


class VanillaRNNState(NamedTuple):
    """State of :class:`VanillaRNN`: ``hidden``, ``(*batch, hidden_dim)``."""

    hidden: Float[Array, "*batch hidden_dim"]


class VanillaRNN(Module):
    """A recurrent cell with one fully connected layer, also known as Elman network.

    ``hidden = tanh(fc(concat(x, hidden)))``

    Shapes:
        input: a state and ``(*batch, input_dim)``; any number of batch axes, none included.
        output: the new state and ``(*batch, hidden_dim)``. The state keeps its dtype, so that the cell can be scanned;
            the output is in ``dtype``, by default in the promoted dtype of input, state and weight.
    Parameters:
        fc: :class:`Linear` ``(input_dim + hidden_dim, hidden_dim)``.
    State:
        none in the module: the state is an argument and a result, a :class:`VanillaRNNState`.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> cell = pax.nn.VanillaRNN(3, 5)
    >>> state, y = cell(cell.initial_state(2), jnp.ones((2, 3)))
    >>> y.shape, state.hidden.shape
    ((2, 5), (2, 5))

    References:
        Elman, "Finding Structure in Time", 1990, https://doi.org/10.1207/s15516709cog1402_1.
    """

    input_dim: int
    hidden_dim: int
    dtype: jnp.dtype | None
    fc: Linear

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            input_dim: size of the last axis of the input, at least 1.
            hidden_dim: size of state and output, at least 1.
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input, state and weight.
            param_dtype: dtype in which the weights are stored; default: JAX's default float dtype.

        Raises:
            ArgumentError: a size smaller than 1.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.input_dim = positive_int(input_dim, what="input_dim", where="VanillaRNN")
        self.hidden_dim = positive_int(hidden_dim, what="hidden_dim", where="VanillaRNN")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="VanillaRNN")
        self.fc = Linear(
            self.input_dim + self.hidden_dim,
            self.hidden_dim,
            rng_key=rng_key,
            name="vanilla_rnn_fc",
            dtype=dtype,
            param_dtype=param_dtype,
        )

    def initial_state(self, batch_size: int | Sequence[int], *, dtype: DTypeLike | None = None) -> VanillaRNNState:
        """Returns the state before the first step: zeros.

        Args:
            batch_size: number of examples; a tuple for several batch axes, ``()`` for none.
            dtype: dtype of the state; default: that of the weights.

        Returns:
            A state with ``hidden`` of the shape ``(*batch, hidden_dim)``.

        Raises:
            ArgumentError: a negative size.
            ArgumentTypeError: a size that is no integer, or no floating dtype.
        """
        return VanillaRNNState(first_state(batch_size, self.hidden_dim, dtype, self.fc.weight, where="VanillaRNN"))

    def __call__(
        self, state: VanillaRNNState, x: Num[AnyArray, "*batch input_dim"]
    ) -> tuple[VanillaRNNState, Float[Array, "*batch hidden_dim"]]:
        """Does one step.

        Args:
            state: the state after the last step.
            x: ``(*batch, input_dim)``.

        Returns:
            ``(new_state, output)``; the output is the new hidden values.

        Raises:
            ArgumentError: a wrong size of ``x``, or a state that does not fit it.
            ArgumentTypeError: ``state`` is no ``VanillaRNNState``.
        """
        x = check_step(self, state, VanillaRNNState, x)
        hidden = jnp.tanh(self.fc(concatenate(x, state.hidden)))
        return VanillaRNNState(hidden.astype(state.hidden.dtype)), hidden

    def __repr__(self) -> str:
        return self._repr({"input_dim": self.input_dim, "hidden_dim": self.hidden_dim, "dtype": self.dtype})
