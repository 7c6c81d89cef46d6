"""Policies for parts of a model: by selector, and the usual one by `default_mp_policy`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import pytest

import pax
from helpers.treedefs import treedef
from pax.errors import ArgumentError, SelectorError
from pax.experimental import apply_mp_policy, default_mp_policy, unwrap_mp_policy
from pax.extend import modules_in

HALF = "p=f32,c=f16,o=f32"


class Block(pax.Module):
    """Two layers and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pax.Linear(2, 2)
        self.norm = pax.BatchNorm1D(2)
        self.scales = [jnp.ones((1, 1, 2))]

    def __call__(self, x: jax.Array) -> jax.Array:
        y: jax.Array = self.norm(self.first(x)) * self.scales[0]
        return y


class Net(pax.Module):
    """Blocks in a list, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(), Block()]
        self.act = pax.Lambda(jax.nn.relu)
        self.head = pax.Linear(2, 1)
        self.steps = jnp.array(0)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = self.act(block(x))
        y: jax.Array = self.head(x)
        return y


def _with_policy(net: Any) -> list[str]:
    """Returns the modules with a policy: first letters of the classes of all modules, in capitals for those."""
    return [
        type(node).__name__[0].upper() if hasattr(node, "mp_policy") else type(node).__name__[0].lower()
        for node in modules_in(net)
    ]


@pytest.mark.parametrize(
    ("where", "want"),
    [
        (pax.Linear, "nbLbeebLbeelL"),
        (Block, "nBLBeeBLBeell"),
        ("blocks/0/**", "nBLBeeblbeell"),
        ("blocks[1].norm", "nblbeeblBeell"),
        ("blocks/*/scales", "nBlbeeBlbeell"),
        ("**/weight", "nbLbeebLbeelL"),
        ("head", "nblbeeblbeelL"),
        (lambda leaf: leaf.ndim == 2, "nbLbeebLbeelL"),
        (lambda path, leaf: "bias" in jax.tree_util.keystr(path), "nbLbeebLbeelL"),
        (True, "nBLBeeBLBeelL"),
    ],
)
def test_every_module_with_a_selected_array_of_its_own_gets_the_policy(where: Any, want: str) -> None:
    net = Net()
    assert "".join(_with_policy(apply_mp_policy(net, HALF, where))) == want
    assert "".join(_with_policy(net)) == "nblbeeblbeell"


def test_a_model_with_parts_in_half_precision_computes() -> None:
    net = apply_mp_policy(Net(), HALF, where=pax.Linear)
    new, y = pax.purecall(net, jnp.ones((4, 5, 2)))
    assert y.dtype == jnp.float32
    assert treedef(new) == treedef(net)


def test_a_tree_of_bools_selects() -> None:
    net = pax.Sequential(pax.Linear(1, 1), pax.Linear(1, 1))
    mask = jax.tree.map_with_path(lambda path, _: "[1]" in jax.tree_util.keystr(path), net)
    assert "".join(_with_policy(apply_mp_policy(net, HALF, mask))) == "slL"


def test_the_root_can_be_chosen() -> None:
    linear = apply_mp_policy(pax.Linear(1, 1), HALF, where="weight")
    assert treedef(linear) == treedef(apply_mp_policy(pax.Linear(1, 1), HALF))


def test_parts_can_have_different_policies() -> None:
    net = apply_mp_policy(Net(), HALF, where="head")
    net = apply_mp_policy(net, "p=f16,c=f16", where="blocks/*/first")
    assert repr(net.head).endswith("mp_policy=FHF)")
    assert repr(net.blocks[0].first).endswith("mp_policy=HHH)")


def test_a_part_with_a_policy_already_is_named() -> None:
    net = apply_mp_policy(Net(), HALF, where="blocks/1/first")
    with pytest.raises(ArgumentError, match="Cannot apply multiple mixed-precision policies") as caught:
        apply_mp_policy(net, HALF, where="**")
    assert "where: blocks[1].first (Linear)" in str(caught.value)


def test_a_selector_of_nothing_is_an_error_that_lists_the_leaves() -> None:
    with pytest.raises(SelectorError, match="The selector selects nothing") as caught:
        apply_mp_policy(Net(), HALF, where="heads/**")
    assert "head/weight: float32[2,1]" in str(caught.value)


@pytest.mark.parametrize("where", [pax.EMA, "steps", "**/ema_mean"])
def test_a_selector_of_states_and_integers_alone_is_an_error(where: Any) -> None:
    with pytest.raises(SelectorError, match="selects no module that can have a mixed-precision policy"):
        apply_mp_policy(Net(), HALF, where=where)


def test_averages_of_a_batch_norm_keep_their_precision() -> None:
    net = apply_mp_policy(Net(), "f16", where="**")
    norm = pax.purecall(net, jnp.ones((4, 5, 2)))[0].blocks[0].norm
    assert jax.tree.leaves(norm.scale)[0].dtype == jnp.float16
    assert {leaf.dtype for leaf in jax.tree.leaves((norm.ema_mean, norm.ema_var)) if leaf.ndim} == {
        jnp.dtype("float32")
    }


def test_all_policies_can_be_taken_away() -> None:
    net = Net()
    half = apply_mp_policy(net, HALF, where="**")
    assert half.apply(lambda m: unwrap_mp_policy(m) if hasattr(m, "mp_policy") else m) == net


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pax.Linear(3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv1D(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv2D(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv3D(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv1DTranspose(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv2DTranspose(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.Conv3DTranspose(3, 3, 3), "mp_policy=FHF"),
        (lambda: pax.nn.Einsum("ab,bc->ac", (2, 2)), "mp_policy=FHF"),
        (lambda: pax.BatchNorm1D(3), "mp_policy=FFF"),
        (lambda: pax.BatchNorm2D(3), "mp_policy=FFF"),
        (lambda: pax.BatchNorm3D(3), "mp_policy=FFF"),
        (lambda: pax.GroupNorm(1, 3, -1), "mp_policy=FFF"),
        (lambda: pax.LayerNorm(3, -1, True, True), "mp_policy=FFF"),
        (lambda: pax.InstanceNorm(3), "mp_policy=FFF"),
        (lambda: pax.RMSNorm(3), "mp_policy=FFF"),
    ],
)
def test_the_usual_policy(make: Callable[[], Any], text: str) -> None:
    module: Any = default_mp_policy(make())
    assert text in repr(module)
    assert module.mp_policy.compute_dtype == (jmp.half_dtype() if "H" in text else jnp.float32)
    with pytest.raises(ArgumentError, match="Cannot apply multiple"):
        default_mp_policy(module)


def test_other_modules_stay_the_very_objects() -> None:
    for module in (pax.Sequential(jax.nn.relu), pax.Dropout(0.5), pax.Lambda(jax.nn.relu), pax.Embed(2, 3)):
        assert default_mp_policy(module) is module


def test_the_documented_summary() -> None:
    net = pax.Sequential(pax.Linear(3, 3), pax.BatchNorm1D(3)).apply(default_mp_policy)
    assert net.summary(return_list=True)[1:] == [
        "├── Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)",
        "└── BatchNorm1D(num_channels=3, create_scale=True, create_offset=True, data_format=NWC, decay_rate=0.9, "
        "mp_policy=FFF)",
    ]


def test_a_model_with_the_usual_policies_is_close_to_full_precision() -> None:
    net = Net()
    x = jnp.linspace(-1.0, 1.0, 8).reshape(2, 2, 2)
    half = net.apply(default_mp_policy)
    np.testing.assert_allclose(pax.purecall(half, x)[1], pax.purecall(net, x)[1], atol=2e-2)


def test_a_second_policy_by_apply_is_an_error_with_the_path_and_the_way_out() -> None:
    net = pax.Sequential(pax.Linear(3, 3), pax.Linear(3, 3)).apply(pax.experimental.default_mp_policy)
    with pytest.raises(ArgumentError, match="Cannot apply multiple mixed-precision policies") as caught:
        net.apply(pax.experimental.default_mp_policy)
    assert "where: modules[0] (Linear)" in str(caught.value)
    assert 'module.apply(lambda m: pax.unwrap_mp_policy(m) if hasattr(m, "mp_policy") else m)' in str(caught.value)


def test_a_text_that_is_no_policy_is_an_error_with_an_example() -> None:
    with pytest.raises(ArgumentError, match=r'fix:   mp_policy = "p=f32,c=f16,o=f32"'):
        apply_mp_policy(pax.Linear(2, 2), "half please")


@pytest.mark.parametrize("where", [None, pax.Linear])
def test_shapes_in_the_place_of_arrays_get_the_dtype_of_parameters(where: Any) -> None:
    policy = "p=f16,c=f16,o=f32"
    abstract: Any = apply_mp_policy(jax.eval_shape(lambda: pax.Linear(2, 3)), policy, where)
    expected = jax.eval_shape(lambda: apply_mp_policy(pax.Linear(2, 3), policy))
    assert treedef(abstract) == treedef(expected)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(abstract)] == [
        ((2, 3), np.float16),
        ((3,), np.float16),
    ]
    steps: Any = apply_mp_policy(jax.eval_shape(Net), policy).steps
    assert steps.dtype == np.int32
