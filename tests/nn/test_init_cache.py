"""pax.nn.init_cache: decoding with the attention layers of a whole model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError

_LENGTH, _SIZE = 5, 8


class _Block(pax.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = pax.nn.RMSNorm(_SIZE)
        self.inner = [pax.nn.MultiHeadAttention(2, 4, 1.0, num_kv_heads=1, causal=True, rotary=True)]

    def __call__(self, x: jax.Array) -> Any:
        y = self.norm(x)
        return x + self.inner[0](y, y, y)


def _stack(**options: Any) -> Any:
    pax.seed_rng_key(3)
    return pax.nn.Stack(_Block, 3, **options)


_MODELS = {
    "blocks in a row": lambda: pax.nn.Sequential(_Block(), _Block()),
    "stack": _stack,
    "stack, rematerialised": lambda: _stack(remat=True),
    "stack in a sequence": lambda: pax.nn.Sequential(_stack(), pax.nn.LayerNorm(_SIZE, -1, True, True)),
    "stack of stacks": lambda: pax.nn.Stack(_stack, 2),
}


@pytest.mark.parametrize("make", _MODELS.values(), ids=_MODELS)
def test_decoding_computes_what_one_call_computes(make: Any, key: jax.Array) -> None:
    model, x = make(), jax.random.normal(key, (2, _LENGTH, _SIZE))
    decoder = pax.nn.init_cache(model, 2, _LENGTH)
    step = jax.jit(pax.purecall)
    outputs = []
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        decoder, y = step(decoder, x[:, start:stop])
        outputs.append(y)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), model(x), rtol=1e-5, atol=1e-5)


def test_the_members_of_an_ensemble_decode_on_their_own(key: jax.Array) -> None:
    model, x = pax.nn.Ensemble(_Block, 2), jax.random.normal(key, (1, _LENGTH, _SIZE))
    _, y = pax.purecall(pax.nn.init_cache(model, 1, _LENGTH), x)
    np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-5)


def test_weights_are_the_same_objects_where_they_are_not_stacked() -> None:
    model = pax.nn.Sequential(_Block())
    cached = pax.nn.init_cache(model, 1, 4)
    kept = {id(leaf) for leaf in jax.tree.leaves(cached)}
    assert all(id(leaf) in kept for leaf in jax.tree.leaves(model))


def test_caches_are_not_trained() -> None:
    model = _stack()
    cached = pax.nn.init_cache(model, 1, 4)
    assert len(jax.tree.leaves(cached.parameters())) == len(jax.tree.leaves(model.parameters()))


def test_the_dtype_of_the_caches_can_be_set() -> None:
    cached = pax.nn.init_cache(_stack(), 1, 4, dtype=jnp.bfloat16)
    cache = cached.block.inner[0].cache
    assert (cache.keys.shape, cache.keys.dtype) == ((3, 1, 4, 1, 4), jnp.bfloat16)


def test_a_position_too_many_in_a_stack_gives_nan(key: jax.Array) -> None:
    decoder = pax.nn.init_cache(_stack(), 1, 2)
    x = jax.random.normal(key, (1, 2, _SIZE))
    decoder, _ = pax.purecall(decoder, x)
    decoder, y = pax.purecall(decoder, x[:, :1])
    assert bool(jnp.isnan(y).all())


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no attention layer") as caught:
        pax.nn.init_cache(pax.nn.Linear(2, 2), 1, 4)
    assert "want:  a module with MultiHeadAttention layers" in str(caught.value)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a module") as caught:
        pax.nn.init_cache([_Block()], 1, 4)  # type: ignore[type-var]
    assert "got:   a list of 1" in str(caught.value)


def test_attention_that_is_not_causal_is_refused() -> None:
    with pytest.raises(ArgumentError, match="needs causal attention"):
        pax.nn.init_cache(pax.nn.Sequential(pax.nn.MultiHeadAttention(2, 4, 1.0)), 1, 4)
