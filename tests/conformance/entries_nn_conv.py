"""Convolutions, pooling, Flatten and PReLU."""

from collections.abc import Callable
from typing import Any

import jax

import pax
from conformance.catalogue import Entry

_KEY = jax.random.key(1)


def _normal(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


ENTRIES = [
    Entry(
        "Conv1D",
        "pax.nn.Conv1D",
        lambda **options: pax.nn.Conv1D(3, 4, 3, rng_key=_KEY, **options),
        _normal(2, 5, 3),
    ),
    Entry(
        "Conv1D, channels first, stride 2",
        "pax.nn.Conv1D",
        lambda: pax.nn.Conv1D(3, 4, 3, 2, data_format="NCW", rng_key=_KEY),
        _normal(2, 3, 6),
    ),
    Entry(
        "Conv2D",
        "pax.nn.Conv2D",
        lambda **options: pax.nn.Conv2D(3, 4, 3, rng_key=_KEY, **options),
        _normal(2, 5, 5, 3),
    ),
    Entry(
        "Conv2D in groups, without bias",
        "pax.nn.Conv2D",
        lambda: pax.nn.Conv2D(4, 4, (3, 1), padding="VALID", with_bias=False, feature_group_count=2, rng_key=_KEY),
        _normal(2, 5, 5, 4),
    ),
    Entry(
        "Conv3D",
        "pax.nn.Conv3D",
        lambda **options: pax.nn.Conv3D(2, 3, 2, rng_key=_KEY, **options),
        _normal(2, 3, 4, 3, 2),
    ),
    Entry(
        "Conv1DTranspose",
        "pax.nn.Conv1DTranspose",
        lambda **options: pax.nn.Conv1DTranspose(3, 4, 3, 2, rng_key=_KEY, **options),
        _normal(2, 5, 3),
    ),
    Entry(
        "Conv2DTranspose, channels first, without bias",
        "pax.nn.Conv2DTranspose",
        lambda **options: pax.nn.Conv2DTranspose(
            3, 4, (3, 2), (2, 3), "VALID", False, data_format="NCHW", rng_key=_KEY, **options
        ),
        _normal(2, 3, 4, 3),
    ),
    Entry(
        "Conv3DTranspose",
        "pax.nn.Conv3DTranspose",
        lambda **options: pax.nn.Conv3DTranspose(2, 3, 2, rng_key=_KEY, **options),
        _normal(2, 3, 2, 3, 2),
    ),
    Entry(
        "DepthwiseConv1D",
        "pax.nn.DepthwiseConv1D",
        lambda **options: pax.nn.DepthwiseConv1D(3, 2, 3, rng_key=_KEY, **options),
        _normal(2, 5, 3),
    ),
    Entry(
        "DepthwiseConv2D",
        "pax.nn.DepthwiseConv2D",
        lambda **options: pax.nn.DepthwiseConv2D(3, 1, 3, data_format="NCHW", rng_key=_KEY, **options),
        _normal(2, 3, 4, 5),
    ),
    Entry(
        "SeparableConv1D",
        "pax.nn.SeparableConv1D",
        lambda **options: pax.nn.SeparableConv1D(3, 4, 3, rng_key=_KEY, **options),
        _normal(2, 5, 3),
    ),
    Entry(
        "SeparableConv2D",
        "pax.nn.SeparableConv2D",
        lambda **options: pax.nn.SeparableConv2D(3, 4, 3, 2, channel_multiplier=2, rng_key=_KEY, **options),
        _normal(2, 4, 5, 3),
    ),
    Entry("MaxPool1D", "pax.nn.MaxPool1D", lambda: pax.nn.MaxPool1D(2), _normal(2, 6, 3)),
    Entry(
        "MaxPool2D",
        "pax.nn.MaxPool2D",
        lambda: pax.nn.MaxPool2D(3, 2, [(1, 1), (0, 1)], "NCHW"),
        _normal(2, 3, 6, 5),
    ),
    Entry("MaxPool3D", "pax.nn.MaxPool3D", lambda: pax.nn.MaxPool3D((1, 2, 2)), _normal(2, 2, 4, 4, 3)),
    Entry("AvgPool1D", "pax.nn.AvgPool1D", lambda: pax.nn.AvgPool1D(3, 1, "SAME", "NCW"), _normal(2, 3, 6)),
    Entry("AvgPool2D", "pax.nn.AvgPool2D", lambda: pax.nn.AvgPool2D(2), _normal(2, 4, 4, 3)),
    Entry("AvgPool3D", "pax.nn.AvgPool3D", lambda: pax.nn.AvgPool3D(2, padding="SAME"), _normal(2, 3, 4, 3, 3)),
    Entry("GlobalAvgPool", "pax.nn.GlobalAvgPool", pax.nn.GlobalAvgPool, _normal(2, 4, 4, 3)),
    Entry(
        "GlobalMaxPool, channels first, axes kept",
        "pax.nn.GlobalMaxPool",
        lambda: pax.nn.GlobalMaxPool("channels_first", keepdims=True),
        _normal(2, 3, 4, 4),
    ),
    Entry("AdaptiveAvgPool1D", "pax.nn.AdaptiveAvgPool1D", lambda: pax.nn.AdaptiveAvgPool1D(3), _normal(2, 7, 3)),
    Entry(
        "AdaptiveAvgPool2D",
        "pax.nn.AdaptiveAvgPool2D",
        lambda: pax.nn.AdaptiveAvgPool2D((2, 3), "NCHW"),
        _normal(2, 3, 6, 5),
    ),
    Entry("AdaptiveMaxPool1D", "pax.nn.AdaptiveMaxPool1D", lambda: pax.nn.AdaptiveMaxPool1D(3), _normal(2, 7, 3)),
    Entry("AdaptiveMaxPool2D", "pax.nn.AdaptiveMaxPool2D", lambda: pax.nn.AdaptiveMaxPool2D(2), _normal(2, 5, 4, 3)),
    Entry("Flatten", "pax.nn.Flatten", pax.nn.Flatten, _normal(2, 3, 4)),
    Entry("PReLU", "pax.nn.PReLU", lambda **options: pax.nn.PReLU(**options), _normal(2, 4, 3)),
    Entry("PReLU per channel", "pax.nn.PReLU", lambda: pax.nn.PReLU(4, axis=1), _normal(2, 4, 3)),
]
