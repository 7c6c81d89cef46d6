"""pax.nn.SpectralNorm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError, AttributeNameError, MutationError

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 4))


def linear(**options: Any) -> pax.nn.SpectralNorm:
    return pax.nn.SpectralNorm(pax.nn.Linear(4, 3, rng_key=KEY), rng_key=jax.random.key(2), **options)


def norm_of(weight: Any, axis: int) -> float:
    matrix = np.moveaxis(np.asarray(weight, np.float64), axis, 0)
    return float(np.linalg.norm(matrix.reshape(matrix.shape[0], -1), 2))


@pytest.mark.parametrize(
    ("make", "axis", "shape"),
    [
        (lambda: pax.nn.Linear(4, 3, rng_key=KEY), 1, (2, 4)),
        (lambda: pax.nn.Conv1D(4, 3, 3, rng_key=KEY), 2, (2, 5, 4)),
        (lambda: pax.nn.Conv2D(4, 3, 2, data_format="NCHW", rng_key=KEY), 3, (2, 4, 3, 3)),
        (lambda: pax.nn.Conv1DTranspose(4, 3, 3, rng_key=KEY), 1, (2, 5, 4)),
    ],
    ids=["Linear", "Conv1D", "Conv2D", "Conv1DTranspose"],
)
def test_the_largest_singular_value_becomes_one(make: Any, axis: int, shape: tuple[int, ...]) -> None:
    layer = make()
    module = pax.nn.SpectralNorm(layer, rng_key=KEY)
    assert module.axis == axis
    for _ in range(30):
        module, y = pax.purecall(module, jnp.ones(shape))
    assert abs(norm_of(module.weight, axis) - 1) < 1e-4
    want = layer.replace(weight=layer.weight / norm_of(layer.weight, axis))
    np.testing.assert_allclose(y, want(jnp.ones(shape)), rtol=1e-3, atol=1e-4)


def test_the_first_estimate_is_close() -> None:
    module = linear()
    assert abs(norm_of(module.weight, 1) - 1) < 0.05


def test_attributes() -> None:
    module = linear(num_steps=2, eps=1e-6, name="d")
    assert (module.u.shape, module.v.shape) == ((3,), (4,))
    assert repr(module) == "(d) SpectralNorm(attribute=weight, num_steps=2)"
    np.testing.assert_allclose([jnp.linalg.norm(module.u), jnp.linalg.norm(module.v)], [1, 1], rtol=1e-5)
    assert [leaf.shape for leaf in jax.tree.leaves(module.parameters())] == [(4, 3), (3,)]


def test_eval_mode_changes_nothing_and_needs_no_purecall() -> None:
    module = linear().eval()
    updated, y = pax.purecall(module, X)
    assert updated == module
    np.testing.assert_allclose(module(X), y, rtol=1e-6)
    with pytest.raises(MutationError, match="attribute `u`"):
        linear()(X)


def test_gradients_stop_at_the_singular_vectors() -> None:
    module: Any = linear(num_steps=3)

    def loss(module: Any) -> Any:
        return (pax.purecall(module, X)[1] ** 2).sum()

    gradients: Any = jax.grad(loss)(module)
    updated, _ = pax.purecall(module, X)
    u, v = updated.u, updated.v

    def by_hand(weight: Any) -> Any:
        sigma = u @ (weight.T @ v)
        return ((X @ (weight / sigma) + module.layer.bias[None]) ** 2).sum()

    want = jax.grad(by_hand)(module.layer.weight)
    np.testing.assert_allclose(gradients.layer.weight, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(gradients.v, jnp.zeros(4))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_weights_have_their_vectors_in_float32(dtype: Any) -> None:
    module = pax.nn.SpectralNorm(pax.nn.Linear(4, 3, rng_key=KEY, param_dtype=dtype), rng_key=KEY)
    module, y = pax.purecall(module, X.astype(dtype))
    assert [str(array.dtype) for array in (module.u, module.v, y)] == ["float32", "float32", str(jnp.dtype(dtype))]
    assert module.weight.dtype == dtype


def test_a_zero_weight_gives_no_nan_in_the_state() -> None:
    layer = pax.nn.Linear(4, 3, rng_key=KEY)
    module = pax.nn.SpectralNorm(layer.replace(weight=jnp.zeros((4, 3))), rng_key=KEY)
    assert bool(jnp.isfinite(module.u).all() & jnp.isfinite(module.v).all())


def test_states_of_the_layer_change() -> None:
    class Counting(pax.nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.count = jnp.zeros((), jnp.int32)

        def __call__(self, x: Any) -> Any:
            self.count = self.count + 1
            return super().__call__(x)

    module = pax.nn.SpectralNorm(Counting())
    for _ in range(2):
        module, _ = pax.purecall(module, X)
    assert int(module.layer.count) == 2  # type: ignore[attr-defined]


def test_all_layers_of_a_model_at_once() -> None:
    model = pax.nn.Sequential(pax.nn.Linear(4, 4), jax.nn.relu, pax.nn.Linear(4, 2))
    model = model.apply(lambda m: pax.nn.SpectralNorm(m) if isinstance(m, pax.nn.Linear) else m)
    assert [type(layer) for layer in model] == [pax.nn.SpectralNorm, pax.nn.Lambda, pax.nn.SpectralNorm]
    model, y = jax.jit(pax.purecall)(model, X)
    assert y.shape == (2, 2)


def test_other_attributes_and_axes() -> None:
    layer = pax.nn.Linear(4, 3).set_attribute("extra", jnp.ones((2, 5)))
    module = pax.nn.SpectralNorm(layer, "extra", axis=-2)
    assert (module.axis, module.u.shape, module.v.shape) == (0, (2,), (5,))
    np.testing.assert_allclose(module.weight, np.full((2, 5), 10**-0.5), rtol=1e-5)


@pytest.mark.parametrize("cls", [pax.nn.SpectralNorm, pax.nn.WeightNorm])
@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        (3, {}, ArgumentTypeError, "Expecting a layer"),
        (pax.RngSeq(seed=0), {}, ArgumentTypeError, "Expecting a layer"),
        (
            pax.nn.Linear(4, 3),
            {"attribute": "kernel"},
            AttributeNameError,
            "no array `kernel`(.|\n)*'weight' or 'bias'",
        ),
        (pax.nn.Linear(4, 3), {"attribute": "in_dim"}, AttributeNameError, "no array `in_dim`"),
        (pax.nn.Identity(), {}, AttributeNameError, "a layer with arrays of its own"),
        (pax.nn.Linear(4, 3), {"axis": 2}, ArgumentError, r"no such axis(.|\n)*axis=2 for float32\[4,3\]"),
    ],
    ids=["number", "module", "unknown", "static", "without arrays", "axis"],
)
def test_what_has_no_such_weight_is_refused(cls: Any, layer: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        cls(layer, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attribute": "bias"}, ArgumentError, r"at least 2 axes.\n  where: SpectralNorm, `bias` of Linear"),
        ({"num_steps": 0}, ArgumentError, "Expecting positive values for `num_steps`"),
        ({"num_steps": 0.5}, ArgumentTypeError, "Expecting an integer for `num_steps`"),
        ({"eps": 0.0}, ArgumentError, "Expecting a small positive `eps`"),
        ({"rng_key": 3}, ArgumentTypeError, "Expecting a PRNG key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        pax.nn.SpectralNorm(pax.nn.Linear(4, 3), **options)


def test_errors_of_the_layer_name_its_place() -> None:
    with pytest.raises(ArgumentTypeError, match=r"where: modules\[0\].layer \(Linear\)"):
        pax.purecall(pax.nn.Sequential(linear()), jnp.ones((2, 5)))


def test_a_weight_of_zeros_stays_zero_and_is_normalised_later() -> None:
    fc = pax.nn.SpectralNorm(pax.nn.Linear(3, 2, w_init=jax.nn.initializers.zeros), rng_key=jax.random.key(0))
    x = jnp.ones((4, 3))
    for _ in range(2):
        fc, y = pax.purecall(fc, x)
    np.testing.assert_array_equal(fc.weight, np.zeros((3, 2)))
    assert np.isfinite(y).all()
    gradients = jax.grad(lambda layer: fc.replace(layer=layer).eval()(x).sum())(fc.layer)
    assert np.isfinite(gradients.weight).all()
    fc = fc.replace(layer=fc.layer.replace(weight=jnp.eye(3, 2) * 5))
    for _ in range(5):
        fc, _ = pax.purecall(fc, x)
    assert float(jnp.linalg.norm(fc.weight, 2)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "headline"),
    [
        ({"eps": "small"}, "Expecting a number for `eps`."),
        ({"axis": 1.0}, "Expecting an integer for `axis`."),
    ],
)
def test_arguments_of_other_types_are_refused(options: Any, headline: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{headline}\n  where: SpectralNorm"):
        pax.nn.SpectralNorm(pax.nn.Linear(3, 2), **options)


def test_an_attribute_is_a_name() -> None:
    with pytest.raises(AttributeNameError, match="The layer has no array `1`."):
        pax.nn.SpectralNorm(pax.nn.Linear(3, 2), attribute=1)  # type: ignore[arg-type]
