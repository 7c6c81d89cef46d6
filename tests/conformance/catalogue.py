"""Every public module class of the installed packages, with what the contract tests need to know of it.

The entries of each package are in a file of its own, ``entries_*.py``: a list ``ENTRIES``, and a dictionary ``EXCUSED``
of public names that have none, with the reason.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pax


@dataclass(frozen=True, eq=False)
class Entry:
    """One way of making one public class.

    Args:
        name: shown in test names; unique.
        of: the public name that it is an example of, for example ``pax.nn.Linear``.
        make: returns a new module; the same one each time, so it takes its keys from a fixed seed. A ``make`` that has
            ``**options`` passes them on to the constructor: with it, the tests of ``dtype`` and ``param_dtype`` run.
        inputs: returns arguments to call the module with; ``None`` if it cannot be called.
        stateful: a call in training mode changes the module.
        excused: names of tests of the files ``CONTRACTS``, without ``test_``, that do not apply; and why.
    """

    name: str
    of: str
    make: Callable[..., Any]
    inputs: Callable[[], tuple[Any, ...]] | None = None
    stateful: bool = False
    excused: Mapping[str, str] = field(default_factory=dict)

    def takes(self, option: str) -> bool:
        """Whether ``make`` can pass this keyword argument on to the constructor."""
        parameters = inspect.signature(self.make).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return False
        return has_argument(self.of, option)


def has_argument(public_name: str, argument: str) -> bool:
    """Whether the constructor of a public class has an argument of this name."""
    package, _, name = public_name.rpartition(".")
    return argument in inspect.signature(getattr(importlib.import_module(package), name)).parameters


CONTRACTS = ("test_module_contract", "test_transforms", "test_dtypes")
"""The files of tests that run for every entry."""

_FILES = {
    "pax": "entries_core",
    "pax.nn": "entries_nn",
    "opax": "entries_optim",
    "pax.experimental": "entries_experimental",
}


def _is_installed(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None


INSTALLED = tuple(package for package in _FILES if _is_installed(package))
_files = [importlib.import_module(f"conformance.{_FILES[package]}") for package in INSTALLED]

ENTRIES: tuple[Entry, ...] = tuple(entry for file in _files for entry in file.ENTRIES)
EXCUSED: dict[str, str] = {name: reason for file in _files for name, reason in file.EXCUSED.items()}


_WITH_MODULES = (
    "pax",
    "pax.nn",
    "pax.nets",
    "pax.experimental",
    "pax.experimental.graph",
    "pax.experimental.mlax",
    "pax.experimental.mlax.nn",
    "pax.experimental.parallax",
)


def public_module_classes() -> set[str]:
    """Returns the dotted names of all public module classes, and of the functions of `opax` that make optimizers.

    A name that two modules show is taken once, from the module that defines it.
    """
    found = set()
    for package in _WITH_MODULES:
        if _is_installed(package):
            found |= _module_classes(package)
    if _is_installed("opax"):
        opax = importlib.import_module("opax")
        found |= {f"opax.{name}" for name in (*opax.transform.__all__, *opax.optimizer.__all__)}
    return found


def _module_classes(package: str) -> set[str]:
    module = importlib.import_module(package)
    classes = {name: getattr(module, name) for name in module.__all__}
    return {
        f"{package}.{name}"
        for name, value in classes.items()
        if isinstance(value, type) and issubclass(value, pax.Module) and _is_at_home(value, package)
    }


def _is_at_home(cls: type, package: str) -> bool:
    """Whether a package defines a class itself, in a private file."""
    home, _, file = cls.__module__.rpartition(".")
    return home == package or cls.__module__ == package or (file.startswith("_") and home == package)
