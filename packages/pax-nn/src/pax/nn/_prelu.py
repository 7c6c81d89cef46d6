"""The rectifier with a trained slope."""

import numbers

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import ParameterModule
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._axes import integer, positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import filled


class PReLU(ParameterModule):
    """Scales negative numbers by a trained slope, and returns the others as they are.

    ``y = x if x > 0 else weight * x``

    Shapes:
        input: any shape if there is one slope; else ``num_channels`` along ``axis``. Any numeric dtype.
        output: same shape, in ``dtype``; by default in the promoted dtype of input and weight.
    Parameters:
        weight: ``()``, or ``(num_channels,)``, in ``param_dtype``; JAX's default float dtype by default.
    State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> pax.nn.PReLU()(jnp.array([-4.0, 0.0, 4.0]))
    Array([-1.,  0.,  4.], dtype=float32)
    >>> pax.nn.PReLU(3)
    PReLU(num_channels=3, axis=-1)

    References:
        He, Zhang, Ren & Sun, "Delving Deep into Rectifiers", 2015, section 2.1, https://arxiv.org/abs/1502.01852
    """

    num_channels: int | None
    axis: int
    dtype: jnp.dtype | None
    weight: Float[Array, "..."]

    def __init__(
        self,
        num_channels: int | None = None,
        init_value: float = 0.25,
        axis: int = -1,
        *,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Makes the slopes.

        Args:
            num_channels: how many slopes there are, one per channel; default: one for all.
            init_value: the first value of each slope; 0.25 is that of the paper.
            axis: the axis of the channels, counted from the end if negative; unused if there is one slope.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the slopes are stored; default: JAX's default float dtype.

        Raises:
            ArgumentError: a number of channels smaller than 1.
            ArgumentTypeError: a number of channels or an axis that is no integer, a first value that is no number,
                or no floating dtype.
        """
        super().__init__(name=name)
        self.num_channels = (
            None if num_channels is None else positive_int(num_channels, what="num_channels", where="PReLU")
        )
        self.axis = integer(axis, what="axis", where="PReLU")
        self.dtype = optional_float_dtype(dtype, what="dtype", where="PReLU")
        stored_dtype = optional_float_dtype(param_dtype, what="param_dtype", where="PReLU")
        if not isinstance(init_value, numbers.Real):
            raise ArgumentTypeError(
                "Expecting a number for `init_value`.", where="PReLU", got=describe(init_value), want="a float"
            )
        shape = () if self.num_channels is None else (self.num_channels,)
        self.weight = filled(shape, float(init_value), stored_dtype)

    def __call__(self, x: Num[AnyArray, "*shape"]) -> Num[Array, "*shape"]:
        """Applies the layer.

        Args:
            x: an array of any shape, with ``num_channels`` elements along ``axis`` if that is set.

        Raises:
            ArgumentError: ``x`` does not have that axis, or it has another length.
        """
        x = as_array(x, module=self)
        if self.num_channels is not None and not self._fits(x):
            raise ArgumentError(
                f"Expecting {self.num_channels} channels along axis {self.axis}.",
                module=self,
                got=describe(x),
                want=f"an axis {self.axis} of length {self.num_channels}",
                fix="PReLU(), one slope for all channels, or another axis",
            )
        x, weight = to_common_dtype(x, self.weight, dtype=self.dtype)
        if self.num_channels is not None:
            axis = self.axis % x.ndim
            weight = jnp.expand_dims(weight, [other for other in range(x.ndim) if other != axis])
        # The slope meets negative numbers only: an infinite positive one would make its gradient NaN.
        is_positive = x > 0
        return jnp.where(is_positive, x, 0) + weight * jnp.where(is_positive, 0, x)

    def _fits(self, x: jax.Array) -> bool:
        return -x.ndim <= self.axis < x.ndim and x.shape[self.axis] == self.num_channels

    def __repr__(self) -> str:
        per_channel = {} if self.num_channels is None else {"num_channels": self.num_channels, "axis": self.axis}
        return self._repr({**per_channel, "dtype": self.dtype})
