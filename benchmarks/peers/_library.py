"""What every library has to offer to take part."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax

from benchmarks.peers._adam import AdamState, adam

# Gives the next array of a model.
Take = Callable[[], jax.Array]
# Weight and bias of a layer.
Pair = tuple[jax.Array, jax.Array]
Run = Callable[[Any, jax.Array], jax.Array]
# A model, and how to apply a model to an input.
Program = tuple[Any, Run]
Step = Callable[[], object]

# Of a convolution in a block: kernel size and stride.
BLOCK_KERNELS = (1, 3, 1)


class Library(abc.ABC):
    """The same models, built with one library.

    Three models:

    - ``resnet``: a tree only. Every node has a few static attributes, where the library knows such a thing. The root
      has a convolution, a normalization, a list of groups and a head; a group has a list of blocks; a block has three
      convolutions and three normalizations, the first block of a group one more of both; a normalization has a scale,
      a bias, and two modules with one running average each.
    - ``stages``: the model of the train step, a root with a list of stages with a list of layers each.
    - ``mlp``: dense layers with ``tanh`` between them.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]

    @abc.abstractmethod
    def resnet(self, take: Take, blocks: Sequence[int]) -> Any:
        """Builds the tree; every array is a call of ``take``."""

    def trees(self, take: Take, blocks: Sequence[int]) -> dict[str, Any]:
        """Returns ``resnet``, by label in all the states in which it is measured."""
        return {self.name: self.resnet(take, blocks)}

    @abc.abstractmethod
    def stages(self, stages: Sequence[Sequence[Pair]]) -> Program:
        """Builds a network that returns the sum over all layers of ``x * weight + bias``."""

    @abc.abstractmethod
    def mlp(self, layers: Sequence[Pair]) -> Program:
        """Builds a network of ``x @ weight + bias`` with ``tanh`` between them; ``x`` is ``(batch, features)``."""

    def more_mlps(self, layers: Sequence[Pair]) -> dict[str, Program]:
        """Returns other ways to write the network with this library, by label."""
        return {}

    def steps(self, stages: Callable[[], Sequence[Sequence[Pair]]], x: jax.Array) -> dict[str, Step]:
        """Returns, by label, functions that do one train step and wait for its loss.

        Model and optimizer state go in, donated, and come out; the next step takes them.

        Args:
            stages: gives new arrays for ``stages``, since those of a model that was donated are gone.
            x: the input.
        """
        model, run = self.stages(stages())
        return {self.name: repeated(compiled_step(loss_of(run)), model, AdamState.of(model), x)}

    def operations(self, take: Callable[[], Take], blocks: Sequence[int]) -> dict[str, Callable[[], object]]:
        """Returns what this library does to a whole model, by the name that PAX has for it.

        Args:
            take: gives a new supply of arrays.
            blocks: as in ``resnet``.
        """
        tree = self.resnet(take(), blocks)
        return {
            "construction": lambda: self.resnet(take(), blocks),
            "copy()": lambda: jax.tree.map(lambda leaf: leaf, tree),
        }

    def jit(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Compiles a function of a model."""
        return jax.jit(function)

    def switched(self, tree: Any, training: bool) -> Any:
        """Returns the model in train or eval mode; ``None`` if models of this library have no mode."""
        return None

    def frozen(self, tree: Any) -> Any:
        """Returns the model without trainable parameters; ``None`` if models of this library cannot be frozen."""
        return None


def loss_of(run: Run) -> Run:
    """Returns the loss of a network: the sum of its squared outputs."""
    return lambda model, x: jax.numpy.sum(run(model, x) ** 2)


def compiled_step(loss: Run) -> Callable[[Any, AdamState, jax.Array], tuple[Any, AdamState, jax.Array]]:
    """Returns a compiled train step: ``(model, state, x)`` to ``(model, state, loss)``."""

    def step(model: Any, state: AdamState, x: jax.Array) -> tuple[Any, AdamState, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(model, x)
        model, state = adam(model, gradients, state)
        return model, state, value

    return jax.jit(step, donate_argnums=(0, 1))


def repeated(step: Callable[..., tuple[Any, Any, jax.Array]], model: Any, optimizer: Any, x: jax.Array) -> Step:
    """Returns a function that does the next step of a training and waits for the loss."""

    def advance() -> None:
        nonlocal model, optimizer
        model, optimizer, loss = step(model, optimizer, x)
        loss.block_until_ready()

    return advance
