"""`grad` and `value_and_grad`: with respect to which arrays, what comes back, options, and what is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentTypeError, MutationError

_X = jnp.arange(6.0).reshape(3, 2)


def _loss(module: Any, x: jax.Array) -> jax.Array:
    return jnp.mean(module(x) ** 2)


def _stateful_loss(net: Net, x: jax.Array) -> tuple[jax.Array, Net]:
    net, y = pax.purecall(net, x)
    return (y**2).mean(), net


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path)[1:] for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


# ---- what comes back -------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_jax() -> None:
    linear = Linear(2, 2)
    gradients = pax.grad(_loss)(linear, _X)
    expected = jax.grad(lambda arrays: _loss(linear.replace(**arrays), _X))(
        {"weight": linear.weight, "bias": linear.bias}
    )
    assert jnp.allclose(gradients.weight, expected["weight"], rtol=1e-6)
    assert jnp.allclose(gradients.bias, expected["bias"], rtol=1e-6)


def test_gradients_have_class_and_structure_of_the_parameters() -> None:
    net = Net()
    gradients, _ = pax.grad(_stateful_loss, has_aux=True)(net, _X)
    assert type(gradients) is Net
    assert treedef(gradients) == treedef(net.parameters())
    assert gradients.norm.mean == pax.EmptyNode()


def test_value_and_gradients() -> None:
    linear = Linear(2, 2)
    value, gradients = pax.value_and_grad(_loss)(linear, _X)
    assert value == _loss(linear, _X)
    assert jnp.array_equal(gradients.weight, pax.grad(_loss)(linear, _X).weight)


def test_auxiliary_output_comes_back_with_the_gradients() -> None:
    gradients, aux = pax.grad(lambda m, x: (_loss(m, x), "aux"), has_aux=True)(Linear(), _X)
    assert (type(gradients), aux) == (Linear, "aux")


def test_auxiliary_output_comes_back_with_the_value() -> None:
    (value, net), _ = pax.value_and_grad(_stateful_loss, has_aux=True)(Net(), _X)
    assert value.shape == ()
    assert (int(net.counter.count), net.norm.mean.tolist()) == (1, [2.0, 3.0])


def test_the_loss_function_sees_the_whole_module() -> None:
    seen: list[Any] = []

    def loss(net: Net) -> jax.Array:
        seen.append(net)
        return net.encoder.weight.sum()

    net = Net()
    pax.grad(loss)(net)
    assert treedef(seen[0]) == treedef(net)
    assert seen[0].norm.mean is net.norm.mean


def test_more_arguments_are_passed_on() -> None:
    def loss(linear: Linear, x: jax.Array, *, scale: float) -> jax.Array:
        return scale * linear(x).sum()

    gradients = pax.grad(loss)(Linear(2, 2), _X, scale=2.0)
    assert gradients.bias.tolist() == [6.0, 6.0]


def test_the_module_is_left_as_it_is() -> None:
    linear = Linear()
    weight = linear.weight
    pax.grad(_loss)(linear, _X)
    assert linear.weight is weight


def test_states_and_frozen_parts_have_no_gradients() -> None:
    module = Holder(a=Linear(2, 2), b=pax.freeze_parameters(Linear(2, 2)), c=Norm(2).eval())
    gradients = pax.grad(lambda m, x: m.c(m.b(m.a(x))).sum())(module, _X)
    assert _paths(gradients) == ["a.weight", "a.bias", "c.scale"]


def test_partly_frozen_modules_have_gradients_of_the_rest() -> None:
    linear = pax.freeze_parameters(Linear(2, 2), "weight")
    gradients = pax.grad(_loss)(linear, _X)
    assert gradients.weight == pax.EmptyNode()
    assert gradients.bias.shape == (2,)


def test_a_module_without_parameters_has_empty_gradients() -> None:
    gradients = pax.grad(lambda m: m.count.astype(float))(Counter())
    assert jax.tree.leaves(gradients) == []
    assert type(gradients) is Counter


def test_the_plain_update_rule_leaves_states_untouched() -> None:
    net = Net()
    gradients, _ = pax.grad(_stateful_loss, has_aux=True)(net, _X)
    updated = jax.tree.map(lambda p, g: p - 0.1 * g, net, gradients)
    assert treedef(updated) == treedef(net)
    assert updated.counter.count is net.counter.count
    assert not jnp.array_equal(updated.norm.scale, net.norm.scale)


def test_gradients_that_are_one_array_have_parameters_and_merge() -> None:
    holder = ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2))
    gradients = pax.grad(lambda m: (m.a + m.b).sum())(holder)
    assert treedef(holder | gradients.parameters()) == treedef(holder)


def test_gradients_that_are_one_tracer_can_be_used_under_jit() -> None:
    @jax.jit
    def step(holder: ParameterHolder) -> ParameterHolder:
        gradients = pax.grad(lambda m: (m.a + m.b).sum())(holder)
        return holder.update_parameters(holder.parameters().map(jax.lax.sub, gradients.parameters()))

    updated = step(ParameterHolder(a=jnp.ones(2), b=jnp.zeros(2)))
    assert (updated.a.tolist(), updated.b.tolist()) == ([0.0, 0.0], [-1.0, -1.0])


# ---- with other transformations --------------------------------------------------------------------------------------


def test_gradients_under_jit_are_traced_once() -> None:
    step = TraceCounter(pax.grad(_loss))
    gradients = [step(Linear(2, 2), _X) for _ in range(3)]
    assert step.traces == 1
    assert jnp.allclose(gradients[0].weight, pax.grad(_loss)(Linear(2, 2), _X).weight, rtol=1e-6)


def test_vmap_of_gradients_gives_one_per_example() -> None:
    linear = Linear(2, 2)
    gradients = jax.vmap(pax.grad(_loss), in_axes=(None, 0))(linear, _X[:, None])
    assert gradients.weight.shape == (3, 2, 2)
    assert jnp.allclose(gradients.bias[1], pax.grad(_loss)(linear, _X[1:2]).bias, rtol=1e-6)


def test_the_hessian_of_a_module() -> None:
    module = ParameterHolder(x=jnp.array([1.0, 2.0]), y=jnp.array(3.0))
    hessian = jax.hessian(lambda m: (m.x**2).sum() * m.y)(module)
    assert hessian.x.x.tolist() == [[6.0, 0.0], [0.0, 6.0]]
    assert hessian.x.y.tolist() == [2.0, 4.0]
    assert hessian.y.y == 0.0


def test_a_derivative_of_the_gradients_with_respect_to_an_input() -> None:
    module = ParameterHolder(w=jnp.array(3.0), s=Counter())
    derivative = jax.jacfwd(lambda x: pax.grad(lambda m: m.w**2 * x)(module))(jnp.array(2.0))
    assert derivative.w == 6.0


def test_gradients_of_gradients() -> None:
    module = ParameterHolder(w=jnp.array(2.0))
    second = pax.grad(lambda m: pax.grad(lambda m: m.w**3)(m).w)(module)
    assert second.w == 12.0


def test_gradients_of_a_pure_function() -> None:
    @pax.pure
    def loss(net: Net, x: jax.Array) -> jax.Array:
        return (net(x) ** 2).mean()

    value, gradients = pax.value_and_grad(loss)(Net(), _X)
    assert value >= 0
    assert gradients.encoder.weight.shape == (2, 3)


def test_a_stateful_module_called_without_purecall_is_refused() -> None:
    with pytest.raises(MutationError):
        pax.grad(_loss)(Net(), _X)


def test_gradients_through_a_checkpoint() -> None:
    linear = Linear(2, 2)
    gradients = pax.grad(jax.checkpoint(_loss))(linear, _X)
    assert jnp.allclose(gradients.weight, pax.grad(_loss)(linear, _X).weight, rtol=1e-6)


# ---- options and errors ----------------------------------------------------------------------------------------------


def test_integers_have_gradients_on_request() -> None:
    gradients = pax.grad(lambda m: m.w.astype(float) * 2, allow_int=True)(ParameterHolder(w=jnp.array(1)))
    assert gradients.w.dtype == jax.dtypes.float0


def test_integers_have_gradients_on_request_beside_the_value() -> None:
    value, gradients = pax.value_and_grad(lambda m: m.w.astype(float) * 2, allow_int=True)(
        ParameterHolder(w=jnp.array(1))
    )
    assert (float(value), gradients.w.dtype) == (2.0, jax.dtypes.float0)


@pytest.mark.parametrize("transform", [pax.grad, pax.value_and_grad])
@pytest.mark.parametrize("argnums", [0, (0, 1)])
def test_argnums_is_refused(transform: Callable[..., Any], argnums: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        transform(_loss, argnums=argnums)
    assert str(caught.value).startswith("`argnums` cannot be chosen")
    assert f"got:   argnums={argnums!r}" in str(caught.value)
    assert "fix:   jax.grad(loss_fn, argnums=...)" in str(caught.value)


@pytest.mark.parametrize("transform", [pax.grad, pax.value_and_grad])
def test_the_first_argument_has_to_be_a_module(transform: Callable[..., Any]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        transform(_loss)(jnp.ones(3), _X)
    assert isinstance(caught.value, ArgumentTypeError)
    assert str(caught.value).startswith("Expecting a PAX's Module at the first argument.")
    assert "got:   float32[3]" in str(caught.value)
    assert "fix:   pax.value_and_grad(loss_fn)(module, x)" in str(caught.value)


@pytest.mark.parametrize("transform", [pax.grad, pax.value_and_grad])
def test_only_functions_have_gradients(transform: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Only a function has gradients.") as caught:
        transform(3)
    assert "got:   3" in str(caught.value)


@pytest.mark.parametrize("transform", [pax.grad, pax.value_and_grad])
def test_the_new_function_has_the_name_of_the_old_one(transform: Callable[..., Any]) -> None:
    assert transform(_loss).__name__ == "_loss"


def test_utils_has_the_same_function() -> None:
    assert pax.utils.grad is pax.grad


@pytest.mark.parametrize("function", [pax.grad, pax.value_and_grad])
def test_a_parameter_of_integers_is_an_error_that_names_it(function: Any) -> None:
    holder = Holder(value=ParameterHolder(value=jnp.zeros(3, jnp.int32)))
    with pytest.raises(ArgumentTypeError) as caught:
        function(lambda holder: 0.0)(holder)
    text = str(caught.value)
    assert text.startswith("This parameter has no gradient")
    assert "path `value.value`" in text
    assert "got:   int32[3]" in text
    assert "fix:   parameters = pax.parameters_method(" in text


def test_errors_of_the_loss_are_not_taken_for_those_of_integers() -> None:
    def loss_fn(holder: Any) -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine"):
        pax.grad(loss_fn)(ParameterHolder(value=jnp.zeros(3)))


@pytest.mark.parametrize(
    ("returned", "has_aux"),
    [(lambda net, x: net(x), False), (lambda net, x: (net(x).mean(), net), False), (lambda net, x: (net, x), True)],
    ids=["no mean", "no has_aux", "the wrong way round"],
)
@pytest.mark.parametrize("function", [pax.grad, pax.value_and_grad])
def test_a_loss_that_is_no_scalar_is_told_what_to_return(function: Any, returned: Any, has_aux: bool) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        function(returned, has_aux=has_aux)(Linear(2, 2), _X)
    text = str(caught.value)
    assert text.startswith("The loss has to be a scalar.")
    assert "where loss_fn returns (loss, net)" in text
