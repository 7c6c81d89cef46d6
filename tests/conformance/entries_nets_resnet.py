"""The residual networks of pax-nn."""

from typing import Any, ClassVar

import jax

import pax
from conformance.catalogue import Entry


class ResNet18OfTwoBlocks(pax.nets.ResNet18):
    """As little of the network as has all of its parts: the whole one would take a minute to test."""

    _blocks_per_group: ClassVar[tuple[int, ...]] = (1, 1)


def _resnet(**options: Any) -> Any:
    return ResNet18OfTwoBlocks(3, 2, rng_key=jax.random.key(1), **options)


ENTRIES = [
    Entry(
        "ResNet18",
        "pax.nets.ResNet18",
        _resnet,
        lambda: (jax.random.normal(jax.random.key(0), (4, 3, 16, 16)),),
        stateful=True,
    ),
]

_REASON = "differs from ResNet18 in the number and kind of blocks only; tests/nets has tests of both kinds"
EXCUSED = {f"pax.nets.ResNet{depth}": _REASON for depth in (34, 50, 101, 152, 200)}
