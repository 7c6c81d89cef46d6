"""The arrays of the models."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from benchmarks.peers import Pair, Take

_LAYERS_A_STAGE = 3


def supply(arrays: Sequence[jax.Array] | None = None) -> Take:
    """Returns what gives the next array of a model: one of ``arrays``, or a new one."""
    if arrays is None:
        return lambda: jnp.zeros((1,))
    return iter(arrays).__next__


def stage_arrays(modules: int, shape: tuple[int, ...]) -> list[list[Pair]]:
    """Returns weights and biases for a network of so many modules: the root, its stages, and their layers.

    Args:
        modules: number of modules, at least 3.
        shape: of every array.
    """
    stages = max(1, (modules - 1) // (_LAYERS_A_STAGE + 1))
    sizes = [_LAYERS_A_STAGE] * stages
    sizes[-1] += modules - 1 - stages - sum(sizes)
    return [[(jnp.ones(shape), jnp.zeros(shape)) for _ in range(size)] for size in sizes]


def dense_arrays(layers: int, features: int) -> list[Pair]:
    """Returns ``(features, features)`` weights and ``(1, features)`` biases, drawn with a fixed key."""
    keys = jax.random.split(jax.random.key(0), layers)
    return [(jax.random.normal(key, (features, features)) * features**-0.5, jnp.zeros((1, features))) for key in keys]


def count_modules(blocks: Sequence[int]) -> int:
    """Returns the number of modules of a residual network with so many blocks in each group."""
    normalized = 1 + 3 * sum(blocks) + len(blocks)  # convolutions with a normalization and its two averages
    return 1 + len(blocks) + sum(blocks) + 4 * normalized + 1


def count_arrays(blocks: Sequence[int]) -> int:
    """Returns the number of arrays of that network."""
    return 5 * (1 + 3 * sum(blocks) + len(blocks)) + 1


def modules_in_words(count: int) -> str:
    return f"{count:,} modules"


def supplies(blocks: Sequence[int]) -> Callable[[], Take]:
    """Returns what gives supplies of the same arrays, for that network: building it then costs nothing but modules."""
    arrays = [jnp.zeros((1,)) for _ in range(count_arrays(blocks))]
    return lambda: supply(arrays)
