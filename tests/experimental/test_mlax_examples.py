"""The documented programs for mlax, to the letter: nothing but the prefix of their imports differs."""

from typing import Any

import jax
import pytest

# Later programs use what earlier ones have imported.
PROGRAMS = {
    "one lazy layer": """
import jax, jax.numpy as jnp
from jax import nn, random
from mlax import Module, Parameter, is_trainable_param      # only these import lines change

class Affine(Module):
    def __init__(self, key, width):
        super().__init__()
        self.key = Parameter(trainable=False, data=key)
        self.width = width
        self.w = Parameter(trainable=True)
        self.b = Parameter(trainable=True)
        self.calls = Parameter(trainable=False, data=jnp.array(0))

    def setup(self, x):
        self.w.data = nn.initializers.ones(self.key.data, (x.shape[-1], self.width))
        self.b.data = jnp.full((self.width,), 0.5)

    def forward(self, x, rng=None, inference_mode=False, batch_axis_name=()):
        if not inference_mode:
            self.calls.data = self.calls.data + 1
        return x @ self.w.data + self.b.data

m = Affine(random.PRNGKey(0), 2)
assert m.initialized is False and m.w.data is None
try:
    m.filter(); raise SystemExit("filter must refuse")
except AttributeError:
    pass
y, m = m(jnp.arange(3.0), None)                    # lazy setup; rebinding is required in pax
assert m.initialized is True and y.tolist() == [3.5, 3.5] and int(m.calls.data) == 1
y, m = m(jnp.arange(3.0), None, True)              # inference: no count
assert int(m.calls.data) == 1
y, m = m.apply(jnp.arange(3.0), None)
assert int(m.calls.data) == 2

tr, non = m.partition()
assert tr.calls.data is None and tr.key.data is None and tr.w.data is not None
assert non.w.data is None and int(non.calls.data) == 2
assert len(jax.tree.leaves(tr)) == 2 and len(jax.tree.leaves(non)) == 2
for c in (tr.combine(non), non.combine(tr)):
    assert jax.tree.structure(c) == jax.tree.structure(m)
only_w = m.filter_with_path(lambda path, p: path[-1] == "w")
assert only_w.b.data is None and only_w.w.data is not None
assert m.filter_with_path(lambda path, p: path[-1] == "w", inverse=True).w.data is None
""",
    "one exact gradient step": """
from mlax.nn import Series, Linear, Bias
from jax.nn import initializers as I

net = Series([Linear(random.PRNGKey(0), 2, kernel_initializer=I.ones),
              Bias(random.PRNGKey(1), -1, bias_initializer=I.constant(0.5))])
_, net = net(jnp.arange(3.0), None, True)
X, Y = jnp.array([[0., 1., 2.], [1., 0., -1.]]), jnp.zeros((2, 2))

def loss_fn(trainables, rest):
    model = trainables.combine(rest)               # combine INSIDE the differentiated function
    pred, model = jax.vmap(model.__call__, in_axes=(0, None, None, None),
                           out_axes=(0, None), axis_name="N")(X, None, False, "N")
    return jnp.mean((pred - Y) ** 2), model        # updated model leaves through aux

tr, rest = net.partition()
(loss, net2), g = jax.value_and_grad(loss_fn, has_aux=True)(tr, rest)
assert float(loss) == 6.25
assert jax.tree.structure(g) == jax.tree.structure(tr)
assert g.layers.data[0].linear_kernel.data.tolist() == [[.25, .25], [1.75, 1.75], [3.25, 3.25]]
assert g.layers.data[1].bias_kernel.data.tolist() == [2.0, 2.0]
new = jax.tree.map(lambda p, d: p - 0.1 * d, tr, g).combine(rest)
assert abs(float(loss_fn(*new.partition())[0]) - 3.2428122) < 1e-5
""",
    "a full training step": """
import optax
from mlax.nn import SeriesRng, ZNorm, F, FRng
from mlax.nn.functional import dropout

ks = [random.fold_in(random.PRNGKey(0), i) for i in range(5)]
net = SeriesRng([Linear(ks[0], 16), Bias(ks[1], -1), ZNorm(ks[2], "channel_last"), F(nn.relu),
                 FRng(lambda x, rng: dropout(x, rng, 0.1, 0), lambda x, rng: x),
                 Linear(ks[3], 1), Bias(ks[4], -1)])
X = random.normal(random.PRNGKey(1), (32, 4)); Y = 2 * X[:, :1] - X[:, 1:2]
_, net = net(X[0], random.PRNGKey(9), True)
opt = optax.sgd(0.1); state = opt.init(net.filter())

@jax.jit
def step(net, state, key):
    def loss_fn(tr, rest):
        m = tr.combine(rest)
        p, m = jax.vmap(m.__call__, in_axes=(0, None, None, None),
                        out_axes=(0, None), axis_name="N")(X, key, False, "N")
        return jnp.mean((p - Y) ** 2), m
    (loss, net), g = jax.value_and_grad(loss_fn, has_aux=True)(*net.partition())
    up, state = opt.update(g, state)
    tr, rest = net.partition()                     # re-partition the UPDATED model: keeps new statistics
    return loss, optax.apply_updates(up, tr).combine(rest), state

old_mean = net.layers.data[2].moving_mean.data
losses = []
for i in range(60):
    loss, net, state = step(net, state, random.fold_in(random.PRNGKey(5), i))
    losses.append(float(loss))
assert losses[-1] < 0.05 * losses[0]               # original: about 4.03 -> 0.02
assert step._cache_size() == 1                     # one trace for all 60 steps
assert not bool((net.layers.data[2].moving_mean.data == old_mean).all())
""",
}


def _run(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for program, text in PROGRAMS.items():
        code = text.replace("from mlax", "from pax.experimental.mlax")
        assert "import mlax" not in code
        exec(compile(code, program, "exec"), names)
        if program == name:
            break
    return names


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_documented_program_runs(name: str) -> None:
    _run(name)


def test_the_layers_of_the_training_step_have_the_documented_leaves() -> None:
    net = _run("a full training step")["net"]
    assert len(jax.tree.leaves(net.filter())) == 4
    # The two moving averages, and the key of each of five layers.
    assert len(jax.tree.leaves(net.filter(inverse=True))) == 2 + 5
