"""Modules of mlax among those of PAX: nested both ways, trained by opax, frozen, saved, and shown."""

import pickle
import threading
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
import pax.experimental
from pax.errors import MutationError, StructureError
from pax.experimental import mlax
from pax.experimental.mlax.nn import Bias, F, Linear, Scaler, Series, SeriesRng, ZNorm

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (32, 4))
Y = 2 * X[:, :1] - X[:, 1:2]


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _affine(size: int) -> Any:
    return Series([Linear(KEY, size), Bias(KEY, -1), Scaler(KEY, -1)])


def _net() -> Any:
    """An mlax module in a PAX module, with a PAX module in it; initialized by one call."""
    net = pax.nn.Sequential(
        Series([Linear(KEY, 8), pax.nn.LayerNorm(8, -1, True, True), jax.nn.relu, ZNorm(KEY, 0)]), _affine(1)
    )
    return pax.purecall(net, X)[0]


def _loss(net: Any, x: Any, y: Any) -> Any:
    net, prediction = pax.purecall(net, x)
    return jnp.mean((prediction - y) ** 2), (net, net)


def test_the_submodules_have_their_documented_places() -> None:
    assert mlax.module.Module is mlax.Module
    assert mlax.module.Parameter is mlax.Parameter
    assert callable(mlax.nn.functional.dropout)


@pytest.mark.parametrize("make", [lambda: opax.adam(0.05), lambda: opax.adamw(0.05)])
def test_opax_trains_it_in_a_sequence_with_one_trace(make: Any) -> None:
    net = _net()
    optimizer = make()(net.parameters())
    update = pax.build_update_fn(lambda net, x, y: _report(*_loss(net, x, y)))
    step: Any = jax.jit(update)
    losses = []
    for _ in range(60):
        net, optimizer, loss = step(net, optimizer, X, Y)
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]
    assert step._cache_size() == 1


def _report(loss: Any, aux: Any) -> Any:
    return loss, (loss, aux[1])


def test_what_is_frozen_stays_and_what_is_not_moves() -> None:
    net = pax.freeze_parameters(_net(), "modules/0/**")
    optimizer = opax.sgd(0.1)(net.parameters())
    (_, (called, _)), grads = pax.value_and_grad(_loss, has_aux=True)(net, X, Y)
    new, _ = opax.apply_gradients(called, optimizer, grads)
    frozen, moved = ([net.modules[i].layers.data[0].linear_kernel.data for net in (net, new)] for i in (0, 1))
    assert frozen[0] is frozen[1]
    assert not bool(jnp.all(moved[0] == moved[1]))
    assert _structure(pax.unfreeze_parameters(net)) == _structure(_net())


def test_an_uninitialized_module_in_a_sequence_needs_a_pure_call() -> None:
    net = pax.nn.Sequential(_affine(2))
    with pytest.raises(MutationError, match="has to initialize the module"):
        net(X)
    net, _ = net % X
    assert net(X).shape == (32, 2)
    assert jax.vmap(net)(X).shape == (32, 2)


def test_modes_of_pax_decide_inside_of_pax() -> None:
    net = pax.nn.Sequential(F(lambda x: x + 1, lambda x: x - 1))
    net, _ = net % X
    assert net(1.0) == 2.0
    assert net.eval()(1.0) == 0.0


def test_a_pax_module_that_is_an_attribute_is_trained_by_both() -> None:
    class Wrapper(mlax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = pax.nn.BatchNorm1D(4)
            self.scale = mlax.Parameter(True)

        def setup(self, x: Any) -> None:
            self.scale.data = jnp.ones(())

        def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
            return self.norm(x) * self.scale.data  # a part of the copy that may change: called in place

    x = X[:, None]  # with an axis of width
    _, net = Wrapper()(x, None)
    assert len(jax.tree.leaves(net.filter())) == len(jax.tree.leaves(net.parameters())) == 3
    moved = net(x, None)[1]
    assert not bool(jnp.all(moved.norm.ema_mean.averages == net.norm.ema_mean.averages))


def test_a_precision_policy_computes_in_its_dtype_and_keeps_what_is_stored() -> None:
    _, net = Series([Linear(KEY, 4), Bias(KEY, -1), ZNorm(KEY, 0), lambda x: (x, x.dtype)])(X, None)
    half: Any = pax.experimental.apply_mp_policy(net, "p=f32,c=bf16,o=f32")
    (y, inside), called = half(X, None)
    assert (y.dtype, inside) == (jnp.float32, jnp.bfloat16)
    assert _structure(called) == _structure(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(called.filter())} == {jnp.dtype("float32")}
    trainables, rest = called.partition()
    assert trainables.combine(rest) == rest.combine(trainables) == called
    _, first = pax.experimental.apply_mp_policy(Series([Linear(KEY, 4)]), "p=f32,c=bf16,o=f32")(X, None)
    assert first.initialized


def test_a_policy_of_a_parameter_does_not_round_what_is_assigned() -> None:
    with pax.experimental.mutable(pax.experimental.apply_mp_policy(mlax.Parameter(False), "p=f32,c=bf16")) as mean:
        mean.data = jnp.float32(1.001)
    assert mean.data == jnp.float32(1.001)


@pytest.mark.parametrize("wrap", [lambda make: pax.nn.Stack(make, 2), lambda make: pax.nn.Ensemble(make, 2)])
def test_stacks_and_ensembles_of_initialized_modules(wrap: Any) -> None:
    def make() -> Any:
        return Series([Linear(KEY, 4), ZNorm(KEY, 0)])(X, None)[1]

    net: Any = Series([wrap(make)])(X, None)[1]
    assert [leaf.shape for leaf in jax.tree.leaves(net.filter())] == [(2, 4, 4)]
    trainables, rest = net.partition()
    assert trainables.combine(rest) == net
    moved = net(X, None)[1]
    assert len(jax.tree.leaves(moved)) == len(jax.tree.leaves(net)) == 5
    assert _structure(moved) == _structure(net)


def test_the_first_call_does_not_fit_into_a_stack() -> None:
    with pytest.raises(StructureError, match="initialized: got True, want False"):
        pax.purecall(pax.nn.Stack(lambda: Series([Linear(KEY, 4)]), 2), X)


def test_remat_and_flattener_hold_them() -> None:
    net = _affine(2)(X, None)[1]
    np.testing.assert_array_equal(pax.nn.Remat(net)(X), net(X))
    flat = pax.experimental.Flattener(net=net)
    assert flat.update(net=flat.net(X, None)[1]).net == net


def test_it_is_saved_and_loaded() -> None:
    net = _net()
    zeros = net | jax.tree.map(jnp.zeros_like, net.parameters())
    assert zeros.load_state_dict(net.state_dict()) == net
    for copier in (pickle, cloudpickle):
        twin = copier.loads(copier.dumps(net))
        assert _structure(twin) == _structure(net)
        np.testing.assert_array_equal(twin.eval()(X), net.eval()(X))


def test_the_summary_has_a_line_for_each_parameter() -> None:
    _, net = _affine(2)(jnp.ones(3), None)
    assert net.summary().splitlines() == [
        "Series",
        "└── Parameter(trainable=None, data=a list of 3)",
        "    ├── Linear(out_features=2)",
        "    │   ├── Parameter(trainable=False, data=key<fry>[])",
        "    │   └── Parameter(trainable=True, data=float32[3,2])",
        "    ├── Bias(in_features=-1)",
        "    │   ├── Parameter(trainable=False, data=key<fry>[])",
        "    │   └── Parameter(trainable=True, data=float32[2])",
        "    └── Scaler(in_features=-1)",
        "        ├── Parameter(trainable=False, data=key<fry>[])",
        "        └── Parameter(trainable=True, data=float32[2])",
    ]


def test_equal_modules_have_one_structure_and_keys_are_no_part_of_it() -> None:
    traces = []

    @jax.jit
    def call(net: Any) -> Any:
        traces.append(1)
        return net(X[0], None)[0]

    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed))
        call(Series([Linear(keys[0], 2), Bias(keys[1], -1), jax.nn.relu]))
    assert len(traces) == 1


def test_initializers_are_no_part_of_a_layer_that_is_set_up() -> None:
    x = jnp.ones((4, 3))
    make: Any
    for make in (Linear, Bias, Scaler):
        init = lambda *args: jnp.ones(args[1], args[2])  # noqa: E731, not picklable
        size = 2 if make is Linear else -1
        made = make(KEY, size, **{f"{'kernel' if make is Linear else make.__name__.lower()}_initializer": init})
        _, layer = made(x, None)
        assert _structure(layer) == _structure(make(KEY, size)(x, None)[1])
        pickle.dumps(layer)
    for new in (Linear(KEY, 2), Bias(KEY, -1), ZNorm(KEY, 0)):
        assert _structure(pickle.loads(pickle.dumps(new))) == _structure(new)


def test_typed_and_raw_keys_draw_the_same() -> None:
    kernels = [Linear(key, 2)(X[0], None)[1].linear_kernel.data for key in (jax.random.key(3), jax.random.PRNGKey(3))]
    np.testing.assert_array_equal(*kernels)


def test_modules_are_built_and_called_under_transformations() -> None:
    built = jax.jit(lambda key: SeriesRng([Linear(key, 2), Bias(key, -1)])(X[0], key)[1])(KEY)
    assert [layer.initialized for layer in (built, *built.layers.data)] == [True] * 3
    assert built.layers.data[1].bias_kernel.data.tolist() == [0.0, 0.0]
    shapes = jax.eval_shape(lambda key: _affine(2)(X[0], key)[1], KEY)
    assert shapes.layers.data[0].linear_kernel.data.shape == (4, 2)


def test_threads_do_not_meet() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                net: Any = _affine(2)
                _, net = net(X[0], None)
                assert net.initialized
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
