"""The modules of the Parallax dialect."""

from typing import Any

import jax
import jax.numpy as jnp

from conformance.catalogue import Entry
from pax.experimental.parallax import Dense, Dropout, Module, ModuleTuple, Parameter, ParameterTuple, ParamInit

_KEY = jax.random.PRNGKey(0)
_init = jax.nn.initializers.normal()


class Net(Module):
    """Fields of all kinds."""

    scale: Parameter
    shifts: ParameterTuple
    head: Dense
    blocks: ModuleTuple
    steps: int

    def __init__(self) -> None:
        super().__init__()
        self.scale = ParamInit((3,), jax.nn.initializers.ones)
        self.shifts = ParameterTuple(ParamInit((3,), _init), ParameterTuple(ParamInit((), _init)))
        self.head = Dense(3, 2)
        self.blocks = ModuleTuple(Dense(3, 3), Dropout(0.5))
        self.steps = 2

    def forward(self, x: Any) -> Any:
        x = x * self.scale + self.shifts[0] + self.shifts[1][0]
        for _ in range(self.steps):
            for block in self.blocks:
                x = jnp.tanh(block(x))
        return self.head(x)


def _vector() -> tuple[Any, ...]:
    return (jnp.array([1.0, -2.0, 0.5]),)


def _with_keys(module: Any) -> Any:
    return module.initialized(_KEY).new_state(jax.random.PRNGKey(1), mode="train")


ENTRIES = [
    Entry("parallax.Module", "pax.experimental.parallax.Module", lambda: _with_keys(Net()), _vector),
    Entry("parallax.Dense", "pax.experimental.parallax.Dense", lambda: Dense(3, 2).initialized(_KEY), _vector),
    Entry("parallax.Dropout", "pax.experimental.parallax.Dropout", lambda: _with_keys(Dropout(0.5)), _vector),
]
