"""opax.from_optax: any gradient transformation of optax, as a module."""

import pickle
import re
from collections.abc import Callable
from typing import Any, NamedTuple

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


def three_steps_of_optax(transformation: Any, params: Any, grads: Any) -> Any:
    with jax.numpy_rank_promotion("allow"):
        state = transformation.init(params)
        for _ in range(3):
            updates, state = transformation.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return params


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_fields_of_the_state_are_attributes() -> None:
    optimizer = opax.from_optax(optax.scale_by_adam, negate=False)(Linear(2, 3).parameters())
    assert isinstance(optimizer.mu, Linear)
    assert optimizer.pytree_attributes == ("count", "mu", "nu")
    np.testing.assert_array_equal(optimizer.count, np.int32(0), strict=True)
    assert optimizer.summary() == (
        "from_optax.<locals>.FromOptax(scale_by_adam)\n├── Linear(in=2, out=3)\n└── Linear(in=2, out=3)"
    )
    assert set(optimizer.state_dict()) == {"count", "mu", "nu"}
    again = optimizer.load_state_dict(optimizer.state_dict())
    pax.assert_structure_equal(again, optimizer)


def test_states_of_a_chain_are_items() -> None:
    optimizer = opax.from_optax(optax.chain(optax.clip(1.0), optax.adam(0.1)))(Linear(2, 3).parameters())
    assert isinstance(optimizer[1][0].mu, Linear)
    assert optimizer.summary() == (
        "from_optax.<locals>.FromOptax(chain)\n"
        "├── EmptyState\n"
        "├── ScaleByAdamState\n"
        "│   ├── Linear(in=2, out=3)\n"
        "│   └── Linear(in=2, out=3)\n"
        "└── EmptyState"
    )
    named = opax.from_optax(optax.named_chain(("moments", optax.scale_by_adam()), ("rate", optax.scale(-0.1))))(PARAMS)
    assert int(named["moments"].count) == 0


def test_a_state_without_items_says_what_it_has() -> None:
    optimizer = opax.from_optax(optax.scale_by_adam, negate=False)(PARAMS)
    with pytest.raises(ArgumentTypeError) as caught:
        optimizer[0]
    assert str(caught.value).startswith("The state of this transformation has no items.\n")
    assert "got:   optimizer[0]\n  want:  one of its attributes: count, mu, nu" in str(caught.value)


class Odd(NamedTuple):
    """A state with everything that a state can have."""

    name: jax.Array
    training: Any
    parameters: Any
    name_: float
    number: int
    flag: bool
    function: Any
    nothing: None
    empty: Any
    nested: Any
    weak: jax.Array
    key: jax.Array


def odd(factor: float = -1.0) -> optax.GradientTransformation:
    def init(params: Any) -> Odd:
        return Odd(
            name=jnp.zeros(()),
            training={"inner": optax.EmptyState(), "masked": optax.MaskedNode()},
            parameters=params,
            name_=0.5,
            number=3,
            flag=True,
            function=jnp.tanh,
            nothing=None,
            empty=(),
            nested=[optax.TraceState(params), (jnp.zeros(2), np.ones(2), 7, "text", jnp.sin)],
            weak=jnp.asarray(1.0),
            key=jax.random.key(0),
        )

    def update(updates: Any, state: Odd, params: Any = None) -> tuple[Any, Odd]:
        assert state.function is jnp.tanh
        assert state.nested[1][3:] == ("text", jnp.sin)
        key, _ = jax.random.split(state.key)
        state = state._replace(name=state.name + 1, number=state.number + 1, weak=2 * state.weak, key=key)
        return jax.tree.map(lambda g: factor * g, updates), state

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
    "params", [PARAMS, Linear(2, 3).parameters(), [jnp.ones(2), None]], ids=["dict", "module", "list"]
)
def test_any_state_makes_the_round_trip(params: Any) -> None:
    optimizer = opax.from_optax(odd)(params)
    state = optimizer.optax_state()
    structures: list[Any] = list(map(jax.tree.structure, (state, odd().init(params))))
    assert structures[0] == structures[1]
    assert type(state) is Odd
    assert state.function is jnp.tanh
    assert type(state.nested) is list
    assert type(state.nested[0]) is optax.TraceState
    assert type(state.training["masked"]) is optax.MaskedNode
    assert optimizer.name is None
    assert optimizer.training is True
    assert float(optimizer.name__) == 0.0
    assert repr(optimizer.training_["masked"]) == "MaskedNode"
    pax.assert_structure_equal(optimizer.nested[0].trace, params)
    assert jax.tree.leaves(optimizer.parameters()) == []


def test_numbers_in_a_state_are_strongly_typed_arrays() -> None:
    optimizer = opax.from_optax(odd)(PARAMS)
    assert optimizer.number.dtype == jnp.int32
    assert optimizer.flag.dtype == jnp.bool_
    assert not any(getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(optimizer))
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for _ in range(3):
        _, optimizer = step(optimizer)
    assert step.traces == 1
    assert int(optimizer.number) == 6
    assert float(optimizer.weak) == 8.0


def test_no_array_is_shared_with_the_parameters_or_in_the_state() -> None:
    optimizer = opax.from_optax(odd)(PARAMS)
    pax.Module().set_attribute("both", [optimizer]).scan_bugs()
    ids = [id(leaf) for leaf in jax.tree.leaves((PARAMS, optimizer))]
    assert len(set(ids)) == len(ids)
    step = jax.jit(lambda params, optimizer: three_steps(optimizer, params, GRADS), donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, PARAMS)
    for _ in range(2):
        params, optimizer = step(params, opax.from_optax(odd)(params))
    assert int(optimizer.number) == 6


def test_masked_parts_of_a_module_make_the_round_trip() -> None:
    params = Linear(2, 3).parameters()
    transformation = optax.masked(optax.adam(0.1), lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree))
    with pytest.raises(ArgumentError, match="`masked`, whose updates have no sure direction"):
        opax.from_optax(transformation)(params)  # gradients of the other parameters come out as they are
    optimizer = opax.from_optax(transformation, negate=True)(params)
    assert isinstance(optimizer.inner_state[0].mu.bias, optax.MaskedNode)
    structures: list[Any] = list(map(jax.tree.structure, (optimizer.optax_state(), transformation.init(params))))
    assert structures[0] == structures[1]
    got, optimizer = jax.jit(three_steps)(optimizer, params, params)
    assert_close(got, three_steps_of_optax(transformation, params, params))
    pickle.loads(cloudpickle.dumps(optimizer))


# ---- values ----------------------------------------------------------------------------------------------------------


def test_arguments_count_however_they_are_given() -> None:
    factories = [
        opax.from_optax(optax.lion, 1e-3, b1=0.8),
        opax.from_optax(optax.lion, learning_rate=1e-3, b1=0.8),
        opax.from_optax(optax.lion, 1e-3, 0.8),
        opax.from_optax(optax.lion, b1=np.float64(0.8), learning_rate=1e-3),
    ]
    assert len(set(factories)) == 1
    assert opax.from_optax(optax.lion, 1e-3) != opax.from_optax(optax.lion, 1e-2)
    assert opax.from_optax(optax.lion, 1e-3) != opax.from_optax(optax.adam, 1e-3)
    assert opax.from_optax(optax.lion, 1e-3) != opax.from_optax(optax.lion, 1e-3, negate=True)


MAKERS: dict[str, Callable[[], Any]] = {
    "function": lambda: opax.from_optax(optax.lion, 1e-3),
    "partial": lambda: opax.from_optax(optax.nadam, 1e-3),
    "schedule": lambda: opax.from_optax(optax.adam, optax.cosine_decay_schedule(0.1, 100)),
    "nested": lambda: opax.from_optax(optax.apply_if_finite, optax.adam(1e-3), 3),
    "ready": lambda: opax.from_optax(optax.chain(optax.clip(1.0), optax.adam(1e-3))),
    "injected": lambda: opax.from_optax(optax.inject_hyperparams(optax.adam)(learning_rate=0.1)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_three_equal_constructions_give_one_trace(name: str) -> None:
    """KD-02: each call made a new class, and a new trace."""
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for _ in range(3):
        _, optimizer = step(MAKERS[name]()(PARAMS))
        step(optimizer)
    assert step.traces == 1
    assert MAKERS[name]() == MAKERS[name]()
    assert hash(MAKERS[name]()) == hash(MAKERS[name]())


def test_transformations_that_hold_other_values_differ() -> None:
    assert opax.from_optax(optax.adam(0.1)) != opax.from_optax(optax.adam(0.2))
    assert opax.from_optax(optax.adam(0.1)) == opax.from_optax(optax.adam(0.1))


@pytest.mark.parametrize("factory", [opax.from_optax(optax.lion, 1e-3), opax.from_optax(optax.nadam, 1e-3)])
def test_functions_with_arguments_can_be_pickled(factory: Any) -> None:
    assert pickle.loads(pickle.dumps(factory)) == factory
    _, optimizer = three_steps(factory(PARAMS), PARAMS, GRADS)
    again = pickle.loads(pickle.dumps(optimizer))
    pax.assert_structure_equal(again, optimizer)
    jax.tree.map(np.testing.assert_array_equal, again, optimizer)


def test_pickling_a_ready_transformation_says_what_to_do() -> None:
    factory = opax.from_optax(optax.lion(1e-3))
    for thing in (factory, factory(PARAMS)):
        with pytest.raises(ArgumentTypeError, match=r"fix:   opax.from_optax\(optax.lion, 1e-3\)"):
            pickle.dumps(thing)
    assert cloudpickle.loads(cloudpickle.dumps(factory(PARAMS))).optax_state()[0].count == 0


def test_repr_tells_what_it_is() -> None:
    assert repr(opax.from_optax(optax.lion, 1e-3)(PARAMS)) == "from_optax.<locals>.FromOptax(lion)"
    assert repr(opax.from_optax(optax.lion, 1e-3)) == "from_optax(recipe=lion(0.001), negate=None, state_dtype=None)"
    assert "recipe=chain" in repr(opax.from_optax(optax.lion(1e-3)))


# ---- use -------------------------------------------------------------------------------------------------------------


def _ranks(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim, params)


TRANSFORMATIONS: dict[str, Callable[[], Any]] = {
    "adam": lambda: optax.adam(0.1),
    "lamb": lambda: optax.lamb(0.1),
    "novograd": lambda: optax.novograd(0.1),
    "partition": lambda: optax.partition({1: optax.adam(0.1), 2: optax.sgd(0.1)}, _ranks),
    "copy of the parameters": lambda: optax.contrib.schedule_free_sgd(0.1),
    "conditional": lambda: optax.apply_if_finite(optax.sgd(0.1), 3),
    "previous gradients": lambda: optax.optimistic_gradient_descent(0.1),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
}
every_transformation = pytest.mark.parametrize("name", TRANSFORMATIONS)


@every_transformation
@pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["default", "flatten", "loose"])
def test_in_a_chain_steps_are_those_of_optax(name: str, options: Any) -> None:
    ours = opax.chain(opax.clip(0.5), opax.from_optax(TRANSFORMATIONS[name]()))
    theirs = optax.chain(optax.clip(0.5), TRANSFORMATIONS[name]())
    params = Linear(2, 3).parameters()
    got, _ = three_steps(ours(params, **options), params, params)
    assert_close(got, three_steps_of_optax(theirs, params, params))


@every_transformation
def test_it_works_under_jit_and_in_scan(name: str) -> None:
    def step(carry: Any, _: Any) -> Any:
        params, optimizer = carry
        updates, optimizer = opax.transform_gradients(GRADS, optimizer, params)
        return (opax.apply_updates(params, updates), optimizer), None

    def train(params: Any) -> Any:
        optimizer = opax.from_optax(TRANSFORMATIONS[name]())(params)
        return jax.lax.scan(step, (params, optimizer), None, length=3)[0][0]

    assert_close(jax.jit(train)(PARAMS), three_steps_of_optax(TRANSFORMATIONS[name](), PARAMS, GRADS))


@every_transformation
def test_vmap_trains_several_models_at_once(name: str) -> None:
    factory = opax.from_optax(TRANSFORMATIONS[name]())
    several = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
    optimizers = jax.vmap(factory)(several)
    got, _ = jax.vmap(three_steps)(optimizers, several, several)
    for index in range(2):
        one = jax.tree.map(lambda p, index=index: p[index], several)
        assert_close(jax.tree.map(lambda p, index=index: p[index], got), three_steps(factory(one), one, one)[0])


@every_transformation
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_state_of_half_precision_is_float32(name: str, dtype: Any) -> None:
    """KD-97: running averages stop in half precision."""
    half, grads = (jax.tree.map(lambda x: x.astype(dtype), tree) for tree in (PARAMS, GRADS))
    optimizer = opax.from_optax(TRANSFORMATIONS[name]())(half)
    with jax.numpy_dtype_promotion("strict"):
        updates, new = opax.transform_gradients(grads, optimizer, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    kinds = [[(x.dtype, x.shape) for x in jax.tree.leaves(tree)] for tree in (optimizer, new)]
    assert kinds[0] == kinds[1]
    assert {kind[0] for kind in kinds[0]} <= {np.dtype(kind) for kind in ("float32", "int32", "bool")}


def test_state_dtype_is_kept() -> None:
    optimizer = opax.from_optax(optax.adam, 0.1, state_dtype="bfloat16")(PARAMS)
    updates, new = opax.transform_gradients(GRADS, optimizer, PARAMS)
    assert optimizer[0].mu["w"].dtype == new[0].nu["b"].dtype == jnp.bfloat16
    assert updates["w"].dtype == jnp.float32


@pytest.mark.parametrize("params", [(), {}, [jnp.ones(2), None], jnp.ones(3)])
def test_any_tree_is_a_tree_of_parameters(params: Any) -> None:
    got, _ = three_steps(opax.from_optax(optax.adam, 0.1)(params), params, params)
    pax.assert_structure_equal(got, params)


def test_empty_nodes_are_left_alone() -> None:
    params = Net().parameters()
    updates, _ = opax.transform_gradients(params, opax.from_optax(optax.adam, 0.1)(params), params)
    pax.assert_structure_equal(updates, params)


@pytest.mark.filterwarnings("ignore:.*seed")  # optax is about to rename it
def test_gradients_of_examples_are_passed_on() -> None:
    transformation = optax.contrib.dpsgd(0.1, 1.0, 0.0, 0)
    grads = jax.tree.map(lambda g: jnp.stack([g, -3 * g]), GRADS)
    got, _ = three_steps(opax.from_optax(transformation, negate=True)(PARAMS), PARAMS, grads)
    assert_close(got, three_steps_of_optax(transformation, PARAMS, grads))


def test_state_is_sharded_like_its_parameters() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("model",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model"))
    params = {"w": jax.device_put(jnp.ones((2, 4)), sharding)}
    optimizer = opax.from_optax(optax.adam, 0.1)(params)
    assert optimizer[0].mu["w"].sharding == sharding
    got, optimizer = jax.jit(three_steps)(optimizer, params, params)
    assert optimizer[0].nu["w"].sharding.is_equivalent_to(sharding, 2)
    assert got["w"].sharding.is_equivalent_to(sharding, 2)


def test_hyper_parameters_that_optax_injects_can_be_set() -> None:
    optimizer = opax.from_optax(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))(PARAMS)
    assert float(optimizer.hyperparams["learning_rate"]) == pytest.approx(0.1)
    optimizer = optimizer.replace(hyperparams={**optimizer.hyperparams, "learning_rate": jnp.float32(0.5)})
    updates, _ = opax.transform_gradients(GRADS, optimizer, PARAMS)
    np.testing.assert_allclose(updates["b"], -0.5 * np.ones(3))


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.1,), "Expecting a gradient transformation of optax.\n  where: from_optax\n  got:   0.1"),
        ((opax.adam(0.1),), "Expecting a gradient transformation of optax."),
        ((optax.adam(0.1), 0.1), "A transformation that is made already takes no arguments."),
        (
            (optax.adam,),
            "The function does not take these arguments.\n  where: from_optax\n  got:   missing a required",
        ),
        ((optax.lion, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), "The function does not take these arguments."),
        ((optax.constant_schedule, 0.1), "Expecting a function that returns a gradient transformation of optax.\n"),
    ],
)
def test_what_is_no_transformation_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.from_optax(*arguments)
    assert str(caught.value).startswith(text)
    assert "fix:   opax.from_optax(optax.lion, 1e-3)" in str(caught.value)


def test_options_are_checked() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting True, False or None for `negate`."):
        opax.from_optax(optax.lion, 1e-3, negate=1)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="Expecting a floating-point dtype for `state_dtype`."):
        opax.from_optax(optax.lion, 1e-3, state_dtype=jnp.int32)


def test_traced_hyper_parameters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="cannot be a value that is being traced(.|\n)*opax.scale"):
        jax.jit(lambda rate: opax.from_optax(optax.adam, rate)(PARAMS))(0.1)


@pytest.mark.parametrize(
    ("transformation", "names"),
    [
        (optax.polyak_sgd(), "'value'"),
        (optax.lbfgs(), "'value', 'grad', and 'value_fn'"),
        (optax.contrib.reduce_on_plateau(), "'value'"),
        (optax.contrib.sophia(0.1), "obj_fn"),
        (optax.contrib.momo(), "('value'|loss)"),
    ],
    ids=["polyak", "lbfgs", "plateau", "sophia", "momo"],
)
def test_transformations_that_need_the_loss_are_refused(transformation: Any, names: str) -> None:
    optimizer = opax.from_optax(transformation, negate=True)(PARAMS)
    with pytest.raises(ArgumentError) as caught:
        opax.transform_gradients(GRADS, optimizer, PARAMS)
    assert str(caught.value).startswith("This transformation of optax needs more than gradients and parameters.\n")
    assert re.search(f"got:   no {names}\n", str(caught.value))
    assert "fix:   use optax itself" in str(caught.value)


@pytest.mark.parametrize(
    "transformation", [optax.lamb(0.1), optax.contrib.schedule_free_sgd(0.1)], ids=["lamb", "free"]
)
def test_missing_parameters_are_reported(transformation: Any) -> None:
    optimizer = opax.from_optax(transformation)(PARAMS)
    with pytest.raises(ArgumentError, match="expecting params argument(.|\n)*got:   params=None"):
        pax.purecall(optimizer, GRADS)


def test_a_wrong_structure_is_not_taken_for_missing_parameters() -> None:
    optimizer = opax.from_optax(optax.adam, 0.1)(PARAMS)
    with pytest.raises(StructureError, match="The updates do not fit the optimizer's state"):
        pax.purecall(optimizer, {"b": jnp.ones(3)})


def test_gradients_of_another_structure_are_refused() -> None:
    optimizer = opax.from_optax(optax.adam, 0.1)(PARAMS)
    with pytest.raises(StructureError, match="The updates and parameters have different structures."):
        opax.transform_gradients({"b": jnp.ones(2)}, optimizer, PARAMS)
    with pytest.raises(StructureError, match=r"different shapes(.|\n)*got:   float32\[1\]\n  want:  float32\[3\]"):
        opax.transform_gradients({**GRADS, "b": jnp.ones(1)}, optimizer, PARAMS)


@pytest.mark.parametrize(
    "other",
    [
        {"w": jnp.ones((2, 3)), "c": jnp.ones(3)},
        {"w": jnp.ones((2, 3)), "b": jnp.ones(1)},
        {"w": jnp.ones((2, 3)), "b": jnp.ones(4)},
    ],
)
def test_parameters_of_another_structure_are_refused(other: Any) -> None:
    optimizer = opax.from_optax(optax.adam, 0.1)(PARAMS)
    with pytest.raises(StructureError) as caught:
        opax.transform_gradients(other, optimizer, other)
    assert str(caught.value).startswith("The updates do not fit the optimizer's state.\n  where: FromOptax\n  got: ")
    assert "fix:   create the optimizer for the parameters that it updates" in str(caught.value)


def test_errors_of_a_transformation_itself_are_passed_on() -> None:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        raise ValueError("my own")

    transformation = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    with pytest.raises(ValueError, match="^my own$"):
        opax.transform_gradients(GRADS, opax.from_optax(transformation, negate=False)(PARAMS), PARAMS)


def test_what_needs_the_loss_is_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="needs more than gradients and parameters"):
        opax.from_optax(lambda: optax.polyak_sgd(0.1))({"w": jnp.ones(2)})
    with pytest.raises(ArgumentError):  # JAX 0.7 cannot try this one
        opax.from_optax(optax.lbfgs)({"w": jnp.ones(2)})


def test_a_failed_trial_says_why() -> None:
    with pytest.raises(ArgumentError, match="Expecting `negate`") as caught:
        opax.from_optax(optax.adam, "x")({"w": jnp.ones(2)})
    assert "which did not work on a small example: TypeError" in str(caught.value)


def test_multi_steps_of_optax_is_pointed_to_that_of_opax() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.from_optax(optax.MultiSteps, optax.adam(0.1), every_k_schedule=2)
    assert "fix:   opax.multi_steps(opax.adam(1e-3), 4)" in str(caught.value)


def test_a_traced_number_inside_of_a_transformation_is_refused() -> None:
    def make(rate: Any) -> Any:
        return opax.from_optax(optax.adam(rate), negate=True)({"w": jnp.ones(2)})

    with pytest.raises(ArgumentError, match="cannot be a value that is being traced"):
        jax.jit(make)(0.1)
