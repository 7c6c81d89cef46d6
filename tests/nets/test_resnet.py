"""pax.nets.ResNet18 to ResNet200."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

_DEPTHS = (18, 34, 50, 101, 152, 200)


class OfTwoBlocks(pax.nets.ResNet18):
    """The smallest network with all parts of the basic kind."""

    _blocks_per_group: ClassVar[tuple[int, ...]] = (1, 1)


class OfTwoBottlenecks(pax.nets.ResNet50):
    """The smallest network with all parts of the other kind."""

    _blocks_per_group: ClassVar[tuple[int, ...]] = (1, 1)


def abstract(depth: int, *arguments: Any, **options: Any) -> Any:
    """A network without numbers: its structure costs nothing."""
    return jax.eval_shape(lambda: getattr(pax.nets, f"ResNet{depth}")(*(arguments or (3, 1000)), **options))


def size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def images(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808), (200, 64_673_832)],
)
def test_kd_56_networks_have_the_standard_number_of_parameters(depth: int, parameters: int) -> None:
    assert size(abstract(depth).parameters()) == parameters


def test_kd_56_a_bottleneck_is_narrow_in_the_middle() -> None:
    layers = abstract(50).block_groups[1].blocks[0].layers
    shapes = [(conv.weight.shape, conv.stride) for conv, _ in layers]
    assert shapes == [((1, 1, 256, 128), (1, 1)), ((3, 3, 128, 128), (2, 2)), ((1, 1, 128, 512), (1, 1))]


def test_kd_56_blocks_after_the_first_are_narrow_too() -> None:
    shapes = [conv.weight.shape for conv, _ in abstract(50).block_groups[3].blocks[2].layers]
    assert shapes == [(1, 1, 2048, 512), (3, 3, 512, 512), (1, 1, 512, 2048)]


@pytest.mark.parametrize("depth", _DEPTHS)
def test_the_depth_is_the_number_of_layers_with_weights(depth: int) -> None:
    net = abstract(depth)
    in_blocks = [len(block.layers) for group in net.block_groups for block in group.blocks]
    assert 2 + sum(in_blocks) == depth
    widths = (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)
    last = [group.blocks[-1].layers[-1][0].out_features for group in net.block_groups]
    assert tuple(last) == widths


@pytest.mark.parametrize("depth", _DEPTHS)
def test_projections_are_where_the_shape_changes(depth: int) -> None:
    groups = abstract(depth).block_groups
    firsts = [group.blocks[0].use_projection for group in groups]
    assert firsts == [depth >= 50, True, True, True]
    assert not any(block.use_projection for group in groups for block in group.blocks[1:])
    assert not hasattr(groups[0].blocks[1], "proj_conv")


def test_strides_are_those_of_the_first_block_of_a_group() -> None:
    groups = abstract(18).block_groups
    assert [group.blocks[0].layers[0][0].stride for group in groups] == [(1, 1), (2, 2), (2, 2), (2, 2)]
    assert [group.blocks[0].proj_conv.stride for group in groups[1:]] == [(2, 2)] * 3
    assert {block.layers[0][0].stride for group in groups for block in group.blocks[1:]} == {(1, 1)}


def test_convolutions_have_no_bias_and_pad_alike_on_both_sides() -> None:
    net = abstract(50)
    block = net.block_groups[0].blocks[0]
    convs = [net.initial_conv, block.proj_conv, *(conv for conv, _ in block.layers)]
    assert {conv.bias for conv in convs} == {None}
    assert {conv.data_format for conv in convs} == {"NCHW"}
    assert [conv.padding[0] for conv in convs] == [(3, 3), (0, 0), (0, 0), (1, 1), (0, 0)]
    assert all(conv.padding[0] == conv.padding[1] for conv in convs)


def test_only_resnet18_has_a_name() -> None:
    texts = [repr(abstract(depth)) for depth in _DEPTHS]
    assert texts == ["(ResNet18) ResNet18", *(f"ResNet{depth}" for depth in _DEPTHS[1:])]


def test_the_summary_lists_every_layer() -> None:
    lines = abstract(50, 3, 10).summary().splitlines()
    assert lines[0] == "ResNet50"
    assert lines[1].startswith("├── (conv1) Conv2D(in_features=3, out_features=64, kernel_shape=(7, 7)")
    assert lines[2].startswith("├── (bn1) BatchNorm2D(num_channels=64")
    assert lines[3:5] == ["├── BlockGroup", "│   ├── ResnetBlock"]
    names = [line.split("(")[1].split(")")[0] for line in lines[5:13]]
    assert names == ["proj_conv", "proj_bn", "conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]
    assert lines[-1] == "└── (fc) Linear(in_dim=2048, out_dim=10, with_bias=True)"


def test_leaves_come_in_the_order_of_the_forward_pass() -> None:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(abstract(18).parameters())]
    assert paths[:3] == [".initial_conv.weight", ".initial_batchnorm.scale", ".initial_batchnorm.offset"]
    block = [path for path in paths if path.startswith(".block_groups[1].blocks[0]")]
    assert [path.removeprefix(".block_groups[1].blocks[0]") for path in block] == [
        ".proj_conv.weight",
        ".proj_batchnorm.scale",
        ".proj_batchnorm.offset",
        ".layers[0][0].weight",
        ".layers[0][1].scale",
        ".layers[0][1].offset",
        ".layers[1][0].weight",
        ".layers[1][1].scale",
        ".layers[1][1].offset",
    ]
    assert paths[-2:] == [".logits.weight", ".logits.bias"]


# ---- first weights ---------------------------------------------------------------------------------------------------


def convolutions(net: Any) -> list[Any]:
    found = [net.initial_conv]
    for group in net.block_groups:
        for block in group.blocks:
            found += [block.proj_conv] if block.use_projection else []
            found += [conv for conv, _ in block.layers]
    return found


def test_each_layer_takes_the_next_key_of_the_global_generator() -> None:
    pax.seed_rng_key(42)
    net = OfTwoBlocks(3, 2)
    pax.seed_rng_key(42)
    for conv in convolutions(net):
        alone = pax.nn.Conv2D(conv.in_features, conv.out_features, conv.kernel_shape, with_bias=False)
        np.testing.assert_array_equal(conv.weight, alone.weight)
    np.testing.assert_array_equal(net.logits.bias, pax.nn.Linear(128, 2).bias)


def test_a_network_with_a_key_draws_nothing_from_the_global_generator() -> None:
    pax.seed_rng_key(1)
    net = OfTwoBottlenecks(3, 2, rng_key=jax.random.key(5))
    drawn = pax.next_rng_key()
    pax.seed_rng_key(1)
    np.testing.assert_array_equal(drawn, pax.next_rng_key())
    again = OfTwoBottlenecks(3, 2, rng_key=jax.random.PRNGKey(5))
    for a, b in zip(jax.tree.leaves(net), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    first, second = (block.layers[1][0].weight for block in (group.blocks[0] for group in net.block_groups))
    assert not np.array_equal(first[..., :64], second[..., :64, :64])


def test_a_new_network_gives_the_bias_of_the_last_layer() -> None:
    net = OfTwoBlocks(3, 5)
    np.testing.assert_array_equal(net.logits.weight, np.zeros((128, 5)))
    assert np.abs(net.logits.bias).min() > 0
    logits = net.eval()(images(2, 3, 9, 8))
    np.testing.assert_array_equal(logits, np.tile(net.logits.bias, (2, 1)))


# ---- forward ---------------------------------------------------------------------------------------------------------


def reference(net: Any, x: Any) -> Any:
    """The network in eval mode, in float64, from the definition of each layer."""

    def conv(layer: Any, x: Any) -> Any:
        (pad, _), (stride, _) = layer.padding[0], layer.stride
        x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        w = np.asarray(layer.weight, "float64")
        views = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ijco->nohw", views, w)

    def norm(layer: Any, x: Any) -> Any:
        mean, variance = (np.asarray(ema.averages, "float64") for ema in (layer.ema_mean, layer.ema_var))
        return (x - mean) / np.sqrt(variance + layer.eps) * np.asarray(layer.scale) + np.asarray(layer.offset)

    def relu(x: Any) -> Any:
        return np.maximum(x, 0)

    x = relu(norm(net.initial_batchnorm, conv(net.initial_conv, x)))
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((-2, -1))
    for group in net.block_groups:
        for block in group.blocks:
            shortcut = norm(block.proj_batchnorm, conv(block.proj_conv, x)) if block.use_projection else x
            for index, (layer, batch_norm) in enumerate(block.layers):
                x = norm(batch_norm, conv(layer, x if index == 0 else relu(x)))
            x = relu(x + shortcut)
    return x.mean((2, 3)) @ np.asarray(net.logits.weight, "float64") + np.asarray(net.logits.bias, "float64")


@pytest.mark.parametrize("kind", [OfTwoBlocks, OfTwoBottlenecks])
def test_the_forward_pass_is_that_of_the_definition(kind: type[Any]) -> None:
    with x64():
        net = kind(3, 5, {"w_init": jax.nn.initializers.normal(1.0)}, rng_key=jax.random.key(1)).eval()
        paths, structure = jax.tree_util.tree_flatten_with_path(net)
        # Statistics and scales other than 0 and 1.
        moved = [
            leaf
            if "debias" in jax.tree_util.keystr(path)
            else leaf * 1.25 + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)
            for path, leaf in paths
        ]
        net = jax.tree.unflatten(structure, moved)
        x = images(2, 3, 21, 18)
        np.testing.assert_allclose(jax.jit(net)(x), reference(net, np.asarray(x)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", _DEPTHS)
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 224, 224), (3, 3, 1, 5)])
def test_logits_have_one_row_per_image(depth: int, shape: tuple[int, ...]) -> None:
    net = abstract(depth)
    assert jax.eval_shape(lambda net, x: net.eval()(x), net, jnp.zeros(shape)).shape == (shape[0], 1000)


def test_groups_but_the_first_halve_height_and_width() -> None:
    net, x = abstract(50), jnp.zeros((1, 64, 56, 56))
    shapes = []
    for group in net.block_groups:
        x = jax.eval_shape(lambda group, x: group.eval()(x), group, x)
        shapes.append(x.shape[1:])
    assert shapes == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


def test_training_updates_every_statistic() -> None:
    net = OfTwoBottlenecks(3, 2, rng_key=jax.random.key(0))
    updated, _ = jax.jit(pax.purecall)(net, images(4, 3, 16, 16))
    before = dict(jax.tree_util.tree_leaves_with_path(net))
    for path, leaf in jax.tree_util.tree_leaves_with_path(updated):
        is_state = "ema_" in jax.tree_util.keystr(path)
        assert np.array_equal(leaf, before[path]) != is_state, jax.tree_util.keystr(path)


def test_a_call_in_train_mode_is_pure() -> None:
    with pytest.raises(MutationError):
        OfTwoBlocks(3, 2)(images(2, 3, 8, 8))


def test_a_step_of_gradient_descent_lowers_the_loss() -> None:
    net = OfTwoBlocks(3, 2, rng_key=jax.random.key(0))
    x, labels = images(8, 3, 16, 16), jnp.arange(8) % 2

    @jax.jit
    def step(net: Any) -> Any:
        def loss(net: Any) -> Any:
            net, logits = pax.purecall(net, x)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
            return -picked.mean(), net

        (value, net), gradients = pax.value_and_grad(loss, has_aux=True)(net)
        return value, net.update_parameters(net.parameters().map(lambda p, g: p - 0.1 * g, gradients))

    losses = []
    for _ in range(8):
        value, net = step(net)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


def test_a_network_made_again_is_not_traced_again() -> None:
    call = TraceCounter(lambda net, x: net.eval()(x))
    x = images(1, 3, 8, 8)
    for seed in (0, 1):
        call(OfTwoBlocks(3, 2, {"w_init": jax.nn.initializers.normal()}, rng_key=jax.random.key(seed)), x)
    assert call.traces == 1


def test_pixels_may_be_integers() -> None:
    net = OfTwoBlocks(3, 2, rng_key=jax.random.key(0)).eval()
    pixels = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)
    assert net(pixels).dtype == jnp.float32


# ---- dtypes and devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 50])
def test_the_dtypes_of_computation_and_of_weights_are_passed_on(depth: int) -> None:
    net = abstract(depth, dtype=jnp.bfloat16, param_dtype=jnp.float16)
    assert {leaf.dtype for leaf in jax.tree.leaves(net.parameters())} == {jnp.dtype(jnp.float16)}
    averages = net.block_groups[1].blocks[0].proj_batchnorm.ema_mean.averages
    assert averages.dtype == jnp.float32
    call = jax.make_jaxpr(lambda net, x: net.eval()(x))(net, jnp.zeros((1, 3, 32, 32)))
    convolutions: list[Any] = [eqn.outvars[0].aval for eqn in call.eqns if eqn.primitive.name == "conv_general_dilated"]
    assert {aval.dtype for aval in call.out_avals} == {jnp.dtype(jnp.bfloat16)}
    assert all(aval.dtype == jnp.bfloat16 for aval in convolutions)


def test_statistics_are_those_of_the_whole_batch_along_a_named_axis() -> None:
    whole = OfTwoBlocks(3, 2, {"w_init": jax.nn.initializers.normal()}, rng_key=jax.random.key(0))
    parts = OfTwoBlocks(3, 2, {"w_init": jax.nn.initializers.normal()}, rng_key=jax.random.key(0), axis_name="devices")
    x = images(8, 3, 16, 16)
    _, want = jax.jit(pax.purecall)(whole, x)
    call = jax.vmap(lambda x: pax.purecall(parts, x)[1], axis_name="devices")
    np.testing.assert_allclose(jax.jit(call)(x.reshape(2, 4, 3, 16, 16)).reshape(8, 2), want, rtol=2e-4, atol=2e-4)


# ---- configurations --------------------------------------------------------------------------------------------------


def test_the_configurations_override_the_defaults_of_their_layers() -> None:
    net = abstract(
        18,
        1,
        10,
        logits_config={"with_bias": False},
        initial_conv_config={"kernel_shape": 3, "stride": 1, "padding": "SAME", "with_bias": True},
    )
    conv = net.initial_conv
    assert (conv.kernel_shape, conv.stride, conv.padding, conv.with_bias) == ((3, 3), (1, 1), "SAME", True)
    assert (conv.in_features, conv.out_features, conv.name) == (1, 64, "conv1")
    assert (net.logits.with_bias, net.logits.out_dim, net.logits.name) == (False, 10, "fc")


def test_another_width_of_the_first_convolution_is_projected() -> None:
    net = abstract(18, 3, 10, initial_conv_config={"out_features": 32})
    assert net.initial_batchnorm.num_channels == 32
    assert net.block_groups[0].blocks[0].use_projection
    assert jax.eval_shape(lambda net, x: net.eval()(x), net, jnp.zeros((2, 3, 32, 32))).shape == (2, 10)


def test_configurations_are_not_changed() -> None:
    configs: dict[str, Any] = {"logits_config": {"with_bias": False}, "initial_conv_config": {"stride": 1}}
    abstract(18, 3, 10, **configs)
    assert configs == {"logits_config": {"with_bias": False}, "initial_conv_config": {"stride": 1}}


@pytest.mark.parametrize("what", ["logits_config", "initial_conv_config"])
@pytest.mark.parametrize("key", ["name", "kernel", "in_dim", "data_format"])
def test_arguments_that_cannot_be_set_are_named(what: str, key: str) -> None:
    options: dict[str, Any] = {what: {key: 1, "with_bias": True}}
    with pytest.raises(ArgumentError, match=f"`{what}` has arguments that cannot be set there") as caught:
        pax.nets.ResNet18(3, 10, **options)
    assert (caught.value.got, caught.value.where) == (repr(key), "ResNet18")
    assert "with_bias" in str(caught.value.want)


def test_a_configuration_is_a_dictionary() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a dictionary for `logits_config`") as caught:
        pax.nets.ResNet34(3, 10, [("with_bias", False)])  # type: ignore[arg-type]
    assert caught.value.fix == 'logits_config={"with_bias": True}'


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((0, 10), "Expecting positive values for `input_channels`"), ((3, 0), "Expecting positive values for `num_cl")],
)
def test_numbers_smaller_than_one_are_refused(arguments: tuple[int, int], text: str) -> None:
    with pytest.raises(ArgumentError, match=text) as caught:
        pax.nets.ResNet50(*arguments)
    assert caught.value.where == "ResNet50"


def test_a_wrong_key_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PRNG key for `rng_key`") as caught:
        pax.nets.ResNet18(3, 10, rng_key=42)  # type: ignore[arg-type]
    assert caught.value.where == "ResNet18"


@pytest.mark.parametrize(
    ("shape", "headline", "fix"),
    [
        ((2, 32, 32, 3), "Expecting 3 input channels. Get 32 channels.", "jnp.moveaxis(x, -1, 1)"),
        ((2, 4, 32, 32), "Expecting 3 input channels. Get 4 channels.", "ResNet18(4, ...)"),
        ((3, 32, 32), "Expecting an input with 4 axes. Get 3 axes.", "x[None]   # a batch of one"),
        ((32, 32), "Expecting an input with 4 axes. Get 2 axes.", None),
    ],
)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], headline: str, fix: str | None) -> None:
    net = abstract(18)
    with pytest.raises(ArgumentError) as caught:
        jax.eval_shape(lambda net, x: net.eval()(x), net, jnp.zeros(shape))
    error = caught.value
    assert str(error).splitlines()[0] == headline
    assert error.place == "(ResNet18) ResNet18"
    assert (error.want, error.got) == ("float[*,3,*,*], the axes NCHW", f"float32[{','.join(map(str, shape))}]")
    assert error.fix is fix or str(error.fix).startswith(str(fix))
