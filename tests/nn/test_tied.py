"""pax.nn.Tied."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, SharedNodeError, StructureError

X = jax.random.normal(jax.random.key(0), (2, 4))
TIES = {"decoder.weight": "encoder.weight.T"}


class Autoencoder(pax.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        pax.seed_rng_key(3)
        self.encoder = pax.nn.Linear(4, 2)
        self.decoder = pax.nn.Linear(2, 4)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decoder(jnp.tanh(self.encoder(x)))


class Twins(pax.Module):
    """Two towers with states, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = [
            pax.nn.Sequential(pax.nn.Linear(4, 4), pax.nn.BatchNorm1D(4, data_format="NWC")) for _ in range(2)
        ]

    def __call__(self, x: jax.Array) -> jax.Array:
        y: jax.Array = self.towers[0](x) + self.towers[1](2 * x)
        return y


def tied() -> pax.nn.Tied:
    return pax.nn.Tied(Autoencoder(), TIES)


def loss(module: Any, x: jax.Array = X) -> Any:
    return ((module(x) - x) ** 2).sum()


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_source_is_used_at_the_target() -> None:
    model = Autoencoder()
    want = model.replace_node(lambda m: m.decoder.weight, model.encoder.weight.T)
    same(pax.nn.Tied(model, TIES)(X), want(X))
    assert model.decoder.weight.shape == (2, 4)


def test_it_is_one_leaf() -> None:
    module = tied()
    assert len(jax.tree.leaves(module)) == len(jax.tree.leaves(Autoencoder())) - 1
    assert len(jax.tree.leaves(module.state_dict())) == 3
    assert module.model.decoder.weight == pax.EmptyNode()  # type: ignore[attr-defined]


def test_its_gradient_is_the_sum_over_its_uses() -> None:
    gradients: Any = pax.grad(loss)(tied())
    want = pax.grad(loss)(tied().untie())
    same(gradients.model.encoder.weight, want.encoder.weight + want.decoder.weight.T)
    same(gradients.model.decoder.bias, want.decoder.bias)


def test_equal_shapes_are_tied_without_transposition() -> None:
    model = pax.nn.Sequential(pax.nn.Linear(4, 4), pax.nn.Linear(4, 4))
    module = pax.nn.Tied(model, {"modules[1].weight": "modules[0].weight", "modules[1].bias": "modules[0].bias"})
    first = model[0]
    same(module(X), first(first(X)))
    same(jax.jit(pax.purecall)(module, X)[1], first(first(X)))
    same(module.untie()(X), module(X))


def test_modules_share_their_parameters_and_keep_their_states() -> None:
    module = pax.nn.Tied(Twins(), {"towers[1]": "towers[0]"})
    assert len(jax.tree.leaves(module.parameters())) == 4
    x = jax.random.normal(jax.random.key(1), (3, 5, 4))
    updated, _ = jax.jit(pax.purecall)(module, x)
    assert treedef(updated) == treedef(module)
    first, second = updated.model.towers
    same(second[1].ema_mean.averages[0, 0], 2 * (first[1].ema_mean.averages[0, 0] - first[0].bias) + first[0].bias)
    with pytest.raises(MutationError):
        module(x)


def test_summary_says_what_is_tied() -> None:
    assert tied().summary().splitlines()[:2] == ["Tied(decoder.weight=encoder.weight.T)", "└── Autoencoder"]


def test_state_dictionaries_and_pickles() -> None:
    module = tied()
    for twin in (
        tied().load_state_dict(jax.tree.map(np.asarray, module.state_dict())),
        pickle.loads(pickle.dumps(module)),
    ):
        assert treedef(twin) == treedef(module)
        same(twin(X), module(X))


def test_a_frozen_source_gets_no_gradient() -> None:
    frozen: Any = pax.freeze_parameters(tied(), "model/encoder/weight")
    gradients: Any = pax.grad(loss)(frozen)
    assert gradients.model.encoder.weight == gradients.model.decoder.weight == pax.EmptyNode()


def test_untied_models_have_arrays_of_their_own() -> None:
    module = pax.nn.Tied(pax.nn.Sequential(pax.nn.Linear(4, 4), pax.nn.Linear(4, 4)), {"modules[1]": "modules[0]"})
    model = module.untie()
    assert model.scan_bugs() is model
    assert treedef(model) == treedef(pax.nn.Sequential(pax.nn.Linear(4, 4), pax.nn.Linear(4, 4)))


def test_accidental_sharing_stays_an_error() -> None:
    model = Autoencoder()
    with pytest.raises(SharedNodeError, match="Detected a shared ndarray"):
        model.replace_node(lambda m: m.decoder.weight, model.encoder.weight)
    with pytest.raises(SharedNodeError):
        pax.nn.Sequential(model, pax.nn.Tied(model, TIES))


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ({}, "There is nothing to tie"),
        ({"head.weight": "encoder.weight"}, '(.|\n)*got:   "head.weight"\n(.|\n)*decoder.weight: float32'),
        ({"decoder.weight": "encoder.kernel.T"}, '(.|\n)*got:   "encoder.kernel"'),
        (
            {"decoder.weight": "encoder.weight"},
            r"same shape and dtype.\n  where: Tied, `decoder.weight`\n  got:   float32\[4,2\] at `encoder.weight`\n"
            r'  want:  float32\[2,4\]\n  fix:   Tied\(model, {"decoder.weight": "encoder.weight.T"}\)',
        ),
        ({"decoder.bias": "encoder.bias"}, r"got:   float32\[2\] at `encoder.bias`\n  want:  float32\[4\]$"),
        ({"decoder.bias": "encoder.bias.T"}, r"got:   float32\[2\] at `encoder.bias`, transposed"),
        ({"encoder.bias": "encoder.bias"}, "`encoder.bias`\n  got:   it is a source, too"),
        ({"decoder": "encoder.bias"}, "the same trained arrays.\n  where: Tied, `decoder`"),
    ],
    ids=["none", "no target", "no source", "turned", "shape", "turned shape", "itself", "module"],
)
def test_wrong_ties_are_refused(ties: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        pax.nn.Tied(Autoencoder(), ties)


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("decoder/weight", '"decoder.weight"'),
        ("layers/0/weight", '"layers[0].weight"'),
        ("layers/0", '"layers[0]"'),
    ],
)
def test_a_path_with_slashes_is_shown_with_dots(path: str, fix: str) -> None:
    with pytest.raises(ArgumentError, match="no array at the path of a tie") as caught:
        pax.nn.Tied(Autoencoder(), {path: "encoder.weight.T"})
    assert caught.value.fix == f"{fix}   # the path of a tie is written like Python"


def test_a_target_has_one_source() -> None:
    model = pax.nn.Sequential(*(pax.nn.Linear(4, 4) for _ in range(3)))
    with pytest.raises(ArgumentError, match="it is a target twice"):
        pax.nn.Tied(model, {"modules[1]": "modules[0]", "modules[1].bias": "modules[2].bias"})


def test_a_dtype_that_disagrees_is_refused() -> None:
    model = Autoencoder()
    model = model.replace_node(lambda m: m.decoder.weight, model.decoder.weight.astype(jnp.bfloat16))
    with pytest.raises(ArgumentError, match=r"want:  bfloat16\[2,4\]"):
        pax.nn.Tied(model, TIES)


@pytest.mark.parametrize("value", [3, pax.RngSeq(seed=0)], ids=["number", "module"])
def test_what_cannot_be_called_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a callable module"):
        pax.nn.Tied(value, TIES)


def test_an_array_at_a_target_is_noticed() -> None:
    module = tied().replace(model=Autoencoder())
    with pytest.raises(StructureError, match="tie of `decoder.weight` to `encoder.weight`\n  got:   float32"):
        module(X)


def test_a_call_that_changes_a_tied_array_is_noticed() -> None:
    class Writes(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = jnp.ones(2), jnp.ones(2)

        def __call__(self) -> None:
            self.b = self.b + 1

    with pytest.raises(StructureError, match="A call changed an array that is computed(.|\n)*array `b`"):
        pax.purecall(pax.nn.Tied(Writes(), {"b": "a"}))


def test_errors_of_the_model_name_their_place() -> None:
    with pytest.raises(ArgumentTypeError, match=r"where: modules\[0\].model.encoder \(Linear\)"):
        pax.purecall(pax.nn.Sequential(tied()), jnp.ones((2, 5)))


def test_ties_are_a_dictionary() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a dictionary for `ties`.\n  where: Tied\n  got:   a list"):
        pax.nn.Tied(pax.nn.Sequential(pax.nn.Linear(2, 2)), [("a", "b")])  # type: ignore[arg-type]
