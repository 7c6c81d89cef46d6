"""Fully connected layers in a row."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from pax import Module
from pax.errors import ArgumentError
from pax.nn._axes import positive_int
from pax.nn._dropout import Dropout
from pax.nn._dtypes import AnyArray, optional_float_dtype
from pax.nn._initialize import key_or_next, split_key
from pax.nn._linear import Linear
from pax.nn._sequential import as_module
from pax.nn.initializers import Initializer


class MLP(Module):
    """A multilayer perceptron: fully connected layers with an activation function between them.

    ``x = dropout(activation(layer(x)))`` for each layer but the last, which is followed by nothing, or with
    ``activate_final`` by the activation and dropout, too.

    Shapes:
        input: ``(..., sizes[0])`` with any number of leading axes, none included.
        output: ``(..., sizes[-1])``, in ``dtype``; by default in the promoted dtype of input and weights.
    Parameters:
        layers: a :class:`Linear` for each pair of sizes that follow each other; and those of ``activation``, if it is a
            module.
    State:
        dropout: a :class:`Dropout`, ``None`` at rate 0; in train mode it changes in every call.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> mlp = pax.nn.MLP((2, 32, 3))
    >>> print(mlp.summary())
    MLP(sizes=(2, 32, 3))
    ├── Linear(in_dim=2, out_dim=32, with_bias=True)
    ├── Linear(in_dim=32, out_dim=3, with_bias=True)
    └── x => relu(x)
    >>> mlp(jnp.ones((5, 2))).shape
    (5, 3)
    """

    sizes: tuple[int, ...]
    activate_final: bool
    dtype: jnp.dtype | None
    layers: tuple[Linear, ...]
    activation: Module
    dropout: Dropout | None

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Module | Callable[[Any], Any] = jax.nn.relu,
        *,
        dropout_rate: float = 0.0,
        activate_final: bool = False,
        with_bias: bool = True,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            sizes: the size of the input, of each hidden layer, and of the output; at least two.
            activation: a function, or a module such as :class:`PReLU`, which is then one for all layers. Functions
                become a :class:`Lambda`; see there on ``lambda`` expressions.
            dropout_rate: probability of *dropping* an element after an activation, in [0, 1).
            activate_final: whether activation and dropout follow the last layer, too.
            with_bias: whether the layers add a bias.
            w_init: initializer of the weights; default: that of :class:`Linear`.
            b_init: initializer of the biases; default: that of :class:`Linear`.
            rng_key: the key that all keys are split from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input and weights.
            param_dtype: dtype in which the weights are stored; default: what the initializers return.

        Raises:
            ArgumentError: fewer than two sizes, a size smaller than 1, or a rate outside of [0, 1).
            ArgumentTypeError: a size that is no integer, an activation that is not callable, no key for ``rng_key``, or
                no floating dtype.
        """
        super().__init__(name=name)
        if not isinstance(sizes, list | tuple) or len(sizes) < 2:
            raise ArgumentError(
                "Expecting at least two sizes.",
                where="MLP",
                got=f"sizes={sizes}",
                want="the sizes of input, hidden layers and output, in a list or tuple",
                fix="MLP([in_dim, hidden_dim, out_dim])",
            )
        self.sizes = tuple(positive_int(size, what="sizes", where="MLP") for size in sizes)
        self.activate_final = activate_final
        self.dtype = optional_float_dtype(dtype, what="dtype", where="MLP")
        *layer_keys, dropout_key = split_key(key_or_next(rng_key, where="MLP"), len(self.sizes))
        self.layers = tuple(
            Linear(*pair, with_bias, w_init, b_init, rng_key=key, dtype=dtype, param_dtype=param_dtype)
            for pair, key in zip(zip(self.sizes[:-1], self.sizes[1:], strict=True), layer_keys, strict=True)
        )
        self.activation = as_module(activation)
        dropout = Dropout(dropout_rate, rng_key=dropout_key)
        self.dropout = None if dropout_rate == 0 else dropout

    def __call__(self, x: Num[AnyArray, "*batch in_dim"]) -> Num[Array, "*batch out_dim"]:
        """Applies the layers.

        Args:
            x: ``(..., sizes[0])``.

        Returns:
            ``(..., sizes[-1])``.

        Raises:
            ArgumentTypeError: ``x`` is a scalar or its last axis has another size.
            MutationError: with dropout in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        y = last(x)
        return self._activate(y) if self.activate_final else y

    def _activate(self, x: Array) -> Array:
        x = self.activation(x)  # type: ignore[operator]  # modules need not be callable, this one is
        return x if self.dropout is None else self.dropout(x)

    def __repr__(self) -> str:
        info = {"sizes": self.sizes, "activate_final": self.activate_final or None, "dtype": self.dtype}
        return self._repr(info)
