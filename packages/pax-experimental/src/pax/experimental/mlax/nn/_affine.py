"""``Bias`` and ``Scaler``: one number for each element of the chosen axes."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax._module import Axes
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._arguments import Initializer, KeyedLayer, floating, floating_dtype
from pax.extend import describe


class _PerAxis(KeyedLayer):
    """What bias and scaler share: the shape of the parameter, and how it meets the input."""

    def __init__(self, rng: Any, in_features: int | Sequence[int], dtype: Any) -> None:
        super().__init__(rng)
        where = f"mlax.nn.{type(self).__name__}"
        self.in_features = _sizes(in_features, where=where)
        self.dtype = floating_dtype(dtype, where=where)

    def _own_sizes(self, x: jax.Array) -> tuple[int, ...]:
        """Returns for each of the last axes of the input how many numbers there are; 0 for none of its own."""
        axes = x.shape[x.ndim - len(self.in_features) :]
        fits = len(axes) == len(self.in_features) and all(
            wanted in (-1, 0, 1, size) for wanted, size in zip(self.in_features, axes, strict=True)
        )
        if not fits:
            raise ArgumentError(
                "The input does not have the shape that `in_features` asks for.",
                got=describe(x),
                want=f"in_features={self.in_features}, for the last {len(self.in_features)} axes",
                fix="-1 stands for the size of the axis, 1 for a shared term, 0 for no term",
                module=self,
            )
        return tuple(size if wanted == -1 else wanted for wanted, size in zip(self.in_features, axes, strict=True))

    def _kernel_shape(self, x: Any) -> tuple[int, ...]:
        return tuple(size for size in self._own_sizes(floating(x, module=self)) if size)

    def _aligned(self, kernel: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the kernel in the dtype of the input, with an axis for each of its axes."""
        sizes = self._own_sizes(x)
        if kernel.shape != tuple(size for size in sizes if size):
            raise ArgumentTypeError(
                "The input has another shape than in `setup`.",
                got=describe(x),
                want=f"an input for terms of the shape {kernel.shape}",
                module=self,
            )
        leading = (1,) * (x.ndim - len(sizes))
        return kernel.reshape(leading + tuple(size or 1 for size in sizes)).astype(x.dtype)

    def __repr__(self) -> str:
        features = self.in_features
        return self._repr({"in_features": features[0] if len(features) == 1 else features})


class Bias(_PerAxis):
    """Adds a learned term.

    Parameters:
        bias_kernel: one axis for each axis with terms: those of ``in_features`` that are not 0.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        in_features: one number for each of the last axes: 0 for no term along it, 1 for one shared term, -1 or the size
            of the axis for one term per element. An integer stands for a tuple of one; ``()`` is one term for all.
        bias_initializer: ``bias_initializer(key, shape, dtype)``; zeros by default.
        dtype: of the terms; they are cast to that of the input in each call.

    Raises:
        ArgumentError: a number is smaller than -1.
        ArgumentTypeError: it is no integer, ``rng`` is no key, or ``dtype`` no floating dtype.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Bias
    >>> x = jnp.ones((2, 3))
    >>> for in_features in ((0, -1), (), (1, 0), -1):
    ...     print(Bias(jax.random.key(0), in_features)(x, None)[1].bias_kernel)
    Parameter(trainable=True, data=float32[3])
    Parameter(trainable=True, data=float32[])
    Parameter(trainable=True, data=float32[1])
    Parameter(trainable=True, data=float32[3])
    """

    def __init__(
        self,
        rng: Any,
        in_features: int | Sequence[int],
        bias_initializer: Initializer = initializers.zeros,
        dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(rng, in_features, dtype)
        self.bias_initializer = bias_initializer
        self.bias_kernel = Parameter(trainable=True)

    def setup(self, x: Any) -> None:
        """Makes the terms.

        Args:
            x: an input with the axes of ``in_features`` as its last ones.
        """
        shape = self._kernel_shape(x)
        self.bias_kernel.data = self.draw("bias_initializer", shape, self.dtype, what="bias_kernel")

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns ``x + bias``, in the dtype of ``x``; integers become floats.

        Raises:
            ArgumentError: ``x`` does not have the axes of ``in_features``.
            ArgumentTypeError: they have other sizes than in ``setup``.
        """
        x = floating(x, module=self)
        y: jax.Array = x + self._aligned(self.bias_kernel.data, x)
        return y


class Scaler(_PerAxis):
    """Multiplies by a learned factor.

    Parameters:
        scaler_kernel: one axis for each axis with factors: those of ``in_features`` that are not 0.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        in_features: as in `Bias`.
        scaler_initializer: ``scaler_initializer(key, shape, dtype)``; ones by default.
        dtype: of the factors; they are cast to that of the input in each call.

    Raises:
        ArgumentError: a number is smaller than -1.
        ArgumentTypeError: it is no integer, ``rng`` is no key, or ``dtype`` no floating dtype.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Scaler
    >>> double = Scaler(jax.random.key(0), (), jax.nn.initializers.constant(2.0))
    >>> double(jnp.arange(3.0), None)[0]
    Array([0., 2., 4.], dtype=float32)
    """

    def __init__(
        self,
        rng: Any,
        in_features: int | Sequence[int],
        scaler_initializer: Initializer = initializers.ones,
        dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(rng, in_features, dtype)
        self.scaler_initializer = scaler_initializer
        self.scaler_kernel = Parameter(trainable=True)

    def setup(self, x: Any) -> None:
        """Makes the factors.

        Args:
            x: an input with the axes of ``in_features`` as its last ones.
        """
        shape = self._kernel_shape(x)
        self.scaler_kernel.data = self.draw("scaler_initializer", shape, self.dtype, what="scaler_kernel")

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns ``x * factors``, in the dtype of ``x``; integers become floats.

        Raises:
            ArgumentError: ``x`` does not have the axes of ``in_features``.
            ArgumentTypeError: they have other sizes than in ``setup``.
        """
        x = floating(x, module=self)
        y: jax.Array = x * self._aligned(self.scaler_kernel.data, x)
        return y


def _sizes(in_features: Any, *, where: str) -> tuple[int, ...]:
    want = "for each axis 0, 1, -1, or its size"
    try:
        sizes = tuple(map(operator.index, in_features if isinstance(in_features, Sequence) else (in_features,)))
    except TypeError:
        raise ArgumentTypeError(
            "`in_features` has to be an integer, or several.",
            where=where,
            got=f"in_features={in_features!r}",
            want=want,
            fix=f"{where}(rng, -1)",
        ) from None
    if any(size < -1 for size in sizes):
        raise ArgumentError(
            "`in_features` has a negative size.", where=where, got=f"in_features={in_features!r}", want=want
        )
    return sizes
