"""What every library has to offer to take part."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax

# Nested dictionaries and lists of arrays, as in `_weights`.
Weights = Any

# The decay of the averages of a batch normalization, and the epsilon of all normalizations.
DECAY, EPS = 0.9, 1e-5


class Network(NamedTuple):
    """A network in training.

    Attributes:
        params: what is trained, a pytree.
        rest: whatever else goes in and comes out, a pytree: statistics, for example.
        run: ``(params, rest, x)`` to ``(y, rest)``.
        channels_last: images are ``(batch, height, width, channels)``, not ``(batch, channels, height, width)``.
    """

    params: Any
    rest: Any
    run: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    channels_last: bool = False


class Models(abc.ABC):
    """Three networks, made of given weights with the layers of one library.

    - ``mlp``: dense layers with ``relu`` between them.
    - ``transformer``: layers of causal attention and of a dense block with the tanh form of ``gelu``, each with a
      layer normalization before it and an addition around it; a layer normalization at the end. No dropout.
    - ``resnet``: ResNet18 for images of any size, in train mode.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def mlp(self, weights: Weights) -> Network:
        """Takes ``(batch, features)``."""

    @abc.abstractmethod
    def transformer(self, weights: Weights, num_heads: int) -> Network:
        """Takes and returns ``(batch, positions, width)``."""

    @abc.abstractmethod
    def resnet(self, weights: Weights) -> Network:
        """Takes images, returns ``(batch, classes)``."""

    def more(self, kind: str, network: Callable[["Models"], Network]) -> dict[str, Network]:
        """Returns the same network written in other ways, by label."""
        return {}
