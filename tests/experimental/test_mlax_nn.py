"""The layers of the mlax dialect: shapes, values, keys, and mistakes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

import pax
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.experimental.mlax import Module
from pax.experimental.mlax.nn import (
    Bias,
    Conv,
    Embed,
    F,
    FRng,
    Linear,
    Parallel,
    ParallelRng,
    Recurrent,
    RecurrentRng,
    Scaler,
    Series,
    SeriesRng,
    ZNorm,
)
from pax.experimental.mlax.nn.functional import dropout

KEY = jax.random.PRNGKey(7)
BATCH = ((0, None, None, None), (0, None))


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _rngs() -> FRng:
    return FRng(lambda x, rng: rng)


# ---- layers with parameters -----------------------------------------------------------------------------------------


def test_linear_is_a_product_whichever_way_the_kernel_is_kept() -> None:
    x = jnp.arange(6.0).reshape(2, 3)
    y, linear = Linear(KEY, 4)(x, None)
    z, transposed = Linear(KEY, 4, transposed_kernel=True)(x, None)
    assert linear.linear_kernel.data.shape == (3, 4)
    assert transposed.linear_kernel.data.shape == (4, 3)
    np.testing.assert_allclose(y, x @ linear.linear_kernel.data, rtol=1e-6)
    np.testing.assert_allclose(z, y, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: Linear(KEY, 4), lambda: Bias(KEY, -1), lambda: Scaler(KEY, ())])
def test_weights_are_cast_to_the_dtype_of_the_input(make: Any) -> None:
    _, layer = make()(jnp.ones(3), None)
    assert layer(jnp.ones(3, jnp.bfloat16), None)[0].dtype == jnp.bfloat16
    assert layer(jnp.ones(3, jnp.int32), None)[0].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(layer.filter())} == {jnp.dtype("float32")}


def test_parameters_are_made_in_the_dtype_of_the_layer() -> None:
    assert Linear(KEY, 2, dtype=jnp.bfloat16)(jnp.ones(3), None)[1].linear_kernel.data.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("in_features", "shape", "aligned"),
    [((0, -1), (3,), (1, 3)), ((), (), (1, 1)), ((1, 0), (1,), (1, 1)), (-1, (3,), (1, 3)), ((-1, 0), (2,), (2, 1))],
)
def test_in_features_say_which_axes_have_terms(in_features: Any, shape: Any, aligned: Any) -> None:
    x = jnp.ones((2, 3))
    terms = initializers.uniform(1.0)
    y, bias = Bias(KEY, in_features, terms)(x, None)
    assert bias.bias_kernel.data.shape == shape
    np.testing.assert_allclose(y, x + bias.bias_kernel.data.reshape(aligned))
    z, scaler = Scaler(KEY, in_features, terms)(2 * x, None)
    assert scaler.scaler_kernel.data.shape == shape
    np.testing.assert_allclose(z, 2 * x * scaler.scaler_kernel.data.reshape(aligned))


def test_bias_starts_at_zero_and_scaler_at_one() -> None:
    x = jnp.arange(3.0)
    assert Bias(KEY, -1)(x, None)[0].tolist() == x.tolist()
    assert Scaler(KEY, 3)(x, None)[0].tolist() == x.tolist()


def test_embed_looks_rows_up() -> None:
    y, embed = Embed(KEY, 5, 2)(jnp.array([[0, 4], [-1, 9]], jnp.int8), None)
    table = embed.embed_kernel.data
    np.testing.assert_array_equal(y, table[jnp.array([[0, 4], [4, 4]])])
    with pytest.raises(ArgumentTypeError, match="integers"):
        embed(jnp.ones(2), None)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 4, 8)),
        ({"strides": 2, "padding": "same"}, (3, 3, 8)),
        ({"padding": 1}, (5, 6, 8)),
        ({"padding": [(0, 1), 2]}, (4, 8, 8)),
        ({"filter_dilation": (2, 1), "feature_group_count": 2}, (1, 4, 8)),
    ],
)
def test_conv_has_the_shapes_of_its_arguments(options: Any, shape: Any) -> None:
    x = jax.random.normal(KEY, (5, 6, 2))
    y, conv = Conv(KEY, 8, 3, **options)(x, None)
    assert y.shape == shape
    assert conv.conv_kernel.data.shape == (3, 3, 2 // options.get("feature_group_count", 1), 8)
    first = Conv(KEY, 8, (3, 3), data_format="channel_first", **options)
    z, _ = first(jnp.moveaxis(x, -1, 0), None)
    np.testing.assert_allclose(jnp.moveaxis(z, 0, -1), y, atol=1e-5)


def test_conv_is_a_correlation() -> None:
    x = jnp.arange(5.0)[:, None]
    y, _ = Conv(KEY, 1, 2, kernel_initializer=lambda *_: jnp.array([1.0, 10.0]).reshape(2, 1, 1))(x, None)
    assert y[:, 0].tolist() == [10.0, 21.0, 32.0, 43.0]


def test_znorm_has_the_documented_numbers() -> None:
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    norm: Any = ZNorm(KEY, "channel_last")
    y, norm = jax.vmap(norm.__call__, *BATCH, axis_name="N")(x, None, False, "N")
    np.testing.assert_allclose(y, [[-0.999995, -0.9999988], [0.999995, 0.9999988]], rtol=1e-6)
    np.testing.assert_allclose(norm.moving_mean.data, [0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(norm.moving_var.data, [1.0, 1.3], rtol=1e-6)
    z, same = norm(x[0], None, True)
    np.testing.assert_allclose(z, (x[0] - jnp.array([0.2, 0.4])) / jnp.sqrt(jnp.array([1.0, 1.3]) + 1e-5), rtol=1e-6)
    assert same.moving_mean.data is norm.moving_mean.data


@pytest.mark.parametrize(
    ("axis", "axes"),
    [("channel_last", (0, 1)), ("channel_first", (1, 2)), ("all", (0, 1, 2)), (-1, (2,)), ([0, 2], (0, 2))],
)
def test_znorm_takes_statistics_over_its_axes(axis: Any, axes: Any) -> None:
    x = jax.random.normal(KEY, (3, 4, 5)) * 3 + 1
    y, norm = ZNorm(KEY, axis)(x, None)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-4)
    np.testing.assert_allclose(norm.moving_mean.data, 0.1 * x.mean(axes), rtol=1e-4)


# ---- functions ------------------------------------------------------------------------------------------------------


def test_a_function_layer_picks_the_function_of_the_mode() -> None:
    layer = F(jnp.sin, jnp.cos)
    assert layer(0.0, None)[0] == 0
    assert layer(0.0, None, True)[0] == 1
    assert F(jnp.cos)(0.0, None, True)[0] == 1
    assert FRng(lambda x, rng: rng, lambda x, rng: x)(1.0, None, True)[0] == 1.0


def test_a_function_with_axis_name_gets_the_batch_axis() -> None:
    layer = F(lambda x, axis_name: jax.lax.psum(x, axis_name))
    y, _ = jax.vmap(layer.__call__, *BATCH, axis_name="N")(jnp.arange(3.0), None, False, "N")
    assert y.tolist() == [3.0, 3.0, 3.0]
    assert FRng(lambda x, rng, axis_name: axis_name)(1, KEY, False, ("A",))[0] == ("A",)


def test_dropout_scales_what_it_keeps_and_shares_masks_along_other_axes() -> None:
    y = dropout(jnp.ones((1000, 2)), KEY, 0.25, 0)
    assert set(y.ravel().tolist()) == {0.0, float(jnp.float32(1) / jnp.float32(0.75))}
    assert abs(float(y.mean()) - 1) < 0.1
    assert bool((y[:, 0] == y[:, 1]).all())
    assert not bool((dropout(jnp.ones((1000, 2)), KEY, 0.25, (0, -1))[:, 0] == y[:, 1]).all())
    assert jax.jit(dropout, static_argnums=3)(jnp.ones(4), KEY, 0.0, 0).tolist() == [1.0] * 4


# ---- containers and keys --------------------------------------------------------------------------------------------


def test_series_hands_on_outputs_and_returned_layers() -> None:
    layers = iter([Linear(KEY, 2, kernel_initializer=initializers.ones), lambda x: x + 1, pax.nn.Linear(2, 3)])
    y, net = Series(layers)(jnp.ones(3), None)
    assert y.shape == (3,)
    assert net.layers.data[0].initialized
    assert [type(layer).__name__ for layer in net.layers.data] == ["Linear", "F", "Linear"]
    assert Series([])("x", None)[0] == "x"


def test_parallel_leaves_the_surplus_out() -> None:
    y, net = Parallel([Linear(KEY, 2), Linear(KEY, 3), Linear(KEY, 4)])((jnp.ones(3), jnp.ones(5)), None)
    assert isinstance(y, tuple)
    assert [out.shape for out in y] == [(2,), (3,)]
    assert [layer.initialized for layer in net.layers.data] == [True, True, False]
    assert len(Parallel([jnp.sin])((0.0, 0.0), None)[0]) == 1


def test_two_layers_that_need_keys_get_folded_ones() -> None:
    net = ParallelRng([_rngs(), F(lambda x: x), _rngs()])
    (a, b, c), _ = net((0, 1, 2), KEY)
    np.testing.assert_array_equal(a, jax.random.fold_in(KEY, 0))
    np.testing.assert_array_equal(c, jax.random.fold_in(KEY, 1))
    assert b == 1


def test_one_layer_that_needs_a_key_gets_the_key_itself() -> None:
    inner = SeriesRng([_rngs()])
    (a, b), _ = ParallelRng([F(jnp.sin), inner])((0.0, 0.0), KEY)
    assert a == 0
    np.testing.assert_array_equal(b, KEY)
    assert ParallelRng([_rngs()])((0,), None)[0] == (None,)


def test_containers_without_keys_hand_none_on() -> None:
    assert Parallel([_rngs(), _rngs()])((0, 0), KEY)[0] == (None, None)
    assert Series([_rngs()])(0, KEY)[0] is None


@pytest.mark.parametrize(("rng_has_no_default", "gets"), [(True, True), (False, False)], ids=["rng", "rng=None"])
def test_the_default_of_rng_says_whether_a_key_is_needed(rng_has_no_default: bool, gets: bool) -> None:
    class Layer(Module):
        def setup(self, x: Any) -> None: ...

    class Needy(Layer):
        def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return rng

    class Free(Layer):
        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return rng

    y, _ = SeriesRng([Needy() if rng_has_no_default else Free()])(0, KEY)
    assert (y is not None) is gets


def test_several_needy_layers_without_a_key_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="There is no key, and 2 layers need one") as error:
        SeriesRng([_rngs(), _rngs()])(0, None)
    assert isinstance(error.value, ArgumentTypeError)


def test_inference_needs_no_key() -> None:
    layers = [FRng(dropped, kept) for _ in range(2)]
    assert SeriesRng(layers)(1.0, None, True)[0] == 1.0
    assert ParallelRng(layers)((1.0, 2.0), None, True)[0] == (1.0, 2.0)
    net, _ = pax.purecall(pax.nn.Sequential(SeriesRng(layers)).eval(), 1.0)
    assert net(1.0) == 1.0


def dropped(x: Any, rng: Any) -> Any:
    return dropout(x, rng, 0.5, ())


def kept(x: Any, rng: Any) -> Any:
    return x


def test_signatures_are_taken_once(monkeypatch: Any) -> None:
    net = SeriesRng([FRng(dropped, kept), F(jnp.sin), FRng(dropped, kept)])(1.0, KEY)[1]
    monkeypatch.setattr("inspect.signature", None)
    assert net(1.0, KEY)[1] == net


@pytest.mark.parametrize(
    "call",
    [
        lambda: SeriesRng([_rngs(), _rngs()])(0, 5),
        lambda: RecurrentRng(FRng(lambda x, rng: x))((jnp.zeros(3), 0.0), 5),
    ],
)
def test_what_is_no_key_is_named(call: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A PRNG key has to be an array"):
        call()


def test_inference_mode_and_axis_reach_every_layer() -> None:
    seen = []

    class Spy(Module):
        def setup(self, x: Any) -> None: ...

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            seen.append((inference_mode, batch_axis_name))
            return x

    SeriesRng([Spy(), Series([Spy()])])(0, KEY, True, "N")
    assert seen == [(True, "N")] * 2


def test_a_layer_of_pax_is_called_in_the_mode_of_the_call_and_keeps_its_own() -> None:
    dropped, net = Series([pax.nn.Dropout(0.5)])(jnp.ones(100), None)
    kept, same = net(jnp.ones(100), None, True)
    assert 0.0 in dropped.tolist()
    assert kept.tolist() == [1.0] * 100
    assert _structure(same) == _structure(net)
    assert same.layers.data[0].training
    mixed = pax.nn.Sequential(pax.nn.Dropout(0.5).eval(), pax.nn.Dropout(0.5))
    net = Series([mixed])(jnp.ones(100), None)[1]
    assert net(jnp.ones(100), None, True)[1] == net


# ---- recurrence -----------------------------------------------------------------------------------------------------


class Cell(Module):
    """A linear recurrence that counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(KEY, 2, kernel_initializer=initializers.constant(0.5))
        self.norm = ZNorm(KEY, "channel_last")

    def setup(self, x: Any) -> None: ...

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        x, hidden = x
        y, self.linear = self.linear(x, rng, inference_mode, batch_axis_name)
        _, self.norm = self.norm(y, rng, inference_mode, batch_axis_name)
        hidden = y + 0.5 * hidden
        return 2 * hidden, hidden


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 4])
def test_recurrent_is_a_loop(reverse: bool, length: int) -> None:
    xs, hidden = jnp.arange(3.0 * length).reshape(length, 3), jnp.ones(2)
    (ys, last), net = Recurrent(Cell(), reverse=reverse)((xs, hidden), None)
    cell: Any = Cell()
    expected: list[Any] = [None] * length
    for index in reversed(range(length)) if reverse else range(length):
        (expected[index], hidden), cell = cell((xs[index], hidden), None)
    np.testing.assert_allclose(ys, jnp.stack(expected), rtol=1e-5)
    np.testing.assert_allclose(last, hidden, rtol=1e-5)
    np.testing.assert_allclose(net.cell.norm.moving_mean.data, cell.norm.moving_mean.data, rtol=1e-5)
    (again, _), twice = net((xs, jnp.ones(2)), None, True)  # now all steps are in the scan
    np.testing.assert_allclose(again, ys, rtol=1e-5)
    assert _structure(twice) == _structure(net)


@pytest.mark.parametrize("reverse", [False, True])
def test_each_step_has_a_key_in_the_order_of_processing(reverse: bool) -> None:
    net = RecurrentRng(FRng(lambda x, rng: (jax.random.uniform(rng), x[1])), reverse=reverse)
    uninitialized, net = net((jnp.zeros(3), 0.0), KEY)
    expected = [jax.random.uniform(jax.random.fold_in(KEY, t)) for t in range(3)]
    for ys in (uninitialized[0], net((jnp.zeros(3), 0.0), KEY)[0][0]):
        np.testing.assert_array_equal(ys, jnp.stack(expected[::-1] if reverse else expected))
    assert RecurrentRng(F(lambda x: x))((jnp.zeros(3), 0.0), None)[0][0].shape == (3,)


def test_a_cell_has_to_keep_its_hidden_state_and_its_structure() -> None:
    class Growing(Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def setup(self, x: Any) -> None: ...

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            self.count = self.count + 1
            return x

    with pytest.raises(StructureError, match="from step to step"):
        Recurrent(Growing())((jnp.ones(3), 0.0), None)
    with pytest.raises(ArgumentError, match="hidden state must keep"):
        Recurrent(F(lambda x: (x[0], jnp.append(x[1], 0.0))))((jnp.ones(3), jnp.ones(2)), None)
    for length in (1, 2):  # the first step sets the cell up, outside of the loop
        with pytest.raises(ArgumentError, match="hidden state must keep"):
            Recurrent(F(lambda x: (x[0], x[1].astype(int))))((jnp.ones(length), jnp.ones(2)), None)
    with pytest.raises(ArgumentError, match="A cell has to return"):
        Recurrent(F(lambda x: x[0]))((jnp.ones(3), 0.0), None)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Linear(None, 3), "key"),
        (lambda: Linear(KEY, 0), "out_features"),
        (lambda: Linear(KEY, "3"), "out_features"),  # type: ignore[arg-type]
        (lambda: Linear(KEY, 3, dtype=jnp.int32), "floating dtype"),
        (lambda: Linear(KEY, 3, dtype="fast"), "dtype"),
        (lambda: Bias(KEY, -2), "negative"),
        (lambda: Bias(KEY, "all"), "in_features"),  # type: ignore[arg-type]
        (lambda: Conv(KEY, 3, 0), "filter_shape"),
        (lambda: Conv(KEY, 3, 3, padding="SAMEISH"), "padding"),
        (lambda: Conv(KEY, 3, 3, data_format="NHWC"), "data_format"),
        (lambda: Conv(KEY, 3, 3, feature_group_count=2), "groups"),
        (lambda: ZNorm(KEY, "channels"), "unknown name"),
        (lambda: ZNorm(KEY, 0, momentum=1.5), "momentum"),
        (lambda: ZNorm(KEY, 0, epsilon="small"), "epsilon"),  # type: ignore[arg-type]
        (lambda: F(3), "train_fn"),  # type: ignore[arg-type]
        (lambda: F(jnp.sin, 3), "infer_fn"),  # type: ignore[arg-type]
        (lambda: F(Linear), "train_fn"),
        (lambda: Series(F(jnp.sin)), "several layers"),
        (lambda: Series([Linear]), "no layer"),
        (lambda: Series([3]), "no layer"),
        (lambda: Recurrent(F(jnp.sin), unroll=0), "unroll"),
        (lambda: dropout(jnp.ones(2), KEY, 1.0, 0), "rate"),
        (lambda: dropout(jnp.ones(2), KEY, "much", 0), "rate"),  # type: ignore[arg-type]
        (lambda: dropout(jnp.ones(2), None, 0.5, 0), "key"),  # type: ignore[arg-type]
        (lambda: dropout(jnp.ones(2), KEY, 0.5, 1), "no such axis"),
        (lambda: dropout(jnp.ones(2), KEY, 0.5, "N"), "axis"),  # type: ignore[arg-type]
        (lambda: dropout("text", KEY, 0.5, 0), "Expecting an array"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_named(make: Any, text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "text"),
    [
        (lambda: Linear(KEY, 3), 1.0, "at least one axis"),
        (lambda: Linear(KEY, 3), "text", "Expecting an array"),
        (lambda: Linear(KEY, 3, kernel_initializer=lambda *_: jnp.ones(2)), jnp.ones(3), "another shape"),
        (lambda: Bias(KEY, (2, -1)), jnp.ones(3), "in_features"),
        (lambda: Bias(KEY, 2), jnp.ones(3), "in_features"),
        (lambda: Bias(KEY, -1, initializers.lecun_normal()), jnp.ones(3), "cannot make its shape"),
        (lambda: Conv(KEY, 3, 3), jnp.ones(3), "spatial"),
        (lambda: Conv(KEY, 3, (3, 3)), jnp.ones((5, 3)), "spatial axes"),
        (lambda: Conv(KEY, 4, 3, feature_group_count=2), jnp.ones((5, 3)), "groups"),
        (lambda: ZNorm(KEY, 2), jnp.ones(3), "no such axis"),
        (lambda: ZNorm(KEY, "channel_last"), 1.0, "at least one axis"),
        (lambda: Linear(KEY, 3, kernel_initializer=initializers.lecun_normal), jnp.ones(3), "with the parentheses"),
        (lambda: Bias(KEY, -1, jnp.zeros(3)), jnp.ones(3), "makes no array"),  # type: ignore[arg-type]
        (lambda: Parallel([jnp.sin]), 1.0, "an input for each layer"),
        (lambda: Parallel([jnp.sin]), {"a": 1.0}, "an input for each layer"),
        (lambda: Recurrent(F(lambda x: x)), jnp.ones(3), "a sequence and a hidden state"),
        (lambda: Recurrent(F(lambda x: x)), (1.0, 1.0), "one length"),
        (lambda: Recurrent(F(lambda x: x)), (jnp.ones((0, 2)), 1.0), "without steps"),
        (lambda: Recurrent(F(lambda x: x)), ([jnp.ones(2), jnp.ones(3)], 1.0), "one length"),
    ],
)
def test_inputs_that_do_not_fit_are_named(layer: Any, x: Any, text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        layer()(x, None)


@pytest.mark.parametrize("layer", [lambda: Linear(KEY, 3), lambda: Bias(KEY, -1), lambda: ZNorm(KEY, "channel_last")])
def test_another_shape_does_not_set_up_again(layer: Any) -> None:
    _, module = layer()(jnp.ones(3), None)
    with pytest.raises(ArgumentTypeError, match="than in `setup`"):
        module(jnp.ones(4), None)


def test_setup_runs_once() -> None:
    _, linear = Linear(KEY, 3)(jnp.ones(3), None)
    with pytest.raises(ArgumentError, match="only once"):
        pax.pure(lambda layer: layer.setup(jnp.ones(3)))(linear)


def test_a_convolution_of_a_batch_says_that_there_is_none() -> None:
    _, conv = Conv(KEY, 3, 3)(jnp.ones((5, 5, 2)), None)
    with pytest.raises(ArgumentTypeError, match="without a batch axis"):
        conv(jnp.ones((8, 5, 5, 2)), None)


@pytest.mark.parametrize(
    ("shape", "fix"), [((8, 5, 5, 2), "jax.vmap"), ((5, 5), "x[..., None]"), ((5,), "x[..., None]")]
)
def test_a_convolution_of_other_axes_names_what_it_takes(shape: Any, fix: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)) as error:
        Conv(KEY, 3, (3, 3))(jnp.ones(shape), None)
    assert fix in str(error.value.fix)
    assert "filter_shape" in str(error.value) or len(shape) == 1


def test_a_batch_axis_outside_of_vmap_is_named() -> None:
    with pytest.raises(ArgumentError, match="no mapped axis of this name"):
        ZNorm(KEY, "channel_last")(jnp.ones(3), None, False, "N")
