"""The protocol that all transformations follow, and the ones that need no test file of their own."""

import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Linear, Net
from helpers.traces import TraceCounter
from pax.errors import ArgumentTypeError


def _is_filled(param: Any) -> bool:
    return bool(param.size > 0)


FACTORIES: dict[str, Callable[[], Any]] = {
    "identity.<locals>.Identity": opax.identity,
    "scale.<locals>.Scale": lambda: opax.scale(0.1),
    "scale_by_schedule.<locals>.ScaleBySchedule": lambda: opax.scale_by_schedule(
        opax.schedule.exponential_decay(0.1, 10)
    ),
    "scale_by_adam.<locals>.ScaleByAdam": opax.scale_by_adam,
    "add_decayed_weights.<locals>.AddDecayedWeights": lambda: opax.add_decayed_weights(0.1),
    "trace.<locals>.Trace": lambda: opax.trace(0.9),
    "clip.<locals>.Clip": lambda: opax.clip(1.0),
    "clip_by_global_norm.<locals>.ClipByGlobalNorm": lambda: opax.clip_by_global_norm(1.0),
    "chain.<locals>.Chain": lambda: opax.adamw(1e-3),
    "scale_by_rms.<locals>.ScaleByRms": opax.scale_by_rms,
    "scale_by_stddev.<locals>.ScaleByStddev": opax.scale_by_stddev,
    "ema.<locals>.EMA": lambda: opax.ema(0.9),
    "clip_by_block_rms.<locals>.ClipByBlockRms": lambda: opax.clip_by_block_rms(1.0),
    "adaptive_clip.<locals>.AdaptiveClip": lambda: opax.adaptive_clip(0.1),
    "centralize.<locals>.Centralize": opax.centralize,
    "add_noise.<locals>.AddNoise": lambda: opax.add_noise(0.1, 0.5, 0),
    "masked.<locals>.Masked": lambda: opax.masked(opax.adam(1e-3), _is_filled),
    "partition.<locals>.Partition": lambda: opax.partition((_is_filled, opax.adam(1e-3)), rest=opax.sgd(0.1)),
    "multi_steps.<locals>.MultiSteps": lambda: opax.multi_steps(opax.adam(1e-3), 2),
    "apply_if_finite.<locals>.ApplyIfFinite": lambda: opax.apply_if_finite(opax.adam(1e-3), 3),
    "lookahead.<locals>.Lookahead": lambda: opax.lookahead(opax.adam(1e-3)),
    "params_ema.<locals>.ParamsEma": lambda: opax.params_ema(0.9),
    "from_optax.<locals>.FromOptax(adam)": lambda: opax.from_optax(optax.adam, 1e-3),
    "schedule_free.<locals>.ScheduleFree": lambda: opax.schedule_free(opax.sgd(0.1), 0.1),
}
every_factory = pytest.mark.parametrize("name", FACTORIES)
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: jnp.full_like(p, 0.5), PARAMS)


@every_factory
def test_names(name: str) -> None:
    optimizer = FACTORIES[name]()(PARAMS)
    assert repr(optimizer) == name
    assert optimizer.summary().splitlines()[0] == name


@every_factory
def test_factories_are_used_like_classes(name: str) -> None:
    factory = FACTORIES[name]()
    optimizer = factory(PARAMS)
    assert isinstance(optimizer, factory)
    assert isinstance(optimizer, opax.GradientTransformation)
    assert issubclass(factory, opax.GradientTransformation)
    assert not isinstance(Linear(2, 3), factory)
    pax.assert_structure_equal(factory.init(PARAMS), optimizer)


@every_factory
def test_equal_factories_are_equal_and_make_equal_structures(name: str) -> None:
    """KD-02: each call made a new class, and a new trace."""
    factories = [FACTORIES[name]() for _ in range(3)]
    assert len(set(factories)) == 1
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for factory in factories:
        optimizer = factory(Linear(2, 3).parameters())
        pax.assert_structure_equal(optimizer, factories[0](Linear(2, 3).parameters()))
        _, optimizer = step(factory(PARAMS))
        step(optimizer)
    assert step.traces == 1


def test_other_arguments_make_other_structures() -> None:
    assert opax.adam(1e-3) != opax.adam(1e-2)
    with pytest.raises(AssertionError, match="different structures"):
        pax.assert_structure_equal(opax.adam(1e-3)(PARAMS), opax.adam(1e-2)(PARAMS))


def test_integers_and_floats_are_the_same_argument() -> None:
    pax.assert_structure_equal(opax.sgd(1, 0)(PARAMS), opax.sgd(1.0, np.float64(0.0))(PARAMS))


@every_factory
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_factories_and_optimizers_are_picklable(name: str, pickler: Any) -> None:
    factory = FACTORIES[name]()
    assert pickler.loads(pickler.dumps(factory)) == factory
    optimizer = factory(Linear(2, 3).parameters())
    again = pickler.loads(pickler.dumps(optimizer))
    pax.assert_structure_equal(again, optimizer)
    assert type(again) is type(optimizer)
    jax.tree.map(np.testing.assert_array_equal, again, optimizer)


@every_factory
def test_nothing_is_trainable(name: str) -> None:
    """KD-99: moments of a module's shape counted as trainable."""
    optimizer = FACTORIES[name]()(Linear(2, 3).parameters())
    assert jax.tree.leaves(optimizer.parameters()) == []
    assert optimizer.parameters().summary() == optimizer.summary()


@every_factory
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_updates_have_the_dtypes_of_gradients_and_state_keeps_its(name: str, dtype: Any) -> None:
    params, grads = (jax.tree.map(lambda x: x.astype(dtype), tree) for tree in (PARAMS, GRADS))
    optimizer = FACTORIES[name]()(params)
    updates, new = opax.transform_gradients(grads, optimizer, params)
    assert [leaf.dtype for leaf in jax.tree.leaves(updates)] == [dtype] * 2
    kinds = [[(x.dtype, x.shape, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (optimizer, new)]
    assert kinds[0] == kinds[1]
    assert {kind[0] for kind in kinds[0]} <= {
        jnp.dtype(kind) for kind in (jnp.float32, jnp.int32, jnp.uint32, jnp.bool)
    }


@every_factory
def test_it_works_under_strict_dtype_promotion(name: str) -> None:
    with jax.numpy_dtype_promotion("strict"):
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
        for params, grads in ((PARAMS, GRADS), (half, GRADS)):
            optimizer = FACTORIES[name]()(params)
            updates, _ = opax.transform_gradients(grads, optimizer, params)
            opax.apply_updates(params, updates)


@every_factory
@pytest.mark.parametrize("params", [(), {}, [jnp.ones(2), None], jnp.ones(3)])
def test_any_tree_is_a_tree_of_parameters(name: str, params: Any) -> None:
    updates, _ = opax.transform_gradients(params, FACTORIES[name]()(params), params)
    pax.assert_structure_equal(updates, params)


@every_factory
def test_empty_nodes_are_left_alone(name: str) -> None:
    params = Net().parameters()
    updates, _ = opax.transform_gradients(params, FACTORIES[name]()(params), params)
    pax.assert_structure_equal(updates, params)
    assert updates.norm.mean == updates.counter.count == pax.EmptyNode()


@every_factory
def test_all_parameters_frozen_is_no_error(name: str) -> None:
    params = pax.freeze_parameters(Linear(2, 3)).parameters()
    updates, _ = opax.transform_gradients(params, FACTORIES[name]()(params), params)
    pax.assert_structure_equal(updates, params)


@every_factory
def test_it_works_in_scan_under_jit(name: str) -> None:
    def step(carry: Any, grads: Any) -> Any:
        params, optimizer = carry
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return (opax.apply_updates(params, updates), optimizer), None

    carry = (PARAMS, FACTORIES[name]()(PARAMS))
    gradients = jax.tree.map(lambda g: jnp.stack([g, -g, g]), GRADS)
    got, _ = jax.jit(lambda carry, xs: jax.lax.scan(step, carry, xs))(carry, gradients)
    want = carry
    for index in range(3):
        want, _ = step(want, jax.tree.map(lambda g, index=index: g[index], gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (opax.sgd(0.005), optax.sgd(0.005, momentum=0.9)),
        (opax.sgd(0.005, momentum=0.0), optax.sgd(0.005)),
        (opax.adam(0.05), optax.adam(0.05)),
        (opax.adam(0.05, 0.8, 0.9, 1e-4, 1e-3), optax.adam(0.05, 0.8, 0.9, 1e-4, 1e-3)),
        (opax.adamw(0.05, weight_decay=0.1), optax.adamw(0.05, weight_decay=0.1)),
        (
            opax.chain(opax.clip_by_global_norm(0.5), opax.clip(0.2), opax.adam(0.05)),
            optax.chain(optax.clip_by_global_norm(0.5), optax.clip(0.2), optax.adam(0.05)),
        ),
    ],
    ids=["momentum", "plain", "adam", "adam-options", "adamw", "clipping"],
)
def test_50_steps_are_those_of_optax(ours: Any, theirs: Any) -> None:
    def loss(params: Any) -> jax.Array:
        # A valley, as that of Rosenbrock: the gradients change in size and direction.
        return jnp.sum((1 - params["w"]) ** 2) + 5 * jnp.sum((params["b"][:, None] - params["w"] ** 2) ** 2)

    start = {"w": jnp.array([[-1.0, 0.5], [0.3, 2.0]]), "b": jnp.array([0.7, -0.2])}

    @jax.jit
    def our_step(params: Any, optimizer: Any) -> Any:
        updates, optimizer = opax.transform_gradients(jax.grad(loss)(params), optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    @jax.jit
    def their_step(params: Any, state: Any) -> Any:
        updates, state = theirs.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, optimizer = start, ours(start)
    want, state = start, theirs.init(start)
    for _ in range(50):
        params, optimizer = our_step(params, optimizer)
        want, state = their_step(want, state)
        # Fused in another order, a step may differ in the last digits, which the valley magnifies.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, want)


def test_the_base_class_has_to_be_derived_from() -> None:
    optimizer = opax.GradientTransformation(PARAMS)
    assert repr(optimizer) == "GradientTransformation"
    with pytest.raises(NotImplementedError, match="A subclass must implement this method"):
        optimizer(GRADS)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (Linear(2, 2).parameters, "where: chain\n"),
        ({"w": "float32"}, "where: ['w']\n  got:   'float32'\n"),
        (jnp.ones, "where: chain\n"),
    ],
    ids=["method", "string", "function"],
)
def test_parameters_that_are_no_arrays_are_refused(params: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting parameters: a tree of arrays.") as caught:
        opax.adam(0.1)(params)
    assert text in str(caught.value)


def test_random_keys_among_parameters_are_refused() -> None:
    """The module itself, in place of its parameters."""
    with pytest.raises(ArgumentTypeError, match="a random key cannot be optimized") as caught:
        opax.sgd(0.1)({"w": jnp.ones(2), "rng": jax.random.key(0)})
    assert "where: ['rng']\n  got:   key<fry>[]" in str(caught.value)


def test_what_is_of_optax_is_sent_to_from_optax() -> None:
    with pytest.raises(ArgumentTypeError, match=r"fix:   opax\.from_optax"):
        opax.chain(optax.adam(0.1))(PARAMS)


def test_submodules_hold_the_same_functions() -> None:
    assert opax.transform.scale is opax.scale
    assert opax.optimizer.adam is opax.adam
    assert opax.utils.apply_updates is opax.apply_updates
    assert isinstance(opax.__version__, str)
