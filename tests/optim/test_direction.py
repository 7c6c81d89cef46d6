"""How opax.from_optax tells optimizers from transformations of gradients, whose sign would make them climb."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import opax
from opax._direction import try_out
from opax._optax_recipe import recipe_of
from pax.errors import ArgumentError

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}

OPTIMIZERS = (
    "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lion nadam nadamw "
    "novograd optimistic_adam_v2 optimistic_gradient_descent radam rmsprop rprop sgd sign_sgd sm3 yogi"
).split()
OPTIMIZERS_OF_CONTRIB = "acprop ademamix adopt cocob dadapt_adamw madgrad muon prodigy schedule_free_sgd".split()
NO_OPTIMIZERS = (
    "centralize identity keep_params_nonnegative normalize_by_update_norm scale_by_adadelta scale_by_adam "
    "scale_by_adamax scale_by_adan scale_by_amsgrad scale_by_belief scale_by_lbfgs scale_by_lion scale_by_novograd "
    "scale_by_optimistic_gradient scale_by_param_block_norm scale_by_param_block_rms scale_by_radam scale_by_rms "
    "scale_by_rss scale_by_sign scale_by_sm3 scale_by_stddev scale_by_trust_ratio scale_by_yogi set_to_zero zero_nans"
).split()
WITH_ARGUMENTS: dict[str, Callable[[], Any]] = {
    "adadelta": optax.adadelta,
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(1.0),
    "add_decayed_weights": lambda: optax.add_decayed_weights(0.1),
    "add_noise": lambda: optax.add_noise(1000.0, 0.1, 1),
    "apply_every": lambda: optax.apply_every(2),
    "chain": lambda: optax.chain(optax.clip(1.0), optax.scale_by_adam()),
    "clip": lambda: optax.clip(1.0),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(1.0),
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "ema": lambda: optax.ema(0.9),
    "masked": lambda: optax.masked(optax.scale_by_adam(), {"w": True, "b": True}),
    "scale": lambda: optax.scale(0.1),
    "scale_by_schedule": lambda: optax.scale_by_schedule(optax.constant_schedule(0.1)),
    "trace": lambda: optax.trace(0.9),
}
WARM_UP = optax.linear_schedule(0.0, 0.1, 10)


def make(name: str, module: Any = optax) -> Any:
    """Returns the transformation of that name, which needs a learning rate or nothing."""
    function = getattr(module, name)
    try:
        return function(learning_rate=0.1)
    except TypeError:
        return function()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (name, module)
        for names, module in ((OPTIMIZERS, optax), (OPTIMIZERS_OF_CONTRIB, optax.contrib))
        for name in names
        if hasattr(module, name)  # a few are not in the oldest optax
    ],
)
def test_optimizers_are_known_as_such(name: str, module: Any) -> None:
    assert try_out(recipe_of(make(name, module), (), {})).descends is True


@pytest.mark.parametrize("name", NO_OPTIMIZERS)
def test_what_is_no_optimizer_is_not_taken_for_one(name: str) -> None:
    assert try_out(recipe_of(getattr(optax, name)(), (), {})).descends is not True


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_what_is_no_optimizer_whatever_its_arguments(name: str) -> None:
    assert try_out(recipe_of(WITH_ARGUMENTS[name](), (), {})).descends is not True


@pytest.mark.parametrize(
    "transformation",
    [
        optax.chain(optax.clip(1.0), optax.adam(WARM_UP)),
        optax.chain(optax.scale_by_adam(), optax.scale(-0.1)),
        optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda count: -0.1)),
        optax.multi_transform(
            {"a": optax.adam(0.1), "b": optax.sgd(0.1)}, lambda p: jax.tree.map(lambda x: "ab"[x.ndim - 1], p)
        ),
        optax.apply_if_finite(optax.sgd(0.1), 3),
        optax.stateless(lambda updates, params: jax.tree.map(lambda u: -0.1 * u, updates)),
        optax.MultiSteps(optax.sgd(0.1), 2),
    ],
    ids=["warm-up", "negative scale", "negative schedule", "partition", "if finite", "own", "multi steps"],
)
def test_wrapped_and_own_optimizers_are_known_as_such(transformation: Any) -> None:
    optimizer = opax.from_optax(transformation)({"matrix": jnp.ones((2, 2)), "vector": jnp.ones(2)})
    assert optimizer._negate is True


def test_ascent_by_mistake_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        opax.from_optax(optax.scale_by_adam)(PARAMS)
    text = str(caught.value)
    assert text.startswith(
        "Expecting `negate` for a transformation that is not clearly an optimizer.\n  where: from_optax"
    )
    assert "got:   `scale_by_adam`, whose updates point along the gradients" in text
    assert "want:  negate=True for a complete optimizer" in text
    assert text.endswith("opax.from_optax(..., negate=False)")
    with pytest.raises(ArgumentError, match="`set_to_zero`, whose updates have no sure direction"):
        opax.from_optax(optax.set_to_zero())(PARAMS)


@pytest.mark.parametrize("negate", [True, False])
def test_negate_decides_about_the_sign(negate: bool) -> None:
    optimizer = opax.from_optax(optax.scale, -0.5, negate=negate)(jnp.ones(2))
    updates, _ = opax.transform_gradients(jnp.ones(2), optimizer, jnp.ones(2))
    np.testing.assert_array_equal(updates, [0.5 if negate else -0.5] * 2)


def test_it_is_tried_inside_of_a_compiled_function_too() -> None:
    try_out.cache_clear()
    optimizer = jax.jit(lambda params: opax.from_optax(optax.adam, 1e-3)(params))(PARAMS)
    assert optimizer._negate is True
    try_out.cache_clear()
    shapes = jax.eval_shape(opax.from_optax(optax.adam, 1e-3), PARAMS)
    assert shapes[0].mu["w"].shape == (2, 3)
