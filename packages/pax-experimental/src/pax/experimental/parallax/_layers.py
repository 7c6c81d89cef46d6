"""``Dense`` and ``Dropout``: the layers of Parallax's own example."""

from typing import Any

import jax
import jax.nn.initializers as init
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.parallax._fields import Parameter
from pax.experimental.parallax._module import Module
from pax.experimental.parallax._param_init import ParamInit
from pax.extend import describe


class Dense(Module):
    """A matrix and a bias, for one vector at a time: ``weight @ input + bias``.

    Args:
        in_size: length of the input.
        out_size: length of the output.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.parallax import Dense
    >>> layer = Dense(5, 10).initialized(jax.random.key(0))
    >>> layer, layer(jnp.zeros(5)).shape
    (Dense(5, 10), (10,))
    >>> jax.vmap(layer)(jnp.zeros((32, 5))).shape
    (32, 10)
    """

    weight: Parameter
    bias: Parameter

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = ParamInit((out_size, in_size), init.xavier_normal())
        self.bias = ParamInit((out_size,), init.normal())

    def forward(self, input: jax.Array) -> jax.Array:
        """Returns an array of length ``out_size``.

        Args:
            input: an array of length ``in_size``.

        Raises:
            ArgumentError: ``input`` has another shape.
        """
        is_made = isinstance(self.weight, jax.Array | np.ndarray) and self.weight.ndim == 2
        if is_made and (shape := jnp.shape(input)) != self.weight.shape[1:]:
            out_size, in_size = self.weight.shape
            raise ArgumentError(
                "`Dense` takes one vector at a time, of its length.",
                got=describe(input),
                want=f"an array of shape [{in_size}]",
                fix=f"Dense({shape[0]}, {out_size})"
                if len(shape) == 1
                else f"jax.vmap(layer)(batch)  # of shape [n, {in_size}]",
                module=self,
            )
        output: jax.Array = self.weight @ input + self.bias
        return output

    def extra_repr(self) -> str:
        """Returns both sizes."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class Dropout(Module):
    """Sets random elements to zero, in the mode "train", and scales the others up.

    Mind the argument: it is the part that is *kept*. ``pax.Dropout`` takes the part that is dropped. Two calls give
    the same zeros; :meth:`new_state` and :meth:`split` give new ones.

    Args:
        rate: the probability of keeping an element, in (0, 1].

    Raises:
        ArgumentTypeError: ``rate`` is no number.
        ArgumentError: ``rate`` is outside of this range.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.parallax import Dropout
    >>> layer = Dropout(0.5).initialized(jax.random.key(0))
    >>> layer.new_state(jax.random.key(1), mode="eval")(jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)
    """

    rate: float

    def __init__(self, rate: float) -> None:
        super().__init__()
        given: Any = rate
        if isinstance(given, bool) or not isinstance(given, int | float | np.integer | np.floating):
            raise ArgumentTypeError(
                "The probability of keeping an element is a number.",
                where="Dropout, argument `rate`",
                got=describe(given),
                want="a number in (0, 1]",
                fix="Dropout(0.8)  # drops 20 %",
            )
        if not 0 < rate <= 1:
            raise ArgumentError(
                "The probability of keeping an element is out of range.",
                where="Dropout, argument `rate`",
                got=describe(rate),
                want="a number in (0, 1]",
                fix="Dropout(0.8)  # drops 20 %",
            )
        self.rate = rate

    def forward(self, input: jax.Array) -> jax.Array:
        """Returns an array of the same shape.

        Args:
            input: any array.
        """
        if self.mode != "train":
            return input
        keep = jax.random.bernoulli(self.rng, self.rate, input.shape)
        return jnp.where(keep, input / self.rate, 0)
