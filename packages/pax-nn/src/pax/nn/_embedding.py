"""The table of embeddings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Num

from pax import ParameterModule
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_tracer
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import initialize, key_or_next
from pax.nn.initializers import Initializer, TruncatedNormal

_STDDEV = 0.01


@functools.partial(jax.jit, inline=True)
def _rows(weight: jax.Array, indices: jax.Array) -> jax.Array:
    """One compiled call when the layer runs outside of ``jit``; inside, it leaves no trace."""
    if indices.dtype.itemsize < 4:  # an int8 cannot hold the size of the table, to which negative ones are added
        indices = indices.astype(jnp.int32)
    return weight.at[indices].get(mode="clip")


class Embed(ParameterModule):
    """Replaces each integer by a row of a table.

    ``y = weight[x]``. An index that is out of range is not an error, since arrays cannot be inspected under ``jit``:
    negative ones count from the end of the table, and what is still outside is moved to the first or last row.

    The same table can turn features back into logits, one for each row: :meth:`attend`. A model that calls both has
    tied input and output embeddings: one array, which gets the sum of the gradients.

    Shapes:
        input: any shape, integers (Python integers and lists included). A boolean array ``(vocab_size,)`` selects rows
            instead, as in NumPy; this works outside of ``jit`` only.
        output: ``(*input, embed_dim)``, in ``dtype``; by default that of the weight.
    Parameters:
        weight: ``(vocab_size, embed_dim)``, in ``param_dtype``; JAX's default float dtype by default.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> embed = pax.nn.Embed(5, 7)
    >>> embed
    Embed(vocab_size=5, embed_dim=7)
    >>> features = embed(jnp.array([[0, 4, 2]]))
    >>> features.shape, embed.attend(features).shape
    ((1, 3, 7), (1, 3, 5))

    References:
        Press & Wolf, "Using the Output Embedding to Improve Language Models", 2016, https://arxiv.org/abs/1608.05859,
        on tying the two.
    """

    vocab_size: int
    embed_dim: int
    dtype: jnp.dtype | None
    weight: Float[Array, "vocab_size embed_dim"]

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        w_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the table.

        Args:
            vocab_size: number of rows, at least 1.
            embed_dim: size of a row, at least 1.
            w_init: initializer of the table; default: truncated normal, the values of which have the standard deviation
                0.01 (none is larger than 0.0228).
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of the output, and of the computation of :meth:`attend`; default: that of the weight, in
                :meth:`attend` the promoted dtype of input and weight.
            param_dtype: dtype in which the table is stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, or an initializer that returns another shape.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.vocab_size = positive_int(vocab_size, what="vocab_size", where="Embed")
        self.embed_dim = positive_int(embed_dim, what="embed_dim", where="Embed")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="Embed")
        self.weight = initialize(
            TruncatedNormal(_STDDEV) if w_init is None else w_init,
            key_or_next(rng_key, where="Embed"),
            (self.vocab_size, self.embed_dim),
            what="weight",
            where="Embed",
            param_dtype=optional_float_dtype(param_dtype, what="param_dtype", where="Embed"),
        )

    def __call__(self, x: ArrayLike) -> Num[Array, "..."]:
        """Looks up rows.

        Args:
            x: integers of any shape, or a boolean mask of the rows.

        Returns:
            ``(*x.shape, embed_dim)``; for a mask ``(number of true values, embed_dim)``.

        Raises:
            ArgumentTypeError: ``x`` has another dtype than integers and booleans.
            ArgumentError: a mask of another shape than the table has, or inside of ``jit``.
        """
        indices = as_array(x, module=self)
        if indices.dtype == jnp.bool_:
            rows = self._masked_rows(indices)
        elif jnp.issubdtype(indices.dtype, jnp.integer):
            rows = _rows(self.weight, indices)
        else:
            raise ArgumentTypeError(
                "Expecting integers to look up.",
                module=self,
                got=describe(indices),
                want=f"integers in [0, {self.vocab_size})",
                fix="x.astype(jnp.int32)",
            )
        return rows if self.dtype is None else rows.astype(self.dtype)

    def attend(self, x: Num[AnyArray, "*batch embed_dim"]) -> Num[Array, "*batch vocab_size"]:
        """Multiplies features by each row of the table: the logits of an output layer that shares the weight.

        ``y = x @ weight.T``

        Args:
            x: ``(..., embed_dim)``.

        Returns:
            ``(..., vocab_size)``, in ``dtype``; by default in the promoted dtype of ``x`` and the weight.

        Raises:
            ArgumentTypeError: ``x`` is a scalar or its last axis has another size.
        """
        x = as_array(x, module=self)
        if x.ndim == 0 or x.shape[-1] != self.embed_dim:
            raise ArgumentTypeError(
                f"Expecting {self.embed_dim} input features.",
                module=self,
                where="method `attend`",
                got=describe(x),
                want=f"{self.weight.dtype}[*,{self.embed_dim}]",
            )
        x, weight = to_common_dtype(x, self.weight, dtype=self.dtype)
        return jnp.matmul(x, weight.T)

    def _masked_rows(self, mask: jax.Array) -> jax.Array:
        shape = (self.vocab_size, self.embed_dim)[: mask.ndim]
        if is_tracer(mask) or mask.ndim == 0 or mask.shape != shape:
            raise ArgumentError(
                "A boolean input selects rows of the table, whose number has to be known.",
                module=self,
                got=f"{describe(mask)}{' inside of a JAX transformation' if is_tracer(mask) else ''}",
                want=f"bool[{self.vocab_size}] outside of jit, or integers",
                fix="embed(jnp.flatnonzero(mask, size=...)), or embed(x.astype(jnp.int32)) to look up rows 0 and 1",
            )
        return as_array(self.weight)[np.asarray(mask)]

    def __repr__(self) -> str:
        return self._repr({"vocab_size": self.vocab_size, "embed_dim": self.embed_dim, "dtype": self.dtype})
