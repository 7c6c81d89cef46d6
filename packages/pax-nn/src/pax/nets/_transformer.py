"""A causal transformer without embeddings."""

from typing import Any, Self, TypedDict

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

import pax
from pax import Module, RngSeq
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._attention import MultiHeadAttention
from pax.nn._attention_mask import check_not_additive
from pax.nn._axes import positive_int
from pax.nn._dot_product_attention import Implementation
from pax.nn._dropout import check_rate, dropout
from pax.nn._dtypes import AnyArray, as_array, to_common_dtype
from pax.nn._init_cache import init_cache
from pax.nn._initialize import key_or_next, split_key
from pax.nn._layer_norm import LayerNorm
from pax.nn._linear import Linear
from pax.nn.initializers import VarianceScaling


class CausalSelfAttention(MultiHeadAttention):
    """Attention of a sequence to itself, each position to those up to it.

    Args:
        num_heads: number of heads.
        key_size: number of features of each head.
        w_init_scale: variance of the first weights, times the number of features.
        **options: keyword arguments of :class:`pax.nn.MultiHeadAttention`.
    """

    def __init__(self, num_heads: int, key_size: int, w_init_scale: float, **options: Any) -> None:
        super().__init__(num_heads, key_size, w_init_scale, causal=True, **options)

    def __call__(
        self,
        query: Num[AnyArray, "*batch T M"],
        key: Num[AnyArray, "*batch S M"] | None = None,
        value: Num[AnyArray, "*batch S M"] | None = None,
        mask: Num[AnyArray, "..."] | None = None,
    ) -> Float[Array, "*batch T M"]:
        """Computes attention; ``key`` and ``value`` are ``query`` by default."""
        return super().__call__(query, query if key is None else key, query if value is None else value, mask)

    def _info(self) -> dict[str, Any]:
        return super()._info() | {"causal": None}


class DenseBlock(Module):
    """``fc2(gelu(fc1(x)))``, with four times as many features in between.

    Args:
        dim: number of features.
        w_init_scale: variance of the first weights, times the number of inputs.
        rng_keys: one key for each of the two layers; ``None``: the next ones of the global generator.
        dtype: of computation.
        param_dtype: of the stored weights.
    """

    fc1: Linear
    fc2: Linear

    def __init__(
        self,
        dim: int,
        w_init_scale: float,
        *,
        rng_keys: tuple[Array | None, Array | None] = (None, None),
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        w_init = VarianceScaling(w_init_scale, "fan_in", "normal")
        first, second = rng_keys
        self.fc1 = Linear(dim, 4 * dim, w_init=w_init, rng_key=first, dtype=dtype, param_dtype=param_dtype)
        self.fc2 = Linear(4 * dim, dim, w_init=w_init, rng_key=second, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: Num[AnyArray, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """Applies the block, with the ``tanh`` approximation of GELU."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=True))


class _Layer(TypedDict):
    attention: CausalSelfAttention
    attn_layer_norm: LayerNorm
    dense_layer_norm: LayerNorm
    dense_block: DenseBlock


class Transformer(Module):
    """A stack of causal self-attention and dense blocks, with layer normalisation before each.

    In each layer ``h += dropout(attention(norm(h)))``, then ``h += dropout(dense(norm(h)))``; one more normalisation at
    the end. It neither embeds nor knows positions, unless ``rotary`` is set: add these to its input.

    A position sees itself and earlier ones. Positions that ``mask`` excludes are seen by nobody; what comes out at
    them is of no use, but it is finite, and changes nothing elsewhere.

    Shapes:
        h: ``(B, T, dim)``, or with any other number of leading axes, none included.
        mask: ``(B, T)``; true or non-zero: a real position, else padding, which can be anywhere. Not what is meant is
            an additive mask, with 0 for the real positions: give ``mask == 0``.
        output: as ``h``, in ``dtype``; by default in the promoted dtype of input and weights.
    Parameters:
        those of ``layers``, a list of dictionaries of ``attention``, ``attn_layer_norm``, ``dense_layer_norm`` and
        ``dense_block``, and of ``layer_norm_output``.
    State:
        rng_seq: the keys of dropout; it changes in train mode at a rate above 0 only, and then a call needs
            ``pax.purecall``.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> transformer = pax.nets.Transformer(dim=8, num_heads=2, num_layers=2, dropout_rate=0.1)
    >>> h = jnp.ones((3, 5, 8))
    >>> transformer, y = pax.purecall(transformer, h)
    >>> y.shape, transformer.eval()(h, mask=jnp.ones((3, 5))).shape
    ((3, 5, 8), (3, 5, 8))

    Decoding, token by token:

    >>> decoder = transformer.eval().init_cache(batch_shape=3, max_length=5)
    >>> decoder, first = pax.purecall(decoder, h[:, :4])
    >>> decoder, last = pax.purecall(decoder, h[:, 4:])
    >>> last.shape
    (3, 1, 8)

    References:
        Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2), for the place of the
        normalisation; Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762.
    """

    dropout_rate: float
    remat: bool
    rng_seq: RngSeq
    layers: list[_Layer]
    layer_norm_output: LayerNorm

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_layers: int,
        dropout_rate: float,
        *,
        num_kv_heads: int | None = None,
        rotary: bool = False,
        window: int | None = None,
        implementation: Implementation | None = None,
        remat: bool = False,
        rng_key: Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            dim: number of features, a multiple of ``num_heads``.
            num_heads: number of heads of each attention, at least 1.
            num_layers: number of layers, at least 1.
            dropout_rate: probability of dropping an output of an attention or a dense block, in [0, 1).
            num_kv_heads: see :class:`pax.nn.MultiHeadAttention`.
            rotary: see there.
            window: see there.
            implementation: see there.
            remat: compute the insides of each layer anew in the backward pass, instead of keeping them: less memory
                for about a third more time.
            rng_key: the key to draw from; default: the next ones of the global generator.
            dtype: dtype of computation and output; default: the promoted dtype of input and weights.
            param_dtype: dtype in which the weights are stored; default: JAX's default float dtype.

        Raises:
            ArgumentError: a number outside of its range.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__()
        where = "Transformer"
        dim = positive_int(dim, what="dim", where=where)
        num_heads = positive_int(num_heads, what="num_heads", where=where)
        num_layers = positive_int(num_layers, what="num_layers", where=where)
        if dim % num_heads != 0:
            raise ArgumentError(
                "Expecting `dim` to be divisible by `num_heads`.",
                where=where,
                got=f"dim={dim}, num_heads={num_heads}",
                want=f"num_heads to be a divisor of {dim}",
            )
        self.dropout_rate = check_rate(dropout_rate, where=where)
        self.remat = bool(remat)
        keys: list[Array | None] = [None] * (5 * num_layers + 2)
        if rng_key is not None:
            keys = [*split_key(key_or_next(rng_key, where=where), 5 * num_layers + 2)]
        scale = 2 / num_layers
        dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}

        def layer(attention_key: Any, first: Any, second: Any, fc1: Any, fc2: Any) -> _Layer:
            return {
                "attention": CausalSelfAttention(
                    num_heads,
                    dim // num_heads,
                    scale,
                    num_kv_heads=num_kv_heads,
                    rotary=rotary,
                    window=window,
                    implementation=implementation,
                    rng_key=attention_key,
                    **dtypes,
                ),
                "attn_layer_norm": LayerNorm(dim, -1, True, True, rng_key=first, **dtypes),
                "dense_layer_norm": LayerNorm(dim, -1, True, True, rng_key=second, **dtypes),
                "dense_block": DenseBlock(dim, scale, rng_keys=(fc1, fc2), **dtypes),
            }

        self.rng_seq = RngSeq(rng_key=keys[0])
        self.layers = [layer(*keys[5 * i + 1 : 5 * i + 6]) for i in range(num_layers)]
        self.layer_norm_output = LayerNorm(dim, -1, True, True, rng_key=keys[-1], **dtypes)

    def __call__(
        self, h: Num[AnyArray, "*batch T dim"], mask: Num[AnyArray, "*batch T"] | None = None
    ) -> Float[Array, "*batch T dim"]:
        """Applies all layers.

        Args:
            h: ``(B, T, dim)``; after :meth:`init_cache` the next positions.
            mask: ``(B, T)``, the real positions; default: all. After :meth:`init_cache` it is ``(B, max_length)``, and
                counts from the first position of the cache.

        Returns:
            ``(B, T, dim)``.

        Raises:
            ArgumentError: ``h`` or ``mask`` of another shape, an additive mask, or a cache that is full.
            MutationError: in train mode at a rate above 0, or with a cache, outside of ``pax.purecall`` or
                ``pax.pure``.
        """
        h = as_array(h, module=self)
        mask = self._check_inputs(h, mask)
        drops = self.training and self.dropout_rate > 0
        keys = self.rng_seq.next_rng_key(2 * len(self.layers)) if drops else [None] * 2 * len(self.layers)
        for i, layer in enumerate(self.layers):
            h = self._apply(layer, h, mask, keys[2 * i], keys[2 * i + 1])
        return self.layer_norm_output(h)

    def init_cache(
        self, batch_shape: int | tuple[int, ...], max_length: int, *, dtype: DTypeLike | None = None
    ) -> Self:
        """Returns a copy that decodes: each call takes the next positions, and attends to all before.

        See :func:`pax.nn.init_cache` for the arguments.
        """
        return init_cache(self, batch_shape, max_length, dtype=dtype)

    def _check_inputs(self, h: Array, mask: Any) -> Array | None:
        attention = self.layers[0]["attention"]
        dim = attention.model_size
        if h.ndim < 2 or h.shape[-1] != dim:
            raise ArgumentError(
                f"Expecting {dim} features. Get {h.shape[-1]} features."
                if h.ndim >= 2
                else f"Expecting an input with at least 2 axes. Get {h.ndim} axes.",
                module=self,
                got=describe(h),
                want=f"(B, T, {dim})",
            )
        if mask is None:
            return None
        mask = as_array(mask, module=self)
        length = h.shape[-2] if attention.cache is None else attention.cache.max_length
        if mask.shape != (*h.shape[:-2], length):
            raise ArgumentError(
                "The mask does not fit the input.",
                module=self,
                got=f"mask={describe(mask)}, h={describe(h)}",
                want=f"one entry for each position: {(*h.shape[:-2], length)}",
            )
        check_not_additive(mask, module=self)
        return jnp.expand_dims(mask, (-3, -2))

    def _apply(
        self, layer: _Layer, h: Array, mask: Array | None, first_key: Array | None, second_key: Array | None
    ) -> Array:
        arguments = layer, h, mask, first_key, second_key, self.dropout_rate
        if any(_has_state(module) for module in layer.values()):
            return _apply_layer(*arguments)
        y: Array = (_apply_layer_again if self.remat else _apply_layer_once)(*arguments)
        return y


def _apply_layer(
    layer: _Layer, h: Array, mask: Array | None, first_key: Array | None, second_key: Array | None, rate: float
) -> Array:
    h = _add(h, layer["attention"](layer["attn_layer_norm"](h), mask=mask), first_key, rate)
    return _add(h, layer["dense_block"](layer["dense_layer_norm"](h)), second_key, rate)


def _add(h: Array, y: Array, key: Array | None, rate: float) -> Array:
    h, y = to_common_dtype(h, y if key is None else dropout(key, rate, y))
    return h + y


# Compiled functions: the layers of a network are equal, so all but the first are neither traced nor lowered again.
_apply_layer_once = jax.jit(_apply_layer, static_argnames="rate")
_apply_layer_again = jax.jit(jax.checkpoint(_apply_layer, static_argnums=5), static_argnums=5)


def _has_state(module: Any) -> bool:
    """Whether a call could change something, which is not possible inside of the compiled functions."""
    size = len(jax.tree.leaves(module))
    if len(jax.tree.leaves(module.parameters())) == size:
        return False
    return len(jax.tree.leaves(pax.unfreeze_parameters(module).parameters())) != size
