"""pax.nn.RNN: a cell applied to each step of a sequence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter
from helpers.precision import x64
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError

LENGTHS = jnp.array([5, 0, 3])


def lstm(**options: Any) -> pax.nn.LSTM:
    return pax.nn.LSTM(2, 3, rng_key=jax.random.key(0), **options)


def sequence(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), shape or (3, 5, 2))


def random_state(*batch: int) -> pax.nn.LSTMState:
    return pax.nn.LSTMState(*jax.random.normal(jax.random.key(2), (2, *batch, 3)))


def close(got: Any, want: Any) -> None:
    assert treedef(got) == treedef(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def loop(cell: Any, state: Any, x: jax.Array, order: Any) -> tuple[Any, dict[int, jax.Array]]:
    """Calls a cell step by step on ``x``, ``(time, features)`` or ``(batch, time, features)``."""
    found = {}
    for t in order:
        state, found[int(t)] = cell(state, x[..., t, :])
    return state, found


class Noisy(pax.Module):
    """A cell with a submodule that changes in each step, in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = lstm()
        self.dropout = pax.nn.Dropout(0.5, rng_key=jax.random.key(3))
        self.counter = Counter()

    def initial_state(self, batch_size: Any) -> pax.nn.LSTMState:
        return self.inner.initial_state(batch_size)

    def __call__(self, state: pax.nn.LSTMState, x: jax.Array) -> tuple[pax.nn.LSTMState, jax.Array]:
        if self.training:
            self.counter()
        return self.inner(state, self.dropout(x))


class Accumulator(pax.Module):
    """A cell without parameters: sums its input, in a state of a given dtype, and returns what it is told to."""

    def __init__(self, result: str = "state and output", dtype: Any = jnp.float32) -> None:
        super().__init__()
        self.result = result
        self.dtype = dtype
        self.seen: Any = None

    def initial_state(self, batch_size: Any) -> dict[str, jax.Array]:
        del batch_size
        return {"sum": jnp.zeros((), self.dtype)}

    def __call__(self, state: dict[str, jax.Array], x: jax.Array) -> Any:
        new = {"sum": state["sum"].astype(jnp.float32) + x.sum()}
        if self.result == "more state":
            new["more"] = x
        if self.result == "more cell":
            self.seen = x
        return new["sum"] if self.result == "output" else (new, new["sum"])


# ---- what it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 2), (5, 2), (2, 3, 5, 2)], ids=str)
def test_a_sequence_is_computed_step_by_step(shape: tuple[int, ...], reverse: bool) -> None:
    cell, x, state = lstm(), sequence(*shape), random_state(*shape[:-2])
    want_state, steps = loop(cell, state, x, range(5)[::-1] if reverse else range(5))
    got_state, y = pax.nn.RNN(cell, reverse=reverse)(x, state, return_state=True)
    close(y, jnp.stack([steps[t] for t in range(5)], -2))
    close(got_state, want_state)


def test_one_step_after_the_other_is_the_whole_sequence() -> None:
    rnn, x = pax.nn.RNN(lstm(), return_state=True), sequence()
    state, found = None, []
    for t in range(5):
        state, y = rnn(x[:, t : t + 1], state)
        found.append(y)
    close((state, jnp.concatenate(found, 1)), rnn(x))


def test_the_time_axis_may_come_first() -> None:
    x = sequence()
    y = pax.nn.RNN(lstm())(x, lengths=LENGTHS)
    time_major = pax.nn.RNN(lstm(), time_major=True)
    close(time_major(x.swapaxes(0, 1), lengths=LENGTHS), y.swapaxes(0, 1))
    close(time_major(x.swapaxes(0, 1), mask=jnp.arange(5)[:, None] < LENGTHS[None]), y.swapaxes(0, 1))
    close(time_major(x[0]), pax.nn.RNN(lstm())(x[0]))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_the_first_state_is_that_of_the_cell(batch: tuple[int, ...]) -> None:
    cell, x = lstm(), sequence(*batch, 4, 2)
    close(pax.nn.RNN(cell)(x), pax.nn.RNN(cell)(x, cell.initial_state(batch)))


def test_the_state_is_returned_on_demand() -> None:
    x = sequence()
    with_state = pax.nn.RNN(lstm(), return_state=True)
    state, y = with_state(x)
    assert type(state) is pax.nn.LSTMState
    close(with_state(x, return_state=False), y)
    close(pax.nn.RNN(lstm())(x), y)


def test_layers_in_a_row_pass_on_their_outputs() -> None:
    gru = pax.nn.GRU(3, 4, rng_key=jax.random.key(5))
    net = pax.nn.Sequential(pax.nn.RNN(lstm()), pax.nn.RNN(gru))
    close(net(sequence()), pax.nn.RNN(gru)(pax.nn.RNN(lstm())(sequence())))


def test_a_sequence_may_be_empty() -> None:
    state, y = pax.nn.RNN(lstm())(jnp.ones((3, 0, 2)), random_state(3), return_state=True)
    assert y.shape == (3, 0, 3)
    close(state, random_state(3))


def test_a_cell_may_take_more_feature_axes() -> None:
    class Images(pax.Module):
        def initial_state(self, batch_size: int) -> jax.Array:
            return jnp.zeros((batch_size, 4, 4))

        def __call__(self, state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return state + x, state + x

    y = pax.nn.RNN(Images(), num_feature_axes=2)(jnp.ones((2, 3, 4, 4)), lengths=jnp.array([3, 2]))
    np.testing.assert_array_equal(y[:, :, 0, 0], [[1, 2, 3], [1, 2, 0]])


# ---- examples of different lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_give_what_the_cut_sequences_give(reverse: bool) -> None:
    rnn, x, state = pax.nn.RNN(lstm(), reverse=reverse, return_state=True), sequence(), random_state(3)
    got_state, got = rnn(x, state, lengths=LENGTHS)
    for example, length in enumerate(LENGTHS.tolist()):
        alone = jax.tree.map(lambda leaf, example=example: leaf[example], state)
        want_state, want = rnn(x[example, :length], alone)
        close(got[example, :length], want)
        assert not got[example, length:].any()
        close(jax.tree.map(lambda leaf, example=example: leaf[example], got_state), want_state)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_mask_leaves_out_steps_anywhere(reverse: bool) -> None:
    rnn, x = pax.nn.RNN(lstm(), reverse=reverse, return_state=True), sequence(5, 2)
    state, y = rnn(x, mask=jnp.array([False, True, True, False, True]))
    kept = np.array([1, 2, 4])
    want_state, want = rnn(x[kept])
    close(y[kept], want)
    assert not y[np.array([0, 3])].any()
    close(state, want_state)


def test_lengths_are_a_mask() -> None:
    rnn, x = pax.nn.RNN(lstm(), return_state=True), sequence()
    close(rnn(x, lengths=LENGTHS), rnn(x, mask=jnp.arange(5)[None] < LENGTHS[:, None]))
    close(rnn(x, lengths=np.array([5, 0, 3], np.uint8)), rnn(x, lengths=LENGTHS))
    close(rnn(x[0], lengths=jnp.array(2)), rnn(x[0], mask=jnp.arange(5) < 2))
    close(rnn(sequence(2, 3, 5, 2), lengths=jnp.full((2, 3), 5)), rnn(sequence(2, 3, 5, 2)))


def test_what_stands_behind_the_end_has_no_effect_not_even_nan() -> None:
    rnn, x = pax.nn.RNN(lstm()), sequence()
    spoilt = jnp.where((jnp.arange(5)[None] < LENGTHS[:, None])[..., None], x, jnp.nan)

    @jax.jit
    def loss_and_gradients(x: jax.Array) -> Any:
        return pax.value_and_grad(lambda rnn: ((rnn(x, lengths=LENGTHS) ** 2).sum(), None), has_aux=True)(rnn)

    close(loss_and_gradients(spoilt), loss_and_gradients(x))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(loss_and_gradients(spoilt)))


# ---- under transformations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"remat": True}, {"unroll": 2}, {"unroll": True}], ids=str)
def test_gradients_are_those_of_a_loop(options: dict[str, Any]) -> None:
    x = sequence(2, 4, 2)

    def unrolled(cell: Any) -> jax.Array:
        return sum((y**2).sum() for y in loop(cell, cell.initial_state(2), x, range(4))[1].values())  # type: ignore[return-value]

    want = jax.jit(pax.grad(unrolled))(lstm())
    got = jax.jit(pax.grad(lambda rnn: (rnn(x) ** 2).sum()))(pax.nn.RNN(lstm(), **options))
    close(got.cell, want)


def test_vmap_over_examples_is_a_batch() -> None:
    rnn, x = pax.nn.RNN(lstm(), return_state=True), sequence()
    close(jax.vmap(lambda x, n: rnn(x, lengths=n))(x, LENGTHS), rnn(x, lengths=LENGTHS))


def test_equal_networks_are_traced_once() -> None:
    call = TraceCounter(lambda rnn, x: rnn(x))
    for _ in range(3):
        call(pax.nn.RNN(lstm()), sequence())
    assert call.traces == 1


def test_the_weights_are_not_saved_for_each_step() -> None:
    """In the carry of the scan they would be: a residual of the backward pass for each step."""
    rnn = pax.nn.RNN(lstm())
    text = str(jax.make_jaxpr(jax.grad(lambda rnn, x: rnn(x).sum(), allow_int=True))(rnn, sequence(7, 2)))
    assert "f32[7,3]" in text  # the gates are
    assert "f32[7,5,12]" not in text
    assert "f32[7,12,5]" not in text


def test_kd_41_a_network_works_in_64_bits_and_in_half_precision() -> None:
    half = pax.nn.RNN(lstm(param_dtype=jnp.bfloat16), return_state=True)
    state, y = half(sequence().astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in (*state, y)} == {jnp.dtype(jnp.bfloat16)}
    assert half(sequence(), return_state=False).dtype == jnp.float32
    with x64():
        assert pax.nn.RNN(lstm())(jnp.ones((3, 5, 2)), lengths=jnp.array([1, 2, 3])).dtype == jnp.float64


# ---- cells that change -----------------------------------------------------------------------------------------------


def test_a_cell_that_changes_keeps_its_changes() -> None:
    x = sequence()
    rnn, y = pax.purecall(pax.nn.RNN(Noisy()), x)
    cell, state, want = Noisy(), Noisy().initial_state(3), []
    for t in range(5):
        cell, (state, output) = pax.purecall(cell, state, x[:, t])
        want.append(output)
    close(y, jnp.stack(want, 1))
    assert int(rnn.cell.counter.count) == 5
    np.testing.assert_array_equal(
        jax.random.key_data(rnn.cell.dropout.rng_key), jax.random.key_data(cell.dropout.rng_key)
    )
    assert rnn.cell.inner.fc.weight is not None


def test_a_cell_that_changes_needs_purecall_in_train_mode_only() -> None:
    rnn, x = pax.nn.RNN(Noisy()), sequence()
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode[^$]*attribute `cell`"):
        rnn(x)
    close(rnn.eval()(x), pax.nn.RNN(lstm())(x))


def test_a_cell_that_changes_can_be_trained_under_jit() -> None:
    rnn, x = pax.nn.RNN(Noisy(), remat=True), sequence()

    @jax.jit
    def step(rnn: pax.nn.RNN) -> Any:
        def loss(rnn: pax.nn.RNN) -> Any:
            rnn, y = pax.purecall(rnn, x)
            return (y**2).sum(), rnn

        return pax.value_and_grad(loss, has_aux=True)(rnn)

    (_, updated), gradients = step(rnn)
    assert int(updated.cell.counter.count) == 5
    assert treedef(updated) == treedef(rnn)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_a_frozen_cell_computes_the_same() -> None:
    rnn = pax.nn.RNN(lstm())
    close(pax.freeze_parameters(rnn)(sequence()), rnn(sequence()))


# ---- texts and mistakes ----------------------------------------------------------------------------------------------


def test_repr_and_summary() -> None:
    assert repr(pax.nn.RNN(lstm())) == "RNN"
    assert pax.nn.RNN(lstm(), time_major=True, reverse=True, name="r").summary() == (
        "(r) RNN(time_major=True, reverse=True)\n"
        "└── LSTM(input_dim=2, hidden_dim=3)\n"
        "    └── (lstm_fc) Linear(in_dim=5, out_dim=12, with_bias=True)"
    )


@pytest.mark.parametrize("cell", [None, pax.nn.Linear(2, 3), pax.nn.LSTM, jnp.tanh], ids=["None", "Linear", "a", "f"])
def test_other_things_than_cells_are_refused(cell: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.nn.RNN(cell)
    text = str(caught.value)
    assert text.startswith("Expecting a recurrent cell for `cell`.\n  where: RNN\n")
    assert text.endswith("fix:   RNN(pax.nn.LSTM(input_dim, hidden_dim))")


@pytest.mark.parametrize(
    ("option", "error", "headline"),
    [
        ({"unroll": 0}, ArgumentError, "Expecting positive values for `unroll`."),
        ({"unroll": 1.5}, ArgumentTypeError, "Expecting an integer for `unroll`."),
        ({"num_feature_axes": 0}, ArgumentError, "Expecting positive values for `num_feature_axes`."),
    ],
    ids=str,
)
def test_options_are_checked(option: Any, error: type[Exception], headline: str) -> None:
    with pytest.raises(error, match=f"{headline}\n  where: RNN"):
        pax.nn.RNN(lstm(), **option)


@pytest.mark.parametrize("time_major", [False, True])
def test_an_input_of_one_step_is_refused(time_major: bool) -> None:
    axes = r"\(time, \*batch, \*features\)" if time_major else r"\(\*batch, time, \*features\)"
    text = rf"at least 2 axes. Get 1 axes.\n  where: RNN\n  got:   float32\[2\]\n  want:  {axes}\n  fix:   x\[None\]"
    with pytest.raises(ArgumentError, match=text):
        pax.nn.RNN(lstm(), time_major=time_major)(jnp.ones(2))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"lengths": LENGTHS, "mask": jnp.ones((3, 5), bool)},
            ArgumentError,
            "Expecting `lengths` or `mask`, not both.",
        ),
        ({"lengths": jnp.ones(3)}, ArgumentTypeError, "Expecting integers for `lengths`.\n  where: RNN, lengths\n"),
        (
            {"lengths": jnp.array([1, 2])},
            ArgumentError,
            "Expecting `lengths` to fit the input.\n  where: RNN, lengths\n",
        ),
        (
            {"lengths": jnp.array([1, 2, 6])},
            ArgumentError,
            "Expecting lengths between 0 and the number of steps.\n  where: RNN, lengths\n"
            "  got:   lengths between 1 and 6\n  want:  integers in [0, 5]",
        ),
        ({"lengths": jnp.array([1, 2, -1])}, ArgumentError, "Expecting lengths between 0 and the number of steps."),
        ({"mask": jnp.ones((3, 5))}, ArgumentTypeError, "Expecting booleans for `mask`.\n  where: RNN, mask\n"),
        (
            {"mask": jnp.ones((5, 3), bool)},
            ArgumentError,
            "Expecting `mask` to fit the input.\n  where: RNN, mask\n  got:   bool[5,3]\n"
            "  want:  booleans of the shape (3, 5)",
        ),
    ],
    ids=["both", "float lengths", "shape of lengths", "long", "negative", "float mask", "shape of the mask"],
)
def test_lengths_and_masks_are_checked(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.nn.RNN(lstm())(sequence(), **options)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("cell", "error", "text"),
    [
        (
            Accumulator(dtype=jnp.float16),
            StructureError,
            "A step changes the shape or the dtype of the state.\n  where: cell (Accumulator), state['sum']\n"
            "  got:   float32[]\n  want:  float16[]\n  fix:   state = cell.initial_state(batch_size, dtype), or",
        ),
        (Accumulator("more state"), StructureError, "A step changes the structure of the state.\n"),
        (Accumulator("more cell"), StructureError, "A step changes the structure of the cell.\n  where: cell (Accumu"),
        (
            Accumulator("output"),
            ArgumentTypeError,
            "A cell has to return its new state and its output.\n  where: cell (Accumulator)\n  got:   float32[]\n"
            "  want:  (new_state, output)",
        ),
    ],
    ids=["dtype", "structure of the state", "structure of the cell", "no pair"],
)
def test_a_cell_whose_step_cannot_be_repeated_is_refused(cell: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.purecall(pax.nn.RNN(cell), sequence())
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("lengths", [LENGTHS, np.array([5, 0, 3], np.int8)], ids=["jax", "numpy"])
def test_lengths_in_the_place_of_the_state_are_refused(lengths: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.nn.RNN(lstm())(sequence(), lengths)
    assert str(caught.value) == (
        "Expecting a state. Get integers, as for `lengths`.\n"
        f"  where: RNN, state\n  got:   {pax.extend.describe(lengths)}\n  want:  a state of the cell\n"
        "  fix:   rnn(x, lengths=lengths)"
    )


def test_a_state_may_be_integers() -> None:
    class Count(pax.Module):
        def initial_state(self, batch_size: int) -> jax.Array:
            return jnp.zeros(batch_size, jnp.int32)

        def __call__(self, state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return state + jnp.ones_like(state), x

    state, _ = pax.nn.RNN(Count())(sequence(), LENGTHS.astype(jnp.int32), return_state=True)
    assert state.tolist() == [10, 5, 8]


@pytest.mark.parametrize(
    ("x", "options", "fix"),
    [
        (jnp.ones((3, 5), jnp.int32), {}, "pax.nn.Embed(vocab_size, input_dim)(x)   # makes"),
        (jnp.ones((3, 5), jnp.int32), {"lengths": LENGTHS}, "pax.nn.Embed(vocab_size, input_dim)(x)   # makes"),
        (jnp.ones((3, 5)), {"lengths": LENGTHS}, "x[..., None]   # one feature"),
        (jnp.ones((3, 5)), {"mask": jnp.ones((3, 5), jnp.bool_)}, "x[..., None]   # one feature"),
    ],
    ids=["tokens", "tokens with lengths", "numbers with lengths", "numbers with a mask"],
)
def test_an_input_without_an_axis_of_features_is_refused(x: Any, options: dict[str, Any], fix: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.RNN(lstm())(x, **options)
    assert str(caught.value).startswith(
        f"Expecting an input with an axis of features.\n  where: RNN\n  got:   {x.dtype}[3,5]\n"
        f"  want:  (*batch, time, features)\n  fix:   {fix}"
    )
    with pytest.raises(ArgumentError, match=r"(.|\n)*want:  \(time, \*batch, features\)"):
        pax.nn.RNN(lstm(), time_major=True)(x.T, **{k: v.T for k, v in options.items()})


def test_a_state_without_batch_axes_cannot_be_masked() -> None:
    cell = Accumulator()
    assert pax.nn.RNN(cell)(sequence(5, 2)).shape == (5,)
    where = r"\n  where: Accumulator, state\['sum'\]\n  got:   float32\[\]\n  want:  \(3, ...\)"
    with pytest.raises(ArgumentError, match=rf"the arrays of a state have to begin with the batch axes.{where}"):
        pax.nn.RNN(cell)(sequence(), lengths=LENGTHS)


def test_an_output_without_batch_axes_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"The output of a cell has to begin with the batch axes.\n  where: Accu"):
        pax.nn.RNN(Accumulator())(sequence())


def test_mistakes_in_a_step_name_the_place_of_the_layer() -> None:
    rnn = pax.nn.RNN(pax.nn.StackedCells(lstm(), pax.nn.GRU(4, 3)))
    with pytest.raises(ArgumentError, match=r"Get 3 features.\n  where: modules\[0\].cell.layers\[1\] \(GRU\)"):
        pax.purecall(pax.nn.Sequential(rnn), sequence())


def test_a_list_is_no_way_to_merge() -> None:
    with pytest.raises(ArgumentError, match="Expecting a known way to merge outputs for `merge`."):
        pax.nn.Bidirectional(pax.nn.GRU(2, 3), pax.nn.GRU(2, 3), merge=["sum"])  # type: ignore[arg-type]
