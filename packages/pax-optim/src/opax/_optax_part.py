"""What the ready-made optimizers share: their parts that optax computes."""

from collections.abc import Callable
from typing import Any

from jax.typing import DTypeLike

from opax import _arguments
from opax._factory import Factory
from opax._from_optax import FromOptax, from_optax


class Checked:
    """Checks the arguments of one optimizer.

    Args:
        where: the name of the optimizer.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def decay(self, **numbers: float) -> dict[str, float]:
        """Returns numbers in [0, 1): weights of old averages."""
        return self._numbers(numbers, low=0, below=1)

    def positive(self, **numbers: float) -> dict[str, float]:
        """Returns numbers that are not negative."""
        return self._numbers(numbers, low=0)

    def _numbers(self, numbers: dict[str, float], **limits: float) -> dict[str, float]:
        return {
            name: _arguments.number(value, what=name, where=self.where, **limits) for name, value in numbers.items()
        }

    def part(
        self, function: Callable[..., Any], state_dtype: DTypeLike | None = None, **options: Any
    ) -> Factory[FromOptax]:
        """Returns a transformation of gradients.

        Args:
            function: makes it in optax.
            state_dtype: what the user gave.
            **options: arguments of the function.
        """
        dtype = _arguments.dtype(state_dtype, where=self.where)
        return from_optax(function, negate=False, state_dtype=dtype, **options)
