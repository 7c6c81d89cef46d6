"""opax.scale_by_adam, opax.adam and opax.adamw."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Linear
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, StructureError


class Stack(pax.Module):
    """Layers, one after the other."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = [Linear() for _ in range(depth)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


def take_step(optimizer: Any, grad: float, param: float = 0.0) -> tuple[Any, float]:
    updates, optimizer = opax.transform_gradients(jnp.array([grad]), optimizer, jnp.array([param]))
    return optimizer, float(updates[0])


def test_reference_values_of_adam() -> None:
    optimizer = opax.adam(0.1, b1=0.8, b2=0.9, eps=1e-6)(jnp.zeros(1))
    optimizer, first = take_step(optimizer, 0.1)
    _, second = take_step(optimizer, 1.0)
    np.testing.assert_allclose([first, second], [0.0999990, 0.0823345], rtol=1e-5)


def test_reference_value_of_adamw() -> None:
    _, update = take_step(opax.adamw(1.0, weight_decay=0.1)(jnp.zeros(1)), 1.0, param=2.0)
    np.testing.assert_allclose(update, 1.2, rtol=1e-4)


def test_state_is_not_bias_corrected() -> None:
    optimizer = opax.scale_by_adam(0.9, 0.99)({"w": jnp.zeros(1)})
    assert optimizer.pytree_attributes == ("mu", "nu", "count")
    optimizer, updates = pax.purecall(optimizer, {"w": jnp.array([2.0])})
    np.testing.assert_allclose(optimizer.mu["w"], [0.2], rtol=1e-5)
    np.testing.assert_allclose(optimizer.nu["w"], [0.04], rtol=1e-5)
    np.testing.assert_allclose(updates["w"], [1.0], rtol=1e-5)
    np.testing.assert_array_equal(optimizer.count, np.int32(1), strict=True)


def test_moments_of_a_module_are_modules_of_its_class() -> None:
    optimizer = opax.adam(1e-3)(Linear(3, 3).parameters())
    assert optimizer.summary() == (
        "chain.<locals>.Chain\n"
        "├── scale_by_adam.<locals>.ScaleByAdam\n"
        "│   ├── Linear(in=3, out=3)\n"
        "│   └── Linear(in=3, out=3)\n"
        "└── scale.<locals>.Scale"
    )
    assert isinstance(optimizer[0].mu, Linear)
    np.testing.assert_array_equal(optimizer[0].nu.bias, np.zeros(3, np.float32), strict=True)


def test_moments_of_half_precision_decay() -> None:
    """KD-97: in bfloat16, 0.999 * nu rounds back to nu."""
    optimizer = opax.scale_by_adam()(jnp.ones(1, jnp.bfloat16))
    optimizer = optimizer.replace(nu=jnp.array([0.9]))
    for _ in range(100):
        optimizer, _ = pax.purecall(optimizer, jnp.zeros(1, jnp.bfloat16))
    np.testing.assert_allclose(optimizer.nu, [0.9 * 0.999**100], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"b1": 1.0},
            ArgumentError,
            "`b1` is out of range.\n  where: scale_by_adam\n  got:   b1=1.0\n  want:  0 <= b1 < 1",
        ),
        ({"b2": -0.1}, ArgumentError, "`b2` is out of range."),
        (
            {"eps": -1},
            ArgumentError,
            "`eps` is out of range.\n  where: scale_by_adam\n  got:   eps=-1.0\n  want:  0 <= eps",
        ),
        ({"eps_root": float("nan")}, ArgumentError, "`eps_root` is out of range."),
        ({"b1": "0.9"}, ArgumentTypeError, "Expecting a number for `b1`."),
        ({"learning_rate": "0.1"}, ArgumentTypeError, "Expecting a number for `learning_rate`."),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.adam(**options)
    assert str(caught.value).startswith(text)


def test_gradients_of_another_structure_are_refused() -> None:
    optimizer = opax.adam()({"a": jnp.ones(2)})
    with pytest.raises(StructureError) as caught:
        opax.transform_gradients({"b": jnp.ones(2)}, optimizer, {"a": jnp.ones(2)})
    text = str(caught.value)
    assert text.startswith("The updates and the optimizer's state have different structures.\n")
    assert "where: transforms[0] (ScaleByAdam)" in text
    assert "strict=False" in text


def test_gradients_of_another_shape_are_refused() -> None:
    optimizer = opax.adam()({"a": jnp.ones(2)})
    with pytest.raises(
        StructureError, match=r"different shapes[^$]*\['a'\]\n  got:   float32\[1\]\n  want:  float32\[2\]"
    ):
        opax.transform_gradients({"a": jnp.ones(1)}, optimizer, {"a": jnp.ones(2)})


def test_a_large_model_takes_one_trace() -> None:
    model = Stack(20)
    optimizer = opax.adam(1e-3)(model.parameters())

    def train(model: Any, optimizer: Any) -> Any:
        grads = pax.grad(lambda model: jnp.sum(model(jnp.ones((1, 2)))))(model)
        return opax.apply_gradients(model, optimizer, grads)

    step = TraceCounter(train)
    for _ in range(3):
        model, optimizer = step(model, optimizer)
    assert step.traces == 1


def test_parameters_in_the_place_of_the_learning_rate_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a learning rate.(.|\n)*opax.adam\(1e-3\)\(net"):
        opax.adam(Linear().parameters())
