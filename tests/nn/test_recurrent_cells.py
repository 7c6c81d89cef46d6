"""pax.nn.VanillaRNN, pax.nn.LSTM, pax.nn.GRU and their states."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError

CELLS: Any = [pax.nn.VanillaRNN, pax.nn.LSTM, pax.nn.GRU]
each_cell = pytest.mark.parametrize("cls", CELLS, ids=lambda cls: cls.__name__)


def make(cls: Any, input_dim: int = 2, hidden_dim: int = 3, **options: Any) -> Any:
    return cls(input_dim, hidden_dim, rng_key=jax.random.key(0), **options)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def wide(array: Any) -> Any:
    return np.asarray(array, np.float64)


def affine(fc: pax.nn.Linear, *parts: Any) -> Any:
    return np.concatenate(parts, -1) @ wide(fc.weight) + wide(fc.bias)


def reference(cell: Any, state: Any, x: Any) -> tuple[Any, ...]:
    """One step of the specification in float64; returns the fields of the new state."""
    h = wide(state.hidden)
    if isinstance(cell, pax.nn.VanillaRNN):
        return (np.tanh(affine(cell.fc, x, h)),)
    if isinstance(cell, pax.nn.LSTM):
        i, g, f, o = np.split(affine(cell.fc, x, h), 4, -1)
        c = sigmoid(f + cell.forget_gate_bias) * wide(state.cell) + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    z, r = np.split(sigmoid(affine(cell.xh_zr_fc, x, h)), 2, -1)
    return ((1 - z) * h + z * np.tanh(affine(cell.xh_h_fc, x, r * h)),)


def random_state(cell: Any, *batch: int, seed: int = 1) -> Any:
    state = cell.initial_state(batch)
    keys = jax.random.split(jax.random.key(seed), len(state))
    return type(state)(*(jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, state, strict=True)))


@pytest.mark.parametrize(
    ("cls", "want"),
    [
        (pax.nn.VanillaRNN, {"hidden": [-0.5998093, 0.7474437, 0.3389147]}),
        (
            pax.nn.LSTM,
            {"hidden": [-0.1023876, 0.0637054, -0.0984436], "cell": [-0.2059547, 0.2270233, -0.1995773]},
        ),
        (pax.nn.GRU, {"hidden": [0.1111313, 0.0020870, -0.4509145]}),
    ],
)
def test_seed_42_gives_the_reference_values(cls: Any, want: dict[str, list[float]]) -> None:
    pax.seed_rng_key(42)
    cell = cls(2, 3)
    state, y = cell(cell.initial_state(1), jnp.ones((1, 2)))
    assert set(state._fields) == set(want)
    for field, values in want.items():
        np.testing.assert_allclose(getattr(state, field)[0], values, atol=1e-6)
    np.testing.assert_array_equal(y, state.hidden)


def test_seed_42_gives_the_reference_weights_of_a_gru() -> None:
    pax.seed_rng_key(42)
    gru = pax.nn.GRU(1, 1)
    np.testing.assert_allclose(gru.xh_zr_fc.weight.ravel(), [-1.1169804, -0.5355833, -0.2124008, 0.1013519], atol=1e-6)
    np.testing.assert_allclose(gru.xh_h_fc.weight.ravel(), [-0.1362973, 0.9834787], atol=1e-6)


@each_cell
@pytest.mark.parametrize("batch", [(4,), (), (2, 3)], ids=str)
def test_kd_40_a_step_is_that_of_the_specification_with_any_batch_axes(cls: Any, batch: tuple[int, ...]) -> None:
    """Also without any: one example."""
    cell = make(cls)
    state = random_state(cell, *batch)
    x = jax.random.normal(jax.random.key(2), (*batch, 2))
    new, y = cell(state, x)
    assert type(new) is type(state)
    for got, want in zip(new, reference(cell, state, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y, new.hidden)


def test_the_forget_gate_bias_is_added_to_the_forget_gate() -> None:
    cell = make(pax.nn.LSTM, forget_gate_bias=1)
    assert (cell.forget_gate_bias, type(cell.forget_gate_bias)) == (1.0, float)
    state = random_state(cell, 4)
    (_, want) = reference(cell, state, np.ones((4, 2)))
    np.testing.assert_allclose(cell(state, jnp.ones((4, 2)))[0].cell, want, rtol=1e-5)


def test_the_weight_of_an_lstm_can_be_initialised() -> None:
    cell = make(pax.nn.LSTM, w_init=jax.nn.initializers.zeros)
    assert not cell.fc.weight.any()
    assert cell.fc.bias.any()


@pytest.mark.parametrize(
    ("cls", "summary"),
    [
        (
            pax.nn.VanillaRNN,
            "VanillaRNN(input_dim=2, hidden_dim=3)\n└── (vanilla_rnn_fc) Linear(in_dim=5, out_dim=3, with_bias=True)",
        ),
        (
            pax.nn.LSTM,
            "LSTM(input_dim=2, hidden_dim=3)\n└── (lstm_fc) Linear(in_dim=5, out_dim=12, with_bias=True)",
        ),
        (
            pax.nn.GRU,
            "GRU(input_dim=2, hidden_dim=3)\n├── (xh_to_zr) Linear(in_dim=5, out_dim=6, with_bias=True)\n"
            "└── (xh_to_h) Linear(in_dim=5, out_dim=3, with_bias=True)",
        ),
    ],
)
def test_summary(cls: Any, summary: str) -> None:
    assert make(cls).summary() == summary
    assert repr(make(cls, 3, 5, name="c")) == f"(c) {cls.__name__}(input_dim=3, hidden_dim=5)"


@each_cell
def test_one_global_key_is_drawn(cls: Any) -> None:
    pax.seed_rng_key(7)
    cell = cls(2, 3)
    after = pax.next_rng_key()
    pax.seed_rng_key(7)
    again = cls(2, 3, rng_key=pax.next_rng_key())
    assert all(map(np.array_equal, jax.tree.leaves(cell), jax.tree.leaves(again)))
    np.testing.assert_array_equal(after, pax.next_rng_key())


@pytest.mark.parametrize("cls", [pax.nn.VanillaRNN, pax.nn.LSTM], ids=lambda cls: cls.__name__)
def test_the_key_goes_to_the_linear_layer_as_it_is(cls: Any) -> None:
    cell = make(cls)
    fc = pax.nn.Linear(5, cell.fc.out_dim, rng_key=jax.random.key(0))
    np.testing.assert_array_equal(cell.fc.weight, fc.weight)


# ---- the state -------------------------------------------------------------------------------------------------------


@each_cell
@pytest.mark.parametrize(
    ("batch_size", "shape"), [(4, (4, 3)), (0, (0, 3)), (np.int32(4), (4, 3)), ((), (3,)), ((2, 5), (2, 5, 3))], ids=str
)
def test_kd_60_the_first_state_is_zeros_for_any_batch_axes(cls: Any, batch_size: Any, shape: tuple[int, ...]) -> None:
    state = make(cls).initial_state(batch_size)
    assert all(leaf.shape == shape and leaf.dtype == jnp.float32 and not leaf.any() for leaf in state)


@each_cell
def test_kd_60_the_first_state_has_the_dtype_of_the_weights(cls: Any) -> None:
    half = make(cls, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in half.initial_state(1)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in half.initial_state(1, dtype=jnp.float16)} == {jnp.dtype(jnp.float16)}
    with x64():
        assert {leaf.dtype for leaf in make(cls).initial_state(1)} == {jnp.dtype(jnp.float64)}


def test_kd_60_annotations_name_attributes_that_exist() -> None:
    for cls in CELLS:
        cell = make(cls)
        assert all(hasattr(cell, name) for name in cls.__annotations__)


def test_the_fields_of_a_first_state_can_be_donated() -> None:
    state = make(pax.nn.LSTM).initial_state(2)
    assert state.hidden is not state.cell


@each_cell
@pytest.mark.parametrize("state_dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("x_dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
def test_kd_41_a_state_keeps_its_dtype_so_that_a_cell_can_be_scanned(cls: Any, state_dtype: Any, x_dtype: Any) -> None:
    cell = make(cls)
    state = cell.initial_state(2, dtype=state_dtype)
    final, y = jax.eval_shape(lambda s, xs: jax.lax.scan(cell, s, xs), state, jnp.ones((4, 2, 2), x_dtype))
    assert {leaf.dtype for leaf in final} == {jnp.dtype(state_dtype)}
    assert y.dtype == jnp.float32


@each_cell
def test_kd_41_a_cell_can_be_scanned_in_64_bits(cls: Any) -> None:
    with x64():
        cell = make(cls)
        final, y = jax.lax.scan(cell, cell.initial_state(2), jnp.ones((4, 2, 2)))
        assert {leaf.dtype for leaf in (*final, y)} == {jnp.dtype(jnp.float64)}
        state = random_state(cell, 2)
        for got, want in zip(cell(state, np.ones((2, 2)))[0], reference(cell, state, np.ones((2, 2))), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)


@each_cell
def test_dtype_is_that_of_the_output(cls: Any) -> None:
    cell = make(cls, dtype=jnp.bfloat16)
    state, y = cell(random_state(cell, 2), jnp.ones((2, 2)))
    assert (y.dtype, state.hidden.dtype) == (jnp.bfloat16, jnp.float32)
    assert repr(cell) == f"{cls.__name__}(input_dim=2, hidden_dim=3, dtype=bfloat16)"
    assert {leaf.dtype for leaf in jax.tree.leaves(cell)} == {jnp.dtype(jnp.float32)}


@each_cell
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float16, 5e-3), (jnp.bfloat16, 4e-2)])
def test_half_precision_is_near_the_truth(cls: Any, dtype: Any, tolerance: float) -> None:
    """Within four roundings of values below 1.5: of the product, of the gates, of the mixture, of the result."""
    cell = make(cls, param_dtype=dtype)
    state = random_state(cell, 4)
    x = jnp.ones((4, 2), dtype)
    new, y = cell(state, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(wide(y), reference(cell, state, wide(x))[0], atol=tolerance)
    assert {leaf.dtype for leaf in new} == {jnp.dtype(dtype)}


@each_cell
def test_states_of_numpy_arrays_work(cls: Any) -> None:
    cell = make(cls)
    state = random_state(cell, 2)
    got, _ = cell(jax.tree.map(np.asarray, state), np.ones((2, 2), np.float32))
    want, _ = cell(state, jnp.ones((2, 2)))
    np.testing.assert_array_equal(got.hidden, want.hidden)


def test_states_can_be_pickled() -> None:
    state = make(pax.nn.LSTM).initial_state(2)
    assert type(pickle.loads(pickle.dumps(state))) is pax.nn.LSTMState


@each_cell
def test_a_second_step_is_not_traced_again(cls: Any) -> None:
    cell = make(cls)
    step = TraceCounter(lambda cell, state, x: cell(state, x)[0])
    state = cell.initial_state(2)
    for _ in range(3):
        state = step(make(cls), state, jnp.ones((2, 2)))
    assert step.traces == 1


# ---- mistakes --------------------------------------------------------------------------------------------------------


@each_cell
def test_another_number_of_features_is_refused(cls: Any) -> None:
    cell = make(cls, name="cell")
    with pytest.raises(ArgumentError) as caught:
        cell(cell.initial_state(2), jnp.ones((2, 4)))
    assert str(caught.value) == (
        "Expecting 2 input features. Get 4 features.\n"
        f"  where: (cell) {cls.__name__}\n  got:   float32[2,4]\n  want:  float[*,2]\n  fix:   {cls.__name__}(4, 3)"
    )


def test_a_scalar_is_refused() -> None:
    cell = make(pax.nn.GRU)
    with pytest.raises(ArgumentError, match=r"Expecting an input with at least one axis.\n  where: GRU[^$]*x\[None\]"):
        cell(cell.initial_state(()), jnp.array(1.0))


@each_cell
@pytest.mark.parametrize(
    ("batch_size", "x", "fix"),
    [(3, (2, 2), "initial_state(2)"), (1, (2,), "initial_state(())"), (2, (2, 2, 2), "initial_state((2, 2))")],
)
def test_a_state_of_another_batch_size_is_refused(cls: Any, batch_size: int, x: Any, fix: str) -> None:
    cell = make(cls)
    with pytest.raises(ArgumentError) as caught:
        cell(cell.initial_state(batch_size), jnp.ones(x))
    text = str(caught.value)
    assert text.startswith(f"The state does not fit the input and the cell.\n  where: {cls.__name__}, state.hidden\n")
    assert text.endswith(f"fix:   state = cell.{fix}")


def test_a_state_of_another_hidden_size_is_refused() -> None:
    state = pax.nn.LSTMState(jnp.ones((1, 3)), jnp.ones((1, 4)))
    with pytest.raises(ArgumentError, match=r"where: LSTM, state.cell\n  got:   float32\[1,4\] with the input float32"):
        make(pax.nn.LSTM)(state, jnp.ones((1, 2)))


def test_a_state_of_integers_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"where: GRU, state.hidden\n  got:   int32\[1,3\]"):
        make(pax.nn.GRU)(pax.nn.GRUState(jnp.ones((1, 3), jnp.int32)), jnp.ones((1, 2)))


@each_cell
@pytest.mark.parametrize("state", [None, jnp.ones((1, 3)), (jnp.ones((1, 3)),)], ids=["None", "array", "tuple"])
def test_a_state_of_another_class_is_refused(cls: Any, state: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        make(cls)(state, jnp.ones((1, 2)))
    text = str(caught.value)
    assert text.startswith(f"Expecting a state of class `{cls.__name__}State`.\n  where: {cls.__name__}\n  got:   a ")
    assert "fix:   state = cell.initial_state(batch_size)" in text


@each_cell
@pytest.mark.parametrize(
    ("arguments", "error", "headline"),
    [
        ((1.5,), ArgumentTypeError, "Expecting an integer for `batch_size`."),
        (((2, "a"),), ArgumentTypeError, "Expecting an integer for `batch_size`."),
        ((-1,), ArgumentError, "Expecting a batch size that is not negative."),
        ((1, {"dtype": jnp.int32}), ArgumentTypeError, "Expecting a floating dtype for `dtype`."),
    ],
)
def test_arguments_of_the_first_state_are_checked(cls: Any, arguments: Any, error: Any, headline: str) -> None:
    batch_size, *options = arguments
    with pytest.raises(error) as caught:
        make(cls).initial_state(batch_size, **dict(*options))
    assert str(caught.value).startswith(f"{headline}\n  where: {cls.__name__}.initial_state\n")


@each_cell
@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ((0, 1), ArgumentError, "Expecting positive values for `input_dim`."),
        ((1, 0), ArgumentError, "Expecting positive values for `hidden_dim`."),
        ((1, "2"), ArgumentTypeError, "Expecting an integer for `hidden_dim`."),
    ],
)
def test_sizes_are_checked(cls: Any, sizes: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"{text}\n  where: {cls.__name__}"):
        cls(*sizes)


def test_the_bias_of_the_forget_gate_is_a_number() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `forget_gate_bias`.\n  where: LSTM"):
        pax.nn.LSTM(2, 3, forget_gate_bias="1")  # type: ignore[arg-type]
