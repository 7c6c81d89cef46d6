"""The modules of pax-nn that are made of other modules: stacks, ensembles, ties, and reparametrised weights."""

from typing import Any

import jax
import jax.numpy as jnp

import pax
from conformance.catalogue import Entry

_KEY = jax.random.key(1)
_POWER_ITERATIONS = {
    "gradients_are_those_of_finite_differences": "gradients do not pass through the power iterations, differences do",
    "a_donated_module_is_replaced_by_the_returned_one": "`u` is computed from `v` alone: the old one is not used",
}
_KEEPS_ITS_DTYPE = {
    "the_output_has_the_promoted_dtype_of_inputs_and_weights": "the block returns the dtype it was given, as it has to"
}


class _Residual(pax.Module):
    def __init__(self, *, rng_key: jax.Array | None = None) -> None:
        super().__init__()
        self.fc = pax.nn.Linear(4, 4, rng_key=rng_key)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + jnp.tanh(self.fc(x)).astype(x.dtype)


class _Stateful(_Residual):
    def __init__(self) -> None:
        super().__init__()
        self.norm = pax.nn.BatchNorm1D(4, data_format="NWC")
        self.drop = pax.nn.Dropout(0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.drop(jnp.tanh(self.norm(self.fc(x)))).astype(x.dtype)


class _Autoencoder(pax.Module):
    def __init__(self) -> None:
        super().__init__()
        encoder, decoder = jax.random.split(_KEY)
        self.encoder = pax.nn.Linear(4, 2, rng_key=encoder)
        self.decoder = pax.nn.Linear(2, 4, rng_key=decoder)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decoder(jnp.tanh(self.encoder(x)))


def _seeded(make: Any) -> Any:
    def seeded() -> Any:
        pax.seed_rng_key(1)
        return make()

    return seeded


def _batch(*shape: int) -> Any:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


def _spectral_conv() -> Any:
    conv, own = jax.random.split(_KEY)
    return pax.nn.SpectralNorm(pax.nn.Conv2D(3, 4, 2, rng_key=conv), num_steps=2, rng_key=own)


ENTRIES = [
    Entry(
        "Stack",
        "pax.nn.Stack",
        lambda: pax.nn.Stack(_Residual, 3, rng_key=_KEY),
        _batch(2, 4),
        excused=_KEEPS_ITS_DTYPE,
    ),
    Entry(
        "Stack of stateful blocks, rematerialised",
        "pax.nn.Stack",
        _seeded(lambda: pax.nn.Stack(_Stateful, 3, remat="dots_saveable", unroll=2)),
        _batch(4, 3, 4),
        stateful=True,
        excused=_KEEPS_ITS_DTYPE,
    ),
    Entry(
        "Ensemble",
        "pax.nn.Ensemble",
        lambda: pax.nn.Ensemble(_Residual, 3, rng_key=_KEY),
        _batch(2, 4),
        excused=_KEEPS_ITS_DTYPE,
    ),
    Entry(
        "Ensemble of stateful members",
        "pax.nn.Ensemble",
        _seeded(lambda: pax.nn.Ensemble(_Stateful, 2)),
        _batch(4, 3, 4),
        stateful=True,
        excused=_KEEPS_ITS_DTYPE,
    ),
    Entry("Remat", "pax.nn.Remat", lambda: pax.nn.remat(pax.nn.Linear(4, 3, rng_key=_KEY)), _batch(2, 4)),
    Entry(
        "Remat of a stateful module",
        "pax.nn.Remat",
        _seeded(lambda: pax.nn.remat(_Stateful(), policy=("kept",), prevent_cse=False)),
        _batch(4, 3, 4),
        stateful=True,
        excused=_KEEPS_ITS_DTYPE,
    ),
    Entry(
        "Tied",
        "pax.nn.Tied",
        lambda: pax.nn.Tied(_Autoencoder(), {"decoder.weight": "encoder.weight.T"}),
        _batch(2, 4),
    ),
    Entry(
        "SpectralNorm",
        "pax.nn.SpectralNorm",
        _seeded(lambda: pax.nn.SpectralNorm(pax.nn.Linear(4, 3))),
        _batch(2, 4),
        stateful=True,
        excused=_POWER_ITERATIONS,
    ),
    Entry(
        "SpectralNorm of a Conv2D",
        "pax.nn.SpectralNorm",
        _spectral_conv,
        _batch(2, 4, 4, 3),
        stateful=True,
        excused=_POWER_ITERATIONS,
    ),
    Entry(
        "WeightNorm",
        "pax.nn.WeightNorm",
        lambda: pax.nn.WeightNorm(pax.nn.Linear(4, 3, rng_key=_KEY)),
        _batch(2, 4),
    ),
    Entry(
        "WeightNorm of a Conv2D",
        "pax.nn.WeightNorm",
        lambda: pax.nn.WeightNorm(pax.nn.Conv2D(3, 4, 2, rng_key=_KEY)),
        _batch(2, 4, 4, 3),
    ),
]
