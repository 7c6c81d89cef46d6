"""Modules with a policy that change: what is stored, what survives an exception, and that nobody sees half of it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import MutationError, UnsupportedModuleError
from pax.experimental import apply_mp_policy, mutable

HALF = "p=f32,c=f16,o=f32"


class Pipeline(pax.Module):
    """Functions by name, called in the order in which they were written."""

    functions: dict[str, Callable[[Any], Any]]

    def __init__(self) -> None:
        super().__init__()
        self.weight = jnp.array([1.0, 2.0])
        self.functions = {"second": _add_one, "first": _double}

    def __call__(self, x: Any) -> Any:
        for function in self.functions.values():
            x = function(x)
        return x * self.weight

    def swap(self) -> None:
        """Changes nothing but the order."""
        self.functions["second"] = self.functions.pop("second")

    def start_again(self) -> None:
        """Assigns a new dictionary."""
        self.functions = {"z": _double, "y": _add_one}


def _add_one(x: Any) -> Any:
    return x + 1


def _double(x: Any) -> Any:
    return x * 2


class Average(pax.StateModule):
    """A mean over calls, with a weight that is never assigned, and a count of calls."""

    weight: jax.Array
    mean: Any
    history: list[Any]
    table: dict[str, Any]
    calls: int
    extra: Any

    def __init__(self) -> None:
        super().__init__()
        self.weight = jnp.array([0.1, 0.2])
        self.mean = jnp.zeros(2)
        self.history = []
        self.table = {"a": jnp.ones(2), "b": jnp.ones(3)}
        self.inner = pax.EMA(jnp.zeros(2), 0.5)
        self.layers = [pax.Linear(2, 2)]
        self.calls = 0

    def __call__(self, x: jax.Array) -> jax.Array:
        self.mean = 0.5 * self.mean + 0.5 * x * self.weight
        self.calls += 1
        mean: jax.Array = self.mean
        return mean

    def assign_none(self) -> None:
        pass

    def update_inner(self, x: jax.Array) -> Any:
        return self.inner(x)

    def replace_inner(self, x: jax.Array) -> None:
        self.inner, _ = pax.purecall(self.inner, x)

    def append(self, x: jax.Array) -> None:
        self.history.append(x)

    def fill_table(self, x: jax.Array) -> None:
        self.table["a"] = x

    def add_layer(self) -> None:
        self.layers.append(pax.Linear(2, 2))

    def swap(self) -> None:
        self.mean, self.weight = self.weight, self.mean

    def define(self, x: jax.Array) -> None:
        self.extra = [x]

    def forget(self) -> None:
        del self.calls

    def fail(self, x: jax.Array) -> None:
        self.mean = x
        raise RuntimeError("mine")

    def myself(self) -> Any:
        return self, [self], self.assign_none

    def renamed(self) -> Any:
        return self.replace(calls=7), pax.Sequential(self.copy(), jax.nn.relu)

    def keep_method(self) -> None:
        self.extra = self.assign_none


def _method(name: str) -> Callable[..., Any]:
    def call(module: Any, *args: Any) -> Any:
        return module, getattr(module, name)(*args)

    return pax.pure(call)


X = jnp.array([1.0, 2.0])


def test_an_assigned_array_is_stored_in_parameter_dtype() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, y = pax.purecall(average, X)
    assert (new.mean.dtype, y.dtype, new.calls) == (jnp.float32, jnp.float32, 1)
    want = (jnp.float16(0.5) * X.astype(jnp.float16) * average.weight.astype(jnp.float16)).astype(jnp.float32)
    np.testing.assert_allclose(new.mean, want, atol=1e-4)
    assert average.mean.tolist() == [0.0, 0.0]


def test_arrays_that_were_not_assigned_stay_the_very_objects() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = pax.purecall(average, X)
    assert new.weight is average.weight
    assert new.table["b"] is average.table["b"]


def test_arrays_that_changed_places_stay_the_very_objects() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("swap")(average)
    assert new.mean is average.weight
    assert new.weight is average.mean


def test_a_container_changed_in_place_keeps_its_other_arrays() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("fill_table")(average, X)
    assert new.table["b"] is average.table["b"]
    assert (new.table["a"].dtype, new.table["a"].tolist()) == (jnp.float32, [1.0, 2.0])
    assert average.table["a"].tolist() == [1.0, 1.0]


def test_a_list_without_arrays_can_get_some() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("append")(average, X)
    assert [array.dtype for array in new.history] == [jnp.float32]
    assert average.history == []
    assert "history" in new.pytree_attributes


def test_attributes_can_be_defined_and_deleted() -> None:
    new, _ = _method("define")(apply_mp_policy(Average(), HALF), X)
    assert new.extra[0].dtype == jnp.float32
    new, _ = _method("forget")(new)
    assert not hasattr(new, "calls")


def test_a_submodule_may_change() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("update_inner")(average, X)
    np.testing.assert_allclose(new.inner.averages, pax.purecall(average.inner, X)[0].averages)
    assert new.inner.averages.dtype == average.inner.averages.dtype


def test_a_submodule_may_be_replaced() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("replace_inner")(average, X)
    np.testing.assert_allclose(new.inner.averages, pax.purecall(average.inner, X)[0].averages)


def test_a_list_of_submodules_may_grow() -> None:
    average = apply_mp_policy(Average(), HALF)
    new, _ = _method("add_layer")(average)
    assert (len(new.layers), len(average.layers)) == (2, 1)
    assert new.layers[1].weight.dtype == jnp.float32


@pytest.mark.parametrize("name", ["append", "fill_table", "define", "__call__", "update_inner"])
def test_no_method_changes_a_module_outside_of_pure(name: str) -> None:
    average = apply_mp_policy(Average(), HALF)
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode") as caught:
        getattr(average, name)(X)
    assert isinstance(caught.value, ValueError)
    assert average == average.copy()


def test_the_error_names_the_path_of_the_module() -> None:
    net = pax.Sequential(jax.nn.relu, apply_mp_policy(Average(), HALF))

    @pax.pure
    def run(net: Any) -> Any:
        return jax.jit(lambda x: net(x))(X)

    with pytest.raises(MutationError) as caught:
        run(net)
    assert "where: modules[1] (Average), attribute `mean`" in str(caught.value)
    assert "inside a JAX transformation that was entered after `pax.pure`" in str(caught.value)


def test_a_module_can_be_changed_in_a_mutable_block() -> None:
    with mutable(apply_mp_policy(Average(), HALF)) as average:
        average(X)
        average(X)
    assert average.calls == 2
    with pytest.raises(MutationError):
        average(X)


def test_the_object_a_method_runs_on_cannot_change_later() -> None:
    kept: list[Any] = []

    def keep(self: Any) -> None:
        self.mean = self.mean + 1
        kept.append(self)

    @pax.pure
    def run(average: Any) -> None:
        average.keep()
        kept[0].calls = 3

    with pytest.raises(MutationError):
        run(apply_mp_policy(Average(), HALF).replace_method(keep=keep))


def test_nothing_changes_where_a_method_fails() -> None:
    """KD-15."""
    average = apply_mp_policy(Average(), HALF)

    @pax.pure
    def run(average: Any) -> Any:
        with pytest.raises(RuntimeError, match="mine"):
            average.fail(X)
        return average

    assert run(average) == average
    with pytest.raises(RuntimeError, match="mine"):
        jax.jit(lambda m, x: _method("fail")(m, x))(average, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(average) if leaf.dtype != jnp.int32} == {jnp.dtype("float32")}
    jax.block_until_ready(average)  # no tracers


def test_a_failed_call_under_jit_leaves_no_tracer() -> None:
    """KD-15."""
    linear = apply_mp_policy(pax.Linear(2, 3), HALF)
    weight = linear.weight
    with pytest.raises(ValueError, match="Expecting 2 input features"):
        jax.jit(lambda x: linear(x))(jnp.ones((1, 5)))
    with pytest.raises(ValueError, match="Expecting 2 input features"):
        linear(jnp.ones((1, 5)))
    assert linear.weight is weight
    assert linear(jnp.ones((1, 2))).shape == (1, 3)


def test_a_result_that_is_the_module_itself_is_the_module() -> None:
    average = apply_mp_policy(Average(), HALF)
    itself, (again,), method = average.myself()
    assert itself is again is average
    assert method.__self__ is average


def test_a_module_made_from_self_has_the_policy_and_parameter_dtypes() -> None:
    average = apply_mp_policy(Average(), HALF)
    renamed, net = average.renamed()
    assert type(renamed) is type(net.modules[0]) is type(average)
    assert (renamed.calls, renamed.mp_policy) == (7, average.mp_policy)  # type: ignore[attr-defined]
    assert renamed.weight is average.weight
    assert net.modules[0] == average


def test_a_method_of_self_cannot_be_kept_as_without_a_policy() -> None:
    with pytest.raises(UnsupportedModuleError):
        _method("keep_method")(apply_mp_policy(Average(), HALF))


def test_modules_among_the_arguments_may_change() -> None:
    @pax.pure
    def run(user: Any, average: Any) -> Any:
        user.use(average)
        return average

    user = apply_mp_policy(pax.Linear(1, 1).replace_method(use=lambda self, m: m(X)), HALF)
    assert run(user, Average()).calls == 1


def test_numpy_arrays_stay_numpy_arrays() -> None:
    module = pax.Module().set_attribute("weight", np.ones(2, np.float64))
    seen: list[Any] = []
    half = apply_mp_policy(module, "p=f32,c=f16").replace_method(__call__=lambda self: seen.append(self.weight))
    half()  # type: ignore[operator]
    assert (type(half.weight), half.weight.dtype) == (np.ndarray, np.float32)  # type: ignore[attr-defined]
    assert (type(seen[0]), seen[0].dtype) == (np.ndarray, np.float16)
    assert pax.pure(lambda m: (m(), m)[1])(half).weight is half.weight  # type: ignore[attr-defined]


def test_sixteen_threads_share_a_module() -> None:
    """KD-15."""
    linear = apply_mp_policy(pax.Linear(4, 4), HALF)
    average = apply_mp_policy(Average(), HALF)
    x = jnp.ones((2, 4))
    want, weight = np.asarray(linear(x)), linear.weight
    want_mean = np.asarray(pax.purecall(average, X)[0].mean)
    barrier = threading.Barrier(16)

    def work(number: int) -> int:
        barrier.wait()
        failures = 0
        for turn in range(30):
            assert linear.weight is weight
            if (number + turn) % 3 == 0:
                try:
                    linear(jnp.ones((2, 5)))
                except ValueError:
                    failures += 1
                try:
                    average(X)
                except MutationError:
                    failures += 1
            else:
                np.testing.assert_array_equal(linear(x), want)
                new, _ = pax.purecall(average, X)
                np.testing.assert_array_equal(new.mean, want_mean)
        return failures

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [20] * 16
    assert linear.weight is weight
    assert average.mean.dtype == jnp.float32
    assert average.calls == 0


def test_threads_make_one_class() -> None:
    class Fresh(pax.Linear):
        pass

    fresh = Fresh(1, 1)
    barrier = threading.Barrier(16)

    def work(_: int) -> Any:
        barrier.wait()
        return type(apply_mp_policy(fresh, HALF))

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(work, range(16)))) == 1


def test_static_dictionaries_keep_their_order() -> None:
    # `jax.tree.map` would sort them: (3 * 2) + 1 in the place of (3 + 1) * 2.
    plain, module = Pipeline(), apply_mp_policy(Pipeline(), HALF)
    np.testing.assert_array_equal(module(3.0), [8, 16])
    np.testing.assert_array_equal(module(3.0), plain(3.0))
    with mutable(module) as swapped:
        swapped.swap()
    assert list(swapped.functions) == ["first", "second"]
    np.testing.assert_array_equal(swapped(3.0), [7, 14])
    with mutable(module) as new:
        new.start_again()
    assert list(new.functions) == ["z", "y"]
    assert list(module.functions) == ["second", "first"]
