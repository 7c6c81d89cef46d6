"""What may change a module, where, and what the errors say; deletion of attributes."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from pax.errors import MutationError

_HEADLINE = (
    "Cannot modify a module in immutable mode.\nPlease do this computation inside a function decorated by `pax.pure`."
)


def _set(module: Any, value: float = 1.0) -> None:
    module.weight = jnp.full((2, 2), value)


# ---- the error -------------------------------------------------------------------------------------------------------


def test_an_assignment_outside_of_pure_functions_is_refused() -> None:
    linear = Linear(2, 2)
    before = linear.weight
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        _set(linear)
    assert str(caught.value).startswith(_HEADLINE)
    assert linear.weight is before


def test_a_new_attribute_is_refused() -> None:
    linear = Linear()
    with pytest.raises(MutationError):
        linear.extra = 3  # type: ignore[attr-defined]
    assert not hasattr(linear, "extra")


@pytest.mark.parametrize("attribute", ["weight", "in_features", "missing"])
def test_a_deletion_outside_of_pure_functions_is_refused(attribute: str) -> None:
    with pytest.raises(MutationError) as caught:
        delattr(Linear(), attribute)
    assert f"where: Linear, attribute `{attribute}`" in str(caught.value)
    assert "got:   a deletion outside of any `pax.pure` function" in str(caught.value)


def test_the_error_names_class_name_and_attribute_and_the_way_out() -> None:
    with pytest.raises(MutationError) as caught:
        _set(Linear(2, 2, name="head"))
    lines = str(caught.value).splitlines()
    assert lines[2:5] == [
        "  where: (head) Linear, attribute `weight`",
        "  got:   an assignment outside of any `pax.pure` function",
        "  fix:   model, output = pax.purecall(model, x)  # and go on with the returned model",
    ]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_error_advises_evaluation_mode_to_a_module_in_training_mode(training: bool) -> None:
    with pytest.raises(MutationError) as caught:
        _set(Linear(2, 2) if training else Linear(2, 2).eval())
    lines = str(caught.value).splitlines()
    assert lines[4:-1] == [
        "  fix:   model, output = pax.purecall(model, x)  # and go on with the returned model",
        *["         model = model.eval()  # for inference: states stay as they are"] * training,
        "         model = model.replace(weight=...)  # to change it from outside",
    ]


def test_who_assigns_the_mode_is_told_the_method() -> None:
    with pytest.raises(MutationError, match=r"fix:   model = model\.eval\(\)  # or model\.train\(\)"):
        Linear(2, 2).training = False  # type: ignore[misc]


def test_the_error_names_the_path_below_an_argument_of_the_running_pure_function() -> None:
    @pax.pure
    def change_in_jit(net: Net) -> None:
        jax.jit(lambda x: net.layers[2].__setattr__("bias", x))(jnp.ones(1))

    with pytest.raises(MutationError) as caught:
        change_in_jit(Net())
    assert "where: layers[2] (Linear), attribute `bias`" in str(caught.value)
    assert "got:   an assignment inside a JAX transformation that was entered after `pax.pure`" in str(caught.value)
    assert "fix:   pass the module into the transformed function" in str(caught.value)


def test_the_error_in_a_pure_function_tells_of_modules_that_are_no_inputs() -> None:
    outside = Counter()

    @pax.pure
    def change(module: Counter) -> None:
        outside.count = jnp.array(1)

    with pytest.raises(MutationError) as caught:
        change(Counter())
    assert "got:   an assignment of a module that is no input of the running `pax.pure` function" in str(caught.value)
    assert "fix:   pass the module as an argument of the pure function" in str(caught.value)


def test_the_error_in_a_constructor_tells_of_modules_that_are_finished() -> None:
    class Builder(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Linear(2, 2)
            self.layer.bias = jnp.ones(2)

    with pytest.raises(MutationError) as caught:
        Builder()
    assert "where: layer (Linear), attribute `bias`" in str(caught.value)
    assert "got:   an assignment of a module that is finished, inside of the constructor" in str(caught.value)
    assert "fix:   self.layer = Layer(...).replace(bias=...)" in str(caught.value)


def test_the_error_names_the_path_below_the_module_that_was_called() -> None:
    """The user may not know the module inside of the layer that keeps the statistics."""

    class Outer(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counters = [Counter(), Counter()]

        def __call__(self) -> Any:
            return self.counters[1]()

    with pytest.raises(MutationError) as caught:
        Outer()()
    lines = str(caught.value).splitlines()
    assert lines[2] == "  where: counters[1] (Counter), attribute `count`"
    assert lines[4:-1] == [
        "  fix:   model, output = pax.purecall(model, x)  # and go on with the returned model",
        "         model = model.eval()  # for inference: states stay as they are",
    ]


def test_the_error_names_the_method_that_was_called() -> None:
    with pytest.raises(MutationError) as caught:
        pax.RngSeq(1).next_rng_key()
    lines = str(caught.value).splitlines()
    assert lines[4:-1] == [
        "  fix:   model, result = pax.module_and_value(model.next_rng_key)(...)  # and go on with that model"
    ]


# ---- who may change --------------------------------------------------------------------------------------------------


def test_inputs_of_a_pure_function_and_all_modules_below_them_may_change() -> None:
    @pax.pure
    def change(net: Net, more: dict[str, list[Linear]]) -> tuple[Net, dict[str, list[Linear]]]:
        net.rate = 0.1
        net.layers[2].bias = jnp.ones(1)
        _set(more["a"][0])
        return net, more

    net, more = change(Net(), {"a": [Linear(2, 2)]})
    assert (net.rate, net.layers[2].bias.tolist(), float(more["a"][0].weight[0, 0])) == (0.1, [1.0], 1.0)


def test_keyword_arguments_may_change() -> None:
    @pax.pure
    def change(*, linear: Linear) -> Linear:
        _set(linear)
        return linear

    assert change(linear=Linear(2, 2)).weight[0, 0] == 1


def test_a_returned_module_is_immutable() -> None:
    returned, _ = pax.purecall(Counter())
    with pytest.raises(MutationError):
        returned.count = jnp.array(0)


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_a_module_smuggled_out_of_a_pure_function_is_immutable(fails: bool) -> None:
    smuggled: list[Counter] = []

    @pax.pure
    def leak(counter: Counter) -> None:
        counter.count = counter.count + 1
        smuggled.append(counter)
        if fails:
            raise RuntimeError

    try:
        leak(Counter())
    except RuntimeError:
        pass
    with pytest.raises(MutationError, match=r"outside of any `pax.pure` function"):
        smuggled[0].count = jnp.array(0)


def test_a_module_made_inside_a_pure_function_is_immutable() -> None:
    @pax.pure
    def change(counter: Counter) -> None:
        Linear(2, 2).bias = jnp.ones(2)

    with pytest.raises(MutationError):
        change(Counter())


def test_a_module_made_inside_and_assigned_to_a_changing_module_stays_immutable() -> None:
    @pax.pure
    def change(net: Net) -> None:
        net.encoder = Linear(2, 3)
        net.encoder.bias = jnp.ones(3)

    with pytest.raises(MutationError) as caught:
        change(Net())
    assert "where: encoder (Linear), attribute `bias`" in str(caught.value)


def test_a_module_made_inside_may_change_in_a_purecall_of_its_own() -> None:
    @pax.pure
    def change(net: Net) -> Net:
        net.counter, _ = pax.purecall(Counter())
        return net

    assert change(Net()).counter.count == 1


def test_while_a_nested_pure_function_runs_the_outer_modules_are_immutable() -> None:
    @pax.pure
    def outer(counter: Counter) -> None:
        @pax.pure
        def inner(linear: Linear) -> None:
            counter.count = jnp.array(1)

        inner(Linear())

    with pytest.raises(MutationError, match=r"while another `pax.pure` function, or a constructor, is running"):
        outer(Counter())


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_after_a_nested_pure_function_the_outer_modules_may_change_again(fails: bool) -> None:
    @pax.pure
    def inner(linear: Linear) -> None:
        if fails:
            raise RuntimeError

    @pax.pure
    def outer(counter: Counter) -> Counter:
        try:
            inner(Linear())
        except RuntimeError:
            pass
        counter.count = jnp.array(4)
        return counter

    assert outer(Counter()).count == 4


def _copied(module: Any) -> Any:
    return module.copy()


def _mapped(module: Any) -> Any:
    return jax.tree.map(lambda x: x, module)


def _evaluated(module: Any) -> Any:
    return module.eval()


def _replaced(module: Any) -> Any:
    return module.replace(weight=jnp.zeros((2, 2)))


@pytest.mark.parametrize("derive", [_copied, _mapped, _evaluated, _replaced, pax.freeze_parameters])
def test_what_is_made_of_a_changing_module_is_immutable(derive: Callable[[Any], Any]) -> None:
    @pax.pure
    def change(linear: Linear) -> None:
        _set(derive(linear))

    with pytest.raises(MutationError):
        change(Linear(2, 2))


def test_a_module_may_change_in_the_thread_of_its_pure_function_only() -> None:
    errors: list[Exception] = []

    @pax.pure
    def change(linear: Linear) -> None:
        def work() -> None:
            try:
                _set(linear)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    change(Linear(2, 2))
    assert [type(error) for error in errors] == [MutationError]


def test_a_module_passed_twice_becomes_two_independent_copies() -> None:
    @pax.pure
    def change(a: Counter, b: Counter) -> tuple[Counter, Counter]:
        a.count = jnp.array(1)
        b.count = jnp.array(2)
        return a, b

    counter = Counter()
    a, b = change(counter, counter)
    assert (int(a.count), int(b.count), int(counter.count)) == (1, 2, 0)


def test_a_submodule_passed_beside_its_parent_is_another_copy() -> None:
    @pax.pure
    def change(net: Net, counter: Counter) -> Net:
        counter.count = jnp.array(9)
        return net

    net = Net()
    assert change(net, net.counter).counter.count == 0


# ---- assignments of a changing module --------------------------------------------------------------------------------


def test_a_property_with_a_setter_can_be_assigned() -> None:
    class Scaled(pax.Module):
        def __init__(self) -> None:
            self.log_scale = jnp.array(0.0)

        @property
        def scale(self) -> jax.Array:
            return jnp.exp(self.log_scale)

        @scale.setter
        def scale(self, value: jax.Array) -> None:
            self.log_scale = jnp.log(value)

    @pax.pure
    def change(module: Scaled) -> Scaled:
        module.scale = jnp.array(1.0)
        return module

    assert change(Scaled()).log_scale == 0.0


def test_a_setter_cannot_change_an_immutable_module() -> None:
    class Scaled(pax.Module):
        def __init__(self) -> None:
            self._scale = jnp.array(0.0)

        @property
        def scale(self) -> jax.Array:
            return self._scale

        @scale.setter
        def scale(self, value: jax.Array) -> None:
            self._scale = value

    with pytest.raises(MutationError):
        Scaled().scale = jnp.array(1.0)


def test_an_augmented_assignment_changes_the_copy_only() -> None:
    @pax.pure
    def change(counter: Counter) -> Counter:
        counter.count += 5
        return counter

    counter = Counter()
    assert (int(change(counter).count), int(counter.count)) == (5, 0)


# ---- deletion --------------------------------------------------------------------------------------------------------


def test_a_static_attribute_of_a_changing_module_can_be_deleted() -> None:
    @pax.pure
    def delete(linear: Linear) -> Linear:
        del linear.in_features
        return linear

    linear = Linear()
    assert "in_features" not in vars(delete(linear))
    assert linear.in_features == 2


@pytest.mark.parametrize(
    "value",
    [lambda: jnp.zeros(1), lambda: Linear(), lambda: [jnp.zeros(1), 3], lambda: pax.EmptyNode()],
    ids=["array", "module", "mixed", "empty node"],
)
def test_a_pytree_attribute_cannot_be_deleted(value: Callable[[], Any]) -> None:
    @pax.pure
    def delete(holder: Holder) -> None:
        del holder.value

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        delete(Holder(value=value()))
    assert str(caught.value).startswith(
        "Cannot delete a pytree attribute.\n"
        "This is to avoid potential bugs related to the order of pytree attributes.\n\n"
    )
    assert "where: Holder, attribute `value`" in str(caught.value)
    assert "fix:   self.value = pax.EmptyNode()" in str(caught.value)


def test_deleting_an_attribute_that_is_not_there_is_an_attribute_error() -> None:
    @pax.pure
    def delete(linear: Linear) -> None:
        del linear.missing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="missing"):
        delete(Linear())
