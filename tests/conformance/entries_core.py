"""The modules of pax-core, and modules such as users write."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pax
from conformance.catalogue import Entry
from helpers.modules import Counter, Holder, Linear, Net, Norm


@dataclass
class Affine(pax.Module):
    """A dataclass with a default value."""

    scale: jax.Array
    sizes: list[int]
    shift: float = 0.5

    parameters = pax.parameters_method("scale")

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale + self.shift


def _everything() -> Holder:
    """Attributes of all kinds."""
    return Holder(
        name="all",
        array=jnp.ones((2, 3)),
        numpy_array=np.arange(3),
        key=jax.random.key(0),
        nested={"b": [jnp.zeros(2)], "a": (jnp.ones(1), None)},
        mixed=[Linear(), jax.nn.relu, 3, None, {"k": (jnp.ones(2), "text")}],
        empty=pax.EmptyNode(),
        nothing=None,
        settings={"sizes": [1, 2], "names": ("a", "b")},
        function=jax.nn.gelu,
        number=0.5,
    )


def _batch() -> tuple[Any, ...]:
    return (jnp.array([[1.0, -2.0], [0.5, 3.0]]),)


ENTRIES = [
    Entry("Module", "pax.Module", lambda: pax.Module(name="m")),
    Entry("Module with attributes of all kinds", "pax.Module", _everything),
    Entry("a net", "pax.Module", Net, _batch, stateful=True),
    Entry(
        "a net, a part of it frozen",
        "pax.Module",
        lambda: pax.freeze_parameters(Net(), "encoder"),
        _batch,
        stateful=True,
    ),
    Entry("a net in eval mode", "pax.Module", lambda: Net().eval(), _batch, stateful=True),
    Entry("parameters of a net", "pax.Module", lambda: Net().parameters()),
    Entry("parameters_method", "pax.Module", Norm, _batch, stateful=True),
    Entry("dataclass", "pax.Module", lambda: Affine(jnp.ones(()), [1, 2]), _batch),
    Entry("ParameterModule", "pax.ParameterModule", Linear, _batch),
    Entry(
        "methods replaced",
        "pax.ParameterModule",
        lambda: Linear().replace_method(__call__=Linear.__call__),
        _batch,
    ),
    Entry("StateModule", "pax.StateModule", Counter, _batch, stateful=True),
    Entry("RngSeq", "pax.RngSeq", lambda: pax.RngSeq(seed=1)),
    Entry("RngSeq with a typed key", "pax.RngSeq", lambda: pax.RngSeq(rng_key=jax.random.key(1))),
]

EXCUSED: dict[str, str] = {}
