"""Building modules: what is compiled, in a process that has compiled nothing before, and what becomes of the keys."""

import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.compilations import count_compilations

_PROGRAM = """
import json
import sys

import jax
import pax
from helpers.compilations import count_compilations


class Net(pax.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.embed = pax.nn.Embed(7, 6)
        self.conv = pax.nn.Conv2D(3, 8, 3)
        self.norm = pax.nn.BatchNorm2D(8)
        self.layer_norm = pax.nn.LayerNorm(8, -1, True, True)
        self.drop = pax.nn.Dropout(0.1)
        self.rng_seq = pax.RngSeq()
        self.fc = pax.nn.Linear(8, classes, b_init=jax.nn.initializers.zeros)
        self.gru = pax.nn.GRU(3, 4)
        self.attention = pax.nn.MultiHeadAttention(2, 4, 1.0)


models = {
    "layers": Net,
    "transformer": lambda: pax.nets.Transformer(16, 2, 2, 0.1),
    "resnet": lambda: pax.nets.ResNet18(3, 10),
}


def build_all():
    for build in models.values():
        build()


def build_in_other_ways():
    pax.nn.MultiHeadAttention(2, 4, 1.0, rng_key=key)
    pax.nets.Transformer(16, 2, 2, 0.1, rng_key=key)
    pax.nn.Conv1D(3, 4, 3, rng_key=typed_key)


key, typed_key = pax.next_rng_key(), jax.random.wrap_key_data(pax.next_rng_key())
counts = {}
with count_compilations() as count:
    for build in models.values():
        jax.eval_shape(build)
counts["abstract"] = count()
with count_compilations() as count, pax.nn.initializers.use_numpy():
    build_all()
    pax.seed_rng_key(0, typed_keys=True)
    Net()
    pax.seed_rng_key(0, typed_keys=False)
counts["numpy"] = count()
with count_compilations() as count:
    pax.nn.Linear(4, 4)
counts["first layer"] = count()
with count_compilations() as count:
    pax.nn.Linear(4, 4)
    pax.nn.BatchNorm2D(17)
    pax.nn.LayerNorm(19, -1, True, True)
    pax.nn.Dropout(0.1)
counts["more layers"] = count()
with count_compilations() as count:
    with pax.nn.initializers.use_numpy():
        build_in_other_ways()
counts["given keys"] = count()
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counts() -> dict[str, Any]:
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=300, check=False, env=_environment()
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_abstract_construction_compiles_nothing(counts: dict[str, Any]) -> None:
    assert counts["abstract"] == 0


def test_construction_with_numpy_compiles_nothing(counts: dict[str, Any]) -> None:
    assert counts["numpy"] == 0


def test_construction_with_numpy_from_given_keys_compiles_nothing(counts: dict[str, Any]) -> None:
    assert counts["given keys"] == 0


def test_a_layer_compiles_one_program_for_each_of_its_shapes(counts: dict[str, Any]) -> None:
    assert counts["first layer"] <= 4  # split the key and take its halves apart, weight, bias
    assert counts["more layers"] == 0


def test_an_abstract_module_takes_weights_afterwards() -> None:
    net = pax.nn.Linear(3, 4)
    empty = jax.eval_shape(lambda: pax.nn.Linear(3, 4))
    with count_compilations() as count:
        loaded = empty.load_state_dict(net.state_dict())
    assert count() == 0
    pax.assert_structure_equal(loaded, net)
    np.testing.assert_array_equal(loaded(jnp.ones((1, 3))), net(jnp.ones((1, 3))))


@pytest.mark.parametrize("typed_keys", [False, True])
def test_dropout_made_with_numpy_works(typed_keys: bool) -> None:
    pax.seed_rng_key(1, typed_keys=typed_keys)
    try:
        expected = pax.nn.Dropout(0.5)
        pax.seed_rng_key(1)
        with pax.nn.initializers.use_numpy():
            drop = pax.nn.Dropout(0.5)
    finally:
        pax.seed_rng_key(42, typed_keys=False)
    x = jnp.ones(100)
    np.testing.assert_array_equal(pax.purecall(drop, x)[1], pax.purecall(expected, x)[1])


def test_equal_builds_have_equal_trees_with_numpy_and_without() -> None:
    net = pax.nn.Sequential(pax.nn.Linear(3, 4), pax.nn.BatchNorm1D(4))
    with pax.nn.initializers.use_numpy():
        other = pax.nn.Sequential(pax.nn.Linear(3, 4), pax.nn.BatchNorm1D(4))
    pax.assert_structure_equal(net, other)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), net) == jax.tree.map(lambda a: (a.shape, a.dtype), other)
