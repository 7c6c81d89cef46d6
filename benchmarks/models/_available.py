"""Which libraries are installed."""

import importlib
from functools import cache

from benchmarks.models._network import Models

# Module and class of each, in the order of the tables; the first is the reference of all ratios.
_LIBRARIES = (
    ("_plain", "Plain"),
    ("_pax", "Pax"),
    ("_equinox", "Equinox"),
    ("_nnx", "Nnx"),
    ("_haiku", "Haiku"),
)


@cache
def models_available() -> tuple[Models, ...]:
    """Returns the libraries that can be imported; ``benchmarks.peers.available`` says which cannot."""
    found = []
    for module, name in _LIBRARIES:
        try:
            found.append(getattr(importlib.import_module(f"benchmarks.models.{module}"), name)())
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("pax", "jax", "benchmarks"):
                raise
    return tuple(found)
