"""pax.build_update_fn with every optimizer, and a network with batch normalization and dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from optim.trajectories import CASES
from optim.trajectory import Trajectory

STEPS = 30
# Their selectors name the parameters of the trajectories; `test_step_by_step` has the same for layers.
SELECTORS = {"partition", "adamw, mask"}
OPTIMIZERS = [case for case in CASES if case.optimizer and case.id not in SELECTORS]


class Net(pax.Module):
    """All kinds of states: moving averages, and a random key."""

    def __init__(self) -> None:
        super().__init__()
        keys = jax.random.split(jax.random.key(0), 3)
        self.first = pax.nn.Linear(2, 16, rng_key=keys[0])
        self.norm = pax.nn.BatchNorm1D(16)
        self.dropout = pax.nn.Dropout(0.1, rng_key=keys[1])
        self.last = pax.nn.Linear(16, 1, rng_key=keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.dropout(jax.nn.relu(self.norm(self.first(x)))))


def loss_fn(net: Net, x: jax.Array, y: jax.Array) -> Any:
    net, prediction = pax.purecall(net, x)
    loss = jnp.mean((prediction - y) ** 2)
    return loss, (loss, net)


def batches(count: int = STEPS) -> tuple[jax.Array, jax.Array]:
    x = jax.random.normal(jax.random.key(1), (count, 16, 2, 2))  # batch, width, channels
    return x, jnp.sin(x[..., :1]) + 2.0


def owned(tree: Any) -> Any:
    """Returns a copy with buffers of its own, which can be donated."""
    return jax.tree.map(jnp.copy, tree)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in OPTIMIZERS])
def test_the_loss_falls(case: Trajectory) -> None:
    update = pax.build_update_fn(loss_fn, scan_mode=True)

    def advance(pair: Any, batch: Any) -> Any:
        return update(pair, *batch)

    train = TraceCounter(lambda pair, data: pax.scan(advance, pair, data), donate_argnums=0)
    net = Net()
    pair = owned((net, case.ours()(net.parameters())))
    structure = treedef(pair)
    halves = [jax.tree.map(lambda a, i=i: a[i : i + STEPS // 2], batches()) for i in (0, STEPS // 2)]
    pair, before = train(pair, halves[0])
    pair, after = train(pair, halves[1])
    assert np.mean(after[-5:]) < np.mean(before[:5])
    assert (train.traces, treedef(pair)) == (1, structure)


@pytest.mark.parametrize(
    "factory",
    [
        opax.sgd(0.05),
        opax.adam(opax.schedule.exponential_decay(0.05, 100)),
        opax.multi_steps(opax.adam(0.05), 2),
        opax.apply_if_finite(opax.adamw(0.05), 2),
        opax.lookahead(opax.adam(0.05)),
        opax.adamw(0.05, mask="**/weight"),
        opax.partition((pax.nn.BatchNorm1D, opax.sgd(0.05)), ("first/**", opax.adam(0.02)), rest=opax.adam(0.05)),
    ],
    ids=["sgd", "adam", "multi_steps", "apply_if_finite", "lookahead", "adamw with a mask", "partition"],
)
def test_step_by_step(factory: Any) -> None:
    update = TraceCounter(pax.build_update_fn(loss_fn), donate_argnums=(0, 1))
    net = owned(Net())
    optimizer = factory(net.parameters())  # not copied: no state shares a buffer with the parameters
    structure = treedef((net, optimizer))
    x, y = batches()
    losses = []
    for step in range(STEPS):
        net, optimizer, loss = update(net, optimizer, x[step], y[step])
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert (update.traces, treedef((net, optimizer))) == (1, structure)
    assert not np.array_equal(net.norm.ema_mean.averages, Net().norm.ema_mean.averages)


@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=str)
def test_all_wrappers_together(options: dict[str, Any]) -> None:
    inner = opax.chain(opax.clip_by_global_norm(1.0), opax.lookahead(opax.adamw(0.05), 3))
    factory = opax.chain(opax.apply_if_finite(opax.multi_steps(inner, 2), 3), opax.params_ema(0.9))
    update = TraceCounter(pax.build_update_fn(loss_fn), donate_argnums=(0, 1))
    net = owned(Net())
    net = net.replace(first=pax.freeze_parameters(net.first))
    frozen = np.asarray(net.first.weight)
    optimizer = factory(net.parameters(), **options)
    x, y = batches()
    losses = []
    for step in range(STEPS):
        net, optimizer, loss = update(net, optimizer, x[step].at[0, 0].set(jnp.nan if step == 4 else 0.0), y[step])
        losses.append(float(loss))
        if step == 4:  # the moving averages saw the NaN, too, and belong to the model
            assert np.isnan(losses[-1])
            net = net.replace(norm=Net().norm.update_parameters(net.norm.parameters()))
    assert np.mean(losses[-5:]) < np.mean(losses[:4])
    assert (update.traces, int(optimizer[0].total_notfinite), int(optimizer[0].inner.step)) == (1, 1, 14)
    np.testing.assert_array_equal(net.first.weight, frozen)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(net.parameters()))


def test_evaluation_is_with_the_average_and_training_goes_on() -> None:
    update = jax.jit(pax.build_update_fn(loss_fn))
    net = Net()
    optimizer = opax.chain(opax.adam(0.05), opax.params_ema(0.9))(net.parameters())
    x, y = batches()
    for step in range(STEPS):
        net, optimizer, _ = update(net, optimizer, x[step], y[step])
    smooth = opax.evaluation_model(net, optimizer).eval()
    assert float(jnp.mean((smooth(x[0]) - y[0]) ** 2)) < 0.5
    assert smooth.norm.ema_mean.averages is net.norm.ema_mean.averages
    assert not np.array_equal(smooth.last.weight, net.last.weight)
    again, *_ = update(net, optimizer, x[0], y[0])
    assert again.training
