"""``Embed``: rows of a table."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from pax.errors import ArgumentTypeError
from pax.experimental.mlax._module import Axes
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._arguments import Initializer, KeyedLayer, any_array, floating_dtype, positive
from pax.extend import describe


def _rows_of_unit_length(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draws rows whose expected squared length is 1."""
    return initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)(key, shape, dtype)


class Embed(KeyedLayer):
    """Replaces each integer by a row of a table.

    Negative integers count from the end. What is out of range is moved to the first or last row.

    Parameters:
        embed_kernel: ``(vocab_size, embed_dim)``.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        vocab_size: the number of rows, at least 1.
        embed_dim: the size of a row, at least 1.
        embed_initializer: ``embed_initializer(key, shape, dtype)``; default: normal, with variance ``1 / embed_dim``.
        dtype: of the table and of the output.

    Raises:
        ArgumentError: a size is smaller than 1.
        ArgumentTypeError: it is no integer, ``rng`` is no key, or ``dtype`` no floating dtype.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Embed
    >>> y, embed = Embed(jax.random.key(0), 5, 2)(jnp.array([0, 4, 2]), None)
    >>> y.shape, embed.embed_kernel
    ((3, 2), Parameter(trainable=True, data=float32[5,2]))
    """

    def __init__(
        self,
        rng: Any,
        vocab_size: int,
        embed_dim: int,
        embed_initializer: Initializer = _rows_of_unit_length,
        dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(rng)
        self.vocab_size = positive(vocab_size, what="vocab_size", where="mlax.nn.Embed")
        self.embed_dim = positive(embed_dim, what="embed_dim", where="mlax.nn.Embed")
        self.embed_initializer = embed_initializer
        self.dtype = floating_dtype(dtype, where="mlax.nn.Embed")
        self.embed_kernel = Parameter(trainable=True)

    def setup(self, x: Any) -> None:
        """Draws the table.

        Args:
            x: not used: the table does not depend on it.
        """
        shape = (self.vocab_size, self.embed_dim)
        self.embed_kernel.data = self.draw("embed_initializer", shape, self.dtype, what="embed_kernel")

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns the rows: ``(*x.shape, embed_dim)``.

        Raises:
            ArgumentTypeError: ``x`` has no integers.
        """
        indices = any_array(x, module=self)
        if not jnp.issubdtype(indices.dtype, jnp.integer):
            raise ArgumentTypeError(
                "Expecting integers to look up.",
                got=describe(indices),
                want=f"integers in [0, {self.vocab_size})",
                fix="x.astype(jnp.int32)",
                module=self,
            )
        if indices.dtype.itemsize < 4:  # too small for the number of rows, to which negative ones are added
            indices = indices.astype(jnp.int32)
        rows: jax.Array = jnp.asarray(self.embed_kernel.data).at[indices].get(mode="clip")
        return rows

    def __repr__(self) -> str:
        return self._repr({"vocab_size": self.vocab_size, "embed_dim": self.embed_dim})
