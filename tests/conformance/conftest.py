"""What the files of tests that run for every entry share: the entries, without those that a test excuses."""

import jax
import pytest

from conformance.catalogue import ENTRIES, Entry

_CALLABLE = [entry for entry in ENTRIES if entry.inputs]
_LAYERS = [entry for entry in _CALLABLE if entry.of.startswith(("pax.nn.", "pax.nets."))]


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request: pytest.FixtureRequest) -> Entry:
    return _unless_excused(request)


@pytest.fixture(params=_CALLABLE, ids=lambda entry: entry.name)
def callable_entry(request: pytest.FixtureRequest) -> Entry:
    return _unless_excused(request)


@pytest.fixture(params=_LAYERS, ids=lambda entry: entry.name)
def layer(request: pytest.FixtureRequest) -> Entry:
    """A layer or network of ours that can be called."""
    return _unless_excused(request)


@pytest.fixture(params=[entry for entry in _LAYERS if entry.takes("dtype")], ids=lambda entry: entry.name)
def layer_with_dtype(request: pytest.FixtureRequest) -> Entry:
    """A layer of which the dtype of computation can be chosen."""
    return _unless_excused(request)


@pytest.fixture(params=[entry for entry in _LAYERS if entry.takes("param_dtype")], ids=lambda entry: entry.name)
def layer_with_param_dtype(request: pytest.FixtureRequest) -> Entry:
    """A layer of which the dtype of the stored weights can be chosen."""
    return _unless_excused(request)


def _unless_excused(request: pytest.FixtureRequest) -> Entry:
    found: Entry = request.param
    reason = found.excused.get(request.function.__name__.removeprefix("test_"))
    if reason is not None:
        pytest.skip(reason)
    if not found.of.startswith("opax."):  # the maths of optax relies on implicit promotion
        jax.config.update("jax_numpy_dtype_promotion", "strict")  # set back by the fixture `_strict_jax` of all tests
    return found
