"""`pax.tabulate`: rows, calls, modes, robustness, and that nothing is computed or changed."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Norm, ParameterHolder
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

X = jax.ShapeDtypeStruct((5, 2), jnp.float32)


class Twice(pax.Module):
    """Calls one layer twice, and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.used = Linear()
        self.unused = Linear()

    def __call__(self, x: jax.Array) -> dict[str, Any]:
        return {"y": self.used(self.used(x)), "rest": (x, None)}

    def other(self, x: jax.Array) -> jax.Array:
        return self.unused(x)


class Loop(pax.Module):
    """Calls one layer in each step of a scan."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Linear()

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (self.inner(carry), None), x, None, length=7)[0]


class Failing(pax.Module):
    """Raises an error in the call of its inner module."""

    def __init__(self, inner: pax.Module | None = None) -> None:
        super().__init__()
        self.inner = inner

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.inner is None:
            raise KeyError("no such thing")
        return self.inner(x)  # type: ignore[operator, no-any-return]


class Creating(pax.Module):
    """Creates its layer in the first call."""

    fc: Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        if "fc" not in vars(self):
            pax.next_rng_key()
            self.fc = Linear(2, 3)
        return self.fc(x)


class Following(pax.Module):
    """Moves one layer towards another of the same structure."""

    def __init__(self) -> None:
        super().__init__()
        self.online = Linear()
        self.target = Linear()

    def __call__(self, x: jax.Array) -> jax.Array:
        self.target = jax.tree.map(lambda t, o: 0.9 * t + 0.1 * o, self.target, self.online)
        return self.target(x)


class Strict(pax.Module):
    """Wants a layer of the very structure of a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = Linear()

    def __call__(self, x: jax.Array) -> jax.Array:
        pax.assert_structure_equal(self.fc, Linear())
        return self.fc(x)


def by_path(table: Any) -> dict[str, Any]:
    return {row["path"]: row for row in table.rows}


def test_there_is_a_row_for_each_module_in_tree_order() -> None:
    net = Holder(first=Holder(a=Linear(), b=Counter()), layers=[Norm(), Linear()], table={"z": Counter()})
    rows = pax.tabulate(net).rows
    assert [row["path"] for row in rows] == [
        "",
        "first",
        "first.a",
        "first.b",
        "layers[0]",
        "layers[1]",
        "table['z']",
    ]
    assert [row["depth"] for row in rows] == [0, 1, 2, 2, 1, 1, 1]
    assert [row["class"] for row in rows][:4] == ["Holder", "Holder", "Linear", "Counter"]


def test_numbers_are_those_of_the_module_with_all_below() -> None:
    net = Holder(a=Linear(2, 3), b=Counter(), own=np.ones(4, np.float16))
    table = pax.tabulate(net)
    root, linear = by_path(table)[""], by_path(table)["a"]
    assert (root["trainable"], root["frozen"], root["states"]) == (9, 0, 5)
    assert root["bytes"] == {"float32": 36, "int32": 4, "float16": 8}
    assert (linear["trainable"], linear["bytes"]) == (9, {"float32": 36})
    assert table.totals == {"trainable": 9, "frozen": 0, "states": 5, "bytes": root["bytes"], "flops": None}


def test_frozen_arrays_are_counted_apart_from_states() -> None:
    net = pax.freeze_parameters(Holder(a=Linear(2, 3), b=Linear(), c=Counter()), "a/bias")
    rows = by_path(pax.tabulate(net))
    assert (rows[""]["trainable"], rows[""]["frozen"], rows[""]["states"]) == (12, 3, 1)
    assert (rows["a"]["trainable"], rows["a"]["frozen"]) == (6, 3)
    whole = pax.tabulate(pax.freeze_parameters(net)).totals
    assert (whole["trainable"], whole["frozen"], whole["states"]) == (0, 15, 1)


def test_a_module_without_parameters_has_states_and_those_beside_it_keep_theirs() -> None:
    class Refusing(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = jnp.ones(3)

        def parameters(self) -> Any:
            raise pax.errors.UnsupportedModuleError("none")

    rows = by_path(pax.tabulate(ParameterHolder(a=Refusing(), b=Linear(), own=jnp.ones(5))))
    assert (rows[""]["trainable"], rows[""]["states"]) == (11, 3)
    assert (rows["a"]["states"], rows["b"]["trainable"]) == (3, 6)


def test_without_inputs_nothing_is_called() -> None:
    table = pax.tabulate(Failing(Failing()))
    assert {(row["calls"], row["flops"], tuple(row["outputs"])) for row in table.rows} == {(None, None, ())}
    assert "Output" not in str(table)
    assert "FLOPs" not in str(table)


def test_calls_and_outputs_are_noted() -> None:
    rows = by_path(pax.tabulate(Twice(), X))
    assert rows[""]["outputs"] == ["{y: float32[5,2], rest: (float32[5,2], None)}"]
    assert (rows["used"]["calls"], rows["used"]["outputs"]) == (2, ["float32[5,2]"])
    assert (rows["unused"]["calls"], rows["unused"]["outputs"], rows["unused"]["flops"]) == (0, [], 0)


def test_concrete_and_abstract_inputs_give_the_same_table() -> None:
    tables = [pax.tabulate(Twice(), x).rows for x in (X, jnp.ones((5, 2)), np.ones((5, 2)))]
    assert tables[0] == tables[1] == tables[2]


def test_values_that_are_no_arrays_are_passed_on() -> None:
    class Flag(pax.Module):
        def __call__(self, x: jax.Array, flag: bool, *, mode: str) -> jax.Array:
            return x[0] if flag and mode == "first" else x

    assert pax.tabulate(Flag(), X, True, kwargs={"mode": "first"}).rows[0]["outputs"] == ["float32[2]"]


def test_a_module_that_takes_no_inputs_is_called_with_empty_keywords() -> None:
    assert pax.tabulate(Counter(), kwargs={}).rows[0]["calls"] == 1


def test_a_method_can_be_called() -> None:
    table = pax.tabulate(Twice().other, X)
    rows = by_path(table)
    assert [rows[path]["calls"] for path in ("", "used", "unused")] == [1, 0, 1]
    assert rows[""]["flops"] == rows["unused"]["flops"] > 0
    assert "`other`" in str(table)


def test_states_may_change_and_the_module_stays_as_it_is() -> None:
    net = Holder(counter=Counter(), fc=Linear())
    before = jtu.tree_leaves(net)
    structure: Any = jtu.tree_structure(net)
    rows = pax.tabulate(net.counter, kwargs={}).rows
    pax.tabulate(net)
    assert (rows[0]["calls"], rows[0]["outputs"]) == (1, ["None"])
    assert all(a is b for a, b in zip(jtu.tree_leaves(net), before, strict=True))
    assert jtu.tree_structure(net) == structure
    assert type(net.counter) is Counter
    with pytest.raises(MutationError):
        net.counter()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_that_of_the_module(training: bool) -> None:
    class Mode(pax.Module):
        def __call__(self, x: jax.Array) -> jax.Array:
            return x if self.training else x[0]

    net = Mode() if training else Mode().eval()
    table = pax.tabulate(net, X)
    assert table.rows[0]["outputs"] == (["float32[5,2]"] if training else ["float32[2]"])
    assert ("training" if training else "evaluation") in str(table)


def test_a_second_table_of_equal_modules_is_the_same() -> None:
    assert pax.tabulate(Loop(), X).rows == pax.tabulate(Loop(), X).rows


def test_equal_jitted_modules_are_followed_each() -> None:
    class Jitted(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Linear()

        @jax.jit
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.inner(x)

    class Pair(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Jitted(), Jitted()

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.b(self.a(x))  # type: ignore[no-any-return]

    rows = by_path(pax.tabulate(Pair(), X))
    assert [rows[path]["calls"] for path in ("a", "a.inner", "b", "b.inner")] == [1, 1, 1, 1]
    assert rows["a.inner"]["flops"] == rows["b.inner"]["flops"] == rows[""]["flops"] / 2 > 0


def test_layers_that_the_call_creates_are_in_the_table() -> None:
    net = Creating()
    rows = by_path(pax.tabulate(net, X))
    assert (rows["fc"]["trainable"], rows["fc"]["outputs"]) == (9, ["float32[5,3]"])
    assert pax.tabulate(net).totals["trainable"] == 0


def test_global_keys_are_not_used_up() -> None:
    pax.seed_rng_key(3)
    expected = pax.next_rng_key()
    pax.seed_rng_key(3)
    pax.tabulate(Creating(), X)
    np.testing.assert_array_equal(pax.next_rng_key(), expected)


def test_modules_that_are_compared_with_each_other_are_followed() -> None:
    rows = by_path(pax.tabulate(Following(), X))
    assert [rows[path]["calls"] for path in ("", "online", "target")] == [1, 0, 1]


def test_what_cannot_be_followed_is_called_nevertheless() -> None:
    table = pax.tabulate(Strict(), X)
    assert table.rows[0]["outputs"] == ["float32[5,2]"]
    assert table.totals["flops"] > 0
    assert by_path(table)["fc"]["calls"] is None
    assert "could not be followed" in str(table)


def test_modules_of_classes_that_are_inputs_are_data() -> None:
    class Average(pax.StateModule):
        def __init__(self, like: Any) -> None:
            super().__init__()
            self.mean = jax.tree.map(jnp.zeros_like, like)

        def __call__(self, new: Any) -> Any:
            self.mean = jax.tree.map(lambda a, b: a + b, self.mean, new)
            return self.mean

    table = pax.tabulate(Average(Linear()), Linear())
    assert [(row["path"], row["calls"]) for row in table.rows] == [("", 1), ("mean", None)]
    assert "could not be followed" not in str(table)
    assert table.totals["flops"] == 6


def test_an_error_names_the_module_in_which_it_arose() -> None:
    net = Holder(deep=Failing(Failing()))
    with pytest.raises(ArgumentError, match="cannot be called with these inputs") as caught:
        pax.tabulate(net.deep, X)
    text = str(caught.value)
    assert "where: inner (Failing)" in text
    assert "got:   inputs (float32[5,2])" in text
    assert "why:   KeyError: 'no such thing'" in text
    assert "fix:   pax.tabulate(net, jax.ShapeDtypeStruct(" in text
    assert isinstance(caught.value.__cause__, KeyError)


def test_after_an_error_the_module_can_be_called() -> None:
    net = Twice()
    with pytest.raises(ArgumentError, match="cannot be called"):
        pax.tabulate(net, jax.ShapeDtypeStruct((5, 3), jnp.float32))
    assert net(jnp.ones((5, 2)))["y"].shape == (5, 2)
    assert type(net.used) is Linear


def test_an_error_of_pax_stays_what_it_is() -> None:
    class Wrong(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counter = Counter()

        def __call__(self, x: jax.Array) -> jax.Array:
            y: jax.Array = jax.vmap(lambda row: (self.counter(), row)[1])(x)
            return y

    with pytest.raises(MutationError, match="counter"):
        pax.tabulate(Wrong(), X)


@pytest.mark.parametrize(
    ("call", "error", "fix"),
    [
        (lambda: pax.tabulate(jnp.ones(3), X), ArgumentTypeError, "pax.tabulate(net, x)"),
        (lambda: pax.tabulate(pax.Module(), X), ArgumentTypeError, "define `__call__`"),
        (lambda: pax.tabulate(Linear(), depth=-1), ArgumentError, "depth=1"),
        (lambda: pax.tabulate(Linear(), depth=True), ArgumentTypeError, "depth=1"),
        (lambda: pax.tabulate(Linear(), depth=1.0), ArgumentTypeError, "depth=1"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_raise_errors(call: Any, error: type[Exception], fix: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert fix in str(caught.value)


def test_depth_hides_rows_and_changes_no_number() -> None:
    net = Holder(a=Holder(b=Linear()))
    full, short = pax.tabulate(net), pax.tabulate(net, depth=1)
    assert short.rows == full.rows[:2]
    assert short.totals == full.totals
    assert len(pax.tabulate(net, depth=0).rows) == 1


def test_abstract_leaves_tracers_keys_and_empty_nodes_have_rows() -> None:
    def make() -> Any:
        return Holder(fc=Linear(), key=jax.random.key(0), hole=pax.EmptyNode(), old=np.ones(2, np.int8))

    concrete = pax.tabulate(make()).totals
    assert concrete["bytes"] == {"float32": 24, "key<fry>": jax.random.key(0).nbytes, "int8": 2}
    assert pax.tabulate(jax.eval_shape(make)).totals == concrete
    seen = []
    jax.jit(lambda net: seen.append(pax.tabulate(net.fc, X).totals))(make())
    assert seen == [pax.tabulate(Linear(), X).totals]


def test_other_variants_of_a_class_keep_their_behaviour_and_name() -> None:
    net = Holder(fc=Linear().replace_method(__call__=lambda self, x: x[:, 0]))
    row = pax.tabulate(net.fc, X).rows[0]
    assert (row["class"], row["outputs"]) == ("Linear", ["float32[5]"])


def test_no_class_is_made_by_a_second_call() -> None:
    def count() -> int:
        return len(Twice.__subclasses__())

    pax.tabulate(Twice(), X)
    before = count()
    pax.tabulate(Twice(), X)
    assert count() == before


def test_a_tree_of_a_thousand_modules() -> None:
    net = Holder(groups=[Holder(layers=[Linear() for _ in range(32)]) for _ in range(32)])
    table = pax.tabulate(net)
    assert len(table.rows) == 1 + 32 + 32 * 32
    assert len(str(table).splitlines()) == len(table.rows) + 5
    assert json.loads(table.to_json())["totals"]["trainable"] == 1024 * 6
