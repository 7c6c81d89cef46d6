"""Optimizers for parts of models that are made of real layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter

MODES = pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["plain", "flat", "loose"])
X = jax.random.normal(jax.random.key(0), (8, 6))
Y = jnp.sum(X[:, :2], axis=1, keepdims=True)


def backbone_and_head() -> pax.nn.Sequential:
    keys = iter(jax.random.split(jax.random.key(1), 3))
    return pax.nn.Sequential(
        pax.nn.Linear(6, 5, rng_key=next(keys)),
        pax.nn.BatchNorm1D(5),
        jnp.tanh,
        pax.nn.Linear(5, 5, rng_key=next(keys)),
        pax.nn.LayerNorm(5, -1, True, True),
        pax.nn.Linear(5, 1, rng_key=next(keys)),
    )


def loss_fn(net: Any, x: jax.Array, y: jax.Array) -> Any:
    net, prediction = pax.purecall(net, x[:, None, :])
    loss = jnp.mean((prediction[:, 0] - y) ** 2)
    return loss, (loss, net)


def train(net: Any, optimizer: Any, steps: int = 5) -> tuple[Any, Any, list[float]]:
    step = TraceCounter(pax.build_update_fn(loss_fn))
    losses = []
    for _ in range(steps):
        net, optimizer, loss = step(net, optimizer, X, Y)
        losses.append(float(loss))
    assert step.traces == 1
    return net, optimizer, losses


def changes(before: Any, after: Any) -> dict[str, float]:
    """Returns by how much the parameters differ, largest element, by path."""
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {jax.tree_util.keystr(path).removeprefix("."): float(jnp.max(jnp.abs(a - b))) for (path, a), b in pairs}


@MODES
def test_biases_and_norms_do_not_decay(options: dict[str, Any]) -> None:
    params = backbone_and_head().parameters()
    decay = opax.chain(opax.add_decayed_weights(0.5, "**/weight"))(params, **options)
    updates, _ = opax.transform_gradients(jax.tree.map(jnp.zeros_like, params), decay, params)
    after = opax.apply_updates(params, updates)
    for index in (0, 3, 5):
        np.testing.assert_allclose(after[index].weight, 0.5 * params[index].weight, rtol=1e-6)
        np.testing.assert_array_equal(after[index].bias, params[index].bias)
    for index in (1, 4):
        jax.tree.map(np.testing.assert_array_equal, after[index], params[index])


def test_the_number_of_axes_tells_biases_but_not_batch_norms() -> None:
    params = backbone_and_head().parameters()
    mask = opax.add_decayed_weights(0.5, lambda p: p.ndim > 1)(params).mask
    assert mask is not None
    chosen = [path for (path, _), flag in zip(jax.tree.leaves_with_path(params), mask, strict=True) if flag]
    names = [jax.tree_util.keystr(path).removeprefix(".modules") for path in chosen]
    assert names == ["[0].weight", "[1].scale", "[1].offset", "[3].weight", "[5].weight"]


def test_training_with_decay_of_weights_only() -> None:
    net = backbone_and_head()
    factory = opax.adamw(0.05, weight_decay=0.1, mask="**/weight")
    _, optimizer, losses = train(net, factory(net.parameters()), 20)
    assert losses[-1] < 0.5 * losses[0]
    assert int(optimizer[0].count) == 20
    decayed, _, _ = train(net, factory(net.parameters()), 1)
    without, _, _ = train(net, opax.adam(0.05)(net.parameters()), 1)
    found = changes(without.parameters(), decayed.parameters())
    for path, leaf in jax.tree.leaves_with_path(net.parameters()):
        name = jax.tree_util.keystr(path).removeprefix(".")
        expected = 0.05 * 0.1 * float(jnp.max(jnp.abs(leaf))) if name.endswith("weight") else 0.0
        assert found[name] == pytest.approx(expected, abs=1e-6), name


@MODES
def test_learning_rates_of_layers(options: dict[str, Any]) -> None:
    net = backbone_and_head()
    factory = opax.partition(
        (pax.nn.BatchNorm1D, opax.sgd(0.0)),
        ("modules/0/**", opax.adam(1e-4)),
        (lambda path, leaf: "[3]" in jax.tree_util.keystr(path), opax.adam(1e-3)),
        rest=opax.adam(opax.schedule.exponential_decay(1e-2, 10)),
    )
    optimizer = opax.chain(opax.clip_by_global_norm(1e3), factory)(net.parameters(), **options)
    after, optimizer, _ = train(net, optimizer, 1)
    last = 1e-2 * 2**-0.1
    for index, rate in {1: 0.0, 0: 1e-4, 3: 1e-3, 4: last, 5: last}.items():
        # The first step of Adam is as long as its learning rate, whatever the gradient.
        longest = max(changes(net[index].parameters(), after[index].parameters()).values())
        assert longest == pytest.approx(rate, rel=1e-2, abs=1e-9)
    assert [float(part.learning_rate) for part in optimizer[1].parts] == pytest.approx([0.0, 1e-4, 1e-3, last])


@pytest.mark.parametrize(
    "factory",
    [
        opax.adamw(0.05, weight_decay=0.1, mask="**/weight"),
        opax.partition((pax.nn.LayerNorm, opax.sgd(0.01)), rest=opax.adam(0.05)),
    ],
    ids=["adamw", "partition"],
)
@MODES
def test_fine_tuning_with_a_frozen_backbone(factory: Any, options: dict[str, Any]) -> None:
    net = backbone_and_head()
    frozen = pax.freeze_parameters(
        net, lambda path, leaf: any(f"[{i}]" in jax.tree_util.keystr(path) for i in (0, 1, 3))
    )
    optimizer = opax.chain(factory)(frozen.parameters(), **options)
    after, optimizer, losses = train(frozen, optimizer, 10)
    assert losses[-1] < losses[0]
    for index in (0, 3):
        jax.tree.map(np.testing.assert_array_equal, after[index], frozen[index])
    # Parameters are frozen, statistics are not.
    assert set(changes(net[1].parameters(), pax.unfreeze_parameters(after[1]).parameters()).values()) == {0.0}
    assert after[1].ema_mean != frozen[1].ema_mean
    assert max(changes(net[5], after[5]).values()) > 0
    shapes = [leaf.shape for leaf in jax.tree.leaves(optimizer)]
    assert (6, 5) not in shapes
    assert (5, 1) in shapes


def test_a_part_of_which_everything_is_frozen_is_an_error() -> None:
    net = pax.freeze_parameters(backbone_and_head(), pax.nn.BatchNorm1D)
    with pytest.raises(pax.errors.SelectorError, match=r"partition, part 0"):
        opax.partition((pax.nn.BatchNorm1D, opax.sgd(0.1)), rest=opax.adam(0.1))(net.parameters())


def test_everything_frozen_trains_to_itself() -> None:
    net = pax.freeze_parameters(backbone_and_head())
    factory = opax.partition((pax.nn.BatchNorm1D, opax.sgd(0.1)), rest=opax.adamw(0.1, mask="**/weight"))
    after, _, _ = train(net, factory(net.parameters()), 2)
    jax.tree.map(np.testing.assert_array_equal, after[0], net[0])


def test_parts_in_scan_mode() -> None:
    net = backbone_and_head()
    optimizer = opax.partition((pax.nn.Linear, opax.adamw(0.05)), rest=opax.sgd(0.01))(net.parameters())
    step = pax.build_update_fn(loss_fn, scan_mode=True)
    inputs = [jnp.stack([a] * 10) for a in (X, Y)]
    _, losses = jax.jit(lambda carry: jax.lax.scan(lambda c, xy: step(c, *xy), carry, tuple(inputs)))((net, optimizer))
    _, _, want = train(net, optimizer, 10)
    np.testing.assert_allclose(losses, want, rtol=1e-3)
    assert losses[-1] < losses[0]
