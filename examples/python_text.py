"""A text to learn, for the examples that model language: the reference of Python, which comes with every Python.

`help("for")` shows a part of it. There are 96 characters: those of ASCII, and the end of a line.
"""

from pydoc_data.topics import topics

import numpy as np

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
_NUMBERS = {character: number for number, character in enumerate(VOCABULARY)}


def load_text() -> tuple[np.ndarray, np.ndarray]:
    """Returns the characters as numbers, `int32[N]`: nine tenths to learn from, and the last tenth for testing."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    text = "\n\n".join(dict.fromkeys(text.split("\n\n")))  # some chapters repeat paragraphs of others
    numbers = encode(text)
    split = len(numbers) * 9 // 10
    return numbers[:split], numbers[split:]


def encode(text: str) -> np.ndarray:
    """Returns the number of each character, `int32[N]`; other characters than those of the vocabulary are left out."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return np.array([_NUMBERS[character] for character in text if character in _NUMBERS], np.int32)


def decode(numbers: np.ndarray) -> str:
    """Returns the text of such numbers."""
    return "".join(VOCABULARY[number] for number in np.asarray(numbers))


def random_windows(text: np.ndarray, count: int, length: int, seed: int, step: int) -> np.ndarray:
    """Returns pieces of the text, `int32[count, length]`, which start anywhere; others for each step."""
    starts = np.random.default_rng((seed, step)).integers(0, len(text) - length + 1, count)
    windows: np.ndarray = text[starts[:, None] + np.arange(length)[None]]
    return windows


def all_windows(text: np.ndarray, length: int) -> np.ndarray:
    """Returns the whole text in pieces, `int32[count, length]`; what is left at the end is dropped."""
    count = len(text) // length
    return text[: count * length].reshape(count, length)
