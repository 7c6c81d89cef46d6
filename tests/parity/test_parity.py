"""Layers and networks compute what those of PyTorch, Haiku and Flax NNX compute, forward and backward."""

from collections import Counter

import pytest

from parity.case import PEERS, Case, compare, has
from parity.table import CASES, EXCUSED, public_names


@pytest.mark.parametrize(
    ("case", "dtype"), [pytest.param(case, dtype, id=f"{case.id}, {dtype}") for case in CASES for dtype in case.dtypes]
)
def test_a_layer_computes_what_the_peer_computes(case: Case, dtype: str) -> None:
    if not has(case.peer):
        pytest.skip(f"{PEERS[case.peer]} is not installed")
    errors = compare(case, dtype)
    assert errors.forward <= case.tolerance(dtype), f"the outputs differ by {errors.forward}"
    assert errors.backward <= case.tolerance(dtype), f"the gradients differ by {errors.backward}"


@pytest.mark.parametrize("name", sorted(public_names()))
def test_a_public_layer_is_compared_or_excused(name: str) -> None:
    compared = name in {case.of for case in CASES}
    assert compared != (name in EXCUSED), f"add a case of {name} to tests/parity/cases_*.py, or excuse it"


def test_only_public_names_are_compared_or_excused() -> None:
    assert {case.of for case in CASES} | set(EXCUSED) <= public_names()


def test_cases_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []


def test_excuses_have_reasons() -> None:
    assert [name for name, reason in EXCUSED.items() if len(reason) <= 10] == []
