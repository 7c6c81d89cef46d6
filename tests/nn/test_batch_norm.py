"""pax.nn.BatchNorm1D, pax.nn.BatchNorm2D and pax.nn.BatchNorm3D."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

FORMATS = [
    (pax.nn.BatchNorm1D, "NWC", (1, 1, 3), (0, 1)),
    (pax.nn.BatchNorm1D, "NCW", (1, 3, 1), (0, 2)),
    (pax.nn.BatchNorm2D, "NHWC", (1, 1, 1, 3), (0, 1, 2)),
    (pax.nn.BatchNorm2D, "NCHW", (1, 3, 1, 1), (0, 2, 3)),
    (pax.nn.BatchNorm3D, "NDHWC", (1, 1, 1, 1, 3), (0, 1, 2, 3)),
    (pax.nn.BatchNorm3D, "NCDHW", (1, 3, 1, 1, 1), (0, 2, 3, 4)),
]


def batch(data_format: str, seed: int = 0) -> jax.Array:
    shape = tuple({"N": 5, "C": 3, "W": 4, "H": 6, "D": 2}[letter] for letter in data_format)
    return 2.0 + 3.0 * jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(("cls", "data_format", "shape", "axes"), FORMATS)
def test_shapes_and_attributes(cls: Any, data_format: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    norm = cls(3, data_format=data_format)
    for array, value in ((norm.scale, 1), (norm.offset, 0), (norm.ema_mean.averages, 0), (norm.ema_var.averages, 1)):
        np.testing.assert_array_equal(array, np.full(shape, value, np.float32), strict=True)
    assert norm.reduced_axes == axes
    assert (norm.num_channels, norm.data_format, norm.eps, norm.decay_rate) == (3, data_format, 1e-5, 0.9)
    assert norm.pytree_attributes == ("scale", "offset", "ema_mean", "ema_var")


@pytest.mark.parametrize(("cls", "data_format", "shape", "axes"), FORMATS)
def test_train_mode_normalises_by_the_batch(
    cls: Any, data_format: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    scale = jnp.arange(1.0, 4.0).reshape(shape)
    norm = cls(3, data_format=data_format).replace(scale=scale, offset=scale + 1)
    x = batch(data_format)
    norm, y = pax.purecall(norm, x)
    wide = np.asarray(x, np.float64)
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    want = (wide - mean) / np.sqrt(var + 1e-5) * np.asarray(scale) + np.asarray(scale) + 1
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.ema_mean.averages, mean, rtol=1e-5)
    np.testing.assert_allclose(norm.ema_var.averages, var, rtol=1e-5)


def test_later_batches_are_averaged() -> None:
    norm = pax.nn.BatchNorm1D(3, decay_rate=0.75)
    first, second = batch("NWC", 0), batch("NWC", 1)
    norm, _ = pax.purecall(norm, first)
    norm, _ = pax.purecall(norm, second)
    want = 0.75 * first.mean((0, 1), keepdims=True) + 0.25 * second.mean((0, 1), keepdims=True)
    np.testing.assert_allclose(norm.ema_mean.averages, want, rtol=1e-5)
    want = 0.75 * first.var((0, 1), keepdims=True) + 0.25 * second.var((0, 1), keepdims=True)
    np.testing.assert_allclose(norm.ema_var.averages, want, rtol=1e-5)


def test_eval_mode_normalises_by_the_averages() -> None:
    norm = pax.nn.BatchNorm1D(3)
    x = batch("NWC")
    np.testing.assert_allclose(norm.eval()(x), x / np.sqrt(1 + 1e-5), rtol=1e-6)
    norm, y = pax.purecall(norm, x)
    np.testing.assert_allclose(norm.eval()(x), y, rtol=1e-4, atol=1e-5)


def test_train_mode_needs_purecall() -> None:
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        pax.nn.BatchNorm1D(3)(batch("NWC"))


@pytest.mark.parametrize(("create_scale", "create_offset"), [(True, False), (False, True), (False, False)])
def test_scale_and_offset_are_optional(create_scale: bool, create_offset: bool) -> None:
    norm = pax.nn.BatchNorm1D(3, create_scale, create_offset)
    assert (norm.scale is not None, norm.offset is not None) == (create_scale, create_offset)
    assert len(jax.tree.leaves(norm.parameters())) == create_scale + create_offset
    x = batch("NWC")
    _, y = pax.purecall(norm, x)
    np.testing.assert_allclose(y.std((0, 1)), [1.0, 1.0, 1.0], rtol=1e-4)


def test_only_scale_and_offset_are_trained() -> None:
    norm = pax.nn.BatchNorm2D(3)
    params = norm.parameters()
    assert len(jax.tree.leaves(params)) == 2
    assert params.scale is norm.scale
    assert params.offset is norm.offset


def test_summary_is_the_one_line_of_repr() -> None:
    norm = pax.nn.BatchNorm1D(3)
    text = "BatchNorm1D(num_channels=3, create_scale=True, create_offset=True, data_format=NWC, decay_rate=0.9)"
    assert repr(norm) == norm.summary() == text
    assert norm.summary(return_list=True) == [text]
    assert [repr(module) for module in norm.submodules()] == ["EMA", "EMA"]
    assert repr(pax.nn.BatchNorm1D(3, name="bn")).startswith("(bn) BatchNorm1D(")


@pytest.mark.parametrize(("mean", "std"), [(1e4, 1e-3), (1e4, 0.1), (1e6, 1.0)])
def test_kd_42_a_large_mean_does_not_spoil_the_variance(mean: float, std: float) -> None:
    """KD-42: E[x²] - E[x]² gave negative variances, and NaN."""
    x = np.asarray(mean + std * jax.random.normal(jax.random.key(0), (64, 8, 1)), np.float32)
    norm, y = pax.purecall(pax.nn.BatchNorm1D(1), x)
    want = x.astype(np.float64).var()
    np.testing.assert_allclose(norm.ema_var.averages.item(), want, rtol=1e-5)
    np.testing.assert_allclose(y, (x.astype(np.float64) - x.mean(dtype=np.float64)) / np.sqrt(want + 1e-5), atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_kd_42_half_precision_statistics_are_float32(dtype: Any) -> None:
    x = jnp.full((300, 300, 1), 3.0, dtype).at[0].set(100.0)
    norm, y = pax.purecall(pax.nn.BatchNorm1D(1), x)
    np.testing.assert_allclose(norm.ema_mean.averages.item(), np.asarray(x, np.float64).mean(), rtol=1e-5)
    assert norm.ema_mean.averages.dtype == jnp.float32
    assert y.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_kd_41_statistics_keep_their_dtype(dtype: Any) -> None:
    """KD-41: a float32 batch turned half-precision statistics into float32 ones."""
    half = jax.tree.map(lambda x: x.astype(dtype), pax.nn.BatchNorm1D(3))
    new, y = pax.purecall(half, batch("NWC"))
    assert new.ema_mean.averages.dtype == new.ema_var.averages.dtype == dtype
    assert y.dtype == jnp.float32
    assert pax.assert_structure_equal(new, half)
    _, y = pax.purecall(half, batch("NWC").astype(dtype))
    assert y.dtype == dtype


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "want"), [(jnp.bfloat16, jnp.bfloat16), (jnp.int32, jnp.float32)])
def test_without_scale_and_offset_float_dtypes_are_kept(training: bool, dtype: Any, want: Any) -> None:
    norm = pax.nn.BatchNorm1D(3, False, False)
    _, y = pax.purecall(norm if training else norm.eval(), batch("NWC").astype(dtype))
    assert y.dtype == want


def test_kd_41_x64_arrays_are_float64_and_stay_so() -> None:
    with x64():
        norm = pax.nn.BatchNorm1D(3)
        x = jnp.asarray(np.asarray(batch("NWC")), jnp.float32)
        new, _ = pax.purecall(norm, x)
        assert norm.scale.dtype == norm.ema_mean.averages.dtype == jnp.float64  # type: ignore[union-attr]
        assert new.ema_mean.averages.dtype == jnp.float64


@pytest.mark.parametrize("enabled", [False, True])
def test_kd_41_it_works_in_scan_and_traces_once(enabled: bool) -> None:
    """KD-41: with x64 the statistics became float64 in the first call, and a scan failed."""
    run = TraceCounter(lambda norm, xs: jax.lax.scan(pax.purecall, norm, xs))
    with x64(enabled):
        norm = pax.nn.BatchNorm1D(3)
        xs = jnp.stack([jnp.asarray(np.asarray(batch("NWC", seed))) for seed in range(3)])
        for _ in range(2):
            norm, ys = run(norm, xs)
    assert ys.shape == xs.shape
    assert run.traces == 1


def test_gradients_flow_through_the_statistics() -> None:
    def loss(norm: pax.nn.BatchNorm1D, x: jax.Array) -> jax.Array:
        return jnp.sum(pax.purecall(norm, x)[1] ** 3)

    norm = pax.nn.BatchNorm1D(3)
    x = batch("NWC")
    grads = pax.grad(loss)(norm, x)
    assert pax.assert_structure_equal(grads, norm.parameters())
    # The output does not change when a constant is added to its input.
    np.testing.assert_allclose(jax.grad(lambda x: loss(norm, x))(x).sum((0, 1)), np.zeros(3), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "headline"),
    [
        ((4, 3), "Expecting an input with 3 axes. Get 2 axes."),
        ((4, 5, 2), "Expecting 3 channels. Get 2 channels."),
        ((4, 5, 1), "Expecting 3 channels. Get 1 channels."),
    ],
)
def test_kd_43_rank_and_channels_are_checked(shape: tuple[int, ...], headline: str) -> None:
    """KD-43: another rank gained an axis, one channel was broadcast to all."""
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(pax.nn.BatchNorm1D(3, name="bn"), jnp.ones(shape))
    assert str(caught.value).startswith(headline)
    assert "where: (bn) BatchNorm1D\n" in str(caught.value)
    assert "want:  float[*,*,3], the axes NWC" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data_format": "NHWC"}, "expecting a correct `data_format`\n  where: BatchNorm1D"),
        ({"decay_rate": 1.5}, "Expecting a decay rate in [0, 1].\n  where: BatchNorm1D"),
        ({"num_channels": 0}, "Expecting positive values for `num_channels`.\n  where: BatchNorm1D"),
        ({"eps": -1e-5}, "Expecting a finite `eps` that is not negative.\n  where: BatchNorm1D"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.BatchNorm1D(**({"num_channels": 3} | options))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("options", "headline"),
    [
        ({"axis_name": 3}, "Expecting a name or a tuple of names for `axis_name`."),
        ({"axis_name": ()}, "Expecting a name or a tuple of names for `axis_name`."),
        ({"axis_name": ("a", 1)}, "Expecting a name or a tuple of names for `axis_name`."),
        ({"eps": None}, "Expecting a number for `eps`."),
        ({"dtype": jnp.int8}, "Expecting a floating dtype for `dtype`."),
        ({"param_dtype": jnp.int8}, "Expecting a floating dtype for `param_dtype`."),
    ],
    ids=str,
)
def test_types_of_arguments_are_checked(options: dict[str, Any], headline: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.nn.BatchNorm2D(3, **options)
    assert str(caught.value).startswith(f"{headline}\n  where: BatchNorm2D\n")


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3)])
def test_an_empty_batch_is_an_error_in_train_mode_only(shape: tuple[int, ...]) -> None:
    norm = pax.nn.BatchNorm1D(3)
    assert norm.eval()(jnp.ones(shape)).shape == shape
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(norm, jnp.ones(shape))
    assert str(caught.value).startswith("An empty batch has no mean and no variance.\n  where: BatchNorm1D")
    assert "fix:   leave out empty batches, or call module.eval()" in str(caught.value)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_dtype_is_that_of_the_output(dtype: Any, training: bool) -> None:
    norm = pax.nn.BatchNorm1D(3, dtype=dtype)
    new, y = pax.purecall(norm if training else norm.eval(), batch("NWC"))
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
    assert repr(norm).endswith(f"decay_rate=0.9, dtype={jnp.dtype(dtype)})")


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_kd_41_param_dtype_is_that_of_scale_and_offset(dtype: Any) -> None:
    """KD-41: there was no choice. Averages of half-precision layers are float32."""
    norm = pax.nn.BatchNorm1D(3, param_dtype=dtype)
    assert norm.scale is not None
    assert norm.offset is not None
    assert norm.scale.dtype == norm.offset.dtype == dtype
    new, y = pax.purecall(norm, batch("NWC").astype(dtype))
    assert y.dtype == dtype
    assert new.ema_mean.averages.dtype == norm.ema_mean.averages.dtype == jnp.float32
    assert new.ema_var.averages.dtype == norm.ema_var.averages.dtype == jnp.float32


def test_param_dtype_float32_with_x64() -> None:
    with x64():
        norm = pax.nn.BatchNorm1D(3, param_dtype=jnp.float32)
        assert {leaf.dtype for leaf in jax.tree.leaves(norm)} == {jnp.dtype(jnp.float32)}


def test_averages_of_the_derivative() -> None:
    """The updated averages are differentiable, too: a loss may depend on them."""

    def averages(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        norm, _ = pax.purecall(pax.nn.BatchNorm1D(3), x)
        return norm.ema_mean.averages.sum(), norm.ema_var.averages.sum()

    x = batch("NWC")
    mean, variance = jax.jacobian(averages)(x)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, np.full(x.shape, 1 / 20), rtol=1e-5)
    np.testing.assert_allclose(variance, 2 * (wide - wide.mean((0, 1))) / 20, rtol=1e-4, atol=1e-5)


def test_the_decay_rate_is_a_python_number() -> None:
    norm = pax.nn.BatchNorm1D(3, decay_rate=np.float32(0.5))  # type: ignore[arg-type]
    assert type(norm.decay_rate) is float
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `decay_rate`.\n  where: BatchNorm1D"):
        pax.nn.BatchNorm1D(3, decay_rate="0.9")  # type: ignore[arg-type]
