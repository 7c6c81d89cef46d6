"""A module with every kind of method, for the tests of what makes methods pure."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

import pax
from helpers.modules import Counter


class Tally(pax.StateModule):
    """A counter with methods, a submodule, and a static attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)
        self.inner = Counter()
        self.note = "new"

    def __call__(self, amount: int = 1, *, twice: bool = False) -> jax.Array:
        self.count = self.count + (2 * amount if twice else amount)
        return self.count

    def add(self, amount: int) -> str:
        """Adds to the count, and one to that of the submodule."""
        self.count = self.count + amount
        self.inner()
        return f"added {amount}"

    @pax.module_and_value
    def step(self, amount: int) -> str:
        """Adds to the count of a copy."""
        self.count = self.count + amount
        return "stepped"

    def produce(self) -> Iterator[int]:
        """A generator."""
        self.note = "produced"
        yield 1

    async def wait(self) -> None:
        """A coroutine."""
        self.note = "waited"


@pax.pure
def assign(module: Any, **attributes: Any) -> Any:
    """Sets attributes of a copy."""
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pax.pure
def rename(module: Any, note: str = "changed") -> Any:
    """Sets the attribute ``note`` of a copy."""
    module.note = note
    return module
