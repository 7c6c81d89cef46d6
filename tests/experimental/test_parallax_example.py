"""The customer's Parallax program, to the letter but for one import."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, B007, B905, E401, I001, PT018, RUF007, UP031
# fmt: off

import jax, jax.numpy as jnp
import jax.nn.initializers as init
from pax.experimental.parallax import Module, Parameter, ParamInit   # only this line changes

class Dense(Module):
    weight: Parameter
    bias: Parameter

    def __init__(self, in_size, out_size):
        super().__init__()
        self.weight = ParamInit((out_size, in_size), init.xavier_normal())
        self.bias = ParamInit((out_size,), init.normal())

    def forward(self, input):
        return self.weight @ input + self.bias

    def extra_repr(self):
        return "%d, %d" % (self.weight.shape[1], self.weight.shape[0])

class Dropout(Module):
    rate: float                       # note: used as the KEEP probability in this example

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, input):
        if self.mode != "train":
            return input
        keep = jax.random.bernoulli(self.rng, self.rate, input.shape)
        return jnp.where(keep, input / self.rate, 0)

class BinaryNetwork(Module):
    dense1: Dense
    dense2: Dense
    dense3: Dense
    dropout: Dropout

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.dense1 = Dense(input_size, hidden_size)
        self.dense2 = Dense(hidden_size, hidden_size)
        self.dense3 = Dense(hidden_size, 1)
        self.dropout = Dropout(0.2)

    def forward(self, input):
        x = self.dropout(jnp.tanh(self.dense1(input)))
        x = jnp.tanh(self.dense2(x))
        x = jnp.tanh(self.dense2(x))                       # same parameters twice
        return jax.nn.sigmoid(self.dense3(jnp.tanh(x)))[0]


def test_the_program_runs():
    layer = BinaryNetwork(5, 10)
    text_before = repr(layer)
    assert repr(layer.dense1) == "Dense uninit (5, 10)"
    rng = jax.random.PRNGKey(0)
    declared, layer = layer, layer.initialized(rng)
    assert repr(declared) == text_before and " uninit " not in repr(layer)
    assert repr(layer.dense1) == "Dense(5, 10)"

    x = jnp.zeros(5)
    losses, clean = [], []
    for i in range(10):
        rng, iter_rng = jax.random.split(rng)
        layer = layer.new_state(iter_rng, mode="train")
        losses.append(float(layer(x)))
        assert float(layer(x)) == losses[-1]
        clean.append(float(layer.new_state(iter_rng, mode="eval")(x)))
        grad = layer.grad(x)
        layer = jax.tree.map(lambda p, g: p - 0.3 * g, layer, grad)
        assert isinstance(layer, BinaryNetwork)

    assert losses[-1] < 0.5 * losses[0]
    assert all(b < a for a, b in zip(clean, clean[1:]))

    # What follows is not the customer's: the losses that he has seen.
    expected = [0.49647, 0.45440, 0.34210, 0.33614, 0.30556, 0.23640, 0.23490, 0.19194, 0.14143, 0.12073]
    assert jax.config.jax_threefry_partitionable
    assert all(abs(a - b) < 1e-4 for a, b in zip(losses, expected))
