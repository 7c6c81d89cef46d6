"""`repr` and `summary`."""

from typing import Any

import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm, ParameterHolder
from pax.errors import UnsupportedModuleError


class Outer:
    class Nested(pax.Module): ...


class Shown(pax.Module):
    """Shows what it is given."""

    def __init__(self, info: dict[str, Any] | None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.info = info

    def __repr__(self) -> str:
        return self._repr(self.info)


def test_a_module_is_shown_by_its_class() -> None:
    assert repr(Counter()) == "Counter"


def test_a_name_stands_in_front_of_the_class() -> None:
    assert repr(pax.Module(name="a")) == "(a) Module"


def test_a_nested_class_is_shown_by_its_qualified_name() -> None:
    assert repr(Outer.Nested()) == "Outer.Nested"


def test_a_local_class_is_shown_by_its_qualified_name() -> None:
    class Local(pax.Module): ...

    assert repr(Local()) == "test_a_local_class_is_shown_by_its_qualified_name.<locals>.Local"


@pytest.mark.parametrize(
    ("info", "name", "text"),
    [
        (None, None, "Shown"),
        ({}, None, "Shown()"),
        ({"size": 3, "mode": "SAME"}, None, "Shown(size=3, mode=SAME)"),
        ({"size": 3, "rate": None}, None, "Shown(size=3)"),
        ({"size": None}, None, "Shown()"),
        ({"size": 3}, "me", "(me) Shown(size=3)"),
    ],
)
def test_details_are_shown_in_brackets(info: dict[str, Any] | None, name: str | None, text: str) -> None:
    assert repr(Shown(info, name)) == text


def test_the_summary_of_a_module_alone_is_one_line() -> None:
    assert Linear(3, 3, name="fc").summary() == "(fc) Linear(in=3, out=3)"


def test_the_summary_draws_submodules_as_a_tree() -> None:
    module = Holder(
        name="root",
        first=Holder(a=Linear(), b=Counter()),
        table={"z": Norm(), "a": Linear(1, 1)},
        last=Holder(a=Holder(b=Counter())),
    )
    assert module.summary().splitlines() == [
        "(root) Holder",
        "├── Holder",
        "│   ├── Linear(in=2, out=2)",
        "│   └── Counter",
        "├── Linear(in=1, out=1)",
        "├── Norm",
        "└── Holder",
        "    └── Holder",
        "        └── Counter",
    ]


def test_the_summary_shows_mixed_attributes_last_and_no_arrays_or_functions() -> None:
    module = ParameterHolder(layers=[Linear(2, 3), jnp.tanh, Linear(3, 4)], array=jnp.ones(3), norm=Norm())
    assert module.summary() == ("ParameterHolder\n├── Norm\n├── Linear(in=2, out=3)\n└── Linear(in=3, out=4)")


def test_the_summary_can_be_a_list_of_lines() -> None:
    net = Net()
    lines = net.summary(return_list=True)
    assert "\n".join(lines) == net.summary()
    assert isinstance(lines, list)


def test_a_summary_of_a_subclass_is_drawn_in_the_tree() -> None:
    class Short(Holder):
        def summary(self, return_list: bool = False) -> Any:
            return ["short", "form"] if return_list else "short\nform"

    assert Holder(a=Short(b=Linear()), c=Counter()).summary() == "Holder\n├── short\n│   form\n└── Counter"


def test_a_repr_that_returns_nothing_is_an_error() -> None:
    class Silent(pax.Module):
        def __repr__(self) -> str:
            return None  # type: ignore[return-value]

    with pytest.raises(ValueError, match=r"The `<class .*Silent'>.__repr__` method returns a `None` value.") as caught:
        Silent().summary()
    assert isinstance(caught.value, UnsupportedModuleError)
    assert "fix:   return self._repr({'size': self.size}) in `__repr__`" in str(caught.value)
