"""Convolutions give Haiku's numbers for the same weights, forward and backward."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax

haiku: Any = pytest.importorskip("haiku")

# Haiku relies on implicit dtype promotion.
pytestmark = pytest.mark.implicit_dtypes

FORMATS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}
SIZES = (6, 5, 4)


def compare(ours: Any, name: str, axes: int, options: dict[str, Any]) -> None:
    """Compares output and gradients of the sum of squares; both run the same operation, so the numbers are close."""
    sizes, index = list(SIZES[:axes]), ours.data_format.index("C")
    sizes.insert(index - 1, ours.in_features)
    x = jax.random.normal(jax.random.key(1), (2, *sizes))
    theirs = haiku.without_apply_rng(haiku.transform(lambda x: getattr(haiku, name)(**options)(x)))
    ((scope, shapes),) = jax.eval_shape(theirs.init, jax.random.key(0), x).items()

    def our_loss(weights: dict[str, Any], x: Any) -> Any:
        y = ours.load_state_dict(weights)(x)
        return (y**2).sum(), y

    def their_loss(weights: dict[str, Any], x: Any) -> Any:
        # Haiku's biases have length 1 along the axes that are not the channels.
        named = {key[0]: value.reshape(shapes[key[0]].shape) for key, value in weights.items()}
        y = theirs.apply({scope: named}, x)
        return (y**2).sum(), y

    weights = {key: value for key, value in ours.state_dict().items() if value is not None}
    if "bias" in weights:
        weights["bias"] = jnp.arange(1.0, 1.0 + weights["bias"].size)
    got, want = (jax.grad(loss, (0, 1), has_aux=True)(weights, x) for loss in (our_loss, their_loss))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("layout", [0, 1], ids=["channels last", "channels first"])
@pytest.mark.parametrize(
    ("stride", "rate", "padding", "groups", "with_bias"), [(1, 2, "SAME", 2, True), (2, 1, "VALID", 1, False)]
)
def test_convolutions(
    axes: int, layout: int, stride: int, rate: int, padding: str, groups: int, with_bias: bool
) -> None:
    options = {
        "kernel_shape": 2,
        "stride": stride,
        "rate": rate,
        "padding": padding,
        "with_bias": with_bias,
        "data_format": FORMATS[axes][layout],
        "feature_group_count": groups,
    }
    ours = getattr(pax.nn, f"Conv{axes}D")(4, 6, rng_key=jax.random.key(0), **options)
    compare(ours, f"Conv{axes}D", axes, {"output_channels": 6, **options})


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("layout", [0, 1], ids=["channels last", "channels first"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "with_bias"), [(3, 2, "SAME", True), (2, 3, "SAME", False), (2, 3, "VALID", True)]
)
def test_transposed_convolutions(
    axes: int, layout: int, kernel: int, stride: int, padding: str, with_bias: bool
) -> None:
    options = {
        "kernel_shape": kernel,
        "stride": stride,
        "padding": padding,
        "with_bias": with_bias,
        "data_format": FORMATS[axes][layout],
    }
    ours = getattr(pax.nn, f"Conv{axes}DTranspose")(2, 3, rng_key=jax.random.key(0), **options)
    compare(ours, f"Conv{axes}DTranspose", axes, {"output_channels": 3, **options})
