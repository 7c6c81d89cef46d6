"""The other optimizers and transformations that opax has itself."""

import optax

import opax
from optim.trajectory import Trajectory


def _like_rmsprop(scale_by: optax.GradientTransformation, momentum: float) -> optax.GradientTransformation:
    # optax.rmsprop has the momentum before the learning rate.
    return optax.chain(scale_by, optax.scale(-0.02), optax.trace(momentum))


_MOMENTUM_LAST = "optax.rmsprop has the momentum before the learning rate; compared with its parts in our order"

CASES = (
    Trajectory(
        "sgd",
        lambda: opax.sgd(0.1, 0.9, nesterov=True),
        lambda: optax.sgd(0.1, 0.9, nesterov=True),
        "Nesterov",
        counterpart="sgd",
    ),
    Trajectory(
        "trace",
        lambda: opax.trace(0.9, nesterov=True),
        lambda: optax.trace(0.9, nesterov=True),
        "Nesterov",
        optimizer=False,
        counterpart="trace",
    ),
    Trajectory("rmsprop", lambda: opax.rmsprop(0.02), lambda: optax.rmsprop(0.02, eps=1e-8), counterpart="rmsprop"),
    Trajectory(
        "rmsprop",
        lambda: opax.rmsprop(0.02, 0.8, 1e-4, 0.5, centered=True),
        lambda: optax.rmsprop(0.02, 0.8, 1e-4, 0.5, centered=True),
        "centered",
        counterpart="rmsprop",
    ),
    Trajectory(
        "rmsprop",
        lambda: opax.rmsprop(0.02, momentum=0.7),
        lambda: _like_rmsprop(optax.scale_by_rms(), 0.7),
        "with momentum",
        counterpart="chain of scale_by_rms, scale, trace",
        note=_MOMENTUM_LAST,
    ),
    Trajectory(
        "rmsprop",
        lambda: opax.rmsprop(0.02, eps=1e-4, centered=True, momentum=0.7),
        lambda: _like_rmsprop(optax.scale_by_stddev(eps=1e-4), 0.7),
        "centered, with momentum",
        counterpart="chain of scale_by_stddev, scale, trace",
        note=_MOMENTUM_LAST,
    ),
    Trajectory(
        "scale_by_rms",
        lambda: opax.scale_by_rms(0.8, 1e-6, 0.3),
        lambda: optax.scale_by_rms(0.8, 1e-6, 0.3),
        optimizer=False,
        counterpart="scale_by_rms",
    ),
    Trajectory(
        "scale_by_stddev",
        lambda: opax.scale_by_stddev(0.8, 1e-4, 0.3),
        lambda: optax.scale_by_stddev(0.8, 1e-4, 0.3),
        optimizer=False,
        counterpart="scale_by_stddev",
    ),
    Trajectory("ema", lambda: opax.ema(0.9), lambda: optax.ema(0.9), optimizer=False, counterpart="ema"),
    Trajectory(
        "ema",
        lambda: opax.ema(0.9, debias=False),
        lambda: optax.ema(0.9, debias=False),
        "biased",
        optimizer=False,
        counterpart="ema",
    ),
    Trajectory(
        "add_noise",
        lambda: opax.add_noise(0.1, 0.55, 3),
        lambda: optax.add_noise(0.1, 0.55, 3),
        optimizer=False,
        counterpart="add_noise",
    ),
    Trajectory(
        "clip_by_block_rms",
        lambda: opax.clip_by_block_rms(0.05),
        lambda: optax.clip_by_block_rms(0.05),
        optimizer=False,
        counterpart="clip_by_block_rms",
    ),
    Trajectory(
        "adaptive_clip",
        lambda: opax.adaptive_clip(0.05, 0.01),
        lambda: optax.adaptive_grad_clip(0.05, 0.01),
        optimizer=False,
        counterpart="adaptive_grad_clip",
    ),
    Trajectory("centralize", opax.centralize, optax.centralize, optimizer=False, counterpart="centralize"),
)
EXCUSED = {
    "differentially_private_aggregate": "its updates have a batch axis; test_privacy.py compares 50 steps with optax's"
}
