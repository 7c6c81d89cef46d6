"""KD-63: typed keys (``jax.random.key``) and legacy ones (``uint32[2]``), given or drawn."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax

# What each class needs besides a key.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Dropout": (0.5,),
    "Einsum": ("...d,dk->...k", (2, 3), "k"),
    "Embed": (3, 2),
    "GRU": (2, 3),
    "LSTM": (2, 3),
    "LearnedPositions": (3, 2),
    "Linear": (2, 3),
    "MLP": ((2, 3),),
    "VanillaRNN": (2, 3),
}
each_layer = pytest.mark.parametrize("name", _ARGUMENTS)


@pytest.fixture
def typed_keys() -> Iterator[None]:
    pax.seed_rng_key(42, typed_keys=True)
    yield
    pax.seed_rng_key(42, typed_keys=False)


def _make(name: str, **options: Any) -> Any:
    return getattr(pax.nn, name)(*_ARGUMENTS[name], **options)


def _numbers(leaf: Any) -> np.ndarray:
    typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if typed else leaf)


def _assert_same_numbers(a: Any, b: Any) -> None:
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(_numbers(left), _numbers(right))


@each_layer
def test_kd_63_both_kinds_of_keys_give_the_same_weights(name: str) -> None:
    _assert_same_numbers(_make(name, rng_key=jax.random.key(3)), _make(name, rng_key=jax.random.PRNGKey(3)))


@each_layer
@pytest.mark.usefixtures("typed_keys")
def test_kd_63_typed_keys_can_be_drawn_everywhere(name: str) -> None:
    typed = _make(name)
    pax.seed_rng_key(42, typed_keys=False)
    _assert_same_numbers(typed, _make(name))


@pytest.mark.usefixtures("typed_keys")
def test_kd_63_keys_that_a_layer_keeps_are_of_the_kind_that_was_drawn() -> None:
    layers: list[Any] = [pax.nn.Dropout(0.5), pax.nn.MLP((2, 3, 2), dropout_rate=0.5).dropout]
    updated = [pax.purecall(layer, jnp.ones((4, 3)))[0] for layer in layers]
    for layer in (*layers, *updated):
        assert jnp.issubdtype(layer.rng_key.dtype, jax.dtypes.prng_key)
    pax.seed_rng_key(42, typed_keys=False)
    assert pax.nn.Dropout(0.5).rng_key.dtype == jnp.uint32
