"""Runs the tests of every entry and prints the conformance grid: ``PYTHONPATH=tests python -m conformance``.

A line for each property: of how many entries it was checked, in how many tests, how many of them failed, and how many
entries are excused. Arguments are those of pytest; with ``--collect-only`` nothing runs and nothing fails.
"""

import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest


class Grid:
    """A plugin of pytest that counts entries and tests by property."""

    def __init__(self) -> None:
        self.checked: defaultdict[str, set[str]] = defaultdict(set)
        self.excused: defaultdict[str, set[str]] = defaultdict(set)
        self.tests: defaultdict[str, int] = defaultdict(int)
        self.failed: set[str] = set()
        self._properties: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Keeps the tests of entries, and counts them."""
        others = []
        for item in items.copy():
            # By the name of the class: JAX must not be imported before the settings in `conftest.py`.
            values = item.callspec.params.values() if hasattr(item, "callspec") else ()
            entry = next((value for value in values if type(value).__name__ == "Entry"), None)
            if entry is None:
                others.append(item)
                items.remove(item)
                continue
            name = item.originalname.removeprefix("test_")
            self._properties[item.nodeid] = name
            self.tests[name] += 1
            (self.excused if name in entry.excused else self.checked)[name].add(entry.name)
        config.hook.pytest_deselected(items=others)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a failure."""
        if report.failed:
            self.failed.add(report.nodeid)

    def __str__(self) -> str:
        failures = [self._properties[test] for test in self.failed if test in self._properties]
        rows: list[tuple[str, ...]] = [("property", "entries", "tests", "failed", "excused")]
        for name, tests in self.tests.items():
            counts = len(self.checked[name]), tests, failures.count(name), len(self.excused[name])
            rows.append((name.replace("_", " "), *map(str, counts)))
        rows.append(("all", "", str(sum(self.tests.values())), str(len(failures)), ""))
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)


def main(arguments: list[str]) -> int:
    """Runs pytest on this directory and prints the grid."""
    grid = Grid()
    here = str(Path(__file__).parent)
    status = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *arguments, here], plugins=[grid])
    versions = f"Python {sys.version.split()[0]}, JAX {version('jax')}"
    print(f"\n{versions}\n\n{grid}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
