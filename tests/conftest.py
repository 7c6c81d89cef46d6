"""What all tests share without asking: two CPU devices, quick compilation, JAX's strict modes, no chance in hypothesis.

And, if they ask, a key.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Level 0 compiles in half the time. What the environment says comes last, and wins: tests/parity runs as users do.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2 " + os.environ.get("XLA_FLAGS", "")
)

import hypothesis
import jax
import pytest

# Compilation makes the first example slow, and a test must fail for everybody or for nobody.
hypothesis.settings.register_profile("pax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("pax")

# Where no foreign maths runs: optax's Adam, for one, relies on implicit dtype promotion.
_STRICT_DTYPES = ("core", "nets", "nn")
# What users write.
_NOT_STRICT = ("doctests",)


@pytest.fixture(autouse=True)
def _strict_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuses the implicit promotion of ranks, and in the tests of pax-core and pax-nn that of dtypes.

    Set for the process, not by JAX's context managers, which hold for one thread: the tests that run modules in threads
    would compile everything twice.
    """
    directory = request.path.relative_to(Path(__file__).parent).parts[0]
    strict = directory in _STRICT_DTYPES and request.node.get_closest_marker("implicit_dtypes") is None
    config: Any = jax.config  # some versions of JAX declare its options, others do not
    before = config.jax_numpy_dtype_promotion, config.jax_numpy_rank_promotion
    _set_promotion("strict" if strict else "standard", "allow" if directory in _NOT_STRICT else "raise")
    yield
    _set_promotion(*before)


def _set_promotion(dtypes: str, ranks: str) -> None:
    jax.config.update("jax_numpy_dtype_promotion", dtypes)
    jax.config.update("jax_numpy_rank_promotion", ranks)


@pytest.fixture
def key() -> jax.Array:
    """A typed random key, the same in every test."""
    return jax.random.key(0)
