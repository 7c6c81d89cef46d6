"""Batch normalisation of a batch that is spread over devices, or over the lanes of ``vmap``."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import pax
from pax.errors import ArgumentError

_TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:2]), ("parts",))


def layer(**options: Any) -> Any:
    norm = pax.nn.BatchNorm1D(3, **options)
    return norm.replace(scale=jnp.arange(1.0, 4.0).reshape(1, 1, 3))


def batch(mean: float = 0.0) -> jax.Array:
    """The halves have other means and other variances than the whole."""
    x = jax.random.normal(jax.random.key(0), (8, 5, 3))
    return (mean + jnp.concatenate([x[:4], 3 + 2 * x[4:]])).astype(jnp.float32)


def train(norm: Any, x: Any) -> tuple[Any, Any]:
    """Returns output and averages; and the gradients with respect to layer and input."""

    def loss(params: Any, x: Any) -> Any:
        new, y = pax.purecall(norm.update_parameters(params), x)
        return jnp.sum(y**3), (y, new.ema_mean.averages, new.ema_var.averages)

    grads, values = jax.grad(loss, argnums=(0, 1), has_aux=True)(norm.parameters(), x)
    return values, (grads[0].scale, grads[0].offset, grads[1])


def assert_close(got: Any, want: Any, **tolerance: float) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **(_TOLERANCE | tolerance))


def over_lanes(norm: Any, parts: Any) -> tuple[Any, Any]:
    """``train`` under ``vmap``; gradients of the layer are summed over the parts, as a training step does."""

    def part(x: Any) -> tuple[Any, Any]:
        (y, *averages), (scale, offset, x_grad) = train(norm, x)
        return (y, *averages), (jax.lax.psum((scale, offset), "parts"), x_grad)

    axes = ((0, None, None), (None, 0))
    (y, *averages), ((scale, offset), x_grad) = jax.vmap(part, axis_name="parts", out_axes=axes)(parts)
    whole = (-1, *y.shape[2:])
    return (y.reshape(whole), *averages), (scale, offset, x_grad.reshape(whole))


def test_plain_jit_needs_no_name() -> None:
    x = batch()
    want = train(layer(), x)
    spread = jax.device_put(x, NamedSharding(mesh(), P("parts")))
    got = jax.jit(train)(layer(), spread)
    assert not got[0][0].sharding.is_fully_replicated
    assert_close(got, want)


def test_lanes_of_vmap_are_one_batch() -> None:
    assert_close(over_lanes(layer(axis_name="parts"), batch().reshape(2, 4, 5, 3)), train(layer(), batch()))


def test_lanes_without_a_name_are_normalised_apart() -> None:
    parts = batch().reshape(2, 4, 5, 3)
    y = jax.vmap(lambda x: pax.purecall(layer(), x)[1])(parts)
    assert_close(y[0], pax.purecall(layer(), parts[0])[1])


def test_several_names() -> None:
    def part(x: Any) -> Any:
        return pax.purecall(layer(axis_name=("a", "b")), x)[1]

    y = jax.vmap(jax.vmap(part, axis_name="a"), axis_name="b")(batch().reshape(2, 2, 2, 5, 3))
    assert_close(y.reshape(8, 5, 3), pax.purecall(layer(), batch())[1])


def test_a_large_mean_in_parts() -> None:
    """The parts' means differ, and each is rounded; the variance is still that of float64."""
    x = batch(1e4)
    (y, _, variance), _ = over_lanes(layer(axis_name="parts"), x.reshape(2, 4, 5, 3))
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(variance, wide.var((0, 1), keepdims=True), rtol=1e-5)
    want = (wide - wide.mean((0, 1))) / np.sqrt(wide.var((0, 1)) + 1e-5) * np.arange(1, 4)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


def test_shard_map() -> None:
    norm = layer(axis_name="parts")

    def part(params: Any, x: Any) -> Any:
        new, y = pax.purecall(norm.update_parameters(params), x)
        return y, new.ema_mean.averages, new.ema_var.averages

    spread = jax.shard_map(part, mesh=mesh(), in_specs=(P(), P("parts")), out_specs=(P("parts"), P(), P()))

    @jax.jit
    def train_spread(params: Any, x: Any) -> Any:
        def loss(params: Any, x: Any) -> Any:
            values = spread(params, x)
            return jnp.sum(values[0] ** 3), values

        grads, values = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        return values, (grads[0].scale, grads[0].offset, grads[1])

    assert_close(train_spread(norm.parameters(), batch()), train(layer(), batch()))


def test_eval_mode_needs_no_axis() -> None:
    x = batch()
    np.testing.assert_array_equal(layer(axis_name="parts").eval()(x), layer().eval()(x))


def test_an_axis_that_does_not_exist() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(layer(axis_name="parts", name="bn"), batch())
    lines = str(caught.value).splitlines()
    assert lines[0] == "The named axis of a batch normalisation does not exist where it is called."
    assert "where: (bn) BatchNorm1D" in lines[1]
    assert "got:   axis_name='parts'" in str(caught.value)
    assert "fix:   leave out axis_name" in str(caught.value)


def test_repr_shows_the_axis() -> None:
    assert repr(layer(axis_name="parts")).endswith("decay_rate=0.9, axis_name=parts)")
    assert repr(layer()).endswith("decay_rate=0.9)")
