"""pax.nn.StackedCells and pax.nn.Bidirectional."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, SharedNodeError

LENGTHS = jnp.array([4, 2])


def lstm(input_dim: int = 2) -> pax.nn.LSTM:
    return pax.nn.LSTM(input_dim, 3, rng_key=jax.random.key(0))


def gru(input_dim: int = 2) -> pax.nn.GRU:
    return pax.nn.GRU(input_dim, 3, rng_key=jax.random.key(1))


def sequence() -> jax.Array:
    return jax.random.normal(jax.random.key(2), (2, 4, 2))


def close(got: Any, want: Any) -> None:
    assert treedef(got) == treedef(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# ---- StackedCells ----------------------------------------------------------------------------------------------------


def test_cells_on_top_of_each_other_are_layers_in_a_row() -> None:
    stack = pax.nn.RNN(pax.nn.StackedCells(lstm(), jnp.tanh, gru(3)), return_state=True)
    below, y = pax.nn.RNN(lstm(), return_state=True)(sequence(), lengths=LENGTHS)
    above, y = pax.nn.RNN(gru(3), return_state=True)(jnp.tanh(y), lengths=LENGTHS)
    close(stack(sequence(), lengths=LENGTHS), ((below, above), y))


def test_a_stack_is_a_cell() -> None:
    stack = pax.nn.StackedCells(lstm(), gru(3))
    state = stack.initial_state((), dtype=jnp.float16)
    assert [type(part) for part in state] == [pax.nn.LSTMState, pax.nn.GRUState]
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float16)}
    new, y = stack(state, jnp.ones(2))
    assert treedef(new) == treedef(state)
    assert (y.shape, new[1].hidden.dtype) == ((3,), jnp.float16)


def test_stacks_can_be_stacked() -> None:
    stack = pax.nn.StackedCells(pax.nn.StackedCells(lstm()), gru(3))
    close(pax.nn.RNN(stack)(sequence()), pax.nn.RNN(pax.nn.StackedCells(lstm(), gru(3)))(sequence()))


def test_cells_without_a_dtype_argument_are_cells() -> None:
    class Sum(pax.Module):
        def initial_state(self, batch_size: int) -> jax.Array:
            return jnp.zeros((batch_size, 2))

        def __call__(self, state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return state + x, state + x

    close(pax.nn.RNN(pax.nn.StackedCells(Sum()))(sequence()), jnp.cumsum(sequence(), 1))


def test_dropout_between_cells_is_drawn_anew_in_each_step() -> None:
    dropout = pax.nn.Dropout(0.5, rng_key=jax.random.key(0))
    rnn = pax.nn.RNN(pax.nn.StackedCells(dropout, lstm()))
    new, _ = pax.purecall(rnn, sequence())
    cell = dropout
    for _ in range(4):
        cell, _ = pax.purecall(cell, sequence()[:, 0])
    assert new.cell.layers[0].rng_key == cell.rng_key
    close(rnn.eval()(sequence()), pax.nn.RNN(lstm())(sequence()))


def test_the_summary_of_a_stack() -> None:
    assert pax.nn.StackedCells(gru(), jnp.tanh, name="s").summary().split("\n")[::3] == [
        "(s) StackedCells",
        "│   └── (xh_to_h) Linear(in_dim=5, out_dim=3, with_bias=True)",
    ]


@pytest.mark.parametrize("layers", [(), (jnp.tanh,)], ids=["none", "function"])
def test_a_stack_without_a_cell_is_refused(layers: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.StackedCells(*layers)
    assert str(caught.value) == (
        "Expecting at least one recurrent cell.\n  where: StackedCells\n"
        f"  got:   {len(layers)} layers without a method `initial_state`\n"
        "  fix:   StackedCells(pax.nn.LSTM(input_dim, hidden_dim), ...)"
    )


def test_layers_that_are_not_callable_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a function"):
        pax.nn.StackedCells(lstm(), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [(), None, [1, 2], (1, 2, 3)], ids=repr)
def test_the_states_of_a_stack_are_a_tuple(state: Any) -> None:
    stack = pax.nn.StackedCells(lstm(), gru(3))
    with pytest.raises(
        ArgumentTypeError, match=r"a tuple with the state of each cell.\n  where: StackedCells\n  got:  "
    ):
        stack(state, jnp.ones(2))


# ---- Bidirectional ---------------------------------------------------------------------------------------------------


def test_one_cell_goes_ahead_and_one_back() -> None:
    states, y = pax.nn.Bidirectional(lstm(), gru(), return_state=True)(sequence(), lengths=LENGTHS)
    ahead_state, ahead = pax.nn.RNN(lstm(), return_state=True)(sequence(), lengths=LENGTHS)
    back_state, back = pax.nn.RNN(gru(), reverse=True, return_state=True)(sequence(), lengths=LENGTHS)
    close(y, jnp.concatenate([ahead, back], -1))
    close(states, (ahead_state, back_state))


@pytest.mark.parametrize(
    ("merge", "function"),
    [
        ("concat", lambda a, b: jnp.concatenate([a, b], -1)),
        ("sum", lambda a, b: a + b),
        ("mean", lambda a, b: (a + b) / 2),
        ("product", lambda a, b: a * b),
        (None, lambda a, b: (a, b)),
    ],
)
def test_ways_to_merge(merge: str | None, function: Any) -> None:
    rnn = pax.nn.Bidirectional(lstm(), gru(), merge)
    close(rnn(sequence()), function(rnn.forward(sequence()), rnn.backward(sequence())))


def test_states_masks_and_the_time_axis_are_passed_on() -> None:
    rnn = pax.nn.Bidirectional(lstm(), gru(), time_major=True)
    states = (lstm().initial_state(2)._replace(cell=jnp.ones((2, 3))), pax.nn.GRUState(jnp.ones((2, 3))))
    mask = jnp.arange(4)[:, None] < LENGTHS[None]
    got = rnn(sequence().swapaxes(0, 1), states, mask=mask)
    want = pax.nn.Bidirectional(lstm(), gru())(sequence(), states, lengths=LENGTHS)
    close(got, want.swapaxes(0, 1))
    assert repr(rnn) == "Bidirectional(merge=concat, time_major=True)"


def test_outputs_of_two_dtypes_are_merged_in_their_common_one() -> None:
    half = pax.nn.GRU(2, 3, dtype=jnp.bfloat16)
    assert pax.nn.Bidirectional(lstm(), half)(sequence()).dtype == jnp.float32


def test_other_ways_to_merge_are_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.Bidirectional(lstm(), gru(), "add")
    assert str(caught.value) == (
        "Expecting a known way to merge outputs for `merge`.\n  where: Bidirectional\n  got:   merge='add'\n"
        "  want:  'concat', 'sum', 'mean', 'product' or None"
    )


def test_the_same_cell_cannot_go_both_ways() -> None:
    cell = lstm()
    with pytest.raises(SharedNodeError):
        pax.nn.Bidirectional(cell, cell)


@pytest.mark.parametrize("which", [0, 1])
def test_other_things_than_cells_are_refused(which: int) -> None:
    cells: Any = [lstm(), gru()]
    cells[which] = jnp.tanh
    name = ("forward_cell", "backward_cell")[which]
    with pytest.raises(ArgumentTypeError, match=f"a recurrent cell for `{name}`.\n  where: Bidirectional"):
        pax.nn.Bidirectional(*cells)


def test_lengths_in_the_place_of_the_states_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Get integers, as for `lengths`.\n  where: Bidirectional, state\n"):
        pax.nn.Bidirectional(lstm(), gru())(sequence(), jnp.array([5, 0, 3]))  # type: ignore[arg-type]


def test_tokens_in_the_place_of_features_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Expecting an input with an axis of features.\n  where: forward \(RNN\)"):
        pax.purecall(pax.nn.Bidirectional(lstm(), gru()), jnp.ones((3, 5), jnp.int32))


def test_layers_of_a_stack_of_cells_are_given_one_by_one() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Expecting layers one by one(.|\n)*fix:   StackedCells\(\*layers\)"):
        pax.nn.StackedCells([lstm()])  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [lstm().initial_state(2), [1, 2], (1,)], ids=["one", "list", "short"])
def test_the_states_are_a_tuple_of_two(state: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a tuple of two states.\n  where: Bidirectional, state"):
        pax.nn.Bidirectional(lstm(), gru())(sequence(), state)
