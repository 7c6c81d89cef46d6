"""`load_torch_weights` and `to_torch_weights` with NumPy dictionaries; tests/parity compares models with PyTorch's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError, StateDictError
from pax.experimental import load_torch_weights, to_torch_weights

F = np.float32


def n(*shape: int) -> Any:
    """Other numbers at each place."""
    return np.arange(1, 1 + np.prod(shape, dtype=int), dtype=F).reshape(shape)


class Block(pax.Module):
    """Has a layer, and an array of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = pax.nn.Linear(2, 2, rng_key=jax.random.key(0))
        self.token = jnp.zeros(3)


class Model(pax.Module):
    """Has blocks in a list, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(), Block()]
        self.dropout = pax.nn.Dropout(0.5, rng_key=jax.random.PRNGKey(0))
        self.head = pax.nn.Linear(2, 3, rng_key=jax.random.key(1))


class Autoencoder(pax.Module):
    """Two layers of opposite shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = pax.nn.Linear(5, 2)
        self.decoder = pax.nn.Linear(2, 5)

    def __call__(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


def model_weights() -> dict[str, Any]:
    weights = {f"blocks.{i}.{name}": array for i in (0, 1) for name, array in _block_weights(i).items()}
    return weights | {"head.weight": n(3, 2), "head.bias": n(3)}


def _block_weights(index: int) -> dict[str, Any]:
    return {"fc.weight": n(2, 2) + index, "fc.bias": n(2) + index, "token": n(3) + index}


# ---- layouts ---------------------------------------------------------------------------------------------------------

BATCH_NORM = {"weight": n(4), "bias": n(4) + 1, "running_mean": n(4) + 2, "running_var": n(4) + 3}
IN_PROJ = {"in_proj_weight": n(24, 8), "in_proj_bias": n(24), "out_proj.weight": n(8, 8), "out_proj.bias": n(8)}

# Name -> layer, PyTorch's arrays, and what the layer must have then.
LAYERS: dict[str, tuple[Callable[[], Any], dict[str, Any], Callable[[Any], Any], Any]] = {
    "Linear": (lambda: pax.nn.Linear(2, 3), {"weight": n(3, 2), "bias": n(3)}, lambda m: m.weight, n(3, 2).T),
    "Linear without bias": (
        lambda: pax.nn.Linear(2, 3, with_bias=False),
        {"weight": n(3, 2)},
        lambda m: m.weight,
        n(3, 2).T,
    ),
    "Conv1D": (
        lambda: pax.nn.Conv1D(3, 5, 2),
        {"weight": n(5, 3, 2), "bias": n(5)},
        lambda m: m.weight[1, 2, 4],
        n(5, 3, 2)[4, 2, 1],
    ),
    "Conv2D": (
        lambda: pax.nn.Conv2D(3, 5, (2, 4)),
        {"weight": n(5, 3, 2, 4), "bias": n(5)},
        lambda m: m.weight[1, 3, 2, 4],
        n(5, 3, 2, 4)[4, 2, 1, 3],
    ),
    "Conv3D": (
        lambda: pax.nn.Conv3D(3, 5, (1, 2, 4), with_bias=False),
        {"weight": n(5, 3, 1, 2, 4)},
        lambda m: m.weight[0, 1, 3, 2, 4],
        n(5, 3, 1, 2, 4)[4, 2, 0, 1, 3],
    ),
    "DepthwiseConv2D": (
        lambda: pax.nn.DepthwiseConv2D(2, 3, 2),
        {"weight": n(6, 1, 2, 2), "bias": n(6)},
        lambda m: m.weight[1, 0, 0, 5],
        n(6, 1, 2, 2)[5, 0, 1, 0],
    ),
    "Conv2DTranspose": (
        lambda: pax.nn.Conv2DTranspose(3, 5, (2, 4)),
        {"weight": n(3, 5, 2, 4), "bias": n(5)},
        lambda m: m.weight[0, 1, 4, 2],
        n(3, 5, 2, 4)[2, 4, 1, 2],
    ),
    "BatchNorm1D": (
        lambda: pax.nn.BatchNorm1D(4),
        BATCH_NORM,
        lambda m: m.ema_var.averages,
        (n(4) + 3).reshape(1, 1, 4),
    ),
    "BatchNorm2D": (
        lambda: pax.nn.BatchNorm2D(4, data_format="NCHW"),
        BATCH_NORM,
        lambda m: m.ema_mean.averages,
        (n(4) + 2).reshape(1, 4, 1, 1),
    ),
    "BatchNorm2D without scale and offset": (
        lambda: pax.nn.BatchNorm2D(4, False, False),
        {"running_mean": n(4), "running_var": n(4) + 1},
        lambda m: m.ema_mean.averages,
        n(1, 1, 1, 4),
    ),
    "LayerNorm": (
        lambda: pax.nn.LayerNorm(4, -1, True, True),
        {"weight": n(4), "bias": n(4) + 1},
        lambda m: m.offset,
        n(4) + 1,
    ),
    "GroupNorm": (lambda: pax.nn.GroupNorm(2, 4), {"weight": n(4), "bias": n(4) + 1}, lambda m: m.scale, n(4)),
    "InstanceNorm": (lambda: pax.nn.InstanceNorm(4), {"weight": n(4), "bias": n(4) + 1}, lambda m: m.scale, n(4)),
    "RMSNorm": (lambda: pax.nn.RMSNorm(4), {"weight": n(4)}, lambda m: m.scale, n(4)),
    "PReLU": (lambda: pax.nn.PReLU(), {"weight": n(1)}, lambda m: m.weight, F(1)),
    "Embed": (lambda: pax.nn.Embed(5, 3), {"weight": n(5, 3)}, lambda m: m.weight, n(5, 3)),
    "LearnedPositions": (
        lambda: pax.nn.LearnedPositions(5, 3),
        {"weight": n(5, 3)},
        lambda m: m.weight,
        n(5, 3),
    ),
    "MultiHeadAttention": (
        lambda: pax.nn.MultiHeadAttention(2, 4, 1.0),
        IN_PROJ,
        lambda m: m.key_projection.weight,
        n(24, 8)[8:16].T,
    ),
    "MultiHeadAttention with dropout": (
        lambda: pax.nn.MultiHeadAttention(2, 4, 1.0, dropout_rate=0.5),
        IN_PROJ,
        lambda m: m.output_projection.weight,
        n(8, 8).T,
    ),
    "VanillaRNN": (
        lambda: pax.nn.VanillaRNN(2, 3),
        {"weight_ih": n(3, 2), "weight_hh": n(3, 3), "bias_ih": n(3), "bias_hh": 0 * n(3)},
        lambda m: m.fc.weight,
        np.concatenate([n(3, 2).T, n(3, 3).T]),
    ),
    "LSTM": (
        lambda: pax.nn.LSTM(2, 3),
        {"weight_ih": n(12, 2), "weight_hh": n(12, 3), "bias_ih": n(12), "bias_hh": 0 * n(12)},
        lambda m: m.fc.bias,
        np.concatenate([n(12)[:3], n(12)[6:9], n(12)[3:6], n(12)[9:]]),  # i, f, g, o there, i, g, f, o here
    ),
    "an array": (lambda: Block(), _block_weights(4), lambda m: m.token, n(3) + 4),
    "Sequential": (
        lambda: pax.nn.Sequential(pax.nn.Linear(2, 3), jnp.tanh, pax.nn.Linear(3, 1)),
        {"0.weight": n(3, 2), "0.bias": n(3), "2.weight": n(1, 3), "2.bias": n(1)},
        lambda m: m[2].weight,
        n(1, 3).T,
    ),
    "Remat": (
        lambda: pax.nn.Remat(pax.nn.Linear(2, 3)),
        {"weight": n(3, 2), "bias": n(3)},
        lambda m: m.module.weight,
        n(3, 2).T,
    ),
    "MLP": (
        lambda: pax.nn.MLP((2, 3, 1), dropout_rate=0.1),
        {"layers.0.weight": n(3, 2), "layers.0.bias": n(3), "layers.1.weight": n(1, 3), "layers.1.bias": n(1)},
        lambda m: m.layers[0].bias,
        n(3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_loaded_and_given_back(name: str) -> None:
    make, weights, part, want = LAYERS[name]
    layer = make()
    loaded = load_torch_weights(layer, weights | {"num_batches_tracked": np.array(7)})
    assert treedef(loaded) == treedef(layer)
    np.testing.assert_array_equal(part(loaded), want)
    back = to_torch_weights(loaded)
    assert list(back) == list(weights)
    for key, array in weights.items():
        np.testing.assert_array_equal(back[key], array)
        assert back[key].dtype == array.dtype
        assert back[key].flags.writeable
        assert back[key].flags.c_contiguous
    again = load_torch_weights(make(), back)
    for ours, theirs in zip(jax.tree.leaves(again.parameters()), jax.tree.leaves(loaded.parameters()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_two_biases_of_a_cell_are_added() -> None:
    weights = {"weight_ih": n(3, 2), "weight_hh": n(3, 3), "bias_ih": n(3), "bias_hh": 10 * n(3)}
    cell = load_torch_weights(pax.nn.VanillaRNN(2, 3), weights)
    np.testing.assert_array_equal(cell.fc.bias, 11 * n(3))
    np.testing.assert_array_equal(to_torch_weights(cell)["bias_ih"], 11 * n(3))


def test_training_goes_on_from_the_loaded_averages() -> None:
    norm = load_torch_weights(pax.nn.BatchNorm1D(4), BATCH_NORM)
    assert norm.ema_mean.debias == 1
    assert norm.ema_var.debias == 1
    updated, _ = pax.purecall(norm, jnp.zeros((2, 3, 4)))
    np.testing.assert_allclose(updated.ema_mean.averages[0, 0], 0.9 * BATCH_NORM["running_mean"], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: pax.nn.GRU(2, 3), "before"),
        (lambda: pax.nn.LSTM(2, 3, forget_gate_bias=1.0), "forget_gate_bias"),
        (lambda: pax.nn.MultiHeadAttention(4, 2, 1.0, num_kv_heads=2), "heads"),
        (lambda: pax.nn.WeightNorm(pax.nn.Linear(2, 3)), "computed"),
        (lambda: pax.nn.SpectralNorm(pax.nn.Linear(2, 3)), "computed"),
        (lambda: pax.nn.Tied(Autoencoder(), {"decoder.weight": "encoder.weight.T"}), "not at their places"),
    ],
)
@pytest.mark.parametrize("function", [lambda *args: load_torch_weights(args[0], {}, *args[1:]), to_torch_weights])
def test_a_layer_that_pytorch_does_not_have_is_refused(make: Any, why: str, function: Any) -> None:
    model = pax.nn.Sequential(pax.nn.Linear(1, 2), make())
    with pytest.raises(ArgumentError, match="have no counterpart in PyTorch") as caught:
        function(model)
    assert why in str(caught.value.why)
    assert str(caught.value.place).startswith("modules[1] (")
    assert list(to_torch_weights(model, {"modules/1": None})) == ["0.weight", "0.bias"]


def test_the_parts_of_such_a_layer_can_be_named() -> None:
    weights = {"zr.weight": n(6, 5), "zr.bias": n(6), "h.weight": n(3, 5), "h.bias": n(3)}
    gru = load_torch_weights(pax.nn.GRU(2, 3), weights, {"xh_zr_fc": "zr", "xh_h_fc": "h"})
    np.testing.assert_array_equal(gru.xh_zr_fc.weight, n(6, 5).T)


def test_the_projections_of_attention_can_be_named() -> None:
    names: Any = {f"{name}_projection": f"{name[0]}_proj" for name in ("query", "key", "value", "output")}
    attention = pax.nn.MultiHeadAttention(4, 2, 1.0, num_kv_heads=2, dropout_rate=0.1)
    weights = to_torch_weights(attention, names)
    assert {name: array.shape for name, array in weights.items() if "weight" in name} == {
        "q_proj.weight": (8, 8),
        "k_proj.weight": (4, 8),
        "v_proj.weight": (4, 8),
        "o_proj.weight": (8, 8),
    }
    loaded = load_torch_weights(attention, {k: v + 1 for k, v in weights.items()}, names)
    np.testing.assert_array_equal(loaded.key_projection.weight, attention.key_projection.weight + 1)
    assert loaded.rng_key is attention.rng_key


class Deep(pax.Module):
    """Has stacked blocks, and in each an ensemble."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: Any = pax.nn.Stack(Inner, 3)
        self.head = pax.nn.Linear(2, 1)


class Inner(pax.Module):
    """One block of it."""

    def __init__(self) -> None:
        super().__init__()
        self.members = pax.nn.Ensemble(lambda: pax.nn.Linear(2, 2), 2)
        self.dropout = pax.nn.Dropout(0.5)
        self.norm = pax.nn.BatchNorm1D(2)


def test_a_stack_without_values_can_be_loaded() -> None:
    weights = {f"{i}.{name}": array for i in (0, 1) for name, array in LAYERS["Linear"][1].items()}
    stack = load_torch_weights(jax.eval_shape(lambda: pax.nn.Stack(lambda: pax.nn.Linear(2, 3), 2)), weights)
    np.testing.assert_array_equal(stack[1].weight, n(3, 2).T)


def test_the_blocks_of_stacks_are_named_like_those_of_lists() -> None:
    names: dict[str, str | None] = {"stack/*": "layer{0+1}", "stack/*/members/*": "layer{0+1}.fc{1}"}
    parts = {f"fc{i}.weight": n(2, 2) + i for i in (0, 1)} | {f"fc{i}.bias": n(2) + i for i in (0, 1)}
    parts |= {f"norm.{name}": n(2) for name in ("weight", "bias", "running_mean", "running_var")}
    weights = {f"layer{i}.{name}": array + 10 * i for i in (1, 2, 3) for name, array in parts.items()}
    weights |= {"head.weight": n(1, 2), "head.bias": n(1)}
    module = Deep()
    loaded = load_torch_weights(module, weights, names)
    assert treedef(loaded) == treedef(module)
    inner = loaded.stack.block
    np.testing.assert_array_equal(inner.members.member.weight[1, 1], (n(2, 2) + 21).T)
    np.testing.assert_array_equal(loaded.stack[2].norm.ema_mean.averages[0, 0], n(2) + 30)
    np.testing.assert_array_equal(inner.dropout.rng_key, module.stack.block.dropout.rng_key)
    back = to_torch_weights(loaded, names)
    assert set(back) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array)
    del weights["layer2.fc0.bias"]
    with pytest.raises(
        StateDictError, match=r"layer2.fc0.bias: missing, want float32\[2\] for `stack\[1\].members\[0\].bias`"
    ):
        load_torch_weights(module, weights, names)


def test_arrays_that_a_subclass_adds_have_their_own_names() -> None:
    class Scaled(pax.nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.gain = jnp.ones(3)

    loaded = load_torch_weights(Scaled(), {"fc.weight": n(3, 2), "fc.bias": n(3), "fc.gain": n(3)}, {"": "fc"})
    np.testing.assert_array_equal(loaded.gain, n(3))


# ---- names -----------------------------------------------------------------------------------------------------------


def test_without_a_map_the_names_are_the_paths() -> None:
    loaded = load_torch_weights(Model(), model_weights())
    np.testing.assert_array_equal(loaded.blocks[1].token, n(3) + 1)
    np.testing.assert_array_equal(loaded.head.weight, n(3, 2).T)


NAMES: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "one module": ({"head": "out"}, ["blocks.0.fc.weight", "out.weight"]),
    "a list": ({"blocks": "encoder.layer"}, ["encoder.layer.0.fc.weight", "head.weight"]),
    "the items of a list": ({"blocks/*": "layer{0}"}, ["layer0.fc.weight", "layer1.token"]),
    "counted from another number": ({"blocks/*": "layer{0+1}"}, ["layer1.fc.weight", "layer2.token"]),
    "counted down": ({"blocks/0": "stem", "blocks/*": "layer{0-1}"}, ["stem.fc.weight", "layer0.token"]),
    "in steps": ({"blocks/*": "features.{0*3}"}, ["features.0.fc.weight", "features.3.token"]),
    "in steps, counted from another number": ({"blocks/*": "{0*3+1}.{0*2-0}"}, ["1.0.fc.weight", "4.2.token"]),
    "written as Python code": ({"blocks[*].fc": "layer{0}.linear"}, ["layer0.linear.weight", "blocks.0.token"]),
    "a part of a segment": ({"h*d": "{0}"}, ["ea.weight", "blocks.0.fc.weight"]),
    "inner and outer": (
        {"blocks/*": "layer{0}", "blocks/*/fc": "mlp.{0}"},
        ["mlp.0.weight", "mlp.1.bias", "layer0.token"],
    ),
    "the first of two": ({"blocks/0": "stem", "blocks/*": "layer{0}"}, ["stem.fc.weight", "layer1.fc.weight"]),
    "an array": ({"blocks/*/token": "tokens_{0}"}, ["tokens_0", "tokens_1", "blocks.0.fc.weight"]),
    "an array of a layer": ({"head/weight": "out_matrix"}, ["out_matrix", "head.bias"]),
    "the root": ({"": "model"}, ["model.blocks.0.fc.weight", "model.head.bias"]),
    "the root and a part": (
        {"": "module", "head": "out", "blocks/1": "layer", "blocks/*": "", "blocks/*/token": "t{0}"},
        ["module.out.weight", "module.fc.weight", "module.t0", "module.t1", "module.layer.fc.bias"],
    ),
    "with a star": ({"head": "out.*_l0"}, ["out.weight_l0", "out.bias_l0"]),
    "with a star above": ({"blocks": "*_of_blocks"}, ["0_of_blocks.fc.weight"]),
    "nothing": ({"dropout": None}, ["head.weight"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_map_names(name: str) -> None:
    names, some = NAMES[name]
    model = Model()
    weights = to_torch_weights(model, names)
    assert len(weights) == 8
    assert set(some) <= set(weights)
    changed = load_torch_weights(model, {key: array + 1 for key, array in weights.items()}, names)
    for before, after in zip(jax.tree.leaves(model), jax.tree.leaves(changed), strict=True):
        is_key = before.dtype == jnp.uint32
        np.testing.assert_array_equal(after, before if is_key else before + 1)


def test_what_pytorch_does_not_have_is_kept() -> None:
    model = Model()
    names: dict[str, str | None] = {"blocks/*/token": None, "head": None, "blocks/1": None}
    loaded = load_torch_weights(model, {"blocks.0.fc.weight": n(2, 2), "blocks.0.fc.bias": n(2)}, names)
    assert loaded.head.weight is model.head.weight
    assert loaded.blocks[1].fc.weight is model.blocks[1].fc.weight
    assert loaded.blocks[0].token is model.blocks[0].token
    assert loaded.dropout.rng_key is model.dropout.rng_key
    np.testing.assert_array_equal(loaded.blocks[0].fc.bias, n(2))


def test_a_part_can_have_a_name_where_the_whole_has_none() -> None:
    assert list(to_torch_weights(Model(), {"": None, "head": "fc"})) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        ({"blocks/*/conv": "x"}, SelectorError, "matches nothing"),
        ({"blocks/*": "layer{0}", "blocks/0": "stem"}, SelectorError, "named before it"),
        ({"blocks/*": "layer{1}"}, ArgumentError, "counts stars that the pattern does not have"),
        ({"head": "{0}"}, ArgumentError, "counts stars that the pattern does not have"),
        ({"**/fc": "x"}, ArgumentError, "any number of segments"),
        ({"*": "layer{0+1}"}, ArgumentError, "computes with a star that stands for no number"),
        ({"*": "layer{0*2}"}, ArgumentError, "computes with a star that stands for no number"),
        ({"blocks/*": "body.{0-1}"}, ArgumentError, "gives a negative number"),
        ({"head": "h{0"}, ArgumentError, "is malformed"),
        ({"head": "{}"}, ArgumentError, "is malformed"),
        ({"head": "h}"}, ArgumentError, "is malformed"),
        ({"head": "h."}, ArgumentError, "is malformed"),
        ({"head": "a..h"}, ArgumentError, "is malformed"),
        ({"blocks/*": "{i}"}, ArgumentError, "is malformed"),
        ({"blocks/*": "{0+}"}, ArgumentError, "is malformed"),
        ({"": "model."}, ArgumentError, "is malformed"),
        ({"blocks/*": "layer"}, ArgumentError, r"Two arrays get the name `layer.fc.weight`"),
        ({"head": 3}, ArgumentTypeError, "no text"),
        ([("head", "fc")], ArgumentTypeError, "Expecting a dictionary for `names`"),
    ],
)
def test_a_wrong_map_is_an_error(names: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        to_torch_weights(Model(), names)
    with pytest.raises(error, match=text):
        load_torch_weights(Model(), model_weights(), names)


def test_the_error_of_a_pattern_lists_the_paths_there_are() -> None:
    with pytest.raises(SelectorError) as caught:
        to_torch_weights(Model(), {"block/*": "x"})
    assert caught.value.got == "'block/*'"
    assert str(caught.value.want).splitlines()[1:] == [
        "blocks/*/fc/weight",
        "blocks/*/fc/bias",
        "blocks/*/token",
        "dropout/rng_key",
        "head/weight",
        "head/bias",
    ]


# ---- what does not fit -----------------------------------------------------------------------------------------------


def spoiled() -> dict[str, Any]:
    weights = model_weights()
    del weights["blocks.1.fc.bias"]
    weights["blocks.0.token"] = np.arange(3)
    weights["head.weight"] = n(5, 2)
    weights["head.bias"] = "text"
    return weights | {"mask": np.zeros((2, 2), bool), "bn.num_batches_tracked": np.array(3)}


PROBLEMS = {
    "blocks.0.token": "got int64[3], want float32[3] for `blocks[0].token`",
    "blocks.1.fc.bias": "missing, want float32[2] for `blocks[1].fc.bias`",
    "head.weight": "got float32[5,2], want float32[3,2] for `head.weight`",
    "head.bias": "got 'text', want float32[3] for `head.bias`",
    "mask": "unexpected, got bool[2,2]",
}


def test_everything_that_does_not_fit_is_listed_with_both_names() -> None:
    model = Model()
    before = jax.tree.leaves(model)
    with pytest.raises(StateDictError, match="PyTorch's weights do not fit the module") as caught:
        load_torch_weights(model, spoiled())
    assert sorted(str(caught.value.got).splitlines()) == sorted(f"{name}: {why}" for name, why in PROBLEMS.items())
    assert all(x is y for x, y in zip(jax.tree.leaves(model), before, strict=True))


def test_a_hundred_problems_are_all_listed() -> None:
    with pytest.raises(StateDictError) as caught:
        load_torch_weights(pax.nn.Lambda(jnp.tanh), {f"x{i}": n(1) for i in range(100)})
    assert len(str(caught.value.got).splitlines()) == 100


def test_what_fits_is_loaded_and_the_rest_is_returned_with_the_reason() -> None:
    model = Model()
    loaded, skipped = load_torch_weights(model, spoiled(), strict=False)
    assert skipped == PROBLEMS
    assert loaded.head.weight is model.head.weight
    assert loaded.blocks[0].token is model.blocks[0].token
    assert loaded.blocks[1].fc.bias is model.blocks[1].fc.bias
    np.testing.assert_array_equal(loaded.blocks[1].token, n(3) + 1)


def test_arrays_that_belong_together_are_skipped_together() -> None:
    attention = pax.nn.MultiHeadAttention(2, 4, 1.0)
    loaded, skipped = load_torch_weights(attention, IN_PROJ | {"in_proj_weight": n(3, 8)}, strict=False)
    projections = "`query_projection.weight`, `key_projection.weight`, `value_projection.weight`"
    assert skipped == {"in_proj_weight": f"got float32[3,8], want float32[24,8] for {projections}"}
    assert loaded.query_projection.weight is attention.query_projection.weight
    np.testing.assert_array_equal(loaded.query_projection.bias, n(8))


def test_names_can_be_ignored() -> None:
    weights = model_weights() | {"blocks.0.attn.mask": n(2), "blocks.1.attn.mask": n(2)}
    loaded = load_torch_weights(Model(), weights, ignore=["blocks.*.mask"])
    np.testing.assert_array_equal(loaded.head.bias, n(3))
    assert load_torch_weights(Model(), weights, ignore="*.mask", strict=False)[1] == {}
    with pytest.raises(StateDictError, match="blocks.1.attn.mask: unexpected"):
        load_torch_weights(Model(), weights, ignore=["blocks.0.attn.mask"])


def test_a_pattern_to_ignore_has_to_match_something() -> None:
    weights = model_weights() | {"bn.num_batches_tracked": np.array(3)}
    load_torch_weights(Model(), weights, ignore=["*.num_batches_tracked"])
    for strict in (True, False):
        with pytest.raises(SelectorError, match="A pattern of `ignore` matches nothing") as caught:
            load_torch_weights(Model(), weights, ignore=["bn.*", "zzz.*"], strict=strict)
        assert caught.value.got == "'zzz.*'"


@pytest.mark.parametrize(
    ("names", "extra", "text"),
    [
        (None, {}, 'all names there begin with `model.module.`: names={"": "model.module"}'),
        ({"head": "head"}, {}, 'all names there begin with `model.module.`: names={"": "model.module", ...}'),
        (None, {"x": n(2)}, 'most names there begin with `model.module.`: names={"": "model.module"}'),
    ],
)
def test_the_error_tells_the_prefix_of_all_names(names: Any, extra: Any, text: str) -> None:
    weights = {f"model.module.{name}": array for name, array in model_weights().items()}
    with pytest.raises(StateDictError) as caught:
        load_torch_weights(Model(), weights | extra, names)
    assert caught.value.fix == text
    load_torch_weights(Model(), weights, {"": "model.module"} | (names or {}))


def test_the_error_tells_the_dictionary_in_a_checkpoint() -> None:
    checkpoint = {"epoch": 1, "hyper_parameters": {"lr": 0.1}, "state_dict": model_weights()}
    with pytest.raises(StateDictError) as caught:
        load_torch_weights(Model(), checkpoint)
    assert str(caught.value.fix).startswith("pass checkpoint['state_dict']")


def test_other_errors_speak_of_no_prefix() -> None:
    weights = model_weights()
    weights["ema.head.bias"] = weights.pop("head.bias")
    del weights["head.weight"]
    with pytest.raises(StateDictError) as caught:
        load_torch_weights(Model(), weights)
    assert str(caught.value.fix).startswith("name the parts by `names`")


class Flattening(pax.Module):
    """A convolution, and a linear layer on all of its outputs: the documented way to flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pax.nn.Conv2D(3, 5, 1)
        self.fc = pax.nn.Linear(5 * 4 * 2, 7)

    def __call__(self, x: Any, channels_first: bool = True) -> Any:
        x = self.conv(x)
        x = x.transpose(0, 3, 1, 2) if channels_first else x
        return self.fc(x.reshape(len(x), -1))


def test_a_flattened_convolution_needs_the_channels_first() -> None:
    weights = {"conv.weight": n(5, 3, 1, 1), "conv.bias": n(5), "fc.weight": n(7, 40), "fc.bias": n(7)}
    weights = {name: np.sin(array) for name, array in weights.items()}
    images = np.cos(n(2, 3, 4, 2))
    outputs = np.einsum("oc,nchw->nohw", weights["conv.weight"][..., 0, 0], images)  # as PyTorch does it
    outputs += weights["conv.bias"][:, None, None]
    want = outputs.reshape(2, -1) @ weights["fc.weight"].T + weights["fc.bias"]
    net: Any = load_torch_weights(Flattening(), weights)
    np.testing.assert_allclose(net(images.transpose(0, 2, 3, 1)), want, rtol=1e-4, atol=1e-4)
    assert not np.allclose(net(images.transpose(0, 2, 3, 1), channels_first=False), want, atol=0.1)


@pytest.mark.parametrize("state_dict", [None, [n(1)], Model()])
def test_what_is_no_dictionary_is_refused(state_dict: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a dictionary for `state_dict`"):
        load_torch_weights(Model(), state_dict)


@pytest.mark.parametrize("function", [lambda net: load_torch_weights(net, {}), to_torch_weights])
def test_what_is_no_module_is_refused(function: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX module.\n  where: pax.experimental.\w+, argument"):
        function({"weight": n(1)})


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_dtype_is_that_of_the_module(dtype: Any) -> None:
    layer = pax.nn.Linear(2, 3, param_dtype=dtype)
    loaded = load_torch_weights(layer, {"weight": n(3, 2).astype("float64"), "bias": n(3).astype("float16")})
    assert (loaded.weight.dtype, loaded.bias.dtype) == (dtype, dtype)
    # NumPy, and so PyTorch, has no bfloat16 of its own.
    back = to_torch_weights(loaded)
    assert back["weight"].dtype == (np.float32 if dtype is jnp.bfloat16 else dtype)
    np.testing.assert_array_equal(back["weight"], n(3, 2))


def test_the_memory_is_not_shared() -> None:
    weights = {"weight": n(8, 16), "bias": n(8)}
    layer = load_torch_weights(pax.nn.Linear(16, 8), weights)
    back = to_torch_weights(layer)
    for arrays in (weights, back):
        for array in arrays.values():
            array[:] = -1
    np.testing.assert_array_equal(layer.weight, n(8, 16).T)
    np.testing.assert_array_equal(layer.bias, n(8))


class Tensor:
    """What is used of PyTorch's tensors."""

    def __init__(self, array: Any, dtype: str = "torch.float32", place: str = "graph") -> None:
        self.array, self.dtype, self.place = array, dtype, place
        self.shape = array.shape

    def detach(self) -> "Tensor":
        return Tensor(self.array, self.dtype, "device")

    def cpu(self) -> "Tensor":
        return Tensor(self.array, self.dtype, "cpu" if self.place == "device" else self.place)

    def float(self) -> "Tensor":
        return Tensor(self.array, "torch.float32", self.place)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.place != "cpu" or self.dtype == "torch.bfloat16":
            raise TypeError(f"a tensor of {self.dtype} on {self.place} is no array")
        return self.array


def test_tensors_on_other_devices_with_gradients_and_of_bfloat16_are_read() -> None:
    layer = load_torch_weights(pax.nn.Linear(2, 3), {"weight": Tensor(n(3, 2)), "bias": Tensor(n(3), "torch.bfloat16")})
    np.testing.assert_array_equal(layer.weight, n(3, 2).T)
    np.testing.assert_array_equal(layer.bias, n(3))


def test_numpy_arrays_of_a_module_stay_numpy_arrays() -> None:
    module: Any = pax.Module().set_attribute("mask", np.zeros(3, bool))
    loaded = load_torch_weights(module, {"mask": np.ones(3, bool)})
    assert isinstance(loaded.mask, np.ndarray)
    assert loaded.mask.tolist() == [True, True, True]


def test_a_module_without_values_can_be_loaded_but_not_saved() -> None:
    shapes = jax.eval_shape(lambda: pax.nn.BatchNorm2D(4).eval())
    loaded = load_torch_weights(shapes, BATCH_NORM)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert not loaded.training
    with pytest.raises(ArgumentError, match="Only arrays that have values can be given to PyTorch"):
        to_torch_weights(shapes)


def test_a_module_without_values_needs_all_of_them() -> None:
    shapes = jax.eval_shape(lambda: pax.nn.Dropout(0.5))
    with pytest.raises(StateDictError, match="rng_key: PyTorch does not have it, and the module has no value to keep"):
        load_torch_weights(shapes, {})


def test_tracers_cannot_be_saved() -> None:
    with pytest.raises(ArgumentTypeError, match="outside of jit"):
        jax.jit(lambda layer: to_torch_weights(layer)["weight"])(pax.nn.Linear(2, 3))


def test_weights_can_be_loaded_inside_of_jit() -> None:
    weights = {"weight": n(3, 2), "bias": n(3)}
    layer = jax.jit(lambda layer: load_torch_weights(layer, weights))(pax.nn.Linear(2, 3))
    np.testing.assert_array_equal(layer.weight, n(3, 2).T)


def test_typed_keys_are_kept() -> None:
    module: Any = pax.Module().set_attribute("key", jax.random.key(1))
    assert load_torch_weights(module, {}).key is module.key
    assert to_torch_weights(module) == {}
