"""Modes: any text, of which "train" and "eval" are the two that all PAX modules know."""

from typing import Any

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


def read_mode(stored: Any) -> str:
    """Returns the mode of what a module has stored as ``training``."""
    if isinstance(stored, str):
        return stored
    return "train" if stored else "eval"


def stored_mode(mode: Any) -> Any:
    """Returns what a module stores as ``training``: a bool for the modes that ``train()`` and ``eval()`` set.

    It is one value for both views, so they always agree, also after an outer module was set to another mode.

    Raises:
        ArgumentTypeError: ``mode`` is no text.
        ArgumentError: ``mode`` is what people write for "train": in other letters, or "training".
    """
    if not isinstance(mode, str):
        raise ArgumentTypeError(
            "A mode is a text.",
            where="argument `mode`",
            got=describe(mode),
            want='"train", "eval", any other text, or None for no change',
            fix='layer.new_state(rng, mode="train")',
        )
    if mode != "train" and mode.lower() in ("train", "training"):
        raise ArgumentError(
            f'There is no mode {mode!r}: did you mean "train"?',
            where="argument `mode`",
            got=repr(mode),
            want='"train", "eval", or any text that is not so near to "train"',
            fix='layer.new_state(rng, mode="train")',
            why='every other text means "not training": dropout would be off',
        )
    return {"train": True, "eval": False}.get(mode, mode)
