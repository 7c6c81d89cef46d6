"""PAX: neural network modules for JAX that are pytrees, and immutable outside of pure functions.

>>> import jax.numpy as jnp
>>> import pax
>>> class Counter(pax.StateModule):
...     def __init__(self):
...         super().__init__()
...         self.count = jnp.array(0)
...
...     def __call__(self):
...         self.count = self.count + 1
...         return self.count
>>> counter = Counter()
>>> new_counter, count = pax.purecall(counter)
>>> int(new_counter.count), int(counter.count)
(1, 0)
"""

from pkgutil import extend_path
from typing import TYPE_CHECKING

# pax-nn and pax-experimental ship sub-packages of `pax`: look for them wherever they are installed.
__path__ = extend_path(__path__, __name__)

from pax import errors as errors
from pax import extend as extend
from pax import utils as utils
from pax._empty import EmptyNode as EmptyNode
from pax._gradients import grad as grad
from pax._gradients import value_and_grad as value_and_grad
from pax._module import Module as Module
from pax._module import ParameterModule as ParameterModule
from pax._module import StateModule as StateModule
from pax._parameters import parameters_method as parameters_method
from pax._purity import module_and_value as module_and_value
from pax._purity import pure as pure
from pax._purity import purecall as purecall
from pax._random import next_rng_key as next_rng_key
from pax._random import seed_rng_key as seed_rng_key
from pax._rng_seq import RngSeq as RngSeq
from pax._scan import scan as scan
from pax._selection import combine as combine
from pax._selection import filter as filter
from pax._selection import filter_with_path as filter_with_path
from pax._selection import partition as partition
from pax._selection import partition_with_path as partition_with_path
from pax._tabulate import tabulate as tabulate
from pax._transforms import assert_structure_equal as assert_structure_equal
from pax._transforms import enable_eval_mode as enable_eval_mode
from pax._transforms import enable_train_mode as enable_train_mode
from pax._transforms import freeze_parameters as freeze_parameters
from pax._transforms import select_parameters as select_parameters
from pax._transforms import unfreeze_parameters as unfreeze_parameters
from pax._transforms import update_parameters as update_parameters
from pax._update_fn import build_update_fn as build_update_fn
from pax._version import __version__ as __version__

# Without `filter`, which `from pax import *` would put in the place of the builtin function.
__all__ = [
    "EmptyNode",
    "Module",
    "ParameterModule",
    "RngSeq",
    "StateModule",
    "assert_structure_equal",
    "build_update_fn",
    "combine",
    "enable_eval_mode",
    "enable_train_mode",
    "errors",
    "extend",
    "filter_with_path",
    "freeze_parameters",
    "grad",
    "module_and_value",
    "next_rng_key",
    "parameters_method",
    "partition",
    "partition_with_path",
    "pure",
    "purecall",
    "scan",
    "seed_rng_key",
    "select_parameters",
    "tabulate",
    "unfreeze_parameters",
    "update_parameters",
    "utils",
    "value_and_grad",
]

if TYPE_CHECKING:
    # What type checkers and editors see; at run time `__getattr__` finds it when it is asked for.
    from pax import experimental as experimental
    from pax import nets as nets
    from pax import nn as nn
    from pax.experimental import apply_mp_policy as apply_mp_policy
    from pax.experimental import unwrap_mp_policy as unwrap_mp_policy
    from pax.nn import *  # noqa: F403

    __all__ += ["apply_mp_policy", "unwrap_mp_policy"]
    __all__ += nn.__all__  # type: ignore[has-type]
else:
    from pax._siblings import find_sibling_name as _find_sibling_name
    from pax._siblings import sibling_names as _sibling_names

    _CORE_NAMES = frozenset(__all__)
    del __all__  # computed by `__getattr__`: what `from pax import *` gives depends on what is installed

    def __getattr__(name: str) -> object:
        if name == "__all__":
            return sorted(_CORE_NAMES | _sibling_names())
        value = globals()[name] = _find_sibling_name(name)
        return value

    def __dir__() -> list[str]:
        special = {name for name in globals() if name.startswith("__")}
        return sorted({"__all__", "filter"} | special | _CORE_NAMES | _sibling_names())
