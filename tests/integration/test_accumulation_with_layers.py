"""opax.multi_steps with the layers of pax-nn: what of a large batch mini-batches give, and what they do not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import opax
import pax

SIZE, PIECES = 8, 4


class Plain(pax.Module):
    """Looks at each example on its own."""

    def __init__(self) -> None:
        super().__init__()
        keys = jax.random.split(jax.random.key(0), 2)
        self.first = pax.nn.Linear(3, 8, rng_key=keys[0])
        self.last = pax.nn.Linear(8, 1, rng_key=keys[1])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jnp.tanh(self.first(x)))


class Normalized(Plain):
    """Looks at a batch as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = pax.nn.BatchNorm1D(8)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jnp.tanh(self.norm(self.first(x))))


def loss_fn(net: Any, x: jax.Array, y: jax.Array) -> Any:
    net, prediction = pax.purecall(net, x)
    return jnp.mean((prediction - y) ** 2), (None, net)


update = jax.jit(pax.build_update_fn(loss_fn))


def data() -> tuple[jax.Array, jax.Array]:
    x = jax.random.normal(jax.random.key(1), (PIECES * SIZE, 2, 3))
    return x, x[..., :1] ** 2


def pieces() -> Any:
    x, y = data()
    return zip(jnp.split(x, PIECES), jnp.split(y, PIECES), strict=True)


def test_mini_batches_give_the_step_of_the_large_batch() -> None:
    net = Plain()
    want, _, _ = update(net, opax.adam(0.1)(net.parameters()), *data())
    got, optimizer = net, opax.multi_steps(opax.adam(0.1), PIECES)(net.parameters())
    for number, piece in enumerate(pieces(), 1):
        got, optimizer, _ = update(got, optimizer, *piece)
        if number < PIECES:
            jax.tree.map(np.testing.assert_array_equal, got, net)
    assert bool(optimizer.has_updated)
    # The order of the additions is another one.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_batch_normalization_has_the_statistics_of_each_mini_batch() -> None:
    net = Normalized()
    got, optimizer = net, opax.multi_steps(opax.sgd(0.1), PIECES)(net.parameters())
    want = net
    for number, (x, y) in enumerate(pieces(), 1):
        got, optimizer, _ = update(got, optimizer, x, y)
        # The parameters stay, and the moving averages are those of a model that only looks at the mini-batches.
        want, _ = pax.purecall(want, x)
        for name in ("ema_mean", "ema_var"):
            found, expected = (getattr(model.norm, name).averages for model in (got, want))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        if number < PIECES:
            jax.tree.map(np.testing.assert_array_equal, got.parameters(), net.parameters())
    assert not np.array_equal(got.last.weight, net.last.weight)


def test_gradients_of_batch_normalization_are_those_of_the_mini_batches() -> None:
    net = Normalized()
    grads = [pax.grad(lambda net, x=x, y=y: loss_fn(net, x, y)[0])(net) for x, y in pieces()]
    mean = jax.tree.map(lambda *g: sum(g) / PIECES, *grads)
    want, _ = opax.apply_gradients(net, opax.sgd(0.1)(net.parameters()), mean)
    large, _, _ = update(net, opax.sgd(0.1)(net.parameters()), *data())
    got, optimizer = net, opax.multi_steps(opax.sgd(0.1), PIECES)(net.parameters())
    for piece in pieces():
        got, optimizer, _ = update(got, optimizer, *piece)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got.parameters(), want.parameters()
    )
    # It is not the step of the large batch, whose mean and variance are others.
    assert float(jnp.abs(got.first.weight - large.first.weight).max()) > 1e-4


def test_the_root_of_the_decay_keeps_as_much_of_the_past() -> None:
    """As the docstring of ``multi_steps`` says."""
    slow = pax.nn.BatchNorm1D(3, decay_rate=0.9 ** (1 / PIECES))
    fast = pax.nn.BatchNorm1D(3, decay_rate=0.9)
    x, _ = data()
    for shift in (5.0, -5.0):
        fast, _ = pax.purecall(fast, x + shift)
        for piece in jnp.split(x + shift, PIECES):
            slow, _ = pax.purecall(slow, piece)
    np.testing.assert_allclose(slow.ema_mean.averages, fast.ema_mean.averages, rtol=0.1)
