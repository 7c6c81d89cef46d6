"""`apply_mp_policy` and `unwrap_mp_policy`: what is cast, when, and what a module with a policy looks like."""

import copy
import functools
import gc
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import jax
import jax.numpy as jnp
import jmp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental import apply_mp_policy, unwrap_mp_policy

HALF = jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.float16, output_dtype=jnp.float32)
THREE = jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.float16, output_dtype=jnp.bfloat16)


class Pair(NamedTuple):
    """A pytree that is no builtin container."""

    first: Any
    second: Any


class Probe(pax.Module):
    """Tells what its methods see."""

    weight: jax.Array
    other: Any

    def __init__(self, other: Any = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.weight = jnp.ones((2,))
        self.steps = jnp.array(3)
        self.key = jax.random.key(0)
        self.other = other

    parameters = pax.parameters_method("weight")

    def __call__(self, x: Any = None) -> tuple[Any, ...]:
        return tuple(str(leaf.dtype) for leaf in jax.tree.leaves((self.weight, self.other, x)))

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def _private(self) -> str:
        return self.weight.dtype.name

    def nested(self, x: jax.Array) -> Any:
        return self._private(), self(x), self.add(x)

    def add(self, x: jax.Array) -> jax.Array:
        assert x.dtype == self.weight.dtype == jnp.float16
        return x + self.weight

    def __len__(self) -> int:
        return int(self.weight.dtype.itemsize)

    @property
    def kind(self) -> str:
        return self.weight.dtype.name

    @functools.cached_property
    def kept(self) -> jax.Array:
        return 2 * self.weight

    def see_kept(self) -> str:
        return self.kept.dtype.name

    @staticmethod
    def static(x: jax.Array) -> str:
        return x.dtype.name

    @classmethod
    def of_class(cls, x: jax.Array) -> str:
        return x.dtype.name

    @functools.partial(jax.jit, static_argnums=2)
    def compiled(self, x: jax.Array, count: int) -> jax.Array:
        assert x.dtype == self.weight.dtype == jnp.float16
        return count * x

    def _scaled(self, factor: int, x: jax.Array) -> jax.Array:
        assert x.dtype == jnp.float16
        return factor * x

    doubled = functools.partialmethod(_scaled, 2)

    @functools.singledispatchmethod
    def dispatched(self, x: Any) -> str:
        return str(self.weight.dtype)


class Child(Probe):
    """Calls a method of its base."""

    def __call__(self, x: Any = None) -> tuple[Any, ...]:
        return ("child", *super().__call__(x))


def test_the_class_and_its_name_stay_and_the_repr_says_the_policy() -> None:
    linear = apply_mp_policy(pax.Linear(3, 3, name="q"), HALF)
    assert isinstance(linear, pax.Linear)
    assert type(linear).__name__ == "Linear"
    assert repr(linear) == "(q) Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)"


@pytest.mark.parametrize(
    ("module", "policy", "text"),
    [
        (pax.Identity(), HALF, "Identity(mp_policy=FHF)"),
        (pax.Identity(name="a"), "f16", "(a) Identity(mp_policy=HHH)"),
        (pax.Lambda(jax.nn.relu), HALF, "Lambda(relu)"),
        (pax.Linear(1, 2), "p=f32,c=bf16", "Linear(in_dim=1, out_dim=2, with_bias=True, mp_policy=FHH)"),
        (pax.Linear(1, 2), "float64", "Linear(in_dim=1, out_dim=2, with_bias=True, mp_policy=FFF)"),
        (
            pax.Linear(1, 2),
            jmp.Policy(jnp.float32, jnp.float8_e4m3fn, jnp.float32),
            "Linear(in_dim=1, out_dim=2, with_bias=True, mp_policy=FQF)",
        ),
    ],
)
def test_reprs(module: pax.Module, policy: Any, text: str) -> None:
    assert repr(apply_mp_policy(module, policy)) == text


def test_a_repr_without_entries_has_no_comma() -> None:
    empty = pax.Module().replace_method(__repr__=lambda self: "Empty()")
    assert repr(apply_mp_policy(empty, HALF)) == "Empty(mp_policy=FHF)"


def test_the_summary_of_a_sequential_shows_its_own_policy_only() -> None:
    net = apply_mp_policy(pax.Sequential(pax.Linear(2, 3), jax.nn.relu), mp_policy=HALF)
    assert net.summary().splitlines() == [
        "Sequential(mp_policy=FHF)",
        "├── Linear(in_dim=2, out_dim=3, with_bias=True)",
        "└── x => relu(x)",
    ]


def test_own_arrays_are_stored_in_parameter_dtype() -> None:
    probe = apply_mp_policy(Probe(other=pax.Linear(1, 1)), "p=f16,c=f32,o=f32")
    assert probe.weight.dtype == jnp.float16
    assert probe.other.weight.dtype == jnp.float32
    assert probe.steps.dtype == jnp.int32
    assert probe.key.dtype == jax.random.key(0).dtype


def test_a_method_computes_in_compute_dtype_and_answers_in_output_dtype() -> None:
    probe = apply_mp_policy(Probe(), THREE)
    assert probe(jnp.ones(2)) == ("float16", "float16")
    y = probe.add(jnp.ones(2))
    assert y.dtype == jnp.bfloat16
    assert y.tolist() == [2.0, 2.0]
    assert probe.weight.dtype == jnp.float32


def test_arguments_and_results_are_cast_wherever_they_are() -> None:
    given = [Pair(jnp.ones(1), {"b": np.ones(2, np.float64), "a": (jnp.ones(1),)})]
    args, kwargs = apply_mp_policy(Probe(), THREE).echo(given, x=jnp.ones(1))
    assert {leaf.dtype for leaf in jax.tree.leaves((args, kwargs))} == {jnp.dtype("bfloat16")}
    assert isinstance(args[0][0], Pair)
    assert list(args[0][0].second) == ["b", "a"]
    assert isinstance(args[0][0].second["b"], np.ndarray)


def test_what_is_no_floating_array_is_passed_on_as_the_very_object() -> None:
    linear = pax.Linear(1, 1)
    given = (1, 2.5, "text", jnp.arange(2), jax.random.key(1), object(), linear, [1, 2], {1: "a", "b": 2}, None)
    args, _ = apply_mp_policy(Probe(), THREE).echo(*given)
    assert all(a is b for a, b in zip(args, given, strict=True))


def test_a_submodule_follows_its_own_policy() -> None:
    probe = apply_mp_policy(Probe(other=pax.Linear(1, 1)), HALF)
    assert probe() == ("float16", "float32", "float32")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [x],
        lambda x: (x, x.copy()),
        lambda x: {"a": {"b": x}},
        lambda x: Pair(x, 3),
        lambda x: [(x, "static"), pax.EmptyNode()],
    ],
    ids=["list", "tuple", "dict", "named tuple", "mixed"],
)
def test_arrays_in_containers_are_cast(wrap: Callable[[Any], Any]) -> None:
    """KD-14."""
    given = wrap(jnp.ones(2))
    probe = apply_mp_policy(Probe(other=given), "p=bf16,c=f16,o=f32")
    assert {leaf.dtype for leaf in jax.tree.leaves(probe.other) if hasattr(leaf, "dtype")} == {jnp.dtype("bfloat16")}
    seen: list[Any] = []
    probe.replace_method(__call__=lambda self: seen.extend(jax.tree.leaves(self.other)))()
    assert {leaf.dtype for leaf in seen if hasattr(leaf, "dtype")} == {jnp.dtype("float16")}


def test_nested_calls_cast_nothing_twice() -> None:
    kind, seen, y = apply_mp_policy(Probe(), THREE).nested(jnp.ones(2))
    assert (kind, seen, y.dtype) == ("float16", ("float16", "float16"), jnp.bfloat16)


def test_methods_of_bases_are_wrapped_and_called_by_super() -> None:
    child = apply_mp_policy(Child(), THREE)
    assert child(jnp.ones(1)) == ("child", "float16", "float16")
    assert child._private() == "float16"
    assert child.add(jnp.ones(2)).dtype == jnp.bfloat16


def test_properties_special_static_and_class_methods_run_as_they_are() -> None:
    probe = apply_mp_policy(Probe(), HALF)
    assert (probe.kind, len(probe)) == ("float32", 4)
    assert (probe.static(jnp.ones(1)), probe.of_class(jnp.ones(1))) == ("float32", "float32")


def test_a_cached_property_is_computed_from_the_arrays_of_its_reader() -> None:
    probe = apply_mp_policy(Probe(), HALF)
    assert probe.kept.dtype == jnp.float32
    assert probe.see_kept() == "float16"
    assert probe.kept.dtype == jnp.float32
    assert "kept" not in vars(probe.copy())


def test_compiled_and_partial_methods_are_wrapped() -> None:
    probe = apply_mp_policy(Probe(), THREE)
    assert probe.compiled(jnp.ones(2), 3).dtype == jnp.bfloat16
    assert probe.doubled(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert probe.dispatched(1) == "float16"


def test_methods_keep_name_signature_and_documentation() -> None:
    linear = apply_mp_policy(pax.Linear(1, 2), HALF)
    assert type(linear).__call__.__doc__ == pax.Linear.__call__.__doc__
    assert type(linear).__call__.__name__ == "__call__"


def test_the_policy_can_be_read() -> None:
    linear: Any = apply_mp_policy(pax.Linear(1, 2), HALF)
    assert linear.mp_policy == HALF
    assert not hasattr(pax.Linear(1, 2), "mp_policy")
    assert not hasattr(unwrap_mp_policy(linear), "mp_policy")


def test_an_attribute_named_like_the_policy_goes_first() -> None:
    module = pax.Module().set_attribute("mp_policy", "mine")
    changed = jax.tree.map(lambda x: x, apply_mp_policy(module, HALF))
    assert changed.mp_policy == "mine"


def test_dtypes_can_have_any_form() -> None:
    """KD-16."""
    forms = [
        jmp.Policy(np.dtype("float32"), np.dtype("float16"), np.dtype("float32")),
        jmp.Policy(np.float32, np.float16, np.float32),
        jmp.Policy("float32", "float16", "float32"),
        HALF,
        "p=f32,c=f16,o=f32",
        "params=float32,compute=float16,output=float32",
    ]
    linear = pax.Linear(1, 2)
    modules: list[Any] = [apply_mp_policy(linear, form) for form in forms]
    assert {repr(module) for module in modules} == {"Linear(in_dim=1, out_dim=2, with_bias=True, mp_policy=FHF)"}
    assert {str(module.mp_policy) for module in modules} == {"p=full,c=f16,o=full"}
    assert all(treedef(module) == treedef(modules[0]) for module in modules)


def test_a_float64_policy_is_float32_while_64_bits_are_disabled() -> None:
    linear = apply_mp_policy(pax.Linear(1, 2), "float64")
    assert linear.weight.dtype == jnp.float32
    assert linear(np.ones((1, 1), np.float64)).dtype == jnp.float32


def test_equal_policies_give_equal_structures_one_trace_and_no_classes() -> None:
    """KD-01."""
    run = TraceCounter(lambda linear, x: linear(x))
    linear, x = pax.Linear(2, 2), jnp.ones((1, 2))
    run(apply_mp_policy(linear, HALF), x)
    gc.collect()
    before = len(pax.Linear.__subclasses__())
    for _ in range(5):
        run(apply_mp_policy(linear, jmp.Policy(np.dtype("float32"), jnp.float16, jnp.float32)), x)
        run(apply_mp_policy(unwrap_mp_policy(apply_mp_policy(linear, THREE)), HALF).eval().train(), x)
    gc.collect()
    assert run.traces == 1
    assert len(pax.Linear.__subclasses__()) == before
    other = apply_mp_policy(linear, THREE)
    assert type(other) is type(apply_mp_policy(linear, HALF))
    assert treedef(other) != treedef(apply_mp_policy(linear, HALF))


def test_a_module_has_one_policy_at_most() -> None:
    linear = apply_mp_policy(pax.Linear(1, 2), HALF)
    with pytest.raises(ArgumentError) as caught:
        apply_mp_policy(linear, HALF)
    assert str(caught.value).startswith(
        "Cannot apply multiple mixed-precision policies on an object.\n"
        "Call `pax.unwrap_mp_policy(...)` to remove the policy first."
    )
    assert isinstance(caught.value, ValueError)
    again = apply_mp_policy(unwrap_mp_policy(linear), THREE)
    assert again(jnp.ones((1, 1))).dtype == jnp.bfloat16


def test_unwrap_gives_the_original_back() -> None:
    linear = pax.Linear(2, 3)
    half = apply_mp_policy(linear, HALF)
    assert unwrap_mp_policy(half) == linear
    assert type(unwrap_mp_policy(half)) is pax.Linear
    assert half.weight is linear.weight


def test_unwrap_keeps_what_training_has_changed() -> None:
    half = apply_mp_policy(pax.Linear(2, 3), "f16").replace(bias=jnp.zeros(3, jnp.float16))
    plain = unwrap_mp_policy(half)
    assert plain.bias.dtype == jnp.float16
    assert plain.bias.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("module", [pax.Linear(1, 2), pax.Sequential(jax.nn.relu)])
def test_unwrap_needs_a_policy(module: pax.Module) -> None:
    with pytest.raises(ArgumentError, match=r"^Expected a mixed-precision module\."):
        unwrap_mp_policy(module)


@pytest.mark.parametrize("function", [lambda x: apply_mp_policy(x, HALF), unwrap_mp_policy])
def test_only_modules_can_have_a_policy(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PAX module\."):
        function({"a": 1})


@pytest.mark.parametrize(
    ("policy", "error", "text"),
    [
        (jnp.float16, ArgumentTypeError, "Expecting a mixed-precision policy"),
        ("c=f17", ArgumentError, "This text is no mixed-precision policy"),
        ("z=f16", ArgumentError, "Unknown key 'z'"),
        (jmp.Policy(jnp.float32, jnp.int32, jnp.float32), ArgumentError, "needs floating dtypes"),
        (jmp.Policy(jnp.float32, None, jnp.float32), ArgumentError, "needs dtypes"),
        (jmp.Policy(jnp.float32, "what", jnp.float32), ArgumentError, "`compute_dtype`"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        apply_mp_policy(pax.Linear(1, 2), policy)


ORDERS: dict[str, Callable[[Any], Any]] = {
    "freeze": pax.freeze_parameters,
    "eval": lambda m: m.eval(),
    "train": lambda m: m.eval().train(),
    "copy": lambda m: m.copy(),
    "set_attribute": lambda m: m.set_attribute("extra_array", jnp.arange(2)),
    "tree_map": lambda m: jax.tree.map(lambda x: x, m),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "cloudpickle": lambda m: cloudpickle.loads(cloudpickle.dumps(m)),
    "deepcopy": copy.deepcopy,
}


def _seen(self: Any) -> str:
    return str(self.weight.dtype)


def _mine(self: Any) -> str:
    return "Mine(1)"


@pytest.mark.parametrize("name", ORDERS)
def test_policies_and_other_changes_can_be_made_in_any_order(name: str) -> None:
    """KD-17."""
    operation = ORDERS[name]
    linear = pax.Linear(2, 2)
    after, before = operation(apply_mp_policy(linear, HALF)), apply_mp_policy(operation(linear), HALF)
    assert type(after) is type(before)
    assert treedef(after) == treedef(before)
    plain = unwrap_mp_policy(after)
    assert type(plain) is pax.Linear
    x = jnp.ones((1, 2))
    np.testing.assert_array_equal(plain(x), linear(x))
    np.testing.assert_array_equal(after(x), apply_mp_policy(linear, HALF)(x))


def test_methods_replaced_before_or_after_follow_the_policy() -> None:
    """KD-17."""
    linear = pax.Linear(2, 2)
    after: Any = apply_mp_policy(linear, HALF).replace_method(extra=_seen, __repr__=_mine)
    before: Any = apply_mp_policy(linear.replace_method(extra=_seen, __repr__=_mine), HALF)
    assert treedef(after) == treedef(before)
    assert after.extra() == before.extra() == "float16"
    assert repr(after) == repr(before) == "Mine(1, mp_policy=FHF)"
    assert treedef(unwrap_mp_policy(after)) == treedef(linear.replace_method(extra=_seen, __repr__=_mine))
    assert unwrap_mp_policy(after).extra() == "float32"
    assert after.replace_method(extra=_mine).extra() == "Mine(1)"
    assert treedef(pickle.loads(pickle.dumps(after))) == treedef(after)


def test_a_replaced_call_can_call_the_one_of_the_class() -> None:
    linear = apply_mp_policy(pax.Linear(2, 2), THREE)
    more = linear.replace_method(__call__=lambda self, x: pax.Linear.__call__(self, x) + x)
    y = more(jnp.ones((1, 2)))
    assert y.dtype == jnp.bfloat16
    want = unwrap_mp_policy(linear).map(lambda a: a.astype(jnp.float16))(jnp.ones((1, 2), jnp.float16)) + 1
    np.testing.assert_array_equal(y, want.astype(jnp.bfloat16))


def test_a_call_of_the_wrapped_function_on_a_module_without_a_policy_runs_as_it_is() -> None:
    half = apply_mp_policy(Probe(), HALF)
    assert type(half).__call__(Probe(), jnp.ones(1)) == ("float32", "float32")


def test_dataclass_modules_can_have_a_policy() -> None:
    @dataclass
    class Scale(pax.Module):
        size: int
        scale: Any = None

        def __post_init__(self) -> None:
            super().__init__()
            self.scale = jnp.full((self.size,), 2.0)

        def __call__(self, x: jax.Array) -> jax.Array:
            assert x.dtype == self.scale.dtype == jnp.float16
            y: jax.Array = x * self.scale
            return y

    scale = apply_mp_policy(Scale(2), HALF)
    assert scale(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert repr(scale).endswith(", mp_policy=FHF)")
    assert scale.size == 2


def test_generic_bases_and_mixins() -> None:
    class Mixin:
        def twice(self, x: jax.Array) -> jax.Array:
            assert x.dtype == jnp.float16
            return 2 * x

    class Mixed(Mixin, pax.Module):
        pass

    assert apply_mp_policy(Mixed(), HALF).twice(jnp.ones(1)).dtype == jnp.float32
