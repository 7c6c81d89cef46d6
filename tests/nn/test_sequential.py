"""pax.nn.Sequential, pax.nn.Lambda and pax.nn.Identity."""

import functools
import operator
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentTypeError, SharedNodeError


def net(name: str | None = None) -> pax.nn.Sequential:
    return pax.nn.Sequential(pax.nn.Linear(2, 32), jax.nn.relu, pax.nn.Linear(32, 3), name=name)


class Doubler:
    """A callable without a ``__name__``."""

    def __call__(self, x: Any) -> Any:
        return 2 * x

    def __str__(self) -> str:
        return "doubler"


def test_layers_are_called_in_order() -> None:
    seq = net()
    x = jax.random.normal(jax.random.key(0), (3, 2))
    np.testing.assert_allclose(seq(x), seq[2](jax.nn.relu(seq[0](x))), rtol=1e-6)


def test_functions_become_lambdas() -> None:
    seq = net()
    assert isinstance(seq.modules, tuple)
    assert [type(module) for module in seq.modules] == [pax.nn.Linear, pax.nn.Lambda, pax.nn.Linear]


def test_summary() -> None:
    assert net("mlp").summary() == (
        "(mlp) Sequential\n"
        "├── Linear(in_dim=2, out_dim=32, with_bias=True)\n"
        "├── x => relu(x)\n"
        "└── Linear(in_dim=32, out_dim=3, with_bias=True)"
    )


def test_without_layers_it_is_the_identity() -> None:
    x = object()
    assert pax.nn.Sequential()(x) is x


def test_integer_inputs_pass_unconverted() -> None:
    y = pax.nn.Lambda(jax.nn.relu)(jnp.array(-1))
    assert (y.item(), y.dtype, y.weak_type) == (0, jnp.int32, True)


def test_kd_58_indexing_len_and_iteration() -> None:
    """A slice stays a tuple."""
    seq = net()
    assert len(seq) == 3
    assert seq[-1] is seq.modules[2]
    assert seq[:2] == seq.modules[:2]
    assert list(seq) == list(seq.modules)
    with pytest.raises(IndexError):
        seq[3]


def test_set_replaces_one_layer_and_keeps_the_rest() -> None:
    seq = net("mlp").eval()
    new = seq.set(-1, jnp.tanh)
    assert seq[-1] is seq.modules[2]
    assert [repr(module) for module in new][1:] == ["Lambda(relu)", "Lambda(tanh)"]
    assert (new.name, new.training, new[0] == seq[0]) == ("mlp", False, True)
    with pytest.raises(IndexError):
        seq.set(3, jnp.tanh)


def test_kd_58_rshift_appends_and_keeps_the_name() -> None:
    seq = net("mlp")
    longer = seq >> jnp.tanh >> pax.nn.Linear(3, 1)
    assert (len(longer), longer.name, len(seq)) == (5, "mlp", 3)
    assert longer(jnp.ones((4, 2))).shape == (4, 1)


def test_stateful_layers_work_through_purecall() -> None:
    seq = pax.nn.Sequential(pax.nn.Linear(2, 3), pax.nn.BatchNorm1D(3), pax.nn.Dropout(0.5))
    new, y = pax.purecall(seq, jnp.ones((4, 5, 2)))
    assert y.shape == (4, 5, 3)
    assert float(new[1].ema_mean.debias) == 1.0
    assert not jnp.array_equal(new[2].rng_key, seq[2].rng_key)


def test_a_layer_cannot_stand_at_two_places() -> None:
    fc = pax.nn.Linear(2, 2)
    with pytest.raises(SharedNodeError, match="is shared between two nodes"):
        pax.nn.Sequential(fc, fc)


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (jax.nn.relu, "relu"),
        (jnp.tanh, "tanh"),
        (lambda x: x, "<lambda>"),
        (operator.neg, "neg"),
        (Doubler(), "doubler"),
    ],
)
def test_kd_57_names_of_functions(func: Any, name: str) -> None:
    layer = pax.nn.Lambda(func)
    assert repr(layer) == f"Lambda({name})"
    assert layer.summary() == f"x => {name}(x)"
    assert layer.summary(return_list=True) == [f"x => {name}(x)"]


def test_kd_57_a_partial_shows_as_its_text() -> None:
    func = functools.partial(operator.add, 1.0)
    assert pax.nn.Lambda(func).summary() == f"x => {func}(x)"
    assert repr(pax.nn.Lambda(func)) == f"Lambda({func})"


def test_a_named_lambda_shows_its_name() -> None:
    layer = pax.nn.Lambda(jax.nn.relu, "R")
    assert (repr(layer), layer.summary()) == ("(R) Lambda", "x => R(x)")


def test_lambda_passes_all_arguments() -> None:
    assert pax.nn.Lambda(lambda a, *, b: (a, b))(1, b=2) == (1, 2)


def test_lambdas_of_one_function_are_equal() -> None:
    assert pax.nn.Lambda(jax.nn.relu) == pax.nn.Lambda(jax.nn.relu)
    assert pax.nn.Lambda(jax.nn.relu) != pax.nn.Lambda(jnp.tanh)


def test_arrays_of_a_partial_are_leaves() -> None:
    layer = pax.nn.Lambda(jax.tree_util.Partial(jnp.add, jnp.ones(2)))
    assert [leaf.shape for leaf in jax.tree.leaves(layer)] == [(2,)]
    np.testing.assert_array_equal(layer(jnp.ones(2)), [2.0, 2.0])


def test_a_net_of_functions_is_picklable() -> None:
    seq = net()
    again = pickle.loads(pickle.dumps(seq))
    assert pax.assert_structure_equal(again, seq)


@pytest.mark.parametrize("make", [pax.nn.Lambda, pax.nn.Sequential, lambda x: net().set(0, x), lambda x: net() >> x])
def test_kd_57_other_things_than_functions_are_refused(make: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a function.\n  where: Lambda\n  got:   3"):
        make(3)


@pytest.mark.parametrize(
    ("layers", "fix"),
    [
        ([jnp.tanh], r"Sequential\(\*layers\)"),
        ((jnp.tanh, jnp.sin), r"Sequential\(\*layers\)"),
        (iter([jnp.tanh]), r"Sequential\(\*layers\)"),
        ({"a": jnp.tanh}, r"Sequential\(\*layers.values\(\)\)"),
    ],
    ids=["list", "tuple", "iterator", "dictionary"],
)
def test_layers_are_given_one_by_one(layers: Any, fix: str) -> None:
    with pytest.raises(
        ArgumentTypeError, match=rf"^Expecting layers one by one(.|\n)*where: Sequential\n(.|\n)*{fix}$"
    ):
        pax.nn.Sequential(layers)


def test_a_recurrent_cell_is_no_layer() -> None:
    seq = pax.nn.Sequential(pax.nn.Linear(2, 3), pax.nn.GRU(3, 4))
    with pytest.raises(ArgumentTypeError) as caught:
        seq(jnp.ones((5, 2)))
    assert str(caught.value) == (
        "A recurrent cell is no layer: it takes a state and the input of one step.\n"
        "  where: GRU\n"
        "  got:   a call with one argument\n"
        "  want:  cell(state, x)\n"
        "  fix:   pax.nn.RNN(GRU(...))   # the cell applied to each step of a sequence"
    )


def test_other_type_errors_of_layers_are_not_touched() -> None:
    class Cell(pax.Module):
        def initial_state(self, batch_size: int) -> None: ...

        def __call__(self, x: Any) -> Any:
            raise TypeError("its own")

    for layer in (Cell(), lambda x, y: x):
        with pytest.raises(TypeError, match="its own|missing 1 required"):
            pax.nn.Sequential(layer)(1)


def test_identity() -> None:
    x = object()
    assert pax.nn.Identity()(x) is x
    assert repr(pax.nn.Identity(name="i")) == "(i) Identity"
    assert pax.nn.Identity(training=False).training is False


@pytest.mark.parametrize("make", [pax.nn.Lambda, pax.nn.Sequential])
def test_a_class_of_modules_is_no_layer(make: Any) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        make(pax.nn.Identity)
    assert str(caught.value) == (
        "Expecting a module, not its class.\n  where: Lambda\n  got:   the class `Identity`\n"
        "  want:  a module or a function\n  fix:   Identity(...)"
    )
