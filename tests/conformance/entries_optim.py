"""The transformations and optimizers of pax-optim."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

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
]

EXCUSED: dict[str, str] = {}
