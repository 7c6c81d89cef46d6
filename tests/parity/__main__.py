"""Prints the table of all comparisons: ``PYTHONPATH=tests python -m parity [words that a case's name contains]``."""

import sys

from parity.case import compare, has
from parity.table import CASES, EXCUSED


def main(words: list[str]) -> None:
    """Runs the cases whose peer is installed."""
    print("| layer | configuration | peer | dtype | largest error forward | backward | tolerance |")
    print("|---|---|---|---|---|---|---|")
    for case in sorted(CASES, key=lambda case: (case.of, case.variant)):
        if not has(case.peer) or not all(word in case.id for word in words):
            continue
        for dtype in case.dtypes:
            errors = compare(case, dtype)
            numbers = f"{errors.forward:.1e} | {errors.backward:.1e} | {case.tolerance(dtype):.0e}"
            mark = "" if max(errors.forward, errors.backward) <= case.tolerance(dtype) else " **exceeded**"
            print(f"| {case.of} | {case.variant} | {case.peer} | {dtype} | {numbers}{mark} |", flush=True)
    if not words:
        print("\nNot compared:\n")
        for name, reason in sorted(EXCUSED.items()):
            print(f"- {name}: {reason}")


main(sys.argv[1:])
