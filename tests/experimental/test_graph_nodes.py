"""Nodes of graphs: operators, values, and what is refused."""

import copy
import operator
import pickle
import types
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentTypeError, AttributeNameError
from pax.experimental.graph import ArgsNode, CatNode, InputNode, Node

LAYER = pax.nn.Linear(2, 2, rng_key=jax.random.key(0))


class Counter(pax.StateModule):
    """Counts its calls; returns its arguments and the count."""

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)

    def __call__(self, *xs: Any) -> Any:
        self.count = self.count + 1
        return (*xs, self.count)


# ---- the documented examples -----------------------------------------------------------------------------------------


def test_a_node_shows_its_parts() -> None:
    x = Node((), lambda x: x, jnp.array(0))
    assert repr((x.parents, x.fx, x.value)) == "((), Lambda(<lambda>), Array(0, dtype=int32, weak_type=True))"


def test_a_step_calls_a_function() -> None:
    x = Node((), lambda x: x, jnp.array(1.0))
    y = x >> partial(jax.lax.add, 1.0)
    assert repr(y.value) == "Array(2., dtype=float32, weak_type=True)"
    assert y.parents == (x,)


def test_a_partial_has_a_repr() -> None:
    """C-13: the repr of a step may not fail for a partial."""
    y = Node((), lambda x: x, jnp.array(1.0)) >> partial(jax.lax.add, 1.0)
    assert "Lambda" in repr(y.fx)
    assert isinstance(y.fx.summary(), str)


def test_and_gives_a_tuple_of_the_values_as_they_are() -> None:
    z = InputNode(1) & InputNode(2)
    assert z.value == (1, 2)
    assert [type(value) for value in z.value] == [int, int]


def test_or_gives_separate_arguments() -> None:
    x, y = InputNode(1), InputNode(2)
    assert repr(((x | y) >> jax.lax.add).value) == "Array(3, dtype=int32, weak_type=True)"


def test_binary_ops() -> None:
    x, y = InputNode(1), InputNode(2)
    assert repr(x.binary_ops(jax.lax.sub, y).value) == "Array(-1, dtype=int32, weak_type=True)"


def test_shape_and_dtype() -> None:
    assert InputNode(jnp.empty((3, 4))).shape == (3, 4)
    assert repr(InputNode(jnp.empty((1,), dtype=jnp.int32)).dtype) == "dtype('int32')"


# ---- operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "kind"), [(operator.and_, CatNode), (operator.or_, ArgsNode)])
def test_the_collecting_operators_are_associative(sign: Any, kind: type) -> None:
    x, y = InputNode(1), InputNode(2)
    q = sign(y, y)
    assert type(q) is kind
    assert sign(q, x).parents == (y, y, x)
    assert sign(x, q).parents == (x, y, y)
    assert sign(q, sign(x, x)).parents == (y, y, x, x)
    assert sign(q, sign(x, x)).value == (2, 2, 1, 1)


def test_the_collecting_operators_do_not_splice_each_other() -> None:
    x, y = InputNode(1), InputNode(2)
    args, cat = x | y, x & y
    assert (args & x).parents == (args, x)
    assert (args & x).value == ((1, 2), 1)
    assert (x | cat).parents == (x, cat)


def test_what_a_step_is_called_with() -> None:
    x, y = InputNode(1), InputNode(2)

    def collect(*args: Any) -> Any:
        return args

    assert ((x & y) >> collect).value == ((1, 2),)
    assert ((x & y) >> collect).parents == (x, y)
    args = x | y
    assert (args >> collect).value == (1, 2)
    assert (args >> collect).parents == (args,)
    assert (x >> collect).value == (1,)
    assert x.binary_ops(collect, args).value == (1, (1, 2))


def test_a_step_can_be_assigned() -> None:
    y = InputNode(2)
    x: Any = y
    x >>= operator.neg
    assert (x.value, x.parents) == (-2, (y,))


@pytest.mark.parametrize("sign", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
@pytest.mark.parametrize("other", [3, 2.5, np.float32(4), np.arange(1.0, 3.0), jnp.array([4.0, 7.0])])
def test_arithmetic_with_constants_on_both_sides(sign: Any, other: Any) -> None:
    x = InputNode(jnp.array([2.0, 5.0]))
    np.testing.assert_array_equal(sign(x, other).value, sign(x.value, other))
    np.testing.assert_array_equal(sign(other, x).value, sign(other, x.value))
    assert sign(other, x).parents[1] is x


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (np.s_[0], "[0]"),
        (np.s_[-1:], "[-1:]"),
        (np.s_[:, 1], "[:, 1]"),
        (np.s_[..., None, ::2], "[..., None, ::2]"),
        (np.s_[np.int32(1),], "[1,]"),
        ((), "[()]"),
    ],
    ids=str,
)
def test_an_item_is_a_step(index: Any, text: str) -> None:
    x = InputNode(jnp.arange(6.0).reshape(2, 3))
    y = x[index]
    np.testing.assert_array_equal(y.value, x.value[index])
    assert y.parents == (x,)
    assert y.fx.name == text
    trees: list[Any] = [jax.tree.structure(node.fx) for node in (x[index], y)]
    assert trees[0] == trees[1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y.fx))(x.value), y.value)


def test_items_of_tuples_and_dictionaries() -> None:
    x, y = InputNode((1, 2)), InputNode({"a": 3})
    assert (x[1].value, y["a"].value, (x & y)[0].value) == (2, 3, (1, 2))
    with pytest.raises(IndexError) as error:
        x[2]
    assert "in a step of a graph" in error.value.__notes__[0]


def test_arithmetic_of_nodes() -> None:
    x, y = InputNode(jnp.array([[1.0, 2.0], [3.0, 4.0]])), InputNode(jnp.array([[2.0, 0.0], [1.0, 5.0]]))
    for sign in (operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul, operator.pow):
        np.testing.assert_array_equal(sign(x, y).value, sign(x.value, y.value))
    np.testing.assert_array_equal((-x).value, -x.value)
    eye = np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal((eye @ x).value, x.value)
    np.testing.assert_array_equal((x @ jnp.eye(2)).value, x.value)


def test_values_of_other_kinds_take_no_part_in_arithmetic() -> None:
    x: Any = InputNode(1)
    mistakes: list[Any] = [lambda: x + "text", lambda: None + x, lambda: x * [1], lambda: (1,) - x, lambda: x**None]
    for mistake in mistakes:
        with pytest.raises(ArgumentTypeError, match=r"(?s)an operand of .*want: +a node, a number or an array.*x >>"):
            mistake()


@pytest.mark.parametrize("collect", [operator.and_, operator.or_])
def test_arithmetic_refuses_several_values(collect: Any) -> None:
    x = InputNode((1, 2))
    with pytest.raises(ArgumentTypeError, match="Arithmetic is for nodes of one value"):
        collect(x, x) + x
    with pytest.raises(ArgumentTypeError, match="of 2 values"):
        -collect(x, x)


def test_states_do_not_change_while_a_graph_is_built() -> None:
    """KD-71: stateful modules run after `x & y` and `x | y` as they do after `x`."""
    x, y = InputNode(1), InputNode(2)
    counter = Counter()
    for node, values in ((x >> counter, (1,)), ((x & y) >> counter, ((1, 2),)), ((x | y) >> counter, (1, 2))):
        assert node.value == (*values, 1)
        assert node.fx is counter
    assert x.binary_ops(counter, y).value == (1, 2, 1)
    assert counter.count == 0


def test_the_result_of_a_node_constructed_by_hand_is_what_it_is_given() -> None:
    x = InputNode(1)
    assert Node((x, x), operator.add, "anything").value == "anything"


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes_of_numbers_and_tuples() -> None:
    """KD-73: numbers and tuples have shapes and dtypes as in JAX."""
    assert (InputNode(3).shape, InputNode(3).dtype) == ((), jnp.int32)
    assert (InputNode(2.5).shape, InputNode(True).dtype) == ((), jnp.bool_)
    pair = InputNode(jnp.zeros((2, 3))) & InputNode(np.zeros(4, np.int8)) & InputNode(None)
    assert pair.shape == ((2, 3), (4,), None)
    assert pair.dtype == (jnp.float32, jnp.int8, None)
    assert InputNode(None).shape is None
    assert InputNode(None).dtype is None
    key = jax.random.key(0)
    assert (InputNode(key).shape, InputNode(key).dtype) == ((), key.dtype)


def test_values_without_shape() -> None:
    for value in ("text", object()):
        with pytest.raises(AttributeError, match="no `shape`") as error:
            InputNode(value).shape  # noqa: B018
        assert isinstance(error.value, AttributeNameError)
        assert not hasattr(InputNode(value), "dtype")


def test_shapes_alone_are_enough() -> None:
    x = InputNode(jax.ShapeDtypeStruct((2, 7, 3), jnp.float32))
    y = x >> pax.nn.Linear(3, 5) >> pax.nn.BatchNorm1D(5)
    z = (y | InputNode(2)) >> jnp.add
    assert isinstance(z.value, jax.ShapeDtypeStruct)
    assert (z.shape, z.dtype) == ((2, 7, 5), jnp.float32)
    assert ((x & InputNode("text")) >> (lambda pair: pair)).value == (x.value, "text")


# ---- what nodes are not ----------------------------------------------------------------------------------------------


def test_nodes_are_equal_only_to_themselves() -> None:
    value = jnp.array(1)
    x, y = InputNode(value), InputNode(value)
    assert x == x
    assert x != y
    assert len({x, y, x}) == 2


def test_nodes_are_no_pytrees() -> None:
    x = InputNode(jnp.array(1))
    assert jax.tree.leaves(x) == [x]


def test_the_repr_is_that_of_objects() -> None:
    assert repr(InputNode(1)).startswith("<pax.experimental.graph._node.InputNode object at 0x")


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nodes_cannot_be_copied(copier: Any) -> None:
    with pytest.raises(TypeError, match="DO NOT COPY"):
        copier(InputNode(1) & InputNode(2))


def test_nodes_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        InputNode(1).value = 2  # type: ignore[misc]


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_operands_have_to_be_nodes() -> None:
    """KD-75: `x & 3` says what it needs."""
    x: Any = InputNode(1)
    mistakes: list[Any] = [lambda: x & 3, lambda: 3 & x, lambda: x | 3, lambda: 3 | x, lambda: x.binary_ops(max, "3")]
    for mistake in mistakes:
        with pytest.raises(ArgumentTypeError, match=r"(?s)Expecting a node\..*got: +'?3.*InputNode") as error:
            mistake()
        assert isinstance(error.value, TypeError)


def test_parents_have_to_be_nodes() -> None:
    wrong: list[Any] = [3, (3,), InputNode(1)]
    for parents in wrong:
        for make in (lambda parents: Node(parents, lambda x: x, 1), CatNode, ArgsNode):
            with pytest.raises(ArgumentTypeError, match="parents of a node have to be nodes"):
                make(parents)


def test_steps_have_to_be_callable() -> None:
    for wrong, got in ((3, "3"), (InputNode(2), "a node"), (None, "None"), ((jnp.sin, jnp.cos), "a tuple of 2")):
        with pytest.raises(ArgumentTypeError, match=rf"(?s)Expecting a function.*step of a graph.*got: +{got}.*>> f"):
            InputNode(1) >> wrong
    with pytest.raises(ArgumentTypeError, match="not its class"):
        InputNode(1) >> pax.nn.Linear
    with pytest.raises(ArgumentTypeError, match="Expecting a callable module"):
        InputNode(1) >> pax.Module()


def test_functions_that_hide_a_module_are_refused() -> None:
    """KD-70: the arrays of a module never become constants of a step without notice."""
    layer = pax.nn.Linear(2, 2)
    held = partial(lambda layer, x: layer(x), layer)
    for hiding in (layer.__call__, partial(layer), held, jax.jit(layer), jax.vmap(layer.__call__), pax.pure(layer)):
        with pytest.raises(ArgumentTypeError, match="holds a module"):
            InputNode(jnp.ones(2)) >> hiding
    visible = jax.tree_util.Partial(lambda layer, x: layer(x), layer)
    assert len(jax.tree.leaves((InputNode(jnp.ones(2)) >> visible).fx.parameters())) == 2


def test_lambdas_around_a_module_are_refused() -> None:
    """KD-70: a layer that a function gets from outside would not be trained."""
    layer = pax.nn.Linear(2, 2)
    layers = {"all": [layer]}
    x = InputNode(jnp.ones(2))
    hiding: list[Any] = [
        lambda x: layer(x),
        lambda x: layers["all"][0](x),
        jax.jit(lambda x: layer(x)),
        lambda x, layer=layer: layer(x),
        lambda x: LAYER(x),
        partial(lambda layers, x: layers[0](x), [layer]),
    ]
    for function in hiding:
        with pytest.raises(ArgumentTypeError, match=r"holds the module `Linear\(in_dim=2"):
            x >> function
    scale, keys = 3.0, {1: 2, "a": 3}
    assert (x >> (lambda x: x * scale * keys[1])).value.tolist() == [6.0, 6.0]
    view = types.SimpleNamespace(LAYER=2.0)
    assert (x >> (lambda x: x * view.LAYER)).value.tolist() == [2.0, 2.0]  # an attribute, not the global variable
    assert (x >> pax.nn.Lambda(lambda x: layer(x))).shape == (2,)  # explicitly


def test_the_value_of_a_node_is_no_node() -> None:
    """A node in a closure would be a constant, its value the one of the build."""
    x, y = InputNode(1), InputNode(2)
    mistakes: list[Any] = [lambda: InputNode(x), lambda: InputNode([{"a": x}]), lambda: x >> (lambda value: value + y)]
    for mistake in mistakes:
        with pytest.raises(ArgumentTypeError, match=r"(?s)value of a node cannot be a node.*\(x \| y\) >> f"):
            mistake()


def test_an_error_of_a_step_names_it() -> None:
    x, y = InputNode(jnp.ones((2, 3))), InputNode(1)
    mistakes: list[tuple[Any, str]] = [
        (lambda: x >> pax.nn.Linear(7, 3), "Linear(in_dim=7, out_dim=3, with_bias=True), called with 1 argument"),
        (lambda: (x & y) >> jnp.add, "Lambda(add), called with 1 argument, a tuple of 2"),
        (lambda: (x | y) >> jnp.sin, "Lambda(sin), called with 2 separate arguments"),
    ]
    for step, text in mistakes:
        with pytest.raises((TypeError, ValueError)) as error:
            step()
        assert f"in a step of a graph: {text}" in error.value.__notes__


def test_names_are_strings() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a name"):
        InputNode(1, name=3)  # type: ignore[arg-type]


def test_a_node_is_no_array() -> None:
    x: Any = InputNode(jnp.ones(2))
    mistakes: list[Any] = [
        lambda: x[jnp.array(0)],
        lambda: x[np.array([0, 1])],
        lambda: x[True],
        lambda: x[:1.0],
        lambda: list(x),
        lambda: x > 0,
        lambda: 0 > x,
        lambda: x <= x,
        lambda: x >= 1,
    ]
    for mistake in mistakes:
        with pytest.raises(
            ArgumentTypeError, match=r"(?s)A node is no array.*a node \(`InputNode`\).*x >> \(lambda"
        ) as error:
            mistake()
        assert isinstance(error.value, TypeError)
    with pytest.raises(ArgumentTypeError, match=r"(?s)Expecting an array.*got: +a node"):
        pax.nn.Linear(2, 2)(x)
    with pytest.raises(ArgumentTypeError, match="Expecting a function"):
        jnp.ones(2) >> x


def test_a_node_is_no_condition() -> None:
    x, y = InputNode(1), InputNode(2)
    mistakes: list[Any] = [lambda: bool(x), lambda: all([x, y]), lambda: any([x, y]), lambda: not x]
    for mistake in mistakes:
        with pytest.raises(ArgumentTypeError, match=r"(?s)neither true nor false.*x >> .*jnp\.where"):
            mistake()


def test_an_error_of_several_values_says_how_they_are_passed() -> None:
    x = InputNode(jnp.ones(2))
    for node, function in ((x | x, jnp.sin), (x & x, jnp.add)):
        with pytest.raises((TypeError, ValueError)) as error:
            node >> function
        notes = "".join(error.value.__notes__)
        assert "(x & y) >> f calls f((x, y))" in notes
        assert "x | y >> f is x | (y >> f)" in notes
    with pytest.raises(TypeError) as error:
        x >> (lambda x, y: x)
    assert len(error.value.__notes__) == 1
