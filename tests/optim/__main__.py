"""Prints how far opax is from optax: ``PYTHONPATH=tests python -m optim``."""

from optim.trajectories import CASES, EXCUSED
from optim.trajectory import STEPS, largest_difference

print(f"| opax | optax | largest difference in {STEPS} steps | tolerance | note |\n|---|---|---|---|---|")
for case in CASES:
    found = largest_difference(case)
    mark = "" if found <= case.tolerance else " **exceeded**"
    print(f"| {case.id} | {case.counterpart} | {found:.1e}{mark} | {case.tolerance:.0e} | {case.note} |", flush=True)
print("\nNot compared:\n")
for name, reason in sorted(EXCUSED.items()):
    print(f"- {name}: {reason}")
