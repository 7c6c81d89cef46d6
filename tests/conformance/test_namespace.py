"""`pax` without the packages that ship parts of it: every missing name says which command installs it."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

_PACKAGES = Path(__file__).parents[2] / "packages"

_LISTED = tomllib.loads((Path(__file__).parent / "public_names.toml").read_text())
_NN_NAMES = ("nn", "nets", *_LISTED["pax.nn"]["names"])
_ABSENT = {name: "pax-nn" for name in _NN_NAMES} | {
    name: "pax-experimental" for name in ("experimental", "apply_mp_policy", "unwrap_mp_policy")
}


def _run(code: str, *sources: str) -> str:
    """Runs code in a process that finds the third-party packages, and of ours only the given source trees."""
    ours = [path for path in sys.path if Path(path).is_relative_to(_PACKAGES)]
    others = [path for path in sys.path if path and Path(path).is_dir() and path not in ours]
    assert not any((Path(path) / "pax").exists() for path in others), "PAX is installed as a copy, not as editable"
    path = [str(_PACKAGES / source / "src") for source in sources] + others
    # -S: the editable installations of the siblings are `.pth` files.
    process = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


# Prints what every way of asking gives. One process for all questions: each has to import jax.
_QUESTIONS = f"""
import json
import pax

def error_of(way):
    try:
        exec(way)
    except Exception as error:
        return type(error).__name__, str(error)

starred = {{}}
exec("from pax import *", starred)
update = pax.build_update_fn(lambda model: (0.0, (0.0, model)))
names = {list(_ABSENT)} + ["Liner"]
print(json.dumps({{
    "attributes": {{name: error_of("pax." + name) for name in names}},
    "imports": {{name: error_of("from pax import " + name) for name in names}},
    "has": [name for name in names if hasattr(pax, name)],
    "dir": [name for name in names if name in dir(pax)],
    "star": [name for name in ("Module", "filter", *names) if name in starred],
    "update": error_of("update(pax.Module(), pax.Module())"),
    "same": error_of("import pax.nn; assert pax.Linear is pax.nn.Linear; assert 'pax.nn.' in pax.Linear.__module__"),
}}))
"""


@pytest.fixture(scope="module")
def core_alone() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(_run(_QUESTIONS, "pax-core"))
    return answers


@pytest.fixture(scope="module", params=[("pax-core", "pax-nn"), ("pax-nn", "pax-core")], ids=" ".join)
def core_and_nn(request: pytest.FixtureRequest) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(_run(_QUESTIONS, *request.param))
    return answers


@pytest.mark.parametrize("name", _ABSENT)
def test_attribute_of_an_absent_package_names_the_command(name: str, core_alone: dict[str, Any]) -> None:
    package = _ABSENT[name]
    expected = f"`pax.{name}` is in the package {package}, which is not installed: pip install {package}"
    assert core_alone["attributes"][name] == ["AttributeError", expected]


@pytest.mark.parametrize("name", _ABSENT)
def test_import_from_an_absent_package_names_the_command(name: str, core_alone: dict[str, Any]) -> None:
    package = _ABSENT[name]
    expected = f"`pax.{name}` is in the package {package}, which is not installed: pip install {package}"
    assert core_alone["imports"][name] == ["ModuleNotFoundError", expected]


def test_an_update_function_without_opax_names_the_command(core_alone: dict[str, Any]) -> None:
    expected = "`pax.build_update_fn` needs the package pax-optim, which is not installed: pip install pax-optim"
    assert core_alone["update"] == ["ModuleNotFoundError", expected]


def test_absent_names_are_no_attributes(core_alone: dict[str, Any]) -> None:
    assert core_alone["has"] == core_alone["dir"] == []


def test_star_import_takes_what_is_there(core_alone: dict[str, Any], core_and_nn: dict[str, Any]) -> None:
    assert core_alone["star"] == ["Module"]
    assert {"Module", "nn", "Linear"} <= set(core_and_nn["star"])


def test_star_import_keeps_the_builtin_filter(core_and_nn: dict[str, Any]) -> None:
    assert "filter" not in core_and_nn["star"]


def test_layers_are_found_wherever_their_package_is(core_and_nn: dict[str, Any]) -> None:
    assert core_and_nn["same"] is None
    assert core_and_nn["attributes"]["Linear"] is None
    assert core_and_nn["imports"]["Linear"] is None
    assert "Linear" in core_and_nn["dir"]


def test_another_absent_package_still_names_its_command(core_and_nn: dict[str, Any]) -> None:
    kind, text = core_and_nn["attributes"]["experimental"]
    assert kind == "AttributeError"
    assert text.endswith("pip install pax-experimental")


def test_a_name_that_never_was_is_an_ordinary_error(core_alone: dict[str, Any], core_and_nn: dict[str, Any]) -> None:
    for answers in (core_alone, core_and_nn):
        assert answers["attributes"]["Liner"] == ["AttributeError", "module 'pax' has no attribute 'Liner'"]
        kind, text = answers["imports"]["Liner"]
        assert kind == "ImportError"
        assert "cannot import name 'Liner'" in text


def test_a_name_that_an_installed_package_lacks_is_an_ordinary_error(tmp_path: Path) -> None:
    package = tmp_path / "pax" / "nn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__all__ = ['Thing']\nclass Thing: ...\n")
    code = f"""
import sys
sys.path.append({str(tmp_path)!r})
import pax
print(pax.Thing.__module__, "Thing" in dir(pax))
for name in ("Linear", "nets"):
    try:
        getattr(pax, name)
    except AttributeError as error:
        print(error)
"""
    assert _run(code, "pax-core").splitlines() == [
        "pax.nn True",
        "module 'pax' has no attribute 'Linear'",
        "module 'pax' has no attribute 'nets'",
    ]


def test_what_an_uninstallation_leaves_behind_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "pax" / "nn" / "__pycache__").mkdir(parents=True)
    code = (
        f"import sys\nsys.path.append({str(tmp_path)!r})\nimport pax\nprint(hasattr(pax, 'nn'), hasattr(pax, 'Linear'))"
    )
    assert _run(code, "pax-core") == "False False\n"


def test_a_package_without_one_that_it_needs_counts_as_absent() -> None:
    answers = json.loads(_run(_QUESTIONS, "pax-core", "pax-optim", "pax-experimental"))
    assert "apply_mp_policy" not in answers["dir"]
    kind, text = answers["attributes"]["apply_mp_policy"]
    assert kind == "AttributeError"
    assert text.endswith("pip install pax-experimental")
