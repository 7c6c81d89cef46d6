"""The libraries that are compared: every one builds the same models."""

from benchmarks.peers._available import available as available
from benchmarks.peers._library import Library as Library
from benchmarks.peers._library import Pair as Pair
from benchmarks.peers._library import Program as Program
from benchmarks.peers._library import Run as Run
from benchmarks.peers._library import Take as Take

__all__ = ["Library", "Pair", "Program", "Run", "Take", "available"]
