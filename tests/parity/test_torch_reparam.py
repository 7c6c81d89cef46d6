"""Spectral and weight normalisation against PyTorch, from the same weights: outputs, gradients and states, in float64.

Tolerance: 1e-10 of the values, a few hundred roundings of float64.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64

torch: Any = pytest.importorskip("torch")
parametrizations: Any = pytest.importorskip("torch.nn.utils.parametrizations")


def assert_close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with x64():
        yield


class Case:
    """A layer of both libraries with the same weights.

    Args:
        ours: the layer of PAX.
        theirs: the layer of PyTorch.
        order: the axes of our weight in the order of those of theirs.
        flipped: spatial axes of our weight that PyTorch has in reverse.
        shape: of the input, channels second.
    """

    def __init__(self, ours: Any, theirs: Any, order: tuple[int, ...], flipped: tuple[int, ...], shape: Any) -> None:
        self.order, self.flipped = order, flipped
        self.theirs = theirs.double()
        weight = self.to_ours(self.theirs.weight)
        self.ours = ours.replace(weight=weight, bias=jnp.asarray(self.theirs.bias.detach().numpy()))
        self.x = np.random.default_rng(0).standard_normal(shape)

    def to_ours(self, weight: Any) -> Any:
        array = weight.detach().numpy().transpose(np.argsort(self.order))
        return jnp.asarray(np.flip(array, self.flipped))


def make(kind: str) -> Case:
    torch.manual_seed(0)
    if kind == "Linear":
        return Case(pax.nn.Linear(4, 3), torch.nn.Linear(4, 3), (1, 0), (), (2, 4))
    if kind == "Conv2D":
        conv = pax.nn.Conv2D(4, 3, 2, padding="VALID", data_format="NCHW")
        return Case(conv, torch.nn.Conv2d(4, 3, 2), (3, 2, 0, 1), (), (2, 4, 5, 5))
    transposed = pax.nn.Conv1DTranspose(4, 3, 3, padding="VALID", data_format="NCW")
    return Case(transposed, torch.nn.ConvTranspose1d(4, 3, 3), (2, 1, 0), (0,), (2, 4, 5))


def both_gradients(case: Case, module: Any, theirs: Any) -> tuple[Any, Any]:
    """Returns the updated module and its gradients; PyTorch's are in its parameters. Outputs are compared here."""

    def loss(module: Any) -> Any:
        module, y = pax.purecall(module, jnp.asarray(case.x))
        return jnp.sin(y).sum(), (module, y)

    (_, (updated, y)), gradients = pax.value_and_grad(loss, has_aux=True)(module)
    theirs.zero_grad()
    want = theirs(torch.from_numpy(case.x))
    torch.sin(want).sum().backward()
    assert_close(y, want.detach().numpy())
    return updated, gradients


@pytest.mark.parametrize("kind", ["Linear", "Conv2D", "Conv1DTranspose"])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_spectral_norm(kind: str, num_steps: int) -> None:
    case = make(kind)
    theirs = parametrizations.spectral_norm(case.theirs, n_power_iterations=num_steps)
    state = theirs.parametrizations.weight[0]
    module = pax.nn.SpectralNorm(case.ours, num_steps=num_steps)

    # Their `v` has a place for each element of a channel, in the order of their axes.
    own_axis = 1 if kind == "Conv1DTranspose" else 0
    rest = [axis for i, axis in enumerate(case.order) if i != own_axis]
    sizes = [case.ours.weight.shape[axis] for axis in rest]

    def our_v() -> Any:
        v = np.asarray(state._v).reshape(sizes).transpose(np.argsort(rest))
        return jnp.asarray(np.flip(v, case.flipped).ravel().copy())

    module = module.replace(u=jnp.asarray(np.asarray(state._u).copy()), v=our_v())
    for _ in range(2):
        module, gradients = both_gradients(case, module, theirs)
        assert_close(module.u, np.asarray(state._u))
        assert_close(module.v, our_v())
        want = case.to_ours(theirs.parametrizations.weight.original.grad)
        assert_close(gradients.layer.weight, want)
        assert_close(gradients.layer.bias, theirs.bias.grad.numpy())
    theirs.eval()
    want = theirs(torch.from_numpy(case.x)).detach().numpy()
    assert_close(module.eval()(jnp.asarray(case.x)), want)


@pytest.mark.parametrize("kind", ["Linear", "Conv2D", "Conv1DTranspose"])
def test_weight_norm(kind: str) -> None:
    case = make(kind)
    channels = 1 if kind == "Conv1DTranspose" else 0
    theirs = parametrizations.weight_norm(case.theirs, dim=channels)
    lengths, directions = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    module = pax.nn.WeightNorm(case.ours)
    assert_close(module.g, lengths.detach().numpy().ravel())

    with torch.no_grad():  # away from the start, where the length is that of the direction
        lengths *= 1.5
    module = module.replace(g=1.5 * module.g)
    _, gradients = both_gradients(case, module, theirs)
    assert_close(gradients.g, lengths.grad.numpy().ravel())
    assert_close(gradients.v, case.to_ours(directions.grad))
    assert_close(gradients.layer.bias, theirs.bias.grad.numpy())
