"""Optimizers against those of PyTorch: 50 steps from the same parameters, with the same gradients of each step.

Each step is taken from where the optimizer itself is: a difference in one step would move the next gradients, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
from helpers.precision import x64
from optim.trajectory import STEPS, Trajectory, gradients, run_opax, start

torch: Any = pytest.importorskip("torch")

# Of the largest parameter or 1. float64 shows that the maths is the same.
TOLERANCES = {"float32": 1e-5, "float64": 1e-11}


@dataclass(frozen=True)
class Case:
    """An optimizer of ours, and one of PyTorch that should do the same.

    Args:
        name: says what is special.
        ours: the factory.
        theirs: makes PyTorch's optimizer for a list of tensors.
        before: is called with PyTorch's optimizer before each step.
    """

    name: str
    ours: Any
    theirs: Callable[[Any], Any]
    before: Callable[[Any], None] = lambda optimizer: None


def _eps_inside(optimizer: Any) -> None:
    """Makes PyTorch's mean of squares one of ``g² + eps`` that starts at ``0.5 + eps``: its root is our denominator."""
    alpha, eps = 0.9, 0.1
    for tensor in optimizer.param_groups[0]["params"]:
        if tensor not in optimizer.state:
            start = torch.full_like(tensor, 0.5 + eps)
            optimizer.state[tensor] = {"step": torch.tensor(0.0), "square_avg": start}
        optimizer.state[tensor]["square_avg"] += (1 - alpha) / alpha * eps


CASES = (
    Case("sgd", opax.sgd(0.1, 0.0), lambda p: torch.optim.SGD(p, lr=0.1)),
    Case("sgd with momentum", opax.sgd(0.05, 0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    Case(
        "sgd with Nesterov momentum",
        opax.sgd(0.05, 0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    Case(
        "sgd with weight decay, which PyTorch adds to the gradients",
        opax.chain(opax.add_decayed_weights(0.1), opax.sgd(0.05, 0.9)),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    ),
    Case("adam", opax.adam(0.05), lambda p: torch.optim.Adam(p, lr=0.05)),
    Case(
        "adam with other options",
        opax.adam(0.02, 0.8, 0.95, 1e-2),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-2),
    ),
    Case(
        "adamw",
        opax.adamw(0.05, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    ),
    # PyTorch adds `eps` to the root and we add it inside, as the paper of the centered variant does: with 0, both are
    # the same formula. The case of `_eps_inside` has an `eps` that counts.
    Case("rmsprop", opax.rmsprop(0.01, 0.9, eps=0), lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=0)),
    Case(
        "centered rmsprop",
        opax.rmsprop(0.01, 0.9, eps=0, centered=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=0, centered=True),
    ),
    # PyTorch multiplies by the learning rate after the momentum and we before it: the same while the rate is constant.
    Case(
        "rmsprop with momentum",
        opax.rmsprop(0.01, 0.9, eps=0, momentum=0.8),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=0, momentum=0.8),
    ),
    Case(
        "centered rmsprop with momentum",
        opax.rmsprop(0.01, 0.9, eps=0, centered=True, momentum=0.8),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=0, centered=True, momentum=0.8),
    ),
    Case(
        "rmsprop with eps and initial_scale",
        opax.rmsprop(0.05, 0.9, eps=0.1, initial_scale=0.5),
        lambda p: torch.optim.RMSprop(p, lr=0.05, alpha=0.9, eps=0),
        _eps_inside,
    ),
    # `eps` as in RMSprop.
    Case(
        "adagrad",
        opax.adagrad(0.1, initial_accumulator_value=0.1, eps=0),
        lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, eps=0),
    ),
)


def _tensors(params: Any) -> list[Any]:
    return [torch.tensor(np.asarray(leaf)) for leaf in jax.tree.leaves(params)]


def _run_torch(case: Case) -> list[Any]:
    structure = jax.tree.structure(start())
    tensors = _tensors(start())
    optimizer = case.theirs(tensors)
    slope = jax.jit(gradients)
    found = []
    for step in range(STEPS):
        params = jax.tree.unflatten(structure, [jnp.asarray(tensor.numpy().copy()) for tensor in tensors])
        for tensor, gradient in zip(tensors, _tensors(slope(params, jnp.asarray(step))), strict=True):
            tensor.grad = gradient
        case.before(optimizer)
        optimizer.step()
        found.append([tensor.numpy().copy() for tensor in tensors])
    return found


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_50_steps_are_those_of_torch(case: Case, dtype: str) -> None:
    with x64(dtype == "float64"):
        ours, theirs = run_opax(Trajectory("", lambda: case.ours, optax.identity)), _run_torch(case)
    for params, tensors in zip(ours, theirs, strict=True):
        for got, want in zip(jax.tree.leaves(params), tensors, strict=True):
            assert got.dtype == want.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCES[dtype] * max(1.0, np.abs(want).max()))
    moved = max(float(np.abs(a - b).max()) for a, b in zip(theirs[-1], theirs[0], strict=True))
    assert moved > 0.1, "a case that stays where it is shows nothing"
