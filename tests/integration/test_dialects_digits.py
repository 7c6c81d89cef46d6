"""Layers of the mlax and Parallax dialects in one `Sequential`: trained by opax on real digits, partly frozen."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import opax
import pax
from pax.experimental import mlax, parallax

STEPS = 200


class MapOver(pax.Module):
    """Maps a module for one example over a batch; keys for each example would come from outside."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def __call__(self, x: jax.Array) -> Any:
        return jax.vmap(self.inner)(x)


@cache
def data() -> Any:
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    return train_test_split(images, digits.target, test_size=0.25, stratify=digits.target, random_state=0)


def network() -> pax.nn.Sequential:
    """Random features that stay as they are, an mlax part with statistics, and a Parallax part for single examples."""
    keys = jax.random.split(jax.random.key(0), 5)
    layers = mlax.nn
    net = pax.nn.Sequential(
        pax.nn.Linear(64, 256, rng_key=keys[0]),
        jnp.tanh,
        layers.Series(
            [layers.Linear(keys[1], 64), layers.Bias(keys[2], -1), layers.ZNorm(keys[3], 0), layers.F(jax.nn.relu)]
        ),
        MapOver(parallax.Dense(64, 32)),
        jax.nn.relu,
        pax.nn.Linear(32, 10, rng_key=keys[4]),
    )
    net, _ = pax.purecall(parallax.initialized(net, keys[4]), jnp.zeros((2, 64)))
    return pax.freeze_parameters(net, "modules/0")


class Trained(NamedTuple):
    before: Any
    after: Any
    traces: int


@cache
def trained() -> Trained:
    images, _, labels, _ = data()
    traces = 0

    @jax.jit
    def step(net: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> Any:
        nonlocal traces
        traces += 1

        def loss_fn(net: Any) -> Any:
            net, logits = pax.purecall(net, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), net

        (_, net), gradients = pax.value_and_grad(loss_fn, has_aux=True)(net)
        return opax.apply_gradients(net, optimizer, gradients)

    before = net = network()
    optimizer = opax.adamw(3e-3, weight_decay=1e-2)(net.parameters())
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        batch = random.choice(len(images), 128, replace=False)
        net, optimizer = step(net, optimizer, images[batch], labels[batch])
    return Trained(before, net, traces)


def test_they_learn_to_read_digits_in_one_trace() -> None:
    _, images, _, labels = data()
    read = trained().after.eval()(images).argmax(-1)
    assert float(np.mean(read == labels)) >= 0.95
    assert trained().traces == 1


def test_the_frozen_part_stays_and_all_others_change() -> None:
    before, after = trained().before, trained().after
    np.testing.assert_array_equal(before[0].weight, after[0].weight)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before.parameters(), after.parameters())
    assert all(jax.tree.leaves(changed))
    assert len(jax.tree.leaves(changed)) == 6
    statistics = after[2].layers.data[2]
    assert float(jnp.abs(statistics.moving_mean.data).max()) > 0


def test_what_was_learnt_can_be_saved_and_loaded() -> None:
    net = trained().after
    loaded = network().load_state_dict(jax.device_get(net.state_dict()))
    images = data()[1]
    np.testing.assert_array_equal(loaded.eval()(images), net.eval()(images))
