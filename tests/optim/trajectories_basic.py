"""The optimizers and transformations that opax always had."""

import optax

import opax
from optim.trajectory import Trajectory

CASES = (
    Trajectory("sgd", lambda: opax.sgd(0.1, 0.9), lambda: optax.sgd(0.1, 0.9), counterpart="sgd"),
    Trajectory("sgd", lambda: opax.sgd(0.1, 0.0), lambda: optax.sgd(0.1), "without momentum", counterpart="sgd"),
    Trajectory("adam", lambda: opax.adam(0.05), lambda: optax.adam(0.05), counterpart="adam"),
    Trajectory(
        "adamw",
        lambda: opax.adamw(0.05, weight_decay=0.1),
        lambda: optax.adamw(0.05, weight_decay=0.1),
        counterpart="adamw",
    ),
    Trajectory("identity", opax.identity, optax.identity, optimizer=False, counterpart="identity"),
    Trajectory("scale", lambda: opax.scale(0.3), lambda: optax.scale(0.3), optimizer=False, counterpart="scale"),
    Trajectory("trace", lambda: opax.trace(0.9), lambda: optax.trace(0.9), optimizer=False, counterpart="trace"),
    Trajectory("clip", lambda: opax.clip(0.05), lambda: optax.clip(0.05), optimizer=False, counterpart="clip"),
    Trajectory(
        "clip_by_global_norm",
        lambda: opax.clip_by_global_norm(0.2),
        lambda: optax.clip_by_global_norm(0.2),
        optimizer=False,
        counterpart="clip_by_global_norm",
    ),
    Trajectory(
        "scale_by_adam",
        lambda: opax.scale_by_adam(0.8, 0.95, 1e-6, 1e-9),
        lambda: optax.scale_by_adam(0.8, 0.95, 1e-6, 1e-9),
        optimizer=False,
        counterpart="scale_by_adam",
    ),
    Trajectory(
        "add_decayed_weights",
        lambda: opax.add_decayed_weights(0.1),
        lambda: optax.add_decayed_weights(0.1),
        optimizer=False,
        counterpart="add_decayed_weights",
    ),
    Trajectory(
        "chain",
        lambda: opax.chain(opax.clip_by_global_norm(0.2), opax.adam(0.05)),
        lambda: optax.chain(optax.clip_by_global_norm(0.2), optax.adam(0.05)),
        counterpart="chain",
    ),
)
EXCUSED = {"scale_by_schedule": "the first step has count 1 here and count 0 in optax; see test_scale.py"}
