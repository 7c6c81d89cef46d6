"""`load_torch_weights` and `to_torch_weights`: the outputs of PyTorch's models, and their weights back bit for bit.

The first test is the worked example: a residual network with the names of torchvision's.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import StateDictError
from pax.experimental import load_torch_weights, to_torch_weights

torch: Any = pytest.importorskip("torch")

# Sums of some hundred products in float32, in another order, layer after layer.
TOLERANCES: Any = {"rtol": 1e-4, "atol": 1e-5}

RESNET = {
    "initial_conv": "conv1",
    "initial_batchnorm": "bn1",
    "block_groups/*/blocks/*/layers/*/0": "layer{0+1}.{1}.conv{2+1}",
    "block_groups/*/blocks/*/layers/*/1": "layer{0+1}.{1}.bn{2+1}",
    "block_groups/*/blocks/*/proj_conv": "layer{0+1}.{1}.downsample.0",
    "block_groups/*/blocks/*/proj_batchnorm": "layer{0+1}.{1}.downsample.1",
    "logits": "fc",
}


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def disturbed(model: Any) -> Any:
    """Returns a model of PyTorch in eval mode, with numbers other than zero and one everywhere."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, array in model.state_dict().items():
            if array.is_floating_point():
                array.copy_(0.2 * torch.randn_like(array))
                if name.endswith(("running_var", "norm.weight")):
                    array.copy_(1 + array.abs())
    return model.eval()


def weights_of(model: Any) -> dict[str, Any]:
    return {name: array for name, array in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def check(module: Any, model: Any, names: Any, *inputs: Any) -> Any:
    """Loads, compares the outputs, and brings the weights back into a model with other ones."""
    module = load_torch_weights(module.eval(), model.state_dict(), names)
    with torch.no_grad():
        want = model(*map(torch.tensor, inputs))
    want = want[0] if isinstance(want, tuple) else want
    np.testing.assert_allclose(jax.jit(lambda net, *x: net(*x))(module, *inputs), want, **TOLERANCES)

    back = {name: torch.from_numpy(array) for name, array in to_torch_weights(module, names).items()}
    before = {name: array.clone() for name, array in weights_of(model).items()}
    assert set(back) == set(before)
    for array in model.parameters():
        torch.nn.init.normal_(array)
    model.load_state_dict(back)
    for name, array in weights_of(model).items():
        assert torch.equal(array, before[name]), name
    return module


def test_resnet_18() -> None:
    from parity.torch_resnet import ResNet

    torch.manual_seed(0)
    model = ResNet((2, 2, 2, 2), False, 10)
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))  # running statistics of its own
    net = jax.eval_shape(lambda: pax.nets.ResNet18(3, 10))
    loaded = check(net, model.eval(), RESNET, normal(2, 3, 32, 32))
    # The function for torchvision's networks alone agrees in every bit.
    other = pax.nets.load_torchvision_weights(net.eval(), model.state_dict())
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_resnet_18_with_another_last_layer() -> None:
    from parity.torch_resnet import ResNet

    model = ResNet((2, 2, 2, 2), False, 10)
    net = pax.nets.ResNet18(3, 7)
    with pytest.raises(
        StateDictError, match=r"fc.weight: got float32\[10,512\], want float32\[7,512\] for `logits.weight`"
    ):
        load_torch_weights(net, model.state_dict(), RESNET)
    loaded, skipped = load_torch_weights(net, model.state_dict(), RESNET, strict=False)
    assert list(skipped) == ["fc.weight", "fc.bias"]
    assert loaded.logits.weight is net.logits.weight
    np.testing.assert_array_equal(loaded.initial_conv.weight.transpose(3, 2, 0, 1), model.conv1.weight.detach())


def test_a_multilayer_perceptron() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.PReLU(), torch.nn.Linear(8, 2))
    net = pax.nn.Sequential(pax.nn.Linear(3, 8), pax.nn.PReLU(), pax.nn.Linear(8, 2))
    check(net, disturbed(model), None, normal(4, 3))
    check(
        pax.nn.MLP((3, 8, 2)),
        disturbed(torch.nn.Sequential(*model[:1], torch.nn.ReLU(), model[2])),
        {
            "layers/0": "0",
            "layers/1": "2",
        },
        normal(4, 3),
    )


class Encoder(pax.Module):
    """A transformer with PyTorch's arrangement: normalisation after each part."""

    def __init__(self, dim: int, heads: int, layers: int, stacked: bool) -> None:
        super().__init__()
        self.embedding = pax.nn.Embed(11, dim)
        self.positions = pax.nn.LearnedPositions(9, dim)
        blocks = [EncoderBlock(dim, heads) for _ in range(layers)]
        self.blocks: Any = pax.nn.Stack.from_modules(blocks) if stacked else blocks
        self.final_norm = pax.nn.LayerNorm(dim, -1, True, True)

    def __call__(self, tokens: Any) -> Any:
        x = self.positions(self.embedding(tokens))
        if isinstance(self.blocks, pax.nn.Stack):
            return self.final_norm(self.blocks(x))
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x)


class EncoderBlock(pax.Module):
    """One layer of it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = pax.nn.MultiHeadAttention(heads, dim // heads, 1.0, dropout_rate=0.1)
        self.dense = pax.nn.MLP((dim, 2 * dim, dim), dropout_rate=0.1)
        self.norms = (pax.nn.LayerNorm(dim, -1, True, True), pax.nn.LayerNorm(dim, -1, True, True))

    def __call__(self, x: Any) -> Any:
        x = self.norms[0](x + self.attention(x, x, x))
        return self.norms[1](x + self.dense(x))


class TorchEncoder(torch.nn.Module):  # type: ignore[misc]
    """The same of PyTorch's parts."""

    def __init__(self, dim: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(11, dim)
        self.wpe = torch.nn.Embedding(9, dim)
        layer = torch.nn.TransformerEncoderLayer(dim, heads, 2 * dim, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, layers, torch.nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, tokens: Any) -> Any:
        return self.encoder(self.tokens(tokens) + self.wpe(torch.arange(tokens.shape[1])))


@pytest.mark.parametrize("stacked", [False, True])
def test_a_transformer(stacked: bool) -> None:
    names = {
        "embedding": "tokens",
        "positions": "wpe",
        "blocks/*/attention": "encoder.layers.{0}.self_attn",
        "blocks/*/dense/layers/*": "encoder.layers.{0}.linear{1+1}",
        "blocks/*/norms/*": "encoder.layers.{0}.norm{1+1}",
        "final_norm": "encoder.norm",
    }
    tokens = np.random.default_rng(0).integers(0, 11, (2, 7))
    check(Encoder(12, 3, 2, stacked), disturbed(TorchEncoder(12, 3, 2)), names, tokens)


class ImageModel(torch.nn.Module):  # type: ignore[misc]
    """Convolutions, transposed ones, and all normalisations."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.down = nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2)
        self.bn_norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False)
        self.group_norm = nn.GroupNorm(3, 12)
        self.up = nn.ConvTranspose2d(12, 5, (2, 3), 2)
        self.instance_norm = nn.InstanceNorm2d(5, affine=True)

    def forward(self, x: Any) -> Any:
        x = self.group_norm(self.depthwise(self.bn_norm(self.down(x))))
        return self.instance_norm(self.up(x))


def test_a_model_of_images() -> None:
    options: dict[str, Any] = {"data_format": "NCHW"}
    net = pax.nn.Sequential(
        pax.nn.Conv2D(4, 6, (3, 2), 2, padding=[(1, 1), (1, 1)], feature_group_count=2, **options),
        pax.nn.BatchNorm2D(6, **options),
        pax.nn.DepthwiseConv2D(6, 2, 3, with_bias=False, **options),
        pax.nn.GroupNorm(3, 12, data_format="channels_first"),
        pax.nn.Conv2DTranspose(12, 5, (2, 3), 2, [(1, 1), (2, 2)], **options),
        pax.nn.InstanceNorm(5, data_format="channels_first"),
    )
    parts = ("down", "bn_norm", "depthwise", "group_norm", "up", "instance_norm")
    names = {f"modules/{i}": name for i, name in enumerate(parts)}
    check(net, disturbed(ImageModel()), names, normal(2, 4, 6, 7))


@pytest.mark.parametrize("axes", [1, 3])
def test_convolutions_of_sequences_and_volumes(axes: int) -> None:
    nn = torch.nn
    model = nn.Sequential(
        getattr(nn, f"Conv{axes}d")(3, 4, 2),
        getattr(nn, f"BatchNorm{axes}d")(4),
        getattr(nn, f"ConvTranspose{axes}d")(4, 2, 3, bias=False),
    )
    data_format = {1: "NCW", 3: "NCDHW"}[axes]
    net = pax.nn.Sequential(
        getattr(pax.nn, f"Conv{axes}D")(3, 4, 2, padding="VALID", data_format=data_format),
        getattr(pax.nn, f"BatchNorm{axes}D")(4, data_format=data_format),
        getattr(pax.nn, f"Conv{axes}DTranspose")(
            4, 2, 3, padding=[(2, 2)] * axes, with_bias=False, data_format=data_format
        ),
    )
    check(net, disturbed(model), None, normal(2, 3, *(5, 4, 6)[:axes]))


def without_second_bias(model: Any) -> Any:
    """The sum of two biases is one here, so that only one of them comes back."""
    with torch.no_grad():
        for name, array in model.named_parameters():
            if "bias_hh" in name:
                array.zero_()
    return model


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_two_recurrent_layers_in_both_directions(kind: str) -> None:
    cell: Any = pax.nn.LSTM if kind == "LSTM" else pax.nn.VanillaRNN
    model = getattr(torch.nn, kind)(3, 4, 2, batch_first=True, bidirectional=True)
    net = pax.nn.Sequential(pax.nn.Bidirectional(cell(3, 4), cell(3, 4)), pax.nn.Bidirectional(cell(8, 4), cell(8, 4)))
    names = {"modules/*/forward/cell": "*_l{0}", "modules/*/backward/cell": "*_l{0}_reverse"}
    check(net, without_second_bias(disturbed(model)), names, normal(2, 5, 3))


def test_both_biases_of_a_recurrent_layer_count() -> None:
    model = disturbed(torch.nn.LSTM(3, 4, 2, batch_first=True))
    net = pax.nn.RNN(pax.nn.StackedCells(pax.nn.LSTM(3, 4), pax.nn.LSTM(4, 4)))
    net = load_torch_weights(net, model.state_dict(), {"cell/layers/*": "*_l{0}"})
    x = normal(2, 5, 3)
    np.testing.assert_allclose(net(jnp.asarray(x)), model(torch.tensor(x))[0].detach(), **TOLERANCES)


def test_tensors_that_need_gradients_and_of_bfloat16() -> None:
    model = torch.nn.Linear(2, 3).to(torch.bfloat16)
    layer = load_torch_weights(pax.nn.Linear(2, 3, param_dtype=jnp.bfloat16), dict(model.named_parameters()))
    back = {name: torch.from_numpy(array) for name, array in to_torch_weights(layer).items()}
    before = model.weight.clone()
    model.load_state_dict(back)
    assert torch.equal(model.weight, before)


def test_pytorch_may_change_its_weights_afterwards() -> None:
    model = torch.nn.Linear(16, 16)
    layer = load_torch_weights(pax.nn.Linear(16, 16), model.state_dict())
    before = np.array(layer.bias)
    with torch.no_grad():
        for array in model.parameters():
            array.add_(1)
    np.testing.assert_array_equal(layer.bias, before)


def test_tensors_that_are_no_arrays_are_named() -> None:
    weights = {"weight": torch.ones(3, 2).to_sparse(), "bias": torch.ones(3, device="meta"), "x": torch.ones(1)}
    with pytest.raises(StateDictError) as caught:
        load_torch_weights(pax.nn.Linear(2, 3), weights)
    assert str(caught.value.got).splitlines() == [
        "weight: got float32[3,2], a tensor that is no array, want float32[3,2] for `weight`",
        "bias: got float32[3], a tensor that is no array, want float32[3] for `bias`",
        "x: unexpected, got float32[1]",
    ]
