"""Which libraries are installed."""

import importlib
from functools import cache

from benchmarks.peers._library import Library

# Module and class of each, in the order of the tables; the first is the reference of all ratios.
_LIBRARIES = (
    ("_dicts", "Dicts"),
    ("_flat", "Flat"),
    ("_pax", "Pax"),
    ("_equinox", "Equinox"),
    ("_nnx", "Nnx"),
    ("_haiku", "Haiku"),
)


@cache
def available() -> tuple[tuple[Library, ...], tuple[str, ...]]:
    """Returns the libraries that can be imported, and a line for each one that cannot."""
    libraries: list[Library] = []
    notes: list[str] = []
    for module, name in _LIBRARIES:
        try:
            libraries.append(getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)())
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("pax", "jax", "benchmarks"):
                raise
            notes.append(f"{name} is left out: there is no module `{error.name}`.")
    return tuple(libraries), tuple(notes)
