"""Transformations around others."""

from typing import Any, NamedTuple

import optax

import opax
from optim.trajectory import Trajectory


class _Pair(NamedTuple):
    state: Any
    slow: Any


def _lookahead(fast: optax.GradientTransformation, period: int, size: float) -> optax.GradientTransformation:
    """Returns optax's ``lookahead`` as a transformation of the fast parameters alone, the slow ones in its state."""
    inner = optax.lookahead(fast, period, size)

    def init(params: Any) -> _Pair:
        return _Pair(inner.init(optax.LookaheadParams.init_synced(params)), params)

    def update(updates: Any, pair: Any, params: Any = None) -> tuple[Any, _Pair]:
        both, state = inner.update(updates, pair.state, optax.LookaheadParams(params, pair.slow))
        assert isinstance(both, optax.LookaheadParams)
        return both.fast, _Pair(state, optax.apply_updates(pair.slow, both.slow))

    return optax.GradientTransformation(init, update)


def _every(step: Any) -> Any:
    return 1 + step // 4


CASES = (
    Trajectory(
        "multi_steps",
        lambda: opax.multi_steps(opax.adam(0.1), 3),
        lambda: optax.MultiSteps(optax.adam(0.1), 3).gradient_transformation(),
        counterpart="MultiSteps",
    ),
    Trajectory(
        "multi_steps",
        lambda: opax.multi_steps(opax.sgd(0.2), _every),
        lambda: optax.MultiSteps(optax.sgd(0.2, 0.9), _every).gradient_transformation(),
        "with a schedule",
        counterpart="MultiSteps",
    ),
    Trajectory(
        "multi_steps",
        lambda: opax.multi_steps(opax.chain(opax.clip_by_global_norm(0.1), opax.adamw(0.1)), 2),
        lambda: optax.MultiSteps(
            optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1)), 2
        ).gradient_transformation(),
        "of a chain",
        counterpart="MultiSteps",
    ),
    Trajectory(
        "apply_if_finite",
        lambda: opax.apply_if_finite(opax.adam(0.05), 3),
        lambda: optax.apply_if_finite(optax.adam(0.05), 3),
        counterpart="apply_if_finite",
    ),
    Trajectory(
        "lookahead",
        lambda: opax.lookahead(opax.sgd(0.1)),
        lambda: _lookahead(optax.sgd(0.1, 0.9), 6, 0.5),
        counterpart="lookahead",
    ),
    Trajectory(
        "lookahead",
        lambda: opax.lookahead(opax.adam(0.05), sync_period=4, slow_step_size=0.8),
        lambda: _lookahead(optax.adam(0.05), 4, 0.8),
        "of Adam",
        counterpart="lookahead",
    ),
    Trajectory(
        "params_ema",
        lambda: opax.chain(opax.adam(0.05), opax.params_ema(0.9)),
        lambda: optax.adam(0.05),
        "which changes no update",
        counterpart="ema",
        note="the average itself is compared in test_average.py",
    ),
)
EXCUSED: dict[str, str] = {}
