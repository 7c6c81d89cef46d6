"""pax.nets.load_torchvision_weights; tests/parity compares the networks with one of PyTorch."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentTypeError, StateDictError


class OfTwoBlocks(pax.nets.ResNet18):
    _blocks_per_group: ClassVar[tuple[int, ...]] = (1, 1)


def network() -> Any:
    return jax.eval_shape(lambda: OfTwoBlocks(3, 5))


_NORMS = {"bn1": 64, "layer1.0.bn1": 64, "layer1.0.bn2": 64, "layer2.0.bn1": 128, "layer2.0.bn2": 128}
_SHAPES = {
    "conv1.weight": (64, 3, 7, 7),
    "layer1.0.conv1.weight": (64, 64, 3, 3),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer2.0.conv1.weight": (128, 64, 3, 3),
    "layer2.0.conv2.weight": (128, 128, 3, 3),
    "layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "fc.weight": (5, 128),
    "fc.bias": (5,),
} | {
    f"{norm}.{part}": (size,)
    for norm, size in (_NORMS | {"layer2.0.downsample.1": 128}).items()
    for part in ("weight", "bias", "running_mean", "running_var")
}


def state_dict() -> dict[str, Any]:
    """What torchvision's network would have, with other numbers at each place."""
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(size=shape).astype("float32") for name, shape in _SHAPES.items()}
    return arrays | {f"{norm}.num_batches_tracked": np.array(7) for norm in _NORMS}


def test_every_array_is_at_its_place() -> None:
    source = state_dict()
    net = pax.nets.load_torchvision_weights(network(), source)
    block = net.block_groups[1].blocks[0]
    conv, norm = block.layers[1]
    np.testing.assert_array_equal(net.initial_conv.weight[2, 5, 1], source["conv1.weight"][:, 1, 2, 5])
    np.testing.assert_array_equal(conv.weight[0, 2, 3], source["layer2.0.conv2.weight"][:, 3, 0, 2])
    np.testing.assert_array_equal(block.proj_conv.weight[0, 0].T, source["layer2.0.downsample.0.weight"][..., 0, 0])
    for layer, name in ((norm, "layer2.0.bn2"), (block.proj_batchnorm, "layer2.0.downsample.1")):
        got = (layer.scale, layer.offset, layer.ema_mean.averages, layer.ema_var.averages)
        for array, part in zip(got, ("weight", "bias", "running_mean", "running_var"), strict=True):
            np.testing.assert_array_equal(array[0, :, 0, 0], source[f"{name}.{part}"])
    np.testing.assert_array_equal(net.logits.weight, source["fc.weight"].T)
    np.testing.assert_array_equal(net.logits.bias, source["fc.bias"])


def test_each_array_is_used_once() -> None:
    source = {name: np.full_like(array, index) for index, (name, array) in enumerate(state_dict().items())}
    net = pax.nets.load_torchvision_weights(network(), source)
    paths = jax.tree_util.tree_leaves_with_path(net)
    numbers = [float(leaf.ravel()[0]) for path, leaf in paths if "debias" not in jax.tree_util.keystr(path)]
    assert sorted(numbers) == list(range(len(_SHAPES)))


def test_the_first_step_of_training_goes_on_from_the_loaded_statistics() -> None:
    source = state_dict() | {"bn1.running_mean": np.full(64, 1000.0, "float32")}
    net = pax.nets.load_torchvision_weights(network(), source)
    assert {float(norm.debias) for norm in (net.initial_batchnorm.ema_mean, net.initial_batchnorm.ema_var)} == {1.0}
    updated, _ = pax.purecall(net.initial_batchnorm, jnp.zeros((2, 64, 1, 1)))
    np.testing.assert_allclose(updated.ema_mean.averages[0, :, 0, 0], np.full(64, 900.0), rtol=1e-6)


def test_mode_and_dtypes_stay_those_of_the_network() -> None:
    half = jax.eval_shape(lambda: OfTwoBlocks(3, 5, param_dtype=jnp.float16).eval())
    net = pax.nets.load_torchvision_weights(half, state_dict())
    assert not net.training
    assert not net.block_groups[0].training
    assert [leaf.dtype for leaf in jax.tree.leaves(net)] == [leaf.dtype for leaf in jax.tree.leaves(half)]
    assert net.initial_conv.weight.dtype == jnp.float16


def test_the_given_network_stays_as_it_is() -> None:
    net = OfTwoBlocks(3, 5, rng_key=jax.random.key(0))
    before = jax.tree.leaves(net)
    loaded = pax.nets.load_torchvision_weights(net, state_dict())
    assert type(loaded) is OfTwoBlocks
    assert all(a is b for a, b in zip(jax.tree.leaves(net), before, strict=True))
    structures: list[Any] = [jax.tree.structure(tree) for tree in (loaded, net)]
    assert structures[0] == structures[1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"conv1.weight": None}, "conv1.weight is missing"),
        ({"layer3.0.conv1.weight": np.zeros(1)}, "layer3.0.conv1.weight has no place in the network"),
        ({"fc.weight": np.zeros((7, 128))}, "fc.weight has shape (128, 7) after transposition, not (128, 5)"),
        ({"bn1.bias": np.zeros(32)}, "bn1.bias has shape (1, 32, 1, 1) after transposition, not (1, 64, 1, 1)"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], problem: str) -> None:
    source = {name: array for name, array in (state_dict() | change).items() if array is not None}
    with pytest.raises(StateDictError, match="The state dictionary does not fit the network") as caught:
        pax.nets.load_torchvision_weights(network(), source)
    assert caught.value.got == problem
    assert str(caught.value.place).endswith("OfTwoBlocks")


def test_ten_problems_are_shown() -> None:
    with pytest.raises(StateDictError) as caught:
        pax.nets.load_torchvision_weights(network(), {})
    lines = str(caught.value.got).splitlines()
    assert (len(lines), lines[-1]) == (11, f"… {len(_SHAPES) - 10} more")


def test_another_module_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a residual network") as caught:
        pax.nets.load_torchvision_weights(pax.nn.Linear(1, 2), {})  # type: ignore[type-var]
    assert caught.value.where == "load_torchvision_weights"
    assert "ResNet18" in str(caught.value.want)


def test_what_is_no_dictionary_is_refused() -> None:
    net = jax.eval_shape(lambda: pax.nets.ResNet18(3, 2))
    with pytest.raises(ArgumentTypeError, match=r"Expecting a dictionary for `state_dict`.\n  where: load_torchvision"):
        pax.nets.load_torchvision_weights(net, None)  # type: ignore[arg-type]
