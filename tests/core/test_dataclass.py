"""Modules that are dataclasses."""

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear
from helpers.traces import TraceCounter
from pax.errors import AttributeNameError, MutationError, UnsupportedModuleError


@dataclass
class Mlp(pax.Module):
    features: list[int]

    def __post_init__(self) -> None:
        self.layers = [Linear(a, b) for a, b in zip(self.features, self.features[1:], strict=False)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass
class Affine(pax.ParameterModule):
    weight: jax.Array
    bias: Any = None
    rate: float = 0.5
    tags: list[str] = field(default_factory=list)


@dataclass
class Named(pax.Module):
    size: int
    name: str | None = "default"


def _affine() -> Affine:
    return Affine(jnp.ones(2), jnp.zeros(2))


def test_fields_are_attributes() -> None:
    affine = _affine()
    assert affine.pytree_attributes == ("weight", "bias")
    assert (affine.rate, affine.tags, affine.training) == (0.5, [], True)


def test_more_attributes_can_be_set_after_the_fields() -> None:
    assert len(jax.tree.leaves(Mlp([1, 2, 3]))) == 4


def test_a_dataclass_is_shown_as_one_also_in_the_summary() -> None:
    assert Mlp([1, 2, 3]).summary() == "Mlp(features=[1, 2, 3])\n├── Linear(in=1, out=2)\n└── Linear(in=2, out=3)"


def test_a_dataclass_can_be_called() -> None:
    assert Mlp([1, 2, 3])(jnp.ones((4, 1))).shape == (4, 3)


def test_dataclasses_with_arrays_are_compared_by_identity() -> None:
    first, second = _affine(), _affine()
    assert first == first.copy()
    assert first != second


def test_equality_sees_attributes_that_are_no_fields() -> None:
    affine = _affine()
    assert affine != affine.set_attribute("extra", 3)


def test_a_dataclass_has_a_hash() -> None:
    assert hash(_affine()) == hash(_affine().eval())


def test_a_user_defined_comparison_stays() -> None:
    @dataclass
    class Own(pax.Module):
        size: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

        def __hash__(self) -> int:
            return 7

    assert Own(1) == Own(2)
    assert hash(Own(1)) == 7


@pytest.mark.parametrize(
    "operation",
    [
        lambda m: m.eval(),
        lambda m: m.apply(lambda below: below),
        lambda m: m.copy(),
        lambda m: jax.jit(lambda x: x)(m),
        pax.pure(lambda m: m),
        copy.deepcopy,
        pax.freeze_parameters,
    ],
    ids=["eval", "apply", "copy", "jit", "pure", "deepcopy", "freeze"],
)
def test_operations_work_on_two_dataclasses_side_by_side(operation: Any) -> None:
    module = operation(Holder(a=_affine(), b=_affine()))
    assert (module.a.rate, module.b.weight.tolist(), module.b.tags) == (0.5, [1.0, 1.0], [])


def test_a_field_with_a_default_comes_back_with_its_own_value() -> None:
    affine = jax.tree.map(lambda x: x + 1, Affine(jnp.ones(2), jnp.zeros(2), rate=0.1))
    assert (affine.bias.tolist(), affine.rate) == ([1.0, 1.0], 0.1)


def test_a_default_is_no_unregistered_field() -> None:
    assert _affine().scan_bugs().bias.shape == (2,)


def test_a_field_called_name_is_tolerated() -> None:
    assert (Named(3).name, Named(3, "own").name) == ("default", "own")


def test_a_field_called_name_survives_a_round_trip() -> None:
    assert jax.tree.map(lambda x: x, Named(3, "own")).name == "own"


def test_a_field_called_name_can_be_replaced() -> None:
    assert Named(3).replace(name="new").name == "new"


def test_dataclasses_trace_once() -> None:
    run = TraceCounter(lambda m, x: m(x))
    for _ in range(2):
        run(Mlp([1, 2]), jnp.ones((1, 1)))
    assert run.traces == 1


def test_a_dataclass_is_immutable() -> None:
    with pytest.raises(MutationError, match="attribute `rate`"):
        _affine().rate = 0.1


def test_a_dataclass_changes_in_a_purecall() -> None:
    @dataclass
    class Counting(pax.StateModule):
        count: jax.Array

        def __call__(self) -> None:
            self.count = self.count + 1

    counter, _ = pax.purecall(Counting(jnp.array(0)))
    assert counter.count == 1


def test_a_frozen_dataclass_stays_as_it_is_in_a_pure_function_too() -> None:
    @dataclass(frozen=True)
    class Frozen(pax.Module):
        size: int

        def __call__(self) -> None:
            self.size = 4  # type: ignore[misc]

    frozen = Frozen(3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pax.purecall(frozen)
    assert frozen.size == 3


def test_replace_of_dataclasses_makes_a_module_anew() -> None:
    affine = dataclasses.replace(_affine(), rate=0.1)
    assert (affine.rate, affine.pytree_attributes) == (0.1, ("weight", "bias"))


def test_a_dataclass_inherits_fields() -> None:
    @dataclass
    class Derived(Affine):
        extra: int = 3

    assert (Derived(jnp.ones(2)).extra, Derived(jnp.ones(2)).pytree_attributes) == (3, ("weight",))


def test_a_dataclass_with_slots_is_refused() -> None:
    @dataclass(slots=True)
    class Slotted(pax.Module):
        size: int

    with pytest.raises(UnsupportedModuleError, match="`__slots__` is not supported"):
        Slotted(3)


def test_keyword_only_fields() -> None:
    @dataclass(kw_only=True)
    class Keywords(pax.Module):
        size: int
        child: Any = None

    assert len(jax.tree.leaves(Keywords(size=3, child=Counter()))) == 1


def test_a_field_without_default_cannot_have_the_name_of_a_read_only_property() -> None:
    @dataclass
    class Training(pax.Module):
        training: bool

    with pytest.raises(AttributeNameError, match="attribute `training`"):
        Training(True)
