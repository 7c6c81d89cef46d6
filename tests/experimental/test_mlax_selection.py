"""`filter`, `partition` and `combine` of mlax modules: the documented properties on any tree, and cases."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pax
from pax.errors import ArgumentTypeError, AttributeNameError, StructureError
from pax.experimental.mlax import Module, Parameter, is_leaf_param, is_non_trainable_param, is_trainable_param
from pax.experimental.mlax.nn import Linear, Parallel, Series

KEY = jax.random.key(0)


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


class Tree(Module):
    """Holds what it is given."""

    def __init__(self, *parts: Any, width: Any = 3) -> None:
        super().__init__()
        self.width = width
        self.sizes = [width, {"a": width}]
        for index, part in enumerate(parts):
            setattr(self, f"part{index}", part)

    def setup(self, x: Any) -> None: ...

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        return x


def _array(size: int) -> jax.Array:
    return jnp.asarray(np.arange(size + 1, dtype=np.float32))


_DATA = st.one_of(
    st.none(),
    st.integers(0, 2).map(_array),
    st.integers(0, 2).map(lambda n: {"a": _array(n), "b": [_array(n)]}),
    st.just(1.5),
)
_LEAVES = st.one_of(
    st.builds(Parameter, st.sampled_from([True, False, 1, "tag"]), _DATA),
    st.builds(Parameter, st.sampled_from([True, False]), _DATA).map(lambda p: p.set_attribute("extra", _array(1))),
    st.integers(0, 2).map(_array),
    st.just(2).map(lambda _: pax.nn.Linear(2, 2, rng_key=KEY)),
)
_PARTS = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3).map(lambda found: Tree(*found)),
        st.lists(parts, max_size=3).map(lambda found: Parameter(None, found)),
        st.lists(parts, max_size=2).map(lambda found: {f"k{i}": part for i, part in enumerate(found)}),
    ),
    max_leaves=6,
)
TREES = st.lists(_PARTS, max_size=3).map(lambda parts: Tree(*parts)(None, None)[1])


def _predicate(seed: int) -> Any:
    """A predicate that depends on its arguments only."""

    def choose(path: Any, parameter: Any) -> Any:
        number = zlib.crc32(f"{seed}{jtu.keystr(path)}{parameter.trainable}".encode())
        return [True, False, 1, 0, np.bool_(True), None, "yes", ""][number % 8]

    return choose


def _same(a: Any, b: Any) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return bool(_structure(a) == _structure(b)) and all(x is y for x, y in leaves)


def _parameters(tree: Any) -> list[Any]:
    return [node for node in jax.tree.leaves(tree, is_leaf=is_leaf_param) if is_leaf_param(node)]


@settings(max_examples=60, deadline=None)
@given(TREES, st.integers(0, 3))
def test_property_1_the_parts_of_a_partition_combine_to_the_module(module: Any, seed: int) -> None:
    a, b = module.partition_with_path(_predicate(seed))
    assert _same(a.combine(b), module)
    assert _same(b.combine(a), module)
    c, d = module.partition(is_non_trainable_param)
    assert _same(d.combine(c), module)


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(0, 3))
def test_property_2_each_leaf_is_in_one_part(module: Any, seed: int) -> None:
    for a, b in (module.partition_with_path(_predicate(seed)), module.partition()):
        leaves = [id(leaf) for leaf in jax.tree.leaves(a) + jax.tree.leaves(b)]
        assert len(leaves) == len(set(leaves))
        assert sorted(leaves) == sorted(map(id, jax.tree.leaves(module)))


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(0, 3))
def test_property_3_the_results_are_modules_of_their_own(module: Any, seed: int) -> None:
    f = _predicate(seed)
    for result in (module.filter_with_path(f), module.filter_with_path(f, inverse=True), module.combine()):
        assert type(result) is Tree
        assert (result.initialized, result.width, result.sizes) == (True, 3, [3, {"a": 3}])
        assert result.sizes is not module.sizes
        assert result.sizes[1] is not module.sizes[1]
        assert not {id(node) for node in _modules(result)} & {id(node) for node in _modules(module)}
        containers = {id(box) for p in _modules(module) for box in _boxes(p)}
        assert not containers & {id(box) for p in _modules(result) for box in _boxes(p)}


def _modules(tree: Any) -> list[Any]:
    return pax.extend.modules_in(tree)


def _boxes(module: Any) -> list[Any]:
    return [value for value in vars(module).values() if isinstance(value, list | dict)]


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_property_4_predicates_see_each_leaf_parameter_once_and_in_order(module: Any) -> None:
    seen: list[Any] = []
    module.filter(seen.append)
    own = [p for p in seen if any(p is node for node in _parameters(module))]
    assert [id(p) for p in own] == [id(p) for p in _parameters(module)]
    assert all(is_leaf_param(p) for p in seen)
    # The others stand for the arrays of PAX modules that are none of mlax.
    arrays = [leaf for m in _modules(module) if isinstance(m, pax.nn.Linear) for leaf in jax.tree.leaves(m)]
    assert sorted(id(p.data) for p in seen if not any(p is q for q in own)) == sorted(map(id, arrays))


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_a_filter_leaves_the_structure_of_parameters_for_what_is_in_parameters(module: Any) -> None:
    trained, kept = module.parameters(), module.filter()
    assert [id(leaf) for leaf in jax.tree.leaves(trained)] == [id(leaf) for leaf in jax.tree.leaves(kept)]


# ---- cases ----------------------------------------------------------------------------------------------------------


def _net() -> Any:
    return Series([Linear(KEY, 2), jnp.tanh])(jnp.ones(3), None)[1]


@pytest.mark.parametrize("method", ["filter", "filter_with_path", "partition", "partition_with_path"])
def test_an_uninitialized_module_is_refused(method: str) -> None:
    text = f"cannot {method.split('_')[0]} an uninitialized module"
    with pytest.raises(AttributeError, match=text) as error:
        getattr(Series([]), method)(lambda *_: True)
    assert isinstance(error.value, AttributeNameError)
    assert "rebind the returned module" in str(error.value)


def test_only_the_flag_of_the_root_is_guarded() -> None:
    _, net = Parallel([Linear(KEY, 2), Linear(KEY, 2)])((jnp.ones(3),), None)
    first, second = net.layers.data
    assert (first.initialized, second.initialized) == (True, False)
    assert len(jax.tree.leaves(net.filter())) == 1


def test_paths_have_names_as_strings_and_positions_as_keys() -> None:
    paths: list[Any] = []
    _net().filter_with_path(lambda path, p: paths.append(path))
    assert paths[1] == ("layers", "data", jtu.SequenceKey(0), "linear_kernel")
    assert jtu.keystr(paths[1]) == ".layers.data[0].linear_kernel"
    assert paths[1][-1].name == "linear_kernel"
    assert paths[1][2].idx == 0
    assert isinstance(paths[1][-1], str)
    assert {"linear_kernel": 1}[paths[1][-1]] == 1


def test_a_false_predicate_leaves_nothing_and_nothing_combines_to_nothing() -> None:
    nothing = _net().filter(lambda p: False)
    assert jax.tree.leaves(nothing) == []
    assert nothing.combine(nothing).layers.data[0].linear_kernel.data is None


def test_raw_arrays_in_containers_are_in_the_rest() -> None:
    module = Tree(Parameter(None, [jnp.ones(2), Parameter(True, jnp.ones(3))]))(None, None)[1]
    kept, rest = module.partition(lambda p: True)
    assert [leaf.shape for leaf in jax.tree.leaves(kept)] == [(3,)]
    assert [leaf.shape for leaf in jax.tree.leaves(rest)] == [(2,)]


def test_the_arrays_of_other_pax_modules_are_offered_as_parameters() -> None:
    module = Tree(pax.nn.Sequential(pax.nn.BatchNorm1D(3), Parameter(True, jnp.ones(1)), Tree(jnp.ones(4))))
    module = module(None, None)[1]
    trainables, rest = module.partition()
    assert _same(trainables, module.parameters())
    offered = {}
    module.filter_with_path(lambda path, p: offered.update({jtu.keystr(path): p.trainable}))
    assert offered[".part0.modules[0].scale"] is True
    assert offered[".part0.modules[0].ema_mean.averages"] is False
    assert offered[".part0.modules[1]"] is True
    assert not any(path.endswith("[2].part0") for path in offered)
    assert len(jax.tree.leaves(rest.filter(is_non_trainable_param))) == len(jax.tree.leaves(rest)) - 1


def test_frozen_parameters_are_not_trainable() -> None:
    frozen = pax.freeze_parameters(_net(), "layers/data/0/linear_kernel")
    assert jax.tree.leaves(frozen.filter()) == []
    assert jax.tree.leaves(frozen.parameters()) == []
    kernel = frozen.layers.data[0].linear_kernel
    assert (is_trainable_param(kernel), is_non_trainable_param(kernel)) == (False, True)


def test_freezing_by_path_leaves_gradients_without_data() -> None:
    net = Series([Linear(KEY, 2), Linear(KEY, 2)])(jnp.ones(3), None)[1]
    trainables, rest = net.partition_with_path(lambda path, p: is_trainable_param(p) and jtu.SequenceKey(1) in path)
    loss = lambda tr, rest: tr.combine(rest)(jnp.ones(3), None)[0].sum()  # noqa: E731
    grads = jax.grad(loss)(trainables, rest)
    assert grads.layers.data[0].linear_kernel.data is None
    assert grads.layers.data[1].linear_kernel.data.shape == (2, 2)


def test_the_first_that_has_something_wins() -> None:
    one, two, three = (Tree(Parameter(True, data))(None, None)[1] for data in (jnp.ones(1), jnp.zeros(1), None))
    for parts, winner in (((one, two), one), ((two, one), two), ((three, two, one), two), ((three, three), three)):
        assert parts[0].combine(*parts[1:]).part0.data is winner.part0.data


def test_data_are_one_unit() -> None:
    module = Tree(Parameter(True, {"a": jnp.ones(1), "b": [jnp.ones(2)]}))(None, None)[1]
    assert module.filter(is_non_trainable_param).part0.data is None
    empty, full = module.partition(is_non_trainable_param)
    assert empty.combine(full).part0.data["b"][0] is module.part0.data["b"][0]
    assert empty.combine(full).part0.data is not full.part0.data


@pytest.mark.parametrize(
    "other",
    [
        lambda: Tree(Parameter(True, jnp.ones(1)), width=4)(None, None)[1],
        lambda: Tree(Parameter(True, jnp.ones(1))),
        lambda: Tree(Parameter(False, jnp.ones(1)))(None, None)[1],
        lambda: Tree(Parameter(True, jnp.ones(1)), jnp.ones(1))(None, None)[1],
        lambda: _net(),
        lambda: None,
    ],
    ids=["hyperparameter", "initialized", "trainable", "children", "class", "nothing"],
)
def test_modules_of_another_structure_do_not_combine(other: Any) -> None:
    module = Tree(Parameter(True, jnp.ones(1)))(None, None)[1]
    with pytest.raises(ValueError, match="do not fit together") as error:
        module.combine(other())
    assert isinstance(error.value, StructureError)


def test_what_does_not_combine_is_named_by_its_path() -> None:
    trainables, rest = Series([Linear(KEY, 2)])(jnp.ones(3), None)[1].partition()
    wide = Series([Linear(KEY, 5)])(jnp.ones(3), None)[1].partition()[1]
    with pytest.raises(StructureError) as error:
        trainables.combine(rest, wide)
    assert error.value.got == "layers.data[0].out_features: got 5, want 2"
    with pytest.raises(StructureError, match=r"initialized: got False, want True"):
        rest.combine(Series([Linear(KEY, 2)]))
    lists = [Tree(Parameter(True, data))(None, None)[1] for data in ([jnp.ones(1)], {"a": jnp.ones(1)})]
    with pytest.raises(StructureError, match=r"path `part0\.data`"):
        lists[0].combine(lists[1])


@pytest.mark.parametrize("method", ["filter", "filter_with_path", "partition", "partition_with_path"])
def test_a_predicate_has_to_be_a_function(method: str) -> None:
    with pytest.raises(ArgumentTypeError, match="A predicate has to be a function"):
        getattr(_net(), method)("linear_kernel")


@pytest.mark.parametrize(
    ("method", "predicate"),
    [("filter", lambda path, p: True), ("partition", lambda: True), ("filter_with_path", lambda p: True)],
)
def test_a_predicate_has_to_take_the_arguments_of_its_method(method: str, predicate: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="The predicate takes other arguments"):
        getattr(_net(), method)(predicate)


def test_selecting_works_on_shapes_alone() -> None:
    shapes = jax.eval_shape(_net)
    assert [leaf.shape for leaf in jax.tree.leaves(shapes.filter())] == [(3, 2)]
    assert _same(shapes.filter().combine(shapes), shapes)


def test_what_pax_offers_for_any_tree_works_too() -> None:
    net = _net()
    kernels, rest = pax.partition(net, "layers/**/linear_kernel/**")
    assert _same(pax.combine(kernels, rest), net)
    assert _same(kernels, net.filter())
    assert [p is None for p in (kernels.layers.data[0].rng.data, rest.layers.data[0].rng.data)] == [True, False]
