"""All trajectories, and the public names without one."""

import importlib

import opax
from optim.trajectory import Trajectory

_AREAS = ("basic", "native", "optax", "parts", "wrappers")
_files = [importlib.import_module(f"optim.trajectories_{area}") for area in _AREAS]

CASES: tuple[Trajectory, ...] = tuple(case for file in _files for case in file.CASES)
EXCUSED: dict[str, str] = {name: reason for file in _files for name, reason in file.EXCUSED.items()}


def public_names() -> set[str]:
    """The functions that make transformations and optimizers."""
    return {name for module in (opax.transform, opax.optimizer) for name in module.__all__} - {"GradientTransformation"}
