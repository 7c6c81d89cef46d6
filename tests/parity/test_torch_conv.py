"""Convolutions and pooling give PyTorch's numbers for the same weights, forward and backward."""

from typing import Any

import jax
import numpy as np
import pytest

import pax

torch: Any = pytest.importorskip("torch")

# Sums of some hundred products of standard normal numbers, in float32.
RTOL, ATOL = 1e-5, 1e-5
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
SIZES = (6, 5, 4)


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.asarray(jax.random.normal(jax.random.key(seed), shape))


def to_torch_layout(weight: Any, *, flip: bool = False) -> Any:
    """``[*kernel, a, b]`` as ``[b, a, *kernel]``."""
    axes = tuple(range(weight.ndim - 2))
    weight = weight.flip(axes) if flip else weight
    return weight.permute(-1, -2, *axes)


def compare(ours: Any, theirs: Any, *arguments: np.ndarray) -> None:
    """Compares values, and the gradients of all arguments along a direction drawn once."""
    tensors = [torch.tensor(np.array(argument), requires_grad=True) for argument in arguments]
    want = theirs(*tensors)
    direction = draw(9, *want.shape)
    want.backward(torch.tensor(direction))

    @jax.jit
    def run(arguments: Any) -> Any:
        got, pull = jax.vjp(ours, *arguments)
        return got, pull(direction)

    got, gradients = run(arguments)
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=RTOL, atol=ATOL)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=RTOL, atol=10 * ATOL)


def call(layer: Any) -> Any:
    """The layer as a function of input, weight and bias."""
    return lambda x, weight, bias: layer.load_state_dict({"weight": weight, "bias": bias})(x)


@pytest.mark.parametrize(
    ("axes", "stride", "rate", "pad", "groups"), [(1, 2, 1, 1, 1), (2, 1, 2, 2, 2), (2, 2, 1, 0, 1), (3, 2, 1, 1, 2)]
)
def test_convolutions(axes: int, stride: int, rate: int, pad: int, groups: int) -> None:
    layer = getattr(pax.nn, f"Conv{axes}D")(
        4, 6, 3, stride, rate, [(pad, pad)] * axes, data_format=FIRST[axes], feature_group_count=groups
    )

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        function = getattr(torch.nn.functional, f"conv{axes}d")
        return function(x, to_torch_layout(weight), bias, stride, pad, rate, groups)

    compare(call(layer), theirs, draw(0, 2, 4, *SIZES[:axes]), draw(1, *layer.weight.shape), draw(2, 6))


@pytest.mark.parametrize(("axes", "kernel", "stride"), [(1, 3, 2), (2, 4, 2), (2, 2, 3), (3, 2, 2)])
def test_transposed_convolutions_with_flipped_kernels(axes: int, kernel: int, stride: int) -> None:
    """PyTorch's ``padding=0`` is ``kernel - 1`` zeros on both sides of the stretched input."""
    pads = [(kernel - 1, kernel - 1)] * axes
    layer = getattr(pax.nn, f"Conv{axes}DTranspose")(4, 6, kernel, stride, pads, data_format=FIRST[axes])

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        return getattr(torch.nn.functional, f"conv_transpose{axes}d")(
            x, to_torch_layout(weight, flip=True), bias, stride
        )

    compare(call(layer), theirs, draw(0, 2, 4, *SIZES[:axes]), draw(1, *layer.weight.shape), draw(2, 6))


@pytest.mark.parametrize(("axes", "multiplier"), [(1, 2), (2, 1), (2, 3)])
def test_depthwise_convolutions(axes: int, multiplier: int) -> None:
    layer = getattr(pax.nn, f"DepthwiseConv{axes}D")(4, multiplier, 3, data_format=FIRST[axes])

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        return getattr(torch.nn.functional, f"conv{axes}d")(x, to_torch_layout(weight), bias, padding=1, groups=4)

    compare(call(layer), theirs, draw(0, 2, 4, *SIZES[:axes]), draw(1, *layer.weight.shape), draw(2, 4 * multiplier))


@pytest.mark.parametrize("output", [1, 2, 3, 4, 6, 7, 11])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pooling_of_sequences(kind: str, output: int) -> None:
    layer = getattr(pax.nn, f"Adaptive{kind.title()}Pool1D")(output, "NCW")
    compare(layer, getattr(torch.nn, f"Adaptive{kind.title()}Pool1d")(output), draw(0, 2, 3, 7))


@pytest.mark.parametrize("output", [(1, 1), (2, 5), (4, 3), (9, 6)], ids=str)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pooling_of_images(kind: str, output: tuple[int, int]) -> None:
    layer = getattr(pax.nn, f"Adaptive{kind.title()}Pool2D")(output, "NCHW")
    compare(layer, getattr(torch.nn, f"Adaptive{kind.title()}Pool2d")(output), draw(0, 2, 3, 7, 5))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_pooling(axes: int) -> None:
    layer = getattr(pax.nn, f"MaxPool{axes}D")(3, 2, [(1, 1)] * axes, FIRST[axes])
    compare(layer, getattr(torch.nn, f"MaxPool{axes}d")(3, 2, 1), draw(0, 2, 3, *SIZES[:axes]))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_average_pooling_without_the_padding(axes: int) -> None:
    layer = getattr(pax.nn, f"AvgPool{axes}D")(3, 2, [(1, 1)] * axes, FIRST[axes])
    theirs = getattr(torch.nn, f"AvgPool{axes}d")(3, 2, 1, count_include_pad=False)
    compare(layer, theirs, draw(0, 2, 3, *SIZES[:axes]))


@pytest.mark.parametrize("num_channels", [None, 3])
def test_prelu(num_channels: int | None) -> None:
    layer = pax.nn.PReLU(num_channels, axis=1)

    def ours(x: Any, weight: Any) -> Any:
        return layer.replace(weight=weight if num_channels else weight[0])(x)

    compare(ours, torch.nn.functional.prelu, draw(0, 2, 3, 4), draw(1, num_channels or 1))
