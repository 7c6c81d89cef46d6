"""The optimizers of pax-optim and the layers of pax-nn together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef

OPTIMIZERS = pytest.mark.parametrize(
    "factory",
    [opax.sgd(0.1), opax.adam(0.1), opax.adamw(0.1), opax.chain(opax.clip(1.0), opax.clip_by_global_norm(1.0))],
    ids=["sgd", "adam", "adamw", "clipping"],
)


def sequential() -> pax.nn.Sequential:
    return pax.nn.Sequential(
        pax.nn.Linear(2, 3, rng_key=jax.random.key(0)),
        pax.nn.BatchNorm1D(3),
        pax.nn.Linear(3, 1, rng_key=jax.random.key(1)),
    )


def gradients(net: pax.nn.Sequential) -> Any:
    x = jax.random.normal(jax.random.key(2), (4, 5, 2))
    return pax.grad(lambda net: jnp.sum(pax.purecall(net, x)[1] ** 2))(net)


def test_three_steps_of_the_reference_run() -> None:
    model = pax.nn.Linear(1, 1).replace(weight=jnp.ones((1, 1)), bias=jnp.zeros(1))
    optimizer = opax.adam(0.1)(model.parameters())
    x, y = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    losses = []
    for _ in range(3):
        loss, grads = pax.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
        losses.append(float(loss))
        model, optimizer = opax.apply_gradients(model, optimizer, grads)
    np.testing.assert_allclose(losses, [2.5, 1.765004, 1.164593], rtol=1e-5)
    np.testing.assert_allclose([model.weight[0, 0], model.bias[0]], [1.2966914, 0.2964548], rtol=1e-5)


def test_moments_of_a_layer_are_layers_of_its_class() -> None:
    optimizer = opax.adam(1e-3)(pax.nn.Linear(3, 3).parameters())
    assert optimizer.summary() == (
        "chain.<locals>.Chain\n"
        "├── scale_by_adam.<locals>.ScaleByAdam\n"
        "│   ├── Linear(in_dim=3, out_dim=3, with_bias=True)\n"
        "│   └── Linear(in_dim=3, out_dim=3, with_bias=True)\n"
        "└── scale.<locals>.Scale"
    )
    assert isinstance(optimizer[0].mu, pax.nn.Linear)
    np.testing.assert_array_equal(optimizer[0].nu.bias, np.zeros(3, np.float32), strict=True)


@pytest.mark.parametrize("full", [True, False])
def test_a_step_changes_no_moving_average(full: bool) -> None:
    net = sequential()
    optimizer = opax.sgd(0.1)(net.parameters())
    grads = gradients(net)
    whole = net.update_parameters(grads) if full else grads
    new, new_optimizer = opax.apply_gradients(net, optimizer, whole)
    want = jax.tree.map(lambda p, g: p - 0.1 * g, net.parameters(), grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), new.parameters(), want)
    assert new[1].ema_mean == net[1].ema_mean
    assert new[1].ema_var == net[1].ema_var
    pax.assert_structure_equal(new_optimizer[0].trace, grads)
    jax.tree.map(np.testing.assert_array_equal, new_optimizer[0].trace, grads)


@OPTIMIZERS
def test_frozen_layers_of_a_sequential_are_left_alone(factory: Any) -> None:
    net = sequential()
    net = net.set(0, pax.freeze_parameters(net[0]))
    new, _ = opax.apply_gradients(net, factory(net.parameters()), gradients(net))
    assert new[0] == net[0]
    assert not jnp.array_equal(new[2].weight, net[2].weight)


@OPTIMIZERS
def test_moving_averages_have_no_updates(factory: Any) -> None:
    params = pax.nn.BatchNorm1D(3).parameters()
    updates, _ = opax.transform_gradients(params, factory(params), params)
    pax.assert_structure_equal(updates, params)
    assert updates.ema_mean.averages == pax.EmptyNode()


class _Autoencoder(pax.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = pax.nn.Linear(4, 2, rng_key=jax.random.key(0))
        self.decoder = pax.nn.Linear(2, 4, rng_key=jax.random.key(1))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decoder(jnp.tanh(self.encoder(x)))


def test_tied_weights_are_trained_together_and_traced_once() -> None:
    def tied() -> pax.nn.Tied:
        return pax.nn.Tied(_Autoencoder(), {"decoder.weight": "encoder.weight.T"})

    x = jax.random.normal(jax.random.key(2), (2, 4))

    @TraceCounter
    def step(module: Any, optimizer: Any) -> Any:
        value, grads = pax.value_and_grad(lambda module: jnp.sum((module(x) - x) ** 2))(module)
        return *opax.apply_gradients(module, optimizer, grads), value

    module, values = tied(), []
    optimizer = opax.sgd(0.05)(module.parameters())
    for _ in range(10):
        module, optimizer, value = step(module, optimizer)
        values.append(float(value))
    assert values[-1] < 0.7 * values[0]
    assert step.traces == 1
    assert treedef(module) == treedef(tied())
