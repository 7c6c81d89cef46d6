"""Embeddings, recurrent layers and general linear layers of pax-nn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import pax
from conformance.catalogue import Entry

_KEY = jax.random.key(1)
_KEY_2 = jax.random.key(2)


def _normal(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


def _state(kind: Any, *shape: int) -> Any:
    keys = jax.random.split(jax.random.key(3), len(kind._fields))
    return kind(*(jax.random.normal(key, shape) for key in keys))


def _x(*shape: int) -> Any:
    return jax.random.normal(jax.random.key(0), shape)


def _vanilla(**options: Any) -> Any:
    return pax.nn.VanillaRNN(2, 3, rng_key=_KEY, **options)


def _lstm(**options: Any) -> Any:
    return pax.nn.LSTM(2, 3, forget_gate_bias=1.0, rng_key=_KEY, **options)


def _gru(**options: Any) -> Any:
    return pax.nn.GRU(2, 3, rng_key=_KEY_2, **options)


def _stack() -> Any:
    return pax.nn.StackedCells(_lstm(), jnp.tanh, pax.nn.GRU(3, 2, rng_key=_KEY_2))


def _noisy_stack() -> Any:
    return pax.nn.StackedCells(pax.nn.Dropout(0.5, rng_key=_KEY_2), _lstm())


_STATES_KEEP_THEIR_DTYPE = {
    test: "the result has the new state, too, in the dtype of the old one; see test_recurrent_cells.py"
    for test in (
        "the_output_has_the_promoted_dtype_of_inputs_and_weights",
        "dtype_is_that_of_the_output",
    )
}


def _cell(name: str, make: Callable[..., Any], inputs: Callable[[], tuple[Any, ...]]) -> Entry:
    of = name.partition(" ")[0]
    return Entry(name, f"pax.nn.{of}", make, inputs, excused=_STATES_KEEP_THEIR_DTYPE)


ENTRIES = [
    Entry(
        "Embed",
        "pax.nn.Embed",
        lambda **options: pax.nn.Embed(5, 3, rng_key=_KEY, **options),
        lambda: (jnp.array([[0, 4], [2, 2]]),),
    ),
    _cell("VanillaRNN", _vanilla, lambda: (_state(pax.nn.VanillaRNNState, 4, 3), _x(4, 2))),
    _cell("LSTM", _lstm, lambda: (_state(pax.nn.LSTMState, 4, 3), _x(4, 2))),
    _cell("LSTM without batch", _lstm, lambda: (_state(pax.nn.LSTMState, 3), _x(2))),
    _cell("GRU", _gru, lambda: (_state(pax.nn.GRUState, 4, 3), _x(4, 2))),
    _cell(
        "StackedCells",
        _stack,
        lambda: ((_state(pax.nn.LSTMState, 4, 3), _state(pax.nn.GRUState, 4, 2)), _x(4, 2)),
    ),
    Entry("RNN of LSTM", "pax.nn.RNN", lambda: pax.nn.RNN(_lstm()), _normal(3, 4, 2)),
    Entry(
        "RNN in reverse, time first, remat, with state",
        "pax.nn.RNN",
        lambda: pax.nn.RNN(_gru(), reverse=True, time_major=True, remat=True, return_state=True),
        _normal(4, 3, 2),
        excused=_STATES_KEEP_THEIR_DTYPE,
    ),
    Entry("RNN of cells with dropout", "pax.nn.RNN", lambda: pax.nn.RNN(_noisy_stack()), _normal(4, 2), stateful=True),
    Entry("Bidirectional", "pax.nn.Bidirectional", lambda: pax.nn.Bidirectional(_lstm(), _gru()), _normal(3, 4, 2)),
    Entry(
        "Einsum",
        "pax.nn.Einsum",
        lambda **options: pax.nn.Einsum("...td,dhk->...htk", (4, 2, 3), "hk", rng_key=_KEY, **options),
        _normal(2, 3, 4),
    ),
    Entry("MLP", "pax.nn.MLP", lambda **options: pax.nn.MLP((3, 4, 2), rng_key=_KEY, **options), _normal(4, 3)),
    Entry(
        "MLP with dropout",
        "pax.nn.MLP",
        lambda: pax.nn.MLP((3, 4, 2), jnp.tanh, dropout_rate=0.5, activate_final=True, rng_key=_KEY),
        _normal(4, 3),
        stateful=True,
    ),
    Entry("SinusoidalPositions", "pax.nn.SinusoidalPositions", pax.nn.SinusoidalPositions, _normal(2, 3, 4)),
    Entry(
        "LearnedPositions",
        "pax.nn.LearnedPositions",
        lambda **options: pax.nn.LearnedPositions(5, 4, rng_key=_KEY, **options),
        _normal(2, 3, 4),
    ),
]
