"""Parallax modules: which fields there are, what they may hold, and how they are initialized and shown."""

from __future__ import annotations

import copy
import pickle
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, List, Optional  # noqa: UP035, what users write

import jax
import jax.nn.initializers as init
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import (
    ArgumentError,
    ArgumentTypeError,
    AttributeNameError,
    MutationError,
    SharedNodeError,
    UnsupportedModuleError,
)
from pax.experimental import parallax
from pax.experimental.parallax import Dense, Dropout, Module, ModuleTuple, Parameter, ParameterTuple, ParamInit

ones = init.ones


def _ones(*shape: int) -> ParamInit:
    return ParamInit(shape, ones)


class Every(Module):
    """A field of each kind, with annotations of every kind that people write (all are strings in this file)."""

    weight: Parameter
    bias: Optional[Parameter]  # noqa: UP045
    scale: Annotated[Parameter, "of the output"]
    shift: parallax.Parameter | None
    pair: ParameterTuple
    dense: Dense
    later: Later
    layers: ModuleTuple
    linear: pax.Linear
    maybe: Dense | None
    activation: Callable[[Any], Any]
    sizes: List[int]  # noqa: UP006
    name_of_it: Final[str]
    unknown: DoesNotExist  # type: ignore[name-defined]  # noqa: F821
    number = 3
    shared: ClassVar[int] = 4

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.weight = _ones(2, 3)
        self.bias = _ones(2) if bias else None
        self.scale = jnp.full((2,), 5.0)
        self.shift = None
        self.pair = ParameterTuple(_ones(1), ParameterTuple(_ones(4), _ones()))
        self.dense = Dense(2, 2)
        self.later = Later()
        self.layers = ModuleTuple([Dense(1, 2), ModuleTuple(Dense(3, 4))])
        self.linear = pax.Linear(2, 2)
        self.maybe = None
        self.activation = jnp.tanh
        self.sizes = [1, 2]
        self.name_of_it = "every"
        self.unknown = "anything"

    def forward(self, input: Any) -> Any:
        return self.activation(self.weight @ input + self.bias) * self.scale


class Later(Module):
    """Defined after its name was used."""

    weight: Parameter

    def __init__(self) -> None:
        super().__init__()
        self.weight = ParamInit((2,), init.normal())


@pytest.fixture(scope="module")
def every() -> Any:
    pax.seed_rng_key(0)
    return Every()


@pytest.fixture(scope="module")
def initialized(every: Any) -> Any:
    return every.initialized(jax.random.key(0))


# ---- roles -----------------------------------------------------------------------------------------------------------


def test_annotations_of_every_kind_work(every: Any, initialized: Any) -> None:
    assert initialized.weight.shape == (2, 3)
    assert initialized.bias.shape == (2,)
    assert initialized.scale is every.scale  # an array that is given stays
    assert initialized.shift is None
    assert [type(initialized.pair), type(initialized.pair[1])] == [ParameterTuple, ParameterTuple]
    assert [leaf.shape for leaf in jax.tree.leaves(initialized.pair)] == [(1,), (4,), ()]
    assert initialized.later.weight.shape == (2,)
    assert type(initialized.layers) is ModuleTuple
    assert [repr(layer) for layer in initialized.layers] == ["Dense(1, 2)", "ModuleTuple(Dense(3, 4))"]
    assert initialized.linear == every.linear
    assert initialized.maybe is None
    constants = initialized.activation, initialized.sizes, initialized.name_of_it, initialized.unknown
    assert constants == (jnp.tanh, [1, 2], "every", "anything")
    assert initialized(jnp.zeros(3)).shape == (2,)


def test_the_parameters_are_the_declared_ones(initialized: Any) -> None:
    parameters = initialized.parameters()
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)}
    assert paths == {
        *(".weight", ".bias", ".scale", ".pair[0]", ".pair[1][0]", ".pair[1][1]"),
        *(".dense.weight", ".dense.bias", ".later.weight", ".linear.weight", ".linear.bias"),
        *(".layers[0].weight", ".layers[0].bias", ".layers[1][0].weight", ".layers[1][0].bias"),
    }


class Holder(Module):
    """Fields whose annotations say nothing."""

    array: jax.Array
    weight: ParamInit | jax.Array
    weights: list[Parameter]
    layers: dict[str, Dense]
    text: str

    def __init__(self) -> None:
        super().__init__()
        self.array = jnp.ones(2)
        self.weight = _ones(3)
        self.weights = [_ones(1), _ones(2)]
        self.layers = {"a": Dense(1, 1), "b": Dense(1, 1)}
        self.text = "static"

    def forward(self) -> Any:
        assert isinstance(self.weight, jax.Array)
        return self.weight.sum() + (self.array * self.weights[1]).sum()


def test_values_decide_where_annotations_do_not() -> None:
    holder = Holder().initialized(jax.random.key(0))
    assert [type(value) for value in (holder.weights, holder.layers)] == [list, dict]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(holder.parameters())]
    assert {path.partition("[")[0] for path in paths} == {".weight", ".weights", ".layers"}
    assert (holder.layers["a"].weight != holder.layers["b"].weight).all()
    gradient = holder.grad()
    assert isinstance(gradient.array, pax.EmptyNode)
    np.testing.assert_array_equal(gradient.weights[1], [1, 1])


def test_classes_and_names_that_are_local_to_a_function_work() -> None:
    from pax.experimental.parallax import Parameter as Weight

    class Inner(Module):
        weight: Weight
        given: parallax.Parameter

        def __init__(self) -> None:
            super().__init__()
            self.weight = _ones(2)
            self.given = jnp.ones(2)

    class Outer(Module):
        inner: Inner

        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

    outer = Outer().initialized(jax.random.key(0))
    assert len(jax.tree.leaves(outer.parameters())) == 2


def test_ancestors_count() -> None:
    class Mixin:
        factor: Parameter

    class Child(Every, Mixin):
        extra: Parameter

        def __init__(self) -> None:
            super().__init__()
            self.extra = _ones(7)
            self.factor = _ones(8)

    child = Child().initialized(jax.random.key(0))
    assert child.extra.shape == (7,)
    assert child.factor.shape == (8,)
    assert child.weight.shape == (2, 3)


def test_a_default_in_the_class_body_is_used() -> None:
    class Defaults(Module):
        weight: Parameter = _ones(2)
        rate: float = 0.5

    layer = Defaults().initialized(jax.random.key(0))
    assert layer.weight.shape == (2,)
    assert layer.rate == 0.5
    assert len(jax.tree.leaves(layer.parameters())) == 1


def test_a_parameter_can_be_left_out_where_that_is_declared() -> None:
    every = Every(bias=False).initialized(jax.random.key(0))
    assert every.bias is None
    assert len(jax.tree.leaves(every.parameters())) == 14


# ---- mistakes --------------------------------------------------------------------------------------------------------


class Wrong(Module):
    weight: Parameter
    pair: ParameterTuple
    dense: Dense
    layers: ModuleTuple

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        for name, value in fields.items():
            setattr(self, name, value)


def test_an_undeclared_field_is_refused() -> None:
    with pytest.raises(AttributeNameError, match="`Wrong` declares no field `wieght`") as caught:
        Wrong(wieght=_ones(2))
    assert "dense, layers, pair, weight" in str(caught.value)


@pytest.mark.parametrize("name", ["rng", "mode", "training", "name"])
def test_what_new_state_sets_cannot_be_assigned(name: str) -> None:
    with pytest.raises(AttributeNameError, match=f"`{name}` of `Wrong` cannot be assigned"):
        Wrong(**{name: "train"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", 1.0),
        ("weight", None),
        ("weight", "ones"),
        ("weight", Dense(1, 1)),
        ("pair", [1, 2]),
        ("pair", None),
        ("dense", None),
        ("dense", 3),
        ("dense", [Dense(1, 1)]),
        ("layers", [3]),
        ("layers", None),
    ],
)
def test_a_field_refuses_what_it_is_not_declared_to_hold(name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=f"The field `{name}` of `Wrong` cannot hold this"):
        Wrong(**{name: value})


@pytest.mark.parametrize("missing", ["weight", "pair", "dense", "layers"])
def test_a_field_that_was_not_assigned_is_named(missing: str) -> None:
    fields = {"weight": _ones(2), "pair": (_ones(1),), "dense": Dense(1, 1), "layers": (Dense(1, 1),)}
    del fields[missing]
    with pytest.raises(AttributeNameError, match=f"The field `{missing}` of `Wrong` was not assigned"):
        Wrong(**fields).initialized(jax.random.key(0))


def test_the_same_module_in_two_fields_is_refused() -> None:
    dense = Dense(1, 1)
    with pytest.raises(SharedNodeError, match="dense"):
        Wrong(weight=_ones(1), pair=(), dense=dense, layers=(dense,))


def test_parameters_and_modules_do_not_mix() -> None:
    class Mixed(Module):
        both: Any

        def __init__(self) -> None:
            super().__init__()
            self.both = (_ones(1), Dense(1, 1))

    with pytest.raises(UnsupportedModuleError, match="`both` of `.*Mixed` holds both"):
        Mixed().initialized(jax.random.key(0))


@pytest.mark.parametrize(
    "name",
    [
        *("name", "training", "parameters", "apply", "map", "copy", "replace", "summary", "train", "eval"),
        *("rng", "mode", "initialized", "new_state", "split", "grad", "forward", "extra_repr", "_rng", "_training"),
    ],
)
def test_a_field_cannot_have_the_name_of_something_else(name: str) -> None:
    with pytest.raises(AttributeNameError, match=f"The field `{name}` of `Bad` has a name that every module uses"):
        type("Bad", (Module,), {"__annotations__": {name: Parameter}, "__module__": __name__})


def test_after_initialization_nothing_can_be_assigned(initialized: Any) -> None:
    for name in ("weight", "activation", "undeclared"):
        with pytest.raises(MutationError, match=f"Cannot assign `{name}`: this `Every` is already initialized"):
            setattr(initialized, name, 3)
    assert initialized.replace(name_of_it="new").name_of_it == "new"


def test_a_declared_module_is_immutable_too(every: Any) -> None:
    with pytest.raises(MutationError, match="immutable"):
        every.weight = _ones(5)
    changed = every.replace(weight=_ones(2, 7)).initialized(jax.random.key(0))
    assert changed.weight.shape == (2, 7)


@pytest.mark.parametrize("stage", ["every", "initialized"])
def test_fields_cannot_be_deleted(stage: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(MutationError, match="The field `sizes` of `Every` cannot be deleted"):
        del request.getfixturevalue(stage).sizes


def test_a_second_initialization_is_refused(initialized: Any) -> None:
    with pytest.raises(ValueError, match="This `Every` is already initialized"):
        initialized.initialized(jax.random.key(0))
    with pytest.raises(AssertionError):
        initialized.initialized(jax.random.key(0))


def test_a_declared_part_that_is_put_into_an_initialized_module_gets_parameters(initialized: Any) -> None:
    key = jax.random.key(4)
    shown = Shown().initialized(jax.random.key(0))
    changed = shown.replace(inner=shown.inner.replace(dense=Dense(2, 3), weight=_ones(5)))
    for tree in (changed.initialized(key), parallax.initialized(pax.Sequential(changed), key)[0]):
        assert tree.inner.dense.weight.shape == (3, 2)
        assert tree.inner.weight.shape == (5,)
        assert tree.inner.scale is shown.inner.scale
        assert tree.layers[0].weight is shown.layers[0].weight
        with pytest.raises(ArgumentError, match="already initialized"):
            tree.initialized(key)
    with pytest.raises(TypeError, match="not initialized") as caught:
        changed.inner.dense(jnp.ones(2))
    assert "where: Dense" in str(caught.value)


def test_arrays_in_parameter_fields_are_trained_from_the_start() -> None:
    fields = {"weight": jnp.ones(2), "pair": (jnp.ones(1), _ones(1)), "dense": Dense(1, 1), "layers": ()}
    declared = Wrong(**fields)
    assert len(jax.tree.leaves(declared.parameters())) == 2
    gradient = pax.grad(lambda m: 3 * m.weight.sum())(declared)
    np.testing.assert_array_equal(gradient.weight, [3, 3])
    assert len(jax.tree.leaves(declared.initialized(jax.random.key(0)).parameters())) == 5


def test_parameters_that_have_no_gradients_are_named() -> None:
    class Index(Later):
        def forward(self) -> Any:
            return self.weight.sum()

    layer = Index().initialized(jax.random.key(0)).replace(weight=jnp.arange(3))
    with pytest.raises(ArgumentTypeError, match="floating-point and complex parameters") as caught:
        layer.grad()
    assert "weight: int32[3]" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("weight", 1.5, "self.weight = jnp.array(1.5)"),
        ("weight", init.normal(), "self.weight = ParamInit(shape, jax.nn.initializers.normal())"),
        ("weight", None, "weight: Parameter | None"),
        ("dense", None, "dense: Dense | None"),
        ("layers", None, "layers: ModuleTuple | None"),
        ("dense", _ones(2), "dense: Parameter"),
        ("layers", [_ones(2)], "layers: ParameterTuple"),
        ("weight", (Dense(1, 1),), "weight: ModuleTuple"),
        ("dense", Dense, "self.dense = Dense(...)"),
        ("layers", 3, "layers: int"),
    ],
)
def test_a_refused_value_comes_with_what_to_write(name: str, value: Any, fix: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        Wrong(**{name: value})
    assert caught.value.fix is not None
    assert fix in caught.value.fix


def test_a_misspelt_field_is_recognised(initialized: Any) -> None:
    with pytest.raises(AttributeNameError, match="did you mean `weight`"):
        Wrong(weigth=_ones(2))
    with pytest.raises(MutationError, match="did you mean `weight`"):
        initialized.weigth = jnp.ones(2)
    with pytest.raises(MutationError, match="`foo` is not declared") as caught:
        initialized.foo = 1
    assert "replace" not in str(caught.value)
    with pytest.raises(MutationError, match=r"layer\.replace\(weight=\.\.\.\)"):
        initialized.weight = jnp.ones(2)


class Constants(Module):
    rate: float
    size: int | None
    text: Annotated[str, "shown"]
    array: jax.Array
    function: Callable[[Any], Any]
    rows: tuple[Any, ...]
    anything: Any
    thing: object
    unknown: DoesNotExist  # type: ignore[name-defined]  # noqa: F821

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        for name, value in fields.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("rate", _ones(2), "rate: Parameter"),
        ("rate", [_ones(2)], "rate: ParameterTuple"),
        ("size", Dense(1, 1), "size: Dense"),
        ("size", (Dense(1, 1),), "size: ModuleTuple"),
        ("text", Dense(1, 1), "text: Dense"),
        ("array", _ones(2), "array: Parameter"),
    ],
)
def test_a_constant_is_no_parameter_and_no_module(name: str, value: Any, fix: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"The field `{name}` of `Constants` cannot hold this") as caught:
        Constants(**{name: value})
    assert caught.value.fix is not None
    assert caught.value.fix.endswith(fix)


@pytest.mark.parametrize("name", ["function", "rows", "anything", "thing", "unknown"])
def test_where_an_annotation_says_nothing_modules_and_placeholders_are_accepted(name: str) -> None:
    for value in (Dense(1, 2), (_ones(2),)):
        made = Constants(**{name: value}).initialized(jax.random.key(0))
        assert jax.tree.leaves(made.parameters())
    Constants(rate="free", size=None, text=3, array=jnp.ones(2)).initialized(jax.random.key(0))


def test_a_placeholder_in_the_class_body_has_to_be_declared() -> None:
    class Undeclared(Module):
        w = _ones(3)

        def forward(self, use: Callable[[Any], Any]) -> Any:
            return use(self.w)

    uses: list[Callable[[Any], Any]] = [lambda w: w * 2, jnp.sin, lambda w: w.T]
    for use in uses:
        with pytest.raises(AttributeNameError, match="`w` in its class body, but declares no such field") as caught:
            Undeclared().initialized(jax.random.key(0))(use)
        assert "w: Parameter" in str(caught.value)
        with pytest.raises((ArgumentTypeError, AttributeNameError), match="not initialized"):
            Undeclared()(use)


def test_the_advice_for_read_only_names_can_be_followed(initialized: Any) -> None:
    for name, advice in (("mode", "new_state(rng, mode="), ("rng", "new_state(rng)"), ("training", "train()")):
        with pytest.raises(MutationError) as caught:
            setattr(initialized, name, "eval")
        assert advice in str(caught.value)


def test_replacements_are_checked_like_assignments(initialized: Any) -> None:
    for changes in ({"weight": 1.0}, {"dense": 3}, {"layers": None}, {"sizes": [7], "pair": "pair"}):
        with pytest.raises(ArgumentTypeError, match="of `Every` cannot hold this"):
            initialized.replace(**changes)
    for name, advice in (("mode", "new_state(rng, mode="), ("rng", "new_state(rng)")):
        with pytest.raises(AttributeNameError, match=f"`{name}` of `Every` cannot be assigned") as caught:
            initialized.replace(**{name: "eval"})
        assert advice in str(caught.value)
    with pytest.raises(AttributeNameError, match="no attribute"):
        initialized.replace(wieght=jnp.ones(2))
    changed = initialized.replace(bias=None, weight=pax.EmptyNode(), sizes=[7], training=False)
    assert changed.bias is None
    assert changed.sizes == [7]
    assert changed.mode == "eval"


def test_a_failing_initializer_is_located() -> None:
    class Bias(Module):
        bias: Parameter

        def __init__(self, initializer: Any) -> None:
            super().__init__()
            self.bias = ParamInit((3,), initializer)

    def needs_more(key: Any, shape: Any, *, scale: float) -> Any:
        return scale * jnp.ones(shape)

    for initializer, kind in ((init.xavier_normal(), ArgumentError), (needs_more, ArgumentTypeError)):
        with pytest.raises(kind, match=r"The initialiser of ParamInit\(3\) failed") as caught:
            Bias(initializer).initialized(jax.random.key(0))
        assert "field `bias` of " in str(caught.value)
    with pytest.raises(ZeroDivisionError):
        Bias(lambda key, shape: 1 // 0).initialized(jax.random.key(0))


@dataclass
class Written(Module):
    """A module whose constructor is made of its fields, and which does not call that of its base."""

    weight: Parameter
    inner: Dense = field(default_factory=lambda: Dense(3, 1))
    rate: float = 0.5

    def forward(self, x: Any) -> Any:
        return self.rate * (self.weight * x).sum() + self.inner(x)[0]


def test_a_dataclass_can_be_a_module() -> None:
    written = Written(_ones(3)).initialized(jax.random.key(0)).new_state(jax.random.key(1))
    assert written.rate == 0.5
    gradient = written.grad(jnp.arange(3.0))
    np.testing.assert_array_equal(gradient.weight, [0, 0.5, 1])
    assert len(jax.tree.leaves(written.parameters())) == 3


@pytest.mark.parametrize("rng", [None, 0, jnp.ones(3), jax.random.split(jax.random.key(0))])
def test_keys_are_checked(every: Any, rng: Any) -> None:
    for method in (every.initialized, every.new_state):
        with pytest.raises((ArgumentTypeError, ArgumentError), match="key"):
            method(rng)


def test_placeholders_say_that_they_are_not_arrays(every: Any) -> None:
    uses: list[Callable[[], Any]] = [
        lambda: every.weight @ jnp.ones(3),
        lambda: jnp.ones(2) @ every.weight,
        lambda: np.ones(2) + every.weight,
        lambda: -every.weight,
        lambda: every.weight[0],
        lambda: every(jnp.ones(3)),
    ]
    for use in uses:
        with pytest.raises(TypeError, match="not initialized") as caught:
            use()
        assert "initialized(" in str(caught.value)
    with pytest.raises(AttributeError, match="not initialized"):
        _ = every.weight.T


def test_a_function_of_jax_on_a_placeholder_is_explained() -> None:
    class Sine(Later):
        def forward(self) -> Any:
            return jnp.sin(self.weight)

    with pytest.raises(TypeError, match=r"This module is not initialized: call initialized\(rng\) first"):
        Sine()()
    with pytest.raises(ArgumentTypeError, match="not initialized"):
        Sine().grad()
    with pytest.raises(UnsupportedModuleError, match="`Later` has no `forward`"):
        Later().initialized(jax.random.key(0))()


# ---- ParamInit -------------------------------------------------------------------------------------------------------


def test_a_placeholder_shows_its_shape() -> None:
    weight = ParamInit((10, 5), init.normal())
    assert repr(weight) == "ParamInit(10, 5)"
    assert weight.shape == (10, 5)
    assert ParamInit(3, ones).shape == (3,)
    assert repr(ParamInit((), ones)) == "ParamInit()"


@pytest.mark.parametrize("shape", ["ab", (1.5,), None, (2, None), 1.0])
def test_a_shape_is_made_of_integers(shape: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A shape is a tuple of integers"):
        ParamInit(shape, ones)


def test_bad_placeholders_are_refused() -> None:
    with pytest.raises(ArgumentError, match="negative"):
        ParamInit((2, -1), ones)
    with pytest.raises(ArgumentTypeError, match="a function that makes the parameter"):
        ParamInit((2,), typing.cast("Any", 3.0))
    with pytest.raises(ArgumentTypeError, match="annotation"):
        Parameter(3)


def test_initializers_are_called_with_key_and_shape_by_position() -> None:
    class Custom(Module):
        weight: Parameter

        def __init__(self, initializer: Any) -> None:
            super().__init__()
            self.weight = ParamInit((2, 3), initializer)

    made = Custom(lambda k, s: np.full(s, 7, np.float32)).initialized(jax.random.key(0))
    assert isinstance(made.weight, jax.Array)
    np.testing.assert_array_equal(made.weight, np.full((2, 3), 7))
    with pytest.raises(ArgumentError, match="another shape") as caught:
        Custom(lambda k, s: jnp.ones(3)).initialized(jax.random.key(0))
    assert "field `weight` of " in str(caught.value)
    with pytest.raises(ArgumentTypeError, match="has to return an array") as not_called:
        Custom(lambda key, shape: init.normal()).initialized(jax.random.key(0))
    assert "()" in str(not_called.value)


_INITIALIZERS = [
    *(init.xavier_normal, init.normal, init.uniform, init.orthogonal, init.lecun_uniform, init.truncated_normal),
    *(lambda: init.constant(2.0), lambda: init.normal(0.5, jnp.bfloat16), lambda: ones),
]


@pytest.mark.parametrize("make", _INITIALIZERS)
def test_equal_recipes_are_equal_and_can_be_pickled(make: Any) -> None:
    one, other = ParamInit((4, 4), make()), ParamInit((4, 4), make())
    assert one == other
    assert hash(one) == hash(other)
    assert one != ParamInit((4, 5), make())
    assert one != ParamInit((4, 4), init.normal(0.123))
    restored = pickle.loads(pickle.dumps(one))
    assert restored == one
    key = jax.random.key(0)
    np.testing.assert_array_equal(restored.make(key), one.make(key))
    assert copy.deepcopy(one) == one


def test_different_functions_are_different() -> None:
    assert ParamInit((1,), lambda k, s: jnp.ones(s)) != ParamInit((1,), lambda k, s: jnp.ones(s))
    assert ParamInit((1,), init.constant(jnp.ones(2))) != ParamInit((1,), init.constant(jnp.zeros(2)))
    assert ParamInit((1,), ones) != 3


# ---- tuples ----------------------------------------------------------------------------------------------------------


def test_tuples_are_tuples() -> None:
    layers = ModuleTuple(Dense(2, 3), Dense(3, 1))
    assert [layer.weight.shape for layer in layers] == [(3, 2), (1, 3)]
    assert len(layers) == 2
    assert layers[0].bias.shape == (3,)
    assert repr(layers) == "ModuleTuple(Dense uninit (2, 3), Dense uninit (3, 1))"
    assert repr(ParameterTuple([_ones(2)])) == "ParameterTuple(ParamInit(2))"
    assert repr(ParameterTuple([jnp.ones(2)])) == "ParameterTuple(float32[2])"
    assert repr(ModuleTuple(_ for _ in ())) == "ModuleTuple()"


def test_tuples_refuse_other_things() -> None:
    with pytest.raises(ArgumentTypeError, match="This cannot be in a ModuleTuple") as caught:
        ModuleTuple([Dense(1, 1), 3])
    assert "item 1" in str(caught.value)
    with pytest.raises(ArgumentTypeError, match="This cannot be in a ParameterTuple"):
        ParameterTuple(2.0)


def test_tuples_pass_through_jax_and_pickle() -> None:
    pair = ParameterTuple(jnp.ones(2), jnp.zeros(3))
    doubled = jax.jit(lambda pair: jax.tree.map(lambda leaf: 2 * leaf, pair))(pair)
    assert type(doubled) is ParameterTuple
    np.testing.assert_array_equal(doubled[0], [2, 2])
    assert type(pickle.loads(pickle.dumps(pair))) is ParameterTuple
    assert type(copy.deepcopy(pair)) is ParameterTuple
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(pair)]
    assert paths == ["[0]", "[1]"]


def test_the_keys_of_tuples_are_split_once_more() -> None:
    class Row(Module):
        params: ParameterTuple

        def __init__(self) -> None:
            super().__init__()
            self.params = ParameterTuple([ParamInit((2,), init.normal()), ParamInit((2,), init.normal())])

    key = jax.random.key(7)
    row = Row().initialized(key)
    (field_key,) = jax.random.split(jax.random.split(key)[0], 1)
    for item, item_key in zip(row.params, jax.random.split(field_key), strict=True):
        np.testing.assert_array_equal(item, init.normal()(item_key, (2,)))


# ---- text ------------------------------------------------------------------------------------------------------------


class Shown(Module):
    layers: ModuleTuple
    inner: Every
    dropout: Dropout
    size: int

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.layers = ModuleTuple(Dense(2, 3))
        self.dropout = Dropout(0.5)
        self.inner = Every()
        self.size = 3

    def extra_repr(self) -> str:
        return f"size={self.size}"


_SHOWN = """\
(net) Shown uninit (
  size=3
  (dropout): Dropout uninit ()
  (inner): Every uninit (
    (dense): Dense uninit (2, 2)
    (later): Later uninit ()
    (layers): ModuleTuple(Dense uninit (1, 2), ModuleTuple(Dense uninit (3, 4)))
    (linear): Linear(in_dim=2, out_dim=2, with_bias=True)
  )
  (layers): ModuleTuple(Dense uninit (2, 3))
)"""


def test_nested_modules_are_indented() -> None:
    shown = Shown("net")
    assert repr(shown) == _SHOWN
    assert repr(shown.initialized(jax.random.key(0))) == _SHOWN.replace(" uninit ", "")


def test_the_summary_has_one_line_for_each_module() -> None:
    lines = Shown().initialized(jax.random.key(0)).summary(return_list=True)
    assert lines[0] == "Shown(size=3)"
    assert len(lines) == 9
    assert all("\n" not in line for line in lines)
    assert Shown().summary().startswith("Shown uninit (size=3)\n")


def test_the_text_of_stand_ins_is_not_an_error() -> None:
    dense = Dense(2, 3).initialized(jax.random.key(0))
    assert repr(pax.freeze_parameters(dense).parameters()) == "Dense(...)"
    assert repr(jax.tree.map(lambda _: 0, dense)) == "Dense(...)"
    assert repr(jax.eval_shape(Dense(2, 3).initialized, jax.random.key(0))) == "Dense(2, 3)"


def test_errors_of_extra_repr_are_not_hidden() -> None:
    class Broken(Later):
        def extra_repr(self) -> str:
            return str(1 // 0)

    with pytest.raises(ZeroDivisionError):
        repr(Broken())
