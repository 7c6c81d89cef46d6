"""Errors of ``forward`` that come from something missing: they say what, and how to give it."""

from typing import Any

import jax

from pax.errors import ArgumentTypeError, PaxError
from pax.experimental.mlax._calls import needs_key
from pax.experimental.mlax._parameter import Parameter, is_leaf_param

KEY_FIX = (
    "y, module = module(x, jax.random.key(0), ...); in a container, one that hands out keys: SeriesRng, ParallelRng, "
    "RecurrentRng\n"
    "among layers of PAX: a pax.Module that calls it with self.rng_seq.next_rng_key(), of a pax.RngSeq"
)
"""How a layer comes to its key."""


def explain(error: Exception, module: Any, rng: Any, *, was_set_up: bool) -> None:
    """Raises a better error if ``forward`` failed for lack of a key or of data; else does nothing.

    Args:
        error: what ``forward`` raised.
        module: the module.
        rng: what it got as a key.
        was_set_up: whether ``setup`` ran in this call.

    Raises:
        ArgumentTypeError: there is no key, or a parameter has no data.
    """
    if isinstance(error, PaxError) and error.module is not None:
        return  # it knows its layer, and says enough
    text = str(error)
    if rng is None and "None" in text and "key" in text.lower() and needs_key(module):
        raise ArgumentTypeError(
            "This layer needs a key, and gets none.",
            got=f"rng=None, and so: {text.splitlines()[0]}",
            want="a key: key<fry>[] or uint32[2]; or, in inference mode, a function without: FRng(train_fn, infer_fn)",
            fix=KEY_FIX,
            why="Series, Parallel and Recurrent hand out no keys, whatever they get; nor do calls with the input alone",
            module=module,
        ) from error
    if "None" in text and module.initialized and not isinstance(error, PaxError) and lacks_data(module):
        raise ArgumentTypeError(
            "A parameter has no data.",
            got=f"data=None, and so: {text.splitlines()[0]}",
            want="parameters that `setup` has filled; all of them, not one part of a partition",
            fix="self.weight.data = ..., in `setup`" if was_set_up else "y, module = trainables.combine(rest)(x, rng)",
            module=module,
        ) from error


def lacks_data(module: Any) -> bool:
    """Whether a leaf parameter of a module has no data."""
    nodes = jax.tree.leaves(module, is_leaf=is_leaf_param)
    return any(isinstance(node, Parameter) and is_leaf_param(node) and node.data is None for node in nodes)
