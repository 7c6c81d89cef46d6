"""Modules that hold themselves: no tree, so an error, and not the end of the interpreter."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import pax
from helpers.modules import Holder

class Selfish(pax.Module):
    def __init__(self):
        super().__init__()
        self.me = self

class Listed(pax.Module):
    def __init__(self):
        super().__init__()
        self.all = [self]

@pax.pure
def assign(module):
    module.me = module

@pax.pure
def append(module):
    module.all.append(module)

@pax.pure
def parent(module):
    module.child.parent = module

@pax.pure
def read(module):
    module.child.parent = module
    return module.copy()

for call in sys.argv[1:]:
    try:
        eval(call)
    except ValueError as error:
        print(call, type(error).__name__, flush=True)
"""

_CALLS = {
    "by its constructor": "Selfish()",
    "in a list, by its constructor": "Listed()",
    "by an assignment": "assign(Holder())",
    "in a list": "append(Holder(all=[]))",
    "as the parent of its child": "parent(Holder(child=Holder()))",
    "when it is copied": "read(Holder(child=Holder()))",
}


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """What the program printed: in a process of its own, which endless recursion may end."""
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *_CALLS.values()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout.splitlines()


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_a_module_that_holds_itself_is_refused(call: str, refused: list[str]) -> None:
    assert f"{call} SharedNodeError" in refused
