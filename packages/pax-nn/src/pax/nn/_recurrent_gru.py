"""The GRU cell."""

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
from pax.nn._initialize import key_or_next, split_key
from pax.nn._linear import Linear
from pax.nn._recurrent_cells import check_step, concatenate, first_state


class GRUState(NamedTuple):
    """State of :class:`GRU`: ``hidden``, ``(*batch, hidden_dim)``."""

    hidden: Float[Array, "*batch hidden_dim"]


@functools.partial(jax.jit, inline=True)
def _gates(x: jax.Array, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the update gate, and the hidden values after the reset gate."""
    update, reset = jnp.split(jax.nn.sigmoid(x), 2, axis=-1)
    dtype = promote_dtypes(x.dtype, hidden.dtype)
    return update, reset.astype(dtype) * hidden.astype(dtype)


@functools.partial(jax.jit, inline=True)
def _mix(update: jax.Array, hidden: jax.Array, candidate: jax.Array) -> jax.Array:
    """Returns the new hidden values in the wider of the two dtypes."""
    dtype = promote_dtypes(update.dtype, hidden.dtype)
    update, hidden = update.astype(dtype), hidden.astype(dtype)
    return (1 - update) * hidden + update * jnp.tanh(candidate).astype(dtype)


class GRU(Module):
    """A cell whose hidden values are a gated mixture of the old ones and of a candidate ("fully gated unit").

    With the two parts ``z, r = split(sigmoid(xh_zr_fc(concat(x, hidden))), 2)``::

        candidate = tanh(xh_h_fc(concat(x, r * hidden)))
        hidden = (1 - z) * hidden + z * candidate

    The reset gate acts on the hidden values before they are multiplied by a weight, as in the paper; in PyTorch and
    cuDNN it acts afterwards, and ``z`` weighs the old values. Weights from there cannot be converted in general.

    Shapes:
        input: a state and ``(*batch, input_dim)``; any number of batch axes, none included.
        output: the new state and ``(*batch, hidden_dim)``. The state keeps its dtype, so that the cell can be scanned;
            the output is in ``dtype``, by default in the promoted dtype of input, hidden values and weights.
    Parameters:
        xh_zr_fc: :class:`Linear` ``(input_dim + hidden_dim, 2 * hidden_dim)``.
        xh_h_fc: :class:`Linear` ``(input_dim + hidden_dim, hidden_dim)``.
    State:
        none in the module: the state is an argument and a result, a :class:`GRUState`.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> cell = pax.nn.GRU(3, 5)
    >>> state, y = cell(cell.initial_state(2), jnp.ones((2, 3)))
    >>> y.shape, state.hidden.shape
    ((2, 5), (2, 5))

    References:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, https://arxiv.org/abs/1406.1078,
        equations 5 to 8, with 1 - z in the place of z.
    """

    input_dim: int
    hidden_dim: int
    dtype: jnp.dtype | None
    xh_zr_fc: Linear
    xh_h_fc: Linear

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
            dtype: dtype of computation and output; default: the promoted dtype of input, hidden values and weights.
            param_dtype: dtype in which the weights are stored; default: JAX's default float dtype.

        Raises:
            ArgumentError: a size smaller than 1.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.input_dim = positive_int(input_dim, what="input_dim", where="GRU")
        self.hidden_dim = positive_int(hidden_dim, what="hidden_dim", where="GRU")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="GRU")
        size = self.input_dim + self.hidden_dim
        fc = functools.partial(Linear, size, dtype=dtype, param_dtype=param_dtype)
        zr_key, h_key = split_key(key_or_next(rng_key, where="GRU"))
        self.xh_zr_fc = fc(2 * self.hidden_dim, rng_key=zr_key, name="xh_to_zr")
        self.xh_h_fc = fc(self.hidden_dim, rng_key=h_key, name="xh_to_h")

    def initial_state(self, batch_size: int | Sequence[int], *, dtype: DTypeLike | None = None) -> GRUState:
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
        return GRUState(first_state(batch_size, self.hidden_dim, dtype, self.xh_zr_fc.weight, where="GRU"))

    def __call__(
        self, state: GRUState, x: Num[AnyArray, "*batch input_dim"]
    ) -> tuple[GRUState, Float[Array, "*batch hidden_dim"]]:
        """Does one step.

        Args:
            state: the state after the last step.
            x: ``(*batch, input_dim)``.

        Returns:
            ``(new_state, output)``; the output is the new hidden values.

        Raises:
            ArgumentError: a wrong size of ``x``, or a state that does not fit it.
            ArgumentTypeError: ``state`` is no ``GRUState``.
        """
        x = check_step(self, state, GRUState, x)
        update, remembered = _gates(self.xh_zr_fc(concatenate(x, state.hidden)), state.hidden)
        candidate = self.xh_h_fc(concatenate(x, remembered))
        hidden = _mix(update, state.hidden, candidate)
        return GRUState(hidden.astype(state.hidden.dtype)), hidden.astype(candidate.dtype)

    def __repr__(self) -> str:
        return self._repr({"input_dim": self.input_dim, "hidden_dim": self.hidden_dim, "dtype": self.dtype})
