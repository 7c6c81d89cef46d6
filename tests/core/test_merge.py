"""`a | b`: the right side wins where it has something; what does not fit is named."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Holder, Linear, Net, Norm
from pax.errors import StructureError


def _doubled(module: Any) -> Any:
    return jax.tree.map(lambda x: 2 * x + 1, module)


def test_the_right_side_wins_states_included() -> None:
    net = Net()
    other = _doubled(net)
    assert net | other == other


def test_the_left_side_stays_where_the_right_side_has_an_empty_node() -> None:
    norm = Norm()
    merged = norm | _doubled(norm).parameters()
    assert (merged.scale.tolist(), merged.mean is norm.mean) == ([3.0, 3.0], True)


def test_an_array_wins_over_an_empty_node_on_the_left() -> None:
    norm = Norm()
    assert norm.parameters() | norm == norm


def test_two_orders_give_two_results() -> None:
    norm = Norm()
    other = _doubled(norm)
    assert (norm | other) != (other | norm)


def test_merging_two_empty_nodes_gives_an_empty_node() -> None:
    assert (Holder(a=pax.EmptyNode()) | Holder(a=pax.EmptyNode())).a == pax.EmptyNode()


def test_an_empty_node_stands_for_a_whole_submodule() -> None:
    holder = Holder(a=Linear(), b=Linear())
    new = Linear()
    merged = holder | Holder(a=pax.EmptyNode(), b=new)
    assert merged.a == holder.a
    assert merged.b == new


def test_merging_leaves_both_sides_as_they_are() -> None:
    norm, other = Norm(), Norm()
    scales = norm.scale, other.scale
    _ = norm | other
    assert norm.scale is scales[0]
    assert other.scale is scales[1]


def test_the_shapes_of_arrays_have_to_agree() -> None:
    net = Holder(layers=[Linear(2, 2)])
    wrong = jax.tree.map(lambda x: jnp.zeros((3, *x.shape)), net)
    with pytest.raises(ValueError, match="the shapes of arrays differ") as caught:
        net | wrong
    assert isinstance(caught.value, StructureError)
    assert "layers[0].weight: got float32[3,2,2], want float32[2,2]" in str(caught.value)
    assert "layers[0].bias: got float32[3,2], want float32[2]" in str(caught.value)
    assert "fix:   module.replace_node(lambda m: m.layer.weight, new_weight)" in str(caught.value)


def test_dtypes_may_differ() -> None:
    linear = Linear()
    half = jax.tree.map(lambda x: x.astype(jnp.float16), linear)
    assert (linear | half).weight.dtype == jnp.float16


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (lambda: Net().replace(rate=0.1), "rate: got 0.1, want 0.5"),
        (lambda: Net().replace(encoder=Linear(5, 3)), "encoder.in_features: got 5, want 2"),
        (lambda: Net().replace(encoder=Norm()), "encoder: got a `Norm`, want a `Linear`"),
        (lambda: Net().eval(), "_training: got False, want True"),
        (lambda: Linear(), "the root: got a `Linear`, want a `Net`"),
    ],
    ids=["static value", "static value below", "class below", "mode", "class"],
)
def test_the_error_of_other_structures_names_the_difference(other: Any, line: str) -> None:
    with pytest.raises(StructureError, match="These modules cannot be merged: their structures differ") as caught:
        Net() | other()
    assert line in str(caught.value)
    assert "fix:   merge what comes from the same model: model.update_parameters(new_model)" in str(caught.value)


def test_merging_with_something_else_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Linear() | 3  # type: ignore[operator]


def test_merging_works_under_jit() -> None:
    norm = Norm()
    merged = jax.jit(lambda a, b: a | ~b)(norm, _doubled(norm))
    assert (merged.scale.tolist(), merged.mean.tolist()) == ([3.0, 3.0], [0.0, 0.0])
