"""The modules of pax-experimental, and modules with what it adds."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import opax
import pax
from conformance.catalogue import Entry
from conformance.entries_mlax import ENTRIES as _MLAX_ENTRIES
from conformance.entries_parallax import ENTRIES as _PARALLAX_ENTRIES
from pax import nn
from pax.experimental import Flattener, LazyModule, default_mp_policy
from pax.experimental.graph import GraphModule, build_graph_module


@dataclass
class LazyMLP(LazyModule):
    """Creates a layer for each size, and a dropout."""

    features: tuple[int, ...]

    def __call__(self, x: jax.Array) -> jax.Array:
        for index, size in enumerate(self.features):
            width = x.shape[-1]
            x = self.get_or_create(f"fc{index}", lambda: nn.Linear(width, size))(x)  # noqa: B023, called at once
        dropout: Any = self.get_or_create("dropout", lambda: nn.Dropout(0.5))
        y: jax.Array = dropout(x)
        return y


def _seeded(make: Any) -> Any:
    def seeded() -> Any:
        pax.seed_rng_key(0)
        return make()

    return seeded


def _flattener() -> Flattener:
    net = nn.Linear(3, 2)
    return Flattener(model=net, optimizer=opax.adam(1e-3)(net.parameters()), step=jnp.array(0))


def _graph() -> GraphModule:
    def block(x: Any, y: Any) -> Any:
        x = (x >> nn.Linear(3, 3) >> jax.nn.relu) | x
        return ((x >> jax.lax.add) & y) >> sum

    return build_graph_module(block)(jnp.ones((2, 3)), jnp.ones((2, 3)))


def _stateful_graph() -> GraphModule:
    return build_graph_module(lambda x: x >> nn.BatchNorm1D(3) >> nn.Dropout(0.5))(jnp.ones((2, 4, 3)))


def _batch() -> tuple[Any, ...]:
    return (jnp.array([[1.0, -2.0, 0.5], [0.5, 3.0, -1.0]]),)


def _two() -> tuple[Any, ...]:
    return _batch() + _batch()


def _sequences() -> tuple[Any, ...]:
    return (jnp.arange(24.0).reshape(2, 4, 3) / 10,)


_NO_PARAMETERS = dict.fromkeys(
    (
        "parameters_are_idempotent",
        "parameters_are_some_of_the_leaves",
        "updating_by_its_own_parameters_changes_nothing",
        "updated_parameters_arrive",
        "freezing_leaves_no_parameters_and_can_be_undone",
        "partition_and_combine_give_an_equal_module",
    ),
    "`parameters()` of a flattener is an error",
)
_OWN_DTYPES = dict.fromkeys(
    (
        "parameters_start_in_the_default_float_dtype",
        "the_output_has_the_promoted_dtype_of_inputs_and_weights",
        "forward_mode_agrees_with_reverse_mode",
        "gradients_are_those_of_finite_differences",
    ),
    "a policy says which dtypes there are; these are not float64",
)
_ROUNDED = dict.fromkeys(
    (
        "jit_computes_what_python_computes",
        "a_scan_computes_what_a_loop_computes",
        "vmap_over_inputs_computes_what_single_calls_compute",
        "vmap_over_modules_computes_what_single_calls_compute",
    ),
    "XLA leaves roundings to bfloat16 out where it can",
)

ENTRIES = [
    Entry("Flattener", "pax.experimental.Flattener", _seeded(_flattener), excused=_NO_PARAMETERS),
    Entry(
        "LazyModule",
        "pax.experimental.LazyModule",
        _seeded(lambda: LazyMLP((4, 2)).init(*_batch())),
        _batch,
        stateful=True,
    ),
    Entry("GraphModule", "pax.experimental.graph.GraphModule", _seeded(_graph), _two),
    Entry(
        "GraphModule, stateful",
        "pax.experimental.graph.GraphModule",
        _seeded(_stateful_graph),
        _sequences,
        stateful=True,
    ),
    Entry(
        "Linear with a policy",
        "pax.nn.Linear",
        _seeded(lambda: pax.apply_mp_policy(nn.Linear(3, 2), "p=f32,c=bf16,o=f32")),
        _batch,
        excused=_OWN_DTYPES | _ROUNDED,
    ),
    Entry(
        "BatchNorm1D with a policy",
        "pax.nn.BatchNorm1D",
        _seeded(lambda: pax.apply_mp_policy(nn.BatchNorm1D(3), "full")),
        _sequences,
        stateful=True,
        excused=_OWN_DTYPES,
    ),
    Entry(
        "a net with the default policies",
        "pax.nn.Sequential",
        _seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4), nn.Dropout(0.5)).apply(default_mp_policy)),
        _sequences,
        stateful=True,
        excused=_OWN_DTYPES,
    ),
    *_MLAX_ENTRIES,
    *_PARALLAX_ENTRIES,
]

EXCUSED: dict[str, str] = {}
