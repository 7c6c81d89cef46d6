"""`pax.tabulate` of layers: FLOPs against what is known of Linear and the convolutions, and whole networks."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(("batch", "size_in", "size_out"), [(1, 3, 5), (8, 16, 32), (7, 1, 1)])
def test_a_linear_layer_takes_two_operations_a_weight_and_example(batch: int, size_in: int, size_out: int) -> None:
    net = pax.nn.Linear(size_in, size_out, with_bias=False)
    assert pax.tabulate(net, struct(batch, size_in)).totals["flops"] == 2 * batch * size_in * size_out
    biased = pax.nn.Linear(size_in, size_out)
    assert pax.tabulate(biased, struct(batch, size_in)).totals["flops"] == (2 * size_in + 1) * batch * size_out


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_takes_two_operations_a_weight_and_position(stride: int) -> None:
    net = pax.nn.Conv2D(3, 4, 3, stride=stride, padding="VALID", with_bias=False)
    out = (9 - 3) // stride + 1
    assert pax.tabulate(net, struct(2, 9, 9, 3)).totals["flops"] == 2 * (2 * out * out) * (3 * 3 * 3 * 4)


def test_a_convolution_does_not_count_its_padding() -> None:
    net = pax.nn.Conv1D(1, 1, 3, padding="SAME", with_bias=False)
    # Of the 3 weights at each of 6 positions, one at either end falls on the padding.
    assert pax.tabulate(net, struct(1, 6, 1)).totals["flops"] == 2 * (3 * 6 - 2)


def test_a_stack_counts_all_of_its_layers() -> None:
    stack = pax.nn.Stack(lambda: pax.nn.Linear(4, 4, with_bias=False), 12)
    table = pax.tabulate(stack, struct(3, 4))
    assert [row["flops"] for row in table.rows] == [12 * 2 * 3 * 4 * 4] * 2
    assert table.rows[1]["outputs"] == ["float32[3,4]"]


def test_two_equal_stacks_are_followed_each() -> None:
    net = pax.nn.Sequential(*(pax.nn.Stack(lambda: pax.nn.Linear(4, 4), 3) for _ in range(2)))
    rows = {row["path"]: row for row in pax.tabulate(net, struct(3, 4)).rows}
    assert rows["modules[0].block"]["calls"] == rows["modules[1].block"]["calls"] == 1
    assert rows["modules[0].block"]["flops"] == rows["modules[1].block"]["flops"] > 0


def _mixed() -> Any:
    net = pax.nn.Sequential(pax.nn.Conv2D(1, 2, 3), pax.nn.BatchNorm2D(2), jax.nn.relu)
    return net, struct(2, 4, 4, 1), "float32[2,4,4,2]"


def _recurrent() -> Any:
    return pax.nn.RNN(pax.nn.LSTM(3, 4)), struct(2, 5, 3), None


def _remat() -> Any:
    return pax.nn.remat(pax.nn.Linear(2, 3)), struct(4, 2), "float32[4,3]"


def _ensemble() -> Any:
    return pax.nn.Ensemble(lambda: pax.nn.Linear(2, 3), 4), struct(5, 2), "float32[4,5,3]"


@pytest.mark.parametrize("make", [_mixed, _recurrent, _remat, _ensemble])
def test_networks_have_tables(make: Any) -> None:
    net, x, output = make()
    before = jax.tree.leaves(net)
    table = pax.tabulate(net, x)
    assert table.totals["flops"] > 0
    assert "could not be followed" not in str(table)
    assert output is None or table.rows[0]["outputs"] == [output]
    assert table.totals["trainable"] == sum(leaf.size for leaf in jax.tree.leaves(net.parameters()))
    assert all(a is b for a, b in zip(jax.tree.leaves(net), before, strict=True))


def test_the_states_of_batch_norm_are_no_parameters() -> None:
    table = pax.tabulate(pax.nn.BatchNorm2D(8))
    assert (table.totals["trainable"], table.totals["states"]) == (16, 18)
