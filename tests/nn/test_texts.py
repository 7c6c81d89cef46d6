"""What layers look like when they are printed: the exact texts of the original, which programs and documents show."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax

_OPTIONS = "create_scale=True, create_offset=True"

_REPRS = {
    "Linear(2, 3)": "Linear(in_dim=2, out_dim=3, with_bias=True)",
    "Linear(2, 3, False, name='fc')": "(fc) Linear(in_dim=2, out_dim=3, with_bias=False)",
    "Dropout(0.5)": "Dropout(dropout_rate=0.5)",
    "Embed(5, 7)": "Embed(vocab_size=5, embed_dim=7)",
    "Conv1D(3, 4, 3)": (
        "Conv1D(in_features=3, out_features=4, kernel_shape=(3,), padding=SAME, with_bias=True, data_format=NWC)"
    ),
    "Conv2D(4, 6, 3, stride=2, rate=2, feature_group_count=2)": (
        "Conv2D(in_features=4, out_features=6, kernel_shape=(3, 3), padding=SAME, stride=(2, 2), rate=(2, 2), "
        "with_bias=True, data_format=NHWC, feature_group_count=2)"
    ),
    "Conv2D(1, 1, [3, 3], padding=[(1, 1), (1, 1)])": (
        "Conv2D(in_features=1, out_features=1, kernel_shape=[3, 3], padding=[(1, 1), (1, 1)], with_bias=True, "
        "data_format=NHWC)"
    ),
    "Conv1DTranspose(4, 6, 3)": (
        "Conv1DTranspose(in_features=4, out_features=6, data_format=NWC, padding=SAME, stride=(1,), with_bias=True)"
    ),
    "Conv2DTranspose(4, 6, 3, 2, 'VALID', False, data_format='NCHW')": (
        "Conv2DTranspose(in_features=4, out_features=6, data_format=NCHW, padding=VALID, stride=(2, 2), "
        "with_bias=False)"
    ),
    "BatchNorm1D(3)": f"BatchNorm1D(num_channels=3, {_OPTIONS}, data_format=NWC, decay_rate=0.9)",
    "BatchNorm2D(3, False, False, 0.99, data_format='NCHW')": (
        "BatchNorm2D(num_channels=3, create_scale=False, create_offset=False, data_format=NCHW, decay_rate=0.99)"
    ),
    "LayerNorm(3, -1, True, True)": f"LayerNorm(num_channels=3, axis=(-1,), {_OPTIONS})",
    "LayerNorm(3, slice(1, None), True, True)": f"LayerNorm(num_channels=3, axis=slice(1, None, None), {_OPTIONS})",
    "LayerNorm(3, [1, 2], False, True, name='ln')": (
        "(ln) LayerNorm(num_channels=3, axis=(1, 2), create_scale=False, create_offset=True)"
    ),
    "EMA(1.0, 0.9)": "EMA",
    "VanillaRNN(3, 5)": "VanillaRNN(input_dim=3, hidden_dim=5)",
    "LSTM(3, 5)": "LSTM(input_dim=3, hidden_dim=5)",
    "GRU(3, 5, name='cell')": "(cell) GRU(input_dim=3, hidden_dim=5)",
    "MultiHeadAttention(4, 8, 1.0)": "MultiHeadAttention(num_heads=4, key_size=8)",
    "Sequential()": "Sequential",
    "Sequential(name='s')": "(s) Sequential",
    "Lambda(jax.nn.relu)": "Lambda(relu)",
    "Lambda(jax.nn.relu, name='R')": "(R) Lambda",
    "Lambda(jnp.tanh)": "Lambda(tanh)",
    "Lambda(lambda x: x)": "Lambda(<lambda>)",
    "Identity()": "Identity",
    "RngSeq(0)": "RngSeq",
}


def _make(expression: str) -> Any:
    """Builds a layer, abstractly: its texts do not depend on numbers."""
    names = {"jax": jax, "jnp": jnp, "functools": functools, "pax": pax}
    return jax.eval_shape(lambda: eval(f"pax.{expression}", names))


@pytest.mark.parametrize(("expression", "text"), _REPRS.items(), ids=_REPRS)
def test_repr(expression: str, text: str) -> None:
    assert repr(_make(expression)) == text


def test_kd_46_group_norm_shows_its_class_name_first() -> None:
    assert repr(_make("GroupNorm(2, 4)")).startswith("GroupNorm(")
    assert "num_channels=4" in repr(_make("GroupNorm(2, 4)"))


_ONE_LINE = [expression for expression, text in _REPRS.items() if text.startswith(("Conv", "Batch", "Linear", "Layer"))]


@pytest.mark.parametrize("expression", _ONE_LINE)
def test_the_summary_of_a_layer_without_layers_below_is_its_repr(expression: str) -> None:
    assert _make(expression).summary() == _REPRS[expression]


_SUMMARIES = {
    "Sequential(pax.Linear(2, 32), jax.nn.relu, pax.Linear(32, 3))": """
        Sequential
        ├── Linear(in_dim=2, out_dim=32, with_bias=True)
        ├── x => relu(x)
        └── Linear(in_dim=32, out_dim=3, with_bias=True)
    """,
    "Lambda(jax.nn.relu)": "x => relu(x)",
    "Lambda(jax.nn.relu, name='R')": "x => R(x)",
    "Lambda(lambda x: x)": "x => <lambda>(x)",
    "VanillaRNN(3, 5)": """
        VanillaRNN(input_dim=3, hidden_dim=5)
        └── (vanilla_rnn_fc) Linear(in_dim=8, out_dim=5, with_bias=True)
    """,
    "LSTM(3, 5)": """
        LSTM(input_dim=3, hidden_dim=5)
        └── (lstm_fc) Linear(in_dim=8, out_dim=20, with_bias=True)
    """,
    "GRU(3, 5)": """
        GRU(input_dim=3, hidden_dim=5)
        ├── (xh_to_zr) Linear(in_dim=8, out_dim=10, with_bias=True)
        └── (xh_to_h) Linear(in_dim=8, out_dim=5, with_bias=True)
    """,
    "MultiHeadAttention(2, 3, 1.0)": """
        MultiHeadAttention(num_heads=2, key_size=3)
        ├── (qry_proj) Linear(in_dim=6, out_dim=6, with_bias=True)
        ├── (key_proj) Linear(in_dim=6, out_dim=6, with_bias=True)
        ├── (val_proj) Linear(in_dim=6, out_dim=6, with_bias=True)
        └── (out_proj) Linear(in_dim=6, out_dim=6, with_bias=True)
    """,
    "EMA(pax.Linear(2, 3), 0.9)": """
        EMA
        └── Linear(in_dim=2, out_dim=3, with_bias=True)
    """,
}


@pytest.mark.parametrize(("expression", "text"), _SUMMARIES.items(), ids=_SUMMARIES)
def test_summary(expression: str, text: str) -> None:
    want = [line.removeprefix(" " * 8) for line in text.strip().splitlines()]
    assert _make(expression).summary(return_list=True) == want


def test_a_function_without_a_name_is_shown_as_the_object_that_it_is() -> None:
    add = functools.partial(jax.lax.add, 1.0)
    assert pax.Lambda(add).summary() == f"x => {add}(x)"


def test_kd_57_a_function_without_a_name_can_be_printed() -> None:
    add = functools.partial(jax.lax.add, 1.0)
    assert repr(pax.Lambda(add)) == f"Lambda({add})"
    assert repr(pax.Sequential(add)) == "Sequential"


@pytest.mark.parametrize(
    ("depth", "text"), [(18, "(ResNet18) ResNet18"), (34, "ResNet34"), (50, "ResNet50")], ids=["18", "34", "50"]
)
def test_of_the_resnets_one_has_a_name(depth: int, text: str) -> None:
    assert repr(_make(f"nets.ResNet{depth}(3, 2)")) == text


def test_the_lines_of_a_resnet() -> None:
    lines = _make("nets.ResNet18(3, 1000)").summary(return_list=True)
    names = [line.lstrip("│├└─ ").split("(in_features")[0].split("(num_channels")[0] for line in lines]
    assert lines[-1] == "└── (fc) Linear(in_dim=512, out_dim=1000, with_bias=True)"
    assert names[:4] == ["(ResNet18) ResNet18", "(conv1) Conv2D", "(bn1) BatchNorm2D", "BlockGroup"]
    block = ["(conv1) Conv2D", "(bn1) BatchNorm2D", "(conv2) Conv2D", "(bn2) BatchNorm2D"]
    assert names[4:14] == ["ResnetBlock", *block] * 2
    assert names[14:18] == ["BlockGroup", "ResnetBlock", "(proj_conv) Conv2D", "(proj_bn) BatchNorm2D"]


def test_the_lines_of_a_transformer() -> None:
    lines = _make("nets.Transformer(4, 2, 1, 0.0)").summary(return_list=True)
    layer_norm = "LayerNorm(num_channels=4, axis=(-1,), create_scale=True, create_offset=True)"
    assert lines[0].startswith("Transformer")
    assert lines[1] == "├── RngSeq"
    assert lines[2].startswith("├── CausalSelfAttention")
    assert [line[len("│   ") :].split("(in_dim")[0] for line in lines[3:7]] == [
        "├── (qry_proj) Linear",
        "├── (key_proj) Linear",
        "├── (val_proj) Linear",
        "└── (out_proj) Linear",
    ]
    assert lines[7] == f"├── {layer_norm}"
    assert lines[8].startswith("├── DenseBlock")
    assert [line.split("Linear")[-1] for line in lines[9:11]] == [
        "(in_dim=4, out_dim=16, with_bias=True)",
        "(in_dim=16, out_dim=4, with_bias=True)",
    ]
    assert lines[11:] == [f"├── {layer_norm}", f"└── {layer_norm}"]
