"""A case of the comparison with other libraries: one layer of ours, the layer of a peer that computes the same."""

import importlib
import importlib.util
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pax
from helpers.precision import x64

Weights = Mapping[str, Any]
"""Arrays of a module by their path in it, ``fc.weight``, as arrays of JAX or tensors of PyTorch."""


class _Lazy:
    """A library that is imported when it is first used: the list of cases can be read without it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # doctest looks for these in everything that it finds
            raise AttributeError(attribute)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(importlib.import_module(self._name), attribute)


torch: Any = _Lazy("torch")
haiku: Any = _Lazy("haiku")
nnx: Any = _Lazy("flax.nnx")

PEERS = {"PyTorch": "torch", "Haiku": "haiku", "Flax NNX": "flax"}
"""The names of the peers, and what is imported for them."""

TOLERANCES = {"float64": 1e-11, "float32": 2e-5}
"""The largest error by default, see :class:`Errors`. float64 shows that the maths is the same."""


@dataclass(frozen=True)
class Case:
    """One layer in one configuration, and the same of a peer.

    Args:
        of: the public name that is compared, for example ``pax.nn.Linear``.
        peer: a key of ``PEERS``.
        make: returns the module with any weights; of a function, an empty ``pax.Module``.
        theirs: ``theirs(weights, *inputs)`` computes the outputs by the peer's layer, with our weights. Transposing
            them is part of it, so that its gradients have our layout.
        inputs: returns the inputs, NumPy arrays; those of floats are differentiated.
        ours: ``ours(module, *inputs)`` computes the outputs; by default a plain call.
        variant: the configuration, in a few words.
        tolerances: where another one than the default is needed, by dtype.
        dtypes: in which the comparison is made.
    """

    of: str
    peer: str
    make: Callable[[], Any]
    theirs: Callable[..., Any]
    inputs: Callable[[], tuple[Any, ...]]
    ours: Callable[..., Any] = lambda module, *inputs: module(*inputs)
    variant: str = ""
    tolerances: Mapping[str, float] | None = None
    dtypes: tuple[str, ...] = tuple(TOLERANCES)

    @property
    def id(self) -> str:
        """What stands in test names."""
        name = self.of.removeprefix("pax.")
        return f"{name} ({self.variant}), {self.peer}" if self.variant else f"{name}, {self.peer}"

    def tolerance(self, dtype: str) -> float:
        """The largest error that is accepted."""
        return (self.tolerances or {}).get(dtype, TOLERANCES[dtype])


@dataclass(frozen=True)
class Errors:
    """The largest errors of the outputs, and of the gradients of weights and inputs.

    The error of an array ``a`` against the peer's ``b`` is ``max|a - b| / max(1, max|b|)``.
    """

    forward: float
    backward: float


def has(peer: str) -> bool:
    """Whether a peer is installed."""
    return importlib.util.find_spec(PEERS[peer]) is not None


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns normally distributed numbers, the same ones each time."""
    return np.random.default_rng(seed).normal(size=shape)


def compare(case: Case, dtype: str) -> Errors:
    """Runs a case: forward, and backward from random gradients of the outputs."""
    with x64(dtype == "float64"):
        module, inputs = _randomised(case.make(), dtype), _cast(case.inputs(), dtype)
        names, leaves, trained, rebuild = _weights(module)

        def ours(trained: dict[str, Any], inputs: tuple[Any, ...]) -> Any:
            return jax.tree.leaves(case.ours(rebuild({**leaves, **trained}), *inputs))

        differentiated = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]
        got = _jax_pass(ours, trained, inputs, differentiated)
        run = _torch_pass if case.peer == "PyTorch" else _peer_pass
        want = run(case, leaves, trained, inputs, differentiated)
    assert all(np.isfinite(array).all() for array in (*want[0], *want[1])), "the peer's numbers are not finite"
    assert sorted(names) == sorted(leaves)
    return Errors(_largest_error(got[0], want[0]), _largest_error(got[1], want[1]))


def _largest_error(got: list[np.ndarray], want: list[np.ndarray]) -> float:
    assert [a.shape for a in got] == [b.shape for b in want]
    errors = [np.abs(a - b).max(initial=0) / max(1, np.abs(b).max(initial=0)) for a, b in zip(got, want, strict=True)]
    return float(max(errors, default=0))


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None), tree)


def _cotangents(outputs: list[Any]) -> list[np.ndarray]:
    return [normal(*output.shape, seed=index + 1) for index, output in enumerate(outputs)]


def _randomised(module: Any, dtype: str) -> Any:
    """Moves weights and averages away from 0 and 1, where mistakes would not show."""
    trained = {id(leaf) for leaf in jax.tree.leaves(module.parameters())}

    def move(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if id(leaf) not in trained and not name.endswith(".averages"):
            return leaf
        noise = 0.1 * normal(*leaf.shape, seed=zlib.crc32(name.encode()))
        return jnp.asarray(np.asarray(leaf, "float64") + noise, dtype)

    return jax.tree_util.tree_map_with_path(move, module)


def _weights(module: Any) -> tuple[list[str], dict[str, Any], dict[str, Any], Callable[[dict[str, Any]], Any]]:
    paths, structure = jax.tree_util.tree_flatten_with_path(module)
    names = [jax.tree_util.keystr(path).removeprefix(".") for path, _ in paths]
    leaves = {name: leaf for name, (_, leaf) in zip(names, paths, strict=True)}
    ids = {id(leaf) for leaf in jax.tree.leaves(module.parameters())}
    trained = {name: leaf for name, leaf in leaves.items() if id(leaf) in ids}
    return names, leaves, trained, lambda leaves: jax.tree.unflatten(structure, [leaves[name] for name in names])


def _jax_pass(
    function: Callable[..., Any], trained: dict[str, Any], inputs: tuple[Any, ...], differentiated: list[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the outputs, and the gradients of the weights and the inputs."""

    def outputs(trained: dict[str, Any], chosen: list[Any]) -> Any:
        given = dict(zip(differentiated, chosen, strict=True))
        return function(trained, tuple(given.get(i, x) for i, x in enumerate(inputs)))

    @jax.jit
    def both(trained: dict[str, Any], chosen: list[Any]) -> Any:
        values, pull_back = jax.vjp(outputs, trained, chosen)
        gradients = pull_back([jnp.asarray(c, v.dtype) for c, v in zip(_cotangents(values), values, strict=True)])
        return values, gradients

    values, gradients = both(trained, [inputs[i] for i in differentiated])
    return [np.asarray(value) for value in values], [np.asarray(leaf) for leaf in jax.tree.leaves(gradients)]


def _peer_pass(
    case: Case, leaves: dict[str, Any], trained: dict[str, Any], inputs: tuple[Any, ...], differentiated: list[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    def theirs(trained: dict[str, Any], inputs: tuple[Any, ...]) -> Any:
        with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            warnings.simplefilter("ignore")
            return jax.tree.leaves(case.theirs({**leaves, **trained}, *inputs))

    return _jax_pass(theirs, trained, inputs, differentiated)


def _torch_pass(
    case: Case, leaves: dict[str, Any], trained: dict[str, Any], inputs: tuple[Any, ...], differentiated: list[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    def tensor(array: Any) -> Any:
        return torch.tensor(np.asarray(array))

    weights = {name: tensor(leaf) for name, leaf in leaves.items() if _is_number(leaf)}
    tensors = [tensor(x) for x in inputs]
    wanted = [weights[name].requires_grad_() for name in sorted(trained)]
    wanted += [tensors[i].requires_grad_() for i in differentiated]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = jax.tree.leaves(case.theirs(weights, *tensors))
        total = sum((v * tensor(c).to(v.dtype)).sum() for v, c in zip(values, _cotangents(values), strict=True))
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    zeros = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
    return [value.detach().numpy() for value in values], [gradient.numpy() for gradient in zeros]


def _is_number(leaf: Any) -> bool:
    return not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def empty() -> pax.Module:
    """What stands for the module where a function is compared."""
    return pax.Module()
