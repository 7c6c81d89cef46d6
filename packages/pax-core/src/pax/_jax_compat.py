"""The only file that touches names of JAX which moved between the supported versions or may move again.

``trace_state`` is what purity needs: an opaque token of the trace that is current in this thread. Two tokens are
equal iff no transformation was entered or left in between.
"""

import warnings
from collections.abc import Callable
from typing import Any, cast

import jax


def _find_trace_state() -> Callable[[], Any]:
    """Returns JAX's trace-state function: ``jax.extend.core`` from 0.10 on, ``jax.core`` before."""
    found: Any = None
    try:
        from jax.extend import core as extend_core

        found = getattr(extend_core, "get_opaque_trace_state", None)
    except ImportError:
        pass
    if found is None:
        from jax import core

        found = getattr(core, "get_opaque_trace_state", None)
    if found is None:
        try:
            from jax._src import core as private_core

            found = getattr(private_core, "get_opaque_trace_state", None)
        except ImportError:
            pass
    if found is None:
        warnings.warn(
            f"JAX {jax.__version__} offers no trace state: PAX checks the purity of modules per thread only, "
            "and cannot see a change made inside a nested JAX transformation.",
            RuntimeWarning,
            stacklevel=2,
        )
        return lambda: None

    def trace_state(get: Callable[..., Any] = found) -> Any:
        return get(convention="pax")

    return cast("Callable[[], Any]", trace_state)


trace_state = _find_trace_state()
"""Returns an opaque, comparable token of the current trace."""


def is_tracer(value: object) -> bool:
    """Whether ``value`` is an abstract stand-in inside a JAX transformation."""
    return isinstance(value, jax.core.Tracer)
