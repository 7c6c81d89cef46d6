"""What to do about weights of PyTorch that do not fit."""

from collections.abc import Collection, Mapping
from typing import Any

from pax.experimental._torch_names import TorchNames

_TRIED = 10
"""How many missing names are looked for under other prefixes: one that is there for most is there for some of these."""


def fix_for(state_dict: Mapping[str, Any], names: TorchNames | None, missing: Collection[str]) -> str:
    """Returns the advice for the arrays that are missing in a dictionary."""
    for key, value in state_dict.items():
        if isinstance(value, Mapping) and value and all(hasattr(array, "shape") for array in value.values()):
            return f"pass checkpoint[{key!r}], the dictionary of arrays in the one you have passed"
    prefix = _common_prefix(state_dict, missing)
    if prefix and "" not in (names or {}):
        which = "all" if all(name.startswith(f"{prefix}.") for name in state_dict) else "most"
        entries = f'{{"": "{prefix}", ...}}' if names else f'{{"": "{prefix}"}}'
        return f"{which} names there begin with `{prefix}.`: names={entries}"
    return "name the parts by `names`, leave out by `ignore`, or load what fits with strict=False"


def _common_prefix(there: Collection[str], missing: Collection[str]) -> str | None:
    """Returns the prefix under which most of the missing names are there, if any."""
    counts = {
        prefix: sum(f"{prefix}.{name}" in there for name in missing)
        for tried in list(missing)[:_TRIED]
        for prefix in {name.removesuffix(f".{tried}") for name in there if name.endswith(f".{tried}")}
    }
    best = max(counts, key=lambda prefix: counts[prefix], default=None)
    return best if best is not None and 2 * counts[best] > len(missing) else None
