"""All cases, and the public names without one."""

import importlib
from types import ModuleType

import pax.nets
import pax.nn
from parity.case import Case

_AREAS = ("attention", "basic", "conv", "nets", "norm", "pool", "recurrent")
_files: list[ModuleType] = [importlib.import_module(f"parity.cases_{area}") for area in _AREAS]

CASES: tuple[Case, ...] = tuple(case for file in _files for case in file.CASES)
EXCUSED: dict[str, str] = {name: reason for file in _files for name, reason in file.EXCUSED.items()}


def public_names() -> set[str]:
    """The layers, networks and functions that are compared or excused; not their helper modules and types."""
    return {
        f"{package.__name__}.{name}"
        for package in (pax.nn, pax.nets)
        for name in package.__all__
        if callable(getattr(package, name))
    }
