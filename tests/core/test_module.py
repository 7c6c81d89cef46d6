"""Construction of modules, their read-only properties, equality, hash, and modes."""

import copy
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from pax.errors import ArgumentTypeError, AttributeNameError, MutationError, PaxError

# ---- construction ----------------------------------------------------------------------------------------------------


def test_the_base_class_takes_keywords_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        pax.Module(True)  # type: ignore[call-arg]


def test_a_class_has_the_signature_of_its_constructor() -> None:
    def method(self: Any, size: int, *, rate: float = 0.5, name: str | None = None) -> None: ...

    class Layer(pax.Module):
        __init__ = method

    assert [*inspect.signature(Layer).parameters.values()] == [*inspect.signature(method).parameters.values()][1:]


def test_a_callable_module_has_the_signature_of_its_call() -> None:
    assert list(inspect.signature(Linear()).parameters) == ["x"]


def test_a_module_trains_and_has_no_name_by_default() -> None:
    module = pax.Module()
    assert (module.training, module.name) == (True, None)


def test_a_module_takes_mode_and_name() -> None:
    module = pax.Module(training=False, name="decoder")
    assert (module.training, module.name) == (False, "decoder")


def test_mode_and_name_are_there_before_the_constructor_of_a_subclass_runs() -> None:
    class Curious(pax.Module):
        def __init__(self) -> None:
            self.found = (self.training, self.name)

    assert Curious().found == (True, None)


def test_a_subclass_need_not_call_the_constructor_of_its_base() -> None:
    class Bare(pax.StateModule):
        def __init__(self) -> None:
            self.count = jnp.array(0)

    bare = Bare()
    assert (bare.training, bare.name, bare.pytree_attributes) == (True, None, ("count",))


def test_the_private_names_of_mode_and_name_can_be_read() -> None:
    module = pax.Module(training=False, name="decoder")
    assert (module._training, module._name) == (False, "decoder")
    assert {"_training", "_name"} <= set(vars(module))


def test_a_constructor_may_assign_to_the_object_it_makes_only() -> None:
    class Meddling(pax.Module):
        def __init__(self, other: Counter) -> None:
            other.count = jnp.array(5)

    counter = Counter()
    with pytest.raises(MutationError, match="attribute `count`"):
        Meddling(counter)
    assert counter.count == 0


def test_a_constructor_cannot_change_a_module_that_its_caller_may_change() -> None:
    class Meddling(pax.Module):
        def __init__(self, other: Counter) -> None:
            other.count = jnp.array(5)

    with pytest.raises(MutationError, match="or a constructor, is running"):
        pax.pure(Meddling)(Counter())


def test_a_constructor_cannot_change_a_submodule_that_is_finished() -> None:
    class Parent(pax.Module):
        def __init__(self) -> None:
            self.child = Counter()
            self.child.count = jnp.array(5)

    with pytest.raises(MutationError) as caught:
        Parent()
    assert "where: child (Counter), attribute `count`" in str(caught.value)


def test_a_constructor_may_append_submodules_to_its_lists() -> None:
    class Stack(pax.Module):
        def __init__(self) -> None:
            self.layers: list[Linear] = []
            for _ in range(3):
                self.layers.append(Linear(2, 2))

    assert len(jax.tree.leaves(Stack())) == 6


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_after_a_constructor_the_modules_of_the_caller_may_change_again(fails: bool) -> None:
    class Part(pax.Module):
        def __init__(self) -> None:
            if fails:
                raise RuntimeError

    @pax.pure
    def build(counter: Counter) -> Counter:
        try:
            Part()
        except RuntimeError:
            pass
        counter.count = jnp.array(7)
        return counter

    assert build(Counter()).count == 7


def test_an_error_in_a_constructor_comes_out_as_it_is() -> None:
    class Failing(pax.Module):
        def __init__(self) -> None:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Failing()


def test_a_module_dies_with_its_last_reference() -> None:
    module = Linear(2, 2)
    reference = weakref.ref(module)
    del module
    assert reference() is None


def test_an_unflattened_module_dies_with_its_last_reference() -> None:
    module = jax.tree.map(lambda x: x, Net())
    assert module.rate == 0.5
    reference = weakref.ref(module)
    del module
    assert reference() is None


def test_a_new_method_that_returns_something_else_skips_the_constructor() -> None:
    class Other(pax.Module):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return 3

    assert Other() == 3


@pytest.mark.parametrize(
    ("attribute", "fix"), [("name", "module = module.replace(name=...)"), ("training", "module = module.eval()")]
)
def test_a_read_only_property_cannot_be_assigned_even_where_the_module_may_change(attribute: str, fix: str) -> None:
    @pax.pure
    def assign(module: pax.Module) -> None:
        setattr(module, attribute, "x")

    with pytest.raises(AttributeNameError) as caught:
        assign(Counter())
    assert isinstance(caught.value, AttributeError)
    assert f"where: Counter, attribute `{attribute}`" in str(caught.value)
    assert fix in str(caught.value)


def test_a_constructor_that_assigns_a_read_only_property_is_told_what_to_write() -> None:
    class Named(pax.Module):
        def __init__(self) -> None:
            self.name = "me"  # type: ignore[misc]

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(name=...\) in the constructor"):
        Named()


def test_pytree_attributes_lists_pure_ones_first_and_mixed_ones_last() -> None:
    module = Holder(mixed=[jnp.zeros(1), 3], rate=0.5, pure=jnp.zeros(2), child=Linear(), empty=pax.EmptyNode())
    assert module.pytree_attributes == ("pure", "child", "empty", "mixed")


# ---- equality and hash -----------------------------------------------------------------------------------------------


def _same_values() -> tuple[Any, Any]:
    return Linear(2, 2), Linear(2, 2)


def _of(change: Callable[[Any], Any]) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        net = Net()
        return net, change(net)

    return make


def _other_class() -> tuple[Any, Any]:
    array = jnp.ones(2)
    return Holder(a=array), ParameterHolder(a=array)


_EQUAL = {
    "itself": _of(lambda net: net),
    "copy": _of(lambda net: net.copy()),
    "tree_map": _of(lambda net: jax.tree.map(lambda x: x, net)),
    "eval and train": _of(lambda net: net.eval().train()),
    "two frozen copies": lambda: (lambda net: (pax.freeze_parameters(net), pax.freeze_parameters(net)))(Net()),
    "parameters, if all is trained": lambda: (lambda net: (net, net.parameters()))(Linear()),
    "two empty nodes": lambda: (Holder(a=pax.EmptyNode()), Holder(a=pax.EmptyNode())),
}
_UNEQUAL = {
    "equal values in other arrays": _same_values,
    "deepcopy": _of(copy.deepcopy),
    "through jit": _of(jax.jit(lambda net: net)),
    "eval mode": _of(lambda net: net.eval()),
    "frozen": _of(pax.freeze_parameters),
    "another static value": _of(lambda net: net.replace(rate=0.1)),
    "its parameters, where there are states": _of(lambda net: net.parameters()),
    "another class": _other_class,
    "no module": lambda: (Linear(), 3),
    "None": lambda: (Linear(), None),
}


@pytest.mark.parametrize("pair", _EQUAL.values(), ids=_EQUAL)
def test_modules_of_one_structure_with_the_same_arrays_are_equal(pair: Callable[[], tuple[Any, Any]]) -> None:
    a, b = pair()
    assert a == b
    assert not a != b


@pytest.mark.parametrize("pair", _UNEQUAL.values(), ids=_UNEQUAL)
def test_modules_with_another_structure_or_other_arrays_are_unequal(pair: Callable[[], tuple[Any, Any]]) -> None:
    a, b = pair()
    assert a != b
    assert not a == b


@pytest.mark.parametrize(
    "change",
    [lambda net: net.copy(), lambda net: net.eval(), copy.deepcopy, lambda net: net.replace(rate=0.1)],
    ids=["copy", "eval mode", "other arrays", "another static value"],
)
def test_the_hash_depends_on_neither_values_nor_static_attributes(change: Callable[[Any], Any]) -> None:
    net = Net()
    assert hash(net) == hash(change(net))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda: jnp.zeros((2, 3)), lambda: jnp.zeros((3, 2))),
        (lambda: jnp.zeros(2), lambda: jnp.zeros(2, dtype=int)),
        (lambda: jax.random.key(0), lambda: jnp.zeros(())),
    ],
    ids=["shape", "dtype", "typed key"],
)
def test_the_hash_depends_on_shapes_and_dtypes(a: Callable[[], jax.Array], b: Callable[[], jax.Array]) -> None:
    assert hash(Holder(value=a())) != hash(Holder(value=b()))


def test_a_module_with_an_empty_node_has_a_hash() -> None:
    assert hash(Holder(a=pax.EmptyNode())) == hash(Holder(a=pax.EmptyNode()))


def test_equal_modules_are_one_element_of_a_set() -> None:
    net = Net()
    assert {net, net.copy(), net.eval()} == {net, net.eval()}


def test_a_module_can_be_a_static_argument_of_jit() -> None:
    double = TraceCounter(lambda net, x: 2 * net(x), static_argnums=0)
    linear = Linear(2, 2)
    result = double(linear, jnp.ones((1, 2)))
    double(linear.copy(), jnp.ones((1, 2)))
    assert double.traces == 1
    assert jnp.array_equal(result, 2 * linear(jnp.ones((1, 2))))


# ---- operators -------------------------------------------------------------------------------------------------------


class Adder(pax.StateModule):
    """Remembers the last sum of its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.total = jnp.array(0)

    def __call__(self, *values: Any) -> int:
        self.total = jnp.array(sum(map(len, values)) if isinstance(values[0], tuple) else sum(values))
        return len(values)


@pytest.mark.parametrize(
    ("right", "total", "count"),
    [(3, 3, 1), ((3, 4), 7, 2), (((3, 4),), 2, 1)],
    ids=["one argument", "a tuple is several arguments", "a tuple in a tuple is one argument"],
)
def test_percent_is_a_purecall(right: Any, total: int, count: int) -> None:
    adder = Adder()
    new, found = adder % right
    assert (int(new.total), found, int(adder.total)) == (total, count, 0)


def test_percent_on_a_module_that_cannot_be_called_is_an_error() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a callable module\.") as caught:
        Holder() % 3
    assert isinstance(caught.value, AssertionError)
    assert "got:   a Holder, which has no `__call__` method" in str(caught.value)


# ---- modes -----------------------------------------------------------------------------------------------------------


def _modes(module: pax.Module) -> set[bool]:
    return {module.training}.union(*(_modes(below) for below in module.submodules()))


def test_eval_reaches_all_modules_also_in_lists_and_mixed_attributes() -> None:
    net = Holder(net=Net(), table={"a": (Linear(), Norm())}, mixed=[Linear(), "text", [Counter()]])
    assert _modes(net.eval()) == {False}


def test_train_reaches_all_modules() -> None:
    net = Holder(net=Net().eval(), mixed=[Linear().eval(), "text"])
    assert _modes(net.train()) == {True}


def test_eval_leaves_the_module_itself_in_training_mode() -> None:
    net = Net()
    net.eval()
    assert _modes(net) == {True}


def test_modes_of_submodules_are_set_without_calling_their_own_methods() -> None:
    class Stubborn(pax.Module):
        def eval(self) -> Any:
            raise RuntimeError

        def train(self) -> Any:
            raise RuntimeError

    assert _modes(Holder(child=Stubborn()).eval().train()) == {True}


def test_switching_modes_traces_once_for_each_mode() -> None:
    run = TraceCounter(lambda net: net.training)
    net = Net()
    for _ in range(3):
        run(net.eval())
        run(net.train())
    assert run.traces == 2


def test_a_normalisation_uses_its_state_in_evaluation_mode() -> None:
    norm = Norm(2).replace(mean=jnp.array([1.0, 2.0])).eval()
    assert jnp.array_equal(norm(jnp.array([[1.0, 2.0]])), jnp.zeros((1, 2)))


# ---- re-classification by hand ---------------------------------------------------------------------------------------


def test_attributes_can_be_classified_by_hand_after_a_change_past_the_module() -> None:
    holder = Holder(a=1)
    holder.__dict__["a"] = jnp.ones(2)
    holder.find_and_register_pytree_attributes()
    assert holder.pytree_attributes == ("a",)


def test_all_errors_of_a_module_are_pax_errors() -> None:
    with pytest.raises(PaxError):
        Counter().count = jnp.array(1)
