"""The transformations and optimizers of pax-optim."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import opax
from conformance.catalogue import Entry
from helpers.modules import Linear


def _params() -> Any:
    return Linear(2, 3).parameters()


def _gradients_and_params() -> tuple[Any, ...]:
    params = _params()
    return jax.tree.map(lambda leaf: jnp.linspace(-1.0, 2.0, leaf.size).reshape(leaf.shape), params), params


# Moments are modules of the class of the parameters: whoever freezes the optimizer freezes these, and gradients do not
# have their structure any more.
_MOMENTS_LIKE_PARAMETERS = {
    "frozen_modules_compute_the_same": "the moments have the structure of the parameters, which freezing changes"
}


def _optimizer(name: str, make: Callable[[], Any], *, stateful: bool, moments: bool = False) -> Entry:
    return Entry(
        name,
        f"opax.{name.split()[0]}",
        lambda: make()(_params()),
        _gradients_and_params,
        stateful=stateful,
        excused=_MOMENTS_LIKE_PARAMETERS if moments else {},
    )


def _example_gradients_and_params() -> tuple[Any, ...]:
    grads, params = _gradients_and_params()
    return jax.tree.map(lambda g: jnp.stack([g, 0.5 * g, -g]), grads), params


def _half(count: jax.Array) -> jax.Array:
    return 0.5 / count.astype(jnp.float32)


ENTRIES = [
    Entry("GradientTransformation", "opax.GradientTransformation", lambda: opax.GradientTransformation(_params())),
    _optimizer("identity", lambda: opax.identity(), stateful=False),
    _optimizer("scale", lambda: opax.scale(0.1), stateful=False),
    _optimizer("clip", lambda: opax.clip(0.5), stateful=False),
    _optimizer("clip_by_global_norm", lambda: opax.clip_by_global_norm(1.0), stateful=True),
    _optimizer("add_decayed_weights", lambda: opax.add_decayed_weights(0.1), stateful=False),
    _optimizer("trace", lambda: opax.trace(0.9), stateful=True, moments=True),
    _optimizer("scale_by_schedule", lambda: opax.scale_by_schedule(_half), stateful=True),
    _optimizer("scale_by_adam", lambda: opax.scale_by_adam(), stateful=True, moments=True),
    _optimizer("chain", lambda: opax.chain(opax.trace(0.9), opax.scale(0.1)), stateful=True, moments=True),
    _optimizer("sgd", lambda: opax.sgd(0.1), stateful=True, moments=True),
    _optimizer("sgd with momentum", lambda: opax.sgd(0.1, 0.9), stateful=True, moments=True),
    _optimizer("adam", lambda: opax.adam(0.1), stateful=True, moments=True),
    _optimizer("adamw", lambda: opax.adamw(0.1, weight_decay=0.1), stateful=True, moments=True),
    _optimizer("clip_by_block_rms", lambda: opax.clip_by_block_rms(0.5), stateful=False),
    _optimizer("adaptive_clip", lambda: opax.adaptive_clip(0.1), stateful=False),
    _optimizer("centralize", lambda: opax.centralize(), stateful=False),
    _optimizer("add_noise", lambda: opax.add_noise(0.1, 0.5, 0), stateful=True),
    _optimizer("ema", lambda: opax.ema(0.9), stateful=True, moments=True),
    _optimizer("scale_by_rms", lambda: opax.scale_by_rms(), stateful=True, moments=True),
    _optimizer("scale_by_stddev", lambda: opax.scale_by_stddev(), stateful=True, moments=True),
    Entry(
        "differentially_private_aggregate",
        "opax.differentially_private_aggregate",
        lambda: opax.differentially_private_aggregate(1.0, 0.5, 0)(_params()),
        _example_gradients_and_params,
        stateful=True,
    ),
    _optimizer("from_optax", lambda: opax.from_optax(optax.adam, 0.1), stateful=True, moments=True),
    _optimizer("masked", lambda: opax.masked(opax.trace(0.9), "weight"), stateful=True, moments=True),
    _optimizer(
        "partition", lambda: opax.partition(("weight", opax.adam(0.1)), rest=opax.sgd(0.1)), stateful=True, moments=True
    ),
    _optimizer("multi_steps", lambda: opax.multi_steps(opax.adam(0.1), 2), stateful=True, moments=True),
    _optimizer("apply_if_finite", lambda: opax.apply_if_finite(opax.adam(0.1), 3), stateful=True, moments=True),
    _optimizer("lookahead", lambda: opax.lookahead(opax.sgd(0.1)), stateful=True, moments=True),
    _optimizer("params_ema", lambda: opax.params_ema(0.9), stateful=True, moments=True),
    _optimizer("rmsprop", lambda: opax.rmsprop(0.1, centered=True, momentum=0.9), stateful=True, moments=True),
    _optimizer("adabelief", lambda: opax.adabelief(0.1), stateful=True, moments=True),
    _optimizer("adadelta", lambda: opax.adadelta(0.1), stateful=True, moments=True),
    _optimizer("adafactor", lambda: opax.adafactor(0.1), stateful=True, moments=True),
    _optimizer("adagrad", lambda: opax.adagrad(0.1), stateful=True, moments=True),
    _optimizer("adamax", lambda: opax.adamax(0.1), stateful=True, moments=True),
    _optimizer("amsgrad", lambda: opax.amsgrad(0.1), stateful=True, moments=True),
    _optimizer("lamb", lambda: opax.lamb(0.1), stateful=True, moments=True),
    _optimizer("lars", lambda: opax.lars(0.1), stateful=True, moments=True),
    _optimizer("lion", lambda: opax.lion(0.1), stateful=True, moments=True),
    _optimizer("muon", lambda: opax.muon(0.1), stateful=True, moments=True),
    _optimizer("nadam", lambda: opax.nadam(0.1), stateful=True, moments=True),
    _optimizer("nadamw", lambda: opax.nadamw(0.1), stateful=True, moments=True),
    _optimizer("radam", lambda: opax.radam(0.1), stateful=True, moments=True),
    _optimizer("schedule_free", lambda: opax.schedule_free(opax.sgd(0.1), 0.1), stateful=True, moments=True),
]

EXCUSED: dict[str, str] = {}
