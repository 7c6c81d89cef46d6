"""The exception classes of PAX.

Every class also derives from the builtin kind a caller would expect (``ValueError``, ``TypeError``,
``AttributeError``, ``KeyError``), and from ``AssertionError`` where the original PAX used ``assert``, so that
programs which catch those keep working.
"""

from typing import Any


class PaxError(Exception):
    """Base of all errors that PAX raises about a user's program.

    The text has a headline that is enough on its own, followed by those of the labelled lines that are known::

        Cannot modify a module in immutable mode.
        Please do this computation inside a function decorated by `pax.pure`.
          where: encoder.norm (BatchNorm2D), attribute `scale`
          got:   an assignment outside of any `pax.pure` function
          want:  a module that was passed to the running `pax.pure` function
          fix:   model, y = pax.purecall(model, x)
          why:   a module is a value: a change in place would be invisible to jax.jit

    Args:
        headline: what happened, one or two sentences.
        where: the place inside ``module``, for example "attribute `scale`"; the path and the class come from
            ``module``.
        got: what was found, for arrays as ``float32[3,5]``.
        want: what is accepted, in the same notation as ``got``.
        fix: code or an instruction that mends it.
        why: the reason for the rule, when it is not obvious.
        module: the module that raised. Whoever knows the root it belongs to sets ``path``.
        path: the attribute path of ``module`` below the root the user passed, for example ``encoder.norm``.
    """

    def __init__(
        self,
        headline: str,
        *,
        where: str | None = None,
        got: str | None = None,
        want: str | None = None,
        fix: str | None = None,
        why: str | None = None,
        module: Any = None,
        path: str | None = None,
    ) -> None:
        super().__init__(headline)
        self.headline = headline
        self.where = where
        self.got = got
        self.want = want
        self.fix = fix
        self.why = why
        self.module = module
        self.path = path

    @property
    def place(self) -> str | None:
        """The ``where`` line: path, class and detail, as far as they are known."""
        kind = None
        if self.module is not None:
            name = getattr(self.module, "name", None)
            kind = type(self.module).__qualname__
            kind = f"({name}) {kind}" if isinstance(name, str) else kind
            kind = f"{self.path} ({kind})" if self.path else kind
        return ", ".join(part for part in (kind, self.where) if part) or None

    def __str__(self) -> str:
        lines = [self.headline]
        texts = (("where", self.place), ("got", self.got), ("want", self.want), ("fix", self.fix), ("why", self.why))
        for label, text in texts:
            if text is not None:
                lines.append(f"  {label + ':':<6} " + text.replace("\n", "\n         "))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # The module is left out: an error that crosses a process carries text only.
        labels = {"where": self.place, "got": self.got, "want": self.want, "fix": self.fix, "why": self.why}
        return _rebuild_error, (type(self), self.headline, labels)


def _rebuild_error(cls: type[PaxError], headline: str, labels: dict[str, str | None]) -> PaxError:
    return cls(headline, **labels)


class MutationError(PaxError, ValueError):
    """A module was changed while it is immutable."""


class ArgumentError(PaxError, ValueError, AssertionError):
    """An argument has an unusable value, shape, range or structure."""


class ArgumentTypeError(PaxError, TypeError, ValueError, AssertionError):
    """An argument is of an unusable kind, for example not a module where one is needed."""


class AttributeNameError(PaxError, AttributeError, AssertionError):
    """A module has no attribute, or no usable attribute, of the given name."""


class SharedNodeError(PaxError, ValueError):
    """The same array or the same module stands at two places of one module."""


class UnregisteredFieldError(PaxError, ValueError):
    """A class attribute, which is no part of any pytree, holds an array or a module."""


class UnsupportedModuleError(PaxError, ValueError):
    """A class or an attribute uses a feature that a pytree module cannot have."""


class StructureError(PaxError, ValueError, AssertionError):
    """Two trees that must have the same structure, shapes or dtypes do not."""


class StateDictError(PaxError, ValueError, KeyError):
    """A state dictionary does not fit the module it is loaded into."""


class SelectorError(PaxError, ValueError):
    """A selector is malformed, or selects nothing."""
