"""The normalisation layers of pax-nn."""

from collections.abc import Callable
from typing import Any

import jax

import pax
from conformance.catalogue import Entry


def _normal(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


def _entry(
    name: str, of: str, inputs: tuple[int, ...], *args: Any, stateful: bool = False, key: bool = True, **settings: Any
) -> Entry:
    def make(**options: Any) -> Any:
        if key:
            options["rng_key"] = jax.random.key(1)
        return getattr(pax.nn, of)(*args, **settings, **options)

    return Entry(name, f"pax.nn.{of}", make, _normal(*inputs), stateful=stateful)


ENTRIES = [
    _entry("BatchNorm1D", "BatchNorm1D", (4, 5, 3), 3, stateful=True, key=False),
    _entry("BatchNorm2D, channels first", "BatchNorm2D", (4, 3, 2, 2), 3, data_format="NCHW", stateful=True, key=False),
    _entry("BatchNorm2D without parameters", "BatchNorm2D", (4, 2, 2, 3), 3, False, False, stateful=True, key=False),
    _entry("BatchNorm3D", "BatchNorm3D", (2, 2, 2, 2, 3), 3, stateful=True, key=False),
    _entry("LayerNorm", "LayerNorm", (4, 3), 3, -1, True, True),
    _entry("LayerNorm over a slice", "LayerNorm", (2, 4, 3), 3, slice(1, None), True, False),
    _entry("LayerNorm without parameters", "LayerNorm", (4, 3), 3, -1, False, False),
    _entry("GroupNorm", "GroupNorm", (2, 5, 4), 2, 4),
    _entry("GroupNorm, channels first", "GroupNorm", (2, 4, 2, 3), 2, 4, data_format="channels_first"),
    _entry("GroupNorm over listed axes", "GroupNorm", (2, 5, 4), 2, 4, [-2, -1], create_offset=False),
    _entry("GroupNorm without parameters", "GroupNorm", (2, 5, 4), 2, 4, create_scale=False, create_offset=False),
    _entry("RMSNorm", "RMSNorm", (4, 3), 3),
    _entry("RMSNorm without scale", "RMSNorm", (2, 4, 3), 3, (1, 2), False),
    _entry("InstanceNorm", "InstanceNorm", (2, 5, 3), 3),
    _entry("InstanceNorm, channels first", "InstanceNorm", (2, 3, 2, 4), 3, data_format="NC..."),
]
