"""``ZNorm``: batch normalization without the affine part."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax._module import Axes
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._arguments import Initializer, KeyedLayer, axes_of, floating
from pax.extend import describe

_NAMED = ("channel_last", "channel_first", "all")


class ZNorm(KeyedLayer):
    """Subtracts the mean and divides by the standard deviation.

    In training, mean and (biased) variance are those of the input over ``axis`` and over the mapped axes
    ``batch_axis_name``; moving averages of them are updated. In inference mode the moving averages are used.

    Without ``batch_axis_name`` each example has statistics of its own, so ``vmap`` cannot return one module for all:
    call it with the name of the mapped axis. Follow it by `Scaler` and `Bias` for batch normalization.

    Parameters:
        moving_mean: the shape of the input without ``axis``, float32; not trained.
        moving_var: the same.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        axis: ``"channel_last"``: all axes but the last; ``"channel_first"``: all but the first; ``"all"``; or an axis,
            or several.
        epsilon: added to the variance, at least 0.
        momentum: the weight of the old moving averages, in [0, 1].
        mean_initializer: ``mean_initializer(key, shape, dtype)``; zeros by default.
        var_initializer: the same; ones by default.

    Raises:
        ArgumentError: an unknown name, or a number out of range.
        ArgumentTypeError: ``rng`` is no key.

    References:
        Ioffe & Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import ZNorm
    >>> norm = ZNorm(jax.random.key(0), "channel_last")
    >>> x = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    >>> y, norm = jax.vmap(norm.__call__, (0, None, None, None), (0, None), axis_name="N")(x, None, False, "N")
    >>> print(norm.moving_mean.data, norm.moving_var.data)
    [0.2 0.4] [1.  1.3]
    """

    def __init__(
        self,
        rng: Any,
        axis: str | int | Sequence[int],
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        mean_initializer: Initializer = initializers.zeros,
        var_initializer: Initializer = initializers.ones,
    ) -> None:
        super().__init__(rng)
        if isinstance(axis, str) and axis not in _NAMED:
            raise ArgumentError(
                "`axis` has an unknown name.",
                where="mlax.nn.ZNorm",
                got=f"axis={axis!r}",
                want=" or ".join(map(repr, _NAMED)) + ", or integers",
            )
        self.axis = axis
        self.epsilon = _in_range(epsilon, "epsilon", float("inf"))
        self.momentum = _in_range(momentum, "momentum", 1.0)
        self.mean_initializer = mean_initializer
        self.var_initializer = var_initializer
        self.moving_mean = Parameter(trainable=False)
        self.moving_var = Parameter(trainable=False)

    def setup(self, x: Any) -> None:
        """Makes the moving averages.

        Args:
            x: an input.
        """
        x = floating(x, module=self)
        axes = self._axes(x)
        shape = tuple(size for index, size in enumerate(x.shape) if index not in axes)
        self.moving_mean.data = self.draw("mean_initializer", shape, jnp.float32, what="moving_mean")
        self.moving_var.data = self.draw("var_initializer", shape, jnp.float32, what="moving_var")

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns the normalized input, in its dtype; integers become floats.

        Raises:
            ArgumentError: ``x`` has no such axis, or there is no mapped axis of this name.
            ArgumentTypeError: ``x`` has another shape than in ``setup``.
        """
        x = floating(x, module=self)
        axes = self._axes(x)
        mean, var = self.moving_mean.data, self.moving_var.data
        if mean.shape != tuple(size for index, size in enumerate(x.shape) if index not in axes):
            raise ArgumentTypeError(
                "The input has another shape than in `setup`.",
                got=describe(x),
                want=f"an input with statistics of the shape {mean.shape}",
                module=self,
            )
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not inference_mode:
            mean = self._mean(wide, axes, batch_axis_name)
            var = self._mean(jnp.square(jnp.abs(wide - jnp.expand_dims(mean, axes))), axes, batch_axis_name)
            for moving, new in ((self.moving_mean, mean), (self.moving_var, var)):
                old = moving.data
                moving.data = self.momentum * old + (1 - self.momentum) * new.astype(old.dtype)
        mean, var = mean.astype(wide.dtype), var.astype(wide.dtype)
        scale = jax.lax.rsqrt(var + self.epsilon)
        y: jax.Array = ((wide - jnp.expand_dims(mean, axes)) * jnp.expand_dims(scale, axes)).astype(x.dtype)
        return y

    def _axes(self, x: jax.Array) -> tuple[int, ...]:
        if not isinstance(self.axis, str):
            return axes_of(self.axis, x.ndim, where="mlax.nn.ZNorm")
        every = tuple(range(x.ndim))
        if self.axis == "all":
            return every
        if not every:
            raise ArgumentTypeError("Expecting an array with at least one axis.", got=describe(x), module=self)
        return every[:-1] if self.axis == "channel_last" else every[1:]

    def _mean(self, x: jax.Array, axes: tuple[int, ...], batch_axis_name: Axes) -> jax.Array:
        mean = jnp.mean(x, axis=axes)
        if isinstance(batch_axis_name, tuple) and not batch_axis_name:
            return mean
        try:
            total: jax.Array = jax.lax.pmean(mean, batch_axis_name)
        except NameError as error:
            raise ArgumentError(
                "There is no mapped axis of this name here.",
                got=f"batch_axis_name={batch_axis_name!r}",
                want="the name of an axis of `jax.vmap` or `jax.pmap` around the call; () for none",
                fix='jax.vmap(net.__call__, (0, None, None, None), (0, None), axis_name="N")(x, key, False, "N")',
                module=self,
            ) from error
        return total

    def __repr__(self) -> str:
        return self._repr({"axis": repr(self.axis), "epsilon": self.epsilon, "momentum": self.momentum})


def _in_range(value: Any, what: str, upper: float) -> float:
    want = f"a number in [0, {upper:g}]" if upper < float("inf") else "a number, at least 0"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"`{what}` has to be a number.", where="mlax.nn.ZNorm", got=describe(value), want=want
        ) from None
    if not 0 <= number <= upper:
        raise ArgumentError(f"`{what}` is out of range.", where="mlax.nn.ZNorm", got=f"{what}={number}", want=want)
    return number
