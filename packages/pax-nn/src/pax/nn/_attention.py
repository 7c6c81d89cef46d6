"""Multi-head attention."""

import functools
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

import pax
from pax import Module
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._attention_mask import as_mask
from pax.nn._axes import positive_int
from pax.nn._dot_product_attention import IMPLEMENTATIONS, Implementation, attend
from pax.nn._dropout import check_rate
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import key_or_next, split_key
from pax.nn._kv_cache import KVCache
from pax.nn._linear import Linear
from pax.nn._numbers import real_number
from pax.nn._rotary import rotary_embedding, rotated_size
from pax.nn.initializers import VarianceScaling


class MultiHeadAttention(Module):
    """Lets each query collect values from the positions whose keys are similar to it.

    For each head, with ``Q = query_projection(query)`` and so on, ``softmax(Q Kᵀ / sqrt(key_size)) V``; the results of
    all heads, side by side, go through ``output_projection``. The softmax is taken in float32 at least. A query that
    the mask lets attend to nothing collects zeros, from which ``output_projection`` makes its bias.

    Shapes:
        query: ``(..., T, model_size)`` with any number of leading axes, none included; ``model_size`` is
            ``num_heads * key_size``.
        key, value: ``(..., S, model_size)``.
        mask: broadcastable to ``(..., num_heads, T, S)``; true or non-zero: attend. So ``(B, T, S)`` is read as
            ``(num_heads, T, S)``: give ``mask[:, None]``. Masks that are added to the logits, with 0 for attend, are
            not what is meant: give ``mask == 0``.
        output: ``(..., T, model_size)``, in ``dtype``; by default in the promoted dtype of inputs and weights.
    Parameters:
        query_projection, key_projection, value_projection, output_projection: :class:`Linear` of ``model_size`` to
            ``model_size`` features, keys and values to ``num_kv_heads * key_size``. Feature ``head * key_size + i``
            belongs to a head.
    State:
        rng_key: replaced in every call in train mode; only there if ``dropout_rate`` is above 0.
        cache: a :class:`KVCache`, only there after :meth:`init_cache`.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> attention = pax.nn.MultiHeadAttention(num_heads=2, key_size=4, w_init_scale=1.0)
    >>> x = jnp.ones((3, 5, 8))
    >>> attention(x, x, x, mask=jnp.tri(5)).shape
    (3, 5, 8)

    Decoding, token by token, after a prefix of three:

    >>> attention = pax.nn.MultiHeadAttention(2, 4, 1.0, causal=True, rotary=True)
    >>> decoder = attention.init_cache(batch_shape=3, max_length=5)
    >>> decoder, y = pax.purecall(decoder, x[:, :3], x[:, :3], x[:, :3])
    >>> decoder, y = pax.purecall(decoder, x[:, 3:4], x[:, 3:4], x[:, 3:4])
    >>> bool(jnp.allclose(y[:, 0], attention(x, x, x)[:, 3], atol=1e-5))
    True

    References:
        Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762 (section 3.2).
        Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints", 2023,
        https://arxiv.org/abs/2305.13245, for ``num_kv_heads``.
        Beltagy et al., "Longformer", 2020, https://arxiv.org/abs/2004.05150 (section 3.1), for ``window``.
    """

    num_heads: int
    key_size: int
    value_size: int
    model_size: int
    num_kv_heads: int
    causal: bool
    window: int | None
    rotary: bool
    rotary_base: float
    rotary_fraction: float
    dropout_rate: float
    with_bias: bool
    implementation: Implementation | None
    dtype: jnp.dtype | None
    query_projection: Linear
    key_projection: Linear
    value_projection: Linear
    output_projection: Linear
    rng_key: Array | None
    cache: KVCache | None

    def __init__(
        self,
        num_heads: int,
        key_size: int,
        w_init_scale: float,
        *,
        num_kv_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        rotary: bool = False,
        rotary_base: float = 10000.0,
        rotary_fraction: float = 1.0,
        dropout_rate: float = 0.0,
        with_bias: bool = True,
        implementation: Implementation | None = None,
        rng_key: Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            num_heads: number of query heads, at least 1.
            key_size: number of features of each head, at least 1.
            w_init_scale: the weights are drawn from a normal distribution of variance ``w_init_scale / model_size``;
                above 0.
            num_kv_heads: number of heads of keys and values, a divisor of ``num_heads``; each serves as many
                consecutive query heads. Default: ``num_heads``.
            causal: whether position ``t`` sees the positions up to ``t`` only. Query ``t`` and key ``t`` are at the
                same position, also if there are more keys than queries.
            window: how many positions back a query sees, its own included; without ``causal``, as many forth. Default:
                all.
            rotary: whether queries and keys are turned by :func:`rotary_embedding`, in the order in which they come.
            rotary_base: its ``base``.
            rotary_fraction: its ``fraction``.
            dropout_rate: probability of dropping an attention weight in train mode, in [0, 1). Such calls compute all
                weights explicitly: the kernels know no dropout.
            with_bias: whether the four projections add biases.
            implementation: of ``jax.nn.dot_product_attention``: ``"cudnn"`` is flash attention of NVIDIA GPUs, in half
                precision, and fails elsewhere; ``"xla"`` works everywhere; default: what JAX chooses. Not used with
                dropout, nor in float64.
            rng_key: the key to draw from; default: the next four keys of the global generator, five with dropout.
            dtype: dtype of computation and output; default: the promoted dtype of inputs and weights.
            param_dtype: dtype in which the weights are stored; default: JAX's default float dtype.

        Raises:
            ArgumentError: a number outside of its range.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__()
        where = type(self).__name__
        self.num_heads = positive_int(num_heads, what="num_heads", where=where)
        self.key_size = positive_int(key_size, what="key_size", where=where)
        self.value_size = self.key_size
        self.model_size = self.num_heads * self.key_size
        self.num_kv_heads = self._check_kv_heads(num_kv_heads, where)
        self.causal = bool(causal)
        self.window = None if window is None else positive_int(window, what="window", where=where)
        self.rotary = bool(rotary)
        self.rotary_base = real_number(rotary_base, what="rotary_base", where=where)
        self.rotary_fraction = real_number(rotary_fraction, what="rotary_fraction", where=where)
        if rotary:
            rotated_size(self.key_size, self.rotary_base, self.rotary_fraction, where=where)
        self.dropout_rate = check_rate(dropout_rate, where=where)
        self.with_bias = bool(with_bias)
        self.implementation = _check_implementation(implementation, where=where)
        self.dtype = optional_float_dtype(dtype, what="dtype", where=where)

        keys: list[Array | None] = [None] * 5
        if rng_key is not None:
            keys = [*split_key(key_or_next(rng_key, where=where), 4 + (self.dropout_rate > 0))]
        linear = functools.partial(
            Linear,
            with_bias=self.with_bias,
            w_init=_w_init(w_init_scale, where=where),
            dtype=dtype,
            param_dtype=param_dtype,
        )
        size, kv_size = self.model_size, self.num_kv_heads * self.key_size
        self.query_projection = linear(size, size, name="qry_proj", rng_key=keys[0])
        self.key_projection = linear(size, kv_size, name="key_proj", rng_key=keys[1])
        self.value_projection = linear(size, kv_size, name="val_proj", rng_key=keys[2])
        self.output_projection = linear(size, size, name="out_proj", rng_key=keys[3])
        self.rng_key = None
        if self.dropout_rate > 0:
            self.rng_key = pax.next_rng_key() if keys[4] is None else keys[4]
        self.cache = None

    def __call__(
        self,
        query: Num[AnyArray, "*batch T M"],
        key: Num[AnyArray, "*batch S M"],
        value: Num[AnyArray, "*batch S M"],
        mask: Num[AnyArray, "..."] | None = None,
    ) -> Float[Array, "*batch T M"]:
        """Computes attention.

        With a cache, ``key`` and ``value`` are those of the next positions, of which there is one for each query; the
        queries attend to these and to all earlier ones, and the last axis of ``mask`` counts the positions of the
        cache, ``max_length`` of them.

        Args:
            query: ``(..., T, model_size)``.
            key: ``(..., S, model_size)``.
            value: ``(..., S, model_size)``.
            mask: broadcastable to ``(..., num_heads, T, S)``; true or non-zero: attend. ``None``: attend everywhere.
                Axes are compared from the last one on: of a mask ``(B, T, S)`` the first is that of the heads. A mask
                that is added to the logits (0: attend, ``-inf``: not) would mean its opposite; it is refused where its
                values are known.

        Returns:
            ``(..., T, model_size)``.

        Raises:
            ArgumentError: sizes that do not fit each other or the layer, an additive mask, or a cache that is full.
            MutationError: with a cache, or in train mode with dropout, outside of ``pax.purecall`` or ``pax.pure``.
        """
        query, key, value = (as_array(array, module=self) for array in (query, key, value))
        batch = self._check_inputs(query, key, value)
        q = self._split_heads(self.query_projection(query), self.num_heads)
        k = self._split_heads(self.key_projection(key), self.num_kv_heads)
        v = self._split_heads(self.value_projection(value), self.num_kv_heads)
        q, k, v = to_common_dtype(q, k, v)
        start = None if self.cache is None else self.cache.index
        if self.rotary:
            q, k = self._rotate(q, start), self._rotate(k, start)
        if self.cache is not None:
            keys, values, start = self.cache.append(k, v)
            k, v = keys.astype(q.dtype), values.astype(q.dtype)
        if mask is not None:
            mask = as_mask(mask, (*batch, self.num_heads, q.shape[-3], k.shape[-3]), module=self)
        rate = self.dropout_rate if self.training else 0.0
        y = attend(
            *(_with_one_batch_axis(array, batch) for array in (q, k, v)),
            mask,
            start,
            self._next_dropout_key() if rate > 0 else None,
            causal=self.causal,
            window=self.window,
            dropout_rate=rate,
            implementation=self.implementation,
        )
        if self.cache is not None:
            y = jnp.where(self.cache.overflowed, jnp.array(math.nan, y.dtype), y)
        return self.output_projection(y.reshape(*batch, q.shape[-3], self.model_size))

    def init_cache(
        self, batch_shape: int | tuple[int, ...], max_length: int, *, dtype: DTypeLike | None = None
    ) -> Self:
        """Returns a copy with an empty cache, for decoding: each call appends positions, and attends to all so far.

        Args:
            batch_shape: the leading axes of the inputs; ``()`` for none, an integer for one.
            max_length: the number of positions that the cache can hold, at least 1. Also with ``window`` all of them
                are kept.
            dtype: dtype of the cache; default: that of computation, where it is set, else that of the weights.

        Raises:
            ArgumentError: the attention is not ``causal``, or a size is smaller than 1.

        >>> import pax
        >>> attention = pax.nn.MultiHeadAttention(4, 8, 1.0, causal=True, num_kv_heads=1)
        >>> attention.init_cache(2, max_length=16).cache
        KVCache(batch_shape=(2,), max_length=16, num_heads=1, head_size=8, dtype=float32)
        """
        if not self.causal:
            raise ArgumentError(
                "A cache needs causal attention.",
                module=self,
                got="causal=False",
                want="causal=True: keys that are still to come cannot be attended to",
                fix=f"{type(self).__name__}(..., causal=True)",
            )
        dtype = dtype or self.dtype or self.key_projection.weight.dtype
        return self.replace(cache=KVCache(batch_shape, max_length, self.num_kv_heads, self.key_size, dtype=dtype))

    def _check_kv_heads(self, num_kv_heads: int | None, where: str) -> int:
        if num_kv_heads is None:
            return self.num_heads
        number = positive_int(num_kv_heads, what="num_kv_heads", where=where)
        if self.num_heads % number != 0:
            raise ArgumentError(
                "Expecting `num_heads` to be divisible by `num_kv_heads`.",
                where=where,
                got=f"num_heads={self.num_heads}, num_kv_heads={number}",
                want=f"num_kv_heads to be a divisor of {self.num_heads}",
            )
        return number

    def _check_inputs(self, query: Array, key: Array, value: Array) -> tuple[int, ...]:
        """Returns the leading axes of the output."""
        arrays = {"query": query, "key": key, "value": value}
        for name, array in arrays.items():
            if array.ndim < 2 or array.shape[-1] != self.model_size:
                raise ArgumentError(
                    f"Expecting {self.model_size} features for `{name}`."
                    + (f" Get {array.shape[-1]} features." if array.ndim >= 2 else f" Get {array.ndim} axes."),
                    module=self,
                    got=f"{name}={describe(array)}",
                    want=f"(..., length, {self.model_size}), num_heads * key_size features",
                )
        try:
            batch = np.broadcast_shapes(*(array.shape[:-2] for array in arrays.values()))
        except ValueError:
            batch = None
        same_length = key.shape[-2] == value.shape[-2] and (self.cache is None or query.shape[-2] == key.shape[-2])
        if batch is None or not same_length:
            raise ArgumentError(
                "The sizes of query, key and value do not fit together.",
                module=self,
                got=", ".join(f"{name}={describe(array)}" for name, array in arrays.items()),
                want="the same leading axes, and the same length of key and value"
                + (", and, with a cache, of query" if self.cache is not None else ""),
            )
        return batch

    def _split_heads(self, x: Array, num_heads: int) -> Array:
        return x.reshape(*x.shape[:-1], num_heads, self.key_size)

    def _rotate(self, x: Array, start: Array | None) -> Array:
        positions = jnp.arange(x.shape[-3], dtype=jnp.int32)
        if start is not None:
            positions = positions + start[None]
        return rotary_embedding(x, positions, base=self.rotary_base, fraction=self.rotary_fraction)

    def _next_dropout_key(self) -> Array:
        if self.rng_key is None:
            raise ArgumentError(
                "Dropout needs a key, and this attention was made without dropout.",
                module=self,
                got=f"dropout_rate={self.dropout_rate}, rng_key=None",
                want="dropout_rate above 0 in the constructor",
                fix="attention.replace(dropout_rate=..., rng_key=jax.random.key(0))",
            )
        keys: Array = jax.random.split(self.rng_key)
        self.rng_key = keys[0]
        return keys[1]

    def _info(self) -> dict[str, Any]:
        return {
            "num_heads": self.num_heads,
            "key_size": self.key_size,
            "num_kv_heads": self.num_kv_heads if self.num_kv_heads != self.num_heads else None,
            "causal": self.causal or None,
            "window": self.window,
            "rotary": self.rotary or None,
            "dropout_rate": self.dropout_rate or None,
            "with_bias": self.with_bias and None,
            "dtype": self.dtype,
        }

    def __repr__(self) -> str:
        return self._repr(self._info())


def _w_init(scale: float, *, where: str) -> Any:
    want = "w_init_scale > 0"
    number = real_number(scale, what="w_init_scale", where=where, want=want)
    if not number > 0:
        raise ArgumentError(
            "Expecting a positive scale of the first weights.",
            where=where,
            got=f"w_init_scale={scale}",
            want=want,
        )
    return VarianceScaling(number, "fan_in", "normal")


def _check_implementation(implementation: Any, *, where: str) -> Any:
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ArgumentError(
            f"Implementation `{implementation}` is not supported.",
            where=where,
            got=f"implementation={implementation!r}",
            want=" or ".join(f'"{name}"' for name in IMPLEMENTATIONS) + ", or None",
        )
    return implementation


def _with_one_batch_axis(x: Array, batch: tuple[int, ...]) -> Array:
    if x.shape[:-3] != batch:
        x = jnp.broadcast_to(x, (*batch, *x.shape[-3:]))
    flat: Array = x if len(batch) == 1 else x.reshape(math.prod(batch), *x.shape[-3:])
    return flat
