"""The arguments of every layer, network and function that the original has, in its order and with its defaults.

Programs written for the original pass them by position. New arguments are keyword-only and come after those of the
original.
"""

import inspect
from typing import Any

import pytest

import pax

_CONV = """in_features, out_features, kernel_shape, stride=1, rate=1, padding="SAME", with_bias=True, w_init=None,
    b_init=None, data_format={!r}, feature_group_count=1, *, name=None, rng_key=None"""
_CONV_TRANSPOSE = """in_features, out_features, kernel_shape, stride=1, padding="SAME", with_bias=True, w_init=None,
    b_init=None, data_format={!r}, *, name=None, rng_key=None"""
_BATCH_NORM = """num_channels, create_scale=True, create_offset=True, decay_rate=0.9, eps=1e-5, data_format={!r},
    *, name=None"""
_POOL = "value, window_shape, strides, padding, channel_axis=-1"
_RESNET = "input_channels, num_classes, logits_config=None, initial_conv_config=None"
_STEP = "state, x"

_CONSTRUCTORS = {
    "nn.Linear": "in_dim, out_dim, with_bias=True, w_init=None, b_init=None, *, rng_key=None, name=None",
    "nn.Dropout": "dropout_rate, *, name=None",
    "nn.Embed": "vocab_size, embed_dim, w_init=None, *, rng_key=None, name=None",
    "nn.Conv1D": _CONV.format("NWC"),
    "nn.Conv2D": _CONV.format("NHWC"),
    "nn.Conv1DTranspose": _CONV_TRANSPOSE.format("NWC"),
    "nn.Conv2DTranspose": _CONV_TRANSPOSE.format("NHWC"),
    "nn.BatchNorm1D": _BATCH_NORM.format("NWC"),
    "nn.BatchNorm2D": _BATCH_NORM.format("NHWC"),
    "nn.LayerNorm": """num_channels, axis, create_scale, create_offset, eps=1e-5, scale_init=None, offset_init=None,
        *, rng_key=None, name=None""",
    "nn.GroupNorm": """groups, num_channels, axis=slice(1, None), create_scale=True, create_offset=True, eps=1e-5,
        scale_init=None, offset_init=None, data_format="channels_last", *, rng_key=None, name=None""",
    "nn.EMA": "initial_value, decay_rate, debias=False, allow_int=False",
    "nn.VanillaRNN": "input_dim, hidden_dim, *, rng_key=None, name=None",
    "nn.LSTM": "input_dim, hidden_dim, w_init=None, forget_gate_bias=0.0, *, rng_key=None, name=None",
    "nn.GRU": "input_dim, hidden_dim, *, rng_key=None, name=None",
    "nn.MultiHeadAttention": "num_heads, key_size, w_init_scale",
    "nn.Sequential": "*layers, name=None",
    "nn.Lambda": "func, name=None",
    "nn.Identity": "*, training=True, name=None",
    "RngSeq": "seed=None, rng_key=None",
    **{f"nets.ResNet{depth}": _RESNET for depth in (18, 34, 50, 101, 152, 200)},
    "nets.Transformer": "dim, num_heads, num_layers, dropout_rate",
}

_CALLS = {
    "nn.dropout": "rng_key, dropout_rate, x",
    "nn.avg_pool": _POOL,
    "nn.max_pool": _POOL,
    "nn.Linear.__call__": "x",
    "nn.Embed.__call__": "x",
    "nn.BatchNorm1D.__call__": "x",
    "nn.LayerNorm.__call__": "inputs, scale=None, offset=None",
    "nn.GroupNorm.__call__": "x, scale=None, offset=None",
    "nn.EMA.__call__": "xs",
    "nn.VanillaRNN.__call__": _STEP,
    "nn.LSTM.__call__": _STEP,
    "nn.GRU.__call__": _STEP,
    "nn.VanillaRNN.initial_state": "batch_size",
    "nn.LSTM.initial_state": "batch_size",
    "nn.GRU.initial_state": "batch_size",
    "nn.MultiHeadAttention.__call__": "query, key, value, mask=None",
    "nn.Sequential.__call__": "x",
    "nn.Sequential.set": "i, value",
    "nn.Identity.__call__": "x",
    "RngSeq.next_rng_key": "num_keys=1",
    "nets.Transformer.__call__": "h, mask=None",
}

_STATES = {
    "nn.VanillaRNNState": ("hidden",),
    "nn.LSTMState": ("hidden", "cell"),
    "nn.GRUState": ("hidden",),
}


def _find(path: str) -> Any:
    found: Any = pax
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(name, p.kind, p.default) for name, p in signature.parameters.items() if name != "self"]


def _wanted(arguments: str) -> list[tuple[str, Any, Any]]:
    return _parameters(eval(f"lambda {' '.join(arguments.split())}: None"))


def _assert_begins_with(function: Any, arguments: str) -> None:
    want, got = _wanted(arguments), _parameters(function)
    assert got[: len(want)] == want
    assert {kind for _, kind, _ in got[len(want) :]} <= {inspect.Parameter.KEYWORD_ONLY}
    assert all(default is not inspect.Parameter.empty for _, _, default in got[len(want) :])


@pytest.mark.parametrize(("name", "arguments"), _CONSTRUCTORS.items(), ids=_CONSTRUCTORS)
def test_a_constructor_takes_the_arguments_of_the_original(name: str, arguments: str) -> None:
    _assert_begins_with(_find(name), arguments)


@pytest.mark.parametrize(("name", "arguments"), _CALLS.items(), ids=_CALLS)
def test_a_call_takes_the_arguments_of_the_original(name: str, arguments: str) -> None:
    _assert_begins_with(_find(name), arguments)


@pytest.mark.parametrize(("name", "fields"), _STATES.items(), ids=_STATES)
def test_a_state_is_a_named_tuple(name: str, fields: tuple[str, ...]) -> None:
    cls = _find(name)
    assert issubclass(cls, tuple)
    assert cls._fields == fields


@pytest.mark.parametrize("name", [name for name in _CONSTRUCTORS if name.startswith("nn.")])
def test_a_layer_is_a_name_of_pax(name: str) -> None:
    assert getattr(pax, name.removeprefix("nn.")) is _find(name)


def test_a_missing_argument_would_be_found() -> None:
    with pytest.raises(AssertionError):
        _assert_begins_with(lambda x, y, z: None, "x, y")
    with pytest.raises(AssertionError):
        _assert_begins_with(lambda x, *, z=1: None, "x, y")
