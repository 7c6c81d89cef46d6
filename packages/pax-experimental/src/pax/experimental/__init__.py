"""What may become part of PAX: usable, typed and tested, but it may change or go in any release.

A name moves to the package named here when it has kept its meaning for two minor releases and its question is answered.

- `mutable`: is a block that changes a copy of a module clearer than `pax.pure` for a few edits by hand? (pax-core)
- `Flattener`: do programs need it, now that modules cost what dictionaries cost? (pax-core)
- `LazyModule`, `lazy_init`: are layers that find their sizes worth a structure that changes once? (pax-nn)
- `graph`: do people draw and edit graphs, or write `__call__`? (a package of its own)
- `apply_mp_policy`, `unwrap_mp_policy`, `default_mp_policy`, `apply_scaled_gradients`: are policies for single modules
  enough, and does jmp stay maintained? (pax-nn, pax-optim)
- `save_weights_to_dict`, `load_weights_from_dict`, `load_torch_weights`, `to_torch_weights`: which layouts are missing?
  (pax-nn)
- `mlax`: do people want layers that find their sizes and return ``(output, module)``? (a package of its own)
- `parallax`: do people want declared fields, and one pass that makes all parameters? (a package of its own)
"""

from pax.experimental import graph as graph
from pax.experimental import mlax as mlax
from pax.experimental import parallax as parallax
from pax.experimental._flattener import Flattener as Flattener
from pax.experimental._lazy import LazyModule as LazyModule
from pax.experimental._lazy_init import lazy_init as lazy_init
from pax.experimental._mutable import mutable as mutable
from pax.experimental._policy import apply_mp_policy as apply_mp_policy
from pax.experimental._policy import unwrap_mp_policy as unwrap_mp_policy
from pax.experimental._policy_default import default_mp_policy as default_mp_policy
from pax.experimental._scaled_gradients import apply_scaled_gradients as apply_scaled_gradients
from pax.experimental._torch_weights import load_torch_weights as load_torch_weights
from pax.experimental._torch_weights import to_torch_weights as to_torch_weights
from pax.experimental._version import __version__ as __version__
from pax.experimental._weights import load_weights_from_dict as load_weights_from_dict
from pax.experimental._weights import save_weights_to_dict as save_weights_to_dict

__all__ = [
    "Flattener",
    "LazyModule",
    "apply_mp_policy",
    "apply_scaled_gradients",
    "default_mp_policy",
    "graph",
    "lazy_init",
    "load_torch_weights",
    "load_weights_from_dict",
    "mlax",
    "mutable",
    "parallax",
    "save_weights_to_dict",
    "to_torch_weights",
    "unwrap_mp_policy",
]
