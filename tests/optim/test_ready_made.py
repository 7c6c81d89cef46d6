"""The optimizers that optax computes: lion, lamb, lars, adagrad, adadelta, adafactor, nadam, …, muon, schedule_free."""

import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import opax
import pax
from helpers.modules import Linear, Net
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

RATE = opax.schedule.exponential_decay(0.1, 10)
MAKERS: dict[str, Callable[..., Any]] = {
    "adabelief": opax.adabelief,
    "adadelta": opax.adadelta,
    "adafactor": lambda rate=0.1, **options: opax.adafactor(rate, momentum=0.9, **options),
    "adagrad": opax.adagrad,
    "adamax": opax.adamax,
    "amsgrad": opax.amsgrad,
    "lamb": opax.lamb,
    "lars": opax.lars,
    "lion": opax.lion,
    "muon": opax.muon,
    "nadam": opax.nadam,
    "nadamw": opax.nadamw,
    "radam": opax.radam,
    "schedule_free": lambda rate=0.1, **options: opax.schedule_free(opax.sgd(rate, 0.0), rate, **options),
}
DECAYING = ("adadelta", "adafactor", "lamb", "lars", "lion", "muon", "nadamw")
every_optimizer = pytest.mark.parametrize("name", MAKERS)
every_chain = pytest.mark.parametrize("name", [name for name in MAKERS if name != "schedule_free"])

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
GRADS = {"w": jnp.linspace(2.0, 1.0, 6).reshape(2, 3), "b": -jnp.ones(3)}


@jax.jit
def three_steps(optimizer: Any, params: Any, grads: Any) -> tuple[Any, Any]:
    def step(carry: Any, _: Any) -> Any:
        params, optimizer = carry
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return (opax.apply_updates(params, updates), optimizer), None

    (params, optimizer), _ = jax.lax.scan(step, (params, optimizer), None, length=3)
    return params, optimizer


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@every_optimizer
def test_it_goes_downhill_with_its_defaults(name: str) -> None:
    params, optimizer = PARAMS, MAKERS[name]()(PARAMS)
    got, _ = three_steps(optimizer, params, GRADS)
    work = sum(float(jnp.sum((got[key] - params[key]) * GRADS[key])) for key in GRADS)
    assert work < 0


@every_optimizer
def test_three_equal_constructions_give_one_trace(name: str) -> None:
    """KD-02: each call made a new class, and a new trace."""
    factories = [MAKERS[name](RATE) for _ in range(3)]
    assert len(set(factories)) == 1
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for factory in factories:
        _, optimizer = step(factory(PARAMS))
        step(optimizer)
    assert step.traces == 1


@every_optimizer
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_factories_and_optimizers_are_picklable(name: str, pickler: Any) -> None:
    factory = MAKERS[name](RATE)
    assert pickler.loads(pickler.dumps(factory)) == factory
    _, optimizer = three_steps(factory(PARAMS), PARAMS, GRADS)
    again = pickler.loads(pickler.dumps(optimizer))
    pax.assert_structure_equal(again, optimizer)
    jax.tree.map(np.testing.assert_array_equal, again, optimizer)


@every_optimizer
def test_nothing_is_trainable(name: str) -> None:
    """KD-99: moments of a module's shape counted as trainable."""
    optimizer = MAKERS[name]()(Linear(2, 3).parameters())
    assert jax.tree.leaves(optimizer.parameters()) == []


@every_optimizer
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_moments_of_half_precision_are_float32(name: str, dtype: Any) -> None:
    """KD-97: in bfloat16, 0.999 * nu rounds back to nu."""
    params, grads = (jax.tree.map(lambda x: x.astype(dtype), tree) for tree in (PARAMS, GRADS))
    optimizer = MAKERS[name]()(params)
    with jax.numpy_dtype_promotion("strict"):
        updates, new = opax.transform_gradients(grads, optimizer, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    kinds = [[(x.dtype, x.shape, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (optimizer, new)]
    assert kinds[0] == kinds[1]
    assert {kind[0] for kind in kinds[0]} <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


@every_optimizer
def test_the_dtype_of_the_moments_can_be_chosen(name: str) -> None:
    optimizer = MAKERS[name](state_dtype=jnp.bfloat16)(PARAMS)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(optimizer) if leaf.ndim > 0]
    assert jnp.dtype(jnp.bfloat16) in dtypes
    _, new = three_steps(optimizer, PARAMS, GRADS)
    assert [leaf.dtype for leaf in jax.tree.leaves(new) if leaf.ndim > 0] == dtypes
    with pytest.raises(ArgumentTypeError, match="Expecting a floating-point dtype for `state_dtype`."):
        MAKERS[name](state_dtype="int32")


@every_optimizer
@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}], ids=["flatten", "loose"])
def test_steps_are_the_same_in_flat_chains(name: str, options: Any) -> None:
    params = Linear(2, 3).parameters()
    want, _ = three_steps(MAKERS[name]()(params), params, params)
    got, optimizer = three_steps(opax.chain(MAKERS[name]())(params, **options), params, params)
    assert_close(got, want)
    assert optimizer.submodules()


@every_optimizer
def test_vmap_trains_several_models_at_once(name: str) -> None:
    factory = MAKERS[name]()
    several = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
    got, _ = jax.vmap(three_steps)(jax.vmap(factory)(several), several, several)
    one = jax.tree.map(lambda p: p[1], several)
    assert_close(jax.tree.map(lambda p: p[1], got), three_steps(factory(one), one, one)[0])


@every_optimizer
def test_parameters_and_optimizer_can_be_donated_together(name: str) -> None:
    step = jax.jit(opax.transform_gradients, donate_argnums=(1, 2))
    params = jax.tree.map(jnp.copy, PARAMS)
    got, _ = step(GRADS, MAKERS[name]()(params), params)
    assert_close(got, opax.transform_gradients(GRADS, MAKERS[name]()(PARAMS), PARAMS)[0])


@every_optimizer
@pytest.mark.parametrize("params", [(), [jnp.ones(2), None], jnp.ones(3)])
def test_any_tree_is_a_tree_of_parameters(name: str, params: Any) -> None:
    updates, _ = opax.transform_gradients(params, MAKERS[name]()(params), params)
    pax.assert_structure_equal(updates, params)


@every_optimizer
def test_frozen_parameters_have_no_state_and_no_decay(name: str) -> None:
    model = Net()
    model = model.replace(**{"norm": pax.freeze_parameters(model.norm)})
    params = model.parameters()
    updates, optimizer = opax.transform_gradients(params, MAKERS[name]()(params), params)
    pax.assert_structure_equal(updates, params)
    shapes = {leaf.shape for leaf in jax.tree.leaves(params)}
    assert jax.tree.leaves(optimizer.parameters()) == []
    assert {leaf.shape for leaf in jax.tree.leaves(optimizer) if leaf.ndim > 1} <= {*shapes, (5, 3)}


@every_chain
def test_the_learning_rate_is_readable_and_starts_at_step_one(name: str) -> None:
    """KD-95: the first step has count 1."""
    _, optimizer = three_steps(MAKERS[name](RATE)(PARAMS), PARAMS, GRADS)
    assert float(optimizer.learning_rate) == pytest.approx(float(RATE(3)))
    assert MAKERS[name](0.25)(PARAMS).learning_rate == pytest.approx(0.25)


@pytest.mark.parametrize("name", DECAYING)
def test_a_mask_selects_what_decays(name: str) -> None:
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    maker = getattr(opax, name)
    for mask, decays in ((None, {"w", "b"}), ("w", {"w"}), (lambda p: p.ndim == 1, {"b"})):
        optimizer = maker(0.1, weight_decay=0.5, mask=mask)(PARAMS)
        got, _ = three_steps(optimizer, PARAMS, zeros)
        moved = {key for key in PARAMS if bool(jnp.any(jnp.abs(got[key] - PARAMS[key]) > 1e-9))}
        assert moved == decays


@pytest.mark.parametrize("name", DECAYING)
def test_missing_parameters_are_reported(name: str) -> None:
    """KD-93: the flat form said "List arity mismatch"."""
    for options in ({}, {"flatten": True}):
        optimizer = getattr(opax, name)(0.1, weight_decay=0.5)(PARAMS, **options)
        with pytest.raises(ArgumentError, match="expecting params argument"):
            pax.purecall(optimizer, GRADS)


@pytest.mark.parametrize("name", ["adabelief", "adamax", "amsgrad", "lamb", "lion", "nadam", "nadamw", "radam"])
def test_arguments_are_checked(name: str) -> None:
    maker = getattr(opax, name)
    with pytest.raises(ArgumentError) as caught:
        maker(b1=1.0)
    assert str(caught.value).startswith("`b1` is out of range.\n  where: ")
    assert str(caught.value).endswith("got:   b1=1.0\n  want:  0 <= b1 < 1")
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `b2`."):
        maker(b2="0.9")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: opax.adagrad(eps=-1.0), "`eps` is out of range.\n  where: adagrad"),
        (lambda: opax.adadelta(rho=1.0), "`rho` is out of range.\n  where: adadelta"),
        (lambda: opax.adafactor(min_dim_size_to_factor=0), "`min_dim_size_to_factor` is out of range."),
        (lambda: opax.adafactor(factored=1), "Expecting a boolean for `factored`."),  # type: ignore[arg-type]
        (lambda: opax.adafactor(multiply_by_parameter_scale=0.1), "Expecting a boolean for `mul"),  # type: ignore[arg-type]
        (lambda: opax.lars(trust_coefficient=-1.0), "`trust_coefficient` is out of range.\n  where: lars"),
        (lambda: opax.lars(nesterov="yes"), "Expecting a boolean for `nesterov`."),  # type: ignore[arg-type]
        (lambda: opax.radam(threshold=-1.0), "`threshold` is out of range.\n  where: radam"),
        (lambda: opax.muon(beta=1.0), "`beta` is out of range.\n  where: muon"),
        (lambda: opax.muon(ns_steps=2.5), "Expecting an integer for `ns_steps`."),  # type: ignore[arg-type]
        (lambda: opax.schedule_free(opax.sgd(), 0.1, b1=0.0), "`b1` is out of range.\n  where: schedule_free"),
        (lambda: opax.schedule_free(opax.sgd(), -0.1), "`learning_rate` is out of range.\n  where: schedule_free"),
        (
            lambda: opax.schedule_free(opax.sgd(), 0.1, weight_lr_power="a"),  # type: ignore[arg-type]
            "Expecting a number for `weight_lr_power`.",
        ),
    ],
)
def test_each_optimizers_own_arguments_are_checked(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
        make()
    assert str(caught.value).startswith(text)


def test_summaries_name_the_parts() -> None:
    assert opax.lion()(Linear(2, 3).parameters()).summary() == (
        "chain.<locals>.Chain\n"
        "├── from_optax.<locals>.FromOptax(scale_by_lion)\n"
        "│   └── Linear(in=2, out=3)\n"
        "├── add_decayed_weights.<locals>.AddDecayedWeights\n"
        "└── scale.<locals>.Scale"
    )


def test_adafactor_leaves_out_what_is_off() -> None:
    assert len(opax.adafactor()(PARAMS)) == 4
    assert len(opax.adafactor(clipping_threshold=None, multiply_by_parameter_scale=False)(PARAMS)) == 2
    assert len(opax.adafactor(momentum=0.9, weight_decay=0.1)(PARAMS)) == 6


def test_muon_has_momentum_for_matrices_and_adam_for_the_rest() -> None:
    optimizer = opax.muon()(Linear(2, 3).parameters())
    states = optimizer[0].inner_states
    assert states["muon"].inner_state[0].mu.weight.shape == (2, 3)
    assert isinstance(states["muon"].inner_state[0].mu.bias, optax.MaskedNode)
    assert states["adam"].inner_state[0].nu.bias.shape == (3,)
    assert isinstance(states["adam"].inner_state[0].nu.weight, optax.MaskedNode)


# ---- schedule_free -----------------------------------------------------------------------------------------------


def test_schedule_free_shows_the_optimizer_inside() -> None:
    optimizer = opax.schedule_free(opax.adam(0.1, b1=0.0), 0.1)(Linear(2, 3).parameters())
    assert repr(optimizer) == "schedule_free.<locals>.ScheduleFree"
    assert repr(optimizer.base_optimizer_state) == "chain.<locals>.Chain"
    assert optimizer.base_optimizer_state[0].nu.weight.shape == (2, 3)
    assert isinstance(optimizer.z, Linear)


@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["default", "flatten", "loose"])
def test_evaluation_parameters_are_those_of_optax(options: Any) -> None:
    transformation = optax.contrib.schedule_free(optax.sgd(0.1), 0.1)
    model = Linear(2, 3)
    params = model.parameters()
    grads = params.map(lambda p: p + 1.0)
    ours = opax.chain(opax.schedule_free(opax.sgd(0.1, 0.0), 0.1))(params, **options)
    got, ours = three_steps(ours, params, grads)
    state = transformation.init(params)
    for _ in range(3):
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert_close(got, params)
    evaluated = opax.evaluation_model(model.update_parameters(got), ours)
    assert_close(evaluated.parameters(), optax.contrib.schedule_free_eval_params(state, params))
    assert bool(jnp.any(jnp.abs(evaluated.weight - got.weight) > 1e-4))


def test_evaluation_parameters_have_the_dtypes_of_the_parameters() -> None:
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    optimizer = opax.schedule_free(opax.sgd(0.1, 0.0), 0.1)(half)
    found = optimizer.evaluation_params(half)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [jnp.bfloat16] * 2
    jax.tree.map(np.testing.assert_array_equal, found, half)
    with pytest.raises(StructureError, match="parameters and the optimizer's state"):
        optimizer.evaluation_params({"w": half["w"]})


def test_schedule_free_takes_optimizers_of_optax() -> None:
    ours, theirs = (opax.schedule_free(base, 0.1)(PARAMS) for base in (opax.sgd(0.1, 0.0), optax.sgd(0.1)))
    assert_close(three_steps(ours, PARAMS, GRADS)[0], three_steps(theirs, PARAMS, GRADS)[0])
    with pytest.raises(ArgumentError, match="Expecting `negate`"):
        opax.schedule_free(optax.scale_by_adam(), 0.1)(PARAMS)


@pytest.mark.parametrize("options", [{}, {"flatten": True}], ids=["default", "flatten"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_masks_of_the_optimizer_inside_select_by_the_names_of_the_model(options: Any, dtype: Any) -> None:
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    base = opax.lion(0.1, weight_decay=0.5, mask="w")
    optimizer = opax.chain(opax.schedule_free(base, 0.1))(params, **options)
    got, _ = three_steps(optimizer, params, jax.tree.map(jnp.zeros_like, params))
    assert [key for key in params if bool(jnp.any(got[key] != params[key]))] == ["w"]


@pytest.mark.parametrize("base", [0.1, lambda params: 3, opax.sgd(0.1)(PARAMS)])
def test_schedule_free_refuses_what_is_no_optimizer(base: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        opax.schedule_free(base, 0.1)(PARAMS)
