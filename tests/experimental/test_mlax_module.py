"""`mlax.Module` and `mlax.Parameter`: life cycle, calls, what may change, and mistakes."""

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
import pax.experimental
from pax.errors import (
    ArgumentError,
    ArgumentTypeError,
    AttributeNameError,
    MutationError,
    SharedNodeError,
    StateDictError,
    StructureError,
)
from pax.experimental.mlax import Module, Parameter, is_leaf_param, is_non_trainable_param, is_trainable_param
from pax.experimental.mlax.nn import FRng, Linear, Recurrent, Series

KEY = jax.random.key(0)


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


class Scale(Module):
    """Multiplies, and counts its calls in training."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor
        self.w = Parameter(trainable=True)
        self.calls = Parameter(trainable=False, data=0)

    def setup(self, x: Any) -> None:
        self.w.data = jnp.full(x.shape, self.factor)

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        if not inference_mode:
            self.calls.data = self.calls.data + 1
        return x * self.w.data


class Nested(Module):
    """Creates its submodule in `setup`, and changes it there and in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.sub: Any = None

    def setup(self, x: Any) -> None:
        self.sub = Scale(3.0)
        self.sub.calls.data = jnp.array(10)
        self.extra = Parameter(trainable=False)
        self.extra.data = x

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        y, self.sub = self.sub(x, rng, inference_mode, batch_axis_name)
        self.sub.calls.data = self.sub.calls.data + 100
        return y


class Broken(Scale):
    """Fails in `forward`, after it has changed itself."""

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        self.calls.data = self.calls.data + 1
        raise KeyError("broken")


def _scale() -> Any:
    return Scale()(jnp.ones(2), None)[1]


# ---- parameters -----------------------------------------------------------------------------------------------------


def test_trainable_is_required() -> None:
    with pytest.raises(TypeError, match="trainable"):
        Parameter()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Parameter(True), (True, False, True)),
        (Parameter(False), (False, True, True)),
        (Parameter(None), (False, False, False)),
        (Parameter(1), (False, False, True)),
        (jnp.ones(2), (False, False, False)),
        (3, (False, False, False)),
        (None, (False, False, False)),
        (Scale(), (False, False, False)),
    ],
)
def test_predicates_test_identity(value: Any, expected: tuple[bool, ...]) -> None:
    assert (is_trainable_param(value), is_non_trainable_param(value), is_leaf_param(value)) == expected


def test_trainable_and_extra_attributes_are_static_and_survive() -> None:
    parameter = Parameter(True, jnp.ones(2)).set_attribute("note", "x")
    mapped = jax.tree.map(lambda leaf: leaf + 1, parameter)
    assert mapped.note == "x"
    assert mapped.data.tolist() == [2.0, 2.0]
    others = [Parameter(True, jnp.ones(2)), Parameter(False, jnp.ones(2)), Parameter(True, [jnp.ones(2)])]
    structures = [_structure(other) for other in (parameter, *others)]
    assert all(a != b for i, a in enumerate(structures) for b in structures[:i])


def test_a_parameter_without_data_has_one_structure_however_it_came_about() -> None:
    full = Parameter(True, jnp.ones(2))
    empty = [Parameter(True), full.replace(data=None), jax.tree.map(lambda _: pax.EmptyNode(), full)]
    assert all(parameter.data is None for parameter in empty)
    assert len({_structure(parameter) for parameter in empty[:2]}) == 1
    assert jax.tree.leaves(empty) == []


def test_numbers_are_leaves_and_so_no_new_trace() -> None:
    traces = []

    @jax.jit
    def double(parameter: Any) -> Any:
        traces.append(1)
        return parameter.data["a"] * 2

    assert double(Parameter(False, {"a": 3})) == 6
    assert double(Parameter(False, {"a": np.int32(4).item()})) == 8
    assert len(traces) == 1


@pytest.mark.parametrize("data", ["text", [jnp.ones(1), "text"], len])
def test_other_data_are_refused(data: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="arrays and numbers"):
        Parameter(True, data)


def test_an_integer_has_to_fit_into_an_array() -> None:
    with pytest.raises(ArgumentError, match="too large"):
        Parameter(False, 2**70)


def test_an_array_beside_the_data_is_not_trained() -> None:
    parameter = Parameter(True, jnp.ones(1)).set_attribute("scale", jnp.ones(2))
    assert [leaf.shape for leaf in jax.tree.leaves(parameter.parameters())] == [(1,)]
    assert parameter.parameters().parameters() == parameter.parameters()


def test_trainable_cannot_be_an_array() -> None:
    with pytest.raises(ArgumentTypeError, match="cannot be an array"):
        Parameter(jnp.array(True))


def test_texts_show_no_contents() -> None:
    assert repr(Parameter(True)) == "Parameter(trainable=True, data=None)"
    assert repr(Parameter(False, jnp.zeros((2, 3)))) == "Parameter(trainable=False, data=float32[2,3])"
    assert repr(Parameter(None, [jnp.zeros(2)])) == "Parameter(trainable=None, data=a list of 1)"
    assert _scale().summary().splitlines() == [
        "Scale",
        "├── Parameter(trainable=True, data=float32[2])",
        "└── Parameter(trainable=False, data=int32[])",
    ]


def test_parameters_are_immutable_outside() -> None:
    with pytest.raises(MutationError):
        Parameter(True).data = jnp.ones(1)


def test_the_parameters_of_a_parameter_follow_trainable() -> None:
    assert Parameter(True, jnp.ones(1)).parameters().data.tolist() == [1.0]
    assert Parameter(False, {"a": jnp.ones(1)}).parameters().data is None
    container = Parameter(None, [Parameter(True, jnp.ones(1)), Parameter(False, jnp.ones(1))]).parameters()
    assert [p.data is None for p in container.data] == [False, True]


# ---- life cycle -----------------------------------------------------------------------------------------------------


def test_the_flag_is_set_by_the_first_call_only() -> None:
    scale = Scale()
    assert scale.initialized is False
    _, called = scale(jnp.ones(2), None)
    assert called.initialized is True
    assert scale.initialized is False
    assert scale.w.data is None
    _, again = called(jnp.ones(2), None)
    assert again.w.data is called.w.data


def test_a_failed_call_leaves_the_module_untouched() -> None:
    broken = Broken()
    with pytest.raises(KeyError):
        broken(jnp.ones(2), None)
    assert broken.initialized is False
    assert broken.w.data is None
    assert broken.calls.data == 0


def test_a_class_without_super_init_works() -> None:
    class Bare(Module):
        def __init__(self) -> None:
            self.size = 3

        def setup(self, x: Any) -> None: ...

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return self.size

    assert Bare()(None, None)[0] == 3


def test_what_setup_creates_can_change_at_once() -> None:
    y, nested = Nested()(jnp.ones(2), None)
    assert y.tolist() == [3.0, 3.0]
    assert nested.sub.calls.data == 111
    assert nested.sub.initialized
    _, again = nested(jnp.ones(2), None)
    assert again.sub.calls.data == 212
    assert nested.sub.calls.data == 111


def test_parameters_can_be_filled_in_the_constructor() -> None:
    class Filled(Scale):
        def __init__(self, sub: Any) -> None:
            super().__init__()
            self.w.data = jnp.ones(3)
            self.subs = [sub]
            self.subs[0].calls.data = jnp.array(5)

    sub = Scale()
    filled = Filled(sub)
    assert filled.w.data.tolist() == [1.0, 1.0, 1.0]
    assert filled.subs[0].calls.data == 5
    assert sub.calls.data == 0  # the module that was passed in stays as it is


def test_a_shared_submodule_is_an_error() -> None:
    class Twice(Scale):
        def __init__(self, sub: Any) -> None:
            super().__init__()
            self.a = sub
            self.b = sub

    with pytest.raises(SharedNodeError, match=r"(?s)shared.*`a` and `b`"):
        Twice(Parameter(True))
    with pytest.raises(SharedNodeError):
        Series([layer := Scale(), layer])


def test_submodules_can_be_swapped() -> None:
    class Swap(Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Scale(1.0), Scale(2.0)

        def setup(self, x: Any) -> None: ...

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            self.a, self.b = self.b, self.a

    _, swapped = Swap()(None, None)
    assert (swapped.a.factor, swapped.b.factor) == (2.0, 1.0)


def test_direct_setup_does_not_set_the_flag() -> None:
    @pax.pure
    def set_up(module: Any) -> Any:
        module.setup(jnp.ones(2))
        return module

    assert set_up(Scale()).w.data.tolist() == [2.0, 2.0]
    assert set_up(Scale()).initialized is False


def test_attributes_are_deleted_before_initialization_only() -> None:
    class Cleaning(Scale):
        def setup(self, x: Any) -> None:
            super().setup(x)
            del self.calls

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return x

    _, module = Cleaning()(jnp.ones(2), None)
    assert not hasattr(module, "calls")
    with pytest.raises(AttributeError, match="cannot delete an attribute of an initialized module"):
        del module.w


def test_an_initialized_module_has_another_structure_and_two_traces_in_all() -> None:
    traces = []

    @jax.jit
    def call(module: Any) -> Any:
        traces.append(1)
        return module(jnp.ones(2), None)[1]

    module = Scale()
    for _ in range(4):
        module = call(module)
    assert len(traces) == 2
    assert module.calls.data == 4
    assert _structure(module) != _structure(Scale())


def test_equal_hyperparameters_are_one_trace() -> None:
    traces = []

    @jax.jit
    def call(module: Any) -> Any:
        traces.append(1)
        return module(jnp.ones(2), None)[0]

    for factor in (2.0, 2.0, 3.0):
        call(Scale(factor))
    assert len(traces) == 2


class Holder(Scale):
    """A module with one more attribute."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda index: [1, {"a": (2, "b")}], 1),
        (lambda index: jnp.abs, 1),
        (lambda index: lambda x: x, 2),
        (lambda index: [index], 2),
        (lambda index: jnp.full(2, index), 1),
        (lambda index: np.full(2, index), 1),
    ],
    ids=["equal containers", "one function", "two lambdas", "other values", "arrays", "NumPy arrays"],
)
def test_two_modules_with_hyperparameters_are_as_many_traces_as_documented(make: Any, count: int) -> None:
    traces = []

    @jax.jit
    def call(module: Any) -> Any:
        traces.append(1)
        return module(jnp.ones(2), None)[0]

    for index in range(2):
        call(Holder(make(index)))
    assert len(traces) == count


def test_any_leaves_can_stand_in() -> None:
    leaf = object()
    module = jax.tree.map(lambda _: leaf, _scale())
    assert module.w.data is leaf
    assert jax.tree.map(lambda _: None, _scale()).w.data is None


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copy.copy])
def test_copies_are_whole(copier: Any) -> None:
    module = _scale()
    twin = copier(module)
    assert _structure(twin) == _structure(module)
    assert twin(jnp.ones(2), None)[0].tolist() == [2.0, 2.0]
    assert _structure(copier(Scale())) == _structure(Scale())


# ---- calls ----------------------------------------------------------------------------------------------------------


def test_the_mode_is_that_of_the_module_if_it_is_left_out() -> None:
    module = _scale()
    assert module(jnp.ones(2), None)[1].calls.data == 2
    assert module.eval()(jnp.ones(2), None)[1].calls.data == 1
    assert module.eval()(jnp.ones(2), None, False)[1].calls.data == 2
    assert module.apply(jnp.ones(2), rng=None, inference_mode=True)[1].calls.data == 1


def test_apply_with_a_function_is_that_of_pax() -> None:
    seen: list[str] = []

    def note(module: Any) -> Any:
        seen.append(type(module).__name__)
        return module

    _scale().apply(note)
    assert seen == ["Parameter", "Parameter", "Scale"]
    assert _scale().eval().training is False
    assert _scale().eval().w.training is False


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(jnp.ones(2), inference_mode=True),
        lambda m: m(jnp.ones(2), batch_axis_name="N"),
        lambda m: m.apply(jnp.ones(2)),
        lambda m: m.apply(x=jnp.ones(2)),
        lambda m: m.apply(jnp.ones(2), inference_mode=True),
    ],
)
def test_a_missing_key_is_a_type_error(call: Any) -> None:
    with pytest.raises(TypeError, match="The argument `rng` is missing") as error:
        call(_scale())
    assert isinstance(error.value, ArgumentTypeError)


def test_apply_without_arguments_names_the_input() -> None:
    with pytest.raises(ArgumentTypeError, match="The argument `x` is missing"):
        _scale().apply()


class NoForward(Scale):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return x


class NoSetup(Scale):
    def setup(self) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("make", "got", "want"),
    [
        (NoForward, "def forward(self, x)", "def forward(self, x, rng, inference_mode=False, batch_axis_name=())"),
        (NoSetup, "def setup(self)", "def setup(self, x)"),
    ],
)
def test_methods_that_take_other_arguments_are_named(make: Any, got: str, want: str) -> None:
    with pytest.raises(ArgumentTypeError, match="does not take the arguments") as error:
        make()(jnp.ones(2), None)
    assert (error.value.got, error.value.want) == (got, want)


def test_a_type_error_of_a_method_stays_what_it_is() -> None:
    class Adds(Scale):
        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return x + "text"

    with pytest.raises(TypeError) as error:
        Adds()(jnp.ones(2), None)
    assert not isinstance(error.value, ArgumentTypeError)


def test_apply_does_not_set_up() -> None:
    with pytest.raises(TypeError, match="`apply` does not initialize a module"):
        Scale().apply(jnp.ones(2), None)


def test_setup_and_forward_have_to_be_defined() -> None:
    class Empty(Module): ...

    with pytest.raises(NotImplementedError, match="Empty has to define setup"):
        Empty()(1, None)
    with pytest.raises(NotImplementedError, match="Empty has to define forward"):
        Empty().apply(1, None)


def test_a_bound_call_under_jit_leaks_nothing() -> None:
    module = Scale()
    with jax.checking_leaks():
        _, called = jax.jit(module.__call__)(jnp.ones(2), None)
    assert called.w.data.tolist() == [2.0, 2.0]
    assert module.w.data is None


def test_a_call_with_the_input_alone_is_one_of_pax() -> None:
    module, y = pax.purecall(Scale(), jnp.ones(2))
    assert y.tolist() == [2.0, 2.0]
    assert module.initialized
    assert module.calls.data == 1
    assert _structure(module) == _structure(_scale())
    assert module.eval()(jnp.ones(2)).tolist() == [2.0, 2.0]
    new, (y, newer) = pax.purecall(module, jnp.ones(2), None)
    assert new == module
    assert newer.calls.data == 2


@pytest.mark.parametrize("module", [Scale(), _scale()])
def test_a_call_that_changes_an_immutable_module_is_an_error(module: Any) -> None:
    before = jax.tree.leaves(module)
    with pytest.raises(MutationError, match="y, module = module") as error:
        module(jnp.ones(2))
    assert ("initialize" in str(error.value)) is not module.initialized
    assert all(a is b for a, b in zip(jax.tree.leaves(module), before, strict=True))


def test_a_call_of_pax_that_fails_changes_nothing() -> None:
    @pax.pure
    def attempt(module: Any) -> Any:
        with pytest.raises(KeyError):
            module(jnp.ones(2))
        return module

    assert _structure(attempt(Broken())) == _structure(Broken())


# ---- names and state dictionaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["name", "training", "parameters", "filter", "apply", "forward", "map"])
def test_names_of_methods_are_no_names_of_attributes(name: str) -> None:
    class Bad(Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, 1)

    with pytest.raises(AttributeNameError, match=name):
        Bad()


@pytest.mark.parametrize("name", ["copy", "parameters"])
def test_nor_are_they_of_attributes_of_parameters(name: str) -> None:
    with pytest.raises(AttributeNameError, match=name), pax.experimental.mutable(Parameter(True)) as parameter:
        setattr(parameter, name, 1)


def test_a_deletion_outside_says_that_it_is_one() -> None:
    with pytest.raises(MutationError, match="a deletion outside"):
        del Scale().w


def test_arrays_in_attributes_are_leaves_that_are_not_trained() -> None:
    class Raw(Scale):
        def __init__(self) -> None:
            super().__init__()
            self.table = jnp.arange(3)

    _, raw = Raw()(jnp.ones(2), None)
    assert raw.parameters().table == pax.EmptyNode()
    assert raw.filter().table == pax.EmptyNode()
    assert raw.filter(inverse=True).table is raw.table


def test_a_state_dictionary_goes_into_an_initialized_module() -> None:
    module = _scale()
    state = module.state_dict()
    assert set(state) == {"w", "calls"}
    fresh = Scale(5.0)(jnp.ones(2), None)[1]
    assert fresh.load_state_dict(state).w.data.tolist() == [2.0, 2.0]
    assert fresh.load_state_dict({"w": state["w"]}, strict=False)[1] == {"calls.data": "missing, want int32[]"}
    with pytest.raises(StateDictError, match="uninitialized"):
        Scale().load_state_dict(state)


def test_setup_and_forward_are_seen_by_vmap_without_the_batch_axis() -> None:
    layer = Linear(KEY, 2)
    y, layer = jax.vmap(layer.__call__, (0, None), (0, None))(jnp.ones((5, 3)), None)
    assert y.shape == (5, 2)
    assert layer.linear_kernel.data.shape == (3, 2)
    assert _structure(layer) == _structure(layer(jnp.ones(3), None)[1])


# ---- mistakes in `forward` ------------------------------------------------------------------------------------------


class Outer(Module):
    """Runs a function as its `forward`."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.subs = [Linear(KEY, 2)]
        self.sub = Linear(KEY, 2)
        self.w = Parameter(True)

    def setup(self, x: Any) -> None:
        self.w.data = jnp.ones(x.shape)

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        return self.body(self, x)


def _drop(self: Any, x: Any) -> Any:
    y, _ = self.sub(x, None)
    return y


def _drop_in_list(self: Any, x: Any) -> Any:
    y, _ = jax.vmap(self.subs[0].__call__, (0, None), (0, None))(x[None], None)
    return y[0]


def _scan(module: Any) -> Any:
    return jax.lax.scan(lambda carry, x: (carry, module(x, None)[0]), 0.0, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(jnp.ones(3), None),
        lambda m: pax.purecall(m, jnp.ones(3)),
        lambda m: jax.vmap(m.__call__, (0, None), (0, None))(jnp.ones((2, 3)), None),
        lambda m: jax.jit(lambda m, x: m(x, None))(m, jnp.ones(3)),
        _scan,
    ],
    ids=["call", "pax", "vmap", "jit", "scan"],
)
@pytest.mark.parametrize(("body", "place"), [(_drop, "sub"), (_drop_in_list, "subs[0]")])
def test_a_submodule_that_is_set_up_and_not_assigned_is_an_error(call: Any, body: Any, place: str) -> None:
    with pytest.raises(StructureError) as error:
        call(Outer(body))
    assert error.value.headline == f"What `self.{place}(...)` returned was not assigned."
    assert error.value.fix == f"y, self.{place} = self.{place}(x, rng, inference_mode, batch_axis_name)"


def test_errors_name_the_place_below_the_module_that_was_called() -> None:
    def forward(self: Any, x: Any) -> Any:
        y, self.sub = self.sub(x, None)
        return y

    outer: Any = Outer(forward)
    with pax.experimental.mutable(outer) as outer:
        outer.sub = Series([Outer(_drop)])
    with pytest.raises(StructureError) as error:
        outer(jnp.ones(3), None)
    assert error.value.path == "sub.layers.data[0]"


def test_calls_that_are_used_or_belong_to_nothing_are_no_mistake() -> None:
    other = Linear(KEY, 2)

    def forward(self: Any, x: Any) -> Any:
        once, sub = self.sub(x, None)
        twice, self.sub = sub(x, None)
        in_place = self.subs[0](x)
        return once + twice + in_place + other(x, None)[0]

    _, outer = Outer(forward)(jnp.ones(3), None)
    assert outer.sub.initialized
    assert outer.subs[0].initialized
    _, again = outer(jnp.ones(3), None)
    assert _structure(again) == _structure(outer)


def test_a_submodule_that_is_set_up_may_be_called_without_assignment() -> None:
    class Made(Outer):
        def setup(self, x: Any) -> None:
            y, _ = self.sub(x, None)  # for its shape
            _, self.sub = self.sub(x, None)
            self.w.data = jnp.ones(y.shape)

    y, made = Made(_drop)(jnp.ones(3), None)
    assert made.w.data.shape == y.shape
    assert made.sub.initialized


def _swap(self: Any, x: Any) -> Any:
    self.sub, y = self.sub(x, None)
    return y


def _assign(self: Any, x: Any) -> Any:
    self.w = self.w.data + 1
    return x


def test_the_order_of_pax_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="the output first") as error:
        Outer(_swap)(jnp.ones(3), None)
    assert error.value.fix == "y, self.sub = self.sub(x, rng, inference_mode, batch_axis_name)"


def test_modules_are_replaced_by_modules_and_by_nothing() -> None:
    def forward(self: Any, x: Any) -> Any:
        self.sub = Scale()
        self.subs, self.sub = self.sub, [self.subs]
        self.sub = None
        self.sub = 3
        self.w = Parameter(False)

    outer, _ = pax.purecall(Outer(forward), jnp.ones(3))
    assert isinstance(outer.subs, Scale)
    assert outer.sub == 3


def test_an_array_in_the_place_of_a_parameter_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="assign to its data") as error:
        Outer(_assign)(jnp.ones(3), None)
    assert error.value.fix == "self.w.data = ..."


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: jnp.ones(2) * p,
        lambda p: p + jnp.ones(2),
        lambda p: jnp.ones(2) @ p,
        lambda p: np.ones(2) - p,
        lambda p: 2.0 / p,
        lambda p: -p,
        lambda p: p**2,
    ],
)
def test_arithmetic_with_a_parameter_names_its_data(operation: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A Parameter is no array") as error:
        operation(Parameter(True, jnp.ones(2)))
    assert ".data" in str(error.value.fix)


def test_a_part_of_a_partition_says_that_it_is_one() -> None:
    _, net = Series([Linear(KEY, 2)])(jnp.ones(3), None)
    with pytest.raises(ArgumentTypeError, match="A parameter has no data") as error:
        net.partition()[1](jnp.ones(3), None)
    assert "combine" in str(error.value.fix)
    assert error.value.path == "layers.data[0]"


def test_a_setup_that_fills_nothing_is_named() -> None:
    class Empty(Scale):
        def setup(self, x: Any) -> None: ...

    with pytest.raises(ArgumentTypeError, match="A parameter has no data") as error:
        Empty()(jnp.ones(2), None)
    assert "in `setup`" in str(error.value.fix)


class Noisy(Module):
    """Needs a key."""

    def setup(self, x: Any) -> None: ...

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        return jax.random.normal(rng), 0.0


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: Series([jnp.abs, Noisy()])(0, KEY), "layers.data[1]"),
        (lambda: Recurrent(Noisy())((jnp.ones(3), 0.0), KEY), "cell"),
        (lambda: pax.purecall(pax.Sequential(Noisy()), 0), None),
        (lambda: FRng(lambda x, rng: jax.random.split(rng))(0, None), None),
    ],
)
def test_a_layer_without_its_key_is_named_and_how_it_gets_one(call: Any, path: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="This layer needs a key, and gets none") as error:
        call()
    assert "SeriesRng" in str(error.value.fix)
    assert "pax.RngSeq" in str(error.value.fix)
    assert error.value.module is not None
    if path:
        assert error.value.path == path


def test_apply_sets_up_the_submodules_that_are_called() -> None:
    def forward(self: Any, x: Any) -> Any:
        y, self.sub = self.sub(x, None)
        return y

    _, outer = Outer(forward).apply(jnp.ones(3), None)
    assert outer.sub.initialized
    assert not outer.initialized
