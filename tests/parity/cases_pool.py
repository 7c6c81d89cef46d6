"""Layers for pooling: PyTorch has the channels first, Flax has them last."""

from typing import Any

import pax
from parity.case import Case, nnx, normal, torch

_SIZES = (7, 6, 5)


def _windows(kind: str, axes: int) -> list[Case]:
    name = f"{kind}Pool{axes}D"
    first = ("NCW", "NCHW", "NCDHW")[axes - 1]

    def theirs_torch(w: Any, x: Any) -> Any:
        options: Any = {"count_include_pad": False} if kind == "Avg" else {}
        return getattr(torch.nn, f"{kind}Pool{axes}d")(3, 2, 1, **options)(x)

    def theirs_nnx(w: Any, x: Any) -> Any:
        options: Any = {"count_include_pad": False} if kind == "Avg" else {}
        return getattr(nnx, f"{kind.lower()}_pool")(x, (2,) * axes, (1,) * axes, "SAME", **options)

    layer = getattr(pax.nn, name)
    return [
        Case(
            f"pax.nn.{name}",
            "PyTorch",
            lambda: layer(3, 2, [(1, 1)] * axes, first),
            theirs_torch,
            lambda: (normal(2, 3, *_SIZES[:axes]),),
            variant="pairs, stride 2",
        ),
        Case(
            f"pax.nn.{name}",
            "Flax NNX",
            lambda: layer(2, 1, "SAME"),
            theirs_nnx,
            lambda: (normal(2, *_SIZES[:axes], 3),),
            variant="SAME, stride 1",
        ),
    ]


def _adaptive(kind: str, axes: int) -> Case:
    name, sizes = f"Adaptive{kind}Pool{axes}D", (3, 4)[:axes]
    return Case(
        f"pax.nn.{name}",
        "PyTorch",
        lambda: getattr(pax.nn, name)(sizes, ("NCW", "NCHW")[axes - 1]),
        lambda w, x: getattr(torch.nn, f"Adaptive{kind}Pool{axes}d")(sizes if axes > 1 else sizes[0])(x),
        lambda: (normal(2, 3, *_SIZES[:axes]),),
    )


def _global(kind: str) -> Case:
    name = f"Global{kind}Pool"
    return Case(
        f"pax.nn.{name}",
        "PyTorch",
        lambda: getattr(pax.nn, name)("channels_first", keepdims=True),
        lambda w, x: getattr(torch.nn, f"Adaptive{kind}Pool2d")(1)(x),
        lambda: (normal(2, 3, 4, 5),),
    )


CASES = [
    *(case for kind in ("Max", "Avg") for axes in (1, 2, 3) for case in _windows(kind, axes)),
    *(_adaptive(kind, axes) for kind in ("Max", "Avg") for axes in (1, 2)),
    _global("Max"),
    _global("Avg"),
]
EXCUSED: dict[str, str] = {}
