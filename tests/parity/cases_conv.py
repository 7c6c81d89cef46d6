"""Convolutions. PyTorch has kernels ``(out, in, *kernel)`` and channels first; Haiku and Flax have our layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

import pax
from parity.case import Case, haiku, nnx, normal, torch
from parity.peers import haiku_layer, nnx_layer, torch_layer

_KEY = jax.random.key(3)
_SHAPES = {1: (2, 9), 2: (2, 7, 6), 3: (1, 5, 4, 5)}
_CHANNELS = 4


@dataclass(frozen=True)
class _Setup:
    """What one convolution is made of, in our terms; ``padding`` is one pair for each axis, or a word."""

    variant: str
    axes: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    rate: tuple[int, ...]
    padding: Any
    groups: int = 1
    with_bias: bool = True
    first: bool = False

    @property
    def name(self) -> str:
        return f"Conv{self.axes}D"

    @property
    def data_format(self) -> str:
        letters = "DHW"[3 - self.axes :]
        return f"NC{letters}" if self.first else f"N{letters}C"

    def make(self) -> Any:
        return getattr(pax.nn, self.name)(
            _CHANNELS,
            6,
            self.kernel,
            self.stride,
            self.rate,
            self.padding,
            self.with_bias,
            data_format=self.data_format,
            feature_group_count=self.groups,
            rng_key=_KEY,
        )

    def inputs(self) -> tuple[Any, ...]:
        batch, *sizes = _SHAPES[self.axes]
        return (normal(batch, _CHANNELS, *sizes) if self.first else normal(batch, *sizes, _CHANNELS),)

    def torch(self, w: Any, x: Any) -> Any:
        padding = "same" if self.padding == "SAME" else 0 if self.padding == "VALID" else [a for a, _ in self.padding]
        layer = getattr(torch.nn, f"Conv{self.axes}d")(
            _CHANNELS,
            6,
            self.kernel,
            self.stride,
            padding,
            self.rate,
            self.groups,
            bias=self.with_bias,
        )
        weights = {**w, "weight": move_axes(w["weight"], (self.axes + 1, self.axes, *range(self.axes)))}
        return x_last(torch_layer(layer, weights, x_first(x, self.first)), self.first)

    def haiku(self, w: Any, x: Any) -> Any:
        def call(x: Any) -> Any:
            return getattr(haiku, self.name)(
                6,
                self.kernel,
                self.stride,
                self.rate,
                self.padding,
                self.with_bias,
                data_format=self.data_format,
                feature_group_count=self.groups,
                name="conv",
            )(x)

        # Haiku's bias has the axes of the input.
        bias = {"b": w["bias"].reshape((-1, *[1] * self.axes) if self.first else (-1,))} if self.with_bias else {}
        return haiku_layer(call, {"conv": {"w": w["weight"], **bias}}, x)

    def nnx(self, w: Any, x: Any) -> Any:
        weights = {"kernel": w["weight"], **({"bias": w["bias"]} if self.with_bias else {})}
        layer = nnx_layer(
            lambda rngs: nnx.Conv(
                _CHANNELS,
                6,
                self.kernel,
                self.stride,
                padding=self.padding,
                kernel_dilation=self.rate,
                feature_group_count=self.groups,
                use_bias=self.with_bias,
                rngs=rngs,
            ),
            weights,
        )
        return layer(x)

    def cases(self) -> list[Case]:
        peers = {"PyTorch": self.torch, "Haiku": self.haiku, "Flax NNX": self.nnx}
        strided_same = self.padding == "SAME" and any(step != 1 for step in self.stride)
        return [
            Case(f"pax.nn.{self.name}", peer, self.make, theirs, self.inputs, variant=self.variant)
            for peer, theirs in peers.items()
            if not (peer == "PyTorch" and strided_same)  # it has no such padding
            and not (peer == "Flax NNX" and self.first)  # it has no such data format
        ]


def move_axes(array: Any, order: Sequence[int]) -> Any:
    """Permutes the axes of an array of JAX or a tensor of PyTorch."""
    return array.permute(order) if hasattr(array, "permute") else array.transpose(order)


def x_first(x: Any, is_first: bool) -> Any:
    """Moves the channels of a tensor behind the batch, unless they are there already."""
    return x if is_first else torch.movedim(x, -1, 1)


def x_last(x: Any, stays_first: bool) -> Any:
    """The inverse of ``x_first``."""
    return x if stays_first else torch.movedim(x, 1, -1)


_SETUPS = [
    _Setup("SAME", 1, (3,), (1,), (1,), "SAME"),
    _Setup("stride 2, pairs", 1, (4,), (2,), (1,), [(2, 2)]),
    _Setup("channels first, rate 2, groups", 1, (3,), (1,), (2,), "VALID", groups=2, first=True),
    _Setup("SAME", 2, (3, 2), (1, 1), (1, 1), "SAME"),
    _Setup("SAME, stride 2", 2, (3, 3), (2, 2), (1, 1), "SAME", with_bias=False),
    _Setup("stride 2 and 1, pairs, rate 2", 2, (3, 2), (2, 1), (2, 1), [(3, 3), (1, 1)]),
    _Setup("channels first, groups, without bias", 2, (3, 3), (2, 2), (1, 1), [(1, 1)] * 2, 2, False, True),
    _Setup("SAME", 3, (3, 2, 3), (1, 1, 1), (1, 1, 1), "SAME"),
    _Setup("channels first, stride 2, pairs, groups", 3, (3,) * 3, (2,) * 3, (1,) * 3, [(1, 1)] * 3, 2, True, True),
]


# ---- transposed: PyTorch's kernels are flipped -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Transposed:
    variant: str
    axes: int
    kernel: int
    stride: int
    padding: str
    torch_padding: int
    first: bool = False

    @property
    def name(self) -> str:
        return f"Conv{self.axes}DTranspose"

    @property
    def data_format(self) -> str:
        letters = "DHW"[3 - self.axes :]
        return f"NC{letters}" if self.first else f"N{letters}C"

    def make(self) -> Any:
        options: Any = {"data_format": self.data_format, "rng_key": _KEY}
        return getattr(pax.nn, self.name)(_CHANNELS, 3, self.kernel, self.stride, self.padding, **options)

    def inputs(self) -> tuple[Any, ...]:
        batch, *sizes = _SHAPES[self.axes]
        return (normal(batch, _CHANNELS, *sizes) if self.first else normal(batch, *sizes, _CHANNELS),)

    def torch(self, w: Any, x: Any) -> Any:
        kind = getattr(torch.nn, f"ConvTranspose{self.axes}d")
        layer = kind(_CHANNELS, 3, self.kernel, self.stride, self.torch_padding)
        kernel = torch.flip(w["weight"], tuple(range(self.axes))).permute(self.axes + 1, self.axes, *range(self.axes))
        return x_last(torch_layer(layer, {**w, "weight": kernel}, x_first(x, self.first)), self.first)

    def haiku(self, w: Any, x: Any) -> Any:
        def call(x: Any) -> Any:
            kind = getattr(haiku, self.name)
            return kind(3, self.kernel, self.stride, None, self.padding, data_format=self.data_format, name="conv")(x)

        bias = w["bias"].reshape((-1, *[1] * self.axes) if self.first else (-1,))
        return haiku_layer(call, {"conv": {"w": w["weight"], "b": bias}}, x)

    def nnx(self, w: Any, x: Any) -> Any:
        weights = {"kernel": w["weight"].swapaxes(-1, -2), "bias": w["bias"]}
        options: Any = {"strides": (self.stride,) * self.axes, "padding": self.padding}
        kernel = (self.kernel,) * self.axes
        return nnx_layer(lambda rngs: nnx.ConvTranspose(_CHANNELS, 3, kernel, **options, rngs=rngs), weights)(x)

    def cases(self) -> list[Case]:
        peers = {"PyTorch": self.torch, "Haiku": self.haiku} | ({} if self.first else {"Flax NNX": self.nnx})
        return [
            Case(f"pax.nn.{self.name}", peer, self.make, theirs, self.inputs, variant=self.variant)
            for peer, theirs in peers.items()
        ]


_TRANSPOSED = [
    _Transposed("SAME, stride 2", 1, 4, 2, "SAME", 1),
    _Transposed("VALID, channels first", 1, 3, 1, "VALID", 0, True),
    _Transposed("SAME", 2, 3, 1, "SAME", 1),
    _Transposed("VALID, stride 2, channels first", 2, 3, 2, "VALID", 0, True),
    _Transposed("SAME, stride 2", 3, 2, 2, "SAME", 0),
]


# ---- depthwise and separable -----------------------------------------------------------------------------------------


def _depthwise(axes: int) -> list[Case]:
    name, kernel, shape = f"DepthwiseConv{axes}D", (3, 2)[:axes], (2, *_SHAPES[axes][1:], 3)

    def theirs_torch(w: Any, x: Any) -> Any:
        layer = getattr(torch.nn, f"Conv{axes}d")(3, 6, kernel, 2, groups=3)
        weight = w["weight"].permute(axes + 1, axes, *range(axes))
        return x_last(torch_layer(layer, {**w, "weight": weight}, x_first(x, False)), False)

    def theirs_haiku(w: Any, x: Any) -> Any:
        def call(x: Any) -> Any:
            return getattr(haiku, name)(2, kernel, 2, padding="VALID", name="conv")(x)

        return haiku_layer(call, {"conv": {"w": w["weight"], "b": w["bias"]}}, x)

    def theirs_nnx(w: Any, x: Any) -> Any:
        options: Any = {"strides": (2,) * axes, "padding": "VALID", "feature_group_count": 3}
        weights = {"kernel": w["weight"], "bias": w["bias"]}
        return nnx_layer(lambda rngs: nnx.Conv(3, 6, kernel, **options, rngs=rngs), weights)(x)

    peers = {"PyTorch": theirs_torch, "Haiku": theirs_haiku, "Flax NNX": theirs_nnx}
    return [
        Case(
            f"pax.nn.{name}",
            peer,
            lambda: getattr(pax.nn, name)(3, 2, kernel, 2, padding="VALID", rng_key=_KEY),
            theirs,
            lambda: (normal(*shape),),
        )
        for peer, theirs in peers.items()
    ]


def _separable(axes: int) -> Case:
    name, kernel = f"SeparableConv{axes}D", (3,) * axes

    def theirs(w: Any, x: Any) -> Any:
        kind = getattr(torch.nn, f"Conv{axes}d")
        layer = torch.nn.Sequential(kind(3, 6, kernel, 1, "same", groups=3, bias=False), kind(6, 5, 1))
        order = (axes + 1, axes, *range(axes))
        weights = {
            "0.weight": w["depthwise.weight"].permute(order),
            "1.weight": w["pointwise.weight"].permute(order),
            "1.bias": w["pointwise.bias"],
        }
        return torch_layer(layer, weights, x)

    def make() -> Any:
        channels_first = ("NCW", "NCHW")[axes - 1]
        return getattr(pax.nn, name)(3, 5, kernel, data_format=channels_first, channel_multiplier=2, rng_key=_KEY)

    return Case(f"pax.nn.{name}", "PyTorch", make, theirs, lambda: (normal(2, 3, *_SHAPES[axes][1:]),))


CASES = [
    *(case for setup in _SETUPS for case in setup.cases()),
    *(case for transposed in _TRANSPOSED for case in transposed.cases()),
    *_depthwise(1),
    *_depthwise(2),
    _separable(1),
    _separable(2),
]
EXCUSED: dict[str, str] = {}
