"""The optimizers that optax computes as a whole, or nearly so."""

import jax
import optax
import optax.contrib

import opax
from optim.trajectory import Trajectory


def _matrices(params: object) -> object:
    return jax.tree.map(lambda p: p.ndim > 1, params)


CASES = (
    Trajectory("from_optax", lambda: opax.from_optax(optax.adan, 0.05), lambda: optax.adan(0.05), counterpart="adan"),
    Trajectory(
        "from_optax",
        lambda: opax.from_optax(optax.scale_by_yogi, negate=False),
        optax.scale_by_yogi,
        "without learning rate",
        optimizer=False,
        counterpart="scale_by_yogi",
    ),
    Trajectory(
        "from_optax",
        lambda: opax.chain(opax.clip(0.05), opax.from_optax(optax.adamw(0.05, weight_decay=0.1))),
        lambda: optax.chain(optax.clip(0.05), optax.adamw(0.05, weight_decay=0.1)),
        "in a chain",
        counterpart="chain",
    ),
    Trajectory("lion", lambda: opax.lion(0.02), lambda: optax.lion(0.02), counterpart="lion"),
    Trajectory(
        "lion",
        lambda: opax.lion(0.02, 0.8, 0.95, 0.5, mask=lambda p: p.ndim > 1),
        lambda: optax.lion(0.02, 0.8, 0.95, weight_decay=0.5, mask=_matrices),
        "with a mask",
        counterpart="lion",
    ),
    Trajectory(
        "lamb",
        lambda: opax.lamb(0.05, weight_decay=0.1),
        lambda: optax.lamb(0.05, weight_decay=0.1),
        counterpart="lamb",
    ),
    Trajectory(
        "lars",
        lambda: opax.lars(5.0, weight_decay=0.1),
        lambda: optax.lars(5.0, weight_decay=0.1),
        counterpart="lars",
    ),
    Trajectory(
        "lars",
        lambda: opax.lars(
            0.5, 0.8, 0.01, 1e-6, nesterov=True, mask=lambda p: p.ndim > 1, trust_mask=lambda p: p.ndim > 1
        ),
        lambda: optax.lars(
            0.5,
            momentum=0.8,
            trust_coefficient=0.01,
            eps=1e-6,
            nesterov=True,
            weight_decay_mask=_matrices,
            trust_ratio_mask=_matrices,
        ),
        "with masks and Nesterov",
        counterpart="lars",
    ),
    Trajectory("adagrad", lambda: opax.adagrad(0.2), lambda: optax.adagrad(0.2), counterpart="adagrad"),
    Trajectory("adadelta", opax.adadelta, lambda: optax.adadelta(1.0), counterpart="adadelta"),
    Trajectory(
        "adadelta",
        lambda: opax.adadelta(0.5, 0.8, 1e-3, 0.1),
        lambda: optax.adadelta(0.5, 0.8, 1e-3, 0.1),
        "with weight decay",
        counterpart="adadelta",
    ),
    Trajectory("adafactor", lambda: opax.adafactor(0.1), lambda: optax.adafactor(0.1), counterpart="adafactor"),
    Trajectory(
        "adafactor",
        lambda: opax.adafactor(
            0.02, 2, 0.7, False, clipping_threshold=None, momentum=0.9, weight_decay=0.01, mask=lambda p: p.ndim > 1
        ),
        lambda: optax.adafactor(
            0.02,
            2,
            0.7,
            multiply_by_parameter_scale=False,
            clipping_threshold=None,
            momentum=0.9,
            weight_decay_rate=0.01,
            weight_decay_mask=_matrices,
        ),
        "factored, with all options",
        counterpart="adafactor",
    ),
    Trajectory("nadam", lambda: opax.nadam(0.05), lambda: optax.nadam(0.05), counterpart="nadam"),
    Trajectory(
        "nadamw",
        lambda: opax.nadamw(0.05, weight_decay=0.1),
        lambda: optax.nadamw(0.05, weight_decay=0.1),
        counterpart="nadamw",
    ),
    Trajectory("radam", lambda: opax.radam(0.05), lambda: optax.radam(0.05), counterpart="radam"),
    Trajectory("amsgrad", lambda: opax.amsgrad(0.05), lambda: optax.amsgrad(0.05), counterpart="amsgrad"),
    Trajectory("adabelief", lambda: opax.adabelief(0.05), lambda: optax.adabelief(0.05), counterpart="adabelief"),
    Trajectory("adamax", lambda: opax.adamax(0.05), lambda: optax.adamax(0.05), counterpart="adamax"),
    Trajectory(
        "muon",
        lambda: opax.muon(0.02, weight_decay=0.1),
        lambda: optax.contrib.muon(0.02, weight_decay=0.1, adam_weight_decay=0.1),
        counterpart="contrib.muon",
    ),
    Trajectory(
        "schedule_free",
        lambda: opax.schedule_free(opax.sgd(0.2, 0.0), 0.2),
        lambda: optax.contrib.schedule_free(optax.sgd(0.2), 0.2),
        counterpart="contrib.schedule_free",
    ),
    Trajectory(
        "schedule_free",
        lambda: opax.schedule_free(optax.adamw(0.05, b1=0.0), 0.05, 0.95, 1.0),
        lambda: optax.contrib.schedule_free(optax.adamw(0.05, b1=0.0), 0.05, 0.95, 1.0),
        "with Adam of optax",
        counterpart="contrib.schedule_free",
    ),
)
EXCUSED: dict[str, str] = {}
