"""The checker of annotations at run time, as type checkers read them: an ``int`` is a ``float``."""

from collections.abc import Callable
from typing import Any, Self, get_origin

import numpy as np
from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that checks its arguments and its result."""
    function.__annotations__ = {name: _readable(hint) for name, hint in function.__annotations__.items()}
    checked: Callable[..., Any] = _check(function)
    return checked


def _readable(hint: Any) -> Any:
    """Replaces what beartype does not read: ``Self`` of a method by itself, NumPy arrays of any dtype."""
    if hint is Self:
        return Any
    return np.ndarray if get_origin(hint) is np.ndarray else hint
