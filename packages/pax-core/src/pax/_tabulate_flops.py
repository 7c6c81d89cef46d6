"""Arithmetic of a traced program, by the named scopes in it.

XLA's cost analysis of a whole program counts the body of a loop once, whatever its length. So each operation is
analysed alone, equal ones once, and the numbers are added up: those of a loop of known length as often as it runs.
"""

import re
from collections import Counter
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

Cost = Counter[int | None]
"""Floating-point operations by the number of a scope; ``None`` is the whole."""

# The operations that are nothing but a call of the program they hold, and where they hold it.
_CALLS = frozenset(
    {
        "checkpoint",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "jit",
        "pjit",
        "remat",
        "remat2",
    }
)
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class FlopCounter:
    """Counts what a traced program computes, in all and in each scope.

    Args:
        scope: a pattern of the names of scopes, whose group is the number of the scope.

    Attributes:
        notes: what the numbers leave out, in words.
    """

    def __init__(self, scope: re.Pattern[str]) -> None:
        self.notes: dict[str, None] = {}
        self._scope = scope
        self._scopes: dict[str, frozenset[int]] = {}
        self._programs: dict[Hashable, tuple[Any, Cost, tuple[bool, ...]]] = {}

    def count(self, program: Any) -> Cost:
        """Returns the operations of a program, as ``jax.make_jaxpr`` returns it, that its results depend on."""
        program = getattr(program, "jaxpr", program)
        return self._count_used(program, (True,) * len(program.outvars))[0]

    def _count_used(self, program: Any, used: tuple[bool, ...]) -> tuple[Cost, tuple[bool, ...]]:
        """Returns the operations for the results that are used, and which of the inputs they use."""
        program = getattr(program, "jaxpr", program)
        known = self._programs.get((id(program), used))
        if known is None:
            cost: Cost = Counter()
            live = {id(variable) for variable, flag in zip(program.outvars, used, strict=True) if flag}
            for equation in reversed(program.eqns):
                wanted = tuple(id(variable) in live for variable in equation.outvars)
                if any(wanted) or equation.effects:
                    inner, inputs = self._count_equation(equation, wanted)
                    live.update(id(variable) for variable, flag in zip(equation.invars, inputs, strict=True) if flag)
                    _add(cost, inner, self._scopes_of(equation))
            used_inputs = tuple(id(variable) in live for variable in program.invars)
            known = self._programs[id(program), used] = program, cost, used_inputs  # kept, so that its id is
        return known[1:]

    def _scopes_of(self, equation: Any) -> frozenset[int]:
        text = str(equation.source_info.name_stack)
        found = self._scopes.get(text)
        if found is None:
            found = self._scopes[text] = frozenset(map(int, self._scope.findall(text)))
        return found

    def _count_equation(self, equation: Any, used: tuple[bool, ...]) -> tuple[Cost, tuple[bool, ...]]:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            return self._count_used(next(params[key] for key in _PROGRAMS if key in params), used)
        if name == "scan":
            cost = _times(params["length"], self.count(params["jaxpr"]))
        elif name == "while":
            self.notes["a loop of unknown length counts as one round"] = None
            cost = self.count(params["cond_jaxpr"]) + self.count(params["body_jaxpr"])
        elif name == "cond":
            cost = max(map(self.count, params["branches"]), key=lambda branch: branch[None])
        else:
            cost = Counter({None: self._count_operation(equation)})
        return cost, (True,) * len(equation.invars)

    def _count_operation(self, equation: Any) -> int:
        inputs = ", ".join(str(x) if _is_literal(x) else str(x.aval) for x in equation.invars)
        key = jax.default_backend(), equation.primitive.name, inputs, _text(equation.params)
        flops = _known.get(key)
        if flops is None:
            flops = _analyse(equation)
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[key] = flops
        if flops < 0 and not any(map(_is_key, (*equation.invars, *equation.outvars))):
            self.notes[f"operations that XLA cannot analyse count as nothing: {equation.primitive.name}"] = None
        return max(flops, 0)


# An analysis takes milliseconds, and programs are made of the same operations.
_known: dict[Hashable, int] = {}
_MOST_KNOWN = 4096


def _analyse(equation: Any) -> int:
    """Returns the operations of one equation, -1 if they are not known."""
    variables = [x for x in equation.invars if not _is_literal(x)]

    def operation(*values: Any) -> Any:
        rest = iter(values)
        inputs = [x.val if _is_literal(x) else next(rest) for x in equation.invars]
        return equation.primitive.bind(*inputs, **equation.params)

    try:
        inputs = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in variables]
        analysis: Any = jax.jit(operation).lower(*inputs).cost_analysis()
    except Exception:  # not for this platform
        return -1
    return -1 if analysis is None else round(float(analysis.get("flops", 0.0)))


def _is_literal(variable: Any) -> bool:
    """Whether this is a number: adding a zero, for example, is no operation."""
    return isinstance(variable, Literal)


def _is_key(variable: Any) -> bool:
    """Whether this is a typed random key: XLA says -1 for what only moves one."""
    return bool(jnp.issubdtype(getattr(variable.aval, "dtype", np.bool_), jax.dtypes.extended))


def _add(cost: Cost, inner: Cost, scopes: frozenset[int]) -> None:
    """Adds the cost of an equation, all of which counts for the scopes that it is in."""
    for scope, flops in inner.items():
        if scope not in scopes:
            cost[scope] += flops
    for scope in scopes:
        cost[scope] += inner[None]


def _times(length: int, cost: Cost) -> Cost:
    return Counter({scope: length * flops for scope, flops in cost.items()})


def _text(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(params.items(), key=lambda item: item[0]))
