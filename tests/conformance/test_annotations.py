"""The annotations of arrays in `pax.nn` and `pax.nets` are true: kinds, shapes and dtypes, checked while layers run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent

# In a process of its own: the hook has to be there before `pax.nn` is imported, and would slow all other tests.
_CODE = """
import json, sys
import helpers.typechecker
from jaxtyping import install_import_hook

install_import_hook(["pax.nn", "pax.nets"], "helpers.typechecker.check")

import jax
import pax
from conformance.catalogue import ENTRIES

def build_and_call(entry, training):
    module = entry.make()
    return pax.purecall(module if training else module.eval(), *entry.inputs())

failed = {}
for entry in ENTRIES:
    if entry.inputs is None or not entry.of.startswith(("pax.nn.", "pax.nets.")):
        continue
    for training in (True, False):
        try:
            jax.eval_shape(lambda: build_and_call(entry, training))
        except Exception as error:
            failed[entry.name] = f"{entry.name}: {error}"
try:
    pax.nn.Linear(3, 2)("text")
except Exception as error:
    found = type(error).__module__.split(".")[0]
json.dump({"failed": failed, "found": found}, sys.stdout)
"""


def test_the_annotations_of_layers_hold_at_run_time() -> None:
    pytest.importorskip("beartype")
    paths = [str(_TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    run = subprocess.run(
        [sys.executable, "-c", _CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["failed"] == {}, "\n".join(result["failed"].values())
    assert result["found"] == "jaxtyping"  # what is wrong would be found
