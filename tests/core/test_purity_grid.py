"""Purity under every JAX transformation: what may change inside of one, and what may not."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import MutationError

Body = Callable[[Any, jax.Array], jax.Array]
"""``body(module, x)`` returns an array like ``x``."""

Transformed = Callable[[Body, Any, jax.Array], Any]
"""Runs a body under a transformation, into which it passes the module and ``x``, ``float32[2]``."""


class Doubler(pax.ParameterModule):
    """Doubles its weight whenever it is called, so a call needs a session."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = jnp.ones((), jnp.float32)
        self.note = "new"

    def __call__(self, x: jax.Array) -> jax.Array:
        self.weight = self.weight * 2.0
        return x * self.weight

    def scale(self, x: jax.Array) -> jax.Array:
        """Changes nothing."""
        return x * self.weight


def _scalar(body: Body) -> Callable[[Any, jax.Array], jax.Array]:
    return lambda module, x: jnp.sum(body(module, x))


def _stack(module: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), module)


def _ones_like(tree: Any) -> Any:
    return jax.tree.map(jnp.ones_like, tree)


def _scan_carry(body: Body, module: Any, x: jax.Array) -> Any:
    def step(carry: Any, element: jax.Array) -> tuple[Any, jax.Array]:
        return carry, body(carry, element)

    return jax.lax.scan(step, module, x)


def _while_loop(body: Body, module: Any, x: jax.Array) -> Any:
    def step(state: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
        count, module, x = state
        return count + 1, module, body(module, x)

    return jax.lax.while_loop(lambda state: state[0] < 2, step, (jnp.array(0), module, x))


def _fori_loop(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.lax.fori_loop(0, 2, lambda _, state: (state[0], body(*state)), (module, x))


def _linear_transpose(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.linear_transpose(lambda x: body(module, x), x)(x)


def _custom_vjp(body: Body) -> Any:
    function = jax.custom_vjp(body)
    function.defvjp(lambda module, x: (body(module, x), (module, x)), lambda kept, _: kept)
    return function


def _custom_jvp(body: Body) -> Any:
    function = jax.custom_jvp(body)
    function.defjvp(lambda primals, tangents: (body(*primals), tangents[1]))
    return function


def _custom_vjp_grad(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.grad(_scalar(_custom_vjp(body)))(module, x)


def _custom_jvp_grad(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.grad(_scalar(_custom_jvp(body)))(module, x)


def _custom_jvp_jvp(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.jvp(_custom_jvp(body), (module, x), (_ones_like(module), x))


def _shard_map(body: Body, module: Any, x: jax.Array) -> Any:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("device",))
    spec: Any = jax.sharding.PartitionSpec
    shard_map: Any = getattr(jax, "shard_map", None)
    if shard_map is None:  # JAX 0.7
        from jax.experimental.shard_map import shard_map
    return shard_map(body, mesh=mesh, in_specs=(spec(), spec("device")), out_specs=spec("device"))(module, x)


def _pmap(body: Body, module: Any, x: jax.Array) -> Any:
    with warnings.catch_warnings():  # JAX says that `pmap` will be replaced
        warnings.simplefilter("ignore", DeprecationWarning)
        return jax.pmap(body, in_axes=(None, 0))(module, x)


def _jit_vmap_grad(body: Body, module: Any, x: jax.Array) -> Any:
    return jax.jit(jax.vmap(jax.grad(_scalar(body)), in_axes=(None, 0)))(module, x)


TRANSFORMATIONS: dict[str, Transformed] = {
    "jit": lambda body, module, x: jax.jit(body)(module, x),
    "grad": lambda body, module, x: jax.grad(_scalar(body))(module, x),
    "value_and_grad": lambda body, module, x: jax.value_and_grad(_scalar(body))(module, x),
    "jvp": lambda body, module, x: jax.jvp(body, (module, x), (_ones_like(module), x)),
    "vjp": lambda body, module, x: jax.vjp(body, module, x)[0],
    "linearize": lambda body, module, x: jax.linearize(body, module, x)[0],
    "linear_transpose": _linear_transpose,
    "jacfwd": lambda body, module, x: jax.jacfwd(body)(module, x),
    "jacrev": lambda body, module, x: jax.jacrev(body)(module, x),
    "hessian": lambda body, module, x: jax.hessian(_scalar(body))(module, x),
    "vmap": lambda body, module, x: jax.vmap(body, in_axes=(None, 0))(module, x),
    "vmap over modules": lambda body, module, x: jax.vmap(body)(_stack(module), x),
    "scan": lambda body, module, x: jax.lax.scan(lambda c, xs: (c, body(*xs)), 0.0, (_stack(module), x)),
    "scan carry": _scan_carry,
    "associative_scan": lambda body, module, x: jax.jit(
        lambda module, x: jax.lax.associative_scan(lambda a, b: body(module, a + b), x)
    )(module, x),
    "map": lambda body, module, x: jax.lax.map(lambda xs: body(*xs), (_stack(module), x)),
    "while_loop": _while_loop,
    "fori_loop": _fori_loop,
    "cond": lambda body, module, x: jax.lax.cond(jnp.array(True), body, lambda module, x: x, module, x),
    "switch": lambda body, module, x: jax.lax.switch(jnp.array(0), [body, lambda module, x: x], module, x),
    "checkpoint": lambda body, module, x: jax.checkpoint(body)(module, x),
    "eval_shape": lambda body, module, x: jax.eval_shape(body, module, x),
    "make_jaxpr": lambda body, module, x: jax.make_jaxpr(body)(module, x),
    "lower": lambda body, module, x: jax.jit(body).lower(module, x),
    "shard_map": _shard_map,
    "pmap": _pmap,
    "jit of vmap of grad": _jit_vmap_grad,
    "custom_jvp under grad": _custom_jvp_grad,  # the rule itself is linearized
    "pax.grad": lambda body, module, x: pax.grad(_scalar(body))(module, x),
    "pax.value_and_grad": lambda body, module, x: pax.value_and_grad(_scalar(body))(module, x),
    "pax.scan": lambda body, module, x: pax.scan(lambda c, element: (c, body(c, element)), module, x),
}

# JAX runs these functions under the trace of their caller, which is the session's own: no tracer of another trace can
# get into the module, so a module that they close over may change.
CUSTOM_RULES: dict[str, Transformed] = {
    "custom_vjp": lambda body, module, x: _custom_vjp(body)(module, x),
    "custom_jvp": lambda body, module, x: _custom_jvp(body)(module, x),
    "custom_vjp under grad": _custom_vjp_grad,
    "custom_jvp under jvp": _custom_jvp_jvp,
}

_each = pytest.mark.parametrize("transformation", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
_each_custom = pytest.mark.parametrize("transformation", CUSTOM_RULES.values(), ids=CUSTOM_RULES)
_all = {**TRANSFORMATIONS, **CUSTOM_RULES}
_each_of_all = pytest.mark.parametrize("transformation", _all.values(), ids=_all)


@pytest.fixture
def x() -> jax.Array:
    return jnp.ones(2, jnp.float32)


@_each
def test_a_closed_over_module_cannot_change(transformation: Transformed, x: jax.Array) -> None:
    seen: list[Any] = []

    @pax.pure
    def outer(module: Doubler) -> None:
        seen.append(module)
        transformation(lambda _, x: module(x), module, x)

    with pytest.raises(MutationError, match="inside a JAX transformation"):
        outer(Doubler())
    assert seen[0].weight == 1.0


@_each_custom
def test_a_module_closed_over_by_a_custom_rule_can_change(transformation: Transformed, x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        def body(_: Any, x: jax.Array) -> jax.Array:
            module.note = "changed"
            return x

        transformation(body, Doubler(), x)
        return module

    assert outer(Doubler()).note == "changed"


@_each_of_all
def test_a_module_passed_in_cannot_change(transformation: Transformed, x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> None:
        transformation(lambda inner, x: inner(x), module, x)

    with pytest.raises(MutationError):
        outer(Doubler())


@_each_of_all
def test_a_module_passed_in_outside_of_pure_cannot_change(transformation: Transformed, x: jax.Array) -> None:
    with pytest.raises(MutationError):
        transformation(lambda module, x: module(x), Doubler(), x)


@_each_of_all
def test_purecall_of_a_module_passed_in_works(transformation: Transformed, x: jax.Array) -> None:
    updated: list[Any] = []

    def body(module: Any, x: jax.Array) -> Any:
        module, y = pax.purecall(module, x)
        updated.append(module)
        return y

    transformation(body, Doubler(), x)
    assert updated
    assert not any(map(pax.extend.is_mutable, updated))


@_each_of_all
def test_purecall_of_a_closed_over_module_works(transformation: Transformed, x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        transformation(lambda _, x: pax.purecall(module, x)[1], module, x)
        return module

    assert outer(Doubler()).weight == 1.0


@_each_of_all
def test_a_pure_function_can_be_transformed(transformation: Transformed, x: jax.Array) -> None:
    module = Doubler()
    transformation(pax.pure(lambda module, x: module(x)), module, x)
    assert module.weight == 1.0


@_each_of_all
def test_a_module_that_changes_nothing_can_be_called(transformation: Transformed, x: jax.Array) -> None:
    module = Doubler()
    transformation(lambda passed, x: passed.scale(x) + module.scale(x), module, x)
    assert module.weight == 1.0


@_each_of_all
def test_modules_can_be_constructed_inside(transformation: Transformed, x: jax.Array) -> None:
    made: list[Any] = []

    def body(_: Any, x: jax.Array) -> jax.Array:
        module = Doubler()
        made.append(module)
        return module.scale(x)

    transformation(body, Doubler(), x)
    assert made
    assert all(type(module) is Doubler for module in made)


@_each_of_all
def test_the_module_is_mutable_again_afterwards(transformation: Transformed, x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        transformation(lambda inner, x: pax.purecall(inner, x)[1], module, x)
        module.note = "changed"
        return module

    assert outer(Doubler()).note == "changed"


@_each_of_all
def test_the_module_is_mutable_again_after_a_failure_inside(transformation: Transformed, x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        with pytest.raises(MutationError):
            transformation(lambda inner, x: inner(x), module, x)
        module.note = "changed"
        return module

    assert outer(Doubler()).note == "changed"


@_each
def test_a_closed_over_module_cannot_change_under_jit(transformation: Transformed, x: jax.Array) -> None:
    @jax.jit
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        transformation(lambda _, x: module(x), module, x)
        return module

    with pytest.raises(MutationError):
        outer(Doubler())


@_each_of_all
def test_pure_and_the_transformation_work_under_jit(transformation: Transformed, x: jax.Array) -> None:
    @jax.jit
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        transformation(lambda inner, x: pax.purecall(inner, x)[1], module, x)
        module.weight = module.weight * 3.0
        return module

    assert outer(Doubler()).weight == 3.0


@_each
def test_a_constructor_cannot_change_its_module_inside(transformation: Transformed, x: jax.Array) -> None:
    class Broken(pax.Module):
        def __init__(self) -> None:
            super().__init__()

            def body(_: Any, x: jax.Array) -> jax.Array:
                self.inside = x
                return x

            transformation(body, Doubler(), x)

    with pytest.raises(MutationError):
        Broken()


def test_updates_travel_out_of_a_scan_as_the_carry(x: jax.Array) -> None:
    module, ys = jax.lax.scan(lambda module, x: pax.purecall(module, x), Doubler(), x)
    assert module.weight == 4.0
    assert ys.tolist() == [2.0, 4.0]


def test_a_cached_inner_jit_can_be_called_between_changes(x: jax.Array) -> None:
    inner = jax.jit(lambda module, x: pax.purecall(module, x))

    @pax.pure
    def outer(module: Doubler) -> Doubler:
        module, _ = inner(module, x)
        module, _ = inner(module, x)
        return module

    first = outer(Doubler())
    second = outer(first)
    assert [module.weight.item() for module in (first, second)] == [4.0, 16.0]


def test_a_cached_inner_jit_does_not_close_the_session_around_it(x: jax.Array) -> None:
    inner = jax.jit(lambda module, x: pax.purecall(module, x)[1])

    @pax.pure
    def outer(module: Doubler) -> Doubler:
        inner(module, x)
        module.weight = module.weight * 5.0
        inner(module, x)
        module.weight = module.weight * 5.0
        return module

    assert outer(outer(Doubler())).weight == 625.0


def test_a_cached_inner_jit_does_not_close_the_session_under_an_outer_jit(x: jax.Array) -> None:
    inner = jax.jit(lambda module, x: pax.purecall(module, x)[1])

    @jax.jit
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        inner(module, x)
        module.weight = module.weight * 5.0
        inner(module, x)
        module.weight = module.weight * 5.0
        return module

    assert outer(outer(Doubler())).weight == 625.0


def test_with_jit_disabled_the_closed_over_module_changes_safely(x: jax.Array) -> None:
    """KD-26: there is no trace, so no tracer can leak; the session itself is the only rule."""

    @pax.pure
    def outer(module: Doubler) -> Doubler:
        jax.jit(lambda x: module(x))(x)
        return module

    original = Doubler()
    with jax.disable_jit():
        assert outer(original).weight == 2.0
    assert original.weight == 1.0


def test_with_jit_disabled_a_module_passed_in_cannot_change_outside_of_pure(x: jax.Array) -> None:
    with jax.disable_jit(), pytest.raises(MutationError):
        jax.jit(lambda module, x: module(x))(Doubler(), x)


def test_with_jit_disabled_a_gradient_is_still_a_trace(x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> Any:
        return jax.grad(lambda x: jnp.sum(module(x)))(x)

    with jax.disable_jit(), pytest.raises(MutationError):
        outer(Doubler())


def test_compile_time_evaluation_is_no_trace_of_its_own() -> None:
    @jax.jit
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        with jax.ensure_compile_time_eval():
            module.note = "changed"
        return module

    assert outer(Doubler()).note == "changed"


def test_compile_time_evaluation_does_not_lead_out_of_a_trace(x: jax.Array) -> None:
    """Otherwise the tracer would leak into the module of the outer session."""

    @pax.pure
    def outer(module: Doubler) -> Doubler:
        def inner(x: jax.Array) -> jax.Array:
            with jax.ensure_compile_time_eval():
                module.weight = x
            return x

        jax.jit(inner)(x)
        return module

    with pytest.raises(MutationError):
        outer(Doubler())


def test_compile_time_evaluation_leaves_the_session_in_force_afterwards() -> None:
    @jax.jit
    @pax.pure
    def outer(module: Doubler) -> Doubler:
        with jax.ensure_compile_time_eval():
            factor = jnp.array(7.0, jnp.float32) + 1.0
        module.weight = module.weight * factor
        return module

    assert outer(Doubler()).weight == 8.0


def test_a_session_inside_compile_time_evaluation_works() -> None:
    @jax.jit
    def outer(x: jax.Array) -> jax.Array:
        with jax.ensure_compile_time_eval():
            module, _ = pax.purecall(Doubler(), jnp.ones(2, jnp.float32))
        return x * module.weight

    assert outer(jnp.array(1.0, jnp.float32)) == 2.0


def test_an_error_inside_a_transformation_says_what_to_do(x: jax.Array) -> None:
    @pax.pure
    def outer(module: Doubler) -> None:
        jax.jit(lambda x: module(x))(x)

    with pytest.raises(MutationError) as caught:
        outer(Doubler())
    text = str(caught.value)
    assert text.startswith(
        "Cannot modify a module in immutable mode.\n"
        "Please do this computation inside a function decorated by `pax.pure`."
    )
    assert "where: Doubler, attribute `weight`" in text
    assert "got:   an assignment inside a JAX transformation that was entered after `pax.pure`" in text
    assert "module, y = pax.purecall(module, x)" in text
