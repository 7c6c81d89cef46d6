"""The catalogue is complete: a new public module class joins the contract tests, or says why not."""

import importlib
import inspect
from collections import Counter

import pytest

import pax
from conformance.catalogue import CONTRACTS, ENTRIES, EXCUSED, INSTALLED, Entry, has_argument, public_module_classes

_contracts = [importlib.import_module(f"conformance.{file}") for file in CONTRACTS]
_each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@pytest.mark.parametrize("name", sorted(public_module_classes()))
def test_a_public_module_class_is_listed_or_excused(name: str) -> None:
    listed = name in {entry.of for entry in ENTRIES}
    assert listed != (name in EXCUSED), f"add an entry for {name} to tests/conformance/entries_*.py, or excuse it"


def test_only_public_module_classes_are_listed_or_excused() -> None:
    assert {entry.of for entry in ENTRIES} | set(EXCUSED) <= public_module_classes()


def test_the_search_for_public_classes_finds_those_of_each_package() -> None:
    expected = {"pax": "pax.RngSeq", "pax.nn": "pax.nn.Linear", "opax": "opax.adam"}
    assert {name for package, name in expected.items() if package in INSTALLED} <= public_module_classes()


def test_names_of_entries_are_unique() -> None:
    assert [name for name, count in Counter(entry.name for entry in ENTRIES).items() if count > 1] == []


@_each
def test_an_entry_makes_a_module(entry: Entry) -> None:
    assert isinstance(entry.make(), pax.Module)


@_each
def test_an_entry_has_inputs_if_its_module_can_be_called(entry: Entry) -> None:
    can_be_called = callable(entry.make()) and entry.of != "opax.GradientTransformation"  # the base of what can
    assert can_be_called == (entry.inputs is not None) or "parameters" in entry.name


@_each
def test_an_entry_opts_out_of_tests_that_exist_and_says_why(entry: Entry) -> None:
    tests = {
        name.removeprefix("test_") for file in _contracts for name, _ in inspect.getmembers(file, inspect.isfunction)
    }
    assert set(entry.excused) <= tests
    assert all(len(reason) > 10 for reason in entry.excused.values())


def test_excuses_have_reasons() -> None:
    assert [name for name, reason in EXCUSED.items() if len(reason) <= 10] == []


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
@pytest.mark.parametrize("name", sorted({entry.of for entry in ENTRIES if entry.of.startswith(("pax.nn", "pax.nets"))}))
def test_the_options_of_a_layer_are_tested(name: str, option: str) -> None:
    tested = any(entry.takes(option) for entry in ENTRIES if entry.of == name)
    assert tested == has_argument(name, option), f"give an entry of {name} a `make` with `**options`"
