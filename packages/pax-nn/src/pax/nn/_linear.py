"""The fully connected layer."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import ParameterModule
from pax.errors import ArgumentTypeError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import initialize, key_or_next, split_key
from pax.nn.initializers import Initializer, Normal


@functools.partial(jax.jit, inline=True)
def _affine(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    """One compiled call instead of two when the layer runs outside of ``jit``; inside, it leaves no trace."""
    x, weight = to_common_dtype(x, weight)
    y = jnp.matmul(x, weight)
    if bias is None:
        return y
    y, bias = to_common_dtype(y, bias)
    return y + jnp.expand_dims(bias, range(y.ndim - 1))


class Linear(ParameterModule):
    """Multiplies the last axis by a matrix and adds a bias.

    ``y = x @ weight + bias``

    Shapes:
        input: ``(..., in_dim)`` with any number of leading axes, none included; any numeric dtype.
        output: ``(..., out_dim)``, in ``dtype``; by default in the promoted dtype of input and weight: float32 weights
            give float32 for integer, bfloat16 and float32 inputs.
    Parameters:
        weight: ``(in_dim, out_dim)``, in ``param_dtype``; JAX's default float dtype by default.
        bias: ``(out_dim,)``, same dtype; there is no such attribute if ``with_bias`` is false.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> fc = pax.nn.Linear(2, 3)
    >>> fc
    Linear(in_dim=2, out_dim=3, with_bias=True)
    >>> fc(jnp.ones((5, 2))).shape
    (5, 3)
    """

    in_dim: int
    out_dim: int
    with_bias: bool
    dtype: jnp.dtype | None
    weight: Float[Array, "in_dim out_dim"]
    bias: Float[Array, " out_dim"]

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            in_dim: size of the last axis of the input, at least 1.
            out_dim: size of the last axis of the output, at least 1.
            with_bias: whether to add a bias.
            w_init: initializer of the weight; default: normal with standard deviation ``1 / sqrt(in_dim)``.
            b_init: initializer of the bias; default: the same distribution (the bias does not start at zero).
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a size smaller than 1, or an initializer that returns another shape.
            ArgumentTypeError: a size that is no integer, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        self.in_dim = positive_int(in_dim, what="in_dim", where="Linear")
        self.out_dim = positive_int(out_dim, what="out_dim", where="Linear")
        self.with_bias = with_bias
        self.dtype = optional_float_dtype(dtype, what="dtype", where="Linear")
        param_dtype = optional_float_dtype(param_dtype, what="param_dtype", where="Linear")
        default = Normal(1 / math.sqrt(self.in_dim))
        w_key, b_key = split_key(key_or_next(rng_key, where="Linear"))
        shape = (self.in_dim, self.out_dim)
        draw = functools.partial(initialize, where="Linear", param_dtype=param_dtype)
        self.weight = draw(default if w_init is None else w_init, w_key, shape, what="weight")
        if with_bias:
            self.bias = draw(default if b_init is None else b_init, b_key, shape[1:], what="bias")

    def __call__(self, x: Num[AnyArray, "*batch in_dim"]) -> Num[Array, "*batch out_dim"]:
        """Applies the layer.

        Args:
            x: ``(..., in_dim)``.

        Returns:
            ``(..., out_dim)``.

        Raises:
            ArgumentTypeError: ``x`` is a scalar or its last axis has another size.
        """
        x = as_array(x, module=self)
        if x.ndim == 0 or x.shape[-1] != self.in_dim:
            raise self._shape_error(x)
        weight, bias = self.weight, self.bias if self.with_bias else None
        if self.dtype is not None:
            x, weight = to_common_dtype(x, weight, dtype=self.dtype)
            bias = None if bias is None else bias.astype(self.dtype)
        y: Array = _affine(x, weight, bias)
        return y

    def _shape_error(self, x: jax.Array) -> ArgumentTypeError:
        headline = (
            "expecting an input of shape `...C`"
            if x.ndim == 0
            else f"Expecting {self.in_dim} input features. Get {x.shape[-1]} features."
        )
        return ArgumentTypeError(
            headline,
            module=self,
            got=describe(x),
            want=f"{self.weight.dtype}[*,{self.in_dim}]",
            fix=f"Linear({x.shape[-1]}, {self.out_dim})" if x.ndim else "x[None]",
        )

    def __repr__(self) -> str:
        info = {"in_dim": self.in_dim, "out_dim": self.out_dim, "with_bias": self.with_bias, "dtype": self.dtype}
        return self._repr(info)
