"""The layers of pax-nn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import pax
from conformance.catalogue import Entry
from conformance.entries_nets_resnet import ENTRIES as _RESNET_ENTRIES
from conformance.entries_nets_resnet import EXCUSED as _RESNET_EXCUSED
from conformance.entries_nets_transformer import ENTRIES as _TRANSFORMER_ENTRIES
from conformance.entries_nn_attention import ENTRIES as _ATTENTION_ENTRIES
from conformance.entries_nn_conv import ENTRIES as _CONV_ENTRIES
from conformance.entries_nn_norm import ENTRIES as _NORM_ENTRIES
from conformance.entries_nn_recurrent import ENTRIES as _RECURRENT_ENTRIES
from conformance.entries_nn_structure import ENTRIES as _STRUCTURE_ENTRIES

_KEY = jax.random.key(1)
_AVERAGES_KEEP_THEIR_DTYPE = {
    "the_output_has_the_promoted_dtype_of_inputs_and_weights": "a call returns the averages, in their own dtype"
}


def _normal(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


def _dropout() -> Any:
    pax.seed_rng_key(1)
    return pax.nn.Dropout(0.5)


def _sequential() -> Any:
    first, second = jax.random.split(jax.random.key(1))
    return pax.nn.Sequential(
        pax.nn.Linear(3, 4, rng_key=first),
        pax.nn.BatchNorm1D(4, data_format="NWC"),
        jax.nn.relu,
        pax.nn.Linear(4, 2, rng_key=second),
    )


ENTRIES = [
    *_CONV_ENTRIES,
    *_RESNET_ENTRIES,
    *_TRANSFORMER_ENTRIES,
    *_ATTENTION_ENTRIES,
    *_NORM_ENTRIES,
    *_RECURRENT_ENTRIES,
    *_STRUCTURE_ENTRIES,
    Entry("Linear", "pax.nn.Linear", lambda **options: pax.nn.Linear(3, 2, rng_key=_KEY, **options), _normal(4, 3)),
    Entry("Linear without bias", "pax.nn.Linear", lambda: pax.nn.Linear(3, 2, False, rng_key=_KEY), _normal(4, 3)),
    Entry("Dropout", "pax.nn.Dropout", _dropout, _normal(4, 3), stateful=True),
    Entry("Sequential", "pax.nn.Sequential", _sequential, _normal(4, 5, 3), stateful=True),
    Entry("Lambda", "pax.nn.Lambda", lambda: pax.nn.Lambda(jax.nn.relu), _normal(4, 3)),
    Entry("Identity", "pax.nn.Identity", pax.nn.Identity, _normal(4, 3)),
    Entry(
        "EMA",
        "pax.nn.EMA",
        lambda: pax.nn.EMA(jnp.ones(3), 0.9),
        _normal(3),
        stateful=True,
        excused=_AVERAGES_KEEP_THEIR_DTYPE,
    ),
    Entry(
        "EMA of a tree, debiased",
        "pax.nn.EMA",
        lambda: pax.nn.EMA({"a": jnp.zeros(2), "b": [jnp.ones(())]}, 0.5, debias=True),
        lambda: ({"a": jnp.array([1.0, 2.0]), "b": [jnp.array(3.0)]},),
        stateful=True,
        excused=_AVERAGES_KEEP_THEIR_DTYPE,
    ),
]

EXCUSED: dict[str, str] = {**_RESNET_EXCUSED}
