"""pax.nn.WeightNorm. What it refuses is tested with SpectralNorm, in `test_spectral_norm.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 4))


def linear(**options: Any) -> pax.nn.WeightNorm:
    return pax.nn.WeightNorm(pax.nn.Linear(4, 3, rng_key=KEY), **options)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: pax.nn.Linear(4, 3, rng_key=KEY), (2, 4)),
        (lambda: pax.nn.Conv2D(4, 3, 2, data_format="NCHW", rng_key=KEY), (2, 4, 3, 3)),
        (lambda: pax.nn.Conv1DTranspose(4, 3, 3, rng_key=KEY), (2, 5, 4)),
    ],
    ids=["Linear", "Conv2D", "Conv1DTranspose"],
)
def test_it_starts_as_the_layer(make: Any, shape: tuple[int, ...]) -> None:
    layer, x = make(), jax.random.normal(jax.random.key(1), shape)
    module = pax.nn.WeightNorm(layer)
    np.testing.assert_allclose(module(x), layer(x), rtol=1e-5, atol=1e-6)
    assert module.g.shape == (3,)
    axes = tuple(axis for axis in range(layer.weight.ndim) if axis != module.axis)
    np.testing.assert_allclose(module.g, np.sqrt((np.asarray(layer.weight, np.float64) ** 2).sum(axes)), rtol=1e-6)


def test_length_and_direction_take_the_place_of_the_weight() -> None:
    module = linear()
    assert module.layer.weight == pax.EmptyNode()  # type: ignore[attr-defined]
    assert sorted(leaf.shape for leaf in jax.tree.leaves(module.parameters())) == [(3,), (3,), (4, 3)]
    longer = module.replace(g=2 * module.g, v=5 * module.v)
    np.testing.assert_allclose(longer.weight, 2 * module.weight, rtol=1e-5)


def test_gradients_are_those_of_the_formula() -> None:
    module: Any = linear()
    gradients: Any = pax.grad(lambda m: (m(X) ** 2).sum())(module)
    upstream = jax.grad(lambda w: ((X @ w + module.layer.bias[None]) ** 2).sum())(module.weight)
    unit = np.asarray(module.v) / np.linalg.norm(np.asarray(module.v), axis=0)
    g = (np.asarray(upstream) * unit).sum(0)
    np.testing.assert_allclose(gradients.g, g, rtol=1e-4, atol=1e-5)
    want = np.asarray(module.g) / np.linalg.norm(np.asarray(module.v), axis=0) * (np.asarray(upstream) - g * unit)
    np.testing.assert_allclose(gradients.v, want, rtol=1e-4, atol=1e-5)


def test_a_zero_channel_stays_zero_and_has_finite_gradients() -> None:
    layer = pax.nn.Linear(4, 3, rng_key=KEY)
    module = pax.nn.WeightNorm(layer.replace(weight=layer.weight.at[:, 1].set(0)))
    np.testing.assert_array_equal(module.weight[:, 1], jnp.zeros(4))
    gradients = pax.grad(lambda m: (m(X) ** 2).sum())(module)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_norms_are_computed_in_float32(dtype: Any) -> None:
    layer = pax.nn.Linear(4, 3, rng_key=KEY).replace(weight=jnp.full((4, 3), 300, dtype), bias=jnp.zeros(3, dtype))
    module = pax.nn.WeightNorm(layer)
    assert (module.g.dtype, module.v.dtype, module.weight.dtype) == (dtype,) * 3
    np.testing.assert_array_equal(module.g, np.full(3, 600, dtype))
    assert module(X.astype(dtype)).dtype == dtype


def test_text() -> None:
    assert linear(name="w").summary() == (
        "(w) WeightNorm(attribute=weight)\n└── Linear(in_dim=4, out_dim=3, with_bias=True)"
    )


def test_other_attributes_and_axes() -> None:
    module = pax.nn.WeightNorm(pax.nn.Linear(4, 3, rng_key=KEY), "bias")
    np.testing.assert_allclose(module(X), pax.nn.Linear(4, 3, rng_key=KEY)(X), rtol=1e-5, atol=1e-6)
    assert linear(axis=0).g.shape == (4,)
    with pytest.raises(ArgumentError, match="at least 1 axis"):
        pax.nn.WeightNorm(pax.nn.Linear(4, 3).set_attribute("scale", jnp.ones(())), "scale")


def test_states_of_the_layer_change() -> None:
    class Counting(pax.nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.count = jnp.zeros((), jnp.int32)

        def __call__(self, x: Any) -> Any:
            self.count = self.count + 1
            return super().__call__(x)

    module = pax.nn.WeightNorm(Counting())
    updated, _ = pax.purecall(module, X)
    assert int(updated.layer.count) == 1  # type: ignore[attr-defined]
    with pytest.raises(MutationError):
        module(X)


def test_an_axis_is_an_integer() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting an integer for `axis`.\n  where: WeightNorm"):
        pax.nn.WeightNorm(pax.nn.Linear(3, 2), axis=1.0)  # type: ignore[arg-type]
