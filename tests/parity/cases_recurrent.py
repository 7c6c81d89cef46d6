"""Recurrent cells and what runs them.

PyTorch has two biases that are added, of which the second is zero here, and LSTM's gates in the order i, f, g, o; ours
and Haiku's is i, g, f, o. Flax has a matrix for each gate.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

import pax
from parity.case import Case, haiku, nnx, normal, torch
from parity.peers import haiku_layer, nnx_layer, torch_layer

_IN, _HIDDEN = 3, 4
_LENGTHS = np.array([6, 4])


def _state_and_step() -> tuple[Any, ...]:
    return normal(2, _HIDDEN, seed=1), normal(2, _IN)


def _lstm_state_and_step() -> tuple[Any, ...]:
    return normal(2, _HIDDEN, seed=1), normal(2, _HIDDEN, seed=2), normal(2, _IN)


def _sequence() -> tuple[Any, ...]:
    return (normal(2, 6, _IN),)


# ---- weights of the peers --------------------------------------------------------------------------------------------


def torch_weights(weight: Any, bias: Any, num_inputs: int, suffix: str = "", gates: int = 1) -> dict[str, Any]:
    """The arrays of a cell, or with a suffix of a layer, of PyTorch."""
    if gates == 4:
        weight, bias = (torch.cat([array.chunk(4, -1)[i] for i in (0, 2, 1, 3)], -1) for array in (weight, bias))
    parts = {"weight_ih": weight[:num_inputs].T, "weight_hh": weight[num_inputs:].T, "bias_ih": bias}
    return {name + suffix: part for name, part in (parts | {"bias_hh": torch.zeros_like(bias)}).items()}


def nnx_lstm_weights(weight: Any, bias: Any) -> dict[str, Any]:
    """The arrays of Flax's ``LSTMCell``."""
    weights: dict[str, Any] = {}
    for gate, w, b in zip("igfo", jnp.split(weight, 4, -1), jnp.split(bias, 4, -1), strict=True):
        names = ("if_" if gate == "f" else f"i{gate}"), f"h{gate}"
        weights |= {f"{names[0]}.kernel": w[:_IN], f"{names[1]}.kernel": w[_IN:], f"{names[1]}.bias": b}
    return weights


def nnx_simple_weights(weight: Any, bias: Any) -> dict[str, Any]:
    """The arrays of Flax's ``SimpleCell``."""
    return {"dense_i.kernel": weight[:_IN], "dense_i.bias": bias, "dense_h.kernel": weight[_IN:]}


# ---- cells -----------------------------------------------------------------------------------------------------------


def _vanilla(module: Any, hidden: Any, x: Any) -> Any:
    state, y = module(pax.nn.VanillaRNNState(hidden), x)
    return state.hidden, y


def _torch_vanilla(w: Any, hidden: Any, x: Any) -> Any:
    y = torch_layer(torch.nn.RNNCell(_IN, _HIDDEN), torch_weights(w["fc.weight"], w["fc.bias"], _IN), x, hidden)
    return y, y


def _nnx_vanilla(w: Any, hidden: Any, x: Any) -> Any:
    weights = nnx_simple_weights(w["fc.weight"], w["fc.bias"])
    return _nnx_simple_cell(weights)(hidden, x)


def _nnx_simple_cell(weights: Any) -> Any:
    dtype = weights["dense_i.kernel"].dtype
    return nnx_layer(lambda rngs: nnx.SimpleCell(_IN, _HIDDEN, dtype=dtype, rngs=rngs), weights)


def _lstm(module: Any, hidden: Any, cell: Any, x: Any) -> Any:
    state, y = module(pax.nn.LSTMState(hidden, cell), x)
    return state.hidden, state.cell, y


def _torch_lstm(w: Any, hidden: Any, cell: Any, x: Any) -> Any:
    weights = torch_weights(w["fc.weight"], w["fc.bias"], _IN, gates=4)
    hidden, cell = torch_layer(torch.nn.LSTMCell(_IN, _HIDDEN), weights, x, (hidden, cell))
    return hidden, cell, hidden


def _haiku_lstm(w: Any, hidden: Any, cell: Any, x: Any) -> Any:
    weights = {"lstm/linear": {"w": w["fc.weight"], "b": w["fc.bias"]}}
    y, state = haiku_layer(lambda x, *s: haiku.LSTM(_HIDDEN)(x, haiku.LSTMState(*s)), weights, x, hidden, cell)
    return state.hidden, state.cell, y


def _nnx_lstm(w: Any, hidden: Any, cell: Any, x: Any) -> Any:
    weights = nnx_lstm_weights(w["fc.weight"], w["fc.bias"])
    (cell, hidden), y = nnx_layer(lambda rngs: nnx.LSTMCell(_IN, _HIDDEN, rngs=rngs), weights)((cell, hidden), x)
    return hidden, cell, y


def _gru(module: Any, hidden: Any, x: Any) -> Any:
    state, y = module(pax.nn.GRUState(hidden), x)
    return state.hidden, y


def _haiku_gru(w: Any, hidden: Any, x: Any) -> Any:
    weight = jnp.concatenate([w["xh_zr_fc.weight"], w["xh_h_fc.weight"]], -1)
    bias = jnp.concatenate([w["xh_zr_fc.bias"], w["xh_h_fc.bias"]])
    weights = {"gru": {"w_i": weight[:_IN], "w_h": weight[_IN:], "b": bias}}
    return haiku_layer(lambda x, hidden: haiku.GRU(_HIDDEN)(x, hidden), weights, x, hidden)


def _make_lstm(forget_gate_bias: float = 0.0) -> Any:
    return lambda: pax.nn.LSTM(_IN, _HIDDEN, forget_gate_bias=forget_gate_bias)


def _make_vanilla() -> Any:
    return pax.nn.VanillaRNN(_IN, _HIDDEN)


def _make_gru() -> Any:
    return pax.nn.GRU(_IN, _HIDDEN)


_CELLS = [
    Case("pax.nn.VanillaRNN", "PyTorch", _make_vanilla, _torch_vanilla, _state_and_step, _vanilla),
    Case("pax.nn.VanillaRNN", "Flax NNX", _make_vanilla, _nnx_vanilla, _state_and_step, _vanilla),
    Case("pax.nn.LSTM", "PyTorch", _make_lstm(), _torch_lstm, _lstm_state_and_step, _lstm),
    Case("pax.nn.LSTM", "Haiku", _make_lstm(1.0), _haiku_lstm, _lstm_state_and_step, _lstm, "forget gate bias 1"),
    Case("pax.nn.LSTM", "Flax NNX", _make_lstm(), _nnx_lstm, _lstm_state_and_step, _lstm),
    # The reset gate of PyTorch and Flax acts behind the matrix, ours and Haiku's before it.
    Case("pax.nn.GRU", "Haiku", _make_gru, _haiku_gru, _state_and_step, _gru),
]


# ---- sequences -------------------------------------------------------------------------------------------------------


def _packed(layer: Any, weights: Any, x: Any) -> Any:
    """Calls a layer of PyTorch on sequences of the lengths above."""
    tools = torch.nn.utils.rnn
    packed = tools.pack_padded_sequence(x, torch.tensor(_LENGTHS), batch_first=True)
    layer = layer.to(x.dtype)
    y, _ = torch.func.functional_call(layer, weights, (packed,))
    return tools.pad_packed_sequence(y, batch_first=True)[0]


def _torch_rnn(w: Any, x: Any) -> Any:
    weights = torch_weights(w["cell.fc.weight"], w["cell.fc.bias"], _IN, "_l0", 4)
    return torch_layer(torch.nn.LSTM(_IN, _HIDDEN, batch_first=True), weights, x)[0]


def _torch_rnn_with_lengths(w: Any, x: Any) -> Any:
    weights = torch_weights(w["cell.fc.weight"], w["cell.fc.bias"], _IN, "_l0", 4)
    return _packed(torch.nn.LSTM(_IN, _HIDDEN, batch_first=True), weights, x)


def _haiku_rnn(w: Any, x: Any) -> Any:
    def call(x: Any) -> Any:
        core = haiku.LSTM(_HIDDEN)
        state = haiku.LSTMState(*(jnp.zeros((2, _HIDDEN), x.dtype) for _ in range(2)))
        return haiku.dynamic_unroll(core, x, state, time_major=False)[0]

    return haiku_layer(call, {"lstm/linear": {"w": w["cell.fc.weight"], "b": w["cell.fc.bias"]}}, x)


def _nnx_rnn(reverse: bool) -> Any:
    def theirs(w: Any, x: Any) -> Any:
        weights = nnx_simple_weights(w["cell.fc.weight"], w["cell.fc.bias"])
        carry = jnp.zeros((2, _HIDDEN), x.dtype)
        return nnx.RNN(_nnx_simple_cell(weights), reverse=reverse, keep_order=True)(x, initial_carry=carry)

    return theirs


def _torch_bidirectional(w: Any, x: Any) -> Any:
    weights = {
        **torch_weights(w["forward.cell.fc.weight"], w["forward.cell.fc.bias"], _IN, "_l0", 4),
        **torch_weights(w["backward.cell.fc.weight"], w["backward.cell.fc.bias"], _IN, "_l0_reverse", 4),
    }
    return _packed(torch.nn.LSTM(_IN, _HIDDEN, batch_first=True, bidirectional=True), weights, x)


def _torch_stacked(w: Any, x: Any) -> Any:
    weights = {
        **torch_weights(w["cell.layers[0].fc.weight"], w["cell.layers[0].fc.bias"], _IN, "_l0", 4),
        **torch_weights(w["cell.layers[1].fc.weight"], w["cell.layers[1].fc.bias"], _HIDDEN, "_l1", 4),
    }
    return torch_layer(torch.nn.LSTM(_IN, _HIDDEN, 2, batch_first=True), weights, x)[0]


def _rnn(cell: Any, **options: Any) -> Any:
    return lambda: pax.nn.RNN(cell(), **options)


def _make_bidirectional() -> Any:
    return pax.nn.Bidirectional(_make_lstm()(), _make_lstm()())


def _make_stacked() -> Any:
    return pax.nn.RNN(pax.nn.StackedCells(_make_lstm()(), pax.nn.LSTM(_HIDDEN, _HIDDEN)))


def _with_lengths(module: Any, x: Any) -> Any:
    return module(x, lengths=jnp.asarray(_LENGTHS))


_SEQUENCES = [
    Case("pax.nn.RNN", "PyTorch", _rnn(_make_lstm()), _torch_rnn, _sequence, variant="LSTM"),
    Case(
        "pax.nn.RNN",
        "PyTorch",
        _rnn(_make_lstm()),
        _torch_rnn_with_lengths,
        _sequence,
        _with_lengths,
        variant="LSTM, lengths",
    ),
    Case("pax.nn.RNN", "Haiku", _rnn(_make_lstm(1.0)), _haiku_rnn, _sequence, variant="LSTM"),
    Case("pax.nn.RNN", "Flax NNX", _rnn(_make_vanilla), _nnx_rnn(False), _sequence, variant="VanillaRNN"),
    Case(
        "pax.nn.RNN",
        "Flax NNX",
        _rnn(_make_vanilla, reverse=True),
        _nnx_rnn(True),
        _sequence,
        variant="VanillaRNN, reverse",
    ),
    Case(
        "pax.nn.Bidirectional",
        "PyTorch",
        _make_bidirectional,
        _torch_bidirectional,
        _sequence,
        _with_lengths,
        variant="LSTM, lengths",
    ),
    Case("pax.nn.StackedCells", "PyTorch", _make_stacked, _torch_stacked, _sequence, variant="two LSTM"),
]

CASES = [*_CELLS, *_SEQUENCES]
EXCUSED = {
    f"pax.nn.{name}": "the state of a cell; the cases of the cell have it"
    for name in ("GRUState", "LSTMState", "VanillaRNNState")
}
