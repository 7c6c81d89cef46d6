"""Fifty steps of every optimizer and transformation are those of optax."""

from collections import Counter

import pytest

from optim.trajectories import CASES, EXCUSED, public_names
from optim.trajectory import Trajectory, has_moved, largest_difference


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_it_goes_where_optax_goes(case: Trajectory) -> None:
    assert largest_difference(case) <= case.tolerance
    assert has_moved(case), "a case that stays where it is shows nothing"


@pytest.mark.parametrize("name", sorted(public_names()))
def test_a_public_name_is_compared_or_excused(name: str) -> None:
    assert (name in {case.of for case in CASES}) != (name in EXCUSED), "see tests/optim/trajectories_*.py"


def test_only_public_names_are_compared_or_excused() -> None:
    assert {case.of for case in CASES} | set(EXCUSED) <= public_names()


def test_cases_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []
