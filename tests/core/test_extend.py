"""What libraries on top of PAX build on: sessions of their own, and questions about modules."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from helpers.treedefs import treedef
from pax.errors import MutationError
from pax.extend import Twin, is_mutable, modules_in, mutation_session, variant_class, variant_of, with_class


def test_modules_of_a_session_may_change_inside_the_block_only() -> None:
    counter = Counter().copy()
    with mutation_session([counter]):
        counter.count = jnp.array(3)
    assert counter.count == 3
    with pytest.raises(MutationError):
        counter.count = jnp.array(4)


def test_submodules_are_not_included() -> None:
    net = Net().copy()
    with mutation_session([net]), pytest.raises(MutationError, match=r"where: counter \(Counter\), attribute `count`"):
        net.counter.count = jnp.array(3)


def test_a_module_can_be_added_to_a_session() -> None:
    counter, more = Counter().copy(), Counter().copy()
    with mutation_session([counter]) as session:
        session.add(more)
        more.count = jnp.array(3)
    assert more.count == 3


def test_attributes_are_classified_when_the_session_ends() -> None:
    holder = Holder(values=[]).copy()
    with mutation_session([holder]):
        holder.values.append(jnp.ones(1))
        holder.new = jnp.ones(2)
    assert len(jax.tree.leaves(holder)) == 2


def test_a_session_ends_with_an_error_too() -> None:
    counter = Counter().copy()
    with pytest.raises(RuntimeError, match="mine"), mutation_session([counter]):
        raise RuntimeError("mine")
    assert not is_mutable(counter)


def test_a_module_is_mutable_in_its_session_and_under_its_trace_only() -> None:
    counter = Counter().copy()
    found = [is_mutable(counter)]
    with mutation_session([counter]):
        found.append(is_mutable(counter))
        jax.jit(lambda: found.append(is_mutable(counter)))()
    assert found == [False, True, False]


def test_an_argument_of_a_pure_function_is_mutable() -> None:
    assert pax.pure(is_mutable)(Counter())


def test_modules_of_a_tree_are_listed_parents_first() -> None:
    inner = Linear()
    outer = Holder(layers=[inner, 3])
    other = Counter()
    assert modules_in({"a": outer, "b": (1, other)}) == [outer, inner, other]


def test_a_tree_without_modules_has_none() -> None:
    assert modules_in({"a": jnp.ones(1)}) == []


def _loud(base: Any, sign: str) -> dict[str, Any]:
    """Returns the body of a variant class whose text ends with a sign."""
    return {"__repr__": lambda self: base.__repr__(self) + sign}


def test_there_is_one_variant_for_each_base_maker_and_key() -> None:
    loud = variant_class(Linear, _loud, "!")
    assert variant_class(Linear, _loud, "!") is loud
    assert variant_class(Linear, _loud, "?") is not loud
    assert variant_class(Counter, _loud, "!") is not loud
    assert variant_of(loud) == (Linear, _loud, ("!",))
    assert variant_of(Linear) is None
    assert (loud.__name__, loud.__qualname__, loud.__module__) == ("Linear", "Linear", Linear.__module__)


def test_a_module_of_another_class_has_the_same_content() -> None:
    linear = Linear(name="fc")
    loud = with_class(linear, variant_class(Linear, _loud, "!"), sign="!", bias_count=...)
    assert repr(loud) == "(fc) Linear(in=2, out=2)!"
    assert loud.sign == "!"
    assert loud.weight is linear.weight
    assert not hasattr(linear, "sign")
    assert with_class(loud, Linear, sign=...) == linear


def test_a_module_of_another_class_shares_no_submodules_and_containers() -> None:
    holder = Holder(layers=[Linear()])
    loud = with_class(holder, variant_class(Holder, _loud, "!"))
    assert loud.layers is not holder.layers
    assert loud.layers[0] is not holder.layers[0]
    assert loud.layers[0].weight is holder.layers[0].weight


def test_pytree_content_stays_that_whatever_its_leaves_are() -> None:
    shapes = jax.eval_shape(Linear)
    loud = with_class(shapes, variant_class(Linear, _loud, "!"))
    assert jax.tree.leaves(loud) == jax.tree.leaves(shapes)


def test_variants_can_be_pickled() -> None:
    loud = with_class(Linear(), variant_class(variant_class(Linear, _loud, "!"), _loud, "?"))
    again = pickle.loads(pickle.dumps(loud))
    assert type(again) is type(loud)
    assert treedef(again) == treedef(loud)
    assert repr(again).endswith("!?")


def test_replaced_methods_lie_below_other_variants_whichever_was_made_first() -> None:
    def replace(linear: Any) -> Any:
        return linear.replace_method(__repr__=_mine)

    linear = Linear()
    after = replace(with_class(linear, variant_class(Linear, _loud, "!")))
    before = with_class(replace(linear), variant_class(type(replace(linear)), _loud, "!"))
    assert repr(after) == repr(before) == "mine!"
    assert treedef(after) == treedef(before)


def _mine(self: Any) -> str:
    return "mine"


def test_a_twin_has_the_very_objects_of_the_module_and_other_attributes() -> None:
    net = Net()
    with Twin(net, Net, {"extra": 3}) as twin:
        assert type(twin) is Net
        assert twin is not net
        assert twin.counter is net.counter
        assert vars(twin)["extra"] == 3
    assert not hasattr(net, "extra")


def test_a_twin_may_change_where_its_module_may() -> None:
    @pax.pure
    def run(counter: Counter) -> Any:
        with Twin(counter, Counter, {}) as twin:
            twin.count = jnp.array(7)
            jitted = jax.jit(lambda: is_mutable(twin))
            assert not jitted()
        assert not is_mutable(twin)
        assert is_mutable(counter)
        return counter, twin

    counter, twin = run(Counter())
    assert (int(counter.count), int(twin.count)) == (0, 7)
    with Twin(counter, Counter, {}) as twin, pytest.raises(MutationError):
        twin.count = jnp.array(8)


def test_submodules_may_change_through_a_twin() -> None:
    @pax.pure
    def run(net: Net) -> Net:
        with Twin(net, Net, {}) as twin:
            twin.counter.count = jnp.array(5)
        return net

    assert run(Net()).counter.count == 5


def test_a_twin_cannot_change_after_its_block() -> None:
    with mutation_session([counter := Counter().copy()]):
        block = Twin(counter, Counter, {})
        twin = block.__enter__()
        assert is_mutable(twin)
        block.__exit__(RuntimeError, RuntimeError("mine"), None)
        assert not is_mutable(twin)
