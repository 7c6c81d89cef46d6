"""Which random keys a constructor uses: how many global ones, whether it takes both kinds, and what it draws from them.

The reference values are those of the original with seed 42, of the layers whose distribution has not changed.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax


def _constructor(name: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
    def construct(**more: Any) -> Any:
        found: Any = pax
        for part in name.split("."):
            found = getattr(found, part)
        return found(*arguments, **options, **more)

    return construct


# ---- how many --------------------------------------------------------------------------------------------------------

_GLOBAL_KEYS: dict[str, tuple[int, Callable[[], Any]]] = {
    "BatchNorm1D": (0, _constructor("nn.BatchNorm1D", 2)),
    "BatchNorm2D": (0, _constructor("nn.BatchNorm2D", 2)),
    "EMA": (0, _constructor("nn.EMA", 1.0, 0.9)),
    "Sequential": (0, _constructor("nn.Sequential")),
    "Lambda": (0, _constructor("nn.Lambda", jax.nn.relu)),
    "Identity": (0, _constructor("nn.Identity")),
    "RngSeq with a seed": (0, _constructor("RngSeq", 1)),
    "RngSeq with a key": (0, lambda: pax.RngSeq(rng_key=jax.random.key(1))),
    "RngSeq": (1, _constructor("RngSeq")),
    "Linear": (1, _constructor("nn.Linear", 1, 1)),
    "Linear without bias": (1, _constructor("nn.Linear", 1, 1, False)),
    "Conv1D": (1, _constructor("nn.Conv1D", 1, 1, 1)),
    "Conv2D": (1, _constructor("nn.Conv2D", 1, 1, 1)),
    "Conv1DTranspose": (1, _constructor("nn.Conv1DTranspose", 1, 1, 1)),
    "Conv2DTranspose": (1, _constructor("nn.Conv2DTranspose", 1, 1, 1)),
    "Embed": (1, _constructor("nn.Embed", 1, 1)),
    "Dropout": (1, _constructor("nn.Dropout", 0.5)),
    "Dropout, rate 0": (1, _constructor("nn.Dropout", 0.0)),
    "LayerNorm": (1, _constructor("nn.LayerNorm", 2, -1, True, True)),
    "LayerNorm without parameters": (1, _constructor("nn.LayerNorm", 2, -1, False, False)),
    "GroupNorm": (1, _constructor("nn.GroupNorm", 1, 2)),
    "GroupNorm without parameters": (
        1,
        _constructor("nn.GroupNorm", 1, 2, create_scale=False, create_offset=False),
    ),
    "VanillaRNN": (1, _constructor("nn.VanillaRNN", 1, 1)),
    "LSTM": (1, _constructor("nn.LSTM", 1, 1)),
    "GRU": (1, _constructor("nn.GRU", 1, 1)),
    "MultiHeadAttention": (4, _constructor("nn.MultiHeadAttention", 1, 2, 1.0)),
    "Transformer of 1 layer": (10, _constructor("nets.Transformer", 4, 2, 1, 0.0)),
    "Transformer of 3 layers": (26, _constructor("nets.Transformer", 4, 2, 3, 0.0)),
    "ResNet18": (20 + 1, _constructor("nets.ResNet18", 3, 2)),
    "ResNet34": (36 + 1, _constructor("nets.ResNet34", 3, 2)),
    "ResNet50": (53 + 1, _constructor("nets.ResNet50", 3, 2)),
}


@pytest.mark.parametrize(("number", "construct"), _GLOBAL_KEYS.values(), ids=_GLOBAL_KEYS)
def test_a_constructor_draws_as_many_global_keys_as_the_original(number: int, construct: Callable[[], Any]) -> None:
    pax.seed_rng_key(42)
    jax.eval_shape(construct)  # draws as any construction does, and computes nothing
    following = pax.next_rng_key()
    pax.seed_rng_key(42)
    keys = np.asarray([pax.next_rng_key() for _ in range(number + 2)])
    assert [i for i, key in enumerate(keys) if (key == np.asarray(following)).all()] == [number]


# ---- both kinds of keys ----------------------------------------------------------------------------------------------

_WITH_KEY: dict[str, Callable[..., Any]] = {
    "nn.Linear": _constructor("nn.Linear", 2, 3),
    "nn.Conv1D": _constructor("nn.Conv1D", 1, 2, 2),
    "nn.Conv2D": _constructor("nn.Conv2D", 1, 2, 2),
    "nn.Conv1DTranspose": _constructor("nn.Conv1DTranspose", 1, 2, 2),
    "nn.Conv2DTranspose": _constructor("nn.Conv2DTranspose", 1, 2, 2),
    "nn.Conv3D": _constructor("nn.Conv3D", 1, 2, 2),
    "nn.Conv3DTranspose": _constructor("nn.Conv3DTranspose", 1, 2, 2),
    "nn.DepthwiseConv1D": _constructor("nn.DepthwiseConv1D", 2, 1, 2),
    "nn.DepthwiseConv2D": _constructor("nn.DepthwiseConv2D", 2, 1, 2),
    "nn.SeparableConv1D": _constructor("nn.SeparableConv1D", 2, 3, 2),
    "nn.SeparableConv2D": _constructor("nn.SeparableConv2D", 2, 3, 2),
    "nn.Dropout": _constructor("nn.Dropout", 0.5),
    "nn.Einsum": _constructor("nn.Einsum", "...i,ij->...j", (2, 3), "j"),
    "nn.LearnedPositions": _constructor("nn.LearnedPositions", 2, 3),
    "nn.MLP": _constructor("nn.MLP", (2, 3, 4)),
    "nn.Embed": _constructor("nn.Embed", 2, 3),
    "nn.LayerNorm": _constructor("nn.LayerNorm", 2, -1, True, True),
    "nn.GroupNorm": _constructor("nn.GroupNorm", 1, 2),
    "nn.InstanceNorm": _constructor("nn.InstanceNorm", 2),
    "nn.RMSNorm": _constructor("nn.RMSNorm", 2),
    "nn.SpectralNorm": lambda **options: pax.nn.SpectralNorm(pax.nn.Linear(1, 2, rng_key=jax.random.key(0)), **options),
    "nn.Stack": lambda **options: pax.nn.Stack(functools.partial(pax.nn.Linear, 2, 2), 2, **options),
    "nn.Ensemble": lambda **options: pax.nn.Ensemble(functools.partial(pax.nn.Linear, 2, 2), 2, **options),
    "nn.VanillaRNN": _constructor("nn.VanillaRNN", 1, 2),
    "nn.LSTM": _constructor("nn.LSTM", 1, 2),
    "nn.GRU": _constructor("nn.GRU", 1, 2),
    "nn.MultiHeadAttention": _constructor("nn.MultiHeadAttention", 1, 2, 1.0),
}


def _classes_with_a_key() -> set[str]:
    found = set()
    for name in pax.nn.__all__:
        cls = getattr(pax.nn, name)
        if isinstance(cls, type) and "rng_key" in inspect.signature(cls).parameters:
            found.add(f"nn.{name}")
    return found


@pytest.mark.parametrize("name", sorted(_classes_with_a_key()))
def test_a_class_that_takes_a_key_is_tested_with_both_kinds(name: str) -> None:
    assert name in _WITH_KEY


def _values(module: Any) -> list[Any]:
    leaves = jax.tree.leaves(module)
    return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]


@pytest.mark.parametrize("construct", _WITH_KEY.values(), ids=_WITH_KEY)
def test_kd_63_typed_and_legacy_keys_give_the_same_weights(construct: Callable[..., Any]) -> None:
    typed, legacy = construct(rng_key=jax.random.key(3)), construct(rng_key=jax.random.PRNGKey(3))
    for a, b in zip(_values(typed), _values(legacy), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("construct", _WITH_KEY.values(), ids=_WITH_KEY)
def test_a_given_key_leaves_the_global_sequence_alone(construct: Callable[..., Any]) -> None:
    pax.seed_rng_key(7)
    jax.eval_shape(lambda: construct(rng_key=jax.random.key(3)))
    following = pax.next_rng_key()
    pax.seed_rng_key(7)
    np.testing.assert_array_equal(following, pax.next_rng_key())


@pytest.mark.parametrize("construct", _WITH_KEY.values(), ids=_WITH_KEY)
def test_kd_63_the_global_sequence_of_typed_keys_gives_the_same_weights(construct: Callable[..., Any]) -> None:
    pax.seed_rng_key(7)
    legacy = construct()
    pax.seed_rng_key(7, typed_keys=True)
    try:
        typed = construct()
    finally:
        pax.seed_rng_key(7, typed_keys=False)
    for a, b in zip(_values(typed), _values(legacy), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- reference values of seed 42 -------------------------------------------------------------------------------------


def _seeded(name: str, *arguments: Any) -> Any:
    pax.seed_rng_key(42)
    return _constructor(name, *arguments)()


def _cell_output(name: str) -> Any:
    cell = _seeded(name, 2, 3)
    state, _ = cell(cell.initial_state(1), jnp.ones((1, 2)))
    return jnp.concatenate(state, axis=0)


def _transformer_output() -> Any:
    net = _seeded("nets.Transformer", 4, 2, 1, 0.0)
    return pax.purecall(net, jnp.arange(12.0).reshape(1, 3, 4) / 10)[1]


_VALUES: dict[str, tuple[Callable[[], Any], list[float]]] = {
    "Linear, weight": (
        lambda: _seeded("nn.Linear", 2, 3).weight,
        [-0.0305878, 0.8682196, 0.5714648, -2.0148001, 0.0621846, -0.0270394],
    ),
    "Linear, bias": (lambda: _seeded("nn.Linear", 2, 3).bias, [0.9498972, 0.5987744, 0.0135046]),
    "Dropout": (lambda: pax.purecall(_seeded("nn.Dropout", 0.5), jnp.ones(8))[1], [2, 2, 2, 2, 2, 0, 0, 2]),
    "GRU, xh_zr_fc": (
        lambda: _seeded("nn.GRU", 1, 1).xh_zr_fc.weight,
        [-1.1169804, -0.5355833, -0.2124008, 0.1013519],
    ),
    "GRU, xh_h_fc": (lambda: _seeded("nn.GRU", 1, 1).xh_h_fc.weight, [-0.1362973, 0.9834787]),
    "LSTM, a step": (
        lambda: _cell_output("nn.LSTM"),
        [-0.1023876, 0.0637054, -0.0984436, -0.2059547, 0.2270233, -0.1995773],
    ),
    "GRU, a step": (lambda: _cell_output("nn.GRU"), [0.1111313, 0.0020870, -0.4509145]),
    "VanillaRNN, a step": (lambda: _cell_output("nn.VanillaRNN"), [-0.5998093, 0.7474437, 0.3389147]),
    "Transformer": (_transformer_output, [0.3205895, 0.8242859, 0.5594611, -1.7043364] * 3),
}


@pytest.mark.parametrize(("compute", "values"), _VALUES.values(), ids=_VALUES)
def test_seed_42_gives_the_numbers_of_the_original(compute: Callable[[], Any], values: list[float]) -> None:
    np.testing.assert_allclose(compute().ravel(), values, rtol=1e-5, atol=2e-6)
