"""``Linear``: a matrix product."""

from typing import Any

import jax
import jax.numpy as jnp

from pax.errors import ArgumentTypeError
from pax.experimental.mlax._module import Axes
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._arguments import (
    Initializer,
    KeyedLayer,
    floating,
    floating_dtype,
    lecun_normal,
    positive,
)
from pax.extend import describe


class Linear(KeyedLayer):
    """Multiplies the last axis by a matrix. There is no bias: see `Bias`.

    Parameters:
        linear_kernel: ``(in, out_features)``, or ``(out_features, in)`` if it is transposed.
        rng: the key of ``setup``; not trained.

    Args:
        rng: a key; see `KeyedLayer`.
        out_features: the size of the last axis of the output, at least 1.
        transposed_kernel: keep the kernel transposed. The function is the same, for the same key.
        kernel_initializer: draws ``(in, out_features)``: ``kernel_initializer(key, shape, dtype)``. Like all
            initializers of these layers it is dropped after ``setup``.
        dtype: of the kernel; it is cast to that of the input in each call.
        precision: of the product, see ``jax.numpy.matmul``.

    Raises:
        ArgumentError: ``out_features`` is smaller than 1.
        ArgumentTypeError: it is no integer, ``rng`` is no key, or ``dtype`` no floating dtype.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Linear
    >>> y, linear = Linear(jax.random.key(0), 2, kernel_initializer=jax.nn.initializers.ones)(jnp.arange(3.0), None)
    >>> y
    Array([3., 3.], dtype=float32)
    >>> print(linear.summary())
    Linear(out_features=2)
    ├── Parameter(trainable=False, data=key<fry>[])
    └── Parameter(trainable=True, data=float32[3,2])
    """

    def __init__(
        self,
        rng: Any,
        out_features: int,
        *,
        transposed_kernel: bool = False,
        kernel_initializer: Initializer = lecun_normal,
        dtype: Any = jnp.float32,
        precision: Any = None,
    ) -> None:
        super().__init__(rng)
        self.out_features = positive(out_features, what="out_features", where="mlax.nn.Linear")
        self.transposed_kernel = bool(transposed_kernel)
        self.kernel_initializer = kernel_initializer
        self.dtype = floating_dtype(dtype, where="mlax.nn.Linear")
        self.precision = precision
        self.linear_kernel = Parameter(trainable=True)

    def setup(self, x: Any) -> None:
        """Draws the kernel.

        Args:
            x: ``(..., in)``.
        """
        x = self._input(x)
        kernel = self.draw("kernel_initializer", (x.shape[-1], self.out_features), self.dtype, what="linear_kernel")
        self.linear_kernel.data = kernel.T if self.transposed_kernel else kernel

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> jax.Array:
        """Returns ``x @ kernel``: ``(..., out_features)``, in the dtype of ``x``; integers become floats.

        Raises:
            ArgumentTypeError: ``x`` is a scalar, or its last axis has another size than the kernel was made for.
        """
        x = self._input(x)
        kernel = self.linear_kernel.data.astype(x.dtype)
        kernel = kernel.T if self.transposed_kernel else kernel
        if x.shape[-1] != kernel.shape[0]:
            raise ArgumentTypeError(
                "The last axis of the input has another size than in `setup`.",
                got=describe(x),
                want=f"[...,{kernel.shape[0]}]",
                module=self,
            )
        y: jax.Array = jnp.matmul(x, kernel, precision=self.precision)
        return y

    def _input(self, x: Any) -> jax.Array:
        array = floating(x, module=self)
        if array.ndim == 0:
            raise ArgumentTypeError("Expecting an array with at least one axis.", got=describe(array), module=self)
        return array

    def __repr__(self) -> str:
        return self._repr({"out_features": self.out_features})
