"""`build_update_fn`: a training step with an optimizer of opax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError

opax = pytest.importorskip("opax")

# Adam of optax promotes dtypes on its own.
pytestmark = pytest.mark.implicit_dtypes

_X = jnp.array([[1.0], [2.0]])


def _loss(model: Any, x: jax.Array, y: jax.Array) -> Any:
    model, prediction = pax.purecall(model, x)
    loss = jnp.mean(jnp.square(prediction - y))
    return loss, (loss, model)


def _start() -> tuple[Linear, Any]:
    model = Linear(1, 1).replace(weight=jnp.ones((1, 1)), bias=jnp.zeros(1))
    return model, opax.adam(0.1)(model.parameters())


def test_three_steps_of_adam_give_the_reference_values() -> None:
    update = pax.build_update_fn(_loss)
    model, optimizer = _start()
    losses = []
    for _ in range(3):
        model, optimizer, loss = update(model, optimizer, _X, 2 * _X)
        losses.append(float(loss))
    # Six digits of the reference; the rest depends on the order of float32 operations.
    assert losses == pytest.approx([2.5, 1.765004, 1.164593], rel=1e-5)
    assert float(model.weight[0, 0]) == pytest.approx(1.2966914, rel=1e-5)
    assert float(model.bias[0]) == pytest.approx(0.2964548, rel=1e-5)


def test_scan_mode_takes_and_returns_one_pair() -> None:
    update = pax.build_update_fn(_loss, scan_mode=True)
    (model, optimizer), loss = update(_start(), _X, 2 * _X)
    assert float(loss) == 2.5
    assert isinstance(model, Linear)
    assert treedef(optimizer) == treedef(_start()[1])


def test_a_step_in_scan_mode_can_be_scanned() -> None:
    update = pax.build_update_fn(_loss, scan_mode=True)
    (model, _), losses = pax.scan(
        lambda pair, batch: update(pair, *batch), _start(), (jnp.stack([_X] * 3), jnp.stack([2 * _X] * 3))
    )
    assert losses.tolist() == pytest.approx([2.5, 1.765004, 1.164593], rel=1e-5)
    assert float(model.weight[0, 0]) == pytest.approx(1.2966914, rel=1e-5)


def test_a_compiled_step_is_traced_once() -> None:
    update = TraceCounter(pax.build_update_fn(_loss))
    model, optimizer = _start()
    for _ in range(3):
        model, optimizer, _ = update(model, optimizer, _X, 2 * _X)
    assert update.traces == 1


def test_the_model_passed_in_is_left_as_it_is() -> None:
    model, optimizer = _start()
    pax.build_update_fn(_loss)(model, optimizer, _X, 2 * _X)
    assert (model.weight.tolist(), model.bias.tolist()) == ([[1.0]], [0.0])


def test_states_of_the_returned_model_are_kept_and_parameters_are_updated() -> None:
    net = Net()
    optimizer = opax.adam(0.1)(net.parameters())
    x = jnp.arange(6.0).reshape(3, 2)
    updated, _, _ = pax.build_update_fn(_loss)(net, optimizer, x, jnp.ones((3, 1)))
    assert int(updated.counter.count) == 1
    assert updated.norm.mean.tolist() == [2.0, 3.0]
    assert not jnp.array_equal(updated.layers[2].bias, net.layers[2].bias)


def test_the_parameters_that_are_updated_are_those_of_the_returned_model() -> None:
    def loss(model: Linear, x: jax.Array) -> Any:
        return model(x).sum(), (None, model.replace(bias=jnp.full((1,), 7.0)))

    model, _, _ = pax.build_update_fn(loss)(*_start(), _X)
    # Adam's first step is the learning rate, up to its epsilon.
    assert float(model.bias[0]) == pytest.approx(6.9, rel=1e-5)


def test_frozen_parts_are_not_updated() -> None:
    model = pax.freeze_parameters(Linear(1, 1).replace(weight=jnp.ones((1, 1))), "weight")
    updated, _, _ = pax.build_update_fn(_loss)(model, opax.adam(0.1)(model.parameters()), _X, 2 * _X)
    assert updated.weight.tolist() == [[1.0]]
    assert updated.bias.tolist() != [0.0]


def test_keyword_arguments_are_passed_on() -> None:
    def loss(model: Linear, x: jax.Array, *, scale: float) -> Any:
        return model(x).sum(), (scale, model)

    assert pax.build_update_fn(loss)(*_start(), _X, scale=3.0)[2] == 3.0


def test_a_stateful_model_called_without_purecall_is_refused() -> None:
    def loss(model: Net, x: jax.Array) -> Any:
        return model(x).sum(), (None, model)

    net = Net()
    with pytest.raises(MutationError):
        pax.build_update_fn(loss)(net, opax.adam(0.1)(net.parameters()), jnp.ones((3, 2)))


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (lambda model: model.bias.sum(), "float32[]"),
        (lambda model: (model.bias.sum(), model), "(float32[], a `Linear`)"),
        (lambda model: (model.bias.sum(), (model, None)), "(float32[], (a `Linear`, None))"),
        (lambda model: (model.bias.sum(), (None, model), 3), "(float32[], (None, a `Linear`), 3)"),
        (lambda model: None, "None"),
    ],
    ids=["loss only", "no auxiliary output", "the other way round", "three", "nothing"],
)
def test_a_loss_function_that_returns_something_else_is_told_what_to_return(
    result: Callable[[Any], Any], got: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.build_update_fn(lambda model: result(model))(*_start())
    text = str(caught.value)
    assert text.startswith("The loss function returned something else than (loss, (aux, model)).")
    assert f"got:   {got}\n" in text
    assert "want:  (loss, (aux, model))" in text
    assert "return loss, (aux, model)" in text.partition("fix:")[2]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda model: model.eval(), "_training: got False, want True"),
        (lambda model: Counter(), "the root: got a `Counter`, want a `Linear`"),
        (lambda model: model.parameters().set_attribute("new", 3), "new: got a static value, want nothing"),
    ],
    ids=["mode", "class", "new attribute"],
)
def test_a_returned_model_of_another_structure_is_an_error(change: Callable[[Any], Any], line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        pax.build_update_fn(lambda model: (model.bias.sum(), (None, change(model))))(*_start())
    assert isinstance(caught.value, StructureError)
    assert str(caught.value).startswith("Expecting an updated model in the auxiliary output.")
    assert line in str(caught.value)
    assert "fix:   return the model that pax.purecall returned" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "optimizer", "role"),
    [(3, lambda: _start()[1], "model"), (None, lambda: None, "model"), (Linear(), lambda: {"a": 1}, "optimizer")],
    ids=["model", "both", "optimizer"],
)
def test_model_and_optimizer_have_to_be_modules(model: Any, optimizer: Callable[[], Any], role: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.build_update_fn(_loss)(model, optimizer(), _X, _X)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).startswith(f"Expecting a PAX module as the {role}.")
    assert "want:  update_fn(model, optimizer, ...)" in str(caught.value)
    assert "fix:   optimizer = opax.adam(1e-3)(model.parameters())" in str(caught.value)


def test_scan_mode_needs_a_pair() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        pax.build_update_fn(_loss, scan_mode=True)(*_start(), _X, _X)
    assert str(caught.value).startswith("In scan mode the model and the optimizer are one argument.")
    assert "fix:   update_fn((model, optimizer), x, y)" in str(caught.value)


def test_a_loss_function_has_to_be_callable() -> None:
    with pytest.raises(ArgumentTypeError, match=r"A loss function is needed."):
        pax.build_update_fn(Holder(a=1))  # type: ignore[arg-type]


def test_scan_mode_is_a_keyword() -> None:
    with pytest.raises(TypeError, match="positional"):
        pax.build_update_fn(_loss, True)  # type: ignore[call-arg]


def test_utils_has_the_same_function() -> None:
    assert pax.utils.build_update_fn is pax.build_update_fn
