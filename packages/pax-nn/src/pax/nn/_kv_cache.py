"""The keys and values of past positions, kept for decoding."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from pax import StateModule
from pax.errors import ArgumentError
from pax.extend import describe, is_tracer
from pax.nn._axes import positive_int
from pax.nn._dtypes import as_array, optional_float_dtype


class KVCache(StateModule):
    """Keeps the keys and values of past positions, so that each new token is computed once.

    Attention layers make theirs by ``init_cache``, and append to it in every call. The shapes stay the same from call
    to call, so under ``jit`` each number of new tokens is traced once.

    Parameters:
        none.
    State:
        keys, values: ``(*batch, max_length, num_heads, head_size)``, zeros at the positions to come.
        index: int32 scalar, the number of positions that are filled.

    A cache cannot hold more than ``max_length`` positions. An append that would overflow it is an error where ``index``
    is known. Where it is traced, under ``jit``, :attr:`overflowed` becomes true and stays so, and the attention layers
    return NaN: a wrong result is not mistaken for a right one.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> cache = pax.nn.KVCache((), max_length=4, num_heads=1, head_size=2)
    >>> new = jnp.ones((3, 1, 2))
    >>> cache, (keys, values, start) = pax.module_and_value(cache.append)(new, new)
    >>> keys.shape, int(start), int(cache.index)
    ((4, 1, 2), 0, 3)
    """

    batch_shape: tuple[int, ...]
    max_length: int
    num_heads: int
    head_size: int
    dtype: jnp.dtype | None
    keys: Float[Array, "*batch max_length num_heads head_size"]
    values: Float[Array, "*batch max_length num_heads head_size"]
    index: Int[Array, ""]

    def __init__(
        self,
        batch_shape: int | tuple[int, ...],
        max_length: int,
        num_heads: int,
        head_size: int,
        *,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        """Makes an empty cache.

        Args:
            batch_shape: the leading axes of the inputs; ``()`` for none, an integer for one.
            max_length: the number of positions it can hold, at least 1.
            num_heads: number of heads of keys and values, at least 1.
            head_size: number of features of each head, at least 1.
            name: shown before the class in summaries.
            dtype: dtype of keys and values; default: JAX's default float dtype.

        Raises:
            ArgumentError: a size smaller than 1.
            ArgumentTypeError: a size that is no integer, or no floating dtype.
        """
        super().__init__(name=name)
        sizes = batch_shape if isinstance(batch_shape, tuple | list) else (batch_shape,)
        self.batch_shape = tuple(positive_int(size, what="batch_shape", where="KVCache") for size in sizes)
        self.max_length = positive_int(max_length, what="max_length", where="KVCache")
        self.num_heads = positive_int(num_heads, what="num_heads", where="KVCache")
        self.head_size = positive_int(head_size, what="head_size", where="KVCache")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="KVCache")
        shape = (*self.batch_shape, self.max_length, self.num_heads, self.head_size)
        self.keys = jnp.zeros(shape, self.dtype)
        self.values = jnp.zeros(shape, self.dtype)
        self.index = jnp.zeros((), jnp.int32)

    def append(self, keys: Float[Array, "..."], values: Float[Array, "..."]) -> tuple[Array, Array, Array]:
        """Writes new positions behind those that are filled.

        Args:
            keys: ``(*batch, length, num_heads, head_size)``; cast to the dtype of the cache.
            values: the same shape.

        Returns:
            All keys, all values, and the position of the first new one.

        Raises:
            ArgumentError: another shape, or more positions than are left.
            MutationError: outside of ``pax.purecall`` or ``pax.pure``.
        """
        keys, values = as_array(keys, module=self), as_array(values, module=self)
        length = keys.shape[-3] if keys.ndim >= 3 else 0
        expected = (*self.keys.shape[:-3], length, *self.keys.shape[-2:])
        if keys.shape != expected or values.shape != expected:
            raise ArgumentError(
                "The new keys and values do not fit the cache.",
                module=self,
                got=f"keys={describe(keys)}, values={describe(values)}",
                want=f"{self.keys.dtype}[{','.join(map(str, expected))}]",
                fix="init_cache(batch_shape, max_length) with the batch shape of the inputs",
            )
        start = self.index
        end = start + jnp.asarray(length, jnp.int32)
        if length > self.max_length or not (is_tracer(end) or int(end) <= self.max_length):
            raise self._overflow(length)
        axis = self.keys.ndim - 3
        self.keys = jax.lax.dynamic_update_slice_in_dim(self.keys, keys.astype(self.keys.dtype), start, axis)
        self.values = jax.lax.dynamic_update_slice_in_dim(self.values, values.astype(self.values.dtype), start, axis)
        self.index = end
        return self.keys, self.values, start

    @property
    def overflowed(self) -> Array:
        """A boolean scalar, whether more positions came than the cache can hold."""
        return self.index > jnp.array(self.max_length, self.index.dtype)

    def _overflow(self, length: int) -> ArgumentError:
        filled = "some" if is_tracer(self.index) else str(int(self.index))
        return ArgumentError(
            "The cache is full.",
            module=self,
            got=f"{length} new positions, after {filled}",
            want=f"at most {self.max_length} together",
            fix="init_cache(batch_shape, max_length) with a larger max_length",
        )

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "batch_shape": self.batch_shape,
            "max_length": self.max_length,
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "dtype": self.dtype,
        }
        return self._repr(info)
