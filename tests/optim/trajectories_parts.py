"""Transformations for parts of the parameters."""

import optax

import opax
from optim.trajectory import Trajectory

_WEIGHT = {"bias": False, "scale": False, "weight": True}

CASES = (
    Trajectory(
        "masked",
        lambda: opax.masked(opax.scale_by_adam(), "weight"),
        lambda: optax.masked(optax.scale_by_adam(), _WEIGHT),
        optimizer=False,
        counterpart="masked",
    ),
    Trajectory(
        "partition",
        lambda: opax.partition(("weight", opax.adam(0.02)), ("bias", opax.sgd(0.2)), rest=opax.adamw(0.01)),
        lambda: optax.multi_transform(
            {"a": optax.adam(0.02), "b": optax.sgd(0.2, 0.9), "c": optax.adamw(0.01)},
            {"bias": "b", "scale": "c", "weight": "a"},
        ),
        counterpart="partition",
    ),
    Trajectory(
        "add_decayed_weights",
        lambda: opax.add_decayed_weights(0.1, "weight"),
        lambda: optax.add_decayed_weights(0.1, _WEIGHT),
        "mask",
        optimizer=False,
        counterpart="add_decayed_weights",
    ),
    Trajectory(
        "adamw",
        lambda: opax.adamw(0.02, weight_decay=0.2, mask="weight"),
        lambda: optax.adamw(0.02, weight_decay=0.2, mask=_WEIGHT),
        "mask",
        counterpart="adamw",
    ),
)
EXCUSED: dict[str, str] = {}
