"""Functions and objects that are called, to be held by optimizers and compared."""

from dataclasses import dataclass


def named(x: float) -> float:
    """Can be imported by its name."""
    return x


class Owner:
    """Compared by identity."""

    def method(self, x: float) -> float:
        """Returns ``x``."""
        return x


@dataclass(frozen=True)
class Comparable:
    """Compared by its size."""

    size: int

    def method(self, x: float) -> float:
        """Returns ``x``."""
        return x

    def __call__(self, x: float) -> float:
        """Returns a multiple of ``x``."""
        return x * self.size
