"""Imports point one way, between the packages and between the files of pax-core, and only public names cross a border.

The rules are functions from sources to violations, so that each is also shown a source that breaks it.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

# What each package may import, and where its modules are.
_MAY_IMPORT: dict[str, set[str]] = {
    "pax-core": set(),
    "pax-nn": {"pax-core"},
    "pax-optim": {"pax-core"},
    "pax-experimental": {"pax-core", "pax-nn", "pax-optim"},
}
_PREFIXES = {"pax.nn": "pax-nn", "pax.nets": "pax-nn", "pax.experimental": "pax-experimental", "opax": "pax-optim"}

# Imports against the direction, for type checkers only. (At run time `pax._siblings` looks names up.)
_EXCUSED = {
    ("pax", "pax.nn"),
    ("pax", "pax.nets"),
    ("pax", "pax.experimental"),
}

# Also what newer versions of Python have, and code imports there only.
_STANDARD = sys.stdlib_module_names | {"annotationlib"}

# The files of pax-core in layers; each imports only from those above it.
_CORE_LAYERS = """
    _version _siblings
    _errors errors
    _jax_compat
    _static
    _paths
    _random
    _empty
    _classify
    _callers
    _mutation
    _structure
    _variants
    _node
    _twins
    _pickling
    _checks
    _selection
    _freezing
    _parameters
    _metaclass
    _merge
    _state_dict
    _surgery
    _summary
    _leaf_kinds
    _module_tree
    _replaced_methods
    _purity
    _module
    _transforms
    _gradients
    _scan
    _update_fn
    _rng_seq
    _tabulate_flops
    _tabulate_calls
    _tabulate_table
    _tabulate
    utils extend
    __init__
""".split()


@dataclass(frozen=True)
class Import:
    """One imported module or name, or an attribute such as `pax._node` of an imported package."""

    importer: str
    line: int
    target: str
    deferred: bool
    """Whether it does not happen when the importer is imported: in a function, or for type checkers only."""

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def _find_imports(module: str, source: str) -> Iterator[Import]:
    """All imports, `from a import b` as `a.b`, and attributes of what was imported."""
    bound: dict[str, str] = {}

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                bound[alias.asname or root] = alias.name if alias.asname else root
                yield Import(module, node.lineno, alias.name, deferred)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                bound[alias.asname or alias.name] = target
                yield Import(module, node.lineno, target, deferred)
        elif isinstance(node, ast.Attribute) and (chain := _chain(node)) and chain[0] in bound:
            yield Import(module, node.lineno, ".".join([bound[chain[0]], *chain[1:]]), deferred)
        else:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                deferred = True
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                for statement in node.body:
                    yield from visit(statement, True)
                for statement in node.orelse:
                    yield from visit(statement, deferred)
            else:
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, deferred)

    yield from visit(ast.parse(source), False)


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` as names; empty if it does not begin with a name."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (chain := _chain(node.value)):
        return [*chain, node.attr]
    return []


def _package_of(target: str) -> str | None:
    """The package of ours that a module or name is in; `pax.Linear` counts as pax-nn's."""
    for prefix, package in _PREFIXES.items():
        if target == prefix or target.startswith(prefix + "."):
            return package
    if target.split(".")[0] != "pax":
        return None
    return "pax-nn" if target.split(".")[1:2] and target.split(".")[1] in _layer_names() else "pax-core"


def _owner_of(target: str) -> str:
    """The package of ours, or the import name of anybody's."""
    return _package_of(target) or target.split(".")[0]


@cache
def _layer_names() -> set[str]:
    names = tomllib.loads((Path(__file__).parent / "public_names.toml").read_text())
    return set(names["pax.nn"]["names"])


def _module_of(target: str, sources: dict[str, str]) -> str | None:
    """The module of ours that a target such as `pax._node.flatten` is in."""
    parts = target.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in sources:
            return ".".join(parts[:end])
    return None


def _is_excused(found: Import) -> bool:
    return found.deferred and any(
        found.importer == importer and (found.target == target or found.target.startswith(target + "."))
        for importer, target in _EXCUSED
    )


def find_wrong_directions(sources: dict[str, str]) -> list[str]:
    """Imports between the packages that `_MAY_IMPORT` does not allow."""
    wrong = []
    for module, source in sources.items():
        importer = _package_of(module)
        for found in _find_imports(module, source):
            imported = _package_of(found.target)
            allowed = _MAY_IMPORT.get(importer or "", set()) | {importer, None}
            if imported not in allowed and not _is_excused(found):
                wrong.append(f"{found}: {importer} may not import {imported}")
    return wrong


def find_private_crossings(sources: dict[str, str]) -> list[str]:
    """Private names of another package, of ours or of anybody; JAX's are for `pax._jax_compat` alone."""
    wrong = []
    for module, source in sources.items():
        for found in _find_imports(module, source):
            private = [name for name in found.target.split(".") if name.startswith("_") and not name.endswith("__")]
            foreign = _owner_of(found.target) != _owner_of(module)
            compat = module == "pax._jax_compat" and found.target.startswith("jax.")
            if private and foreign and found.target not in ("__future__", "sys._getframe") and not compat:
                wrong.append(f"{found}: `{private[0]}` is private")
    return wrong


def find_undeclared(sources: dict[str, str], declared: dict[str, set[str]]) -> list[str]:
    """Imports of what the package does not name as a dependency of its own."""
    wrong = []
    for module, source in sources.items():
        importer = _package_of(module)
        for found in _find_imports(module, source):
            needed = _owner_of(found.target)
            known = needed == importer or needed in _STANDARD or needed in declared[importer or ""]
            if not known and not _is_excused(found):
                wrong.append(f"{found}: {needed} is no dependency of {importer}")
    return wrong


def find_wrong_layers(sources: dict[str, str], layers: list[str]) -> list[str]:
    """Files of pax-core that import from a file below them, or have no place in the order."""
    order = {"pax" if layer == "__init__" else f"pax.{layer}": index for index, layer in enumerate(layers)}
    wrong = [f"{module} has no place among the layers" for module in sources if module not in order]
    for module, source in sources.items():
        for found in _find_imports(module, source):
            imported = _module_of(found.target, sources)
            if imported and imported != module and order.get(imported, -1) > order.get(module, len(layers)):
                wrong.append(f"{found}: it is in a lower layer")
    return wrong


def find_cycles(sources: dict[str, str]) -> list[str]:
    """Rings of imports, deferred ones included: they are what hides a ring."""
    graph: dict[str, list[str]] = {}
    for module, source in sources.items():
        found_here = [found for found in _find_imports(module, source) if not _is_excused(found)]
        targets = {_module_of(found.target, sources) for found in found_here} - {None, module}
        graph[module] = sorted(target for target in targets if target)
    rings: list[str] = []
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            rings.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in graph[module]:
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    return rings


def _read_sources(*packages: str) -> dict[str, str]:
    sources = {}
    for package in packages:
        src = _ROOT / "packages" / package / "src"
        for path in sorted(src.rglob("*.py")):
            parts = path.relative_to(src).with_suffix("").parts
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return sources


def _read_dependencies(package: str) -> set[str]:
    project = tomllib.loads((_ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    return {requirement.partition(">")[0].partition("<")[0].strip() for requirement in project["dependencies"]}


def test_packages_import_in_one_direction() -> None:
    assert find_wrong_directions(_read_sources(*_MAY_IMPORT)) == []


def test_only_public_names_cross_a_package_border() -> None:
    assert find_private_crossings(_read_sources(*_MAY_IMPORT)) == []


@pytest.mark.parametrize("directory", ["examples", "benchmarks"])
def test_examples_and_benchmarks_use_public_names_only(directory: str) -> None:
    paths = sorted((_ROOT / directory).rglob("*.py"))
    assert paths
    assert find_private_crossings({f"{directory}.{path.stem}": path.read_text() for path in paths}) == []


def test_packages_import_only_what_they_declare() -> None:
    declared = {package: _read_dependencies(package) for package in _MAY_IMPORT}
    assert find_undeclared(_read_sources(*_MAY_IMPORT), declared) == []


def test_packages_declare_no_package_that_they_may_not_import() -> None:
    for package, allowed in _MAY_IMPORT.items():
        assert _read_dependencies(package) & _MAY_IMPORT.keys() <= allowed


def test_files_of_core_import_only_from_the_layers_above() -> None:
    assert find_wrong_layers(_read_sources("pax-core"), _CORE_LAYERS) == []


def test_there_is_no_import_cycle() -> None:
    assert find_cycles(_read_sources(*_MAY_IMPORT)) == []


def test_the_direction_rule_finds_an_import_of_a_package_above() -> None:
    sources = {
        "pax._node": "import numpy\ndef f():\n    from pax.nn import Linear",
        "opax._adam": "import pax\nlayer = pax.Linear",
        "pax.nn._linear": "from pax import Module\nfrom opax import adam",
    }
    assert find_wrong_directions(sources) == [
        "pax._node:3 imports pax.nn.Linear: pax-core may not import pax-nn",
        "opax._adam:2 imports pax.Linear: pax-optim may not import pax-nn",
        "pax.nn._linear:2 imports opax.adam: pax-nn may not import pax-optim",
    ]


def test_an_excused_import_must_be_deferred() -> None:
    assert find_wrong_directions({"pax": "if TYPE_CHECKING:\n    from pax import nn"}) == []
    assert find_wrong_directions({"pax": "from pax import nn"}) != []


@pytest.mark.parametrize(
    "source",
    ["from pax._node import flatten", "import pax._node", "import pax\nx = pax._node", "from pax import _node as n"],
)
def test_the_privacy_rule_finds_a_private_name_of_another_package(source: str) -> None:
    assert len(find_private_crossings({"pax.nn._linear": source})) == 1
    assert find_private_crossings({"pax._module": source}) == []


def test_the_privacy_rule_finds_private_names_of_jax() -> None:
    source = "from jax._src import core\nimport jax\nx = jax._src.api"
    assert len(find_private_crossings({"pax._module": source})) == 2
    assert find_private_crossings({"pax._jax_compat": source}) == []


def test_the_dependency_rule_finds_what_is_not_declared() -> None:
    sources = {
        "pax.nn._linear": "import os\nimport jax.numpy as jnp\nimport optax\nfrom pax.errors import ArgumentError"
    }
    assert find_undeclared(sources, {"pax-nn": {"jax", "pax-core"}}) == [
        "pax.nn._linear:3 imports optax: optax is no dependency of pax-nn"
    ]


def test_the_layer_rule_finds_an_upward_import_and_an_unknown_file() -> None:
    sources = {"pax._low": "", "pax._high": "from pax import _low", "pax._new": ""}
    assert find_wrong_layers(sources, ["_low", "_high"]) == ["pax._new has no place among the layers"]
    assert find_wrong_layers(sources, ["_high", "_low", "_new"]) == [
        "pax._high:1 imports pax._low: it is in a lower layer"
    ]


def test_the_cycle_rule_finds_a_ring_hidden_in_a_function() -> None:
    sources = {
        "pax._a": "from pax._b import x",
        "pax._b": "def f():\n    import pax._c as c",
        "pax._c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pax import _a",
    }
    assert find_cycles(sources) == ["pax._a -> pax._b -> pax._c -> pax._a"]
