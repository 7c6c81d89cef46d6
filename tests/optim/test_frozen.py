"""What is frozen has no state, does not decay, and does not move."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Linear, Net, Norm
from helpers.traces import TraceCounter
from pax.errors import StructureError

FACTORIES: dict[str, Any] = {
    "sgd": opax.sgd(0.1),
    "adamw": opax.adamw(0.1, weight_decay=0.5),
    "rmsprop": opax.rmsprop(0.1, momentum=0.5),
    "decay of matrices": opax.adamw(0.1, weight_decay=0.5, mask=lambda leaf: leaf.ndim > 1),
    "partition": opax.partition(("layers", opax.adamw(0.1, weight_decay=0.5)), rest=opax.sgd(0.1)),
    "masked": opax.chain(opax.masked(opax.clip_by_global_norm(1.0), "layers"), opax.sgd(0.1)),
    "clipping": opax.chain(opax.clip(1.0), opax.clip_by_global_norm(1.0), opax.sgd(0.1)),
}
EVERY = pytest.mark.parametrize("factory", FACTORIES.values(), ids=list(FACTORIES))
MODES = pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["plain", "flat", "loose"])


def loss(net: Net, x: jax.Array) -> jax.Array:
    _, y = pax.purecall(net, x)
    return jnp.mean((y - 1.0) ** 2)


def train(net: Net, optimizer: Any, steps: int = 5) -> tuple[Net, Any]:
    @jax.jit
    def step(net: Net, optimizer: Any) -> Any:
        return opax.apply_gradients(net, optimizer, pax.grad(loss)(net, jnp.array([[0.5, -1.0], [1.0, 2.0]])))

    for _ in range(steps):
        net, optimizer = step(net, optimizer)
    return net, optimizer


def moved(before: Net, after: Net) -> dict[str, bool]:
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {jax.tree_util.keystr(path).removeprefix("."): bool(np.any(a != b)) for (path, a), b in pairs}


CASES: list[tuple[str, dict[str, bool], Any]] = [
    (name, options, "**/bias") for name in FACTORIES for options in ({}, {"flatten": True})
]
CASES += [("adamw", {}, "encoder"), ("adamw", {"strict": False}, lambda leaf: leaf.ndim == 1)]


@pytest.mark.parametrize(("name", "options", "selector"), CASES)
def test_frozen_leaves_stay_bit_for_bit(name: str, options: dict[str, Any], selector: Any) -> None:
    net = pax.freeze_parameters(Net(), selector)
    trained = {jax.tree_util.keystr(path)[1:] for path, _ in jax.tree.leaves_with_path(net.parameters())}
    assert 0 < len(trained) < 7
    after, _ = train(net, opax.chain(FACTORIES[name])(net.parameters(), **options))
    assert {path for path, flag in moved(net, after).items() if flag} == trained


@MODES
def test_frozen_leaves_have_no_state(options: dict[str, Any]) -> None:
    net = pax.freeze_parameters(Net(), "encoder")
    optimizer = opax.adamw(0.1)(net.parameters(), **options)
    assert len(jax.tree.leaves(optimizer)) == 2 * 5 + 1
    assert len(jax.tree.leaves(opax.adamw(0.1)(Net().parameters(), **options))) == 2 * 7 + 1
    if not options:
        assert optimizer[0].mu.encoder.weight == pax.EmptyNode()
    _, optimizer = opax.apply_gradients(net, optimizer, net.parameters())
    assert len(jax.tree.leaves(optimizer)) == 2 * 5 + 1


def test_parts_have_state_for_their_own_trained_leaves() -> None:
    net = pax.freeze_parameters(Net(), "**/bias")
    optimizer = opax.partition(("encoder", opax.adam(0.1)), (Norm, opax.sgd(0.1)), rest=opax.adam(0.2))(
        net.parameters()
    )
    assert [len(jax.tree.leaves(part)) for part in optimizer.parts] == [2 * 1 + 1, 1, 2 * 2 + 1]


def test_decay_shrinks_what_is_trained_only() -> None:
    net = pax.freeze_parameters(Net(), "layers")
    optimizer = opax.chain(opax.add_decayed_weights(0.5))(net.parameters())
    after, _ = opax.apply_gradients(net, optimizer, jax.tree.map(jnp.zeros_like, net.parameters()))
    np.testing.assert_array_equal(after.encoder.weight, 0.5 * net.encoder.weight)
    np.testing.assert_array_equal(after.layers[0].weight, net.layers[0].weight)


@EVERY
@MODES
def test_a_model_of_which_everything_is_frozen_trains_to_itself(factory: Any, options: dict[str, Any]) -> None:
    """KD-91."""
    net = pax.freeze_parameters(Net())
    after, _ = train(net, opax.chain(factory)(net.parameters(), **options), 2)
    assert not any(moved(net, after).values())


# What is frozen after the optimizer was created shows in its structure, in every mode.
CHANGES = {
    "freezing": (Net(), pax.freeze_parameters(Net(), "encoder")),
    "freezing everything": (Net(), pax.freeze_parameters(Net())),
    "unfreezing": (pax.freeze_parameters(Net(), "encoder"), Net()),
    "unfreezing everything": (pax.freeze_parameters(Net()), Net()),
}
STATEFUL = pytest.mark.parametrize("name", [name for name in FACTORIES if name != "clipping"])


@pytest.mark.parametrize("change", CHANGES)
@STATEFUL
@MODES
def test_freezing_later_is_an_error_with_a_way_out(change: str, name: str, options: dict[str, Any]) -> None:
    before, after = CHANGES[change]
    optimizer = opax.chain(FACTORIES[name])(before.parameters(), **options)
    params = after.parameters()
    with pytest.raises(StructureError) as caught:
        opax.transform_gradients(params, optimizer, params)
    assert "anew after freezing, unfreezing or replacing a part of the model" in str(caught.value)


def test_the_error_names_what_was_frozen() -> None:
    with pytest.raises(StructureError) as caught:
        train(pax.freeze_parameters(Net(), "encoder"), opax.adam(0.1)(Net().parameters()))
    assert "encoder.weight: got a `EmptyNode`, want float32[2,3]" in str(caught.value)


def test_freezing_as_many_leaves_elsewhere_is_an_error_for_parts() -> None:
    """The number of leaves alone would not tell that the mask is for other ones."""
    one, other = (pax.freeze_parameters(Net(), selector) for selector in ("layers/0", "layers/2"))
    for factory in (
        opax.masked(opax.scale(0.1), "encoder"),
        opax.partition(("encoder", opax.scale(0.1)), rest=opax.scale(1.0)),
    ):
        optimizer = factory(one.parameters())
        with pytest.raises(StructureError, match=r"also `layers\[0\].weight`"):
            opax.transform_gradients(other.parameters(), optimizer, other.parameters())


def test_other_static_differences_are_tolerated_by_loose_chains() -> None:
    net = Net()
    for options in ({"strict": False}, {"flatten": True}):
        optimizer = opax.chain(FACTORIES["partition"])(net.parameters(), **options)
        params = net.eval().parameters()
        updates, _ = opax.transform_gradients(params, optimizer, params)
        assert not updates.training


def test_training_goes_on_after_unfreezing_with_a_new_optimizer() -> None:
    net = pax.freeze_parameters(Net(), "encoder")
    net, _ = train(net, opax.adam(0.1)(net.parameters()), 1)
    net = pax.unfreeze_parameters(net)
    after, _ = train(net, opax.adam(0.1)(net.parameters()), 1)
    assert moved(net, after)["encoder.weight"]


def test_equal_frozen_models_give_one_trace() -> None:
    @TraceCounter
    def step(net: Any, optimizer: Any) -> Any:
        return opax.apply_gradients(net, optimizer, net.parameters())

    for _ in range(3):
        net = pax.freeze_parameters(Linear(2, 3), "bias")
        net, optimizer = step(net, opax.adamw(0.1)(net.parameters()))
        step(net, optimizer)
    assert step.traces == 1
