"""`save_weights_to_dict` and `load_weights_from_dict`; the dictionaries of the original PAX, layer by layer."""

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from jax.tree_util import DictKey, GetAttrKey, SequenceKey, keystr, tree_leaves_with_path

import pax
from helpers.treedefs import treedef
from helpers.trees import Recipe, module_recipes, raw
from pax.errors import ArgumentTypeError, StateDictError
from pax.experimental import LazyModule, lazy_init, load_weights_from_dict, save_weights_to_dict


def net() -> Any:
    return pax.nn.Sequential(pax.nn.Linear(1, 2), jax.nn.relu, pax.nn.Linear(2, 3))


# ---- the documented examples -----------------------------------------------------------------------------------------


def test_the_documented_dictionary_has_the_names_containers_and_order() -> None:
    model = net()
    weights = save_weights_to_dict(model)
    assert list(weights) == ["modules"]
    first, second, third = weights["modules"]
    assert isinstance(weights["modules"], tuple)
    assert second == {}
    for layer, found in ((model[0], first), (model[2], third)):
        assert list(found) == ["weight", "bias"]
        assert found["weight"] is layer.weight
        assert found["bias"] is layer.bias


def test_the_documented_example_makes_equal_modules() -> None:
    a, b = net(), net()
    assert a != b
    b = load_weights_from_dict(b, save_weights_to_dict(a))
    assert a == b
    assert all(x is y for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_argument_is_not_changed() -> None:
    a, b = net(), net()
    before = jax.tree.leaves(b)
    load_weights_from_dict(b, save_weights_to_dict(a))
    assert all(x is y for x, y in zip(jax.tree.leaves(b), before, strict=True))


def test_mode_and_static_attributes_stay_those_of_the_module() -> None:
    loaded = load_weights_from_dict(pax.nn.Linear(2, 3, name="new").eval(), save_weights_to_dict(pax.nn.Linear(2, 3)))
    assert (loaded.name, loaded.training) == ("new", False)


def test_numpy_arrays_are_copied() -> None:
    weights = {"weight": np.ones((2, 3), "float32"), "bias": np.zeros(3, "float32")}
    loaded = load_weights_from_dict(pax.nn.Linear(2, 3), weights)
    weights["weight"][:] = 7
    assert isinstance(loaded.weight, jax.Array)
    np.testing.assert_array_equal(loaded.weight, np.ones((2, 3)))


# ---- what does not fit -----------------------------------------------------------------------------------------------


def spoiled() -> tuple[Any, dict[str, Any]]:
    model = net()
    weights = save_weights_to_dict(model)
    del weights["modules"][0]["weight"]
    weights["modules"][1]["extra"] = jnp.ones(2)
    weights["modules"][2]["bias"] = jnp.ones(9)
    return model, weights


def test_kd_27_every_entry_that_does_not_fit_is_listed_by_path() -> None:
    """KD-27: nothing is ignored, and nothing of another shape or kind is loaded."""
    model, weights = spoiled()
    with pytest.raises(StateDictError, match="The state dictionary does not fit the module") as caught:
        load_weights_from_dict(model, weights)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value.got).splitlines() == [
        "missing: modules[0].weight",
        "unexpected: modules[1].extra",
        "modules[2].bias: got float32[9], want float32[3]",
    ]


def test_kd_27_a_hundred_problems_are_all_listed() -> None:
    """KD-27: the list is not cut."""
    with pytest.raises(StateDictError) as caught:
        load_weights_from_dict(pax.nn.Linear(1, 1), {f"x{i}": i for i in range(100)})
    lines = str(caught.value.got).splitlines()
    assert lines == ["missing: weight, bias", f"unexpected: {', '.join(f'x{i}' for i in range(100))}"]


def test_the_error_names_this_function() -> None:
    with pytest.raises(StateDictError) as caught:
        load_weights_from_dict(pax.nn.Linear(1, 1), {"w": 1})
    assert str(caught.value.place) == "Linear, pax.experimental.load_weights_from_dict"
    assert "load_weights_from_dict(..., strict=False)" in str(caught.value.fix)
    assert "state_dict()" not in str(caught.value)
    assert "lazy" not in str(caught.value)


class Head(LazyModule):
    """Has no layer before the first call."""

    def __call__(self, x: Any) -> Any:
        return self.get_or_create("fc", lambda: pax.nn.Linear(x.shape[-1], 2))(x)


@pytest.mark.parametrize(
    ("make", "fix"),
    [(Head, "net.init(x)"), (lambda: pax.nn.Sequential(Head()), "pax.experimental.lazy_init(net, x)")],
)
def test_a_module_without_its_parts_is_to_be_initialised_first(make: Callable[[], Any], fix: str) -> None:
    x = jax.ShapeDtypeStruct((1, 3), F)
    weights = save_weights_to_dict(lazy_init(make(), x))
    with pytest.raises(StateDictError) as caught:
        load_weights_from_dict(make(), weights)
    assert str(caught.value.fix).startswith(f"net = {fix}")
    assert load_weights_from_dict(lazy_init(make(), x), weights) is not None


def test_what_fits_is_loaded_and_the_rest_is_returned_with_the_reason() -> None:
    model, weights = spoiled()
    loaded, skipped = load_weights_from_dict(model, weights, strict=False)
    assert skipped == {
        "modules[0].weight": "missing, want float32[1,2]",
        "modules[1].extra": "unexpected, got float32[2]",
        "modules[2].bias": "got float32[9], want float32[3]",
    }
    assert loaded[0].weight is model[0].weight
    assert loaded[0].bias is weights["modules"][0]["bias"]
    assert loaded[2].bias is model[2].bias
    assert loaded[2].weight is weights["modules"][2]["weight"]


@pytest.mark.parametrize("function", [save_weights_to_dict, lambda net: load_weights_from_dict(net, {})])
def test_what_is_no_module_is_refused(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX module.\n  where: pax.experimental.*_dict, argument"):
        function({"weight": jnp.ones(1)})


# ---- the original's dictionaries -------------------------------------------------------------------------------------

F = np.float32
KEY = np.array([3, 4], np.uint32)


def n(*shape: int) -> Any:
    """Other numbers at each place."""
    return np.arange(1, 1 + np.prod(shape, dtype=int), dtype=F).reshape(shape) / 8


def fc(inputs: int, outputs: int) -> dict[str, Any]:
    return {"weight": n(inputs, outputs), "bias": n(outputs)}


def ema(*shape: int) -> dict[str, Any]:
    return {"averages": n(*shape), "debias": F(1)}


def norm(*shape: int) -> dict[str, Any]:
    return {"scale": n(*shape), "offset": n(*shape), "ema_mean": ema(*shape), "ema_var": ema(*shape)}


def attention(size: int) -> dict[str, Any]:
    return {f"{name}_projection": fc(size, size) for name in ("query", "key", "value", "output")}


def transformer_layer(dim: int) -> dict[str, Any]:
    return {
        "attention": attention(dim),
        "attn_layer_norm": {"scale": n(dim), "offset": n(dim)},
        "dense_block": {"fc1": fc(dim, 4 * dim), "fc2": fc(4 * dim, dim)},
        "dense_layer_norm": {"scale": n(dim), "offset": n(dim)},
    }


def resnet_block(inputs: int, channels: int, projects: bool) -> dict[str, Any]:
    def pair(size: int, channels_in: int) -> tuple[Any, Any]:
        return {"weight": n(size, size, channels_in, channels)}, norm(1, channels, 1, 1)

    block: dict[str, Any] = {"layers": (pair(3, inputs), pair(3, channels))}
    if projects:
        block["proj_conv"], block["proj_batchnorm"] = pair(1, inputs)
    return block


def resnet_18() -> dict[str, Any]:
    widths = (64, 64, 128, 256, 512)
    groups = [
        {"blocks": [resnet_block(before, width, before != width), resnet_block(width, width, False)]}
        for before, width in itertools.pairwise(widths)
    ]
    return {
        "initial_conv": {"weight": n(7, 7, 3, 64)},
        "initial_batchnorm": norm(1, 64, 1, 1),
        "block_groups": groups,
        "logits": fc(512, 10),
    }


ORIGINAL: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Linear": (lambda: pax.nn.Linear(2, 3), fc(2, 3)),
    "Linear without bias": (lambda: pax.nn.Linear(2, 3, with_bias=False), {"weight": n(2, 3)}),
    "Conv1D": (lambda: pax.nn.Conv1D(3, 5, 2), {"weight": n(2, 3, 5), "bias": n(5)}),
    "Conv1D without bias": (lambda: pax.nn.Conv1D(3, 5, 2, with_bias=False), {"weight": n(2, 3, 5)}),
    "Conv2D": (lambda: pax.nn.Conv2D(3, 5, [2, 4]), {"weight": n(2, 4, 3, 5), "bias": n(5)}),
    "Conv2D in groups": (
        lambda: pax.nn.Conv2D(4, 6, 3, feature_group_count=2, data_format="NCHW"),
        {"weight": n(3, 3, 2, 6), "bias": n(6)},
    ),
    "Conv1DTranspose": (lambda: pax.nn.Conv1DTranspose(3, 5, 2), {"weight": n(2, 5, 3), "bias": n(5)}),
    "Conv2DTranspose": (lambda: pax.nn.Conv2DTranspose(3, 5, 2), {"weight": n(2, 2, 5, 3), "bias": n(5)}),
    "BatchNorm1D": (lambda: pax.nn.BatchNorm1D(4), norm(1, 1, 4)),
    "BatchNorm2D": (lambda: pax.nn.BatchNorm2D(4), norm(1, 1, 1, 4)),
    "BatchNorm2D, channels first": (lambda: pax.nn.BatchNorm2D(4, data_format="NCHW"), norm(1, 4, 1, 1)),
    "BatchNorm1D without scale and offset": (
        lambda: pax.nn.BatchNorm1D(4, False, False),
        {"ema_mean": ema(1, 1, 4), "ema_var": ema(1, 1, 4)},
    ),
    "LayerNorm": (lambda: pax.nn.LayerNorm(4, -1, True, True), {"scale": n(4), "offset": n(4)}),
    "LayerNorm without offset": (lambda: pax.nn.LayerNorm(4, -1, True, False), {"scale": n(4)}),
    "GroupNorm": (lambda: pax.nn.GroupNorm(2, 4), {"scale": n(4), "offset": n(4)}),
    "GroupNorm without scale": (lambda: pax.nn.GroupNorm(2, 4, create_scale=False), {"offset": n(4)}),
    "Embed": (lambda: pax.nn.Embed(5, 3), {"weight": n(5, 3)}),
    "Dropout": (lambda: pax.nn.Dropout(0.5, rng_key=jax.random.PRNGKey(0)), {"rng_key": KEY}),
    "EMA": (lambda: pax.nn.EMA(jnp.zeros(3), 0.9), {"averages": n(3)}),
    "EMA with debias": (lambda: pax.nn.EMA(jnp.zeros(3), 0.9, debias=True), ema(3)),
    "EMA of a tree": (lambda: pax.nn.EMA({"a": [jnp.zeros(3)]}, 0.9, True), {**ema(), "averages": {"a": [n(3)]}}),
    "VanillaRNN": (lambda: pax.nn.VanillaRNN(2, 3), {"fc": fc(5, 3)}),
    "LSTM": (lambda: pax.nn.LSTM(2, 3), {"fc": fc(5, 12)}),
    "GRU": (lambda: pax.nn.GRU(2, 3), {"xh_zr_fc": fc(5, 6), "xh_h_fc": fc(5, 3)}),
    "MultiHeadAttention": (lambda: pax.nn.MultiHeadAttention(2, 4, 1.0), attention(8)),
    "RngSeq": (lambda: pax.RngSeq(seed=1), {"_rng_key": KEY}),
    "Sequential": (net, {"modules": (fc(1, 2), {}, fc(2, 3))}),
    "ResNet18": (lambda: pax.nets.ResNet18(3, 10), resnet_18()),
    "Transformer": (
        lambda: pax.nets.Transformer(8, 2, 2, 0.1),
        {
            "rng_seq": {"_rng_key": KEY},
            "layers": [transformer_layer(8), transformer_layer(8)],
            "layer_norm_output": {"scale": n(8), "offset": n(8)},
        },
    ),
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_a_dictionary_of_the_original_is_loaded(name: str) -> None:
    make, weights = ORIGINAL[name]
    loaded = load_weights_from_dict(jax.eval_shape(make), weights)
    saved = save_weights_to_dict(loaded)
    jax.tree.map(np.testing.assert_array_equal, saved, weights)
    assert jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype, saved, weights))


@pytest.mark.parametrize("axes", [1, 2])
def test_kd_48_the_unused_bias_of_the_original_is_left_out(axes: int) -> None:
    """KD-48: in the original a transposed convolution has a bias, zeros, also with `with_bias=False`."""
    layer = getattr(pax.nn, f"Conv{axes}DTranspose")(3, 5, 2, with_bias=False)
    model = pax.nn.Sequential(layer, pax.nn.Linear(5, 2))
    weights = save_weights_to_dict(model)
    weights["modules"][0]["bias"] = np.zeros(5, F)
    assert load_weights_from_dict(model, weights) == model
    assert load_weights_from_dict(model, weights, strict=False) == (model, {})
    weights["modules"][1]["other"] = np.zeros(5, F)
    with pytest.raises(StateDictError, match=r"modules\[1\].other"):
        load_weights_from_dict(model, weights)


def test_a_bias_is_unexpected_where_the_original_had_none() -> None:
    with pytest.raises(StateDictError, match="unexpected: bias"):
        load_weights_from_dict(pax.nn.Linear(2, 3, with_bias=False), fc(2, 3))


# ---- laws ------------------------------------------------------------------------------------------------------------

_few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def _changed(leaf: Any) -> Any:
    """Another array of the same kind."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.fold_in(leaf, 1)
    return leaf + np.ones((), leaf.dtype)


def _at(state: Any, path: tuple[Any, ...]) -> Any:
    """What a state dictionary has at the path of a module's array."""
    for key in path:
        match key:
            case GetAttrKey(name=name) | DictKey(key=name) | SequenceKey(idx=name):
                state = state[name]
    return state


def _text(path: tuple[Any, ...]) -> str:
    return keystr(path).removeprefix(".")


@_few
@given(module_recipes)
def test_saving_and_loading_is_the_identity(recipe: Recipe) -> None:
    module = jax.tree.map(_changed, recipe.build())
    weights = save_weights_to_dict(module)
    loaded = load_weights_from_dict(recipe.build(), weights)
    assert treedef(loaded) == treedef(module)
    for got, want in zip(jax.tree.leaves(loaded), jax.tree.leaves(module), strict=True):
        np.testing.assert_array_equal(raw(got), raw(want))
        assert got.dtype == want.dtype
    pax.assert_structure_equal(loaded, module)


@_few
@given(module_recipes, st.data())
def test_a_removed_an_added_and_a_reshaped_entry_are_reported_by_path(recipe: Recipe, data: st.DataObject) -> None:
    module = recipe.build()
    paths = [path for path, _ in tree_leaves_with_path(module)]
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    weights = save_weights_to_dict(module)
    holder = _at(weights, path[:-1])
    assume(isinstance(holder, dict))
    key = path[-1]
    name = key.name if isinstance(key, GetAttrKey) else key.key
    change = data.draw(st.sampled_from(["removed", "added", "reshaped"]))
    if change == "removed":
        del holder[name]
        where, why = _text(path), "missing"
    elif change == "added":
        holder["added"] = holder[name]
        where = _text((*path[:-1], type(key)("added")))
        why = "unexpected"
    else:
        holder[name] = np.zeros((7, 7), F)
        where, why = _text(path), "got numpy float32[7,7]"
    loaded, skipped = load_weights_from_dict(module, weights, strict=False)
    assert list(skipped) == [where], change
    assert skipped[where].startswith(why)
    assert treedef(loaded) == treedef(module)
    with pytest.raises(StateDictError) as caught:
        load_weights_from_dict(module, weights)
    assert where in str(caught.value.got)
