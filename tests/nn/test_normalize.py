"""The arithmetic that all normalisation layers share: values, derivatives and precision."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import pax
from helpers.precision import x64
from pax.errors import ArgumentTypeError

_KEY = jax.random.key(0)
_SHAPE = (2, 4, 6)


@dataclass(frozen=True)
class Case:
    """A layer for inputs of shape ``_SHAPE``; and over which axes it normalises, once they are split into ``split``."""

    make: Callable[[], Any]
    axes: tuple[int, ...]
    split: tuple[int, ...] = _SHAPE
    centre: bool = True

    def call(self, x: Any) -> Any:
        return pax.purecall(self.make(), x)[1]

    def reference(self, x: Any, eps: float) -> Any:
        """Normalises in float64."""
        wide = np.asarray(x).astype(np.float64).reshape(self.split)
        if self.centre:
            wide = wide - wide.mean(self.axes, keepdims=True)
        y = wide / np.sqrt((wide**2).mean(self.axes, keepdims=True) + eps)
        return y.reshape(_SHAPE)


CASES = {
    "LayerNorm": Case(lambda: pax.nn.LayerNorm(6, -1, True, True, rng_key=_KEY), (2,)),
    "LayerNorm over two axes": Case(lambda: pax.nn.LayerNorm(6, (1, 2), True, True, rng_key=_KEY), (1, 2)),
    "RMSNorm": Case(lambda: pax.nn.RMSNorm(6, eps=1e-5, rng_key=_KEY), (2,), centre=False),
    "GroupNorm": Case(lambda: pax.nn.GroupNorm(2, 6, rng_key=_KEY), (1, 3), (2, 4, 2, 3)),
    "InstanceNorm": Case(lambda: pax.nn.InstanceNorm(6, rng_key=_KEY), (1,)),
    "BatchNorm1D": Case(lambda: pax.nn.BatchNorm1D(6), (0, 1)),
}
_each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
_small = pytest.mark.parametrize("case", [CASES["LayerNorm"], CASES["RMSNorm"]], ids=["LayerNorm", "RMSNorm"])


def normal(seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).normal(size=_SHAPE).astype(dtype)


# ---- values ----------------------------------------------------------------------------------------------------------


@_each
@hypothesis.given(
    seed=st.integers(0, 1000),
    mean=st.sampled_from([0.0, -3.0, 1e4, -1e6]),
    std=st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 100.0]),
)
@hypothesis.settings(max_examples=25)
def test_values_are_those_of_float64(case: Case, seed: int, mean: float, std: float) -> None:
    x = (mean + std * normal(seed, np.float64)).astype(np.float32)
    np.testing.assert_allclose(case.call(x), case.reference(x, 1e-5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", [1e4, 1e6, 1e8])
def test_the_statistics_of_many_numbers_with_a_large_mean_are_right(mean: float) -> None:
    """The rounding of the sum, and of the mean itself, is far above the standard deviation here."""
    x = (mean + np.random.default_rng(0).normal(size=(1, 2**16))).astype(np.float32)
    wide = x.astype(np.float64)
    want = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5)
    np.testing.assert_allclose(pax.nn.LayerNorm(2**16, -1, False, False)(x), want, rtol=1e-4, atol=1e-4)


@_each
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_kd_62_statistics_of_half_precision_are_float32(case: Case, dtype: Any) -> None:
    """KD-62: float16 values of about 1e4 gave an infinite variance, and an output of zeros."""
    x = jnp.asarray(1e4 * normal(), dtype)
    np.testing.assert_allclose(case.call(x), case.reference(x, 1e-5), rtol=1e-3, atol=1e-5)


@_each
def test_a_constant_input_gives_zeros_and_a_gradient_without_nan(case: Case) -> None:
    x = jnp.full(_SHAPE, 0.1)
    y, grads = jax.value_and_grad(lambda x: jnp.sum(case.call(x) ** 2))(x)
    assert bool(jnp.isfinite(grads).all())
    assert case.centre is False or float(y) < 1e-9


@_each
def test_zeros_have_a_gradient_without_nan(case: Case) -> None:
    grads = jax.grad(lambda x: jnp.sum(case.call(x) * normal()))(jnp.zeros(_SHAPE))
    assert bool(jnp.isfinite(grads).all())


@_small
def test_eps_is_inside_the_root(case: Case) -> None:
    x = 1e-3 * normal()
    layer = case.make().replace(eps=1.0)
    np.testing.assert_allclose(layer(x), case.reference(x, 1.0), rtol=1e-5)


@_small
def test_eps_may_be_zero(case: Case) -> None:
    np.testing.assert_allclose(case.make().replace(eps=0.0)(normal()), case.reference(normal(), 0.0), rtol=1e-5)


def test_an_empty_batch_stays_empty() -> None:
    assert pax.nn.LayerNorm(3, -1, True, True)(jnp.ones((0, 3))).shape == (0, 3)
    assert pax.nn.RMSNorm(3)(jnp.ones((0, 3))).shape == (0, 3)
    assert pax.nn.GroupNorm(1, 3)(jnp.ones((0, 4, 3))).shape == (0, 4, 3)
    assert pax.nn.GroupNorm(1, 3)(jnp.ones((2, 0, 3))).shape == (2, 0, 3)
    assert pax.nn.InstanceNorm(3)(jnp.ones((0, 4, 3))).shape == (0, 4, 3)


# ---- derivatives -----------------------------------------------------------------------------------------------------


@_each
def test_the_derivative_is_that_of_finite_differences(case: Case) -> None:
    """In forward mode; float32 against differences in float64."""
    x, direction, step = 5 + normal(0, np.float64), normal(1, np.float64), 1e-5
    ahead, behind = (case.reference(x + sign * step * direction, 1e-5) for sign in (1, -1))
    _, tangent = jax.jvp(case.call, (jnp.asarray(x, jnp.float32),), (jnp.asarray(direction, jnp.float32),))
    np.testing.assert_allclose(tangent, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-5)


@_each
def test_reverse_mode_is_the_transpose_of_forward_mode(case: Case) -> None:
    x, direction, weights = normal(0), normal(1), normal(2)
    _, tangent = jax.jvp(case.call, (x,), (direction,))
    (cotangent,) = jax.vjp(case.call, x)[1](jnp.asarray(weights))
    np.testing.assert_allclose(np.vdot(weights, tangent), np.vdot(cotangent, direction), rtol=1e-4)


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm1D"])
def test_second_derivatives_in_both_modes(name: str) -> None:
    with x64():
        module = CASES[name].make()
        scale = None if module.scale is None else module.scale * 1.5

        @jax.jit
        def call(x: Any, scale: Any) -> Any:
            new, y = pax.purecall(module.replace(scale=scale), x)
            averages = [new.ema_mean.averages, new.ema_var.averages] if name == "BatchNorm1D" else []
            return y, averages

        check_grads(call, (normal(0, np.float64), scale), order=2, rtol=1e-4, atol=1e-4)


def test_a_large_mean_does_not_spoil_the_gradient() -> None:
    x = (1e4 + 0.01 * normal(0, np.float64)).astype(np.float32)
    weights = normal(1)
    wide = x.astype(np.float64)
    grads = jax.grad(lambda x: jnp.sum(CASES["LayerNorm"].call(x) * weights))(jnp.asarray(x))
    centred = wide - wide.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    y = centred * rstd
    want = rstd * (weights - weights.mean(-1, keepdims=True) - y * (weights * y).mean(-1, keepdims=True))
    np.testing.assert_allclose(grads, want, rtol=1e-4, atol=1e-4)


@_small
def test_gradients_of_scale_and_offset(case: Case) -> None:
    module, x, weights = case.make(), normal(0), normal(1)
    grads = pax.grad(lambda module: jnp.sum(module(x) * weights))(module)
    np.testing.assert_allclose(grads.scale, (weights * case.reference(x, 1e-5)).sum((0, 1)), rtol=1e-4, atol=1e-5)
    if case.centre:
        np.testing.assert_allclose(grads.offset, weights.sum((0, 1)), rtol=1e-5, atol=1e-6)


@_small
def test_gradients_per_example_and_with_recomputation(case: Case) -> None:
    def loss(x: Any) -> Any:
        return jnp.sum(case.call(x) ** 3)

    x = jnp.asarray(normal())
    want = jax.grad(loss)(x)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(x), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(jax.checkpoint(loss)))(x), want, rtol=1e-5, atol=1e-6)


@_each
def test_reverse_mode_keeps_one_array_of_the_size_of_the_input(case: Case) -> None:
    _, backward = jax.vjp(case.call, jnp.asarray(normal()))
    kept = [leaf for leaf in jax.tree.leaves(backward) if leaf.size == np.prod(_SHAPE)]
    assert len(kept) == 1


@_each
def test_gradients_of_half_precision_inputs_have_their_dtype(case: Case) -> None:
    x = jnp.asarray(normal(), jnp.bfloat16)
    assert jax.grad(lambda x: jnp.sum(case.call(x)))(x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "norm",
    [
        pax.nn.LayerNorm(2, -1, True, True),
        pax.nn.RMSNorm(2),
        pax.nn.GroupNorm(1, 2),
        pax.nn.InstanceNorm(2),
        pax.nn.BatchNorm1D(2).eval(),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_complex_numbers_are_refused(norm: Any) -> None:
    """Their variance is the mean of the squared moduli, which the layers do not compute."""
    with pytest.raises(ArgumentTypeError) as caught:
        norm(jnp.ones((1, 3, 2), complex))
    assert str(caught.value) == (
        f"Expecting real numbers to normalise.\n  where: {type(norm).__name__}\n  got:   complex64[1,3,2]\n"
        "  want:  integers or floating numbers\n  fix:   normalise x.real and x.imag, or jnp.abs(x)"
    )
