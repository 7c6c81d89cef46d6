"""The text of errors, the builtin kinds they are, that they can be pickled, and how they get their paths."""

import copy
import pickle
from typing import Any

import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net, Norm
from pax import errors
from pax.errors import ArgumentError, MutationError, PaxError


class Picky(pax.Module):
    """Complains about every input."""

    def __call__(self, x: Any) -> Any:
        raise ArgumentError("This input does not fit.", where="argument `x`", got="float32[2]", module=self)


# ---- layout ----------------------------------------------------------------------------------------------------------


def test_a_headline_alone_is_the_whole_text() -> None:
    assert str(PaxError("Something is wrong.")) == "Something is wrong."


def test_labelled_lines_come_in_one_order_with_one_indentation() -> None:
    error = ArgumentError("Headline.", why="reasons", fix="repair()", want="b", got="a", where="here")
    assert str(error).splitlines() == [
        "Headline.",
        "  where: here",
        "  got:   a",
        "  want:  b",
        "  fix:   repair()",
        "  why:   reasons",
    ]


def test_lines_that_are_not_known_are_left_out() -> None:
    assert str(ArgumentError("Headline.", fix="repair()")) == "Headline.\n  fix:   repair()"


def test_several_lines_under_one_label_are_aligned() -> None:
    assert str(ArgumentError("Headline.", got="first\nsecond")).splitlines()[1:] == [
        "  got:   first",
        "         second",
    ]


@pytest.mark.parametrize(
    ("module", "path", "where", "text"),
    [
        (lambda: Linear(), None, None, "Linear"),
        (lambda: Linear(name="fc"), None, None, "(fc) Linear"),
        (lambda: Linear(), "encoder.fc", None, "encoder.fc (Linear)"),
        (lambda: Linear(name="fc"), "encoder", "attribute `bias`", "encoder ((fc) Linear), attribute `bias`"),
        (lambda: None, None, "attribute `bias`", "attribute `bias`"),
    ],
    ids=["class", "name", "path", "all", "no module"],
)
def test_the_place_is_path_class_and_detail(module: Any, path: str | None, where: str | None, text: str) -> None:
    assert ArgumentError("Headline.", module=module(), path=path, where=where).place == text


def test_an_error_without_place_has_none() -> None:
    assert ArgumentError("Headline.").place is None


def test_the_parts_of_an_error_can_be_read() -> None:
    module = Linear()
    error = ArgumentError("Headline.", got="a", want="b", fix="c", why="d", where="e", module=module, path="f")
    assert (error.headline, error.got, error.want, error.fix, error.why, error.where, error.path) == (
        "Headline.",
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
    )
    assert error.module is module


# ---- kinds -----------------------------------------------------------------------------------------------------------

_KINDS: dict[type[PaxError], tuple[type[Exception], ...]] = {
    errors.MutationError: (ValueError,),
    errors.ArgumentError: (ValueError, AssertionError),
    errors.ArgumentTypeError: (TypeError, ValueError, AssertionError),
    errors.AttributeNameError: (AttributeError, AssertionError),
    errors.SharedNodeError: (ValueError,),
    errors.UnregisteredFieldError: (ValueError,),
    errors.UnsupportedModuleError: (ValueError,),
    errors.StructureError: (ValueError, AssertionError),
    errors.StateDictError: (ValueError, KeyError),
    errors.SelectorError: (ValueError,),
}


@pytest.mark.parametrize(("kind", "builtins"), _KINDS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_every_error_is_also_of_the_builtin_kinds_that_callers_expect(
    kind: type[PaxError], builtins: tuple[type[Exception], ...]
) -> None:
    assert issubclass(kind, PaxError)
    assert all(issubclass(kind, builtin) for builtin in builtins)


def test_all_public_errors_are_in_the_table() -> None:
    assert {getattr(errors, name) for name in errors.__all__} == {PaxError, *_KINDS}


def test_the_text_of_a_key_error_is_not_quoted() -> None:
    assert str(errors.StateDictError("It does not fit.")) == "It does not fit."


# ---- pickling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PaxError, *_KINDS], ids=lambda kind: kind.__name__)
def test_an_error_keeps_class_and_text_through_pickling(kind: type[PaxError]) -> None:
    error = kind("Headline.", got="a", fix="b", module=Linear(name="fc"), path="net.fc", where="attribute `bias`")
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)


def test_a_pickled_error_leaves_the_module_behind() -> None:
    error = ArgumentError("Headline.", module=Holder(function=lambda x: x))
    assert pickle.loads(pickle.dumps(error)).module is None


def test_an_error_that_was_pickled_twice_says_the_same() -> None:
    error: Any = ArgumentError("Headline.", module=Linear(), path="net.fc", where="attribute `bias`")
    twin = copy.deepcopy(pickle.loads(pickle.dumps(error)))
    assert str(pickle.loads(pickle.dumps(twin))) == str(error)


def test_an_error_raised_by_a_module_can_be_pickled() -> None:
    with pytest.raises(MutationError) as caught:
        Counter().count = jnp.array(1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# ---- paths -----------------------------------------------------------------------------------------------------------


class Stack(Holder):
    def __call__(self, x: Any) -> Any:
        return self.layers[1](x)


def test_purecall_names_the_path_of_the_module_that_raised() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(Stack(layers=[Linear(), Picky()]), 3)
    assert str(caught.value) == (
        "This input does not fit.\n  where: layers[1] (Picky), argument `x`\n  got:   float32[2]"
    )


def test_purecall_names_the_path_from_the_outermost_module_only() -> None:
    class Outer(Holder):
        def __call__(self, x: Any) -> Any:
            _, y = pax.purecall(self.stack, x)
            return y

    with pytest.raises(ArgumentError) as caught:
        pax.purecall(Outer(stack=Stack(layers=[Linear(), Picky()])), 3)
    assert "layers[1] (Picky), argument `x`" in str(caught.value)


def test_the_root_itself_has_no_path() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.purecall(Picky(), 3)
    assert "where: Picky, argument `x`" in str(caught.value)


def test_pure_names_paths_in_all_modules_it_was_passed() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.pure(lambda first, second: second.layers[1](3))(Linear(), Stack(layers=[Linear(), Picky()]))
    assert "where: layers[1] (Picky)" in str(caught.value)


def test_a_path_that_is_known_already_stays() -> None:
    class Knowing(Holder):
        def __call__(self, x: Any) -> Any:
            raise ArgumentError("Headline.", module=self.part, path="known")

    with pytest.raises(ArgumentError) as caught:
        pax.purecall(Knowing(part=Norm()), 3)
    assert "where: known (Norm)" in str(caught.value)


def test_an_error_about_an_attribute_names_the_module_in_the_tree() -> None:
    @pax.pure
    def change(net: Net) -> None:
        net.norm.training = False  # type: ignore[misc]

    with pytest.raises(AttributeError, match=r"where: norm \(Norm\), attribute `training`"):
        change(Net())


def test_errors_of_users_pass_through_purecall_unchanged() -> None:
    class Failing(pax.Module):
        def __call__(self) -> None:
            raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        pax.purecall(Failing())
    assert caught.value.args == ("mine",)
