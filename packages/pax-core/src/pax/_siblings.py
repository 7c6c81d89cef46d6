"""What `pax` takes from the packages on top of it, looked up when it is first asked for.

`import pax` imports none of them and works without them; what an absent one would give raises an error that says which
command installs it.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# Sub-package of `pax` -> the distribution that ships it, and the sub-package that is there if any of it is.
_SUBPACKAGES = {"nn": ("pax-nn", "nn"), "nets": ("pax-nn", "nn"), "experimental": ("pax-experimental", "experimental")}

# What has to be there for a sub-package to work: pip installs it all, but may uninstall a part of it.
_NEEDED_BY = {"nn": ("pax.nn",), "nets": ("pax.nets",), "experimental": ("pax.experimental", "pax.nn", "opax")}

# Names of `pax.nn` that are names of `pax`, for the error when it is absent. All else in `pax.nn.__all__` is, too.
_NN_NAMES = frozenset(
    "AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveMaxPool1D AdaptiveMaxPool2D AvgPool1D AvgPool2D AvgPool3D "
    "BatchNorm1D BatchNorm2D BatchNorm3D Bidirectional Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D "
    "Conv3DTranspose DepthwiseConv1D DepthwiseConv2D Dropout EMA Einsum Embed Ensemble Flatten GRU GRUState "
    "GlobalAvgPool GlobalMaxPool GroupNorm Identity InstanceNorm KVCache LSTM LSTMState Lambda LayerNorm "
    "LearnedPositions Linear MLP MaxPool1D MaxPool2D MaxPool3D MultiHeadAttention PReLU RMSNorm RNN Remat "
    "SeparableConv1D SeparableConv2D Sequential SinusoidalPositions SpectralNorm Stack StackedCells Tied VanillaRNN "
    "VanillaRNNState WeightNorm avg_pool dropout init_cache max_pool remat rotary_embedding "
    "sinusoidal_positions".split()
)
# Names of `pax.experimental` that are names of `pax`; no others.
_EXPERIMENTAL_NAMES = frozenset({"apply_mp_policy", "unwrap_mp_policy"})


def find_sibling_name(name: str) -> object:
    """Find an attribute of `pax` that pax-core does not define; for `pax.__getattr__` only.

    Args:
        name: the name of the attribute.

    Returns:
        The sub-package, class or function.

    Raises:
        AttributeError: there is no such name, or (with the command that installs it) its package is absent.
        ModuleNotFoundError: the same, under `from pax import name`, which would hide the text of an AttributeError.
    """
    subpackage = name if name in _SUBPACKAGES else "experimental" if name in _EXPERIMENTAL_NAMES else "nn"
    if name == subpackage and _is_there(name):
        return import_module(f"pax.{name}")
    if not name.startswith("_") and name in _listed(subpackage):
        return getattr(import_module(f"pax.{subpackage}"), name)
    distribution, anchor = _SUBPACKAGES[subpackage]
    if name in _SUBPACKAGES.keys() | _NN_NAMES | _EXPERIMENTAL_NAMES and not _is_there(anchor):
        raise _absent(name, distribution)
    raise AttributeError(f"module 'pax' has no attribute {name!r}", name=name, obj=sys.modules["pax"])


def sibling_names() -> set[str]:
    """The names that `find_sibling_name` finds at present."""
    subpackages = {name for name in _SUBPACKAGES if _is_there(name)}
    return subpackages | _listed("nn") | (_listed("experimental") & _EXPERIMENTAL_NAMES)


def import_opax(needed_by: str) -> ModuleType:
    """Imports `opax`.

    Args:
        needed_by: the public name that needs it, for the error.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: pax-optim, which ships it, is absent.
    """
    if not _is_installed("opax"):
        message = f"`{needed_by}` needs the package pax-optim, which is not installed: pip install pax-optim"
        raise ModuleNotFoundError(message, name="opax")
    return import_module("opax")


def _is_there(subpackage: str) -> bool:
    return all(map(_is_installed, _NEEDED_BY[subpackage]))


def _is_installed(module: str) -> bool:
    spec = find_spec(module)
    # A directory without `__init__.py` is what an uninstallation may leave behind.
    return spec is not None and spec.origin is not None


def _listed(subpackage: str) -> set[str]:
    if not _is_there(subpackage):
        return set()
    # No `__all__`: the sub-package is being imported at this moment.
    return set(getattr(import_module(f"pax.{subpackage}"), "__all__", ()))


def _absent(name: str, distribution: str) -> Exception:
    message = f"`pax.{name}` is in the package {distribution}, which is not installed: pip install {distribution}"
    # The callers: find_sibling_name, pax.__getattr__, and the import system's helper or the user's code.
    if sys._getframe(3).f_code.co_name == "_handle_fromlist":
        return ModuleNotFoundError(message, name=f"pax.{name}")
    return AttributeError(message)
