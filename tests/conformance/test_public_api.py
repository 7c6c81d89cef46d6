"""The public names: exactly those of `public_names.toml`, each documented, and cheap to import."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_origin

import pytest

import opax
import pax

_LISTED: dict[str, list[str]] = {
    module: table["names"]
    for module, table in tomllib.loads((Path(__file__).parent / "public_names.toml").read_text()).items()
}

# Listed, but not in `__all__`, because `from pax import *` would hide the builtin function.
_NOT_STARRED = {"pax": {"filter"}}


def _public_modules(package: ModuleType) -> set[str]:
    found = {info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")}
    return {package.__name__} | {name for name in found if "._" not in name}


def _names_of(module: str) -> set[str]:
    names = set(importlib.import_module(module).__all__)
    return names - set(_LISTED["pax.nn"]) if module == "pax" else names


def _undocumented(name: str, value: Any) -> list[str]:
    """The name itself, and public methods and properties of a class, that have no docstring of their own."""
    if inspect.isclass(value):
        # A dataclass or named tuple without one has its signature in its place.
        text = value.__dict__.get("__doc__") or ""
        # `getattr` finds the docstring of the method that an undocumented one overrides.
        missing = [
            f"{name}.{key}"
            for key, member in vars(value).items()
            if isinstance(member, property | classmethod | staticmethod | FunctionType)
            and not key.startswith("_")
            and not inspect.getdoc(getattr(value, key))
        ]
        return missing + [name] * (not text.strip() or text.startswith(f"{value.__name__}("))
    if get_origin(value) is not None or not (callable(value) or inspect.ismodule(value)):
        return []  # the name of a type, or a constant: documented where it is used
    return [] if (value.__doc__ or "").strip() else [name]


@pytest.mark.parametrize("module", sorted(_LISTED))
def test_public_names_are_those_listed(module: str) -> None:
    assert sorted(_names_of(module)) == sorted(set(_LISTED[module]) - _NOT_STARRED.get(module, set()))


@pytest.mark.parametrize("module", sorted(_LISTED))
def test_lists_are_sorted(module: str) -> None:
    assert _LISTED[module] == sorted(_LISTED[module])


@pytest.mark.parametrize("package", [pax, opax])
def test_every_public_module_is_listed(package: ModuleType) -> None:
    assert _public_modules(package) == {name for name in _LISTED if name.split(".")[0] == package.__name__}


@pytest.mark.parametrize("module", sorted(_LISTED))
def test_public_names_are_documented(module: str) -> None:
    home = importlib.import_module(module)
    values = {f"{module}.{name}": getattr(home, name) for name in _LISTED[module]}
    assert _undocumented(module, home) == []
    assert [missing for name, value in values.items() for missing in _undocumented(name, value)] == []


def test_the_documentation_check_finds_what_is_missing() -> None:
    class Bare:
        def method(self) -> None: ...

        @property
        def value(self) -> None: ...

    assert _undocumented("Bare", Bare) == ["Bare.method", "Bare.value", "Bare"]
    assert _undocumented("function", lambda: None) == ["function"]


def test_layers_are_names_of_pax() -> None:
    for name in _LISTED["pax.nn"]:
        assert getattr(pax, name) is getattr(importlib.import_module("pax.nn"), name)


def test_no_layer_hides_a_name_of_core() -> None:
    assert set(_LISTED["pax.nn"]) & set(_LISTED["pax"]) == set()


def test_utils_are_the_names_of_pax() -> None:
    from pax import utils

    for name in _LISTED["pax.utils"]:
        assert getattr(utils, name) is getattr(pax, name)


@pytest.mark.parametrize("package", [pax, opax])
def test_versions_are_strings(package: ModuleType) -> None:
    assert isinstance(package.__version__, str)


def _loaded_by(statement: str, given: str) -> set[str]:
    """The modules that a statement loads on top of those that another has loaded, in a new process."""
    code = f"import sys\n{given}\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_import_pax_loads_nothing_but_jax_numpy_and_the_standard_library() -> None:
    loaded = _loaded_by("import pax", given="import jax, numpy")
    assert "pax._module" in loaded
    roots = {name.split(".")[0] for name in loaded} - sys.stdlib_module_names
    assert roots <= {"pax", "jax", "jaxlib", "numpy"}


def test_import_pax_does_not_load_the_other_packages() -> None:
    loaded = _loaded_by("import pax", given="")
    assert not loaded & {"pax.nn", "pax.nets", "pax.experimental", "opax", "optax", "jmp", "jaxtyping"}


def test_the_loading_check_sees_what_is_loaded() -> None:
    assert "opax" in _loaded_by("import opax", given="import jax, numpy")
