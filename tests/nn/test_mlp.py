"""pax.nn.MLP."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, MutationError


def mlp(*sizes: int, **options: Any) -> pax.nn.MLP:
    return pax.nn.MLP(sizes or (2, 4, 3), **{"rng_key": jax.random.key(0), **options})


def test_layers_alternate_with_the_activation() -> None:
    net, x = mlp(2, 5, 4, 3), jax.random.normal(jax.random.key(1), (6, 2))
    a, b, c = net.layers
    np.testing.assert_allclose(net(x), c(jax.nn.relu(b(jax.nn.relu(a(x))))), rtol=1e-5, atol=1e-6)
    assert net(x[0]).shape == (3,)


def test_the_last_layer_is_activated_on_demand() -> None:
    x = jax.random.normal(jax.random.key(1), (6, 2))
    np.testing.assert_allclose(mlp(activate_final=True)(x), jax.nn.relu(mlp()(x)), rtol=1e-6)


def test_two_sizes_are_a_linear_layer() -> None:
    net = mlp(2, 3)
    np.testing.assert_array_equal(net(jnp.ones((1, 2))), net.layers[0](jnp.ones((1, 2))))


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.gelu, jax.nn.silu], ids=lambda f: f.__name__)
def test_any_function_is_an_activation(activation: Any) -> None:
    net, x = mlp(activation=activation), jnp.ones((1, 2))
    np.testing.assert_allclose(net(x), net.layers[1](activation(net.layers[0](x))), rtol=1e-6)


def test_an_activation_with_parameters_is_one_for_all_layers() -> None:
    class Scale(pax.ParameterModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = jnp.array(2.0)

        def __call__(self, x: jax.Array) -> jax.Array:
            return x * self.scale

    net = mlp(1, 1, 1, 1, activation=Scale(), w_init=jax.nn.initializers.ones, with_bias=False)
    assert float(net(jnp.ones(1))[0]) == 4.0
    assert float(pax.grad(lambda net: net(jnp.ones(1))[0])(net).activation.scale) == 4.0


def test_options_reach_the_layers() -> None:
    net = mlp(with_bias=False, w_init=jax.nn.initializers.ones, dtype=jnp.bfloat16, param_dtype=jnp.float16)
    assert [leaf.dtype for leaf in jax.tree.leaves(net)] == [jnp.float16] * 2
    y = net(jnp.ones(2))
    np.testing.assert_array_equal(y, np.full(3, 8, y.dtype), strict=True)
    assert y.dtype == jnp.bfloat16
    assert not mlp(b_init=jax.nn.initializers.zeros).layers[0].bias.any()


def test_one_global_key_is_drawn_and_split() -> None:
    pax.seed_rng_key(42)
    net = pax.nn.MLP((2, 2, 2))
    after = pax.next_rng_key()
    pax.seed_rng_key(42)
    again = mlp(2, 2, 2, rng_key=pax.next_rng_key())
    np.testing.assert_array_equal(net.layers[1].weight, again.layers[1].weight)
    np.testing.assert_array_equal(after, pax.next_rng_key())
    assert not np.array_equal(net.layers[0].weight, net.layers[1].weight)


def test_dropout_follows_the_activations() -> None:
    net = mlp(2, 200, 1, dropout_rate=0.5, w_init=jax.nn.initializers.ones, with_bias=False)
    new, y = pax.purecall(net, jnp.ones((50, 2)))
    # Each output is 4 times the number of kept elements, of 200: mean 400, standard deviation 28.3 (4 for the mean).
    assert abs(float(y.mean()) - 400) < 20
    assert float(y.std()) > 15
    assert new.dropout != net.dropout
    np.testing.assert_array_equal(net.eval()(jnp.ones(2)), [400])
    with pytest.raises(MutationError):
        net(jnp.ones(2))


def test_the_weights_do_not_depend_on_the_rate() -> None:
    np.testing.assert_array_equal(mlp(dropout_rate=0.5).layers[1].weight, mlp().layers[1].weight)
    assert mlp().dropout is None


def test_summary() -> None:
    assert mlp(name="net", dropout_rate=0.5, activate_final=True, activation=jnp.tanh).summary() == (
        "(net) MLP(sizes=(2, 4, 3), activate_final=True)\n"
        "├── Linear(in_dim=2, out_dim=4, with_bias=True)\n"
        "├── Linear(in_dim=4, out_dim=3, with_bias=True)\n"
        "├── x => tanh(x)\n"
        "└── Dropout(dropout_rate=0.5)"
    )
    assert repr(mlp(dtype=jnp.float16)) == "MLP(sizes=(2, 4, 3), dtype=float16)"


def test_equal_networks_are_traced_once_and_can_be_pickled() -> None:
    call = TraceCounter(lambda net, x: net(x))
    for net in (mlp(), mlp(), pickle.loads(pickle.dumps(mlp()))):
        call(net, jnp.ones(2))
    assert call.traces == 1


@pytest.mark.parametrize("sizes", [(), (3,), 3, None], ids=repr)
def test_fewer_than_two_sizes_are_refused(sizes: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.MLP(sizes)
    assert str(caught.value) == (
        f"Expecting at least two sizes.\n  where: MLP\n  got:   sizes={sizes}\n"
        "  want:  the sizes of input, hidden layers and output, in a list or tuple\n"
        "  fix:   MLP([in_dim, hidden_dim, out_dim])"
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sizes": (2, 0)}, ArgumentError, "Expecting positive values for `sizes`.\n  where: MLP"),
        ({"sizes": (2, 1.5)}, ArgumentTypeError, "Expecting an integer for `sizes`.\n  where: MLP"),
        ({"dropout_rate": 1.0}, ArgumentError, r"Expecting a dropout rate in \[0, 1\)."),
        ({"activation": 3}, ArgumentTypeError, "Expecting a function."),
        ({"rng_key": 3}, ArgumentTypeError, "Expecting a PRNG key for `rng_key`.\n  where: MLP"),
        ({"dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating dtype for `dtype`.\n  where: MLP"),
    ],
    ids=str,
)
def test_arguments_are_checked(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pax.nn.MLP(**{"sizes": (2, 3), **options})
