"""Modules that use more of Python: abstract and generic classes, inheritance, properties, user-defined access."""

import abc
import functools
import pickle
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Norm
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import MutationError

T = TypeVar("T")

# ---- abstract and generic classes ------------------------------------------------------------------------------------


class Layer(pax.Module, abc.ABC):
    @abc.abstractmethod
    def forward(self, x: Any) -> Any: ...

    def __call__(self, x: Any) -> Any:
        return self.forward(x)


class Double(Layer):
    def forward(self, x: Any) -> Any:
        return 2 * x


class Box(pax.Module, Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


def test_an_abstract_module_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"abstract (class )?.*forward"):
        Layer()  # type: ignore[abstract]


def test_a_module_that_implements_everything_can_be_made() -> None:
    assert Double()(3) == 6


def test_the_mix_in_may_come_first() -> None:
    class First(abc.ABC):
        @abc.abstractmethod
        def forward(self) -> int: ...

    class Both(First, pax.Module):
        def forward(self) -> int:
            return 3

    assert Both().forward() == 3


def test_a_generic_module_is_a_pytree_like_any_other() -> None:
    box: Box[Linear] = Box[Linear](Linear())
    assert len(jax.tree.leaves(box)) == 2
    assert type(jax.tree.map(lambda x: x, box)) is Box


def test_a_generic_module_made_with_and_without_its_argument_has_one_structure() -> None:
    assert type(Box[int](3)) is type(Box(3))
    assert treedef(Box[int](3).replace(item=4)) == treedef(Box(4))


def test_a_generic_module_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Box[int](3))).item == 3


def test_instances_are_recognised() -> None:
    double = Double()
    assert isinstance(double, Layer)
    assert isinstance(double, pax.Module)
    assert not isinstance(3, pax.Module)
    assert issubclass(Double, Layer)


# ---- inheritance -----------------------------------------------------------------------------------------------------


def test_several_levels_of_inheritance() -> None:
    class Base(pax.Module):
        def __init__(self, size: int) -> None:
            super().__init__(name="base")
            self.size = size

    class Middle(Base):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.array = jnp.ones(size)

    class Derived(Middle): ...

    derived = jax.tree.map(lambda x: x, Derived(3))
    assert (derived.size, derived.array.shape, derived.name) == (3, (3,), "base")


def test_a_diamond_of_modules() -> None:
    class Left(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = jnp.ones(1)

    class Right(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.right = jnp.ones(2)

    class Both(Left, Right): ...

    assert [leaf.shape for leaf in jax.tree.leaves(Both())] == [(2,), (1,)]


def test_a_plain_mix_in_brings_methods_and_attributes() -> None:
    class Described:
        def describe(self) -> str:
            return f"{type(self).__name__} of {self.size}"  # type: ignore[attr-defined]

    class Sized(Described, pax.Module):
        def __init__(self) -> None:
            self.size = 3

    assert Sized().describe() == "Sized of 3"


def test_subclass_arguments_reach_the_hook_of_the_user() -> None:
    class Registered(pax.Module):
        kinds: dict[str, Any] = {}  # noqa: RUF012 - shared on purpose

        def __init_subclass__(cls, kind: str, **options: Any) -> None:
            super().__init_subclass__(**options)
            cls.kinds[kind] = cls

    class One(Registered, kind="one"): ...

    assert Registered.kinds == {"one": One}
    assert One().training


class Outer:
    class Nested(pax.ParameterModule):
        def __init__(self) -> None:
            self.array = jnp.ones(1)


@pytest.mark.parametrize("make", [Outer.Nested, lambda: _local()()], ids=["nested", "local"])
def test_nested_and_local_classes_are_pytrees(make: Callable[[], Any]) -> None:
    module = make()
    assert jax.tree.map(lambda x: x + 1, module).array.tolist() == [2.0]


def _local() -> Any:
    class Local(pax.ParameterModule):
        def __init__(self) -> None:
            self.array = jnp.ones(1)

    return Local


def test_two_local_classes_of_one_name_are_two_classes() -> None:
    assert treedef(_local()()) != treedef(_local()())


# ---- attribute access ------------------------------------------------------------------------------------------------


class Forwarding(pax.Module):
    """Forwards what it does not have to its submodule."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_a_user_defined_getattr_is_asked_for_what_is_not_there() -> None:
    inner = Linear(2, 3)
    assert Forwarding(inner).weight is inner.weight


@pytest.mark.parametrize(
    "operation",
    [
        lambda m: jax.tree.map(lambda x: x, m),
        lambda m: m.copy(),
        lambda m: m.eval(),
        lambda m: pickle.loads(pickle.dumps(m)),
    ],
    ids=["tree_map", "copy", "eval", "pickle"],
)
def test_a_user_defined_getattr_does_not_hide_attributes_of_a_rebuilt_module(operation: Callable[[Any], Any]) -> None:
    rebuilt = operation(Forwarding(Linear(2, 3)))
    assert type(rebuilt.inner) is Linear
    assert rebuilt.weight.shape == (2, 3)


def test_a_user_defined_getattr_is_inherited() -> None:
    class Derived(Forwarding): ...

    assert jax.tree.map(lambda x: x, Derived(Linear(2, 3))).out_features == 3


def test_a_user_defined_getattr_may_have_a_default() -> None:
    class Lenient(Holder):
        def __getattr__(self, name: str) -> Any:
            return 7

    holder = jax.tree.map(lambda x: x, Lenient(a=jnp.ones(1)))
    assert (holder.missing, holder.a.tolist()) == (7, [1.0])


def test_a_missing_attribute_is_an_attribute_error_that_names_class_and_attribute() -> None:
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'") as caught:
        _ = Linear().wieght  # type: ignore[attr-defined]
    assert caught.value.name == "wieght"


@pytest.mark.parametrize("rebuild", [lambda m: m, lambda m: m.copy()], ids=["original", "copy"])
def test_hasattr_and_vars_see_the_attributes(rebuild: Callable[[Any], Any]) -> None:
    linear = rebuild(Linear())
    assert hasattr(linear, "weight")
    assert not hasattr(linear, "scale")
    assert {"weight", "bias", "in_features"} <= set(vars(linear))
    assert "weight" in dir(linear)


class Cached(Norm):
    """Counts how often a cached value was computed."""

    computed = 0

    @functools.cached_property
    def total(self) -> jax.Array:
        type(self).computed += 1
        return self.scale.sum()


def test_a_cached_property_is_computed_once() -> None:
    Cached.computed = 0
    module = Cached(3)
    assert (float(module.total), float(module.total), Cached.computed) == (3.0, 3.0, 1)


def test_a_cached_value_is_no_part_of_the_pytree() -> None:
    module = Cached(3)
    before = treedef(module)
    assert module.total == 3
    assert treedef(module) == before
    assert module.pytree_attributes == ("scale", "mean")


def test_a_cached_value_is_computed_anew_in_a_copy() -> None:
    module = Cached(3)
    assert module.total == 3
    assert jax.tree.map(lambda x: 2 * x, module).total == 6


def test_a_cached_value_is_computed_anew_after_a_change() -> None:
    @pax.pure
    def change(module: Cached) -> tuple[jax.Array, jax.Array]:
        before = module.total
        module.scale = 5 * module.scale
        return before, module.total

    assert tuple(map(float, change(Cached(3)))) == (3.0, 15.0)


def _late_base() -> tuple[Any, Any]:
    class Base(Holder): ...

    class Derived(Base): ...

    return Base, Derived


@pytest.mark.parametrize("owner", [0, 1], ids=["on a base", "on the class"])
def test_a_class_attribute_added_later_does_not_hide_attributes_of_modules_rebuilt_after_it(owner: int) -> None:
    classes = _late_base()
    holder = classes[1](rate=0.5, array=jnp.ones(2))
    classes[owner].rate = 0.1
    classes[owner].array = None
    again = jax.tree.map(lambda x: x, holder)
    assert (again.rate, again.array.shape) == (0.5, (2,))


@pytest.mark.parametrize("owner", [0, 1], ids=["on a base", "on the class"])
def test_a_class_attribute_added_later_does_not_hide_attributes_of_modules_rebuilt_before_it(owner: int) -> None:
    classes = _late_base()
    again = jax.tree.map(lambda x: x, classes[1](rate=0.5, array=jnp.ones(2)))
    classes[owner].rate = 0.1
    classes[owner].array = None
    assert (again.rate, again.array.shape) == (0.5, (2,))


def test_a_parameters_method_set_later_counts_and_leaves_out_what_is_frozen() -> None:
    class Late(Holder): ...

    Late.parameters = lambda self: self  # type: ignore[method-assign]
    holder = Late(array=jnp.ones(2))
    assert len(jax.tree.leaves(holder.parameters())) == 1
    assert jax.tree.leaves(pax.freeze_parameters(holder).parameters()) == []


def test_a_property_with_a_setter_works_in_the_constructor_and_in_pure_functions() -> None:
    class Scaled(pax.ParameterModule):
        half: jax.Array

        def __init__(self, value: jax.Array) -> None:
            setattr(self, "scale", value)  # noqa: B010 - mypy sees no property before its definition

        @property
        def scale(self) -> jax.Array:
            return 2 * self.half

        @scale.setter
        def scale(self, value: jax.Array) -> None:
            self.half = value / 2

    @pax.pure
    def change(module: Scaled) -> Scaled:
        module.scale = jnp.array(6.0)
        return module

    module = Scaled(jnp.array(4.0))
    assert (float(module.half), float(change(module).half)) == (2.0, 3.0)
    with pytest.raises(MutationError):
        module.scale = jnp.array(1.0)


def test_a_data_descriptor_of_the_user_works() -> None:
    class Positive:
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = f"_{name}"

        def __get__(self, instance: Any, owner: type) -> Any:
            return self if instance is None else getattr(instance, self.name)

        def __set__(self, instance: Any, value: Any) -> None:
            if value <= 0:
                raise RuntimeError("not positive")
            setattr(instance, self.name, value)

    class Rated(pax.Module):
        rate = Positive()

        def __init__(self, rate: float) -> None:
            self.rate = rate

    assert Rated(0.5).copy().rate == 0.5
    with pytest.raises(RuntimeError, match="not positive"):
        Rated(-1.0)


def test_operators_of_the_user_work() -> None:
    class Sized(Holder):
        def __len__(self) -> int:
            return 0

        def __getitem__(self, index: int) -> Any:
            return self.items[index]

    sized = Sized(items=[Linear(), Counter()])
    assert type(sized[1]) is Counter
    assert treedef(sized.copy()) == treedef(sized)
    assert len(jax.tree.leaves(Holder(a=sized).parameters())) == 2


def test_static_and_class_methods_work() -> None:
    class Made(Holder):
        @classmethod
        def of_size(cls, size: int) -> "Made":
            return cls(array=jnp.ones(size))

        @staticmethod
        def double(x: int) -> int:
            return 2 * x

    assert Made.of_size(Made.double(2)).array.shape == (4,)


def test_a_jitted_method_takes_the_module_as_an_argument() -> None:
    traces = TraceCounter(lambda module, x: module.scale * x)

    class Fast(Norm):
        def run(self, x: Any) -> Any:
            return traces(self, x)

    assert [Fast(1).run(float(number)).tolist() for number in range(3)] == [[0.0], [1.0], [2.0]]
    assert traces.traces == 1
