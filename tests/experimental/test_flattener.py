"""`Flattener`: what goes in comes out, nothing that exists changes, and it passes through every transformation."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import (
    ArgumentError,
    ArgumentTypeError,
    AttributeNameError,
    MutationError,
    SharedNodeError,
    UnsupportedModuleError,
)
from pax.experimental import Flattener


@pytest.fixture(autouse=True)
def _seed() -> None:
    pax.seed_rng_key(42)


def _net() -> Any:
    return pax.Sequential(pax.Linear(3, 4), pax.BatchNorm1D(4), pax.Dropout(0.5), pax.Linear(4, 2))


def _flats(net: Any = None) -> Any:
    net = pax.Linear(3, 3) if net is None else net
    return Flattener(model=net, optimizer=opax.adam(1e-2)(net.parameters()))


def _loss(model: Any, x: Any) -> Any:
    model, y = pax.purecall(model, x)
    return (y**2).mean(), model


def _train_step(flats: Any, x: Any) -> tuple[Any, Any]:
    (loss, model), grads = pax.value_and_grad(_loss, has_aux=True)(flats.model, x)
    model, optimizer = opax.apply_gradients(model, flats.optimizer, grads)
    return flats.update(model=model, optimizer=optimizer), loss


_X = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 2, 3)


# ---- the documented examples -----------------------------------------------------------------------------------------


def test_what_goes_in_comes_out() -> None:
    net = pax.Linear(3, 3)
    opt = opax.adam(1e-3)(net.parameters())
    flats = Flattener(model=net, optimizer=opt)
    assert flats.model == net
    assert flats.optimizer == opt
    assert flats.model.summary() == "Linear(in_dim=3, out_dim=3, with_bias=True)"
    assert flats.optimizer.summary().splitlines() == [
        "chain.<locals>.Chain",
        "├── scale_by_adam.<locals>.ScaleByAdam",
        "│   ├── Linear(in_dim=3, out_dim=3, with_bias=True)",
        "│   └── Linear(in_dim=3, out_dim=3, with_bias=True)",
        "└── scale.<locals>.Scale",
    ]


def test_entries_can_be_replaced_and_added() -> None:
    flats = _flats()
    more = flats.update(net=pax.Linear(4, 4), model=pax.Linear(5, 6))
    assert more.net.summary() == "Linear(in_dim=4, out_dim=4, with_bias=True)"
    assert more.model.out_dim == 6
    assert more.optimizer == flats.optimizer


def test_it_has_no_parameters() -> None:
    flats = _flats()
    for module in (flats, pax.Sequential(pax.Linear(2, 2), flats)):
        with pytest.raises(UnsupportedModuleError) as caught:
            module.parameters()
        assert isinstance(caught.value, ValueError)
        assert str(caught.value).splitlines()[:2] == [
            "A flattener only stores ndarray leaves as non-trainable states.",
            "Reconstruct the original module before getting parameters.",
        ]
        assert "flattener.model.parameters()" in str(caught.value)


# ---- what it is made of ----------------------------------------------------------------------------------------------


def test_the_pytree_is_one_dictionary_of_lists() -> None:
    flats = _flats()
    assert flats.pytree_attributes == ("leaves_dict",)
    assert set(flats.leaves_dict) == set(flats.treedef_dict) == {"model", "optimizer"}
    assert flats.leaves_dict["model"][0] is flats.model.weight
    assert flats.treedef_dict["model"] == treedef(flats.model)
    assert flats.treedef_dict == {name: treedef(getattr(flats, name)) for name in ("model", "optimizer")}


def test_text_shows_no_entries() -> None:
    assert repr(_flats()) == _flats().summary() == "Flattener"


def test_any_pytree_can_be_stored() -> None:
    config = {"rate": 0.1, "table": jnp.arange(3), "mode": "fast", "none": None}
    flats = Flattener(config=config, seed=3, empty=pax.EmptyNode(), pair=(jnp.ones(1), [jnp.zeros(2)]))
    assert flats.config["table"] is config["table"]
    assert (flats.config["rate"], flats.config["mode"], flats.config["none"]) == (0.1, "fast", None)
    assert (flats.seed, flats.empty) == (3, pax.EmptyNode())
    assert treedef(flats.pair) == treedef((0, [0]))
    assert len(jax.tree.leaves(flats)) == 3
    doubled = jax.jit(lambda f: f.map(lambda leaf: 2 * leaf))(flats)
    assert doubled.config["rate"] == 0.1
    np.testing.assert_array_equal(doubled.config["table"], [0, 2, 4])


def test_it_can_be_empty() -> None:
    assert jax.tree.leaves(Flattener()) == []
    net = pax.Linear(2, 2)
    assert Flattener().update(model=net).model == net


def test_flatteners_with_the_same_entries_are_equal_in_any_order() -> None:
    a, b = jnp.ones(2), jnp.zeros(3)
    assert Flattener(a=a, b=b) == Flattener(b=b, a=a)
    assert Flattener(a=a, b=b) != Flattener(a=a, c=b)


def test_static_data_of_the_user_that_cannot_be_compared_is_kept_apart() -> None:
    first, second = Odd(jnp.ones(1), np.arange(2)), Odd(jnp.ones(1), np.arange(2, 4))
    flats = [Flattener(odd=odd) for odd in (first, second)]
    assert [int(f.odd.table[0]) for f in flats] == [0, 2]


class Odd:
    """A pytree whose static data has no truth value when it is compared."""

    def __init__(self, value: Any, table: np.ndarray) -> None:
        self.value = value
        self.table = table


jax.tree_util.register_pytree_node(Odd, lambda odd: ((odd.value,), odd.table), lambda table, kids: Odd(kids[0], table))


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_positional_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="takes keyword arguments only") as caught:
        Flattener(pax.Linear(2, 2))
    assert isinstance(caught.value, ArgumentTypeError)


@pytest.mark.parametrize(
    "name", ["map", "name", "training", "update", "eval", "leaves_dict", "treedef_dict", "_name", "_frozen", "__len__"]
)
def test_names_that_could_not_be_read_are_refused(name: str) -> None:
    """KD-13: an entry that is named like an attribute of modules could not be read back."""
    flats = Flattener(model=jnp.ones(1))
    for make in (Flattener, flats.update):
        with pytest.raises(ArgumentError, match=f"`{name}` cannot be the name of an entry"):
            make(**{name: jnp.ones(2)})


@pytest.mark.parametrize("name", ["model", "self", "cls_", "args", "kwargs", "optimizer", "state", "Update"])
def test_other_names_can_be_read(name: str) -> None:
    value = jnp.ones(2)
    assert getattr(Flattener(**{name: value}), name) is value
    assert getattr(Flattener().update(**{name: value}), name) is value


def test_an_unknown_name_is_an_error_with_a_text() -> None:
    """KD-13: the original's ``AttributeError`` was empty."""
    flats = _flats()
    with pytest.raises(AttributeNameError, match="'Flattener' object has no attribute 'modle'") as caught:
        _ = flats.modle
    assert isinstance(caught.value, AttributeError)
    assert "model, optimizer" in str(caught.value)
    assert not hasattr(flats, "modle")
    assert hasattr(flats, "model")
    assert getattr(flats, "modle", 3) == 3
    assert "model" in dir(flats)


def test_an_array_cannot_be_in_two_entries() -> None:
    net = pax.Linear(2, 2)
    with pytest.raises(SharedNodeError, match=r"leaves_dict\['a'\]\[0\]"):
        Flattener(a=net, b=net)
    with pytest.raises(SharedNodeError):
        Flattener(a=net).update(b=net)


def test_it_is_immutable() -> None:
    flats = _flats()
    with pytest.raises(MutationError):
        flats.model = pax.Linear(2, 2)


# ---- the old one stays as it is --------------------------------------------------------------------------------------


def test_update_leaves_the_old_one_unchanged() -> None:
    """KD-12: the old one got the structures of the new one, and kept its leaves."""
    net = pax.Linear(3, 3)
    flats = Flattener(model=net)
    treedefs, leaves = dict(flats.treedef_dict), flats.leaves_dict["model"]
    new = flats.update(model=pax.Linear(4, 4), more=jnp.ones(1))
    assert flats.model == net
    assert flats.treedef_dict == treedefs
    assert flats.leaves_dict["model"] is leaves
    assert not hasattr(flats, "more")
    assert new.model.in_dim == 4
    with pytest.raises(ArgumentError):
        flats.update(model=pax.Linear(5, 5), map=1)
    assert flats.model == net


def test_changing_a_stored_list_changes_nothing_else() -> None:
    flats = _flats()
    twin = flats.update()
    twin.leaves_dict["model"][0] = jnp.zeros((3, 3))
    assert (flats.model.weight != 0).all()
    assert (twin.model.weight == 0).all()


# ---- modes, functions, freezing --------------------------------------------------------------------------------------


def test_modes_reach_the_stored_modules() -> None:
    """KD-13: ``eval()`` and ``train()`` did nothing to the stored modules."""
    net = _net()
    flats = Flattener(model=net, parts={"nets": [pax.Linear(1, 1)]})
    for switched in (flats.eval(), pax.enable_eval_mode(flats)):
        assert not switched.training
        assert not any(module.training for module in pax.extend.modules_in(switched.model))
        assert not switched.parts["nets"][0].training
        assert switched.model == net.eval()
        assert switched.train() == flats
        assert switched.train().model == net
    assert flats.training
    assert flats.model == net


def test_a_stored_mode_is_kept() -> None:
    net = _net().eval()
    assert Flattener(model=net).model == net
    assert Flattener(model=net).train().model == net.train()


def test_apply_reaches_the_stored_modules_and_then_the_flattener() -> None:
    """KD-13: ``apply`` did nothing to the stored modules."""
    flats = Flattener(model=pax.Sequential(pax.Linear(2, 3), pax.Linear(3, 2)), head=pax.Linear(1, 1))
    visited: list[str] = []

    def visit(module: Any) -> Any:
        visited.append(type(module).__name__)
        return module.set_attribute("seen", 1) if isinstance(module, pax.Linear) else module

    new = flats.apply(visit)
    assert visited == ["Linear", "Linear", "Linear", "Sequential", "Flattener"] or visited == [
        "Linear",
        "Linear",
        "Sequential",
        "Linear",
        "Flattener",
    ]
    assert isinstance(new, Flattener)
    assert new.head.seen == new.model[0].seen == new.model[1].seen == 1
    assert not hasattr(flats.head, "seen")
    visited.clear()
    flats.apply_submodules(visit)
    assert "Flattener" not in visited


def test_a_function_that_returns_no_module_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="has to return a module"):
        _flats().apply(lambda module: None)


def test_freezing_reaches_the_stored_modules() -> None:
    """KD-13: ``freeze_parameters`` did nothing to the stored modules."""
    net = _net()
    flats = Flattener(model=net, count=jnp.array(0))
    frozen = pax.freeze_parameters(flats)
    assert jax.tree.leaves(frozen.model.parameters()) == []
    assert frozen.model == pax.freeze_parameters(net)
    assert jax.tree.leaves(frozen.update(model=_net()).model.parameters()) == []
    assert pax.unfreeze_parameters(frozen) == flats
    assert pax.unfreeze_parameters(frozen).model == net
    assert jax.tree.leaves(flats.apply(pax.freeze_parameters).model.parameters()) == []


def test_freezing_by_a_selector_reaches_the_stored_modules() -> None:
    net = _net()
    flats = Flattener(model=net, other={"net": pax.Linear(2, 2), "array": jnp.ones((2, 2))})
    frozen = pax.freeze_parameters(flats, lambda leaf: leaf.ndim == 2)
    assert frozen.model == pax.freeze_parameters(net, lambda leaf: leaf.ndim == 2)
    assert {leaf.ndim for leaf in jax.tree.leaves(frozen.model.parameters())} == {1, 3}
    assert [leaf.ndim for leaf in jax.tree.leaves(frozen.other["net"].parameters())] == [1]
    only = pax.freeze_parameters(flats, "leaves_dict/other/*")
    assert only.model == net
    assert pax.unfreeze_parameters(frozen).model == net


def test_a_frozen_entry_stays_frozen() -> None:
    net = pax.freeze_parameters(pax.Linear(2, 2))
    assert Flattener(model=net).model == net


# ---- pickles and copies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "twin",
    [
        copy.deepcopy,
        lambda tree: pickle.loads(pickle.dumps(tree)),
        lambda tree: pickle.loads(pickle.dumps(tree, protocol=2)),
        lambda tree: cloudpickle.loads(cloudpickle.dumps(tree)),
        lambda tree: pickle.loads(pickle.dumps(tree.update())),
        lambda tree: pickle.loads(pickle.dumps(pax.Sequential(tree)))[0],
    ],
    ids=["deepcopy", "pickle", "pickle, protocol 2", "cloudpickle", "after update", "inside of a module"],
)
def test_it_can_be_pickled(twin: Callable[[Any], Any]) -> None:
    optimizer = opax.adam(1e-3)(_net().parameters())
    flats = Flattener(model=_net(), optimizer=optimizer, config={"rate": 0.1, "x": jnp.ones(2)})
    copied = twin(flats)
    assert treedef(copied) == treedef(flats)
    for a, b in zip(jax.tree.leaves(copied), jax.tree.leaves(flats), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a is not b
    assert copied.model.summary() == flats.model.summary()
    assert copied.config["rate"] == 0.1
    np.testing.assert_array_equal(copied.model.eval()(_X), flats.model.eval()(_X))


def test_shallow_copies_are_equal() -> None:
    flats = _flats()
    assert copy.copy(flats) == flats.copy() == flats


# ---- transformations -------------------------------------------------------------------------------------------------


def test_a_train_step_computes_what_it_computes_without() -> None:
    net = _net()
    flats: Any = _flats(net)
    model, optimizer = net, flats.optimizer
    step = jax.jit(_train_step)

    @jax.jit
    def plain(model: Any, optimizer: Any, x: Any) -> Any:
        (loss, model), grads = pax.value_and_grad(_loss, has_aux=True)(model, x)
        return *opax.apply_gradients(model, optimizer, grads), loss

    for _ in range(3):
        flats, loss = step(flats, _X)
        model, optimizer, want = plain(model, optimizer, _X)
        assert loss == want
    assert treedef(flats.model) == treedef(model)
    for a, b in zip(jax.tree.leaves(flats.optimizer), jax.tree.leaves(optimizer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_train_step_is_traced_once() -> None:
    step = TraceCounter(_train_step)
    flats = _flats(_net())
    for _ in range(3):
        flats, _ = step(flats, _X)
    pax.seed_rng_key(42)
    step(_flats(_net()), _X)
    step(pickle.loads(pickle.dumps(flats)), _X)
    assert step.traces == 1


def test_equal_structures_are_one_object() -> None:
    """A compiled function compares them at each call: what is one object takes no time to compare."""
    flats = _flats(_net())
    pax.seed_rng_key(42)
    again, trained = _flats(_net()), jax.jit(_train_step)(flats, _X)[0]
    copied = copy.deepcopy(flats)
    for other in (again, trained, copied, flats.update(model=flats.model), flats.eval().train()):
        assert other.treedef_dict is flats.treedef_dict


def test_structures_are_not_kept_alive() -> None:
    flats = Flattener(**{f"only_here_{index}": jnp.ones(1) for index in range(3)})
    from pax.experimental import _treedefs

    def known() -> bool:
        return any("only_here_0" in dict(key) for key in _treedefs._table.keys())

    assert known()
    del flats
    assert not known()


def test_it_is_a_carry_of_scan() -> None:
    flats = _flats(_net())
    carry, losses = jax.jit(lambda flats, xs: jax.lax.scan(_train_step, flats, xs))(flats, np.stack([_X, _X]))
    first, loss = jax.jit(_train_step)(flats, _X)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-5)
    assert treedef(carry) == treedef(first)


def test_its_buffers_can_be_donated() -> None:
    step = jax.jit(_train_step, donate_argnums=0)
    flats = _flats()
    first, _ = step(flats, _X)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(flats.leaves_dict["model"]))
    step(first, _X)


def test_it_is_vectorized() -> None:
    nets = [pax.Linear(3, 2) for _ in range(2)]
    single = [Flattener(model=net) for net in nets]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *single)
    outputs = jax.vmap(lambda flats, x: flats.model(x), in_axes=(0, None))(stacked, _X[0])
    np.testing.assert_allclose(outputs[1], nets[1](_X[0]), rtol=1e-6)
    axes = jax.tree.map(lambda _: 0, single[0])
    np.testing.assert_array_equal(
        jax.vmap(lambda flats, x: flats.model(x), in_axes=(axes, None))(stacked, _X[0]), outputs
    )


def test_gradients_with_respect_to_a_flattener() -> None:
    net = pax.Linear(3, 2)
    gradients = jax.grad(lambda flats: (flats.model(_X) ** 2).sum())(Flattener(model=net))
    want = jax.grad(lambda net: (net(_X) ** 2).sum())(net)
    np.testing.assert_allclose(gradients.model.weight, want.weight, rtol=1e-6)


def test_it_is_sharded() -> None:
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec())
    placed = jax.device_put(_flats(), sharding)
    assert placed.model.weight.sharding == sharding
    assert jax.jit(_train_step)(placed, _X)[0].model.in_dim == 3


def test_abstract_flatteners_can_be_read() -> None:
    flats = _flats(_net())
    abstract = jax.eval_shape(lambda: flats)
    assert isinstance(abstract.model[0].weight, jax.ShapeDtypeStruct)
    assert treedef(abstract) == treedef(flats)
    assert treedef(jax.eval_shape(_train_step, abstract, _X)[0]) == treedef(flats)


def test_it_can_be_made_under_jit() -> None:
    made = jax.jit(lambda weight: Flattener(model=pax.Linear(3, 3).replace(weight=weight)))(jnp.ones((3, 3)))
    assert made.model(jnp.ones(3)).shape == (3,)


def test_pure_functions_copy_it() -> None:
    flats = _flats()

    @pax.pure
    def change(flats: Any) -> Any:
        flats.leaves_dict["model"][0] = jnp.zeros((3, 3))
        return flats

    assert (change(flats).model.weight == 0).all()
    assert not (flats.model.weight == 0).any()


def test_threads_can_share_one() -> None:
    flats = _flats(_net())
    found: list[Any] = []

    def work(number: int) -> None:
        for _ in range(20):
            new = flats.update(**{f"extra{number % 3}": jnp.full(1, number)})
            found.append(new.model == flats.model and int(getattr(new, f"extra{number % 3}")[0]) == number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160


def test_subclasses_keep_their_class_and_attributes() -> None:
    class Named(Flattener):
        def __init__(self, tag: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.tag = tag

    named = Named("a", model=pax.Linear(2, 2))
    new = named.update(model=pax.Linear(3, 3)).eval()
    assert type(new) is Named
    assert (new.tag, new.model.in_dim, new.model.training) == ("a", 3, False)
    with pytest.raises(ArgumentError, match="`tag` cannot be the name"):
        named.update(tag=jnp.ones(1))


# ---- entries are no attributes ---------------------------------------------------------------------------------------


@pax.pure
def _assign(flats: Any) -> Any:
    flats.model = pax.Linear(2, 2)
    return flats


@pytest.mark.parametrize(
    "change",
    [
        _assign,
        lambda flats: setattr(flats, "model", pax.Linear(2, 2)),
        lambda flats: flats.set_attribute("model", pax.Linear(2, 2)),
        lambda flats: flats.replace(model=pax.Linear(2, 2)),
    ],
    ids=["pure", "outside", "set_attribute", "replace"],
)
def test_nothing_hides_an_entry(change: Callable[[Any], Any]) -> None:
    flats = _flats()
    with pytest.raises(MutationError, match="`model` is an entry of a flattener") as caught:
        change(flats)
    assert "fix:   flat = flat.update(model=...)" in str(caught.value)
    assert "model" not in vars(flats)


def test_other_attributes_can_be_set() -> None:
    flats = _flats().set_attribute("epoch", 3)
    assert (flats.epoch, flats.replace(epoch=4).epoch) == (3, 4)


def test_a_similar_entry_is_named() -> None:
    with pytest.raises(AttributeNameError, match=r"fix:   flattener\.model "):
        _ = _flats().modle
    with pytest.raises(AttributeNameError, match=r"fix:   flat = flat\.update\(zzz=\.\.\.\)"):
        _ = _flats().zzz


def test_a_part_of_an_entry_is_frozen_by_an_update() -> None:
    flats = Flattener(model=_net())
    flats = flats.update(model=pax.freeze_parameters(flats.model, "modules/0"))
    assert isinstance(flats.model.parameters()[0].weight, pax.EmptyNode)
    assert flats.model.parameters()[3].weight.shape == (4, 2)


def test_a_policy_is_given_to_the_entries() -> None:
    flats, policy = _flats(), "p=f16,c=f16,o=f32"
    for where in (None, "**"):
        with pytest.raises(ArgumentError, match="A flattener computes nothing") as caught:
            pax.apply_mp_policy(flats, policy, where)
        assert "flattener.update(model=pax.apply_mp_policy(flattener.model, policy))" in str(caught.value)
    flats = flats.update(model=pax.apply_mp_policy(flats.model, policy))
    assert flats.model.weight.dtype == jnp.float16
    net = pax.apply_mp_policy(pax.Sequential(pax.Linear(2, 2), _flats()), policy, where="**")
    assert net[0].weight.dtype == jnp.float16
    assert net[1].model.weight.dtype == jnp.float32
