"""Small modules with known contents: no random numbers, no layers of pax-nn."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import pax


class Holder(pax.Module):
    """Holds the attributes it is given; its own arrays are not trained."""

    def __init__(self, *, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name=name)
        for key, value in attributes.items():
            setattr(self, key, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class ParameterHolder(pax.ParameterModule):
    """Holds the attributes it is given; its own arrays are trained."""

    def __init__(self, *, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name=name)
        for key, value in attributes.items():
            setattr(self, key, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class Linear(pax.ParameterModule):
    """``x @ weight + bias``; the weight counts up in tenths, the bias is zero."""

    weight: jax.Array
    bias: jax.Array

    def __init__(self, in_features: int = 2, out_features: int = 2, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = 0.1 * jnp.arange(float(in_features * out_features)).reshape(in_features, out_features)
        self.bias = jnp.zeros((out_features,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight + self.bias[None]

    def __repr__(self) -> str:
        return self._repr({"in": self.in_features, "out": self.out_features})


class Counter(pax.StateModule):
    """Counts its calls in ``count``; returns its input."""

    count: jax.Array

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)

    def __call__(self, x: Any = None) -> Any:
        self.count = self.count + 1
        return x


class Norm(pax.Module):
    """Has a parameter ``scale`` and a state ``mean``, which a call in training mode sets to the mean of its input."""

    scale: jax.Array
    mean: jax.Array

    parameters = pax.parameters_method("scale")

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.scale = jnp.ones((size,))
        self.mean = jnp.zeros((size,))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.training:
            self.mean = x.mean(axis=0)
        return (x - self.mean[None]) * self.scale[None]


class Net(pax.Module):
    """A bit of everything: a submodule, a mixed list of layers and a function, states, and a static attribute."""

    def __init__(self, activation: Callable[[jax.Array], jax.Array] = jnp.tanh, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.encoder = Linear(2, 3)
        self.layers: list[Any] = [Linear(3, 3), activation, Linear(3, 1)]
        self.norm = Norm(2)
        self.counter = Counter()
        self.rate = 0.5

    def __call__(self, x: jax.Array) -> jax.Array:
        self.counter()
        x = self.encoder(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return x
